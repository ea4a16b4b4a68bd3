//! A file system that fails on demand: SQLite's own, with faults in front of it, and a memory of
//! what was not yet synced.
//!
//! Once [`install`]ed it is the default VFS of the test binary. Files outside the folders of a
//! [`Disk`] are not affected.
#![allow(unsafe_code, reason = "SQLite calls it through pointers")]

mod vfs;

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use verger::rusqlite::ffi;

use self::vfs::{install, truncate, write};
use super::chronicle::Dice;

/// What a disk does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No room: writes fail.
    Full,
    /// Writes fail with an I/O error.
    Write,
    /// Syncs fail.
    Sync,
    /// Reads fail.
    Read,
    /// Databases open for reading only.
    ReadOnly,
    /// Nothing can be made in the folder, or deleted from it; what is there can be written.
    Folder,
}

/// One folder's faults.
#[derive(Default)]
pub(crate) struct Disk {
    folder: PathBuf,
    fault: Mutex<Option<Fault>>,
    /// Writes that still go well before the fault sets in.
    writes_left: AtomicI64,
    /// Calls that were refused.
    refused: AtomicU64,
    /// Whether what was synced is remembered.
    remembers: AtomicBool,
    durable: Mutex<BTreeMap<PathBuf, Content>>,
}

/// A file as it would be found after a power cut, and what may or may not have come after.
#[derive(Default, Clone)]
struct Content {
    bytes: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Content {
    fn apply(bytes: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Write(at, new) => {
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[*at..at + new.len()].copy_from_slice(new);
            }
            Change::Truncate(length) => bytes.truncate(*length),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static DISKS: Mutex<Vec<Arc<Disk>>> = Mutex::new(Vec::new());

impl Disk {
    /// Whatever is opened in this folder from now on is on this disk.
    pub(crate) fn at(folder: &Path) -> Arc<Self> {
        install();
        let disk = Arc::new(Self { folder: folder.canonicalize().unwrap(), ..Self::default() });
        lock(&DISKS).push(Arc::clone(&disk));
        disk
    }

    /// One that remembers what was synced, for [`cut`](Self::cut).
    pub(crate) fn with_memory(folder: &Path) -> Arc<Self> {
        let disk = Self::at(folder);
        disk.remembers.store(true, SeqCst);
        disk
    }

    pub(crate) fn fails(&self, fault: Fault) {
        self.fails_after(fault, 0);
    }

    pub(crate) fn fails_after(&self, fault: Fault, writes: i64) {
        self.writes_left.store(writes, SeqCst);
        *lock(&self.fault) = Some(fault);
    }

    pub(crate) fn works(&self) {
        *lock(&self.fault) = None;
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(SeqCst)
    }

    /// What a power cut now would leave, written into another folder: all that was synced, and of
    /// the rest what chance will have.
    pub(crate) fn cut(&self, dice: &mut Dice, into: &Path) {
        for (path, content) in &*lock(&self.durable) {
            let mut bytes = content.bytes.clone();
            for change in &content.pending {
                if dice.below(2) == 0 {
                    Content::apply(&mut bytes, change);
                }
            }
            std::fs::write(into.join(path.file_name().unwrap()), bytes).unwrap();
        }
    }

    fn refuses(&self, fault: Fault) -> bool {
        let refuses = *lock(&self.fault) == Some(fault);
        if refuses {
            self.refused.fetch_add(1, SeqCst);
        }
        refuses
    }

    fn refuses_to_make(&self, path: &Path) -> bool {
        !path.exists() && self.refuses(Fault::Folder)
    }

    fn refuses_write(&self) -> Option<c_int> {
        let code = match *lock(&self.fault) {
            Some(Fault::Full) => ffi::SQLITE_FULL,
            Some(Fault::Write) => ffi::SQLITE_IOERR_WRITE,
            _ => return None,
        };
        if self.writes_left.fetch_sub(1, SeqCst) > 0 {
            return None;
        }
        self.refused.fetch_add(1, SeqCst);
        Some(code)
    }

    fn remember(&self, path: &Path, change: Change) {
        if self.remembers.load(SeqCst) {
            lock(&self.durable).entry(path.to_path_buf()).or_default().pending.push(change);
        }
    }

    fn synced(&self, path: &Path) {
        if let Some(content) = lock(&self.durable).get_mut(path) {
            for change in std::mem::take(&mut content.pending) {
                Content::apply(&mut content.bytes, &change);
            }
        }
    }
}
