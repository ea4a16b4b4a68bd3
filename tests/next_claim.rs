//! If another job follows, a job ends in the commit that claims the next one.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::json;
use verger::testing::ManualClock;
use verger::verger_worker::prelude::*;
use verger::{Builder, EventKind, JobState, NewJob, Timestamp, Verger};

/// Completes, or fails when its args say so.
struct Plain;

impl Worker for Plain {
    fn manifest(&self) -> Manifest {
        Manifest::new("plain", "1.0.0").arg("fails", ArgSpec::default_value(false))
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        match args.get("fails")? {
            true => Err(WorkerError::new("as its args say")),
            false => Ok(Outcome::Done),
        }
    }
}

fn builder(folder: &Path) -> Builder {
    Verger::builder(folder.join("app.db"))
        .without_built_ins()
        .group_commit(false)
        .clock(ManualClock::at(Timestamp::from_millis(1_767_225_600_000)))
        .worker(Plain)
}

/// Commits in the write-ahead log: frames that carry the size of the database, see
/// sqlite.org/fileformat2.html#walformat. None was folded back: a test writes little.
fn commits(folder: &Path) -> usize {
    let log = std::fs::read(folder.join("app.db-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    log[32..].chunks(24 + page).filter(|frame| frame[4..8] != [0; 4]).count()
}

#[test]
fn a_job_that_another_follows_makes_one_commit_and_the_last_one_two() {
    let folder = tempfile::tempdir().unwrap();
    let verger = builder(folder.path()).open().unwrap();
    verger.tick(verger.now()).unwrap();
    let jobs: Vec<_> =
        (0..10).map(|_| verger.enqueue(NewJob::new("plain", json!({}))).unwrap().id).collect();
    let before = commits(folder.path());
    let report = verger.tick(verger.now()).unwrap();
    assert_eq!(report.attempts.iter().map(|attempt| attempt.job).collect::<Vec<_>>(), jobs);
    assert_eq!(commits(folder.path()) - before, 11);
    let before = commits(folder.path());
    assert!(verger.tick(verger.now()).unwrap().attempts.is_empty());
    assert_eq!(commits(folder.path()), before, "an idle look writes nothing");
}

#[test]
fn what_follows_a_failed_job_is_claimed_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let verger = builder(folder.path()).open().unwrap();
    let job = |fails: bool| verger.enqueue(NewJob::new("plain", json!({"fails": fails}))).unwrap();
    let jobs = [job(false).id, job(true).id, job(false).id];
    let report = verger.tick(verger.now()).unwrap();
    assert_eq!(report.attempts.len(), 3);
    let states = jobs.map(|id| verger.job(id).unwrap().unwrap().state);
    assert_eq!(states, [JobState::Completed, JobState::Retryable, JobState::Completed]);
}

#[test]
fn whoever_is_told_of_an_end_can_pause_the_queue_before_the_next_job_begins() {
    let folder = tempfile::tempdir().unwrap();
    let itself: Arc<OnceLock<Verger>> = Arc::default();
    let told = Arc::clone(&itself);
    let verger = builder(folder.path())
        .on_event(move |event| {
            if matches!(event.kind, EventKind::Completed { .. }) {
                told.get().unwrap().pause_queue("default").unwrap();
            }
        })
        .open()
        .unwrap();
    assert!(itself.set(verger.clone()).is_ok());
    for _ in 0..3 {
        verger.enqueue(NewJob::new("plain", json!({}))).unwrap();
    }
    assert_eq!(verger.tick(verger.now()).unwrap().attempts.len(), 1);
    let waiting = verger.jobs(&verger::JobFilter::new().state(JobState::Available), 10).unwrap();
    assert!(waiting.iter().all(|job| job.attempt == 0), "{waiting:?}");
    assert_eq!(waiting.len(), 2);
}
