//! Which rows the statements of a connection change, by table and rowid: SQLite's update hook.
//!
//! It is not told of tables WITHOUT ROWID, of rows that a REPLACE deletes, and of a table that is
//! emptied at a stroke (see sqlite.org/c3ref/update_hook.html).

use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

use crate::mutex::lock;

/// Rows that are remembered.
const ROWS_MAX: usize = 1_000;

/// Rows that were changed, in the order of their first change.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) rows: Vec<(String, i64)>,
    seen: HashSet<(String, i64)>,
}

impl Touched {
    fn add(&mut self, table: &str, row: i64) {
        if self.rows.len() >= ROWS_MAX || table.len() > 1_024 {
            return;
        }
        let touched = (table.to_string(), row);
        if self.seen.insert(touched.clone()) {
            self.rows.push(touched);
        }
    }
}

type Shared = Mutex<Touched>;

/// Watches a connection from now on, until [`unwatch_rows`].
///
/// # Errors
/// When SQLite has no memory left.
pub(crate) fn watch_rows(connection: &Connection) -> rusqlite::Result<Arc<Shared>> {
    let touched: Arc<Shared> = Arc::default();
    let (flags, kept) = (
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY,
        AssertUnwindSafe(Arc::clone(&touched)),
    );
    // SAFETY: the function below keeps the memory for as long as SQLite may call the hook: SQLite
    // drops a connection's functions after it has closed its files. The handle is used from the
    // thread that holds the connection.
    #[allow(unsafe_code, reason = "rusqlite's own wants the connection to itself")]
    unsafe {
        rusqlite::ffi::sqlite3_update_hook(connection.handle(), None, std::ptr::null_mut());
    }
    connection.create_scalar_function("verger_row_watch", 0, flags, move |_| {
        let _ = &kept;
        Ok(0)
    })?;
    // SAFETY: as above; the function that keeps the memory is in place.
    #[allow(unsafe_code, reason = "rusqlite's own wants the connection to itself")]
    unsafe {
        let context = Arc::as_ptr(&touched).cast_mut().cast();
        rusqlite::ffi::sqlite3_update_hook(connection.handle(), Some(hook), context);
    }
    Ok(touched)
}

/// Watches no more.
pub(crate) fn unwatch_rows(connection: &Connection) {
    // SAFETY: the handle is of an open connection, used from the thread that holds it.
    #[allow(unsafe_code, reason = "rusqlite's own wants the connection to itself")]
    unsafe {
        rusqlite::ffi::sqlite3_update_hook(connection.handle(), None, std::ptr::null_mut());
    }
}

#[allow(unsafe_code, reason = "SQLite calls it through a pointer")]
unsafe extern "C" fn hook(
    context: *mut c_void,
    _: c_int,
    database: *const c_char,
    table: *const c_char,
    row: i64,
) {
    // SAFETY: the context is what was installed and lives as long as SQLite may call this; the names
    // are C strings for as long as the call lasts.
    let (touched, database, table) =
        unsafe { (&*context.cast::<Shared>(), CStr::from_ptr(database), CStr::from_ptr(table)) };
    // Nothing may unwind into SQLite.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if let (b"main", Ok(table)) = (database.to_bytes(), table.to_str()) {
            lock(touched).add(table, row);
        }
    }));
}
