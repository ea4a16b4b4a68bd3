//! A job that is cancelled, whatever it is doing.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::{AttemptOutcome, JobState, Verger};

use super::leases::abandon;
use super::{MINUTE, START, insert, named, names, on_file};
use crate::common::{BOTH, Kind, TABLES, grant, job, last_error, puppet, row, run};

#[test]
fn a_waiting_job_is_cancelled_at_once_and_may_be_retried() {
    let test = puppet();
    let id = test.enqueue(named("later").after(MINUTE).unique()).unwrap().id;
    assert!(test.cancel(id).unwrap());
    assert!(!test.cancel(id).unwrap(), "it has come to its end");
    test.run_for(MINUTE * 2);
    let cancelled = row(&test, id);
    assert_eq!(
        (cancelled.state, last_error(&cancelled).0, names(&test).as_str()),
        (JobState::Cancelled, "cancelled", "")
    );
    assert!(
        !test.enqueue(named("later").unique()).unwrap().existing,
        "a cancelled job holds no other back"
    );
    test.drain();
    assert!(test.retry(id).unwrap());
    assert!(!test.retry(id).unwrap(), "it waits already");
    test.drain();
    assert_eq!((row(&test, id).state, names(&test).as_str()), (JobState::Completed, "later later"));
    assert!(!test.cancel(id).unwrap());
    let spent = run(&test, job(json!([["failed", "x"]])).max_attempts(1));
    assert!(test.retry(spent.id).unwrap());
    test.drain();
    let again = row(&test, spent.id);
    assert_eq!(
        (again.state, again.attempt, again.errors.len()),
        (JobState::Discarded, 2, 2),
        "one more attempt, and no more"
    );
}

#[test]
fn a_job_being_performed_notices_a_cancellation_at_its_next_host_call() {
    for (kind, call) in
        BOTH.iter().flat_map(|kind| [json!(["checkpoint"]), insert("row")].map(|call| (kind, call)))
    {
        let meanwhile: Arc<OnceLock<Verger>> = Arc::default();
        let shared = Arc::clone(&meanwhile);
        let test = TestVerger::with(|builder| {
            kind.add(builder, grant()).capability("absent", move |call| {
                assert!(shared.get().unwrap().cancel(call.job.unwrap()).unwrap());
                Ok(json!(null))
            })
        });
        test.sql(TABLES);
        meanwhile.set(Verger::clone(&test)).unwrap();
        let cancelled =
            run(&test, job(json!([["call", "absent", "{}"], call, insert("row"), ["done"]])));
        assert_eq!(
            (cancelled.state, cancelled.attempt),
            (JobState::Cancelled, 1),
            "{kind:?} {call}"
        );
        assert_eq!(last_error(&cancelled), ("cancelled", "cancelled by an operator"));
        assert_eq!(names(&test), "");
    }
}

/// Two Vergers on one file, as two processes are: the first performs, and what the second does is
/// news to it at its next look only.
fn two_on_a_file(
    folder: &Path,
    set_up: impl Fn(verger::Builder) -> verger::Builder,
) -> [TestVerger; 2] {
    let (file, clock) = (folder.join("app.db"), ManualClock::at(START));
    let open = || {
        TestVerger::open(set_up(Kind::Component.add(Verger::builder(&file), grant())), &clock)
            .unwrap()
    };
    let both = [open(), open()];
    both[0].sql(TABLES);
    both
}

