//! The steps of a transaction that the engine takes.

use std::borrow::Cow;

use rusqlite::Connection;

/// A statement without parameters and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionStep {
    /// Reads one state of the file, from the first read on. Nobody is kept from writing.
    BeginRead,
    /// Waits for the write lock and takes it.
    BeginWrite,
    /// Takes the write lock in a transaction that has only read. It fails as busy if another
    /// connection has committed since the transaction began to read.
    TakeLock,
    Commit,
    Rollback,
    Open(Savepoint),
    Release(Savepoint),
    /// Undoes what came after the savepoint, which stays open.
    RollbackTo(Savepoint),
}

/// What a savepoint is for, which gives it its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Savepoint {
    /// A write through a tenant's walls, each row of which is a statement of its own to SQLite.
    Statement,
    /// A call that must leave nothing when it fails.
    Call,
    /// Several sets of parameters for one statement.
    Sets,
    /// A job among those that share a transaction.
    Member,
    /// One that a worker opened.
    OfWorker(u32),
}

impl TransactionStep {
    pub(crate) fn sql(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::BeginRead => "BEGIN",
            Self::BeginWrite => "BEGIN IMMEDIATE",
            // It finds no row, but SQLite takes the lock before it looks.
            Self::TakeLock => "DELETE FROM verger_queues WHERE 0",
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
            Self::Open(savepoint) => return format!("SAVEPOINT {}", savepoint.name()).into(),
            Self::Release(savepoint) => return format!("RELEASE {}", savepoint.name()).into(),
            Self::RollbackTo(savepoint) => {
                return format!("ROLLBACK TO {}", savepoint.name()).into();
            }
        })
    }

    /// Takes the step. The statement is prepared once for each connection, because a claim is so
    /// short that preparing it would show.
    pub(crate) fn take(self, connection: &Connection) -> rusqlite::Result<()> {
        connection.prepare_cached(&self.sql())?.execute([]).map(drop)
    }
}

impl Savepoint {
    fn name(self) -> Cow<'static, str> {
        match self {
            Self::Statement => "verger_statement".into(),
            Self::Call => "verger_call".into(),
            Self::Sets => "verger_sets".into(),
            Self::Member => "verger_member".into(),
            Self::OfWorker(number) => format!("verger_{number}").into(),
        }
    }
}
