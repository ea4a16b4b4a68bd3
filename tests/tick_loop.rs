//! The loop on a thread: what wakes it, how soon, what it costs while it sleeps, and how it is
//! stopped.
//!
//! Bounds on time are those the loop promises plus what a busy machine may add. The medians are
//! printed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::prelude::*;
use verger::{
    Builder, Clock, Grant, Job, JobFilter, JobState, LoopError, NewJob, Reason, Schedule,
    SystemClock, Verger,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// The loop looks at the wall clock, and at the file, once a second.
const LOOK: Duration = Duration::from_millis(1_000);

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(500);

/// Tells when it is performed, and on which thread.
struct Tell(Sender<(Instant, ThreadId)>);

impl Worker for Tell {
    fn manifest(&self) -> Manifest {
        Manifest::new("tell", "1.0.0")
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        let _ = self.0.send((Instant::now(), std::thread::current().id()));
        Ok(Outcome::Done)
    }
}

/// Goes on until it is told to stop; with `deaf` it does not listen for so many milliseconds.
struct Stay(Sender<()>);

impl Worker for Stay {
    fn manifest(&self) -> Manifest {
        Manifest::new("stay", "1.0.0")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let _ = self.0.send(());
        if let Some(deaf) = args.as_map().get("deaf").and_then(|deaf| deaf.as_u64()) {
            std::thread::sleep(Duration::from_millis(deaf));
        }
        while !job.is_cancelled() {
            std::thread::sleep(MILLISECOND);
        }
        Ok(Outcome::Done)
    }
}

fn telling(builder: Builder) -> (Builder, Receiver<(Instant, ThreadId)>) {
    let (tells, told) = channel();
    (builder.without_built_ins().worker(Tell(tells)), told)
}

fn tell() -> NewJob {
    NewJob::new("tell", json!({}))
}

/// Lets a loop that was just started come to rest.
fn settle() {
    std::thread::sleep(50 * MILLISECOND);
}

fn newest(verger: &Verger) -> Job {
    verger.jobs(&JobFilter::default(), 1).unwrap().remove(0)
}

fn eventually(holds: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < 10 * LOOK, "it did not come to pass");
        std::thread::sleep(MILLISECOND);
    }
    begun.elapsed()
}

// --- clocks
// -------------------------------------------------------------------------------------------------------------------------------

#[test]
fn a_jump_of_the_clock_is_noticed_within_a_second() {
    let clock = ManualClock::at(TestVerger::START);
    let (builder, told) = telling(Verger::in_memory());
    let hourly = Schedule::every("hourly", HOUR).unwrap().worker("tell");
    let verger = builder.clock(clock.clone()).schedule(hourly).open().unwrap();
    let ticking = verger.start().unwrap();
    settle();
    // The machine was suspended for a night.
    let woken = Instant::now();
    clock.advance(8 * HOUR);
    let (performed, _) = told.recv_timeout(10 * LOOK).unwrap();
    assert!(performed - woken < LOOK + SLACK, "{:?}", performed - woken);
    assert_eq!(verger.fires("hourly", 10).unwrap()[0].missed, 7);
    // Set back by a year: it goes on from there.
    let next = || verger.schedules().unwrap()[0].next_fire_at.unwrap();
    clock.set(TestVerger::START - 365 * 24 * HOUR);
    let took = eventually(|| next() < TestVerger::START);
    assert!(took < LOOK + SLACK, "{took:?}");
    clock.advance(HOUR);
    told.recv_timeout(10 * LOOK).unwrap();
    ticking.stop(LOOK).unwrap();
}

// --- what wakes it
// ------------------------------------------------------------------------------------------------------------------------

#[test]
fn an_enqueue_in_this_process_starts_within_milliseconds() {
    let folder = tempfile::tempdir().unwrap();
    starts_within_milliseconds(Verger::builder(folder.path().join("app.db")));
    starts_within_milliseconds(Verger::in_memory());
}

fn starts_within_milliseconds(builder: Builder) {
    let (builder, told) = telling(builder);
    let verger = builder.open().unwrap();
    let ticking = verger.start().unwrap();
    settle();
    let mut app = verger.connect().unwrap();
    let mut own = Vec::new();
    let mut median = |what: &str, enqueue: &mut dyn FnMut()| {
        let mut latencies: Vec<Duration> = (0..31)
            .map(|_| {
                std::thread::sleep(5 * MILLISECOND);
                let begun = Instant::now();
                enqueue();
                own.push(begun.elapsed());
                told.recv_timeout(10 * LOOK).unwrap().0.saturating_duration_since(begun)
            })
            .collect();
        latencies.sort_unstable();
        println!("{what}: median {:?}, slowest {:?}", latencies[15], latencies[30]);
        latencies[15]
    };
    let plain = median("enqueue", &mut || assert!(!verger.enqueue(tell()).unwrap().existing));
    let inside = median("enqueue_in, committed 3 ms later", &mut || {
        let transaction = app.transaction().unwrap();
        verger.enqueue_in(&transaction, tell()).unwrap();
        std::thread::sleep(3 * MILLISECOND);
        transaction.commit().unwrap();
    });
    // Where a commit takes long, so does the one that a start needs.
    own.sort_unstable();
    let commit = own[own.len() / 2];
    assert!(plain < (25 * MILLISECOND).max(4 * commit), "{plain:?}, a commit {commit:?}");
    assert!(inside < (50 * MILLISECOND).max(8 * commit), "{inside:?}, a commit {commit:?}");
    ticking.stop(LOOK).unwrap();
}

