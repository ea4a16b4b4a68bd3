//! Queues do not wait for each other. An operator can still change a job that has not begun. As
//! many jobs are performed at a time as was asked for.
//!
//! Bounds on time are what is promised plus what a busy machine may add. The figures are printed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use verger::verger_worker::prelude::*;
use verger::{
    Builder, Error, JobFilter, JobState, NewJob, OpenError, Queue, QueueError, Schedule, TickLoop,
    Verger,
};

const MILLISECOND: Duration = Duration::from_millis(1);

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(500);

/// What was performed: which, when it began, and when it ended.
type Spans = Arc<Mutex<Vec<(String, Instant, Option<Instant>)>>>;

/// Lasts as long as it is told, and writes down when.
#[derive(Clone, Default)]
struct Lasts(Spans);

impl Worker for Lasts {
    fn manifest(&self) -> Manifest {
        Manifest::new("lasts", "1.0.0")
            .arg("tag", ArgSpec::default_value(""))
            .arg("millis", ArgSpec::default_value(0))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let tag = match job.job().scheduled {
            Some(slot) => slot.schedule,
            None => args.get("tag")?,
        };
        let place = {
            let mut spans = self.0.lock().unwrap();
            spans.push((tag, Instant::now(), None));
            spans.len() - 1
        };
        let until = Instant::now() + Duration::from_millis(args.get("millis")?);
        while Instant::now() < until && !job.is_cancelled() {
            std::thread::sleep(MILLISECOND);
        }
        self.0.lock().unwrap()[place].2 = Some(Instant::now());
        Ok(Outcome::Done)
    }
}

impl Lasts {
    fn tags(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(tag, ..)| tag.clone()).collect()
    }

    fn began(&self, tag: &str) -> Option<Instant> {
        self.0.lock().unwrap().iter().find(|(of, ..)| of == tag).map(|(_, began, _)| *began)
    }

    fn wait_for(&self, tag: &str) -> Instant {
        let begun = Instant::now();
        loop {
            if let Some(began) = self.began(tag) {
                return began;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "`{tag}` did not begin");
            std::thread::sleep(MILLISECOND);
        }
    }

    /// The most that were performed at the same time.
    fn most_at_a_time(&self) -> usize {
        let spans = self.0.lock().unwrap();
        let during = |at: Instant| {
            spans.iter().filter(|(_, from, to)| *from <= at && to.is_none_or(|to| at < to)).count()
        };
        spans.iter().map(|(_, from, _)| during(*from)).max().unwrap_or(0)
    }
}

fn lasts(tag: &str, millis: u64) -> NewJob {
    NewJob::new("lasts", json!({"tag": tag, "millis": millis}))
}

/// A loop on a file, with a worker that lasts.
struct Place {
    folder: tempfile::TempDir,
    verger: Verger,
    lasts: Lasts,
}

impl Place {
    fn with(set_up: impl FnOnce(Builder) -> Builder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lasts = Lasts::default();
        let builder = Verger::builder(folder.path().join("app.db")).without_built_ins();
        let verger = set_up(builder.worker(lasts.clone())).open().unwrap();
        Self { folder, verger, lasts }
    }

    fn start(&self) -> TickLoop {
        let ticking = self.verger.start().unwrap();
        std::thread::sleep(30 * MILLISECOND);
        ticking
    }

    fn count(&self, state: JobState) -> usize {
        let filter = JobFilter::new().state(state);
        self.verger.jobs(&filter, 1_000).unwrap().len()
    }

    fn finish(&self) {
        let begun = Instant::now();
        while self.verger.jobs(&JobFilter::default(), 1_000).unwrap().iter().any(|job| {
            !matches!(job.state, JobState::Completed | JobState::Cancelled | JobState::Discarded)
        }) {
            assert!(begun.elapsed() < Duration::from_secs(30), "the jobs do not come to an end");
            std::thread::sleep(2 * MILLISECOND);
        }
    }
}