#[test]
fn a_job_that_someone_cancelled_meanwhile_runs_no_second_time_however_its_attempt_ends() {
    let on_request = "cancelled by an operator";
    let after_failure = |error: &str| format!("{on_request}; the attempt failed: {error}");
    let failed = after_failure("no network [failed]");
    let cases = [
        (json!(["failed", "no network"]), 20, JobState::Cancelled, failed.as_str(), ""),
        (json!(["failed", "no network"]), 1, JobState::Cancelled, &failed, ""),
        (json!(["snooze", 60]), 20, JobState::Cancelled, on_request, "row"),
        (json!(["cancel", "its own reason"]), 20, JobState::Cancelled, "its own reason", "row"),
        (json!(["checkpoint"]), 20, JobState::Cancelled, on_request, "row"),
        (json!(["done"]), 20, JobState::Completed, "", "row"),
    ];
    for (end, attempts, state, reason, left) in cases {
        let folder = tempfile::tempdir().unwrap();
        let other: Arc<OnceLock<Verger>> = Arc::default();
        let [test, second] = two_on_a_file(folder.path(), |builder| {
            let other = Arc::clone(&other);
            builder.capability("absent", move |call| {
                Ok(json!(other.get().unwrap().cancel(call.job.unwrap()).unwrap()))
            })
        });
        other.set(Verger::clone(&second)).unwrap();
        let steps = json!([["call", "absent", "{}"], insert("row"), end]);
        let id = test.enqueue(job(steps.clone()).max_attempts(attempts).unique()).unwrap().id;
        let report = test.drain();
        let ended = row(&test, id);
        assert_eq!((ended.state, names(&test).as_str()), (state, left), "{end}: {ended:?}");
        assert_eq!(ended.finished_at, Some(START), "{end}");
        assert_eq!(ended.errors.last().map_or("", |error| &error.message), reason, "{end}");
        assert!(ended.errors.iter().all(|error| error.code == "cancelled"), "{end}: {ended:?}");
        match &report.attempts[0].outcome {
            AttemptOutcome::Completed(_) => assert_eq!(state, JobState::Completed, "{end}"),
            AttemptOutcome::Cancelled(told) => assert!(reason.starts_with(told), "{end}: {told}"),
            other => panic!("{end}: {other:?}"),
        }
        assert!(
            !test.enqueue(job(steps).unique()).unwrap().existing,
            "it holds no other back: {end}"
        );
        assert!(
            test.run_for(MINUTE * 60 * 24).attempts.iter().all(|attempt| attempt.job != id),
            "{end}"
        );
    }
}

#[test]
fn a_job_cancelled_while_its_executor_was_dead_is_not_begun_again() {
    for reopened in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.db");
        let clock = ManualClock::at(START);
        let test = on_file(&file, &clock);
        test.sql(TABLES);
        let [begun, waiting, other] =
            ["begun", "waiting", "other"].map(|name| test.enqueue(named(name)).unwrap().id);
        abandon(&test, &[begun, waiting, other].map(|id| id.number()), START + MINUTE);
        assert!(test.cancel(begun).unwrap() && test.cancel(waiting).unwrap());
        assert_eq!(row(&test, begun).state, JobState::Executing, "for all anyone knows");
        let test = if reopened {
            drop(test);
            on_file(&file, &clock)
        } else {
            test
        };
        test.run_for(MINUTE * 5);
        assert_eq!([begun, waiting, other].map(|id| row(&test, id).state), {
            use JobState::{Cancelled, Completed};
            [Cancelled, Cancelled, Completed]
        });
        assert!(last_error(&row(&test, begun)).1.contains("[crashed]"), "{:?}", row(&test, begun));
        assert_eq!(last_error(&row(&test, waiting)), ("cancelled", "cancelled by an operator"));
        assert_eq!(names(&test), "other");
        assert!(test.retry(waiting).unwrap());
        test.drain();
        assert_eq!(
            (row(&test, waiting).state, names(&test).as_str()),
            (JobState::Completed, "other waiting")
        );
    }
}

#[test]
fn a_loop_that_is_stopped_gives_no_job_back_that_was_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let [test, second] = two_on_a_file(folder.path(), |builder| builder);
    let events = test.subscribe();
    for elsewhere in [false, true] {
        let ticking = test.start().unwrap();
        let id = test
            .enqueue(job(json!([["publish", "begun", "1"], ["checkpoint"], ["spin"]])))
            .unwrap()
            .id;
        assert!(events.next_within(Duration::from_secs(5)).is_some());
        assert!(if elsewhere { second.cancel(id) } else { test.cancel(id) }.unwrap());
        ticking.stop(Duration::ZERO).unwrap();
        let cancelled = row(&test, id);
        assert_eq!(
            (cancelled.state, last_error(&cancelled)),
            (JobState::Cancelled, ("cancelled", "cancelled by an operator"))
        );
    }
}
