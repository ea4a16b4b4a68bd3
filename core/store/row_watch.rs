//! Which rows the statements of a connection change, by table and rowid: SQLite's update hook.
//!
//! SQLite does not call it for tables WITHOUT ROWID, for rows that a REPLACE deletes, or for a
//! table that is emptied by one DELETE without WHERE (see sqlite.org/c3ref/update_hook.html).

use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};
use serde_json::{Map, Value as Json};

use super::work_connection::WorkConnection;
use crate::mutex::lock;
use crate::text::beginning;

/// The longest value of a row that is shown.
const VALUE_MAX_BYTES: usize = 1 << 10;

/// The most rows that are remembered.
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

impl WorkConnection {
    /// Watches which rows change, until [`unwatch_rows`](Self::unwatch_rows). `None` if there is no
    /// memory for it.
    pub(crate) fn watch_rows(&self) -> Option<Arc<Mutex<Touched>>> {
        watch_rows(self.raw()).ok()
    }

    /// Stops watching.
    pub(crate) fn unwatch_rows(&self) {
        unwatch_rows(self.raw());
    }

    /// A row as an object of its columns, with long values cut. `None` if there is no row, or it
    /// cannot be read.
    pub(crate) fn row(&self, table: &str, rowid: i64) -> Option<Json> {
        self.engine(|connection| read_row(connection, table, rowid)).ok().flatten()
    }
}

/// Watches a connection from now on, until [`unwatch_rows`].
///
/// # Errors
/// When SQLite has no memory left.
fn watch_rows(connection: &Connection) -> rusqlite::Result<Arc<Shared>> {
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

/// Stops watching.
fn unwatch_rows(connection: &Connection) {
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
    // SAFETY: the context is what was installed and lives as long as SQLite may call this. The
    // names are C strings for as long as the call lasts.
    let (touched, database, table) =
        unsafe { (&*context.cast::<Shared>(), CStr::from_ptr(database), CStr::from_ptr(table)) };
    // Nothing may unwind into SQLite.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if let (b"main", Ok(table)) = (database.to_bytes(), table.to_str()) {
            lock(touched).add(table, row);
        }
    }));
}

fn read_row(connection: &Connection, table: &str, rowid: i64) -> rusqlite::Result<Option<Json>> {
    let table = table.replace('"', "\"\"");
    let mut select =
        connection.prepare(&format!("SELECT * FROM main.\"{table}\" WHERE _rowid_ = ?1"))?;
    let names = (0..select.column_count())
        .map(|place| select.column_name(place).map(str::to_string))
        .collect::<Result<Vec<_>, _>>()?;
    select
        .query_row([rowid], |row| {
            let mut object = Map::new();
            for (place, name) in names.iter().enumerate() {
                object.insert(name.clone(), json(row.get_ref(place)?));
            }
            Ok(Json::Object(object))
        })
        .optional()
}

fn json(value: ValueRef<'_>) -> Json {
    match value {
        ValueRef::Null => Json::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => {
            let text = String::from_utf8_lossy(text);
            match beginning(&text, VALUE_MAX_BYTES) {
                whole if whole.len() == text.len() => whole.into(),
                cut => format!("{cut}… ({} bytes)", text.len()).into(),
            }
        }
        ValueRef::Blob(bytes) => format!("(blob of {} bytes)", bytes.len()).into(),
    }
}
