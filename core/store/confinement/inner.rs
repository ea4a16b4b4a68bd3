//! The engine's own statements on an app's tables, which run inside a worker's statement.
#![allow(unsafe_code, reason = "rusqlite has no form of what runs inside another statement")]

use std::ffi::{CStr, c_int};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::ffi;

use crate::mutex::lock;

/// What the walls of one connection share.
#[derive(Default)]
pub(super) struct Shared {
    tenant: Mutex<Arc<str>>,
    /// Grows with each run. What was bound for the tenant before must be bound anew.
    pub(super) run: AtomicU64,
    /// Grows with each step of a worker's statement, so that rows being read are told from other
    /// cursors' rows.
    pub(super) turn: AtomicU64,
    /// Rows changed in a worker's name, and how many writes were asked for.
    pub(super) changed: AtomicU64,
    pub(super) writes: AtomicU64,
    /// The worker's statement inserts: a write without an old row is not an update that found none.
    pub(super) inserts: AtomicBool,
    /// The last failed write keeps the rows before it.
    pub(super) keeps: AtomicBool,
    /// What a worker was denied, if its last statement ended by that.
    pub(super) denied: Mutex<Option<String>>,
    inner: Arc<AtomicBool>,
}

impl Shared {
    pub(super) fn new(inner: Arc<AtomicBool>) -> Self {
        Self { inner, ..Self::default() }
    }

    pub(super) fn tenant(&self) -> MutexGuard<'_, Arc<str>> {
        lock(&self.tenant)
    }

    /// Tells the authorizer that the engine's own statement runs, until it is dropped.
    fn enter(&self) -> Inside<'_> {
        // One thread uses a connection, so no exchange in one step is needed.
        let before = self.inner.load(Ordering::Relaxed);
        self.inner.store(true, Ordering::Relaxed);
        Inside(&self.inner, before)
    }
}

struct Inside<'a>(&'a AtomicBool, bool);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, Ordering::Relaxed);
    }
}

/// Why an inner statement failed: the code that the worker's own statement fails with, and SQLite's
/// words.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: c_int,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: c_int, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The last failure of a connection.
    fn last(db: *mut ffi::sqlite3) -> Self {
        // SAFETY: the handle is of the connection that runs the worker's statement. The text is
        // copied before anything else is called.
        unsafe {
            let code = ffi::sqlite3_extended_errcode(db);
            let message = CStr::from_ptr(ffi::sqlite3_errmsg(db)).to_string_lossy().into_owned();
            Self { code, message }
        }
    }
}

/// The longest value an inner statement works on: SQLite's own bound. A worker's statement has a
/// lower bound, which must not tell of rows that the worker does not see.
const VALUE_MAX_BYTES: c_int = 1_000_000_000;

/// A prepared inner statement.
pub(super) struct Inner {
    db: *mut ffi::sqlite3,
    statement: NonNull<ffi::sqlite3_stmt>,
    /// The run whose tenant is bound.
    run: u64,
    /// A long value is bound.
    is_heavy: bool,
}

