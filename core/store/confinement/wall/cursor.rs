//! One read of a virtual table, row by row. Where nobody asks what is in the rows, they are counted
//! after the first few. Where the statement that reads is about to write, the rest of its rows is
//! read ahead.

use std::collections::VecDeque;
use std::ffi::c_int;
use std::sync::atomic::Ordering;

use rusqlite::ffi;

use super::Wall;
use super::read::{Form, Read};
use crate::store::confinement::inner::Failure;
use crate::store::confinement::key;
use crate::store::confinement::plan::Query;
use crate::store::confinement::table::Key;

/// Rows that a read goes through before it counts the rest: whoever asks whether there is any wants
/// one.
const ROWS_BEFORE_COUNT: i64 = 16;

/// One read of a virtual table. SQLite holds it by its first field.
#[repr(C)]
pub(in crate::store::confinement) struct Cursor {
    base: ffi::sqlite3_vtab_cursor,
    pub(in crate::store::confinement) wall: *const Wall,
    read: Option<Read>,
    pub(in crate::store::confinement) is_over: bool,
    /// The rows from here on, once they were read ahead.
    kept: Option<VecDeque<Vec<Kept>>>,
    number: i64,
    pub(super) turn: u64,
    /// What its plan was given, where its rows may be counted: no column of them is read.
    values: Option<Vec<Kept>>,
    counted: Option<Counted>,
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

impl Cursor {
    pub(in crate::store::confinement) fn new(wall: *const Wall) -> Self {
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
    pub(in crate::store::confinement) fn begin(
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
    pub(in crate::store::confinement) fn skip(&mut self) -> bool {
        let is_there = self.kept.is_none()
            && self.counted.is_some_and(|counted| self.number + 1 < counted.rows);
        self.number += i64::from(is_there);
        is_there
    }

    pub(in crate::store::confinement) fn next(&mut self) -> Result<(), Failure> {
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
    pub(super) fn keep(&mut self) -> Result<(), Failure> {
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
    pub(in crate::store::confinement) fn rowid(&mut self) -> Result<i64, Failure> {
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
    pub(in crate::store::confinement) unsafe fn answer(
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
