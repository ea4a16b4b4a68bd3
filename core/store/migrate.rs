//! Numbered migrations, kept in a table of our own, because `user_version` belongs to the app.

use rusqlite::Connection;

use super::error::{StoreContext, StoreError};
use super::transaction_guard::TransactionGuard;
use crate::time::Timestamp;

/// A sequence of migrations that go forward together.
pub(crate) struct MigrationSet {
    name: &'static str,
    /// Name and SQL of each. Its number is its position, from 1.
    steps: &'static [(&'static str, &'static str)],
}

impl MigrationSet {
    /// The engine's own tables.
    pub(crate) const ENGINE: Self = Self {
        name: "engine",
        steps: &[("init", include_str!("../../migrations/engine/0001_init.sql"))],
    };

    /// The domain tables the built-in workers serve by default; optional.
    pub(crate) const REFERENCE: Self = Self {
        name: "reference",
        steps: &[("init", include_str!("../../migrations/reference/0001_init.sql"))],
    };

    /// The version that this build makes.
    pub(crate) fn version(&self) -> i64 {
        i64::try_from(self.steps.len()).unwrap_or(i64::MAX)
    }

    /// The version of these tables in a database. 0 when it has none of them.
    pub(crate) fn applied_to(&self, connection: &Connection) -> Result<i64, StoreError> {
        applied(connection, self)
    }
}

/// The schema of the file is not one this build can use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// A newer Verger wrote it. It was left untouched.
    #[error(
        "the {set} tables are at version {found}, this build knows versions up to {known}: open the file with a newer Verger"
    )]
    Newer {
        /// Which set of tables.
        set: &'static str,
        /// The version in the file.
        found: i64,
        /// The newest version this build knows.
        known: i64,
    },
    /// The tables are missing or older than this build needs, and the database was opened
    /// read-only.
    #[error(
        "the {set} tables are at version {found}, this build needs {known}: open the database once for writing, that brings them up to date"
    )]
    Older {
        /// Which set of tables.
        set: &'static str,
        /// The version in the file; 0 when there are none.
        found: i64,
        /// The version this build needs.
        known: i64,
    },
    /// A step failed. The file is as it was before.
    #[error(transparent)]
    Store(#[from] StoreError),
}

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS verger_migrations (
    set_name TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    applied_at INTEGER NOT NULL,
    PRIMARY KEY (set_name, version)
) STRICT, WITHOUT ROWID";

/// Brings the tables of a set up to date, in one transaction, and returns how many steps were
/// applied. A file that is up to date is not written.
pub(crate) fn migrate(
    connection: &Connection,
    set: &MigrationSet,
    now: Timestamp,
) -> Result<usize, MigrationError> {
    let known = set.version();
    if applied(connection, set)? == known {
        return Ok(0);
    }
    let transaction = TransactionGuard::begin_write(connection).doing("begin the migration")?;
    transaction.execute_batch(LEDGER).doing("create the table verger_migrations")?;
    let found = applied(&transaction, set)?;
    if found > known {
        return Err(MigrationError::Newer { set: set.name, found, known });
    }
    let mut count = 0;
    for ((name, sql), version) in
        set.steps.iter().zip(1_i64..).filter(|(_, version)| *version > found)
    {
        transaction.execute_batch(sql).doing("apply a migration")?;
        transaction
            .execute(
                "INSERT INTO verger_migrations (set_name, version, name, applied_at) VALUES (?1, ?2, ?3, ?4)",
                (set.name, version, name, now.as_millis()),
            )
            .doing("record a migration")?;
        count += 1;
    }
    transaction.commit().doing("commit the migration")?;
    Ok(count)
}

/// Checks that the tables of a set are what this build knows, and writes nothing.
pub(crate) fn check(connection: &Connection, set: &MigrationSet) -> Result<(), MigrationError> {
    let known = set.version();
    match applied(connection, set)? {
        found if found < known => Err(MigrationError::Older { set: set.name, found, known }),
        found if found > known => Err(MigrationError::Newer { set: set.name, found, known }),
        _ => Ok(()),
    }
}

fn applied(connection: &Connection, set: &MigrationSet) -> Result<i64, StoreError> {
    let ledger: bool = connection
        .query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'verger_migrations'", [], |row| row.get(0))
        .doing("read the schema of the database")?;
    if !ledger {
        return Ok(0);
    }
    connection
        .query_row(
            "SELECT coalesce(max(version), 0) FROM verger_migrations WHERE set_name = ?1",
            [set.name],
            |row| row.get(0),
        )
        .doing("read the table verger_migrations")
}
