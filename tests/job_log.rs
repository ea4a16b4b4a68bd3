//! What a worker logs stays with its attempt, however that ended, and is deleted with its job.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::time::Duration;

use common::BOTH;
use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;
use verger::{JobId, NewJob};

/// Logs as many lines of as many bytes as it is told, and ends as it is told.
struct Talker;

impl Worker for Talker {
    fn manifest(&self) -> Manifest {
        Manifest::new("talker", "1.0.0")
    }

    fn perform(
        &self,
        context: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let number = |key: &str| args.as_map().get(key).and_then(Json::as_u64).unwrap_or(1);
        for line in 0..number("lines") {
            let text = format!("line {line} {}", "x".repeat(number("bytes") as usize));
            context.log(LogLevel::Warn, &text);
        }
        Ok(match args.as_map().get("end").and_then(Json::as_str) {
            Some("fail") => Outcome::Failed(WorkerError::new("no luck")),
            Some("panic") => panic!("as told"),
            Some("snooze") => Outcome::Snooze(60),
            _ => Outcome::Done,
        })
    }
}

fn test() -> TestVerger {
    TestVerger::with(|builder| builder.without_built_ins().worker(Talker))
}

fn performed(test: &TestVerger, args: Json) -> JobId {
    let id = test.enqueue(NewJob::new("talker", args).max_attempts(1)).unwrap().id;
    test.tick(test.now()).unwrap();
    id
}

#[test]
fn the_lines_of_an_attempt_stay_however_it_ended() {
    for end in ["done", "fail", "panic", "snooze"] {
        let test = test();
        let id = performed(&test, json!({"lines": 3, "end": end}));
        let log = test.job_log(id).unwrap();
        assert_eq!(log.len(), 1, "{end}");
        assert_eq!((log[0].attempt, log[0].dropped, log[0].lines.len()), (1, 0, 3), "{end}");
        let line = &log[0].lines[2];
        assert_eq!((&*line.level, &*line.text, line.at), ("warn", "line 2 x", test.now()));
    }
}

#[test]
fn each_attempt_has_its_own_and_the_last_lines_stay_of_many() {
    let test = test();
    let args = json!({"lines": 5_000, "bytes": 100, "end": "fail"});
    let id = test.enqueue(NewJob::new("talker", args).max_attempts(3)).unwrap().id;
    test.run_for(Duration::from_secs(3_600));
    let log = test.job_log(id).unwrap();
    assert_eq!(log.iter().map(|log| log.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    for log in &log {
        let bytes: usize = log.lines.iter().map(|line| line.text.len()).sum();
        assert!((20_000..=64 << 10).contains(&bytes), "{bytes}");
        assert_eq!(log.dropped as usize + log.lines.len(), 5_000);
        assert!(log.lines.last().unwrap().text.starts_with("line 4999 "));
    }
}

#[test]
fn no_line_is_written_for_a_job_that_logs_nothing_and_a_log_goes_with_its_job() {
    let test = test();
    performed(&test, json!({"lines": 0}));
    assert_eq!(test.one::<i64>("SELECT count(*) FROM verger_logs"), 0);
    let id = performed(&test, json!({"lines": 2}));
    performed(&test, json!({"lines": 0}));
    assert_eq!(test.one::<i64>("SELECT count(*) FROM verger_logs"), 1);
    test.clock().advance(Duration::from_secs(30 * 86_400));
    test.tick(test.now()).unwrap();
    assert_eq!(test.job(id).unwrap(), None);
    assert_eq!(test.one::<i64>("SELECT count(*) FROM verger_logs"), 0);
}

#[test]
fn a_line_cannot_forge_another() {
    for kind in BOTH {
        let test = kind.open();
        let id = test.enqueue(common::job(json!([["log", "info", "a\nb\u{1b}[2J"]]))).unwrap().id;
        test.drain();
        let log = test.job_log(id).unwrap();
        assert_eq!(log[0].lines[0].text, r"a\nb\u{1b}[2J", "{kind:?}");
    }
}
