//! Which file a path or an open file is, and whether the database is still the one that was opened.
//!
//! SQLite goes on writing into a file that was deleted or replaced under it, and nobody will ever
//! see what it wrote. On Windows that cannot happen, because an open file keeps its name if whoever
//! opened it says so.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ffi};

use super::error::{StoreContext, StoreError};
use super::location::Location;

/// The identity of a file, whatever its name: device and inode, or volume and file index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity(Inner);

#[cfg(unix)]
type Inner = (u64, u64);
#[cfg(windows)]
type Inner = same_file::Handle;
#[cfg(not(any(unix, windows)))]
type Inner = ();

impl Identity {
    /// The file with this name. It opens nothing where opening and closing could drop SQLite's
    /// locks.
    pub(super) fn of_path(path: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        {
            std::fs::metadata(path).map(|file| Self(numbers(&file)))
        }
        #[cfg(windows)]
        {
            same_file::Handle::from_path(path).map(Self)
        }
        #[cfg(not(any(unix, windows)))]
        {
            std::fs::metadata(path).map(|_| Self(()))
        }
    }

    /// The file with this name. On Windows nobody can delete, rename or replace it while this
    /// exists.
    fn held(path: &Path) -> io::Result<Self> {
        if KEEPS_ITS_NAME {
            Self::of_file(&keeping_its_name(OpenOptions::new().read(true)).open(path)?)
        } else {
            Self::of_path(path)
        }
    }

    /// The file with this name. If it is a symbolic link, the link itself.
    pub(super) fn of_name(path: &Path) -> io::Result<Self> {
        #[cfg(unix)]
        {
            std::fs::symlink_metadata(path).map(|file| Self(numbers(&file)))
        }
        #[cfg(not(unix))]
        {
            Self::of_path(path)
        }
    }

    /// A file that is open.
    pub(super) fn of_file(file: &File) -> io::Result<Self> {
        #[cfg(unix)]
        {
            file.metadata().map(|file| Self(numbers(&file)))
        }
        #[cfg(windows)]
        {
            same_file::Handle::from_file(file.try_clone()?).map(Self)
        }
        #[cfg(not(any(unix, windows)))]
        {
            file.metadata().map(|_| Self(()))
        }
    }

    /// A number that no other file of the same file system has while this one exists.
    pub(super) fn number(&self) -> u64 {
        #[cfg(unix)]
        {
            self.0.1
        }
        #[cfg(not(unix))]
        {
            0
        }
    }
}

/// Whether a file that [`keeping_its_name`] opened has its name as long as it is open.
pub(super) const KEEPS_ITS_NAME: bool = cfg!(windows);

/// Makes these options refuse everybody else to delete or rename the file, on Windows. SQLite opens
/// its files like that too. Rust's default is to allow it.
pub(super) fn keeping_its_name(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;
        /// `FILE_SHARE_READ` and `FILE_SHARE_WRITE`, without `FILE_SHARE_DELETE`.
        const READ_AND_WRITE: u32 = 1 | 2;
        options.share_mode(READ_AND_WRITE);
    }
    options
}

#[cfg(unix)]
fn numbers(file: &std::fs::Metadata) -> Inner {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino())
}

/// Where the database was found, and which file it was.
pub(crate) struct FileIdentity(Option<(PathBuf, Identity)>);

impl FileIdentity {
    /// The file that was just opened.
    pub(crate) fn of(location: &Location) -> Self {
        Self(location.file().and_then(|path| {
            Identity::held(path).ok().map(|identity| (path.to_path_buf(), identity))
        }))
    }

    /// Costs a `stat`, and opens nothing. On Windows there is nothing to look at.
    ///
    /// # Errors
    /// When the file was deleted, moved, or replaced by another.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match &self.0 {
            Some((path, found))
                if !KEEPS_ITS_NAME && Identity::of_path(path).ok().as_ref() != Some(found) =>
            {
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

    /// Whether a connection of the app's has this database open, under any name. If not, the two
    /// paths. A database in memory has no name that could tell.
    pub(crate) fn differs_from(&self, connection: &Connection) -> Option<(String, String)> {
        let (path, found) = self.0.as_ref()?;
        let its = connection.path().filter(|its| !its.is_empty());
        match its.and_then(|its| Identity::of_path(Path::new(its)).ok()) {
            Some(identity) if identity == *found => None,
            _ => Some((
                path.display().to_string(),
                its.unwrap_or("a database without a file").to_string(),
            )),
        }
    }
}
