//! Where the database is, and how a connection to it is set up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::cache::CACHE_KIB;
use super::error::{StoreErrorKind, kind_of};
use super::file_name;
use super::key::Key;
use super::lock_fairness::Waiting;
use super::rusqlite_versions::set_busy_handler;
use super::temp_vfs;
use super::work_connection::FOLD_EVERY;

/// How long a connection of the engine waits for a lock.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The size of a long write-ahead log on the disk: the 4,000 pages of 4 KiB after which a
/// connection for workers folds it back.
pub(crate) const LONG_LOG_BYTES: u64 = 4_000 * 4_096;

/// The app's own set-up of a connection: its SQL functions and collations.
pub(crate) type ConnectionSetup = Arc<dyn Fn(&Connection) -> rusqlite::Result<()> + Send + Sync>;

/// What a commit survives.
///
/// A process that is killed loses nothing in either case, and after a power cut the file is whole
/// in either case. `tests/faults/` cuts the power of a simulated disk. That disk then has what was
/// synced, and each of the later writes with a chance of one half. Over 400 cuts of a life of some
/// 4,800 jobs each (`VERGER_LONG=1 cargo test --test faults power_cut -- --nocapture`), every file
/// left was whole and its jobs, their effects and the audit log agreed. `Full` was never missing a
/// job whose enqueue had returned. `Normal` was missing some after 363 of the 400 cuts, 11 on
/// average and at most 49, with the log folded back every 50 pages.
///
/// It holds for Verger's own connections. A job enqueued by
/// [`enqueue_in`](crate::Verger::enqueue_in) commits as the app's connection does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// `synchronous=NORMAL`. After a power cut the last commits may be gone. These are at most all
    /// commits since SQLite last folded its write-ahead log back into the file (at 4,000 pages, and
    /// when the file is closed) that the operating system had not written out by itself. A commit
    /// is lost with all that is in it. A job whose end is lost runs again as if for the first time,
    /// and does twice what it did outside the database.
    #[default]
    Normal,
    /// `synchronous=FULL`. A commit survives a power cut, as far as the disk keeps what it says it
    /// has. Each commit costs an fsync.
    Full,
}

/// A database: where it is, and what opens it.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    place: Place,
    key: Option<Key>,
}

/// A file, or memory shared by this process's connections.
#[derive(Debug, Clone)]
enum Place {
    File(PathBuf),
    /// A file that is only read, never written.
    ReadOnly(PathBuf),
    /// A file where nothing can be written, so that nobody else writes either.
    Frozen(PathBuf),
    Memory(String),
}

