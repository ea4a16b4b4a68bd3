//! Whether this process is the only one that has the database open with Verger.
//!
//! Each open Verger holds a shared lock on a small file beside the database. The one that gets it
//! exclusively is alone, and every job still marked as executing is left over from a process that
//! died. (A lock on the database itself is SQLite's business: closing a descriptor of it would drop
//! SQLite's own locks.)

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// This process's mark beside the database; gone with the process, however it ends.
pub(crate) struct ProcessLock {
    file: File,
    alone: bool,
}

impl ProcessLock {
    /// Marks this process as present. While it is alone it holds the lock exclusively: nobody can
    /// open, and claim, until it downgrades the lock.
    pub(crate) fn announce(database: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .open(beside(database))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, alone: true }),
            Err(TryLockError::WouldBlock) => {
                file.lock_shared()?;
                Ok(Self { file, alone: false })
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether no other process had the database open when this one came.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Lets others in. Before this one claims anything.
    pub(crate) fn downgrade(&mut self) -> std::io::Result<()> {
        if std::mem::take(&mut self.alone) {
            self.file.unlock()?;
            self.file.lock_shared()?;
        }
        Ok(())
    }
}

/// The file beside a database that marks who has it open.
pub(super) fn beside(database: &Path) -> PathBuf {
    let mut name = OsString::from(database.as_os_str());
    name.push("-verger");
    PathBuf::from(name)
}
