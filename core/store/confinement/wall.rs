//! The virtual table that stands before an app's table: what SQLite sees of it are the rows of one
//! tenant.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::ffi::c_int;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use rusqlite::ffi;

use super::inner::{Failure, Inner, Shared};
use super::key;
use super::plan::{Query, columns_of};
use super::table::{Key, Table};
use super::write::Shape;
use crate::mutex::lock;

/// Idle statements kept for the next read or write of a table.
const IDLE_MAX: usize = 32;

/// Rows that a read goes through before it counts the rest: whoever asks whether there is any wants
/// one.
const ROWS_BEFORE_COUNT: i64 = 16;

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
    /// A list for the columns of the row that is written.
    pub(super) columns: Cell<Vec<usize>>,
    /// Compares a value with the tenant by the column's own rule.
    pub(super) compare: RefCell<Option<Inner>>,
}

/// A read's statement.
struct Read {
    /// The plan it was prepared for; last what is made of it, see [`Form`].
    plan: Box<[u8]>,
    inner: Inner,
    /// For each column of the table, which one of the statement it is.
    places: Vec<Option<usize>>,
    width: usize,
    /// No column of its rows is read, as far as SQLite said: the row's key may be.
    reads_nothing: bool,
}

/// What is made of a plan, as the last byte of a statement's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Form {
    /// All rows of the tenant: no index answers the terms, for values of these kinds.
    All,
    /// The rows for which the index answers the terms.
    Answered,
    /// How many rows there are of either kind.
    CountedAll,
    CountedAnswered,
}

impl Form {
    fn of(byte: u8) -> Self {
        match byte {
            0 => Self::All,
            1 => Self::Answered,
            2 => Self::CountedAll,
            _ => Self::CountedAnswered,
        }
    }

    fn answers(self) -> bool {
        matches!(self, Self::Answered | Self::CountedAnswered)
    }

    fn counted(self) -> Self {
        if self.answers() { Self::CountedAnswered } else { Self::CountedAll }
    }
}

/// Rows that were counted because nobody asks what is in them.
#[derive(Clone, Copy)]
struct Counted {
    rows: i64,
    /// The row that the read itself stands on.
    stands_on: i64,
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
    /// What its plan was given, where its rows may be counted: no column of them is read.
    values: Option<Vec<Kept>>,
    counted: Option<Counted>,
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
        let lost = || Failure::new(ffi::SQLITE_INTERNAL, "the plan of a read is lost");
        let (form, text) = plan.split_last().ok_or_else(lost)?;
        let form = Form::of(*form);
        let query = std::str::from_utf8(text).ok().and_then(Query::read).ok_or_else(lost)?;
        let inner = self.prepare(&match form {
            Form::All | Form::Answered => query.sql(|_| form.answers()),
            Form::CountedAll | Form::CountedAnswered => query.count(form.answers()),
        })?;
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
        Ok(Read { plan: plan.into(), inner, places, width, reads_nothing: query.used == 0 })
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
            values: None,
            counted: None,
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
        (self.kept, self.counted, self.values) = (None, None, None);
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
            .is_some_and(|(last, text)| text == plan && Form::of(*last).answers() == answers);
        if !is_same {
            let mut key = Vec::with_capacity(plan.len() + 1);
            key.extend(plan);
            key.push(if answers { Form::Answered } else { Form::All } as u8);
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
        if read.reads_nothing {
            let copy = |value: &*mut ffi::sqlite3_value| {
                // SAFETY: as above; the copy is our own.
                Kept(unsafe { ffi::sqlite3_value_dup(*value) })
            };
            self.values = Some(match answers {
                true => values.iter().map(copy).collect(),
                false => Vec::new(),
            });
        }
        self.turn = wall.walls.shared.turn.load(Ordering::Relaxed);
        self.number = 0;
        self.is_over = !read.inner.step(&wall.walls.shared)?;
        Ok(())
    }

