//! Args of several versions. A later version of a worker performs a job with its args brought into
//! the new form. A job waits for a worker that knows its version. Args that do not fit end the job
//! at once, with the key's name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{last_error, puppet_as, row, run};
use migrant::Migrant;
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::{ManifestError, prelude::*};
use verger::{
    AttemptOutcome, Builder, Config, EnqueueError, JobEdit, JobState, NewJob, PerformError,
    Schedule, Verger,
};

const MIGRANT: &[u8] = include_bytes!("guests/migrant.wasm");

/// The worker of version 3 as a component and as plain Rust.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Component,
    Native,
}

const BOTH: [Kind; 2] = [Kind::Component, Kind::Native];

impl Kind {
    fn add(self, builder: Builder) -> Builder {
        let builder = builder.without_built_ins();
        match self {
            Self::Component => builder.component("report.wasm", MIGRANT),
            Self::Native => builder.worker(Migrant),
        }
    }

    fn open(self) -> TestVerger {
        TestVerger::with(|builder| self.add(builder))
    }

    fn open_file(self, file: &Path, clock: &ManualClock) -> TestVerger {
        TestVerger::open(self.add(Verger::builder(file)), clock).unwrap()
    }
}

/// The worker as it was first.
struct First;

impl Worker for First {
    fn manifest(&self) -> Manifest {
        Manifest::new("report", "1.0.0").arg("days", ArgSpec::required().of(ArgType::Integer))
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(Outcome::DoneWith(json!({ "days": args.get::<i64>("days")? })))
    }
}

fn first(file: &Path, clock: &ManualClock) -> TestVerger {
    let builder = Verger::builder(file).without_built_ins().worker(First);
    TestVerger::open(builder, clock).unwrap()
}

fn report(args: Json) -> NewJob {
    NewJob::new("report", args)
}

#[test]
fn waiting_jobs_of_every_version_are_performed_by_the_latest_and_keep_their_args() {
    for kind in BOTH {
        let test = kind.open();
        for (args, version, minutes) in [
            (json!({"days": 2}), 1, 2_880),
            (json!({"hours": 3}), 2, 180),
            (json!({"minutes": 5}), 3, 5),
        ] {
            let done = run(&test, report(args.clone()).args_version(version));
            assert_eq!(done.state, JobState::Completed, "{kind:?}: {done:?}");
            let result = done.result.unwrap();
            assert_eq!(
                (&result["minutes"], &result["title"]),
                (&json!(minutes), &json!("untitled"))
            );
            assert_eq!((done.args, done.args_version), (args, version), "{kind:?}");
        }
        let said_nothing = run(&test, report(json!({"minutes": 1})));
        assert_eq!(said_nothing.args_version, 3, "that of its worker");
    }
}

#[test]
fn a_statement_that_names_no_version_goes_on_to_mean_the_first() {
    for kind in BOTH {
        let test = kind.open();
        test.sql("INSERT INTO verger_jobs (worker, args) VALUES ('report', '{\"days\": 1}')");
        let report = test.drain();
        let AttemptOutcome::Completed(Some(result)) = &report.attempts[0].outcome else {
            panic!("{kind:?}: {report:?}");
        };
        assert_eq!(result["minutes"], json!(1_440));
    }
}

