//! A copy of a database while it is used. It is made under a temporary name, checked, and given its
//! own name only when it is whole.

use std::ffi::c_int;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::location::{ConnectionSetup, Location};
use super::rusqlite_versions::IntoResult;
use super::stop_signal::StopSignal;
use super::transaction_guard::TransactionGuard;
use crate::time::Timestamp;

/// Pages copied between two looks at whether to go on: a megabyte, at SQLite's own page size.
const STEP_PAGES: c_int = 256;

/// The pause between two tries while the source is locked.
const PAUSE: Duration = Duration::from_millis(5);

/// How often a copy may begin anew, because others wrote to a file without a write-ahead log.
const RESTARTS: u32 = 20;

/// Steps of SQLite's machine between two looks at whether to go on.
const CHECK_STEPS: c_int = 10_000;

/// Why there is no new copy. The earlier copies are as they were.
#[derive(Debug)]
pub(crate) enum BackupError {
    /// The run must end.
    Stopped,
    /// Another backup into this folder is under way.
    InUse,
    /// Others kept writing to the file.
    Restless,
    /// The folder, or a file in it.
    File(&'static str, io::Error),
    /// SQLite could not copy.
    Copy(rusqlite::Error),
    /// The copy is no whole database. The text says what the check found.
    Damaged(String),
}

/// The folder that keeps the copies of one database, locked against other backups into it.
pub(crate) struct BackupFolder {
    folder: PathBuf,
    stem: String,
    /// Locked while this exists.
    _lock: File,
}

/// A copy that is whole.
pub(crate) struct Copied {
    pub(crate) pages: u64,
    pub(crate) bytes: u64,
}

impl BackupFolder {
    /// Makes the folder if it is not there, and locks it.
    pub(crate) fn open(folder: &Path, stem: &str) -> Result<Self, BackupError> {
        let failed = |doing| move |error| BackupError::File(doing, error);
        fs::create_dir_all(folder).map_err(failed("make the folder"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(format!(".{stem}.backup-lock")))
            .map_err(failed("make the lock file"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BackupError::InUse),
            Err(TryLockError::Error(error)) => {
                return Err(BackupError::File("lock the lock file", error));
            }
        }
        let backup = Self { folder: folder.to_path_buf(), stem: stem.to_string(), _lock: lock };
        // A process that ended left it.
        backup.discard()?;
        Ok(backup)
    }

    fn partial(&self) -> PathBuf {
        self.folder.join(format!(".{}.partial", self.stem))
    }

    /// Removes an unfinished copy, and what SQLite may have put beside it.
    pub(crate) fn discard(&self) -> Result<(), BackupError> {
        for ending in ["", "-journal", "-wal", "-shm"] {
            let mut path = self.partial().into_os_string();
            path.push(ending);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(BackupError::File("remove a copy that is not whole", error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Copies the database of this connection under the temporary name and checks the copy.
    /// `progress` is told the pages done and of how many. A copy of an encrypted file is encrypted
    /// with the same key.
    ///
    /// In a database with a write-ahead log nobody waits: the copy is of one instant, and others
    /// write on. In one without a log, others may write between two steps, and then the copy begins
    /// anew.
    pub(crate) fn copy(
        &self,
        source: &Connection,
        location: &Location,
        setup: Option<&ConnectionSetup>,
        stop: &StopSignal,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Copied, BackupError> {
        let journal: String = source
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(BackupError::Copy)?;
        let has_log = journal.eq_ignore_ascii_case("wal");
        // One snapshot for all steps.
        let begun = has_log.then(|| TransactionGuard::begin_read(source)).transpose();
        let snapshot = begun.map_err(BackupError::Copy)?;
        if snapshot.is_some() {
            source
                .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
                .map_err(BackupError::Copy)?;
        }
        let pages = self.copy_pages(source, location, stop, progress)?;
        if let Some(snapshot) = snapshot {
            snapshot.commit().map_err(BackupError::Copy)?;
        }
        let path = self.partial();
        check(&location.frozen_beside(&path), setup, stop)?;
        let failed = |doing| move |error| BackupError::File(doing, error);
        let file = OpenOptions::new().write(true).open(&path).map_err(failed("open the copy"))?;
        file.sync_all().map_err(failed("write the copy to the disk"))?;
        let bytes = file.metadata().map_err(failed("look at the copy"))?.len();
        Ok(Copied { pages, bytes })
    }

    fn copy_pages(
        &self,
        source: &Connection,
        location: &Location,
        stop: &StopSignal,
        progress: &dyn Fn(u64, u64),
    ) -> Result<u64, BackupError> {
        let path = self.partial();
        private_file(&path).map_err(|error| BackupError::File("make a file", error))?;
        let mut copy = location.beside(&path).open().map_err(BackupError::Copy)?;
        // Nobody sees it before it is whole and on the disk.
        copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
            .map_err(BackupError::Copy)?;
        let backup = Backup::new(source, &mut copy).map_err(BackupError::Copy)?;
        let (mut left, mut restarts) = (i32::MAX, 0);
        let pages = loop {
            if stop.is_over() {
                return Err(BackupError::Stopped);
            }
            let stepped = backup.step(STEP_PAGES).map_err(BackupError::Copy)?;
            let at = backup.progress();
            let count = |pages: c_int| u64::try_from(pages).unwrap_or(0);
            progress(count(at.pagecount - at.remaining), count(at.pagecount));
            match stepped {
                StepResult::Done => break count(at.pagecount),
                StepResult::More => {
                    restarts += u32::from(at.remaining >= left);
                    if restarts > RESTARTS {
                        return Err(BackupError::Restless);
                    }
                    left = at.remaining;
                }
                // Locked by another.
                _ => std::thread::sleep(PAUSE),
            }
        };
        drop(backup);
        copy.close().map_err(|(_, error)| BackupError::Copy(error))?;
        Ok(pages)
    }

    /// Gives the copy its name, which nothing has yet, and the permissions of the database.
    pub(crate) fn keep(
        &self,
        source: Option<&Path>,
        at: Timestamp,
    ) -> Result<PathBuf, BackupError> {
        let failed = |doing| move |error| BackupError::File(doing, error);
        let partial = self.partial();
        if let Some(permissions) = source.and_then(|source| fs::metadata(source).ok())
            && !permissions.permissions().readonly()
        {
            fs::set_permissions(&partial, permissions.permissions())
                .map_err(failed("set the permissions of the copy"))?;
        }
        let name = |again: u32| {
            let time = match at.to_utc() {
                Some(time) => time.format("%Y%m%dT%H%M%S%3fZ").to_string(),
                None => at.as_millis().to_string(),
            };
            let again = if again == 0 { String::new() } else { format!("-{again}") };
            self.folder.join(format!("{}-{time}{again}.db", self.stem))
        };
        let free = (0..).map(name).find(|path| !path.exists());
        let path = free.unwrap_or_else(|| name(0));
        fs::rename(&partial, &path).map_err(failed("give the copy its name"))?;
        sync_folder(&self.folder).map_err(failed("write the folder to the disk"))?;
        Ok(path)
    }

    /// Removes the oldest copies and keeps this many. The newest always stays. Returns how many
    /// were removed and how many are left.
    pub(crate) fn prune(&self, keep: usize, newest: &Path) -> Result<(usize, usize), BackupError> {
        let failed = |error| BackupError::File("look through the folder", error);
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if path != newest && name.is_some_and(|name| self.is_a_copy(name)) {
                others.push(path);
            }
        }
        others
            .sort_by_key(|path| std::cmp::Reverse(path.file_name().map(std::ffi::OsString::from)));
        let (mut removed, all) = (0, others.len());
        for path in others.into_iter().skip(keep.saturating_sub(1)) {
            match fs::remove_file(&path) {
                Ok(()) => removed += 1,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "an old backup could not be removed");
                }
            }
        }
        Ok((removed, all + 1 - removed))
    }

    /// Whether a file has a name that [`keep`](Self::keep) gives.
    fn is_a_copy(&self, name: &str) -> bool {
        let time = name
            .strip_prefix(&self.stem)
            .and_then(|rest| rest.strip_prefix('-'))
            .and_then(|rest| rest.strip_suffix(".db"));
        let Some((time, again)) = time.and_then(|time| time.split_once('Z')) else { return false };
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_time = time.split_once('T').is_some_and(|(day, hour)| {
            day.len() == 8 && hour.len() == 9 && digits(day) && digits(hour)
        });
        is_time && (again.is_empty() || again.strip_prefix('-').is_some_and(digits))
    }
}

/// Opens a copy as a reader would, with nothing beside it, and makes SQLite check it.
fn check(
    copy: &Location,
    setup: Option<&ConnectionSetup>,
    stop: &StopSignal,
) -> Result<(), BackupError> {
    let damaged = |error: rusqlite::Error| match stop.is_over() {
        true => BackupError::Stopped,
        false => BackupError::Damaged(error.to_string()),
    };
    #[allow(unused_mut, reason = "versions of rusqlite differ in what sets a progress handler")]
    let mut copy = copy.open().map_err(damaged)?;
    if let Some(setup) = setup {
        // The app's functions are needed where an index or a CHECK calls one. A set-up that writes
        // may be refused here.
        let _ = setup(&copy);
    }
    let watch = stop.clone();
    copy.progress_handler(CHECK_STEPS, Some(move || watch.is_over()))
        .into_result()
        .map_err(damaged)?;
    let found: String =
        copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(damaged)?;
    if found == "ok" { Ok(()) } else { Err(BackupError::Damaged(found)) }
}

/// An empty file that only its owner may read.
fn private_file(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// A new name is on the disk only once its folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => {
            let _ = folder;
            Ok(())
        }
    }
}