/// Where SQLite keeps the write-ahead log of a database.
pub(super) fn log_of(file: &Path) -> PathBuf {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

impl Location {
    /// The file with this name.
    pub(crate) fn of_file(path: &Path) -> Self {
        Self { place: Place::File(path.to_path_buf()), key: None }
    }

    /// The file with this name, where nobody writes.
    pub(crate) fn frozen(path: &Path) -> Self {
        Self { place: Place::Frozen(path.to_path_buf()), key: None }
    }

    /// A fresh database in memory, gone when its last connection closes.
    pub(crate) fn memory() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("/verger-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self { place: Place::Memory(name), key: None }
    }

    /// The same, opened by this key.
    pub(crate) fn with_key(self, key: Key) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The same, to be read only. A database in memory stays as it is.
    pub(crate) fn into_read_only(self) -> Self {
        self.renamed(|place| match place {
            Place::File(path) => Place::ReadOnly(path),
            other => other,
        })
    }

    /// Another file with the same key, such as a copy of this one.
    pub(super) fn beside(&self, path: &Path) -> Self {
        Self { place: Place::File(path.to_path_buf()), key: self.key.clone() }
    }

    /// Another file with the same key, where nobody writes.
    pub(super) fn frozen_beside(&self, path: &Path) -> Self {
        Self { place: Place::Frozen(path.to_path_buf()), key: self.key.clone() }
    }

    fn renamed(self, rename: impl FnOnce(Place) -> Place) -> Self {
        Self { place: rename(self.place), key: self.key }
    }

    /// The write-ahead log, which exists while the file is used.
    pub(crate) fn log_file(&self) -> Option<PathBuf> {
        self.file().map(log_of)
    }

    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) | Place::ReadOnly(path) | Place::Frozen(path) => Some(path),
            Place::Memory(_) => None,
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self.place, Place::ReadOnly(_) | Place::Frozen(_))
    }

    /// The same by an absolute name, without links if the file is there.
    ///
    /// # Errors
    /// Why the path can be no database's.
    pub(crate) fn resolve(self) -> Result<Self, String> {
        let place = match self.place {
            Place::File(path) => Place::File(file_name::resolve(&path)?),
            Place::ReadOnly(path) => Place::ReadOnly(file_name::resolve(&path)?),
            other => other,
        };
        Ok(Self { place, key: self.key })
    }

    /// The same by the one name of a file that is there now.
    pub(crate) fn without_links(self) -> Self {
        self.renamed(|place| match place {
            Place::File(path) => Place::File(file_name::without_links(path)),
            other => other,
        })
    }

    /// Why its key cannot be used, if so. Writes nothing.
    pub(crate) fn key_fault(&self) -> rusqlite::Result<Option<&'static str>> {
        let Some(key) = &self.key else { return Ok(None) };
        let Some(path) = self.file() else {
            return Ok(Some("a database in memory is not encrypted"));
        };
        if let Some(fault) = key.fault() {
            return Ok(Some(fault));
        }
        // An empty file is a new database.
        if !std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0) {
            return Ok(None);
        }
        let is_none = |connected: rusqlite::Result<Connection>| {
            let read = connected.and_then(|connection| {
                connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
            });
            read.is_err_and(|error| error.sqlite_error_code() == Some(ErrorCode::NotADatabase))
        };
        if !is_none(self.open()) {
            return Ok(None);
        }
        // Reads the file alone, as it is, and does not touch its log.
        Ok(Some(if is_none(Self::frozen(path).open()) {
            "the key does not open it: it is encrypted with another key, or with other settings, \
             or is no database"
        } else {
            "a key was given, and the file is not encrypted: open it without one, or make an \
             encrypted copy first (SQLCipher's sqlcipher_export)"
        }))
    }

    /// Opens the first connection. SQLite cannot read a file in WAL mode in a folder where it can
    /// make no file. If there is no log beside it, nobody has it open, so a file that is only read
    /// is then opened as immutable.
    pub(crate) fn first_connection(
        &mut self,
        durability: Durability,
    ) -> rusqlite::Result<Connection> {
        let connected = self.connect(durability);
        let Place::ReadOnly(path) = &self.place else { return connected };
        let shut = |error: &rusqlite::Error| {
            matches!(kind_of(error), StoreErrorKind::CannotOpen | StoreErrorKind::ReadOnly)
        };
        let logged = std::fs::metadata(log_of(path)).is_ok_and(|log| log.len() > 0);
        if logged || !connected.as_ref().is_err_and(shut) || !path.is_file() {
            return connected;
        }
        let frozen = self.frozen_beside(path);
        let found = frozen.connect(durability).or(connected)?;
        *self = frozen;
        Ok(found)
    }

    /// Opens a connection with the engine's settings. All of them belong to the connection, none to
    /// the file.
    pub(crate) fn connect(&self, durability: Durability) -> rusqlite::Result<Connection> {
        let connection = self.open()?;
        // Otherwise savepoints use temporary files.
        connection.execute_batch("PRAGMA temp_store = MEMORY")?;
        self.set_up(connection, durability)
    }

    /// Opens a connection with SQLite's own settings. It has read nothing yet.
    pub(super) fn open(&self) -> rusqlite::Result<Connection> {
        self.open_over(self.vfs())
    }

    /// The same over this file system, or over the default one. Every connection of Verger's begins
    /// here, with its key.
    fn open_over(&self, vfs: Option<&str>) -> rusqlite::Result<Connection> {
        let connection = match vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(self.name(), self.flags(), vfs)?,
            None => Connection::open_with_flags(self.name(), self.flags())?,
        };
        if let Some(key) = &self.key {
            key.apply(&connection)?;
        }
        Ok(connection)
    }

    /// Opens a connection that workers use too. Its temporary files are counted, its clock is the
    /// run's, and it sorts in small steps.
    pub(super) fn connect_for_workers(
        &self,
        durability: Durability,
    ) -> rusqlite::Result<Connection> {
        let connection = self.open_over(Some(temp_vfs::over(self.vfs())?))?;
        // An enqueue is faster with a short log that is used again, at SQLite's own 1,000 pages.
        connection.execute_batch(&format!(
            "PRAGMA temp_store = FILE; PRAGMA wal_autocheckpoint = {FOLD_EVERY}"
        ))?;
        self.set_up(connection, durability)
    }

    fn name(&self) -> PathBuf {
        match &self.place {
            Place::File(path) | Place::ReadOnly(path) => path.clone(),
            Place::Frozen(path) => file_name::immutable(path),
            Place::Memory(name) => PathBuf::from(name),
        }
    }

    fn vfs(&self) -> Option<&'static str> {
        matches!(self.place, Place::Memory(_)).then_some("memdb")
    }

    /// No URI: a path is a path, and an absolute one whatever SQLite was compiled with.
    fn flags(&self) -> OpenFlags {
        let access = match &self.place {
            Place::ReadOnly(_) => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Place::Frozen(_) => OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
            _ => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
        access | OpenFlags::SQLITE_OPEN_NO_MUTEX
    }

    fn set_up(
        &self,
        connection: Connection,
        durability: Durability,
    ) -> rusqlite::Result<Connection> {
        self.wait_fairly(&connection)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        let synchronous = match durability {
            Durability::Normal => "NORMAL",
            Durability::Full => "FULL",
        };
        connection.execute_batch(&format!(
            "PRAGMA synchronous = {synchronous}; PRAGMA cache_size = -{CACHE_KIB}; \
             PRAGMA journal_size_limit = {LONG_LOG_BYTES}"
        ))?;
        Ok(connection)
    }

    /// Makes a connection wait for the write lock so that it gets its turn.
    pub(crate) fn wait_fairly(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut waiting = Waiting::on(self);
        set_busy_handler(connection, move |tries| waiting.wait(tries))
    }

    /// Puts a new database into WAL mode. A file that has tables keeps the mode its owner chose.
    pub(crate) fn prepare_journal(&self, connection: &Connection) -> rusqlite::Result<()> {
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables == 0 && self.file().is_some() {
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        }
        Ok(())
    }
}
