//! Why an attempt failed.

use std::fmt;

use rusqlite::ErrorCode;
use verger_worker::{HostError, WorkerError, code};

use crate::store::{StoreError, StoreErrorKind, advice, kind_of};
use crate::text::reason;

/// An attempt failed: a stable code and a sentence, as they stand in the job's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptError {
    /// A [code of the host](verger_worker::code), a worker's own word (`failed` where it has none), or
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
    /// The worker refused them: the same args fare no better the next time.
    Refused(AttemptError),
    /// The worker failed over them.
    Failed(AttemptError),
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl std::error::Error for AttemptError {}

impl AttemptError {
    /// What a worker says of its own failure. A claim that is lost is known to the host alone: by
    /// another's word it would be left to its lease.
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

/// A failed statement of a worker, in the words it is told. `denied` is what the authorizer noted.
pub(super) fn from_statement(
    error: &rusqlite::Error,
    denied: Option<String>,
    phase: Phase,
) -> HostError {
    let text = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    };
    match error {
        rusqlite::Error::ExecuteReturnedResults => {
            return HostError::new(
                code::INVALID,
                "the statement returns rows: use query, not execute",
            );
        }
        rusqlite::Error::MultipleStatement => {
            return HostError::new(
                code::SQL,
                "more than one statement in one text: send them one by one",
            );
        }
        _ => {}
    }
    // A refused function arrives as a plain SQL error.
    if let Some(reason) = denied {
        return HostError::new(code::DENIED, reason);
    }
    if text.contains("UPSERT") && text.contains("view") || text.contains("UPSERT not implemented") {
        return HostError::new(
            code::SQL,
            "UPSERT is not possible on a view, nor on a table that is confined to one organization: UPDATE, and INSERT what was not there",
        );
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::AuthorizationForStatementDenied) => HostError::new(code::DENIED, text),
        Some(ErrorCode::ConstraintViolation) => HostError::new(code::CONSTRAINT, text),
        Some(ErrorCode::TooBig | ErrorCode::OutOfMemory) => HostError::new(code::LIMIT, text),
        Some(ErrorCode::TypeMismatch) => HostError::new(code::TYPE, text),
        // Behind a tenant's walls, what a trigger of the app lacks is found only when it is run; and some
        // statements are refused there whatever the row.
        Some(ErrorCode::Unknown)
            if phase == Phase::Step
                && !text.starts_with("no such ")
                && !text.starts_with("cannot ") =>
        {
            HostError::new(code::ROW, text)
        }
        _ => from_engine(error, text),
    }
}

/// When a statement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// When it was prepared, or its parameters were bound: it fails the same way for every row.
    Prepare,
    /// When it was run: on these values.
    Step,
}

/// A failed statement of the engine, in the words a worker is told.
pub(super) fn from_store(error: &rusqlite::Error) -> HostError {
    from_engine(error, error.to_string())
}

/// The same, of what the engine asked of its books.
pub(super) fn from_books(error: &StoreError) -> HostError {
    from_store(error.sqlite())
}

fn from_engine(error: &rusqlite::Error, text: String) -> HostError {
    match kind_of(error) {
        StoreErrorKind::Busy => HostError::new(code::BUSY, advice(StoreErrorKind::Busy)),
        StoreErrorKind::Other | StoreErrorKind::Constraint => HostError::new(code::SQL, text),
        kind => HostError::new(code::STORE, format!("{}: {text}", advice(kind))),
    }
}
