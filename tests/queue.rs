//! The queue: states and what moves a job from one to the next.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use common::{BOTH, Kind, TABLES, answers, grant, job, last_error, puppet, row, run};
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger};
use verger::{
    AttemptOutcome, Backoff, Clock as _, JobFilter, JobState, Limits, LoopError, NewJob, Retention,
    Timestamp, Verger, assert_enqueued, refute_enqueued,
};

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

/// As a process that died left it: claimed, its lease running.
fn abandon(test: &TestVerger, ids: &[i64], lease_until: Timestamp) {
    for id in ids {
        let sql = "UPDATE verger_jobs SET state = 'executing', attempt = attempt + 1, token = token + 1, claimed_by = 'dead', \
             attempted_at = ?2, lease_until = ?3 WHERE id = ?1";
        test.connection().execute(sql, (id, START.as_millis(), lease_until.as_millis())).unwrap();
    }
}

#[test]
fn jobs_of_an_executor_that_died_are_taken_back_when_its_lease_is_over() {
    let test = puppet();
    let [first, second, last] = ["first", "second", "last"].map(|name| {
        let attempts = if name == "last" { 1 } else { 3 };
        test.enqueue(named(name).max_attempts(attempts)).unwrap().id
    });
    let until = START + Duration::from_secs(120);
    abandon(&test, &[first.number(), second.number()], until);
    test.run_until(until);
    assert_eq!(names(&test), "last", "a live lease is respected to its end");
    let report = test.run_for(MINUTE);
    assert_eq!((report.rescued, names(&test).as_str()), (2, "last second first"));
    let begun = row(&test, first);
    assert_eq!((begun.state, begun.attempt), (JobState::Completed, 2));
    assert_eq!(begun.errors[0].code, "crashed");
    assert_eq!(begun.errors[0].at, until + Duration::from_millis(1), "as soon as it may be");
    let waiting = row(&test, second);
    assert_eq!(
        (waiting.attempt, waiting.errors.len()),
        (1, 0),
        "what was claimed and not begun lost no attempt"
    );
    abandon(&test, &[last.number()], test.now() + MINUTE);
    test.run_for(MINUTE * 2);
    let spent = row(&test, last);
    assert_eq!((spent.state, last_error(&spent).0), (JobState::Discarded, "crashed"));
}

#[test]
fn opened_again_alone_a_file_gives_its_jobs_back_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let clock = ManualClock::at(START);
    let test = on_file(&file, &clock);
    test.sql(TABLES);
    let id = test.enqueue(named("again")).unwrap().id;
    abandon(&test, &[id.number()], START + Duration::from_secs(3_600));
    {
        let other = on_file(&file, &clock);
        assert_eq!(
            row(&other, id).state,
            JobState::Executing,
            "someone else has it open, and may be at it"
        );
    }
    drop(test);
    let test = on_file(&file, &clock);
    let taken = row(&test, id);
    assert_eq!((taken.state, last_error(&taken).0), (JobState::Retryable, "crashed"));
    test.drain();
    assert_eq!(names(&test), "again");
}

#[test]
fn an_attempt_whose_lease_ran_out_changes_nothing() {
    for kind in BOTH {
        let clock = ManualClock::at(START);
        let meanwhile: Arc<OnceLock<Verger>> = Arc::default();
        let (shared, moved) = (Arc::clone(&meanwhile), clock.clone());
        // While the job is performed, its lease runs out and another executor takes it over and
        // completes it.
        let builder = kind.add(Verger::in_memory(), grant()).capability("absent", move |_| {
            let verger = shared.get().unwrap();
            if moved.now() == START {
                moved.advance(Duration::from_secs(3_600));
                verger.tick(moved.now()).unwrap();
            }
            Ok(json!(null))
        });
        let test = TestVerger::open(builder, &clock).unwrap();
        test.sql(TABLES);
        meanwhile.set(Verger::clone(&test)).unwrap();
        let id = test.enqueue(job(json!([["call", "absent", "{}"], insert("row"), ["audit", [{"action": "thing.made"}]]]))).unwrap().id;
        let report = test.drain();
        let AttemptOutcome::Lost(error) = &report.attempts[0].outcome else {
            panic!("{kind:?}: {report:?}")
        };
        assert_eq!(error.code, "lease-lost");
        let job = row(&test, id);
        assert_eq!(
            (job.state, job.attempt, job.errors.len()),
            (JobState::Completed, 2, 1),
            "{kind:?}"
        );
        assert_eq!(test.one::<i64>("SELECT count(*) FROM things"), 1, "{kind:?}");
        assert_eq!(test.verify_audit().unwrap().rows, 1);
    }
}

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
    let test =
        Kind::Component.open_with(grant().limits(Limits::new().time(Duration::from_millis(400))));
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
