//! A Verger with an example of everything that the page shows.

use std::time::Duration;

use http::{Request, Response};
use serde_json::json;
use tempfile::TempDir;
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::prelude::*;
use verger::{AuditEvent, Grant, Missed, NewJob, Schedule, Verger};
use verger_ui::Ui;

pub(crate) struct Works;

impl Worker for Works {
    fn manifest(&self) -> Manifest {
        Manifest::new("works", "1.0.0")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        match args.as_map().get("fail").and_then(|fail| fail.as_str()) {
            Some(reason) => Ok(Outcome::Failed(WorkerError::new(reason))),
            None => {
                job.audit(AuditEvent::success("thing.done").subject("thing", "t1"))?;
                Ok(Outcome::DoneWith(json!({"sent": 3})))
            }
        }
    }
}

/// Runs the statements it is given.
struct Hand;

impl Worker for Hand {
    fn manifest(&self) -> Manifest {
        Manifest::new("hand", "1.0.0")
            .table(TableAsk::named("things").read().insert().update().delete())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let statements = args.as_map().get("sql").and_then(|sql| sql.as_array());
        for sql in statements.into_iter().flatten().filter_map(|sql| sql.as_str()) {
            job.execute(sql, vec![])?;
        }
        Ok(Outcome::Done)
    }
}

pub(crate) struct Site {
    pub(crate) verger: Verger,
    pub(crate) clock: ManualClock,
    pub(crate) folder: TempDir,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(TestVerger::START);
        let verger = Verger::builder(folder.path().join("app.db"))
            .without_built_ins()
            .worker(Works)
            .worker(Hand)
            .grant("hand", Grant::new().write("things"))
            .clock(clock.clone())
            .schedule(Schedule::cron("hourly", "0 * * * *").unwrap().worker("works"))
            .schedule(
                Schedule::cron("strict", "30 * * * *")
                    .unwrap()
                    .worker("works")
                    .missed(Missed::Skip),
            )
            .open()
            .unwrap();
        Self { verger, clock, folder }
    }

    /// One job that completes, one that fails for good, one that waits, slots on time and missed.
    pub(crate) fn busy() -> Self {
        let site = Self::new();
        let enqueue =
            |args| site.verger.enqueue(NewJob::new("works", args).max_attempts(1)).unwrap();
        enqueue(json!({}));
        enqueue(json!({"fail": "the mail server is away"}));
        site.tick();
        site.clock.advance(Duration::from_secs(3_600));
        site.tick();
        site.clock.advance(Duration::from_secs(5 * 3_600));
        site.tick();
        enqueue(json!({"later": true}));
        site
    }

    pub(crate) fn tick(&self) {
        use verger::Clock;
        self.verger.tick(self.clock.now()).unwrap();
    }

    #[track_caller]
    pub(crate) fn get(&self, ui: &Ui, path: &str) -> String {
        let response = self.ask(ui, Request::get(path).body(Vec::new()).unwrap());
        assert_eq!(response.status(), 200, "{path}");
        String::from_utf8(response.into_body()).unwrap()
    }

    pub(crate) fn ask(&self, ui: &Ui, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
        ui.respond(&self.verger, request)
    }

    pub(crate) fn post(&self, ui: &Ui, path: &str, form: &str) -> Response<Vec<u8>> {
        self.ask(ui, Request::post(path).body(form.as_bytes().to_vec()).unwrap())
    }
}

/// What the forms of this page carry.
pub(crate) fn secret(html: &str) -> &str {
    let (_, rest) = html.split_once("name=\"secret\" value=\"").unwrap();
    rest.split_once('"').unwrap().0
}
