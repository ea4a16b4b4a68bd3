//! How an attempt ends, and what is kept of it.

use std::time::Duration;

use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::{AttemptOutcome, Backoff, JobFilter, JobState, Retention};

use super::{MINUTE, START, insert};
use crate::common;
use crate::common::{BOTH, Kind, grant, job, last_error, puppet, row, run};

#[test]
fn each_outcome_leads_to_its_state() {
    for kind in BOTH {
        let test = kind.open();
        let ends = |end: Json| run(&test, job(json!([insert("row"), end])).max_attempts(3));
        let done = ends(json!(["done"]));
        assert_eq!(
            (done.state, done.result, done.finished_at),
            (JobState::Completed, None, Some(START)),
            "{kind:?}"
        );
        let done = ends(json!(["done-with", "{\"b\":2,\"a\":[1]}"]));
        assert_eq!(
            (done.state, done.result),
            (JobState::Completed, Some(json!({"a": [1], "b": 2})))
        );
        let cancelled = ends(json!(["cancel", "no longer wanted"]));
        assert_eq!(
            (cancelled.state, last_error(&cancelled)),
            (JobState::Cancelled, ("cancelled", "no longer wanted"))
        );
        assert_eq!(cancelled.finished_at, Some(START));
        assert_eq!(test.one::<i64>("SELECT count(*) FROM things"), 3, "what was written stays");
        let snoozed = ends(json!(["snooze", 90]));
        assert_eq!(
            (snoozed.state, snoozed.attempt, snoozed.snoozes, snoozed.finished_at),
            (JobState::Scheduled, 0, 1, None)
        );
        assert_eq!(snoozed.due_at, START + Duration::from_secs(90));
        assert_eq!(test.one::<i64>("SELECT count(*) FROM things"), 4);
        let failed = ends(json!(["failed", "no network"]));
        assert_eq!(
            (failed.state, failed.attempt, last_error(&failed)),
            (JobState::Retryable, 1, ("failed", "no network"))
        );
        assert_eq!(
            test.one::<i64>("SELECT count(*) FROM things"),
            4,
            "of a failed attempt nothing stays"
        );
    }
}

