//! What can go wrong with the database, and what to do about it.

use std::fmt;

use rusqlite::ErrorCode;

/// A statement of the engine failed.
#[derive(Debug)]
pub struct StoreError {
    doing: &'static str,
    source: Source,
}

/// The error of the database itself.
#[derive(Debug)]
enum Source {
    Sqlite(rusqlite::Error),
    #[cfg(feature = "postgres")]
    Server(ServerFailure),
}

/// What a database server said, or why it could not be reached.
#[cfg(feature = "postgres")]
#[derive(Debug, Clone)]
pub(crate) struct ServerFailure {
    pub(crate) kind: StoreErrorKind,
    /// A sentence, without a line break.
    pub(crate) message: String,
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Another connection held the lock for longer than the busy timeout.
    Busy,
    /// The disk, or the file's page limit, is full.
    Full,
    /// The file or its folder cannot be written.
    ReadOnly,
    /// The file is damaged, or no SQLite database at all.
    Corrupt,
    /// The operating system could not read or write.
    Io,
    /// The file cannot be opened.
    CannotOpen,
    /// The file was deleted, moved or replaced while it was open.
    Gone,
    /// A constraint of a table refused the row.
    Constraint,
    /// Anything else.
    Other,
}

impl StoreError {
    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        match &self.source {
            Source::Sqlite(source) => kind_of(source),
            #[cfg(feature = "postgres")]
            Source::Server(failure) => failure.kind,
        }
    }

    /// SQLite's own error, if it is one of SQLite.
    #[must_use]
    pub fn sqlite(&self) -> Option<&rusqlite::Error> {
        match &self.source {
            Source::Sqlite(source) => Some(source),
            #[cfg(feature = "postgres")]
            Source::Server(_) => None,
        }
    }

    /// An error of a database server. `doing` completes "could not …".
    #[cfg(feature = "postgres")]
    pub(crate) fn of_server(doing: &'static str, failure: ServerFailure) -> Self {
        Self { doing, source: Source::Server(failure) }
    }

    /// Whether the statement failed for the row it was about: see [`is_of_the_row`].
    pub(crate) fn is_of_the_row(&self) -> bool {
        matches!(self.kind(), StoreErrorKind::Constraint | StoreErrorKind::Other)
    }

    /// SQLite's own error, for a caller who says what was being done.
    pub(crate) fn into_sqlite(self) -> rusqlite::Error {
        match self.source {
            Source::Sqlite(source) => source,
            #[cfg(feature = "postgres")]
            Source::Server(_) => rusqlite::Error::ToSqlConversionFailure(Box::new(self)),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: ", self.doing)?;
        match &self.source {
            Source::Sqlite(source) => say(source, f),
            #[cfg(feature = "postgres")]
            Source::Server(failure) => f.write_str(&failure.message),
        }
    }
}

/// What went wrong in a file, and what to do.
fn say(source: &rusqlite::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let kind = kind_of(source);
    f.write_str(match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            "the file is no SQLite database, or it is encrypted and was opened without its key; restore it from a backup, or give the key"
        }
        _ => advice(kind),
    })?;
    match kind {
        // The advice says all there is.
        StoreErrorKind::Busy | StoreErrorKind::Full | StoreErrorKind::Gone => Ok(()),
        _ => write!(f, " (SQLite: {source})"),
    }
}

impl std::error::Error for StoreError {}

/// The kind of a SQLite error.
pub(crate) fn kind_of(error: &rusqlite::Error) -> StoreErrorKind {
    if let rusqlite::Error::SqliteFailure(error, _) = error
        && error.extended_code == rusqlite::ffi::SQLITE_READONLY_DBMOVED
    {
        return StoreErrorKind::Gone;
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreErrorKind::Busy,
        Some(ErrorCode::DiskFull) => StoreErrorKind::Full,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreErrorKind::ReadOnly,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreErrorKind::Corrupt,
        Some(ErrorCode::SystemIoFailure) => StoreErrorKind::Io,
        Some(ErrorCode::CannotOpen) => StoreErrorKind::CannotOpen,
        Some(ErrorCode::ConstraintViolation) => StoreErrorKind::Constraint,
        _ => StoreErrorKind::Other,
    }
}

/// Whether someone else holds a lock, or has written since this connection's snapshot.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    kind_of(error) == StoreErrorKind::Busy
}

/// Whether a statement failed because of the row it was about, and not of the file or the machine:
/// a constraint, a trigger of the app's, or an unusable value.
pub(crate) fn is_of_the_row(error: &rusqlite::Error) -> bool {
    matches!(kind_of(error), StoreErrorKind::Constraint | StoreErrorKind::Other)
}

/// What a person can do about a failure of this kind.
pub(crate) fn advice(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Busy => {
            "the database stayed locked by another connection; keep its write transactions short"
        }
        StoreErrorKind::Full => "the disk is full; nothing was written, free some space",
        StoreErrorKind::ReadOnly => {
            "the database or its folder cannot be written; check their permissions"
        }
        StoreErrorKind::Corrupt => {
            "the file is damaged or no SQLite database; restore it from a backup"
        }
        StoreErrorKind::Io => "the operating system could not read or write the file",
        StoreErrorKind::CannotOpen => {
            "the file cannot be opened; check that its folder exists and can be written"
        }
        StoreErrorKind::Gone => {
            "the file was deleted, moved or replaced while it was open; put it back, or open the database anew"
        }
        StoreErrorKind::Constraint => "a constraint of the table refused the row",
        StoreErrorKind::Other => "SQLite refused the statement",
    }
}

/// Says what was being done when a statement failed.
pub(crate) trait StoreContext<T> {
    /// `doing` completes "could not …".
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> StoreContext<T> for rusqlite::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError { doing, source: Source::Sqlite(source) })
    }
}

/// For a caller who knows better what was being done.
impl<T> StoreContext<T> for Result<T, StoreError> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| StoreError { doing, ..error })
    }
}
