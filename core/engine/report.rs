//! What a tick did.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value as Json;

use crate::queue::JobId;
use crate::run::AttemptError;
use crate::schedule::Fired;
use crate::time::Timestamp;

/// What one tick did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TickReport {
    /// The instant it was made for.
    pub now: Timestamp,
    /// The slots it decided.
    pub fired: Vec<Fired>,
    /// The attempts it made, in order.
    pub attempts: Vec<AttemptReport>,
    /// Jobs it took back from executors that are gone.
    pub rescued: usize,
    /// Finished jobs, ledger rows and events it deleted.
    pub pruned: usize,
    /// When there is something to do next. That is at once when this tick ended before the queue
    /// was empty, or before all was pruned. `None` when nothing is planned.
    pub next_wake_at: Option<Timestamp>,
}

impl TickReport {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self {
            now,
            fired: Vec::new(),
            attempts: Vec::new(),
            rescued: 0,
            pruned: 0,
            next_wake_at: None,
        }
    }
}

/// One attempt at a job.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AttemptReport {
    /// The job.
    pub job: JobId,
    /// Its worker.
    pub worker: String,
    /// Its queue.
    pub queue: String,
    /// Which attempt it was.
    pub attempt: u32,
    /// The schedule that made it.
    pub schedule: Option<String>,
    /// How long it had been due when it was claimed.
    pub wait: Duration,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// How long it took, from the worker's start to the end of its commit.
    pub elapsed: Duration,
    /// Rows of the app's tables it changed, in what was committed.
    pub rows_changed: u64,
    /// Audit rows it wrote, in what was committed.
    pub audited: u64,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// The job is completed, with this result.
    Completed(Option<Json>),
    /// The job runs again at this time. No attempt was used.
    Snoozed(Timestamp),
    /// The job was cancelled, for this reason.
    Cancelled(String),
    /// It failed, and is tried again at this time.
    Retryable(AttemptError, Timestamp),
    /// It failed for good: the attempts are used up, or no further one can help.
    Discarded(AttemptError),
    /// The job went back as it was, with its attempt unused: the loop is stopping, or the worker is
    /// not there or is too old for the args.
    Released,
    /// The claim was stale, or the end could not be recorded. Nothing was kept. The job goes to
    /// whoever holds it, or finds its lease over.
    Lost(AttemptError),
}

impl AttemptOutcome {
    /// How it ended, as one word.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Completed(_) => "completed",
            Self::Snoozed(_) => "snoozed",
            Self::Cancelled(_) => "cancelled",
            Self::Retryable(..) => "retryable",
            Self::Discarded(_) => "discarded",
            Self::Released => "released",
            Self::Lost(_) => "lost",
        }
    }

    /// The failure, if it was one.
    #[must_use]
    pub fn error(&self) -> Option<&AttemptError> {
        match self {
            Self::Retryable(error, _) | Self::Discarded(error) | Self::Lost(error) => Some(error),
            _ => None,
        }
    }
}

/// What a dry run would have changed in one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TableChange {
    /// The table.
    pub table: String,
    /// Rows it would have inserted.
    pub inserted: u64,
    /// Rows it would have updated.
    pub updated: u64,
    /// Rows it would have deleted.
    pub deleted: u64,
}

impl From<(String, [u64; 3])> for TableChange {
    fn from((table, [inserted, updated, deleted]): (String, [u64; 3])) -> Self {
        Self { table, inserted, updated, deleted }
    }
}
