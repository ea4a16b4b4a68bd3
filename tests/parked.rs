//! A process leaves alone the jobs of workers that it lacks. They are parked, and taken up by a
//! process that has the worker.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::prelude::*;
use verger::{EnqueueError, JobFilter, JobId, JobState, NewJob, Verger};

const START: verger::Timestamp = TestVerger::START;

struct Named(&'static str);

impl Worker for Named {
    fn manifest(&self) -> Manifest {
        Manifest::new(self.0, "1.0.0")
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(Outcome::Done)
    }
}

fn with(file: &Path, workers: &[&'static str], clock: &ManualClock) -> TestVerger {
    let builder =
        workers.iter().fold(Verger::builder(file).without_built_ins(), |builder, name| {
            builder.worker(Named(name))
        });
    TestVerger::open(builder, clock).unwrap()
}

fn state(test: &Verger, id: JobId) -> (JobState, u32, bool) {
    let job = test.job(id).unwrap().unwrap();
    (job.state, job.attempt, job.parked)
}

#[test]
fn a_job_waits_untouched_for_the_process_that_has_its_worker() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(START));
    let app = with(&file, &["ours", "both"], &clock);
    let other = with(&file, &["both"], &clock);
    let ours = app.enqueue(NewJob::new("ours", json!({})).max_attempts(1)).unwrap().id;
    let both = app.enqueue(NewJob::new("both", json!({}))).unwrap().id;
    for _ in 0..30 {
        let report = other.drain();
        assert!(report.attempts.iter().all(|attempt| attempt.job == both));
        assert_eq!(report.next_wake_at, None, "it does not keep the loop awake");
        clock.advance(Duration::from_secs(60));
    }
    assert_eq!(state(&other, ours), (JobState::Available, 0, true));
    assert_eq!(state(&other, both), (JobState::Completed, 1, false));
    assert_eq!(state(&app, ours), (JobState::Available, 0, false));
    app.drain();
    assert_eq!(state(&other, ours), (JobState::Completed, 1, false));
}

#[test]
fn parked_jobs_keep_no_other_from_its_turn_and_do_not_wake_the_loop() {
    let folder = tempfile::tempdir().unwrap();
    let test = with(&folder.path().join("app.db"), &["here"], &ManualClock::at(START));
    for priority in [0, 5] {
        for _ in 0..3 {
            let parked = NewJob::new("elsewhere", json!({})).priority(priority);
            test.enqueue_unchecked(parked).unwrap();
        }
    }
    let here = test.enqueue(NewJob::new("here", json!({})).priority(5)).unwrap().id;
    let ticking = test.start().unwrap();
    let begun = Instant::now();
    while state(&test, here).0 != JobState::Completed {
        assert!(begun.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(5));
    }
    ticking.stop(Duration::from_secs(5)).unwrap();
    let parked = test.jobs(&JobFilter::default(), 10).unwrap();
    assert_eq!(parked.iter().filter(|job| job.parked && job.attempt == 0).count(), 6);
}

#[test]
fn a_claim_jumps_over_a_backlog_of_parked_jobs() {
    let test = TestVerger::with(|builder| builder.without_built_ins().worker(Named("here")));
    let fill = |worker: &str, rows: u32| {
        test.sql(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO verger_jobs (worker, queue, priority, state, args, tenant_aware, due_at, max_attempts, created_at)
             SELECT '{worker}', 'default', 5, 'available', '{{}}', 0, i, 1, 0 FROM n"
        ));
    };
    fill("elsewhere", 200_000);
    let steps = || {
        test.enqueue(NewJob::new("here", json!({}))).unwrap();
        let begun = Instant::now();
        assert_eq!(test.drain().attempts.len(), 1);
        begun.elapsed()
    };
    // A walk over the backlog takes some 20 ms.
    let fastest = (0..20).map(|_| steps()).min().unwrap();
    assert!(fastest < Duration::from_millis(5), "{fastest:?}");
}

#[test]
fn jobs_of_several_workers_are_claimed_in_the_order_of_their_due_times() {
    let test = TestVerger::with(|builder| {
        builder.without_built_ins().worker(Named("a")).worker(Named("b")).worker(Named("c"))
    });
    let order = [("b", 3), ("a", 1), ("c", 2), ("a", 5), ("b", 4), ("a", 0)];
    let mut ids: Vec<_> = order
        .iter()
        .map(|(worker, due)| {
            let job = NewJob::new(*worker, json!({})).at(START - Duration::from_secs(10 - due));
            (*due, test.enqueue(job).unwrap().id)
        })
        .collect();
    ids.sort();
    let done: Vec<_> = test.drain().attempts.iter().map(|attempt| attempt.job).collect();
    assert_eq!(done, ids.iter().map(|(_, id)| *id).collect::<Vec<_>>());
}

#[test]
fn a_job_for_a_worker_elsewhere_is_enqueued_only_when_asked_for_so() {
    let test = TestVerger::with(|builder| builder.without_built_ins());
    let job = || NewJob::new("elsewhere", json!({"a": 1}));
    let error = test.enqueue(job()).unwrap_err();
    assert!(matches!(error, EnqueueError::UnknownWorker { .. }), "{error}");
    let id = test.enqueue_unchecked(job().unique()).unwrap().id;
    assert!(test.enqueue_unchecked(job().unique()).unwrap().existing);
    assert_eq!(state(&test, id), (JobState::Available, 0, true));
    let error = test.enqueue_unchecked(NewJob::new("elsewhere", json!([1]))).unwrap_err();
    assert!(matches!(error, EnqueueError::Args { .. }), "{error}");
    assert!(test.cancel(id).unwrap());
    assert_eq!(state(&test, id), (JobState::Cancelled, 0, false), "what is over is not parked");
}