    /// Goes to the next row where no more is known of it than that it is there.
    #[inline]
    pub(super) fn skip(&mut self) -> bool {
        let is_there = self.kept.is_none()
            && self.counted.is_some_and(|counted| self.number + 1 < counted.rows);
        self.number += i64::from(is_there);
        is_there
    }

    pub(super) fn next(&mut self) -> Result<(), Failure> {
        self.number += 1;
        if let Some(kept) = &mut self.kept {
            kept.pop_front();
            self.is_over = kept.is_empty();
            return Ok(());
        }
        if let Some(counted) = self.counted {
            self.is_over = self.number >= counted.rows;
            return Ok(());
        }
        if self.values.is_some() && self.number >= ROWS_BEFORE_COUNT {
            return self.count();
        }
        self.step()
    }

    /// Counts the rows, instead of going through them: nobody has asked what is in one so far.
    #[allow(unsafe_code, reason = "the values are SQLite's own")]
    fn count(&mut self) -> Result<(), Failure> {
        // SAFETY: as in `wall`.
        let wall = unsafe { &*self.wall };
        let (Some(read), Some(values)) = (&self.read, &self.values) else { return Ok(()) };
        // The rows before this one were gone through.
        let stands_on = self.number - 1;
        let mut plan = read.plan.clone();
        if let Some(form) = plan.last_mut() {
            *form = Form::of(*form).counted() as u8;
        }
        let mut counting = wall.take(&plan)?;
        counting.inner.bind_tenant(&wall.walls.shared);
        for (place, value) in values.iter().enumerate() {
            // SAFETY: a value that was kept lives as long as this read.
            unsafe { counting.inner.bind(place + 2, value.0) };
        }
        let rows = counting.inner.step(&wall.walls.shared).map(|_| counting.inner.integer(0));
        wall.put_away(counting);
        let rows = rows?;
        self.counted = Some(Counted { rows, stands_on });
        self.is_over = self.number >= rows;
        Ok(())
    }

    /// Somebody asks what is in a row after all: the read goes to where it is.
    fn go_on_reading(&mut self) -> Result<(), Failure> {
        self.values = None;
        if let Some(counted) = self.counted.take()
            && !self.is_over
        {
            for _ in counted.stands_on..self.number {
                self.step()?;
            }
        }
        Ok(())
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
        self.go_on_reading()?;
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
    pub(super) fn rowid(&mut self) -> Result<i64, Failure> {
        if self.values.is_some() {
            self.go_on_reading()?;
        }
        Ok(match (&self.wall().table.key, &self.kept, &self.read) {
            (Key::Rowid { .. }, None, Some(read)) => read.inner.integer(0),
            // SAFETY: a value that was kept lives as long as its row.
            (Key::Rowid { .. }, Some(_), _) => {
                self.value(0).map_or(0, |value| unsafe { ffi::sqlite3_value_int64(value) })
            }
            _ => self.number,
        })
    }

    /// Answers SQLite with a column of the row.
    ///
    /// # Safety
    /// The context is the one SQLite called with.
    #[allow(unsafe_code, reason = "the values are SQLite's own")]
    pub(super) unsafe fn answer(
        &mut self,
        context: *mut ffi::sqlite3_context,
        column: usize,
    ) -> Result<(), Failure> {
        if self.values.is_some() {
            self.go_on_reading()?;
        }
        // SAFETY: as said; the values live until the next step, and SQLite copies them.
        unsafe {
            let table = &self.wall().table;
            if column < table.columns.len() {
                let place = self.read.as_ref().and_then(|read| *read.places.get(column)?);
                if let Some(value) = place.and_then(|place| self.value(place)) {
                    ffi::sqlite3_result_value(context, value);
                }
                return Ok(());
            }
            let Key::Columns(parts) = &table.key else {
                ffi::sqlite3_result_int64(context, self.number);
                return Ok(());
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
        Ok(())
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if let Some(read) = self.read.take() {
            self.wall().put_away(read);
        }
    }
}
