//! The queue: states and what moves a job from one to the next.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod cancelled;
#[path = "../common/mod.rs"]
mod common;
mod leases;
mod looping;
mod outcomes;

use std::path::Path;
use std::time::Duration;

use common::{BOTH, Kind, TABLES, answers, grant, job, puppet, row, run};
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger};
use verger::{JobFilter, JobState, NewJob, Timestamp, Verger, assert_enqueued, refute_enqueued};

const START: Timestamp = TestVerger::START;
const MINUTE: Duration = Duration::from_secs(60);

fn insert(name: &str) -> Json {
    json!(["execute", "INSERT INTO things (name) VALUES (?1)", [name]])
}

fn named(name: &str) -> NewJob {
    job(json!([["must", insert(name)]]))
}

fn names(test: &TestVerger) -> String {
    test.one(
        "SELECT coalesce(group_concat(name, ' '), '') FROM (SELECT name FROM things ORDER BY id)",
    )
}

fn on_file(path: &Path, clock: &ManualClock) -> TestVerger {
    TestVerger::open(Kind::Component.add(Verger::builder(path), grant()), clock).unwrap()
}

#[test]
fn a_job_is_performed_when_it_is_due_and_not_before() {
    let test = puppet();
    let now = test.enqueue(named("now")).unwrap().id;
    let past = test.enqueue(named("past").at(START - MINUTE)).unwrap().id;
    let later = test.enqueue(named("later").after(MINUTE)).unwrap().id;
    let at = test.enqueue(named("at").at(START + MINUTE * 2)).unwrap().id;
    assert_eq!([now, past, later, at].map(|id| row(&test, id).state), {
        use JobState::{Available, Scheduled};
        [Available, Available, Scheduled, Scheduled]
    });
    let report = test.drain();
    assert_eq!((names(&test).as_str(), report.next_wake_at), ("past now", Some(START + MINUTE)));
    test.clock().advance(MINUTE - Duration::from_millis(1));
    assert!(test.drain().attempts.is_empty());
    test.clock().advance(Duration::from_millis(1));
    test.drain();
    assert_eq!(names(&test), "past now later");
    assert_enqueued!(test, worker: "puppet", at: START + MINUTE * 2, state: JobState::Scheduled, priority: 5, queue: "default");
    let report = test.run_for(MINUTE * 10);
    assert_eq!((report.attempts.len(), report.next_wake_at), (1, None));
    refute_enqueued!(test);
    let done = row(&test, at);
    assert_eq!(done.state, JobState::Completed);
    assert_eq!(done.finished_at, Some(START + MINUTE * 2), "at its own time, not at the end");
    assert_eq!((done.attempt, done.attempted_at, done.errors.len()), (1, done.finished_at, 0));
}

#[test]
fn priority_comes_first_then_the_due_time_then_the_order_of_enqueueing() {
    let test = puppet();
    let jobs = [
        named("f").priority(9).at(START - MINUTE),
        named("c").at(START - Duration::from_secs(1)),
        named("d"),
        named("e"),
        named("b").at(START - MINUTE),
        named("a").priority(0),
    ];
    let enqueued = test.enqueue_all(jobs).unwrap();
    assert!(enqueued.windows(2).all(|pair| pair[0].id < pair[1].id && !pair[1].existing));
    test.drain();
    assert_eq!(names(&test), "a b c d e f");
}

#[test]
fn a_unique_job_is_there_once_until_it_has_come_to_its_end() {
    let test = puppet();
    let wanted = || named("once").unique();
    let first = test.enqueue(wanted()).unwrap();
    assert!(!first.existing);
    let again = test.enqueue(wanted()).unwrap();
    assert_eq!((again.id, again.existing), (first.id, true));
    assert!(
        !test.enqueue(wanted().queue("other")).unwrap().existing,
        "in another queue it is another job"
    );
    assert!(
        !test.enqueue(named("twice").unique()).unwrap().existing,
        "with other args it is another job"
    );
    assert!(
        !test.enqueue(named("once")).unwrap().existing,
        "one that is not unique is not held back"
    );
    test.drain();
    assert!(!test.enqueue(wanted()).unwrap().existing, "the first is completed");

    let by_key = |args: Json| NewJob::new("puppet", args).unique_by(["tenant", "month"]);
    let first = test.enqueue(by_key(json!({"tenant": 1, "month": null, "note": "a"}))).unwrap();
    for (args, existing) in [
        (json!({"tenant": 1, "month": null, "note": "b"}), true),
        (json!({"month": null, "tenant": 1}), true),
        (json!({"tenant": "1", "month": null}), false),
        (json!({"tenant": 1, "month": "null"}), false),
        (json!({"tenant": 2, "month": null}), false),
    ] {
        assert_eq!(test.enqueue(by_key(args.clone())).unwrap().existing, existing, "{args}");
    }
    assert_eq!(row(&test, first.id).state, JobState::Available);
    let failing = || job(json!([["failed", "x"]])).unique().max_attempts(2);
    let first = run(&test, failing());
    assert_eq!(first.state, JobState::Retryable);
    assert!(
        test.enqueue(failing()).unwrap().existing,
        "a job that waits to be tried again is unfinished"
    );
    test.run_for(MINUTE);
    assert_eq!(row(&test, first.id).state, JobState::Discarded);
    assert!(!test.enqueue(failing()).unwrap().existing);
}