#[test]
fn a_failing_job_is_tried_again_later_and_later_and_then_discarded() {
    let backoff = Backoff { base: Duration::from_secs(10), max: Duration::from_secs(30) };
    let test = TestVerger::with(|builder| Kind::Component.add(builder, grant()).backoff(backoff));
    let id = test.enqueue(job(json!([["failed", "down"]])).max_attempts(4)).unwrap().id;
    let report = test.run_for(Duration::from_secs(600));
    let job = row(&test, id);
    assert_eq!((job.state, job.attempt, job.errors.len()), (JobState::Discarded, 4, 4));
    let waits: Vec<_> =
        job.errors.windows(2).map(|pair| pair[1].at.since(pair[0].at).as_millis()).collect();
    for (wait, seconds) in waits.iter().zip([10, 20, 30]) {
        assert!((seconds * 900..=seconds * 1_100).contains(wait), "{waits:?}");
    }
    assert_eq!(job.errors.iter().map(|error| error.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(job.finished_at, Some(job.errors[3].at));
    assert!(matches!(report.attempts[0].outcome, AttemptOutcome::Retryable(..)));
    assert!(matches!(report.attempts[3].outcome, AttemptOutcome::Discarded(_)));
    let once = run(&test, common::job(json!([["failed", "down"]])).max_attempts(1));
    assert_eq!((once.state, once.attempt), (JobState::Discarded, 1));
}

#[test]
fn the_last_twenty_errors_of_a_job_are_kept() {
    let test = TestVerger::with(|builder| {
        Kind::Component
            .add(builder, grant())
            .backoff(Backoff { base: Duration::from_secs(1), max: Duration::from_secs(1) })
    });
    let id = test.enqueue(job(json!([["failed", "down"]])).max_attempts(25)).unwrap().id;
    test.run_for(MINUTE);
    let attempts: Vec<_> = row(&test, id).errors.iter().map(|error| error.attempt).collect();
    assert_eq!(attempts, (6..=25).collect::<Vec<_>>());
}

#[test]
fn a_snooze_uses_up_no_attempt_however_often() {
    let test = puppet();
    let id = test
        .enqueue(job(json!([["must", insert("row")], ["snooze", 60]])).max_attempts(1))
        .unwrap()
        .id;
    test.run_for(MINUTE * 5);
    let snoozed = row(&test, id);
    assert_eq!(
        (snoozed.state, snoozed.attempt, snoozed.snoozes, snoozed.token.number()),
        (JobState::Scheduled, 0, 6, 6)
    );
    assert_eq!(snoozed.errors, []);
    assert_eq!(test.one::<i64>("SELECT count(*) FROM things"), 6);
    let far = run(&test, job(json!([["snooze", u32::MAX]])));
    let due = test.now() + Duration::from_secs(u32::MAX.into());
    assert_eq!((far.state, far.due_at), (JobState::Scheduled, due), "{far:?}");
}

#[test]
fn finished_jobs_go_when_their_time_is_over_and_ids_are_not_used_again() {
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    let retention = Retention::new().completed(days(1)).cancelled(days(2)).discarded(None);
    let test =
        TestVerger::with(|builder| Kind::Component.add(builder, grant()).retention(retention));
    let ends = |end: Json| run(&test, job(json!([end])).max_attempts(1)).id;
    let (discarded, cancelled, completed) =
        (ends(json!(["failed", "x"])), ends(json!(["cancel", "x"])), ends(json!(["done"])));
    let last = ends(json!(["done"]));
    let left = |test: &TestVerger| {
        [discarded, cancelled, completed, last].map(|id| test.job(id).unwrap().is_some())
    };
    test.clock().advance(Duration::from_secs(86_400));
    test.drain();
    assert_eq!(left(&test), [true; 4]);
    test.clock().advance(MINUTE);
    assert_eq!(test.drain().pruned, 1);
    assert_eq!(left(&test), [true, true, false, true], "the newest row stays, whatever its age");
    test.clock().advance(Duration::from_secs(86_400));
    test.drain();
    assert_eq!(left(&test), [true, false, false, true]);
    let next = test.enqueue(job(json!([]))).unwrap().id;
    assert!(next > last);
    test.clock().advance(Duration::from_secs(366 * 86_400));
    test.drain();
    assert_eq!(left(&test), [true, false, false, false]);
}

#[test]
fn however_many_finished_at_once_go_batch_by_batch_without_a_pause() {
    let test = puppet();
    let now = START.as_millis();
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3500)";
    test.sql(&format!(
        "{numbers} INSERT INTO verger_jobs (worker, queue, priority, state, args, tenant_aware, due_at, max_attempts, created_at, finished_at)
            SELECT 'puppet', 'q', 5, 'completed', '{{}}', 0, {now}, 1, {now}, {now} FROM n;
         {numbers} INSERT INTO verger_fires (schedule, slot, fired_at, outcome) SELECT 'gone', {now} - i, {now}, 'skipped' FROM n"
    ));
    let last = run(&test, job(json!([]))).id;
    test.clock().advance(Duration::from_secs(8 * 86_400));
    let report = test.tick(test.now()).unwrap();
    assert_eq!((report.pruned, report.next_wake_at), (1_000, Some(test.now())));
    assert_eq!(test.drain().pruned, 2_500);
    assert_eq!(
        test.jobs(&JobFilter::default(), 10).unwrap().iter().map(|job| job.id).collect::<Vec<_>>(),
        [last]
    );
    test.clock().advance(Duration::from_secs(90 * 86_400));
    let report = test.drain();
    assert_eq!((report.pruned, report.next_wake_at), (3_500, None));
}
