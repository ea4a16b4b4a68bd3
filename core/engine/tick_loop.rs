//! The thread that fires schedules, takes lost jobs back, prunes, and wakes the queues. It performs
//! no job, so none can hold it up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::commit_watcher::CommitWatcher;
use super::executor::Executor;
use super::observe;
#[cfg(feature = "wasm")]
use super::plugin_watch::PluginWatch;
use super::queue_threads::QueueThreads;
use super::report::TickReport;
use super::shared::Engine;
use super::upkeep;
use crate::run::Interrupted;
use crate::store::StoreError;
use crate::time::Timestamp;

/// wasm runs on the thread's stack, which needs room for the engine's limit and the host's calls.
pub(super) const STACK_BYTES: usize = 2 << 20;

/// The longest sleep between two looks at the wall clock. Monotonic timers stand still while the
/// machine is suspended.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// The longest time between two looks at whether another process, or the app itself, has committed
/// something.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long after a failed tick the next one is made.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// A wall clock that moved this much more or less than the timer was set, or the machine was
/// asleep.
const JUMP: Duration = Duration::from_secs(5);

/// The shortest pause after a tick that did nothing. Something that is due and cannot be done must
/// not keep a processor busy.
const AFTER_NOTHING: Duration = Duration::from_millis(50);

/// How long a job is waited for after it was told to stop.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Fires schedules and performs jobs, on threads of its own, until it is stopped. Dropping it stops
/// it, waiting at most 5 s.
#[must_use = "dropping the loop stops it"]
pub struct TickLoop {
    inner: Arc<Engine>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    queue_threads: Arc<QueueThreads>,
}

impl fmt::Debug for TickLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TickLoop").field("is_running", &self.is_running()).finish_non_exhaustive()
    }
}

/// The loop could not be started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoopError {
    /// The operating system gave no thread.
    #[error("the tick loop could not be started: the operating system gave no thread ({0})")]
    Thread(std::io::Error),
    /// A native worker did not return in time. Its thread is left behind. It can commit nothing,
    /// and its job runs again.
    #[error(
        "a worker did not stop within {0:?}: a native worker is stopped only at its host calls; its job was left to its lease"
    )]
    StillRunning(Duration),
}

/// Starts the loop.
pub(crate) fn start(inner: &Arc<Engine>) -> Result<TickLoop, LoopError> {
    let stopping = Arc::new(AtomicBool::new(false));
    let queue_threads = QueueThreads::new(inner);
    let (looped, stop, wakes) =
        (Arc::clone(inner), Arc::clone(&stopping), Arc::clone(&queue_threads));
    let builder = std::thread::Builder::new().name("verger".to_string());
    let thread = builder.spawn(move || run(&looped, &wakes, &stop)).map_err(LoopError::Thread)?;
    Ok(TickLoop { inner: Arc::clone(inner), stopping, thread: Some(thread), queue_threads })
}

impl TickLoop {
    /// Stops the loop. A running job may finish within `bound`. After that it is interrupted, and
    /// goes back as it was, its attempt unused.
    ///
    /// # Errors
    /// [`LoopError::StillRunning`] when a native worker makes no host call, because only a host
    /// call can stop it.
    pub fn stop(mut self, bound: Duration) -> Result<(), LoopError> {
        self.stop_within(bound)
    }

