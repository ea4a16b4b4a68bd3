//! The file system of the connections that workers use. Files are handled by the app's own file
//! system. Temporary files are kept in memory and counted, and the time is that of the run.
//!
//! With `temp_store=MEMORY` SQLite sorts everything at once, in a step that cannot be interrupted.
//! With temporary files it sorts in chunks of its cache's size and merges them row by row. Here
//! these files never reach the disk.
#![allow(
    unsafe_code,
    reason = "SQLite calls a file system through pointers; see sqlite.org/vfs.html"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, Mutex};

use rusqlite::ffi;

use super::temp_space::TempSpace;
use crate::mutex::lock;

/// The file systems that were wrapped, and the name of each wrapped one.
static WRAPPED: Mutex<Vec<(Wrapped, &'static str)>> = Mutex::new(Vec::new());

#[derive(PartialEq)]
struct Wrapped(*mut ffi::sqlite3_vfs);
// SAFETY: it is compared, and otherwise used as SQLite uses it, from any thread; a file system
// stays as long as connections use it.
unsafe impl Send for Wrapped {}

/// The name under which to open a connection whose temporary files are in memory, over this file
/// system or over the default one.
pub(super) fn over(base: Option<&str>) -> rusqlite::Result<&'static str> {
    let failure = |code, what: &str| {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(what.to_string()))
    };
    let base = base.map(CString::new).transpose().map_err(rusqlite::Error::NulError)?;
    // SAFETY: it takes a C string or null, and may be called at any time from any thread.
    let real = unsafe {
        ffi::sqlite3_initialize();
        ffi::sqlite3_vfs_find(base.as_deref().map_or(ptr::null(), CStr::as_ptr))
    };
    if real.is_null() {
        return Err(failure(
            ffi::SQLITE_CANTOPEN,
            "SQLite has no file system to open databases with",
        ));
    }
    let mut wrapped = lock(&WRAPPED);
    if let Some((_, name)) = wrapped.iter().find(|(known, _)| *known == Wrapped(real)) {
        return Ok(name);
    }
    let name = CString::new(format!("verger-{}", wrapped.len())).unwrap_or_default();
    let registered: &'static CStr = Box::leak(name.into_boxed_c_str());
    let name = registered.to_str().unwrap_or_default();
    // SAFETY: `real` is a registered file system. Ours is never freed, and has every method that a
    // version 2 has.
    let code = unsafe {
        let vfs = Box::new(ffi::sqlite3_vfs {
            iVersion: (*real).iVersion.min(2),
            szOsFile: (*real)
                .szOsFile
                .max(c_int::try_from(size_of::<File>()).unwrap_or(c_int::MAX)),
            mxPathname: (*real).mxPathname,
            pNext: ptr::null_mut(),
            zName: registered.as_ptr(),
            pAppData: real.cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            // Nobody loads extensions here.
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: Some(last_error),
            xCurrentTimeInt64: Some(current_time_millis),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        });
        ffi::sqlite3_vfs_register(Box::into_raw(vfs), 0)
    };
    if code != ffi::SQLITE_OK {
        return Err(failure(code, "SQLite refused a file system for temporary files"));
    }
    wrapped.push((Wrapped(real), name));
    Ok(name)
}

/// Calls the method of the file system that ours wraps. SAFETY: it is only for SQLite's calls,
/// whose arguments it hands on as they are.
macro_rules! pass {
    ($vfs:ident . $method:ident ( $($arg:expr),* ), else $absent:expr) => {
        unsafe {
            let real = (*$vfs).pAppData.cast::<ffi::sqlite3_vfs>();
            (*real).$method.map_or($absent, |method| method(real $(, $arg)*))
        }
    };
}

/// A temporary file.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    content: *mut Content,
}

/// Bytes in pieces, so that a file grows without being copied.
struct Content {
    pieces: Vec<Box<[u8]>>,
    length: usize,
    of: Option<Arc<TempSpace>>,
}

const PIECE: usize = 64 << 10;

impl Content {
    /// Calls `each` for the pieces that hold these bytes, with the position in the buffer, and the
    /// bytes.
    fn walk(&mut self, at: usize, length: usize, mut each: impl FnMut(usize, &mut [u8])) {
        let mut done = 0;
        while done < length {
            let (piece, from) = ((at + done) / PIECE, (at + done) % PIECE);
            let count = (PIECE - from).min(length - done);
            if let Some(bytes) =
                self.pieces.get_mut(piece).and_then(|piece| piece.get_mut(from..from + count))
            {
                each(done, bytes);
            }
            done += count;
        }
    }

