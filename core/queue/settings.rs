//! How the jobs of a queue are performed.

use super::bounds::is_queue_name;

/// The most jobs of one queue at a time in one process. A component needs an instance of the pool.
const CONCURRENCY_MAX: usize = 32;

/// How many jobs of a queue may be performed at a time.
///
/// A queue needs no settings. Without them its jobs are performed one at a time in each process, in
/// the order of priority, due time and id.
///
/// ```
/// use verger::Queue;
/// let mail = Queue::new("mail").concurrency(4);
/// // Everywhere, however many processes have the file open: one after the other.
/// let invoices = Queue::new("invoices").global(1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a queue's settings do nothing until Verger is given them"]
pub struct Queue {
    pub(crate) name: String,
    pub(crate) concurrency: usize,
    pub(crate) global: Option<usize>,
}

/// Settings of a queue that are not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the settings of queue `{name}` are refused: {reason}")]
pub struct QueueError {
    /// The queue.
    pub name: String,
    /// What is wrong.
    pub reason: String,
}

impl Queue {
    /// The settings that every queue has by default: one job at a time in each process.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), concurrency: 1, global: None }
    }

    /// How many of its jobs this process performs at a time, from 1 to 32. Default 1. Each has a
    /// thread of its own while the loop runs, as far as
    /// [`Builder::threads`](crate::Builder::threads) allows.
    ///
    /// SQLite lets only one transaction write at a time, so this pays for workers that compute, or
    /// wait for something else, outside their writes.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.concurrency = jobs;
        self
    }

    /// How many of its jobs may be performed at a time in the whole file. Each process with this
    /// setting counts the jobs of all processes, in the transaction that claims the next. With 1
    /// the jobs of the queue are performed one after the other, in their order, whichever process
    /// performs them.
    ///
    /// A process notices within a tenth of a second that another's job has ended. The jobs of a
    /// process that died count until they are taken back. This setting does not raise the
    /// [`concurrency`](Self::concurrency) within this process.
    pub fn global(mut self, jobs: usize) -> Self {
        self.global = Some(jobs);
        self
    }

    pub(crate) fn check(&self) -> Result<(), QueueError> {
        let refused =
            |reason: &str| Err(QueueError { name: self.name.clone(), reason: reason.to_string() });
        match self {
            Self { name, .. } if !is_queue_name(name) => {
                refused("the name of a queue must have 1 to 128 bytes")
            }
            Self { concurrency, .. } if !(1..=CONCURRENCY_MAX).contains(concurrency) => {
                refused("from 1 to 32 of its jobs may be performed at a time in one process")
            }
            Self { global: Some(0), .. } => {
                refused("at least 1 of its jobs must be allowed in the file; to stop it, pause it")
            }
            _ => Ok(()),
        }
    }
}
