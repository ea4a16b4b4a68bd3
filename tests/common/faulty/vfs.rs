//! The file system in front of SQLite's.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, OnceLock};

use verger::rusqlite::ffi;

use super::{Change, DISKS, Disk, Fault, lock};

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
pub(super) fn install() {
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

pub(super) unsafe extern "C" fn write(
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

pub(super) unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
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
