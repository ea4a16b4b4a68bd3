//! Why an attempt failed.

use std::fmt;

use verger_worker::{HostError, WorkerError, code};

pub(super) use crate::store::{Phase, from_books, from_store};
use crate::text::reason;

/// An attempt failed: a stable code and a sentence, as in the job's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptError {
    /// A [code of the host](verger_worker::code), a worker's own word (`failed` if it has none), or
    /// one of the engine's: `args`, `unknown-worker`, `plugin`, `trap`, `memory`, `invalid-result`,
    /// `panic`, `crashed`.
    pub code: String,
    /// What happened, in words.
    pub message: String,
}

impl AttemptError {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_string(), message: message.into() }
    }
}

/// Why args of an earlier version could not be brought into the present form.
pub(crate) enum Unmigrated {
    /// The worker refused them, and would refuse them the next time too.
    Refused(AttemptError),
    /// The worker failed at them.
    Failed(AttemptError),
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl std::error::Error for AttemptError {}

impl AttemptError {
    /// What a worker says of its own failure. Only the host knows whether a claim is lost. If a
    /// worker could say so, its job would be left until the lease runs out.
    pub(crate) fn of_worker(error: HostError) -> Self {
        let code = match code::or_failed(&error.code) {
            code::LEASE_LOST => code::FAILED,
            code => code,
        };
        Self::new(code, reason(error.message))
    }

    /// The same, of a native worker.
    pub(crate) fn of_native(error: WorkerError) -> Self {
        Self::of_worker(error.into_error())
    }
}

impl From<HostError> for AttemptError {
    fn from(error: HostError) -> Self {
        Self { code: error.code, message: error.message }
    }
}
