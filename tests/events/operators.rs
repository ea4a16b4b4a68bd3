//! What others do: schedules, operators, the app, other processes.

use std::time::Duration;

use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::{EventKind, EventPosition, LifecycleEvent, NewJob, Schedule, Verger};

use super::{Obedient, job, on, since, taken, words};

#[test]
fn slots_queues_and_operators_are_told_of() {
    let clock = ManualClock::at(TestVerger::START);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let every = Schedule::every("hourly", Duration::from_secs(3_600)).unwrap();
    let builder = || {
        Verger::builder(&file)
            .without_built_ins()
            .worker(Obedient)
            .schedule(every.clone().worker("obedient").args(json!({})))
    };
    let test = TestVerger::open(builder(), &clock).unwrap();
    let events = test.events().unwrap();
    test.run_for(Duration::from_secs(3_600));
    assert_eq!(words(&taken(&events)), ["fired", "started", "completed"]);
    clock.advance(Duration::from_secs(3 * 3_600));
    test.tick(test.now()).unwrap();
    let told = taken(&events);
    assert_eq!(words(&told), ["coalesced", "started", "completed"]);
    assert!(matches!(&told[0].kind, EventKind::Coalesced { missed: 2, .. }), "{told:?}");
    test.pause_schedule("hourly").unwrap();
    clock.advance(Duration::from_secs(3_600));
    test.tick(test.now()).unwrap();
    let told = taken(&events);
    assert!(
        matches!(&told[..], [LifecycleEvent { kind: EventKind::Skipped { reason, .. }, .. }] if reason == "paused"),
        "{told:?}"
    );
    test.resume_queue("default").unwrap();
    test.pause_queue("default").unwrap();
    test.pause_queue("default").unwrap();
    test.resume_queue("default").unwrap();
    let waiting = test.enqueue(job("done").after(Duration::from_secs(60))).unwrap().id;
    test.cancel(waiting).unwrap();
    test.retry(waiting).unwrap();
    test.enqueue_unchecked(NewJob::new("elsewhere", json!({}))).unwrap();
    test.drain();
    test.drain();
    assert_eq!(
        words(&taken(&events)),
        [
            "queue_paused",
            "queue_resumed",
            "enqueued",
            "cancelled",
            "rescheduled",
            "enqueued",
            "parked",
            "started",
            "completed"
        ]
    );
    let kept = since(&test, EventPosition::START);
    assert_eq!(
        words(&kept),
        [
            "completed",
            "coalesced",
            "completed",
            "skipped",
            "queue_paused",
            "queue_resumed",
            "cancelled",
            "completed"
        ]
    );
}

#[test]
fn a_job_in_the_apps_own_transaction_is_told_of_when_that_commits() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(TestVerger::START);
    let test = on(&folder.path().join("app.db"), &clock);
    let events = test.events().unwrap();
    let mut app = test.connect().unwrap();
    let transaction = app.transaction().unwrap();
    test.enqueue_in(&transaction, job("done")).unwrap();
    drop(transaction);
    test.tick(test.now()).unwrap();
    assert!(taken(&events).is_empty(), "it was rolled back");
    let transaction = app.transaction().unwrap();
    test.enqueue_in(&transaction, job("done")).unwrap();
    transaction.commit().unwrap();
    test.tick(test.now()).unwrap();
    assert_eq!(words(&taken(&events)), ["enqueued", "started", "completed"]);
}

#[test]
fn what_another_process_did_is_told_and_marked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let clock = ManualClock::at(TestVerger::START);
    let test = on(&file, &clock);
    let events = test.events().unwrap();
    // As another process would: the number is the process's own.
    let app = test.connect().unwrap();
    let data = json!({"kind": "queue_paused", "queue": "mail"}).to_string();
    let insert =
        "INSERT INTO verger_events (at, source, kind, data) VALUES (1767225600000, 7, ?1, ?2)";
    app.execute(insert, ("queue_paused", &data)).unwrap();
    // And what nobody here understands.
    app.execute(insert, ("from_the_future", "{}")).unwrap();
    app.execute(insert, ("completed", "nothing")).unwrap();
    app.execute(insert, ("completed", "[4711]")).unwrap();
    test.tick(test.now()).unwrap();
    let told = taken(&events);
    assert_eq!(words(&told), ["queue_paused", "unknown", "unknown", "completed"]);
    assert!(told.iter().all(|event| !event.here && event.at == TestVerger::START));
    assert_eq!(told, since(&test, EventPosition::START));
}
