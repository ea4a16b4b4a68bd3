//! The engine's settings.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use super::habits::GroupCommit;
use crate::queue::{Backoff, Queue, Retention};

/// The engine's settings.
pub(crate) struct Settings {
    pub(crate) backoff: Backoff,
    /// The backoffs of workers that have their own.
    pub(crate) backoffs: HashMap<String, Backoff>,
    pub(crate) queues: Queues,
    /// The most threads that perform jobs.
    pub(crate) threads: usize,
    pub(crate) retention: Retention,
    /// Whether short jobs share transactions.
    pub(crate) group_commit: GroupCommit,
    /// Whether this program is the app that registers the schedules.
    pub(crate) is_the_app: bool,
}

impl Settings {
    pub(crate) fn backoff(&self, worker: &str) -> Backoff {
        self.backoffs.get(worker).copied().unwrap_or(self.backoff)
    }
}

/// The settings of the queues that have some. They can change at any time.
#[derive(Default)]
pub(crate) struct Queues(RwLock<HashMap<String, Queue>>);

impl Queues {
    /// Sets the settings of this queue, and replaces those before.
    pub(crate) fn set(&self, queue: Queue) {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        queues.insert(queue.name.clone(), queue);
    }

    /// How many of its jobs may be performed at a time in this process.
    pub(crate) fn concurrency(&self, queue: &str) -> usize {
        self.of(queue, |queue| queue.concurrency).unwrap_or(1)
    }

    /// How many of its jobs may be performed at a time in the whole file, if that is bounded.
    pub(crate) fn most_in_file(&self, queue: &str) -> Option<usize> {
        self.of(queue, |queue| queue.global).flatten()
    }

    fn of<T>(&self, queue: &str, get: impl FnOnce(&Queue) -> T) -> Option<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(queue).map(get)
    }
}