    /// Whether the loop runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn stop_within(&mut self, bound: Duration) -> Result<(), LoopError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.stopping.store(true, Ordering::Relaxed);
        self.queue_threads.stop();
        self.inner.notifier.ring();
        // Repeated, because a job may begin at this very moment.
        let interrupt = || self.inner.interrupt_all(Interrupted::Shutdown);
        let is_running = || !thread.is_finished() || self.queue_threads.is_running();
        if !end_within(is_running, bound, || ()) && !end_within(is_running, LAST_WAIT, interrupt) {
            return Err(LoopError::StillRunning(bound + LAST_WAIT));
        }
        // The thread itself reported a panic of the loop.
        drop(thread.join());
        self.queue_threads.join();
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

/// Waits until nothing runs any more. False when it still does after `bound`.
pub(crate) fn end_within(
    is_running: impl Fn() -> bool,
    bound: Duration,
    meanwhile: impl Fn(),
) -> bool {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(200);
    while is_running() {
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

fn run(inner: &Arc<Engine>, queue_threads: &Arc<QueueThreads>, stopping: &Arc<AtomicBool>) {
    let mut commit_watcher = CommitWatcher::of(&inner.connector);
    #[cfg(feature = "wasm")]
    let mut plugins = PluginWatch::of(inner);
    let mut executor = inner.executor();
    // How long until the next look at others' commits. It grows from one look to the next. It is
    // short after an enqueue inside the app's transaction, which may commit now or later.
    let mut look = LOOK_EVERY;
    while !stopping.load(Ordering::Relaxed) {
        commit_watcher.remember();
        // From before the pass, so that a jump in the middle of it is noticed too.
        let since = (Instant::now(), inner.clock.now());
        let next = match pass(inner, &mut executor, queue_threads, inner.clock.now()) {
            Ok(pass) if pass.did_something => pass.next_at,
            Ok(pass) => {
                inner.shrink();
                executor.shrink();
                pass.next_at.map(|next| next.max(inner.clock.now() + AFTER_NOTHING))
            }
            Err(error) => {
                observe::failed(inner, "a tick could not be made", &error);
                // What the failed pass wrote is no reason for the next one.
                commit_watcher.remember();
                Some(inner.clock.now() + AFTER_ERROR)
            }
        };
        let retry = queue_threads.next_retry();
        // Whatever ended the last sleep may have been someone's commit.
        #[cfg(feature = "wasm")]
        plugins.note_commits();
        let mut look_at_plugins = || {
            #[cfg(feature = "wasm")]
            plugins.look(inner, stopping);
        };
        let wake_at = (next, retry);
        let watched = (&mut commit_watcher, &mut look_at_plugins as &mut dyn FnMut());
        sleep_until(inner, wake_at, since, stopping, watched, &mut look);
    }
    inner.put_back(executor);
}

/// What one pass of the loop found.
struct Pass {
    did_something: bool,
    next_at: Option<Timestamp>,
}

/// Wakes the queues, then does what is due beside the jobs.
fn pass(
    inner: &Engine,
    executor: &mut Executor,
    queue_threads: &Arc<QueueThreads>,
    now: Timestamp,
) -> Result<Pass, StoreError> {
    // This comes first, because it writes nothing and waits for no lock.
    offer_due(inner, executor, queue_threads, now)?;
    let mut report = TickReport::at(now);
    let failed = upkeep::before_jobs(inner, executor, now, &mut report)?;
    let more = upkeep::prune(inner, executor, now, &mut report)?;
    let next_due = offer_due(inner, executor, queue_threads, now)?;
    let next = upkeep::next_wake(executor, now)?.into_iter().chain(next_due).min();
    let pass = Pass {
        did_something: more || !report.fired.is_empty(),
        next_at: if more { Some(now) } else { next },
    };
    failed.map_or(Ok(pass), Err)
}

/// Makes threads perform what is due. Returns when the next job is due in the queues where none is
/// due now.
fn offer_due(
    inner: &Engine,
    executor: &mut Executor,
    queue_threads: &Arc<QueueThreads>,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let queues = executor.books(|books| books.due_queues(now, &inner.has_worker()))?;
    let mut later = None;
    for queue in queues {
        match queue.due_priority {
            Some(priority) => queue_threads.offer(&queue.name, Some(priority)),
            None => later = later.into_iter().chain([queue.next_due_at]).min(),
        }
    }
    Ok(later)
}

/// Sleeps until the next instant, the bell, a commit of someone else, a jump of the wall clock, or
/// the longest sleep is over.
fn sleep_until(
    inner: &Engine,
    (next, retry): (Option<Timestamp>, Option<Instant>),
    (begun, wall): (Instant, Timestamp),
    stopping: &AtomicBool,
    (commit_watcher, look_at_plugins): (&mut CommitWatcher, &mut dyn FnMut()),
    look: &mut Duration,
) {
    while !stopping.load(Ordering::Relaxed) {
        look_at_plugins();
        if inner.notifier.take_expectation() {
            *look = Duration::from_millis(1);
        }
        let (slept, now) = (begun.elapsed(), inner.clock.now());
        if jumped(wall, now, slept) {
            return;
        }
        let until_due = next.map_or(SLEEP_MAX, |next| next.since(now));
        let until_retry =
            retry.map_or(SLEEP_MAX, |retry| retry.saturating_duration_since(Instant::now()));
        let left = until_due.min(until_retry).min(SLEEP_MAX.saturating_sub(slept));
        if left.is_zero() || commit_watcher.changed() || inner.notifier.wait(left.min(*look)) {
            return;
        }
        *look = (*look * 2).min(LOOK_EVERY);
    }
}

/// Whether the wall clock moved differently from the timer. If so, it is logged.
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
