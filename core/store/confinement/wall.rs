//! The virtual table that stands before an app's table: what SQLite sees of it are the rows of one
//! tenant.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ffi::c_int;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::ffi;

use super::inner::{Failure, Inner, Shared};
use super::key;
use super::plan::{Query, columns_of};
use super::table::{Key, Table};
use super::write::Shape;

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
    pub(super) base: ffi::sqlite3_vtab,
    pub(super) db: *mut ffi::sqlite3,
    pub(super) walls: Arc<Walls>,
    pub(super) table: Arc<Table>,
    idle: RefCell<HashMap<Box<[u8]>, Vec<Read>>>,
    pub(super) writes: RefCell<Vec<(Shape, Inner)>>,
    /// Compares a value with the tenant by the column's own rule.
    pub(super) compare: RefCell<Option<Inner>>,
}

/// A read's statement.
struct Read {
    /// The plan it was prepared for; last whether the index answers its terms.
    plan: Box<[u8]>,
    inner: Inner,
    /// For each column of the table, which one of the statement it is.
    places: Vec<Option<usize>>,
    width: usize,
}

/// Values that SQLite copied.
struct Kept(*mut ffi::sqlite3_value);

impl Drop for Kept {
    #[allow(unsafe_code, reason = "the values are SQLite's own")]
    fn drop(&mut self) {
        // SAFETY: it was made by `sqlite3_value_dup` and is nobody else's.
        unsafe { ffi::sqlite3_value_free(self.0) };
    }
}

/// One read of a virtual table. SQLite holds it by its first field.
#[repr(C)]
pub(super) struct Cursor {
    pub(super) base: ffi::sqlite3_vtab_cursor,
    pub(super) wall: *const Wall,
    read: Option<Read>,
    pub(super) is_over: bool,
    /// The rows from here on, once they were read ahead.
    kept: Option<VecDeque<Vec<Kept>>>,
    number: i64,
    turn: u64,
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
        let reads = self.walls.reads.lock().unwrap_or_else(PoisonError::into_inner);
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
        let lost = || Failure::new(ffi::SQLITE_INTERNAL, "the plan of a read is lost");
        let (answers, text) = plan.split_last().ok_or_else(lost)?;
        let query = std::str::from_utf8(text).ok().and_then(Query::read).ok_or_else(lost)?;
        let inner = self.prepare(&query.sql(|_| *answers == 1))?;
        let first = match &self.table.key {
            Key::Rowid { .. } => 1,
            Key::Columns(parts) => parts.len(),
            Key::None => 0,
        };
        let mut places = vec![None; self.table.columns.len()];
        let mut width = first;
        for column in columns_of(&self.table, query.used) {
            places[column] = Some(width);
            width += 1;
        }
        Ok(Read { plan: plan.into(), inner, places, width })
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

impl Cursor {
    pub(super) fn new(wall: *const Wall) -> Self {
        Self {
            base: ffi::sqlite3_vtab_cursor { pVtab: std::ptr::null_mut() },
            wall,
            read: None,
            is_over: true,
            kept: None,
            number: 0,
            turn: 0,
        }
    }

    #[allow(unsafe_code, reason = "SQLite holds the table")]
    fn wall(&self) -> &Wall {
        // SAFETY: SQLite closes a table's cursors before the table.
        unsafe { &*self.wall }
    }

    /// Begins to read, with the values of the plan's terms.
    #[allow(unsafe_code, reason = "the values are SQLite's own")]
    pub(super) fn begin(
        &mut self,
        plan: &[u8],
        values: &[*mut ffi::sqlite3_value],
    ) -> Result<(), Failure> {
        self.kept = None;
        let answers = Query::kinds(plan).iter().zip(values).all(|(kind, value)| {
            // SAFETY: SQLite has given the values for this call.
            let number = unsafe {
                [ffi::SQLITE_INTEGER, ffi::SQLITE_FLOAT].contains(&ffi::sqlite3_value_type(*value))
            };
            *kind == b'.' || !number
        });
        let is_same = self
            .read
            .as_ref()
            .and_then(|read| read.plan.split_last())
            .is_some_and(|(last, text)| text == plan && (*last == 1) == answers);
        if !is_same {
            let mut key = Vec::with_capacity(plan.len() + 1);
            key.extend(plan);
            key.push(answers.into());
            let read = self.wall().take(&key)?;
            if let Some(old) = self.read.replace(read) {
                self.wall().put_away(old);
            }
        }
        // SAFETY: as in `wall`.
        let wall = unsafe { &*self.wall };
        let Some(read) = &mut self.read else { return Ok(()) };
        if is_same {
            read.inner.reset();
        }
        read.inner.bind_tenant(&wall.walls.shared);
        if answers {
            for (place, value) in values.iter().enumerate() {
                // SAFETY: SQLite has given the values for this call.
                unsafe { read.inner.bind(place + 2, *value) };
            }
        }
        self.turn = wall.walls.shared.turn.load(Ordering::Relaxed);
        self.number = 0;
        self.is_over = !read.inner.step(&wall.walls.shared)?;
        Ok(())
    }