#[test]
fn a_job_of_an_idle_queue_begins_at_once_while_another_queue_is_busy_for_seconds() {
    let place = Place::with(|builder| builder);
    let ticking = place.start();
    place.verger.enqueue(lasts("slow", 3_000).queue("downloads")).unwrap();
    place.lasts.wait_for("slow");
    let mut waits: Vec<Duration> = (0..21)
        .map(|number| {
            let (tag, begun) = (format!("quick-{number}"), Instant::now());
            place.verger.enqueue(lasts(&tag, 0).queue(format!("q{}", number % 3))).unwrap();
            let began = place.lasts.wait_for(&tag);
            std::thread::sleep(10 * MILLISECOND);
            began.saturating_duration_since(begun)
        })
        .collect();
    waits.sort_unstable();
    println!("beside a job of 3 s: median {:?}, longest {:?}", waits[10], waits[20]);
    assert!(place.count(JobState::Executing) == 1, "the slow one goes on");
    assert!(waits[10] < 25 * MILLISECOND && waits[20] < SLACK, "{waits:?}");
    ticking.stop(Duration::ZERO).unwrap();
}

#[test]
fn no_slot_is_decided_late_while_jobs_are_performed() {
    let place = Place::with(|builder| {
        builder.schedule(Schedule::cron("each-second", "* * * * * *").unwrap().worker("lasts"))
    });
    for queue in ["default", "a", "b"] {
        place.verger.enqueue(lasts("slow", 3_500).queue(queue)).unwrap();
    }
    let ticking = place.start();
    place.lasts.wait_for("slow");
    std::thread::sleep(Duration::from_millis(3_100));
    let fires = place.verger.fires("each-second", 100).unwrap();
    let late: Vec<Duration> = fires.iter().map(|fire| fire.fired_at.since(fire.slot)).collect();
    println!("slots decided late by {late:?}");
    assert!(fires.len() >= 3 && fires.iter().all(|fire| fire.missed == 0), "{fires:?}");
    assert!(late.iter().all(|late| *late < SLACK), "{late:?}");
    ticking.stop(Duration::ZERO).unwrap();
}

#[test]
fn cancel_priority_and_pause_act_until_a_job_really_begins() {
    let place = Place::with(|builder| builder);
    let ids: Vec<_> = ["first", "cancelled", "later"]
        .into_iter()
        .map(|tag| place.verger.enqueue(lasts(tag, 300)).unwrap().id)
        .collect();
    let ticking = place.start();
    place.lasts.wait_for("first");
    assert_eq!(place.count(JobState::Executing), 1, "what has not begun is not executing");
    assert!(place.verger.cancel(ids[1]).unwrap());
    assert_eq!(place.verger.job(ids[1]).unwrap().unwrap().state, JobState::Cancelled);
    place.verger.enqueue(lasts("urgent", 300).priority(0)).unwrap();
    place.lasts.wait_for("urgent");
    place.verger.pause_queue("default").unwrap();
    std::thread::sleep(Duration::from_millis(450));
    assert_eq!(place.lasts.tags(), ["first", "urgent"], "nothing begins in a paused queue");
    place.verger.resume_queue("default").unwrap();
    place.finish();
    assert_eq!(place.lasts.tags(), ["first", "urgent", "later"]);
    ticking.stop(Duration::from_secs(2)).unwrap();
}

#[test]
fn with_fewer_threads_than_queues_the_queues_take_turns() {
    let place = Place::with(|builder| builder.threads(2));
    // Two queues with a backlog of a second each, then the others.
    for number in 0..100 {
        for queue in ["a", "b"] {
            place.verger.enqueue(lasts(&format!("{queue}{number}"), 10).queue(queue)).unwrap();
        }
    }
    for queue in ["c", "d", "e"] {
        place.verger.enqueue(lasts(queue, 10).queue(queue)).unwrap();
    }
    let ticking = place.start();
    place.finish();
    assert_eq!(place.lasts.most_at_a_time(), 2);
    let tags = place.lasts.tags();
    for queue in ["c", "d", "e"] {
        let at = tags.iter().position(|tag| tag == queue).unwrap();
        assert!(at < 60, "`{queue}` began after {at} others");
    }
    ticking.stop(Duration::from_secs(2)).unwrap();
}

#[test]
fn concurrency_changes_while_the_loop_runs() {
    let place = Place::with(|builder| builder);
    let ticking = place.start();
    let batch = |count: usize| {
        place.lasts.0.lock().unwrap().clear();
        place.verger.enqueue_all((0..count).map(|_| lasts("x", 60))).unwrap();
        place.finish();
        place.lasts.most_at_a_time()
    };
    assert_eq!(batch(4), 1);
    place.verger.set_queue(Queue::new("default").concurrency(3)).unwrap();
    assert_eq!(batch(12), 3);
    place.verger.set_queue(Queue::new("default")).unwrap();
    assert_eq!(batch(4), 1);
    ticking.stop(Duration::from_secs(2)).unwrap();
}

