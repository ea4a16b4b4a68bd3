//! How an attempt ended.

use serde_json::Value as Json;

use crate::error::WorkerError;

/// What `perform` returns.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The job is completed.
    Done,
    /// The job is completed, and this is its result.
    DoneWith(Json),
    /// The attempt failed. What it wrote since its last checkpoint is rolled back. The job is tried
    /// again with backoff, and discarded when its attempts are used up. An `Err` from `perform`
    /// means the same.
    Failed(WorkerError),
    /// As `Failed`, but the job is discarded at once, because another attempt would not help. An
    /// `Err` that [is final](WorkerError::is_final) means the same.
    Discard(WorkerError),
    /// Run the job again after this many seconds, at least 1, without using an attempt. What was
    /// written stays.
    Snooze(u32),
    /// End the job as cancelled, for this reason. What was written stays.
    Cancel(String),
}
