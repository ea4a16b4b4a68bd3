//! Queues: how many jobs at a time, pausing and resuming, uniqueness for a period, and a worker's
//! own backoff.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::json;
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;
use verger::{Backoff, Builder, JobFilter, JobState, NewJob, Queue, Verger};

/// Waits for something else than the database, and counts how many of it do so at a time.
#[derive(Clone, Default)]
struct Waits(Arc<[AtomicUsize; 2]>);

impl Worker for Waits {
    fn manifest(&self) -> Manifest {
        Manifest::new("waits", "1.0.0").table(TableAsk::named("notes").insert())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        let [now, most] = &*self.0;
        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        std::thread::sleep(Duration::from_millis(60));
        now.fetch_sub(1, SeqCst);
        job.execute("INSERT INTO notes (job) VALUES (?1)", params![job.job().id.unwrap() as i64])?;
        Ok(Outcome::Done)
    }
}

/// Performs so many jobs of a queue in a loop: the most at a time.
fn most_at_a_time(queue: &str, jobs: usize, set_up: impl FnOnce(Builder) -> Builder) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let waits = Waits::default();
    let verger = set_up(
        Verger::builder(folder.path().join("app.db")).without_built_ins().worker(waits.clone()),
    )
    .open()
    .unwrap();
    let app = verger.connect().unwrap();
    app.execute_batch("CREATE TABLE notes (job INTEGER)").unwrap();
    let ticking = verger.start().unwrap();
    verger.enqueue_all((0..jobs).map(|_| NewJob::new("waits", json!({})).queue(queue))).unwrap();
    let begun = Instant::now();
    while verger
        .jobs(&JobFilter::default(), 100)
        .unwrap()
        .iter()
        .any(|job| job.state != JobState::Completed)
    {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    ticking.stop(Duration::from_secs(5)).unwrap();
    let (notes, different): (i64, i64) = app
        .query_row("SELECT count(*), count(DISTINCT job) FROM notes", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((notes, different), (jobs as i64, jobs as i64), "each once");
    assert!(verger.jobs(&JobFilter::default(), 100).unwrap().iter().all(|job| job.attempt == 1));
    waits.0[1].load(SeqCst)
}

#[test]
fn a_queue_performs_as_many_jobs_at_a_time_as_it_asks_for_and_one_by_default() {
    assert_eq!(most_at_a_time("default", 4, |builder| builder), 1);
    assert_eq!(
        most_at_a_time("mail", 16, |builder| builder.queue(Queue::new("mail").concurrency(4))),
        4
    );
    assert_eq!(
        most_at_a_time("mail", 4, |builder| builder.queue(Queue::new("other").concurrency(4))),
        1
    );
}

#[test]
fn stopping_waits_for_every_thread_and_gives_back_what_was_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let verger = Verger::builder(folder.path().join("app.db"))
        .without_built_ins()
        .worker(Waits::default())
        .queue(Queue::new("mail").concurrency(4))
        .open()
        .unwrap();
    verger.connect().unwrap().execute_batch("CREATE TABLE notes (job INTEGER)").unwrap();
    verger.enqueue_all((0..40).map(|_| NewJob::new("waits", json!({})).queue("mail"))).unwrap();
    let ticking = verger.start().unwrap();
    let begun = Instant::now();
    let completed = JobFilter::new().state(JobState::Completed);
    while verger.jobs(&completed, 100).unwrap().len() < 4 {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing is performed");
        std::thread::sleep(Duration::from_millis(5));
    }
    ticking.stop(Duration::from_secs(5)).unwrap();
    let jobs = verger.jobs(&JobFilter::default(), 100).unwrap();
    let count = |state| jobs.iter().filter(|job| job.state == state).count();
    assert_eq!(count(JobState::Completed) + count(JobState::Available), 40);
    assert!((4..40).contains(&count(JobState::Completed)), "{}", count(JobState::Completed));
}