#[test]
fn a_missing_key_ends_a_job_at_once_with_its_name_whatever_its_version() {
    for kind in BOTH {
        let test = kind.open();
        let ended = run(&test, report(json!({"dayz": 2})).args_version(1));
        assert_eq!((ended.state, ended.attempt), (JobState::Discarded, 1), "{kind:?}: {ended:?}");
        let (code, message) = last_error(&ended);
        assert!(code == "args" && message.contains("`days`"), "{kind:?}: {message}");
        for (args, key) in [(r#"{"n": 1}"#, "`minutes`"), (r#"{"minutes": "5"}"#, "`minutes`")] {
            test.sql(&format!(
                "INSERT INTO verger_jobs (worker, args, args_version) VALUES ('report', '{args}', 3)"
            ));
            let attempt = test.drain().attempts.pop().unwrap();
            let ended = row(&test, attempt.job);
            assert_eq!((ended.state, ended.attempt), (JobState::Discarded, 1), "{ended:?}");
            let (code, message) = last_error(&ended);
            assert!(code == "args" && message.contains(key), "{kind:?}: {message}");
        }
    }
}

#[test]
fn a_wrong_type_is_refused_before_it_is_a_job() {
    for kind in BOTH {
        let test = kind.open();
        for (args, says) in [
            (
                json!({"minutes": "5"}),
                "`minutes` for worker `report` must be a whole number, not a string",
            ),
            (json!({"minutes": 1.5}), "must be a whole number, not a number"),
            (json!({"minutes": null}), "must be a whole number, not null"),
            (json!({"minutes": 5, "title": 7}), "`title` for worker `report` must be a string"),
        ] {
            let error = test.enqueue(report(args)).unwrap_err();
            assert!(
                matches!(&error, EnqueueError::Manifest(ManifestError::WrongType { .. })),
                "{kind:?}: {error:?}"
            );
            assert!(error.to_string().contains(says), "{kind:?}: {error}");
        }
        test.enqueue(report(json!({"minutes": 5, "title": null}))).unwrap();
        let error = test.enqueue(report(json!({"minutes": 5})).args_version(0)).unwrap_err();
        assert!(error.to_string().contains("at least 1"), "{error}");
    }
}

#[test]
fn a_worker_that_fails_over_old_args_is_tried_again_and_they_stay_as_they_were() {
    for kind in BOTH {
        let test = kind.open();
        let failed = run(&test, report(json!({"days": 5_000})).args_version(1));
        assert_eq!((failed.state, failed.attempt), (JobState::Retryable, 1), "{failed:?}");
        let (code, message) = last_error(&failed);
        let expected = match kind {
            Kind::Component => "trap",
            Kind::Native => "panic",
        };
        assert_eq!(code, expected, "{message}");
        assert!(message.contains("so long a report is a mistake"), "{message}");
        // The way back is open: the version before performs the job as it was enqueued.
        assert_eq!((failed.args, failed.args_version), (json!({"days": 5_000}), 1));
    }
}

#[test]
fn for_whom_a_job_runs_no_migration_can_change() {
    for kind in BOTH {
        let test = kind.open();
        for organization in [json!("acme"), Json::Null] {
            let args = json!({"days": 1, "organization_id": organization, "actor_id": null});
            let result = run(&test, report(args).args_version(1)).result.unwrap();
            assert_eq!(result["organization"], organization, "{kind:?}");
            assert_eq!(result["organization_arg"], organization, "{kind:?}");
        }
        let result = run(&test, report(json!({"days": 1})).args_version(1)).result.unwrap();
        assert_eq!(result["organization_arg"], Json::Null, "{kind:?}");
    }
}

#[test]
fn a_job_for_a_later_version_waits_untouched_for_the_process_that_knows_it() {
    for kind in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
        let (new, old) = (kind.open_file(&file, &clock), first(&file, &clock));
        let later = new.enqueue(report(json!({"minutes": 7})).max_attempts(1)).unwrap().id;
        let ours = old.enqueue(report(json!({"days": 1}))).unwrap().id;
        for _ in 0..3 {
            let report = old.drain();
            assert!(report.attempts.iter().all(|attempt| attempt.job == ours), "{report:?}");
            assert_eq!(report.next_wake_at, None, "it does not keep the loop awake");
            clock.advance(Duration::from_secs(60));
        }
        assert_eq!(row(&old, ours).state, JobState::Completed);
        let parked = row(&old, later);
        assert_eq!((parked.state, parked.attempt), (JobState::Available, 0));
        let why = parked.parked_because.unwrap();
        assert!(parked.parked && why.contains("version 3") && why.contains("version 1"), "{why}");
        assert_eq!(row(&new, later).parked_because, None);
        new.drain();
        assert_eq!(row(&old, later).result.unwrap()["minutes"], json!(7));
    }
}

