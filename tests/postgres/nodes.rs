//! Several nodes on one database, some of which die or stand still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use verger::verger_worker::prelude::*;
use verger::{AttemptOutcome, JobState, NewJob};

use crate::cluster::database;
use crate::scripted::worker;
use crate::{effects, until};

#[test]
fn the_jobs_of_a_node_that_is_gone_run_again_at_once() {
    let Some(database) = database() else { return };
    let begun = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&begun);
    let dying = effects(&database)
        .worker(worker("once", move |job, _| {
            job.execute("INSERT INTO effects VALUES (1)", vec![])?;
            begins.store(true, Ordering::SeqCst);
            // Longer than anybody waits, and it asks nothing of the host.
            std::thread::sleep(Duration::from_secs(2));
            Ok(Outcome::Done)
        }))
        .open()
        .unwrap();
    let other = effects(&database)
        .worker(worker("once", |job, _| {
            job.execute("INSERT INTO effects VALUES (2)", vec![])?;
            Ok(Outcome::Done)
        }))
        .open()
        .unwrap();
    let id = dying.enqueue(NewJob::new("once", json!({}))).unwrap().id;
    let lost = std::thread::scope(|scope| {
        let ticking = scope.spawn(|| dying.tick(dying.now()).unwrap());
        until("it began", || begun.load(Ordering::SeqCst));
        // Nobody takes it while its node lives.
        assert_eq!(other.tick(other.now()).unwrap().rescued, 0);
        // The session that stands for the node ends, as with its process; the attempt goes on.
        database
            .client()
            .query(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1449488999 \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                 AND objid::bigint = (SELECT claimed_by FROM verger.jobs WHERE state = 'executing')",
                &[],
            )
            .unwrap();
        until("it is taken back", || {
            let report = other.tick(other.now()).unwrap();
            other.job(id).unwrap().unwrap().state == JobState::Completed || report.rescued == 1
        });
        ticking.join().unwrap()
    });
    other.tick(other.now()).unwrap();
    // The stale claim could commit nothing.
    assert!(matches!(lost.attempts[0].outcome, AttemptOutcome::Lost(_)), "{lost:?}");
    assert_eq!(database.one::<String>("SELECT string_agg(n::text, ',') FROM effects"), "2");
    let job = other.job(id).unwrap().unwrap();
    assert_eq!(
        (job.state, job.attempt, job.errors[0].code.as_str()),
        (JobState::Completed, 2, "crashed")
    );
}

#[test]
fn a_job_whose_lease_is_over_is_taken_back() {
    let Some(database) = database() else { return };
    let clock = crate::clock();
    let verger = effects(&database).clock(clock.clone()).open().unwrap();
    let id = verger.enqueue(NewJob::new("effect", json!({"n": 1}))).unwrap().id;
    // As if claimed by this very node, whose thread stands still.
    database
        .client()
        .batch_execute(
            "UPDATE verger.jobs SET state = 'executing', attempt = 1, token = 1, claimed_by = (SELECT max(objid::bigint) FROM pg_locks \
             WHERE locktype = 'advisory' AND classid = 1449488999 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())), lease_until = 1767571260000",
        )
        .unwrap();
    assert_eq!(verger.tick(verger.now()).unwrap().rescued, 0);
    clock.advance(Duration::from_secs(61));
    let report = verger.tick(verger.now()).unwrap();
    assert_eq!((report.rescued, report.attempts.len()), (1, 1));
    assert_eq!(verger.job(id).unwrap().unwrap().state, JobState::Completed);
}

#[test]
fn jobs_of_a_worker_that_is_elsewhere_are_parked() {
    let Some(database) = database() else { return };
    let here = effects(&database).open().unwrap();
    let id = here.enqueue_unchecked(NewJob::new("elsewhere", json!({}))).unwrap().id;
    let then = here.enqueue(NewJob::new("effect", json!({"n": 1}))).unwrap().id;
    let report = here.tick(here.now()).unwrap();
    assert_eq!(report.attempts.len(), 1);
    assert_eq!(report.attempts[0].job, then);
    let job = here.job(id).unwrap().unwrap();
    assert!(job.parked && job.attempt == 0);
    let elsewhere =
        effects(&database).worker(worker("elsewhere", |_, _| Ok(Outcome::Done))).open().unwrap();
    assert_eq!(elsewhere.tick(elsewhere.now()).unwrap().attempts.len(), 1);
}
