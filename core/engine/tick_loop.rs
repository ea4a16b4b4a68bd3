//! The thread that ticks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::commit_watcher::CommitWatcher;
use super::queue_thread;
use super::shared::Engine;
use crate::run::Interrupted;
use crate::time::Timestamp;

/// wasm runs on the thread's stack: room for the engine's limit and the host's calls.
pub(super) const STACK_BYTES: usize = 2 << 20;

/// The longest sleep between two looks at the wall clock: monotonic timers stand still while the
/// machine is suspended.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// How often a look is taken at whether another process, or the app itself, has committed
/// something.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long after a failed tick the next one is made.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// A wall clock that moved this much more or less than the timer was set, or the machine was
/// asleep.
const JUMP: Duration = Duration::from_secs(5);

/// The shortest pause after a tick that did nothing: whatever it finds due and cannot do must not
/// keep a processor busy.
const AFTER_NOTHING: Duration = Duration::from_millis(50);

/// How long a job is waited for after it was told to stop.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Ticks on a thread until it is stopped. Dropping it stops it, waiting at most 5 s.
#[derive(Debug)]
#[must_use = "dropping the loop stops it"]
pub struct TickLoop {
    inner: Arc<Engine>,
    stopping: Arc<AtomicBool>,
    /// The one that ticks, and its helpers.
    threads: Vec<JoinHandle<()>>,
}

/// The loop could not be started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoopError {
    /// The operating system gave no thread.
    #[error("the tick loop could not be started: the operating system gave no thread ({0})")]
    Thread(#[source] std::io::Error),
    /// A native worker did not come back in time. Its thread is left behind; it can commit nothing,
    /// and its job runs again.
    #[error(
        "a worker did not stop within {0:?}: a native worker is stopped only at its host calls; its job was left to its lease"
    )]
    StillRunning(Duration),
}

/// Starts the loop.
pub(crate) fn start(inner: &Arc<Engine>) -> Result<TickLoop, LoopError> {
    let stopping = Arc::new(AtomicBool::new(false));
    let (looped, stop) = (Arc::clone(inner), Arc::clone(&stopping));
    let builder = std::thread::Builder::new().name("verger".to_string()).stack_size(STACK_BYTES);
    let thread = builder.spawn(move || run(&looped, &stop)).map_err(LoopError::Thread)?;
    // Dropped, it stops what was started.
    let mut ticking = TickLoop { inner: Arc::clone(inner), stopping, threads: vec![thread] };
    ticking
        .threads
        .extend(queue_thread::start(inner, &ticking.stopping).map_err(LoopError::Thread)?);
    Ok(ticking)
}

impl TickLoop {
    /// Stops the loop. A running job may finish within `bound`; after that it is interrupted, and
    /// goes back as it was, its attempt too.
    ///
    /// # Errors
    /// [`LoopError::StillRunning`] when a native worker makes no host call: it cannot be stopped.
    pub fn stop(mut self, bound: Duration) -> Result<(), LoopError> {
        self.stop_within(bound)
    }

    /// Whether the loop runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.threads.first().is_some_and(|thread| !thread.is_finished())
    }

    fn stop_within(&mut self, bound: Duration) -> Result<(), LoopError> {
        let threads = std::mem::take(&mut self.threads);
        self.stopping.store(true, Ordering::Relaxed);
        self.inner.notifier.ring();
        // Again and again: a job may begin at the very moment.
        let interrupt = || self.inner.interrupt_all(Interrupted::Shutdown);
        if !end_within(&threads, bound, || ()) && !end_within(&threads, LAST_WAIT, interrupt) {
            return Err(LoopError::StillRunning(bound + LAST_WAIT));
        }
        // A panic of the loop was reported by the thread itself.
        threads.into_iter().for_each(|thread| drop(thread.join()));
        Ok(())
    }
}

impl Drop for TickLoop {
    fn drop(&mut self) {
        if let Err(error) = self.stop_within(Duration::from_secs(5)) {
            tracing::warn!(%error, "the tick loop was dropped");
        }
    }
}

fn end_within(threads: &[JoinHandle<()>], bound: Duration, meanwhile: impl Fn()) -> bool {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(200);
    while threads.iter().any(|thread| !thread.is_finished()) {
        let left = bound.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return false;
        }
        meanwhile();
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    true
}

fn run(inner: &Engine, stopping: &AtomicBool) {
    let mut commit_watcher = CommitWatcher::of(inner);
    let mut idle = false;
    while !stopping.load(Ordering::Relaxed) {
        commit_watcher.remember();
        // From before the tick, so that a jump in the middle of it is noticed too.
        let since = (Instant::now(), inner.clock.now());
        inner.notifier.ring_helpers();
        let next = match crate::engine::tick(inner, inner.clock.now(), stopping) {
            Ok(report) => {
                idle = report.attempts.is_empty() && report.fired.is_empty();
                let soonest = inner.clock.now() + if idle { AFTER_NOTHING } else { Duration::ZERO };
                report.next_wake_at.map(|next| next.max(soonest))
            }
            Err(error) => {
                tracing::error!(error = %error, cause = ?std::error::Error::source(&error), "a tick could not be made; the next one follows");
                // What it wrote before it failed is no reason for the next one.
                commit_watcher.remember();
                Some(inner.clock.now() + AFTER_ERROR)
            }
        };
        if idle {
            inner.shrink();
        }
        sleep_until(inner, next, since, stopping, &mut commit_watcher);
    }
}

/// Sleeps until the next instant, the bell, a trace of someone else's commit, a jump of the wall
/// clock, or the longest sleep is over.
fn sleep_until(
    inner: &Engine,
    next: Option<Timestamp>,
    (begun, wall): (Instant, Timestamp),
    stopping: &AtomicBool,
    commit_watcher: &mut CommitWatcher,
) {
    // After an enqueue inside the app's transaction: it may commit now, or a while later.
    let mut look = LOOK_EVERY;
    while !stopping.load(Ordering::Relaxed) {
        if inner.notifier.take_expectation() {
            look = Duration::from_millis(1);
        }
        let (slept, now) = (begun.elapsed(), inner.clock.now());
        if jumped(wall, now, slept) {
            return;
        }
        let until_due = next.map_or(SLEEP_MAX, |next| next.since(now));
        let left = until_due.min(SLEEP_MAX.saturating_sub(slept));
        if left.is_zero() || commit_watcher.changed() || inner.notifier.wait(left.min(look)) {
            return;
        }
        look = (look * 2).min(LOOK_EVERY);
    }
}

/// Whether the wall clock moved otherwise than the timer. Says so.
fn jumped(wall: Timestamp, now: Timestamp, slept: Duration) -> bool {
    let (forward, backward) = (now.since(wall + slept), (wall + slept).since(now));
    if forward > JUMP {
        tracing::info!(
            seconds = forward.as_secs(),
            "the clock jumped forward: the machine was suspended, or someone set it"
        );
    } else if backward > JUMP {
        tracing::info!(seconds = backward.as_secs(), "the clock was set back");
    }
    forward.max(backward) > JUMP
}
