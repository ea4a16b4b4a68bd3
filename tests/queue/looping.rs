//! The loop: what wakes it, and how it stops.

use std::time::{Duration, Instant};

use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::{JobState, Limits, LoopError, Verger};

use super::{MINUTE, START, insert, named, names, on_file};
use crate::common::{Kind, TABLES, grant, job, last_error, puppet, row, run};

#[test]
fn an_idle_tick_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let test = on_file(&folder.path().join("app.db"), &ManualClock::at(START));
    test.sql(TABLES);
    run(&test, named("done"));
    test.enqueue(named("later").after(Duration::from_secs(86_400))).unwrap();
    let version = || test.one::<i64>("PRAGMA data_version");
    let before = version();
    for _ in 0..10 {
        test.clock().advance(MINUTE * 7);
        let report = test.drain();
        assert!(report.attempts.is_empty() && report.pruned == 0);
    }
    assert_eq!(version(), before, "another connection would have seen a commit");
}

#[test]
fn the_loop_performs_what_is_enqueued_at_once_and_stops_twice() {
    let folder = tempfile::tempdir().unwrap();
    let files = [Verger::in_memory(), Verger::builder(folder.path().join("app.db"))];
    for builder in files {
        let test = TestVerger::open(Kind::Component.add(builder, grant()), &ManualClock::at(START))
            .unwrap();
        test.sql(TABLES);
        let events = test.subscribe();
        let ticking = test.start().unwrap();
        let waits = (0..5).map(|n| {
            let begun = Instant::now();
            test.enqueue(job(json!([["publish", "done", n.to_string()]]))).unwrap();
            assert_eq!(events.next_within(Duration::from_secs(5)).unwrap().payload, json!(n));
            begun.elapsed()
        });
        // The machine may be busy: but not at each of them.
        assert!(waits.min() < Some(Duration::from_millis(200)));
        assert!(ticking.is_running());
        ticking.stop(Duration::from_secs(5)).unwrap();
        let waits = test.enqueue(named("after the end")).unwrap().id;
        assert_eq!(row(&test, waits).state, JobState::Available);
        let again = test.start().unwrap();
        drop(again);
    }
}

#[test]
fn the_loop_notices_a_commit_of_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let test = on_file(&folder.path().join("app.db"), &ManualClock::at(START));
    let events = test.subscribe();
    let ticking = test.start().unwrap();
    let waits = (0..5).map(|n| {
        let mut app = test.connect().unwrap();
        let transaction = app.transaction().unwrap();
        test.enqueue_in(&transaction, job(json!([["publish", "done", n.to_string()]]))).unwrap();
        let begun = Instant::now();
        transaction.commit().unwrap();
        assert!(events.next_within(Duration::from_secs(5)).is_some());
        begun.elapsed()
    });
    assert!(waits.min() < Some(Duration::from_millis(200)));
    ticking.stop(Duration::from_secs(5)).unwrap();
}

#[test]
fn a_loop_that_is_stopped_gives_the_attempt_of_a_component_back() {
    for misdeed in [json!(["spin"]), json!(["until-cancelled"]), json!(["until-refused", ["now"]])]
    {
        let test = puppet();
        let events = test.subscribe();
        let ticking = test.start().unwrap();
        let steps = json!([
            ["publish", "begun", "1"],
            insert("kept"),
            ["checkpoint"],
            insert("lost"),
            misdeed,
            insert("late")
        ]);
        let id = test.enqueue(job(steps)).unwrap().id;
        assert!(events.next_within(Duration::from_secs(5)).is_some());
        let begun = Instant::now();
        ticking.stop(Duration::from_millis(30)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let released = row(&test, id);
        assert_eq!(
            (released.state, released.attempt, released.errors.len()),
            (JobState::Available, 0, 0),
            "{misdeed}"
        );
        assert_eq!(names(&test), "kept");
    }
}

#[test]
fn a_job_that_ends_within_the_bound_is_let_finish() {
    // Long enough for a slow machine to come to the checkpoint, and over well within the bound.
    let test =
        Kind::Component.open_with(grant().limits(Limits::new().time(Duration::from_secs(2))));
    let events = test.subscribe();
    let ticking = test.start().unwrap();
    let id = test
        .enqueue(job(json!([["publish", "begun", "1"], ["checkpoint"], ["spin"]])).max_attempts(1))
        .unwrap()
        .id;
    assert!(events.next_within(Duration::from_secs(5)).is_some());
    let stopped: Result<(), LoopError> = ticking.stop(Duration::from_secs(5));
    stopped.unwrap();
    let failed = row(&test, id);
    assert_eq!((failed.state, last_error(&failed).0), (JobState::Discarded, "deadline"));
}
