//! What differs between the versions of rusqlite that Verger builds with, in one form.
//!
//! `links = "sqlite3"` allows one copy of SQLite in a program, so Verger takes whichever version of
//! rusqlite the app's own SQLite crate needs. Methods whose signatures changed within that range
//! are called only here, or by SQLite's own interface.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

use crate::mutex::lock;

/// The result of a call that returns nothing, or a number, in versions where it cannot fail.
pub(crate) trait IntoResult {
    fn into_result(self) -> rusqlite::Result<()>;
}

impl IntoResult for () {
    fn into_result(self) -> rusqlite::Result<()> {
        Ok(())
    }
}

impl IntoResult for i32 {
    fn into_result(self) -> rusqlite::Result<()> {
        Ok(())
    }
}

impl<T> IntoResult for rusqlite::Result<T> {
    fn into_result(self) -> rusqlite::Result<()> {
        self.map(drop)
    }
}

type Handler = Mutex<dyn FnMut(c_int) -> bool + Send>;

/// Makes this function decide whether a connection goes on waiting for a lock, given how often it
/// has waited. The function lives as long as the connection, or until another one replaces it.
///
/// Before 0.41 rusqlite takes only functions without state.
///
/// # Errors
/// When SQLite has no memory left.
pub(crate) fn set_busy_handler(
    connection: &Connection,
    handler: impl FnMut(c_int) -> bool + Send + 'static,
) -> rusqlite::Result<()> {
    let handler: Arc<Box<Handler>> = Arc::new(Box::new(Mutex::new(handler)));
    // SAFETY: the function below keeps the handler for as long as SQLite may call it: SQLite drops
    // a connection's functions after it has closed its files. The handle is used from the thread
    // that holds the connection.
    #[allow(unsafe_code, reason = "rusqlite has no form of it that all versions share")]
    unsafe {
        let context = Arc::as_ptr(&handler).cast_mut().cast();
        rusqlite::ffi::sqlite3_busy_handler(connection.handle(), Some(ask), context);
    }
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
    let kept = AssertUnwindSafe(handler);
    connection.create_scalar_function("verger_busy_handler", 0, flags, move |_| {
        let _ = &kept;
        Ok(0)
    })
}

#[allow(unsafe_code, reason = "SQLite calls it through a pointer")]
unsafe extern "C" fn ask(handler: *mut c_void, tries: c_int) -> c_int {
    // SAFETY: it is the pointer that was installed, to a handler that lives as long as SQLite may
    // call it.
    let handler = unsafe { &*handler.cast::<Box<Handler>>() };
    let mut ask = lock(handler);
    // If it panics, the lock is not waited for.
    catch_unwind(AssertUnwindSafe(|| ask(tries))).unwrap_or_default().into()
}

/// Whether the main database of a connection can only be read.
pub(crate) fn is_read_only(connection: &Connection) -> bool {
    // SAFETY: the handle is of an open connection, and the name is a C string.
    #[allow(unsafe_code, reason = "versions differ in how they name a database")]
    unsafe {
        rusqlite::ffi::sqlite3_db_readonly(connection.handle(), c"main".as_ptr()) == 1
    }
}

/// Releases memory that the connection's page cache does not need now.
pub(crate) fn release_memory(connection: &Connection) {
    // SAFETY: the handle is of an open connection, used from the thread that holds it.
    #[allow(unsafe_code, reason = "rusqlite has it from 0.33 on")]
    unsafe {
        rusqlite::ffi::sqlite3_db_release_memory(connection.handle());
    }
}
