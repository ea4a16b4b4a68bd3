//! What the engine goes by.

use std::collections::HashMap;

use crate::queue::{Backoff, Retention};

/// What the engine goes by.
pub(crate) struct Settings {
    pub(crate) backoff: Backoff,
    /// Of the workers that have their own.
    pub(crate) backoffs: HashMap<String, Backoff>,
    /// Of the queues that perform more than one job at a time.
    pub(crate) concurrency: HashMap<String, usize>,
    pub(crate) retention: Retention,
}

impl Settings {
    pub(crate) fn backoff(&self, worker: &str) -> Backoff {
        self.backoffs.get(worker).copied().unwrap_or(self.backoff)
    }
}