#[test]
fn a_global_queue_of_one_keeps_its_order_whoever_performs_it() {
    let one = || Queue::new("invoices").global(1).concurrency(4);
    let place = Place::with(|builder| builder.queue(one()));
    // As another process would: a Verger of its own on the same file.
    let other = Verger::builder(place.folder.path().join("app.db"))
        .without_built_ins()
        .worker(place.lasts.clone())
        .queue(one())
        .open()
        .unwrap();
    let tags: Vec<String> = (0..12).map(|number| format!("{number:02}")).collect();
    let jobs = tags.iter().map(|tag| lasts(tag, 30).queue("invoices"));
    place.verger.enqueue_all(jobs).unwrap();
    let tickings = [place.start(), other.start().unwrap()];
    place.finish();
    assert_eq!(place.lasts.most_at_a_time(), 1);
    assert_eq!(place.lasts.tags(), tags);
    for ticking in tickings {
        ticking.stop(Duration::from_secs(2)).unwrap();
    }
}

#[test]
fn in_one_queue_no_worker_starves_another() {
    let place = Place::with(|builder| builder);
    let mut expected = Vec::new();
    for number in 0..10 {
        for kind in ["many", "few"].into_iter().take(if number % 5 == 0 { 2 } else { 1 }) {
            expected.push(format!("{kind}-{number}"));
            place.verger.enqueue(lasts(&format!("{kind}-{number}"), 0)).unwrap();
        }
    }
    let ticking = place.start();
    place.finish();
    assert_eq!(place.lasts.tags(), expected, "the order is the queue's, whoever it is for");
    ticking.stop(Duration::from_secs(2)).unwrap();
}

#[test]
fn settings_out_of_bounds_are_refused_by_name() {
    let open = |builder: Builder| builder.without_built_ins().open().map(drop);
    for (queue, expected) in [
        (Queue::new(""), "1 to 128 bytes"),
        (Queue::new("mail").concurrency(0), "from 1 to 32"),
        (Queue::new("mail").concurrency(33), "from 1 to 32"),
        (Queue::new("mail").global(0), "pause it"),
    ] {
        let refused = open(Verger::in_memory().queue(queue.clone()));
        assert!(
            matches!(&refused, Err(OpenError::Queue(QueueError { reason, .. })) if reason.contains(expected)),
            "{refused:?}"
        );
        let verger = Verger::in_memory().without_built_ins().open().unwrap();
        assert!(matches!(verger.set_queue(queue), Err(Error::Queue(_))));
    }
    for threads in [0, 33] {
        let refused = open(Verger::in_memory().threads(threads));
        assert!(matches!(refused, Err(OpenError::Threads { .. })), "{refused:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn threads_that_have_nothing_to_do_end() {
    /// Says on which thread it is performed.
    struct Where(Mutex<BTreeMap<String, std::path::PathBuf>>);
    impl Worker for Where {
        fn manifest(&self) -> Manifest {
            Manifest::new("where", "1.0.0")
        }
        fn perform(
            &self,
            job: &Context<'_>,
            _: Option<&Scope>,
            _: &Args,
        ) -> Result<Outcome, WorkerError> {
            let thread = std::path::Path::new("/proc")
                .join(std::fs::read_link("/proc/thread-self").unwrap_or_default());
            let mut threads = self.0.lock().unwrap();
            threads.insert(job.job().id.unwrap().to_string(), thread.clone());
            Ok(Outcome::DoneWith(json!(thread.to_string_lossy())))
        }
    }
    let verger =
        Verger::in_memory().without_built_ins().worker(Where(Mutex::default())).open().unwrap();
    let ticking = verger.start().unwrap();
    let id = verger.enqueue(NewJob::new("where", json!({}))).unwrap().id;
    let begun = Instant::now();
    let thread = loop {
        if let Some(thread) = verger.job(id).unwrap().unwrap().result {
            break thread.as_str().unwrap().to_string();
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(MILLISECOND);
    };
    assert!(std::path::Path::new(&thread).exists());
    while std::path::Path::new(&thread).exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{thread} is still there");
        std::thread::sleep(20 * MILLISECOND);
    }
    ticking.stop(Duration::from_secs(1)).unwrap();
}
