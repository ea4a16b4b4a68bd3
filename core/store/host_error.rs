//! What a worker is told of a failure: a stable code and a sentence.

use rusqlite::ErrorCode;
use verger_worker::{HostError, code};

use super::error::{StoreError, StoreErrorKind, advice, kind_of};

/// When a statement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// When it was prepared, or its parameters were bound. It fails the same way for every row.
    Prepare,
    /// When it was run, because of these values.
    Step,
}

/// Why a statement of a worker failed.
#[derive(Debug)]
pub(crate) struct StatementError(rusqlite::Error);

impl From<rusqlite::Error> for StatementError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error)
    }
}

impl StatementError {
    /// It was ended because of its time or a limit.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.0.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
    }

    /// A value or a row is longer than it may be.
    pub(crate) fn is_too_big(&self) -> bool {
        self.0.sqlite_error_code() == Some(ErrorCode::TooBig)
    }

    /// The error in the words the worker is told. `denied` is what the authorizer noted.
    pub(crate) fn in_words(&self, denied: Option<String>, phase: Phase) -> HostError {
        let error = &self.0;
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
        if text.contains("UPSERT") && text.contains("view")
            || text.contains("UPSERT not implemented")
        {
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
            // Behind a tenant's walls, what a trigger of the app lacks is found only when it is
            // run. Some statements are refused there whatever the row.
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
}

/// A failed statement of the engine, in the words a worker is told.
pub(crate) fn from_store(error: &rusqlite::Error) -> HostError {
    from_engine(error, error.to_string())
}

/// The same, for what the engine asked of its books.
pub(crate) fn from_books(error: &StoreError) -> HostError {
    match error.sqlite() {
        Some(error) => from_store(error),
        None => HostError::new(code::STORE, error.to_string()),
    }
}

fn from_engine(error: &rusqlite::Error, text: String) -> HostError {
    match kind_of(error) {
        StoreErrorKind::Busy => HostError::new(code::BUSY, advice(StoreErrorKind::Busy)),
        StoreErrorKind::Other | StoreErrorKind::Constraint => HostError::new(code::SQL, text),
        kind => HostError::new(code::STORE, format!("{}: {text}", advice(kind))),
    }
}
