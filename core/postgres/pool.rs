//! The threads of a node: one that keeps, and those that perform, started when there is work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{Builder as Thread, JoinHandle};
use std::time::{Duration, Instant};

use super::executor::perform_next;
use super::keeper;
use super::node::Node;
use crate::engine::{LoopError, end_within};
use crate::mutex::lock;
use crate::run::Interrupted;

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(5);

/// How long a thread waits after the server failed it.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How much longer than asked for a stop may take, for jobs that were told to end.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// The threads that perform jobs.
pub(super) struct Pool {
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The node, while its loop runs.
    node: Option<Weak<Node>>,
    threads: usize,
    idle: usize,
    /// Grows with each call for work, so that none is missed between a look and a wait.
    calls: u64,
}

impl Pool {
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Wakes a thread that waits, or starts one. Does nothing while the loop does not run.
    pub(super) fn work_is_there(&self) {
        let mut state = lock(&self.state);
        let Some(node) = state.node.as_ref().and_then(Weak::upgrade) else { return };
        state.calls += 1;
        if state.idle > 0 {
            self.changed.notify_one();
        } else if state.threads < self.most {
            state.threads += 1;
            let started =
                Thread::new().name("verger-job".to_string()).spawn(move || perform(&node));
            if let Err(error) = started {
                state.threads -= 1;
                tracing::error!(%error, "the operating system gave no thread for a job");
            }
        }
    }

    fn is_running(&self) -> bool {
        lock(&self.state).threads > 0
    }

    /// Waits for work. False when there was none for long, or the loop is stopping: then the thread
    /// is to end.
    fn wait(&self, seen: u64) -> bool {
        let mut state = lock(&self.state);
        let until = Instant::now() + IDLE;
        while state.calls == seen && state.node.is_some() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.idle += 1;
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
        }
        let goes_on = state.calls != seen && state.node.is_some();
        if !goes_on {
            state.threads -= 1;
        }
        goes_on
    }

    fn calls(&self) -> u64 {
        lock(&self.state).calls
    }
}

/// Performs jobs until there are none for a while.
fn perform(node: &Arc<Node>) {
    let mut connection = node.connection();
    loop {
        let seen = node.pool.calls();
        loop {
            let performed =
                catch_unwind(AssertUnwindSafe(|| perform_next(node, &mut connection, &node.clock)));
            match performed {
                Ok(Ok(Some(_))) if node.pool.is_open() => continue,
                Ok(Ok(_)) => break,
                Ok(Err(error)) => tracing::error!(%error, "no job could be claimed"),
                // Of a clock, or of whoever listens to the log. The job goes to its lease.
                Err(_) => tracing::error!("a thread panicked outside a worker; it goes on"),
            }
            // Whatever state it was left in.
            connection.session.forget();
            std::thread::sleep(AFTER_FAILURE);
            break;
        }
        if !node.pool.wait(seen) {
            break;
        }
    }
    node.give_back(connection);
    // The busy hour is over for components too.
    if let Some(guests) = node.guests.get() {
        guests.forget_idle();
    }
}

impl Pool {
    fn is_open(&self) -> bool {
        lock(&self.state).node.is_some()
    }
}

/// The loop of a node at work. Dropping it stops it.
#[derive(Debug)]
#[must_use = "the loop stops when this is dropped"]
pub struct Working {
    node: NodeRef,
    stopping: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
}

struct NodeRef(Arc<Node>);

impl std::fmt::Debug for NodeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Node")
    }
}

/// Starts the loop.
pub(super) fn start(node: &Arc<Node>) -> Result<Working, LoopError> {
    let stopping = Arc::new(AtomicBool::new(false));
    if lock(&node.pool.state).node.replace(Arc::downgrade(node)).is_some() {
        return Err(LoopError::Thread(std::io::Error::other("the loop of this node runs already")));
    }
    let (kept, stop) = (Arc::clone(node), Arc::clone(&stopping));
    let keeper = Thread::new()
        .name("verger-keeper".to_string())
        .spawn(move || keeper::keep(&kept, &stop))
        .map_err(LoopError::Thread)?;
    Ok(Working { node: NodeRef(Arc::clone(node)), stopping, keeper: Some(keeper) })
}

impl Working {
    /// Stops the loop. Jobs that are being performed may end within `bound`. Those that do not are
    /// told to end; they go back as they were, with their attempt unused.
    ///
    /// # Errors
    /// [`LoopError::StillRunning`] when a worker did not return within two seconds more. It can
    /// commit nothing, and its job runs again.
    pub fn stop(mut self, bound: Duration) -> Result<(), LoopError> {
        self.stop_within(bound)
    }

    /// Whether the loop runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| !keeper.is_finished())
    }

    fn stop_within(&mut self, bound: Duration) -> Result<(), LoopError> {
        let Some(keeper) = self.keeper.take() else { return Ok(()) };
        let node = &self.node.0;
        self.stopping.store(true, Ordering::Relaxed);
        lock(&node.pool.state).node = None;
        node.pool.changed.notify_all();
        // The keeper waits for this too. Nobody waits for a server that says nothing.
        let told = Arc::clone(node);
        aside(move || told.notify(&mut lock(&told.front).session));
        let is_running = || !keeper.is_finished() || node.pool.is_running();
        if end_within(is_running, bound, || ()) {
            return Ok(());
        }
        let told = Arc::clone(node);
        aside(move || told.interrupt(None, Interrupted::Shutdown));
        match end_within(is_running, LAST_WAIT, || ()) {
            true => Ok(()),
            false => Err(LoopError::StillRunning(bound + LAST_WAIT)),
        }
    }
}

/// Does this on a thread that nobody waits for.
fn aside(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = Thread::new().spawn(work) {
        tracing::error!(%error, "the operating system gave no thread");
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Err(error) = self.stop_within(Duration::from_secs(2)) {
            tracing::error!(%error, "the loop was dropped while a worker ran");
        }
    }
}