    pub(super) fn next(&mut self) -> Result<(), Failure> {
        self.number += 1;
        if let Some(kept) = &mut self.kept {
            kept.pop_front();
            self.is_over = kept.is_empty();
            return Ok(());
        }
        self.step()
    }

    #[allow(unsafe_code, reason = "SQLite holds the table")]
    fn step(&mut self) -> Result<(), Failure> {
        // SAFETY: as in `wall`.
        let wall = unsafe { &*self.wall };
        self.is_over = match &mut self.read {
            Some(read) => !read.inner.step(&wall.walls.shared)?,
            None => true,
        };
        Ok(())
    }

    #[allow(unsafe_code, reason = "the values are SQLite's own")]
    fn keep(&mut self) -> Result<(), Failure> {
        if self.kept.is_some() {
            return Ok(());
        }
        let mut kept = VecDeque::new();
        while !self.is_over {
            if let Some(read) = &self.read {
                let row = (0..read.width).map(|place| {
                    // SAFETY: the value lives until the next step; the copy is our own.
                    Kept(unsafe { ffi::sqlite3_value_dup(read.inner.column(place)) })
                });
                kept.push_back(row.collect());
            }
            self.step()?;
        }
        self.is_over = kept.is_empty();
        self.kept = Some(kept);
        Ok(())
    }

    /// A value of the statement's row.
    fn value(&self, place: usize) -> Option<*mut ffi::sqlite3_value> {
        match (&self.kept, &self.read) {
            (Some(kept), _) => kept.front()?.get(place).map(|value| value.0),
            (None, Some(read)) => Some(read.inner.column(place)),
            (None, None) => None,
        }
    }

    #[allow(unsafe_code, reason = "the values are SQLite's own")]
    pub(super) fn rowid(&self) -> i64 {
        match (&self.wall().table.key, &self.kept, &self.read) {
            (Key::Rowid { .. }, None, Some(read)) => read.inner.integer(0),
            // SAFETY: a value that was kept lives as long as its row.
            (Key::Rowid { .. }, Some(_), _) => {
                self.value(0).map_or(0, |value| unsafe { ffi::sqlite3_value_int64(value) })
            }
            _ => self.number,
        }
    }

    /// Answers SQLite with a column of the row.
    ///
    /// # Safety
    /// The context is the one SQLite called with.
    #[allow(unsafe_code, reason = "the values are SQLite's own")]
    pub(super) unsafe fn answer(&self, context: *mut ffi::sqlite3_context, column: usize) {
        // SAFETY: as said; the values live until the next step, and SQLite copies them.
        unsafe {
            let table = &self.wall().table;
            if column < table.columns.len() {
                let place = self.read.as_ref().and_then(|read| *read.places.get(column)?);
                if let Some(value) = place.and_then(|place| self.value(place)) {
                    ffi::sqlite3_result_value(context, value);
                }
                return;
            }
            let Key::Columns(parts) = &table.key else {
                ffi::sqlite3_result_int64(context, self.number);
                return;
            };
            let mut key = Vec::new();
            for place in 0..parts.len() {
                if let Some(value) = self.value(place) {
                    key::append(&mut key, value);
                }
            }
            let length = c_int::try_from(key.len()).unwrap_or(c_int::MAX);
            let start = key.as_ptr().cast();
            ffi::sqlite3_result_blob(context, start, length, ffi::SQLITE_TRANSIENT());
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if let Some(read) = self.read.take() {
            self.wall().put_away(read);
        }
    }
}
