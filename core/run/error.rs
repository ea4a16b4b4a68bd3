//! Why an attempt failed.

use std::fmt;

use rusqlite::ErrorCode;
use verger_worker::{HostError, code};

use crate::store::{StoreErrorKind, advice, kind_of};

/// An attempt failed: a stable code and a sentence, as they stand in the job's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptError {
    /// `failed` (the worker's own word), `args`, `unknown-worker`, `plugin`, `trap`, `memory`,
    /// `deadline`, `cancelled`, `shutdown`, `lease-lost`, `invalid-result`, `panic`, `store`,
    /// `busy`, `lock-held`, `crashed`.
    pub code: String,
    /// What happened, in words.
    pub message: String,
}

impl AttemptError {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_string(), message: message.into() }
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl std::error::Error for AttemptError {}

impl From<HostError> for AttemptError {
    fn from(error: HostError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

/// A failed statement of a worker, in the words it is told. `denied` is what the authorizer noted.
pub(super) fn from_statement(error: &rusqlite::Error, denied: Option<String>) -> HostError {
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
    match error.sqlite_error_code() {
        Some(ErrorCode::AuthorizationForStatementDenied) => HostError::new(code::DENIED, text),
        Some(ErrorCode::ConstraintViolation) => HostError::new(code::CONSTRAINT, text),
        Some(ErrorCode::TooBig | ErrorCode::OutOfMemory) => HostError::new(code::LIMIT, text),
        _ => from_engine(error, text),
    }
}

/// A failed statement of the engine, in the words a worker is told.
pub(super) fn from_store(error: &rusqlite::Error) -> HostError {
    from_engine(error, error.to_string())
}

fn from_engine(error: &rusqlite::Error, text: String) -> HostError {
    match kind_of(error) {
        StoreErrorKind::Busy => HostError::new(code::BUSY, advice(StoreErrorKind::Busy)),
        StoreErrorKind::Other | StoreErrorKind::Constraint => HostError::new(code::SQL, text),
        kind => HostError::new(code::STORE, format!("{}: {text}", advice(kind))),
    }
}