#[test]
fn of_many_threads_that_enqueue_a_unique_job_one_makes_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let clock = ManualClock::at(START);
    let vergers: Vec<TestVerger> = (0..4).map(|_| on_file(&file, &clock)).collect();
    let made: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = vergers
            .iter()
            .map(|test| {
                let verger = Verger::clone(test);
                scope.spawn(move || {
                    (0..5)
                        .map(|n| !verger.enqueue(named(&n.to_string()).unique()).unwrap().existing)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|made| **made).count(), 5);
    assert_eq!(vergers[0].jobs(&JobFilter::default(), 99).unwrap().len(), 5);
}

#[test]
fn two_that_tick_one_file_perform_each_job_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let clock = ManualClock::at(START);
    let vergers = [on_file(&file, &clock), on_file(&file, &clock)];
    vergers[0].sql(TABLES);
    vergers[0].enqueue_all((0..60).map(|n| named(&n.to_string()))).unwrap();
    let performed: usize = std::thread::scope(|scope| {
        let clones =
            [Verger::clone(&vergers[0]), Verger::clone(&vergers[0]), Verger::clone(&vergers[1])];
        let threads =
            clones.map(|verger| scope.spawn(move || verger.tick(START).unwrap().attempts.len()));
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let rest = vergers[0].drain().attempts.len();
    assert_eq!(
        (performed + rest, vergers[0].one::<i64>("SELECT count(DISTINCT name) FROM things")),
        (60, 60)
    );
    assert_eq!(vergers[0].one::<i64>("SELECT count(*) FROM things"), 60);
    assert_eq!(vergers[1].one::<i64>("SELECT max(attempt) FROM verger_jobs"), 1);
}

#[test]
fn a_job_enqueued_in_the_apps_transaction_is_there_when_that_commits() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let test = on_file(&file, &ManualClock::at(START));
    test.sql(TABLES);
    for commit in [false, true] {
        let mut app = test.connect().unwrap();
        let transaction = app.transaction().unwrap();
        transaction
            .execute("INSERT INTO other VALUES (?1, 'app')", [7 + i64::from(commit)])
            .unwrap();
        let enqueued = test.enqueue_in(&transaction, named("with the app")).unwrap();
        assert_eq!(test.job(enqueued.id).unwrap(), None, "nobody sees it before");
        if commit {
            transaction.commit().unwrap()
        } else {
            transaction.rollback().unwrap()
        }
        test.drain();
        assert_eq!(
            test.job(enqueued.id).unwrap().map(|job| job.state),
            commit.then_some(JobState::Completed)
        );
    }
    assert_eq!(names(&test), "with the app");
    let mut app = test.connect().unwrap();
    let transaction = app.transaction().unwrap();
    assert!(test.enqueue_in(&transaction, NewJob::new("gone", json!({}))).is_err());
    transaction.execute("INSERT INTO other VALUES (99, 'still usable')", []).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_it_would_have_changed() {
    for kind in BOTH {
        let test = kind.open();
        test.sql(
            "INSERT INTO things (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c');
             CREATE TRIGGER echo AFTER UPDATE ON things BEGIN INSERT INTO other (secret) VALUES ('by trigger'); END;",
        );
        let events = test.subscribe();
        let before = test.everything();
        let steps = json!([
            ["execute", "INSERT INTO things (id) VALUES (4), (5)", []],
            ["execute", "UPDATE things SET name = 'x' WHERE id <= 3", []],
            ["checkpoint"],
            ["execute-many", "DELETE FROM things WHERE id = ?1", [[1], [99]]],
            ["query", "DELETE FROM things WHERE id = 2 RETURNING id", []],
            ["savepoint"],
            ["execute", "DELETE FROM things", []],
            ["rollback", 0],
            ["audit", [{"action": "thing.deleted"}]],
            ["publish", "t", "1"],
            ["query", "SELECT count(*) FROM things WHERE name = 'x'", []],
        ]);
        let dry = test.dry_run("puppet", json!({ "do": steps })).unwrap();
        assert_eq!(dry.result().unwrap()[10], json!({"ok": [[1]]}), "it saw its own changes");
        let changes: Vec<_> = dry
            .changes
            .iter()
            .map(|change| (change.table.as_str(), change.inserted, change.updated, change.deleted))
            .collect();
        assert_eq!(changes, [("things", 2, 3, 2)], "{kind:?}");
        assert_eq!((test.everything(), events.try_next()), (before, None), "{kind:?}");
        answers(&test, json!([["query", "SELECT 1", []]]));
    }
    let test = TestVerger::new().reference_tables();
    test.sql("INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at) VALUES ('m', 'o', 'u', 'active', 1, 0, 0)");
    let before = test.everything();
    let dry = test
        .dry_run("reconcile-memberships", json!({"organization_id": null, "actor_id": null}))
        .unwrap();
    assert_eq!(
        (dry.changes[0].table.as_str(), dry.changes[0].updated),
        ("memberships", 1),
        "a table without rowids counts too"
    );
    assert_eq!(test.everything(), before);
}