#[test]
fn an_enqueue_from_elsewhere_starts_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let (builder, told) = telling(Verger::builder(&file));
    let ticking = builder.open().unwrap().start().unwrap();
    settle();
    // As another process would: a Verger of its own on the same file, whose bell this loop does not
    // hear.
    let elsewhere = telling(Verger::builder(&file)).0.open().unwrap();
    for _ in 0..3 {
        let begun = Instant::now();
        elsewhere.enqueue(tell()).unwrap();
        let took = told.recv_timeout(10 * LOOK).unwrap().0 - begun;
        assert!(took < LOOK + SLACK, "{took:?}");
    }
    ticking.stop(LOOK).unwrap();
}

#[test]
fn schedules_come_go_pause_and_run_now_on_a_live_loop() {
    let (builder, told) = telling(Verger::in_memory());
    let verger = builder.open().unwrap();
    let ticking = verger.start().unwrap();
    settle();
    let begun = Instant::now();
    verger.add_schedule(&Schedule::every("s", LOOK).unwrap().worker("tell")).unwrap();
    let took = told.recv_timeout(10 * LOOK).unwrap().0 - begun;
    assert!(took < LOOK + SLACK, "{took:?}");
    verger.pause_schedule("s").unwrap();
    eventually(|| verger.fires("s", 1).unwrap()[0].reason == Some(Reason::Paused));
    told.try_iter().for_each(drop);
    verger.run_schedule_now("s").unwrap().unwrap();
    told.recv_timeout(SLACK).unwrap();
    verger.resume_schedule("s").unwrap();
    told.recv_timeout(LOOK + SLACK).unwrap();
    assert!(verger.remove_schedule("s").unwrap());
    settle();
    told.try_iter().for_each(drop);
    assert!(told.recv_timeout(LOOK + SLACK).is_err());
    ticking.stop(LOOK).unwrap();
}

// --- what it costs
// ------------------------------------------------------------------------------------------------------------------------

/// Size and time of the database and of its log.
fn traces(file: &Path) -> Vec<(u64, std::time::SystemTime)> {
    let wal = file.with_file_name("app.db-wal");
    [file, &wal]
        .map(|file| {
            std::fs::metadata(file).map(|meta| (meta.len(), meta.modified().unwrap())).unwrap()
        })
        .to_vec()
}

/// The system's clock, which learns on which thread the loop is, and what Linux calls that thread.
#[derive(Clone, Default)]
struct LoopClock(Arc<OnceLock<(ThreadId, PathBuf)>>);

impl Clock for LoopClock {
    fn now(&self) -> verger::Timestamp {
        let thread = std::thread::current();
        if self.0.get().is_none() && thread.name() == Some("verger") {
            let name = std::fs::read_link("/proc/thread-self").unwrap_or_default();
            let _ = self.0.set((thread.id(), name));
        }
        SystemClock.now()
    }
}

#[test]
fn an_idle_loop_writes_nothing_and_costs_next_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let (builder, told) = telling(Verger::builder(&file));
    let clock = LoopClock::default();
    let verger = builder
        .schedule(Schedule::every("daily", 24 * HOUR).unwrap().worker("tell"))
        .clock(clock.clone())
        .open()
        .unwrap();
    let ticking = verger.start().unwrap();
    verger.enqueue(tell()).unwrap();
    let (_, performer) = told.recv_timeout(10 * LOOK).unwrap();
    settle();
    settle();
    let (thread, name) = clock.0.get().unwrap().clone();
    assert_ne!(thread, performer, "the loop performs no jobs itself");
    let (before, used) = (traces(&file), processor_time(&name));
    std::thread::sleep(3 * LOOK);
    assert_eq!(traces(&file), before, "an idle loop writes nothing");
    if let (Some(before), Some(after)) = (used, processor_time(&name)) {
        println!(
            "3 s of idling: {:?} of processor time, counted in steps of 10 ms",
            after - before
        );
        assert!(after - before <= 10 * MILLISECOND, "{:?}", after - before);
    }
    // And a tick by hand, with nothing due, writes nothing either.
    for _ in 0..100 {
        assert!(verger.tick(verger.now()).unwrap().attempts.is_empty());
    }
    assert_eq!(traces(&file), before);
    ticking.stop(LOOK).unwrap();
}

