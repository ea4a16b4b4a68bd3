//! A file system that fails when it is told: SQLite's own, with faults in front of it, and a memory
//! of what was not yet synced.
//!
//! It is the default VFS of the test binary once [`install`]ed; files outside the folders of a
//! [`Disk`] are not concerned.
#![allow(unsafe_code, reason = "SQLite calls it through pointers")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use verger::rusqlite::ffi;

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

/// An open file: SQLite's own follows in memory.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    /// None for what is not on a disk of ours.
    on: Option<Box<(Arc<Disk>, PathBuf)>>,
}

struct Real(*mut ffi::sqlite3_vfs);
// It lives as long as the process, and SQLite takes care of its threads.
unsafe impl Send for Real {}
unsafe impl Sync for Real {}
static REAL: OnceLock<Real> = OnceLock::new();

/// Puts the file system in front of SQLite's own.
fn install() {
    REAL.get_or_init(|| unsafe {
        ffi::sqlite3_initialize();
        let real = ffi::sqlite3_vfs_find(std::ptr::null());
        let mut faulty = *real;
        faulty.zName = c"faulty".as_ptr();
        faulty.szOsFile += size_of::<File>() as c_int;
        faulty.xOpen = Some(open);
        faulty.xDelete = Some(delete);
        ffi::sqlite3_vfs_register(Box::into_raw(Box::new(faulty)), 1);
        Real(real)
    });
}

fn real_vfs() -> *mut ffi::sqlite3_vfs {
    REAL.get().unwrap().0
}

unsafe fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    unsafe { file.cast::<File>().add(1).cast() }
}

unsafe fn on<'a>(file: *mut ffi::sqlite3_file) -> Option<&'a (Arc<Disk>, PathBuf)> {
    unsafe { (*file.cast::<File>()).on.as_deref() }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    mut flags: c_int,
    out: *mut c_int,
) -> c_int {
    unsafe {
        let path = (!name.is_null()).then(|| PathBuf::from(CStr::from_ptr(name).to_str().unwrap()));
        let on = path.and_then(|path| {
            let disk = lock(&DISKS).iter().find(|disk| path.starts_with(&disk.folder)).cloned();
            disk.map(|disk| Box::new((disk, path)))
        });
        if flags & ffi::SQLITE_OPEN_MAIN_DB != 0
            && on.as_ref().is_some_and(|on| on.0.refuses(Fault::ReadOnly))
        {
            flags = flags & !(ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE)
                | ffi::SQLITE_OPEN_READONLY;
        }
        std::ptr::write(
            file.cast::<File>(),
            File { base: ffi::sqlite3_file { pMethods: std::ptr::null() }, on: None },
        );
        if let Some((disk, path)) = on.as_deref()
            && flags & ffi::SQLITE_OPEN_CREATE != 0
            && disk.refuses_to_make(path)
        {
            // As SQLite's own does.
            let is_log = flags & (ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_WAL) != 0;
            return if is_log { ffi::SQLITE_READONLY_DIRECTORY } else { ffi::SQLITE_CANTOPEN };
        }
        let opened = (*real_vfs()).xOpen.unwrap()(real_vfs(), name, real(file), flags, out);
        if !(*real(file)).pMethods.is_null() {
            (*file.cast::<File>()).on = on;
            (*file).pMethods = &raw const METHODS;
        }
        opened
    }
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    unsafe {
        let path = PathBuf::from(CStr::from_ptr(name).to_str().unwrap());
        let disk = lock(&DISKS).iter().find(|disk| path.starts_with(&disk.folder)).cloned();
        if let Some(disk) = disk {
            if disk.refuses(Fault::Folder) {
                return ffi::SQLITE_IOERR_DELETE;
            }
            lock(&disk.durable).remove(&path);
        }
        (*real_vfs()).xDelete.unwrap()(real_vfs(), name, sync)
    }
}

/// Calls SQLite's own.
macro_rules! pass {
    ($file:ident . $method:ident ( $($arg:expr),* )) => {
        unsafe { (*(*real($file)).pMethods).$method.unwrap()(real($file) $(, $arg)*) }
    };
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let closed = pass!(file.xClose());
    unsafe { std::ptr::drop_in_place(file.cast::<File>()) };
    closed
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    length: c_int,
    at: i64,
) -> c_int {
    match unsafe { on(file) } {
        Some((disk, _)) if disk.refuses(Fault::Read) => ffi::SQLITE_IOERR_READ,
        _ => pass!(file.xRead(buffer, length, at)),
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    buffer: *const c_void,
    length: c_int,
    at: i64,
) -> c_int {
    if let Some((disk, path)) = unsafe { on(file) } {
        if let Some(code) = disk.refuses_write() {
            return code;
        }
        let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), length as usize) };
        disk.remember(path, Change::Write(at as usize, bytes.to_vec()));
    }
    pass!(file.xWrite(buffer, length, at))
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    if let Some((disk, path)) = unsafe { on(file) } {
        disk.remember(path, Change::Truncate(length as usize));
    }
    pass!(file.xTruncate(length))
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    match unsafe { on(file) } {
        Some((disk, _)) if disk.refuses(Fault::Sync) => ffi::SQLITE_IOERR_FSYNC,
        // A disk that only remembers need not be waited for.
        Some((disk, path)) if disk.remembers.load(SeqCst) => {
            disk.synced(path);
            ffi::SQLITE_OK
        }
        _ => pass!(file.xSync(flags)),
    }
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    pass!(file.xFileSize(size))
}
unsafe extern "C" fn acquire(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    pass!(file.xLock(level))
}
unsafe extern "C" fn release(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    pass!(file.xUnlock(level))
}
unsafe extern "C" fn is_reserved(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    pass!(file.xCheckReservedLock(out))
}
unsafe extern "C" fn control(file: *mut ffi::sqlite3_file, what: c_int, arg: *mut c_void) -> c_int {
    pass!(file.xFileControl(what, arg))
}
unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    pass!(file.xSectorSize())
}
unsafe extern "C" fn characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    pass!(file.xDeviceCharacteristics())
}
unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    if let Some((disk, path)) = unsafe { on(file) }
        && disk.refuses_to_make(&PathBuf::from(format!("{}-shm", path.display())))
    {
        return ffi::SQLITE_CANTOPEN;
    }
    pass!(file.xShmMap(region, size, extend, out))
}
unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    pass!(file.xShmLock(offset, count, flags))
}
unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    pass!(file.xShmBarrier());
}
unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    pass!(file.xShmUnmap(delete))
}
unsafe extern "C" fn fetch(
    _: *mut ffi::sqlite3_file,
    _: i64,
    _: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // No memory-mapped reads: they would pass the faults by.
    unsafe { *out = null_mut() };
    ffi::SQLITE_OK
}
unsafe extern "C" fn unfetch(_: *mut ffi::sqlite3_file, _: i64, _: *mut c_void) -> c_int {
    ffi::SQLITE_OK
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 3,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(acquire),
    xUnlock: Some(release),
    xCheckReservedLock: Some(is_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: Some(fetch),
    xUnfetch: Some(unfetch),
};
