//! Where the database is, and how a connection to it is set up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::turn::Waiting;

/// How long a connection of the engine waits for a lock.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The app's own set-up of a connection: its SQL functions and collations.
pub(crate) type ConnectionSetup = Arc<dyn Fn(&Connection) -> rusqlite::Result<()> + Send + Sync>;

/// What a commit survives. A process that is killed loses nothing in either case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// `synchronous=NORMAL`: after a power cut the last commits may be gone, the file is whole.
    #[default]
    Normal,
    /// `synchronous=FULL`: a commit survives a power cut, at the price of an fsync each.
    Full,
}

/// A database: a file, or memory shared by this process's connections.
#[derive(Debug, Clone)]
pub(crate) enum Location {
    File(PathBuf),
    /// A file that is looked at and never written.
    ReadOnly(PathBuf),
    Memory(String),
}

impl Location {
    /// A fresh database in memory, gone when its last connection closes.
    pub(crate) fn memory() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Memory(format!("/verger-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::ReadOnly(path) => Some(path),
            Self::Memory(_) => None,
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::ReadOnly(_))
    }

    /// Opens a connection with the engine's settings. All of them belong to the connection, none to the file.
    pub(crate) fn connect(&self, durability: Durability) -> rusqlite::Result<Connection> {
        // Not URI, whatever SQLite was compiled with: a path is a path.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = match self {
            Self::File(path) => Connection::open_with_flags(path, flags)?,
            Self::ReadOnly(path) => Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?,
            Self::Memory(name) => Connection::open_with_flags_and_vfs(name, flags, c"memdb")?,
        };
        let mut waiting = Waiting::on(self);
        connection.busy_handler(Some(move |tries| waiting.wait(tries)))?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        let synchronous = match durability {
            Durability::Normal => "NORMAL",
            Durability::Full => "FULL",
        };
        // temp_store: a savepoint's sub-journal is a temp file otherwise. The rest is what batched sweeps live on.
        connection.execute_batch(&format!(
            "PRAGMA synchronous = {synchronous}; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 4000;"
        ))?;
        Ok(connection)
    }

    /// Puts a new database into WAL mode. A file that has tables keeps the mode its owner chose.
    pub(crate) fn prepare_journal(&self, connection: &Connection) -> rusqlite::Result<()> {
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables == 0 && self.file().is_some() {
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        }
        Ok(())
    }
}