/// What a thread of this process has used so far, where the system tells.
fn processor_time(thread: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(Path::new("/proc").join(thread).join("stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<u32>().ok());
    Some(10 * MILLISECOND * (ticks(11)? + ticks(12)?))
}

// --- how it is stopped
// --------------------------------------------------------------------------------------------------------------------

#[test]
fn stopping_gives_the_attempt_of_a_running_worker_back_within_the_bound() {
    let (began, begun) = channel();
    let puppet = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/puppet.wasm");
    let builder = Verger::in_memory()
        .without_built_ins()
        .worker(Stay(began))
        .plugin(puppet)
        .grant("puppet", Grant::as_declared());
    let verger = (*TestVerger::open(builder, &ManualClock::at(SystemClock.now())).unwrap()).clone();
    let looping = json!({"do": [["spin"]]});
    for (worker, args) in [("stay", json!({})), ("puppet", looping)] {
        for bound in [Duration::ZERO, 100 * MILLISECOND] {
            let ticking = verger.start().unwrap();
            let job = verger.enqueue(NewJob::new(worker, args.clone())).unwrap().id;
            eventually(|| verger.job(job).unwrap().unwrap().state == JobState::Executing);
            let stopping = Instant::now();
            ticking.stop(bound).unwrap();
            assert!(stopping.elapsed() < bound + SLACK, "{worker}: {:?}", stopping.elapsed());
            let job = verger.job(job).unwrap().unwrap();
            assert_eq!(
                (job.state, job.attempt, job.errors.len()),
                (JobState::Available, 0, 0),
                "{worker}"
            );
            assert!(verger.cancel(job.id).unwrap());
        }
    }
    drop(begun);
}

#[test]
fn a_job_may_finish_within_the_bound() {
    struct Brief(Sender<()>);
    impl Worker for Brief {
        fn manifest(&self) -> Manifest {
            Manifest::new("brief", "1.0.0")
        }
        fn perform(
            &self,
            _: &Context<'_>,
            _: Option<&Scope>,
            _: &Args,
        ) -> Result<Outcome, WorkerError> {
            self.0.send(()).unwrap();
            std::thread::sleep(200 * MILLISECOND);
            Ok(Outcome::Done)
        }
    }
    let (began, begun) = channel();
    let verger = Verger::in_memory().without_built_ins().worker(Brief(began)).open().unwrap();
    let ticking = verger.start().unwrap();
    verger.enqueue(NewJob::new("brief", json!({}))).unwrap();
    let second = verger.enqueue(NewJob::new("brief", json!({}))).unwrap().id;
    begun.recv_timeout(10 * LOOK).unwrap();
    ticking.stop(5 * LOOK).unwrap();
    let states: Vec<_> =
        verger.jobs(&JobFilter::default(), 2).unwrap().iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Available, JobState::Completed], "the second was not begun");
    assert_eq!(verger.job(second).unwrap().unwrap().attempt, 0);
}

#[test]
fn a_worker_that_cannot_be_stopped_is_reported_and_commits_nothing() {
    let (began, begun) = channel();
    let verger = Verger::in_memory().without_built_ins().worker(Stay(began)).open().unwrap();
    let ticking = verger.start().unwrap();
    verger.enqueue(NewJob::new("stay", json!({"deaf": 3_000}))).unwrap();
    begun.recv_timeout(10 * LOOK).unwrap();
    let stopping = Instant::now();
    let error = ticking.stop(100 * MILLISECOND).unwrap_err();
    assert!(matches!(error, LoopError::StillRunning(_)), "{error}");
    assert!(stopping.elapsed() < Duration::from_millis(2_100) + SLACK, "{:?}", stopping.elapsed());
    // It comes to itself in the end, and the job goes back.
    eventually(|| newest(&verger).state == JobState::Available);
    assert_eq!(newest(&verger).attempt, 0);
}

#[test]
fn a_loop_ends_when_it_is_dropped_and_can_be_started_again() {
    let (builder, told) = telling(Verger::in_memory());
    let verger = builder.open().unwrap();
    for _ in 0..20 {
        let ticking = verger.start().unwrap();
        assert!(ticking.is_running());
        verger.enqueue(tell()).unwrap();
        told.recv_timeout(10 * LOOK).unwrap();
        drop(ticking);
        verger.enqueue(tell()).unwrap();
        assert!(told.recv_timeout(10 * MILLISECOND).is_err());
        verger.tick(verger.now()).unwrap();
        told.recv_timeout(LOOK).unwrap();
    }
}