impl Inner {
    /// # Safety
    /// The handle is of an open connection, used from this thread, that outlives this.
    pub(super) unsafe fn prepare(
        shared: &Shared,
        db: *mut ffi::sqlite3,
        sql: &str,
    ) -> Result<Self, Failure> {
        let _inside = shared.enter();
        let mut statement = null_mut();
        let length = c_int::try_from(sql.len()).unwrap_or(c_int::MAX);
        // SAFETY: the text is as long as is said.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                db,
                sql.as_ptr().cast(),
                length,
                ffi::SQLITE_PREPARE_PERSISTENT as _,
                &mut statement,
                null_mut(),
            )
        };
        match NonNull::new(statement) {
            Some(statement) if code == ffi::SQLITE_OK => {
                // No run has this number.
                Ok(Self { db, statement, run: u64::MAX, is_heavy: false })
            }
            _ => Err(Failure::last(db)),
        }
    }

    /// Binds the tenant as the first parameter, unless it is bound.
    pub(super) fn bind_tenant(&mut self, shared: &Shared) {
        let run = shared.run.load(Ordering::Relaxed);
        if self.run != run {
            let tenant = shared.tenant();
            self.bind_bytes(1, tenant.as_bytes(), true);
            self.run = run;
        }
    }

    pub(super) fn bind_integer(&mut self, place: usize, number: i64) {
        // SAFETY: the statement is open.
        unsafe { ffi::sqlite3_bind_int64(self.statement.as_ptr(), place as c_int, number) };
    }

    pub(super) fn bind_real(&mut self, place: usize, number: f64) {
        // SAFETY: the statement is open.
        unsafe { ffi::sqlite3_bind_double(self.statement.as_ptr(), place as c_int, number) };
    }

    pub(super) fn bind_bytes(&mut self, place: usize, bytes: &[u8], is_text: bool) {
        let length = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
        let (start, copied) = (bytes.as_ptr(), ffi::SQLITE_TRANSIENT());
        // SAFETY: SQLite copies the bytes.
        unsafe {
            let (statement, place) = (self.statement.as_ptr(), place as c_int);
            if is_text {
                ffi::sqlite3_bind_text(statement, place, start.cast(), length, copied);
            } else {
                ffi::sqlite3_bind_blob(statement, place, start.cast(), length, copied);
            }
        }
    }

    /// # Safety
    /// The value is one that SQLite gave and has not taken back.
    pub(super) unsafe fn bind(&mut self, place: usize, value: *mut ffi::sqlite3_value) {
        // SAFETY: as said. A parameter that the statement does not have is left alone.
        unsafe {
            let kind = ffi::sqlite3_value_type(value);
            self.is_heavy |= (kind == ffi::SQLITE_TEXT || kind == ffi::SQLITE_BLOB)
                && ffi::sqlite3_value_bytes(value) > 1 << 10;
            ffi::sqlite3_bind_value(self.statement.as_ptr(), place as c_int, value);
        }
    }

    /// Steps, and returns whether there is a row.
    pub(super) fn step(&mut self, shared: &Shared) -> Result<bool, Failure> {
        let _inside = shared.enter();
        // SAFETY: the statement and its connection are open. The limit is put back as it was.
        let code = unsafe {
            let limit = ffi::sqlite3_limit(self.db, ffi::SQLITE_LIMIT_LENGTH as _, VALUE_MAX_BYTES);
            let code = ffi::sqlite3_step(self.statement.as_ptr());
            ffi::sqlite3_limit(self.db, ffi::SQLITE_LIMIT_LENGTH as _, limit);
            code
        };
        match code {
            ffi::SQLITE_ROW => Ok(true),
            ffi::SQLITE_DONE => Ok(false),
            _ => Err(Failure::last(self.db)),
        }
    }

    /// Ends a read or a write, and drops long values.
    pub(super) fn reset(&mut self) {
        // SAFETY: the statement is open.
        unsafe {
            ffi::sqlite3_reset(self.statement.as_ptr());
            if self.is_heavy {
                ffi::sqlite3_clear_bindings(self.statement.as_ptr());
                (self.is_heavy, self.run) = (false, u64::MAX);
            }
        }
    }

    /// A value of the present row, until the next step.
    pub(super) fn column(&self, place: usize) -> *mut ffi::sqlite3_value {
        // SAFETY: SQLite answers with NULL where there is no such column.
        unsafe { ffi::sqlite3_column_value(self.statement.as_ptr(), place as c_int) }
    }

    pub(super) fn integer(&self, place: usize) -> i64 {
        // SAFETY: as above.
        unsafe { ffi::sqlite3_column_int64(self.statement.as_ptr(), place as c_int) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: nothing else has the statement.
        unsafe { ffi::sqlite3_finalize(self.statement.as_ptr()) };
    }
}
