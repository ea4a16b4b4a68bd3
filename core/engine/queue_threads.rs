//! The threads that perform jobs while the loop runs.
//!
//! They are started when queues have due jobs, and end when they had nothing to do for some
//! seconds. A queue has at most as many threads as its concurrency, and all queues together have at
//! most as many as the builder allows. Each thread has a connection of its own.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::dispatch::{Dispatch, TurnEnd};
use super::executor::Executor;
use super::observe;
use super::performing;
use super::report::AttemptOutcome;
use super::shared::Engine;
use super::tick_loop::STACK_BYTES;
use crate::mutex::lock;

/// How long a thread waits for another queue before it ends.
const IDLE_MAX: Duration = Duration::from_secs(3);

/// How long a thread stays with one queue while other queues wait for a thread.
const TURN_MAX: Duration = Duration::from_millis(10);

/// How soon a queue is looked at again when its jobs may not begin because too many of them are
/// executing in the whole file.
const AFTER_BLOCKED: Duration = Duration::from_millis(100);

/// How long after a failure the next try is made.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// The threads of one loop.
pub(super) struct QueueThreads {
    inner: Arc<Engine>,
    dispatch: Dispatch,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

/// A thread's turn at a queue, which ends with this value, even in a panic.
struct Turn<'a> {
    threads: &'a QueueThreads,
    queue: String,
    end: TurnEnd,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.threads.dispatch.end_turn(&self.queue, self.end);
    }
}

impl QueueThreads {
    pub(super) fn new(inner: &Arc<Engine>) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            dispatch: Dispatch::default(),
            handles: Mutex::default(),
        })
    }

    /// Says that this queue has due jobs, and the priority of the next one if that is known anew. A
    /// thread performs them as soon as one is free.
    pub(super) fn offer(self: &Arc<Self>, queue: &str, priority: Option<i64>) {
        let settings = &self.inner.settings;
        let concurrency = settings.queues.concurrency(queue);
        if self.dispatch.offer(queue, priority, concurrency, settings.threads) {
            self.start();
        }
    }

    fn start(self: &Arc<Self>) {
        let threads = Arc::clone(self);
        let builder =
            std::thread::Builder::new().name("verger-jobs".into()).stack_size(STACK_BYTES);
        let mut handles = self.handles();
        handles.retain(|handle| !handle.is_finished());
        match builder.spawn(move || threads.run()) {
            Ok(handle) => handles.push(handle),
            Err(error) => {
                self.dispatch.lose_thread();
                tracing::error!(%error, "the operating system gave no thread for jobs; those there are go on");
            }
        }
    }

    fn handles(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        lock(&self.handles)
    }

    fn run(self: &Arc<Self>) {
        let mut counted = Counted { threads: self, ended: false };
        let mut executor = self.inner.executor();
        while let Some(queue) = self.dispatch.take(IDLE_MAX) {
            let mut turn = Turn { threads: self, queue, end: TurnEnd::Blocked(AFTER_ERROR) };
            let (end, is_news) = self.perform(&mut executor, &turn.queue);
            turn.end = end;
            drop(turn);
            if is_news {
                // Something now waits for a later time, and the loop has to know.
                self.inner.notifier.ring();
            }
        }
        counted.ended = true;
        self.inner.put_back(executor);
    }

    /// Performs due jobs of a queue, one after the other. Returns how that ended, and whether the
    /// loop has something new to wait for.
    fn perform(self: &Arc<Self>, executor: &mut Executor, queue: &str) -> (TurnEnd, bool) {
        let (threads, begun) = (Arc::clone(self), Instant::now());
        executor.begin_turn(Some(queue), move || threads.goes_on(begun));
        let ended = self.perform_turn(executor, queue, begun);
        performing::end_turn(&self.inner, executor, &self.inner.clock);
        ended
    }

    /// Whether a turn that began at `begun` goes on after a job.
    fn goes_on(&self, begun: Instant) -> bool {
        !self.dispatch.is_stopping() && (begun.elapsed() < TURN_MAX || !self.dispatch.has_line())
    }

    fn perform_turn(
        self: &Arc<Self>,
        executor: &mut Executor,
        queue: &str,
        begun: Instant,
    ) -> (TurnEnd, bool) {
        let inner = &*self.inner;
        let mut is_news = false;
        loop {
            let concurrency = inner.settings.queues.concurrency(queue);
            if !executor.has_following() && self.dispatch.leave_if_crowded(queue, concurrency) {
                return (TurnEnd::Left, is_news);
            }
            if concurrency > 1 {
                // Another thread may take the next jobs before this one begins.
                self.offer(queue, None);
            }
            match performing::perform_due(inner, executor, &inner.clock, Some(queue)) {
                Ok(attempts) if attempts.is_empty() => {
                    return match performing::is_due(inner, executor, inner.clock.now(), Some(queue))
                    {
                        Ok(true) => (TurnEnd::Blocked(AFTER_BLOCKED), true),
                        _ => (TurnEnd::Empty, is_news),
                    };
                }
                Ok(attempts) => {
                    is_news |= attempts
                        .iter()
                        .any(|attempt| !matches!(attempt.outcome, AttemptOutcome::Completed(_)));
                }
                Err(error) => {
                    observe::failed(inner, format!("the queue `{queue}` could not go on"), &error);
                    return (TurnEnd::Blocked(AFTER_ERROR), true);
                }
            }
            if !executor.has_following() && !self.goes_on(begun) {
                return (TurnEnd::More, is_news);
            }
        }
    }

    /// When the next blocked queue is to be offered again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.dispatch.next_retry()
    }

    /// Makes every thread end after its present job.
    pub(super) fn stop(&self) {
        self.dispatch.stop();
    }

    pub(super) fn is_running(&self) -> bool {
        self.handles().iter().any(|handle| !handle.is_finished())
    }

    /// Waits for the threads, which must all have been told to stop.
    pub(super) fn join(&self) {
        // The thread itself reported its panic.
        std::mem::take(&mut *self.handles()).into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// Stops counting a thread that panics.
struct Counted<'a> {
    threads: &'a QueueThreads,
    ended: bool,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.threads.dispatch.lose_thread();
        }
    }
}
