//! Proof that nobody else, in this process or another, has the file open, under any name.
//!
//! In WAL mode every connection holds SQLite's shared lock on the file from its first read until it
//! closes. So whoever gets the exclusive lock is alone. With a rollback journal a connection holds
//! a lock only while it reads or writes, so nothing is proved.

use std::time::Duration;

use rusqlite::ErrorCode;

use super::books::BookConnection;
use super::location::Location;

/// What an attempt to be alone found.
pub(crate) enum Exclusive {
    /// Nobody else has the file open while this connection lives.
    Proved(BookConnection),
    /// Somebody has.
    InUse,
    /// Nothing can be proved.
    Unknown,
}

/// Tries to be alone, without waiting. No other connection of this Verger may be open.
pub(crate) fn prove_exclusive(location: &Location) -> rusqlite::Result<Exclusive> {
    if location.file().is_none() || location.is_read_only() {
        return Ok(Exclusive::Unknown);
    }
    let connection = location.open()?;
    connection.busy_timeout(Duration::ZERO)?;
    // Set before the first read, because only then the file itself is locked and no shared memory
    // is used.
    connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
    let mode = connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
    match mode {
        Ok(mode) if mode.eq_ignore_ascii_case("wal") => {
            Ok(Exclusive::Proved(BookConnection::new(connection)))
        }
        Ok(_) => Ok(Exclusive::Unknown),
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            ) =>
        {
            Ok(Exclusive::InUse)
        }
        Err(error) => Err(error),
    }
}