#[test]
fn a_component_that_is_not_loaded_yet_gives_a_job_for_a_later_version_back() {
    // A built-in worker is loaded at its first job, and tells the version of its args only then.
    let test = TestVerger::with(|builder| builder);
    let job = |version| {
        let args = json!({"retention_days": null});
        NewJob::new("cleanup-audit", args).args_version(version)
    };
    let later = test.enqueue_unchecked(job(2)).unwrap().id;
    let ours = test.enqueue_unchecked(job(1)).unwrap().id;
    let attempts = test.drain().attempts;
    let outcomes: Vec<_> = attempts.iter().map(|one| (one.job, &one.outcome)).collect();
    assert_eq!(outcomes[0], (later, &AttemptOutcome::Released));
    assert!(
        matches!(outcomes[1], (id, AttemptOutcome::Completed(_)) if id == ours),
        "{outcomes:?}"
    );
    assert_eq!(outcomes.len(), 2, "it is not claimed again");
    let parked = row(&test, later);
    assert_eq!((parked.state, parked.attempt, parked.parked), (JobState::Available, 0, true));
    assert!(parked.errors.is_empty(), "{parked:?}");
}

#[test]
fn args_of_a_component_that_migrates_none_stay_as_they_are_and_are_checked() {
    let component = puppet_as(&json!({
        "name": "report", "version": "2", "args_version": 2,
        "args": {"do": {"type": "array", "required": true}},
    }));
    let test =
        TestVerger::with(|builder| builder.without_built_ins().component("report.wasm", component));
    let done = run(&test, report(json!({"do": [["now"]]})).args_version(1));
    assert_eq!(done.state, JobState::Completed, "{done:?}");
    let ended = run(&test, report(json!({"did": []})).args_version(1));
    assert_eq!(ended.state, JobState::Discarded, "{ended:?}");
    assert!(last_error(&ended).1.contains("`do`"), "{ended:?}");
}

#[test]
fn a_claim_jumps_over_a_backlog_of_jobs_for_a_later_version() {
    let folder = tempfile::tempdir().unwrap();
    let test = first(&folder.path().join("app.db"), &ManualClock::at(TestVerger::START));
    test.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
         INSERT INTO verger_jobs (worker, args_version, due_at, max_attempts) SELECT 'report', 2, i, 1 FROM n",
    );
    let step = || {
        test.enqueue(report(json!({"days": 1}))).unwrap();
        let begun = Instant::now();
        assert_eq!(test.drain().attempts.len(), 1);
        begun.elapsed()
    };
    // A walk over the backlog takes some 20 ms.
    let fastest = (0..20).map(|_| step()).min().unwrap();
    assert!(fastest < Duration::from_millis(5), "{fastest:?}");
}

#[test]
fn a_schedule_goes_on_when_its_worker_is_replaced() {
    for kind in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
        let daily = || {
            let every = Schedule::every("daily", Duration::from_secs(86_400)).unwrap();
            every.worker("report").args(json!({"days": 1}))
        };
        let builder = || Verger::builder(&file).without_built_ins().schedule(daily());
        drop(TestVerger::open(builder().worker(First), &clock).unwrap());
        clock.advance(Duration::from_secs(90_000));
        // The app's code registers it as before: it does not know of the new version.
        let builder = match kind {
            Kind::Component => builder().component("report.wasm", MIGRANT),
            Kind::Native => builder().worker(Migrant),
        };
        let test = TestVerger::open(builder, &clock).unwrap();
        assert_eq!(test.schedules().unwrap()[0].args_version, 1);
        let report = test.drain();
        let AttemptOutcome::Completed(Some(result)) = &report.attempts[0].outcome else {
            panic!("{kind:?}: {report:?}");
        };
        assert_eq!(result["minutes"], json!(1_440));
    }
}

