//! What the server said, in the words of the other store.

use postgres::Error;
use postgres::error::SqlState;
use verger_worker::{HostError, code};

use crate::store::{ServerFailure, StoreError, StoreErrorKind};
use crate::text::one_line;

/// Says what was being done when the server refused it.
pub(super) trait Doing<T> {
    /// `doing` completes "could not …".
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| store_error(doing, &error))
    }
}

/// The error with what was being done.
pub(super) fn store_error(doing: &'static str, error: &Error) -> StoreError {
    let message = match advice(kind_of(error)) {
        Some(advice) => format!("{advice} (PostgreSQL: {})", words(error)),
        None => format!("PostgreSQL refused the statement: {}", words(error)),
    };
    StoreError::of_server(doing, ServerFailure { kind: kind_of(error), message })
}

/// No connection came about.
pub(super) fn not_connected(doing: &'static str, error: &Error) -> StoreError {
    let why = words(error);
    unusable(doing, format!("the server cannot be reached, or refused the connection ({why})"))
}

/// A database that cannot be used, for this reason.
pub(super) fn unusable(doing: &'static str, reason: impl Into<String>) -> StoreError {
    let failure = ServerFailure { kind: StoreErrorKind::CannotOpen, message: reason.into() };
    StoreError::of_server(doing, failure)
}

fn advice(kind: StoreErrorKind) -> Option<&'static str> {
    Some(match kind {
        StoreErrorKind::Busy => "another transaction stood in the way; it is tried again",
        StoreErrorKind::Full => "the server's disk, memory or number of connections is used up",
        StoreErrorKind::ReadOnly => {
            "the database cannot be written: the server is in recovery or read-only, or the role lacks a grant"
        }
        StoreErrorKind::Corrupt => "the database is damaged; restore it from a backup",
        StoreErrorKind::CannotOpen => "the server cannot be reached, or refused the connection",
        StoreErrorKind::Gone => "the connection to the server was lost",
        StoreErrorKind::Constraint => "a constraint of the table refused the row",
        StoreErrorKind::Io | StoreErrorKind::Other => return None,
    })
}

/// The kind of an error, by the class of its SQLSTATE.
pub(super) fn kind_of(error: &Error) -> StoreErrorKind {
    if error.is_closed() {
        return StoreErrorKind::Gone;
    }
    let Some(state) = error.code() else {
        // Without a SQLSTATE the server said nothing: the socket failed, or never was.
        return match std::error::Error::source(error) {
            Some(source) if source.is::<std::io::Error>() => StoreErrorKind::Gone,
            _ => StoreErrorKind::Other,
        };
    };
    match state.code() {
        "40001" | "40P01" | "55P03" => StoreErrorKind::Busy,
        "25006" | "42501" => StoreErrorKind::ReadOnly,
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04" => StoreErrorKind::Gone,
        "XX001" | "XX002" => StoreErrorKind::Corrupt,
        code => match code.get(..2).unwrap_or_default() {
            "23" => StoreErrorKind::Constraint,
            "53" => StoreErrorKind::Full,
            "58" => StoreErrorKind::Io,
            "08" | "28" | "3D" => StoreErrorKind::CannotOpen,
            _ => StoreErrorKind::Other,
        },
    }
}

/// Whoever sent it, the statement was cancelled.
pub(super) fn is_cancelled(error: &Error) -> bool {
    error.code() == Some(&SqlState::QUERY_CANCELED)
}

/// A table was changed since the statement was prepared, and what it returns with it.
pub(super) fn is_outdated(error: &Error) -> bool {
    error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
        && error.as_db_error().is_some_and(|said| said.message().contains("cached plan"))
}

/// The statement itself is wrong: its words, names or types.
pub(super) fn is_of_the_statement(error: &Error) -> bool {
    error.code().is_some_and(|state| state.code().starts_with("42"))
}

/// It is about a table, a column, a type, or a function of such arguments.
#[cfg(feature = "wasm")]
pub(super) fn is_about_names(error: &Error) -> bool {
    is_of_the_statement(error) && error.code() != Some(&SqlState::SYNTAX_ERROR)
}

/// Another transaction changed what this one had read, or the two waited for each other.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED)
    )
}

/// The connection is of no use any more.
pub(super) fn is_lost(error: &Error) -> bool {
    matches!(kind_of(error), StoreErrorKind::Gone | StoreErrorKind::CannotOpen)
}

/// What the server said, on one line.
pub(super) fn words(error: &Error) -> String {
    let text = match error.as_db_error() {
        Some(said) => match said.hint() {
            Some(hint) => format!("{} ({hint})", said.message()),
            None => said.message().to_string(),
        },
        None => {
            let mut text = error.to_string();
            if let Some(source) = std::error::Error::source(error) {
                text = format!("{text}: {source}");
            }
            text
        }
    };
    one_line(&text).into_owned()
}

/// A failed statement in the words a worker is told.
pub(super) fn host_error(error: &Error) -> HostError {
    let text = words(error);
    let Some(state) = error.code() else {
        return match kind_of(error) {
            StoreErrorKind::Gone => HostError::new(code::STORE, text),
            // A value that could not be sent, or read.
            _ => HostError::new(code::TYPE, text),
        };
    };
    let code = match state.code() {
        "40001" | "40P01" => code::CONFLICT,
        "55P03" => code::BUSY,
        "42501" => code::DENIED,
        state => match state.get(..2).unwrap_or_default() {
            "23" => code::CONSTRAINT,
            // A wrong value, or a trigger that raised an exception.
            "22" | "P0" => code::ROW,
            "42" | "26" | "34" => code::SQL,
            "54" => code::LIMIT,
            _ => code::STORE,
        },
    };
    HostError::new(code, text)
}
