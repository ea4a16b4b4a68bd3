//! The virtual table that stands before an app's table. SQLite sees in it the rows of one tenant.
//! It keeps the statements by which it reads and writes the app's table, for the next of the same.

mod cursor;
mod read;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use rusqlite::ffi;

pub(super) use self::cursor::Cursor;
use self::read::Read;
use super::inner::{Failure, Inner, Shared};
use super::table::Table;
use super::write::Shape;
use crate::mutex::lock;

/// Idle statements kept for the next read or write of a table.
const IDLE_MAX: usize = 32;

/// What the virtual tables of one connection have in common.
pub(super) struct Walls {
    pub(super) shared: Shared,
    /// The tables they stand before, by the number in their declaration.
    pub(super) tables: Mutex<HashMap<u64, Arc<Table>>>,
    /// What the column is called that holds the key of a row without a rowid.
    pub(super) hidden: String,
    /// The reads that are open, as addresses of their cursors.
    pub(super) reads: Mutex<Vec<usize>>,
}

/// One virtual table. SQLite holds it by its first field.
#[repr(C)]
pub(super) struct Wall {
    base: ffi::sqlite3_vtab,
    pub(super) db: *mut ffi::sqlite3,
    pub(super) walls: Arc<Walls>,
    pub(super) table: Arc<Table>,
    idle: RefCell<HashMap<Box<[u8]>, Vec<Read>>>,
    pub(super) writes: RefCell<Vec<(Shape, Inner)>>,
    /// A list for the columns of the row that is written.
    pub(super) columns: Cell<Vec<usize>>,
    /// Compares a value with the tenant by the column's own rule.
    pub(super) compare: RefCell<Option<Inner>>,
}

impl Wall {
    pub(super) fn new(db: *mut ffi::sqlite3, walls: Arc<Walls>, table: Arc<Table>) -> Self {
        let base =
            ffi::sqlite3_vtab { pModule: std::ptr::null(), nRef: 0, zErrMsg: std::ptr::null_mut() };
        Self {
            base,
            db,
            walls,
            table,
            idle: RefCell::default(),
            writes: RefCell::default(),
            columns: Cell::default(),
            compare: RefCell::default(),
        }
    }

    /// Prepares an inner statement.
    #[allow(unsafe_code, reason = "the handle is SQLite's own")]
    pub(super) fn prepare(&self, sql: &str) -> Result<Inner, Failure> {
        // SAFETY: SQLite has given the handle of the connection this table is on, calls on that
        // connection's thread, and drops the table before the connection.
        unsafe { Inner::prepare(&self.walls.shared, self.db, sql) }
    }

    /// Reads on, from before a statement writes, what the same statement still has to read: it must
    /// not come upon its own rows.
    #[allow(unsafe_code, reason = "cursors are held by SQLite")]
    pub(super) fn read_ahead(&self) -> Result<(), Failure> {
        let turn = self.walls.shared.turn.load(Ordering::Relaxed);
        let reads = lock(&self.walls.reads);
        for cursor in reads.iter() {
            // SAFETY: a cursor is in the list from when it is opened until it is closed, and SQLite
            // is inside none of them while it writes.
            let cursor = unsafe { &mut *(*cursor as *mut Cursor) };
            if cursor.turn == turn && !cursor.is_over {
                cursor.keep()?;
            }
        }
        Ok(())
    }

    fn take(&self, plan: &[u8]) -> Result<Read, Failure> {
        if let Some(read) = self.idle.borrow_mut().get_mut(plan).and_then(Vec::pop) {
            return Ok(read);
        }
        Read::prepare(self, plan)
    }

    fn put_away(&self, mut read: Read) {
        read.inner.reset();
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= IDLE_MAX {
            idle.clear();
        }
        let same = idle.entry(read.plan.clone()).or_default();
        if same.len() < IDLE_MAX {
            same.push(read);
        }
    }
}