    fn resize(&mut self, length: usize) {
        let (before, wanted) = (self.pieces.len(), length.div_ceil(PIECE));
        self.pieces.resize_with(wanted, || vec![0; PIECE].into_boxed_slice());
        if let Some(of) = &self.of {
            of.took(wanted.saturating_sub(before) * PIECE);
            of.gave_back(before.saturating_sub(wanted) * PIECE);
        }
        // What is cut off must not be seen again.
        let (from, end) = (length, self.length.min(wanted * PIECE));
        self.walk(from, end.saturating_sub(from), |_, bytes| bytes.fill(0));
        self.length = length;
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// SAFETY, here and below: SQLite calls with a file that `open` made, from one thread at a time,
/// until `close`.
unsafe fn content<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Content {
    unsafe { &mut *(*file.cast::<File>()).content }
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    if !name.is_null() {
        return pass!(vfs.xOpen(name, file, flags, out), else ffi::SQLITE_CANTOPEN);
    }
    let content = Box::new(Content { pieces: Vec::new(), length: 0, of: TempSpace::current() });
    unsafe {
        if !out.is_null() {
            *out = flags;
        }
        ptr::write(
            file.cast(),
            File {
                base: ffi::sqlite3_file { pMethods: &raw const METHODS },
                content: Box::into_raw(content),
            },
        );
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    unsafe { drop(Box::from_raw((*file.cast::<File>()).content)) };
    ffi::SQLITE_OK
}

/// A position and a length in a file, from SQLite's integers.
fn place(at: i64, length: c_int) -> Option<(usize, usize)> {
    let (at, length) = (usize::try_from(at).ok()?, usize::try_from(length).ok()?);
    at.checked_add(length).map(|_| (at, length))
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    length: c_int,
    at: i64,
) -> c_int {
    let Some((at, length)) = place(at, length) else { return ffi::SQLITE_IOERR_READ };
    let content = unsafe { content(file) };
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    let there = content.length.saturating_sub(at).min(length);
    content.walk(at, there, |done, bytes| {
        if let Some(into) = buffer.get_mut(done..done + bytes.len()) {
            into.copy_from_slice(bytes);
        }
    });
    if there == length {
        return ffi::SQLITE_OK;
    }
    // SQLite relies on the zeros.
    buffer.get_mut(there..).unwrap_or_default().fill(0);
    ffi::SQLITE_IOERR_SHORT_READ
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    buffer: *const c_void,
    length: c_int,
    at: i64,
) -> c_int {
    let Some((at, length)) = place(at, length) else { return ffi::SQLITE_IOERR_WRITE };
    let content = unsafe { content(file) };
    let buffer = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), length) };
    if at + length > content.length {
        content.resize(at + length);
    }
    content.walk(at, length, |done, bytes| {
        if let Some(from) = buffer.get(done..done + bytes.len()) {
            bytes.copy_from_slice(from);
        }
    });
    ffi::SQLITE_OK
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    let content = unsafe { content(file) };
    content.resize(content.length.min(usize::try_from(length).unwrap_or_default()));
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    unsafe { *size = i64::try_from(content(file).length).unwrap_or(i64::MAX) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn nothing_to_do(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn is_reserved(_: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn zero(_: *mut ffi::sqlite3_file) -> c_int {
    0
}

/// Version 1: no shared memory, no mapped pages.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(nothing_to_do),
    xFileSize: Some(file_size),
    xLock: Some(nothing_to_do),
    xUnlock: Some(nothing_to_do),
    xCheckReservedLock: Some(is_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(zero),
    xDeviceCharacteristics: Some(zero),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    pass!(vfs.xDelete(name, sync), else ffi::SQLITE_IOERR_DELETE)
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    pass!(vfs.xAccess(name, flags, out), else ffi::SQLITE_IOERR_ACCESS)
}

unsafe extern "C" fn full_pathname(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    length: c_int,
    out: *mut c_char,
) -> c_int {
    pass!(vfs.xFullPathname(name, length, out), else ffi::SQLITE_CANTOPEN)
}

unsafe extern "C" fn randomness(
    vfs: *mut ffi::sqlite3_vfs,
    length: c_int,
    out: *mut c_char,
) -> c_int {
    pass!(vfs.xRandomness(length, out), else 0)
}

unsafe extern "C" fn sleep(vfs: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    pass!(vfs.xSleep(micros), else 0)
}

unsafe extern "C" fn last_error(
    vfs: *mut ffi::sqlite3_vfs,
    length: c_int,
    out: *mut c_char,
) -> c_int {
    pass!(vfs.xGetLastError(length, out), else 0)
}

/// SQLite counts from noon on 24 November 4714 BC, UTC.
const JULIAN_1970_MILLIS: i64 = 210_866_760_000_000;

const DAY_MILLIS: f64 = 86_400_000.0;

/// The present time, by the clock of the present run. `None` when there is no run, `Some(None)`
/// when its clock failed.
fn run_millis() -> Option<Option<i64>> {
    let temp_space = TempSpace::current()?;
    // The app's clock may panic, and a panic must not unwind through SQLite.
    Some(
        catch_unwind(AssertUnwindSafe(|| {
            temp_space.now_millis().saturating_add(JULIAN_1970_MILLIS)
        }))
        .ok(),
    )
}

unsafe extern "C" fn current_time_millis(vfs: *mut ffi::sqlite3_vfs, out: *mut i64) -> c_int {
    match run_millis() {
        Some(Some(now)) => {
            unsafe { *out = now };
            ffi::SQLITE_OK
        }
        Some(None) => ffi::SQLITE_ERROR,
        None => pass!(vfs.xCurrentTimeInt64(out), else ffi::SQLITE_ERROR),
    }
}

unsafe extern "C" fn current_time(vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    match run_millis() {
        #[allow(clippy::cast_precision_loss, reason = "SQLite's own form of it is a float of days")]
        Some(Some(now)) => {
            unsafe { *out = now as f64 / DAY_MILLIS };
            ffi::SQLITE_OK
        }
        Some(None) => ffi::SQLITE_ERROR,
        None => pass!(vfs.xCurrentTime(out), else ffi::SQLITE_ERROR),
    }
}
