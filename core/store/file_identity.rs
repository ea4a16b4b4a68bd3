//! Whether the database is still the file it was when it was opened.
//!
//! SQLite goes on writing into a file that was deleted or replaced under it, and nobody will ever
//! see what it wrote.

use std::path::PathBuf;

use rusqlite::ffi;

use super::error::{StoreContext, StoreError};
use super::location::Location;

/// Where the file was found, and which one it was.
pub(crate) struct FileIdentity(Option<(PathBuf, Identity)>);

#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = ();

impl FileIdentity {
    /// The file that was just opened.
    pub(crate) fn of(location: &Location) -> Self {
        Self(
            location
                .file()
                .and_then(|path| identity(path).map(|identity| (path.to_path_buf(), identity))),
        )
    }

    /// Costs a `stat`; opens nothing.
    ///
    /// # Errors
    /// When the file was deleted, moved, or replaced by another.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match &self.0 {
            Some((path, found)) if identity(path).as_ref() != Some(found) => {
                let moved = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
                Err(rusqlite::Error::SqliteFailure(
                    moved,
                    Some(format!("{} is not the file that was opened", path.display())),
                ))
                .doing("go on with the database")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(unix)]
fn identity(path: &std::path::Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(path: &std::path::Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(drop)
}