/// Fails.
struct Fails(&'static str);

impl Worker for Fails {
    fn manifest(&self) -> Manifest {
        Manifest::new(self.0, "1.0.0")
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(if args.as_map().contains_key("well") {
            Outcome::Done
        } else {
            Outcome::Failed(WorkerError::new("as it does"))
        })
    }
}

#[test]
fn nothing_is_claimed_from_a_paused_queue_until_it_is_resumed() {
    let test = TestVerger::with(|builder| builder.worker(Fails("fails")));
    test.pause_queue("mail").unwrap();
    test.pause_queue("mail").unwrap();
    assert_eq!(test.paused_queues().unwrap(), ["mail"]);
    let held = test
        .enqueue(NewJob::new("fails", json!({"well": 1})).queue("mail").priority(0))
        .unwrap()
        .id;
    let other = test.enqueue(NewJob::new("fails", json!({"well": 1}))).unwrap().id;
    let report = test.tick(test.now()).unwrap();
    assert_eq!(report.attempts.iter().map(|attempt| attempt.job).collect::<Vec<_>>(), [other]);
    assert_eq!(report.next_wake_at, None, "a paused queue wakes nobody");
    assert_eq!(test.job(held).unwrap().unwrap().state, JobState::Available);
    test.resume_queue("mail").unwrap();
    assert_eq!(test.tick(test.now()).unwrap().attempts.len(), 1);
    assert!(test.paused_queues().unwrap().is_empty());
}

#[test]
fn a_worker_may_have_a_backoff_of_its_own() {
    let soon = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(1) };
    let test = TestVerger::with(|builder| {
        builder.worker(Fails("hasty")).worker(Fails("calm")).backoff_of("hasty", soon)
    });
    let [hasty, calm] =
        ["hasty", "calm"].map(|worker| test.enqueue(NewJob::new(worker, json!({}))).unwrap().id);
    test.drain();
    let wait = |id| test.job(id).unwrap().unwrap().due_at.since(test.now()).as_millis();
    assert!((900..=1_100).contains(&wait(hasty)), "{}", wait(hasty));
    assert!((13_500..=16_500).contains(&wait(calm)), "{}", wait(calm));
}

#[test]
fn a_job_unique_for_a_period_stays_so_when_it_is_finished() {
    let test = TestVerger::with(|builder| builder.worker(Fails("fails")));
    let minute = Duration::from_secs(60);
    for args in [json!({"well": 1, "to": "a"}), json!({"to": "a"})] {
        let job = || {
            NewJob::new("fails", args.clone())
                .unique_by(["to", "well"])
                .unique_for(minute)
                .max_attempts(1)
        };
        let first = test.enqueue(job()).unwrap();
        test.drain();
        let ended = test.job(first.id).unwrap().unwrap().state;
        assert!(matches!(ended, JobState::Completed | JobState::Discarded));
        test.clock().advance(minute - Duration::from_millis(1));
        let again = test.enqueue(job()).unwrap();
        assert!(again.existing);
        assert_eq!(again.id, first.id);
        test.clock().advance(Duration::from_millis(1));
        let next = test.enqueue(job()).unwrap();
        assert!(!next.existing);
        // Unfinished, it is unique however long it takes.
        test.clock().advance(minute * 3);
        assert_eq!(test.enqueue(job()).unwrap().id, next.id);
        test.drain();
    }
    let plain = || NewJob::new("fails", json!({"well": 1, "to": "b"})).unique();
    let first = test.enqueue(plain()).unwrap();
    test.drain();
    assert_ne!(
        test.enqueue(plain()).unwrap().id,
        first.id,
        "without a period it ends with the job"
    );
}

#[test]
fn a_cancelled_job_keeps_its_period_too() {
    let test = TestVerger::with(|builder| builder.worker(Fails("fails")));
    let job = || NewJob::new("fails", json!({"well": 1})).unique_for(Duration::from_secs(60));
    let first = test.enqueue(job().after(Duration::from_secs(5))).unwrap();
    assert!(test.cancel(first.id).unwrap());
    assert!(test.enqueue(job()).unwrap().existing);
    test.clock().advance(Duration::from_secs(61));
    assert!(!test.enqueue(job()).unwrap().existing);
}