/// The minutes the job of the one schedule reports, once it is due.
#[track_caller]
fn minutes_of_the_schedule(test: &TestVerger) -> Json {
    test.clock().advance(Duration::from_secs(90_000));
    let report = test.drain();
    let AttemptOutcome::Completed(Some(result)) = &report.attempts[0].outcome else {
        panic!("{report:?}");
    };
    result["minutes"].clone()
}

#[test]
fn a_schedule_of_the_settings_file_keeps_its_version_or_names_it() {
    for kind in BOTH {
        let (used, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = ManualClock::at(TestVerger::START);
        let builder = |folder: &Path, version: &str| {
            let text = format!(
                "file = 'app.db'\n[schedules.daily]\nevery = '1d'\nworker = 'report'\nargs = {{ days = 1 }}\n{version}"
            );
            Config::parse(&text, folder.join("verger.toml")).unwrap().builder().unwrap()
        };
        let first = builder(used.path(), "").without_built_ins().worker(First);
        drop(TestVerger::open(first, &clock).unwrap());
        let test = TestVerger::open(kind.add(builder(used.path(), "")), &clock).unwrap();
        assert_eq!(minutes_of_the_schedule(&test), 1_440, "{kind:?}");

        // A new database knows no earlier version.
        let refused = TestVerger::open(kind.add(builder(new.path(), "")), &clock).err().unwrap();
        assert!(refused.to_string().contains("`minutes`"), "{kind:?}: {refused}");
        let named = kind.add(builder(new.path(), "args_version = 1"));
        let test = TestVerger::open(named, &clock).unwrap();
        assert_eq!(minutes_of_the_schedule(&test), 1_440, "{kind:?}");

        // Args that replace them are of the present form.
        let row = test.schedules().unwrap().remove(0);
        assert_eq!(row.args_version, 1);
        test.add_schedule(&row.to_schedule().unwrap().args(json!({"minutes": 7}))).unwrap();
        assert_eq!(test.schedules().unwrap()[0].args_version, 3);
        assert_eq!(minutes_of_the_schedule(&test), 7, "{kind:?}");
    }
}

#[test]
fn args_that_are_edited_have_the_version_of_the_worker_that_checked_them() {
    let test = Kind::Native.open();
    let job = report(json!({"days": 1})).args_version(1).after(Duration::from_secs(60));
    let id = test.enqueue(job).unwrap().id;
    assert!(test.edit(id, &JobEdit::new().priority(1)).unwrap());
    assert_eq!(row(&test, id).args_version, 1, "they stay as they are");
    assert!(test.edit(id, &JobEdit::new().args(json!({"minutes": 2}))).unwrap());
    assert_eq!(row(&test, id).args_version, 3);
}

#[test]
fn an_app_can_ask_with_which_args_a_job_would_be_performed() {
    for kind in BOTH {
        let test = kind.open();
        let args = test.args_for("report", json!({"hours": 1}), 2).unwrap();
        assert_eq!(args, json!({"minutes": 60, "title": "untitled"}), "{kind:?}");
        for (args, version, expected) in
            [(json!({"hours": "x"}), 2, "args"), (json!({"seconds": 1}), 4, "args-version")]
        {
            match test.args_for("report", args, version).unwrap_err() {
                PerformError::Failed { source, .. } => assert_eq!(source.code, expected),
                other => panic!("{kind:?}: {other}"),
            }
        }
    }
}

#[test]
fn a_manifest_whose_args_contradict_themselves_is_refused() {
    let manifest = |args: Json, version: u32| {
        let text = json!({"name": "w", "version": "1", "args": args, "args_version": version});
        Manifest::parse(&text.to_string())
    };
    manifest(json!({"n": {"type": "integer", "default": 1}}), 1).unwrap();
    for (args, version, says) in [
        (json!({}), 0, "`args_version` must be at least 1"),
        (json!({"n": {"type": "integer", "default": "1"}}), 1, "`n` must be a whole number"),
        (json!({"n": {"type": "int"}}), 1, "`args.n`"),
    ] {
        let error = manifest(args, version).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
