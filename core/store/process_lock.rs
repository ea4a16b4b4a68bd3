//! Whether the processes that claimed jobs in this database are still alive.
//!
//! Each open Verger holds a shared lock on a small file beside the database, and each claim names
//! the file it was made under. Whoever gets that file's lock exclusively knows that every process
//! that claimed under it is dead. A claim made under another file says nothing, because that file
//! was deleted or the database was opened by another name. Such a claim waits for its lease. So the
//! lock may be lost and is never wrong.
//!
//! A lock on the database itself would not do: closing a descriptor of it would drop SQLite's own
//! locks.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::file_identity::{Identity, KEEPS_ITS_NAME, keeping_its_name};
use crate::mutex::lock;

/// The text in the file before its name.
const HEAD: &str = "verger lock ";

/// How often to try again when the file is replaced while it is being locked.
const TRIES: usize = 16;

/// The most lock files that one process holds. All but the last were deleted under it.
const HELD_MAX: usize = 16;

/// This process's mark beside the database. It is gone with the process, however that ends.
pub(crate) struct ProcessLock {
    path: PathBuf,
    database: PathBuf,
    /// The last is the one that claims name.
    held: Mutex<Vec<Held>>,
    alone: bool,
}

/// A lock file that is locked.
struct Held {
    file: File,
    identity: Identity,
    /// The name that claims give it. Without a name they wait for their leases.
    tag: Option<String>,
}

impl ProcessLock {
    /// Marks this process as present. While it is alone it holds the lock exclusively, so nobody
    /// can open, and claim, until it downgrades the lock. `None` if this user, or this file system,
    /// cannot use the file.
    pub(crate) fn announce(database: &Path) -> io::Result<Option<Self>> {
        let path = beside(database);
        match acquire(&path, database) {
            Ok((held, alone)) => Ok(Some(Self {
                path,
                database: database.to_path_buf(),
                held: Mutex::new(vec![held]),
                alone,
            })),
            Err(error) if cannot_be_used(&error) => {
                tracing::warn!(
                    file = %path.display(), %error,
                    "the lock file cannot be used: jobs of a process that died wait for their leases"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether no other process that uses this lock file had the database open when this one came.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// What the claims of this process are to name.
    pub(crate) fn tag(&self) -> Option<String> {
        self.lock().last().and_then(|held| held.tag.clone())
    }

    /// Lets others in. Call it before this process claims anything.
    pub(crate) fn downgrade(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.alone) {
            self.lock().last().map_or(Ok(()), |held| share(&held.file))?;
        }
        Ok(())
    }

    /// Takes the lock of a new file, if this one's was deleted. Claims under the old file stay
    /// under it. It costs a `stat`. On Windows nobody can delete it while it is open.
    pub(crate) fn refresh(&self) {
        if KEEPS_ITS_NAME {
            return;
        }
        let mut held = self.lock();
        let found = Identity::of_name(&self.path).ok();
        if found.is_some() && held.last().map(|held| &held.identity) == found.as_ref() {
            return;
        }
        if let Some(place) = held.iter().position(|held| Some(&held.identity) == found.as_ref()) {
            let back = held.remove(place);
            held.push(back);
        } else if held.len() < HELD_MAX
            && let Ok((new, alone)) = acquire(&self.path, &self.database)
            && (!alone || share(&new.file).is_ok())
        {
            held.push(new);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Held>> {
        // It is whole after any panic, because it only grows by whole entries.
        lock(&self.held)
    }
}

/// The file beside a database that marks who has it open.
pub(super) fn beside(database: &Path) -> PathBuf {
    let mut name = OsString::from(database.as_os_str());
    name.push("-verger");
    PathBuf::from(name)
}

/// Whether a process has the database open by this name. It makes no file.
pub(crate) fn is_held(database: &Path) -> bool {
    existing(&beside(database), OpenOptions::new().read(true))
        .is_some_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Opens the file with this name. It follows no link, because a link's target may belong to
/// anybody.
pub(super) fn existing(path: &Path, how: &OpenOptions) -> Option<File> {
    // Checked before it is opened, because a pipe would wait for whoever reads from it.
    std::fs::symlink_metadata(path).ok().filter(Metadata::is_file)?;
    let file = how.open(path).ok()?;
    let is_it = Identity::of_file(&file).ok()? == Identity::of_name(path).ok()?;
    is_it.then_some(file)
}

fn share(file: &File) -> io::Result<()> {
    match file.unlock() {
        // Windows is asked to unlock until nothing is locked. Wine reports that with an error of
        // its own, ERROR_LOCK_VIOLATION.
        Err(error) if cfg!(windows) && error.raw_os_error() == Some(33) => {}
        unlocked => unlocked?,
    }
    file.lock_shared()
}

fn cannot_be_used(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::Unsupported
    )
}

/// Locks the file, exclusively if nobody else has it. When it is locked it is still the file with
/// that name.
fn acquire(path: &Path, database: &Path) -> io::Result<(Held, bool)> {
    for _ in 0..TRIES {
        let Some(mut file) = open(path, database)? else { continue };
        let alone = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                file.lock_shared()?;
                false
            }
            Err(TryLockError::Error(error)) => return Err(error),
        };
        let identity = Identity::of_file(&file)?;
        if Identity::of_name(path).is_ok_and(|found| found == identity) {
            let tag = name(&mut file, alone)?.map(|name| format!("{name}.{}", identity.number()));
            return Ok((Held { file, identity, tag }, alone));
        }
    }
    Err(io::Error::other("it is replaced again and again"))
}

/// Opens the file, or makes it. It never opens one that a symbolic link points to. `None` when the
/// name changed meanwhile.
fn open(path: &Path, database: &Path) -> io::Result<Option<File>> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => {
            let what = "it is a link, a folder or a device, not a file of its own: remove it";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(_) => keeping_its_name(OpenOptions::new().read(true).write(true)).open(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return make(path, database),
        Err(error) => return Err(error),
    };
    let opened = match found {
        // Another user's file. To lock it, reading is enough.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            keeping_its_name(OpenOptions::new().read(true)).open(path)
        }
        opened => opened,
    };
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Makes the file for whoever may use the database, as SQLite makes its own files beside it.
fn make(path: &Path, database: &Path) -> io::Result<Option<File>> {
    // This follows no link, and opens no existing file.
    let mut options = OpenOptions::new();
    match keeping_its_name(options.read(true).write(true).create_new(true)).open(path) {
        Ok(file) => {
            if let Ok(like) = std::fs::metadata(database) {
                // A user who may not give a file away need not.
                let _ = give(&file, &like);
            }
            Ok(Some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn give(file: &File, like: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    file.set_permissions(std::fs::Permissions::from_mode(like.mode() & 0o666))?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn give(_: &File, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// The random name that is written in the file. Whoever is alone writes one into an empty file. A
/// file with anything else in it is not ours and is not written.
fn name(file: &mut File, alone: bool) -> io::Result<Option<String>> {
    let mut text = String::new();
    file.rewind()?;
    if file.take(64).read_to_string(&mut text).is_err() {
        return Ok(None);
    }
    if text.is_empty() && alone && !has_other_names(file) {
        let name = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        // A file that can only be read gets no name.
        return Ok(writeln!(file, "{HEAD}{name}").is_ok().then_some(name));
    }
    let name = text.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix('\n'));
    Ok(name.filter(|name| name.len() == 16).map(str::to_string))
}

pub(super) fn has_other_names(file: &File) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        file.metadata().is_ok_and(|file| file.nlink() > 1)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        false
    }
}
