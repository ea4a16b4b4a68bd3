//! Open queries of a run.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use rusqlite::Row;
use rusqlite::types::ValueRef;
use verger_worker::{HostError, Value, code};

use super::Run;
use super::statement::{Prepared, bind};
use super::transaction::State;

/// Cursors one run may have open.
const OPEN_MAX: usize = 64;

/// A cursor of a run. Never used again once closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CursorId(pub(crate) u32);

/// The cursors a run has open.
#[derive(Default)]
pub(super) struct Open {
    cursors: BTreeMap<CursorId, Cursor>,
    next: u32,
}

impl Open {
    pub(super) fn clear(&mut self) {
        self.cursors.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cursors.is_empty()
    }

    /// The number the next cursor gets.
    pub(super) fn mark(&self) -> u32 {
        self.next
    }

    /// Closes what was opened from that mark on.
    pub(super) fn close_from(&mut self, mark: u32) {
        self.cursors.split_off(&CursorId(mark));
    }

    /// Takes the statements of cursors that are being read away: they are closed, unless they
    /// resume.
    pub(super) fn suspend(&mut self) {
        for cursor in self.cursors.values_mut() {
            if matches!(cursor.rows, Source::Live(..)) {
                cursor.rows = Source::Suspended;
            }
        }
    }

    /// Has a cursor go on with a statement that stands where its own stood.
    pub(super) fn resume(&mut self, id: CursorId, sql: &str, statement: Prepared) {
        if let Some(cursor) = self.cursors.get_mut(&id)
            && matches!(cursor.rows, Source::Suspended)
        {
            cursor.rows = Source::Live(sql.to_string(), statement);
        }
    }
}

struct Cursor {
    columns: Vec<String>,
    rows: Source,
}

enum Source {
    /// A SELECT, stepped as its rows are asked for.
    Live(String, Prepared),
    /// Rows that were read at once: those of a statement that also writes.
    Read(VecDeque<Vec<Value>>),
    /// Its statement was taken away, and its rows have changed since.
    Suspended,
    Ended,
}

impl Run {
    pub(crate) fn open_cursor(&self, sql: &str, params: &[Value]) -> Result<CursorId, HostError> {
        self.alive()?;
        self.account(1, &[params])?;
        if self.cursors.borrow().cursors.len() >= OPEN_MAX {
            return Err(HostError::new(
                code::LIMIT,
                format!("{OPEN_MAX} cursors are open: drop one before opening another"),
            ));
        }
        let mut statement = self.ready(sql)?;
        statement.with(|_, statement| bind(statement, params))?;
        let (columns, reads) = statement.with(|_, statement| {
            let columns: Vec<String> = (0..statement.column_count())
                .filter_map(|at| statement.column_name(at).ok().map(str::to_string))
                .collect();
            (columns, statement.readonly())
        });
        if columns.is_empty() {
            return Err(HostError::new(
                code::INVALID,
                "the statement returns no rows: use execute, not query",
            ));
        }
        let rows = if reads {
            Source::Live(sql.to_string(), statement)
        } else {
            // A write happens when it is asked for, not when someone looks at its rows.
            let before = self.connection.changed_by_triggers();
            let (rows, ended) = self.read(&mut statement, columns.len(), u32::MAX)?;
            if !ended {
                return Err(HostError::new(
                    code::LIMIT,
                    "the statement returns more bytes than one chunk may have: change fewer rows at a time",
                ));
            }
            let changed = match self.connection.raw().changes() {
                0 => self.connection.changed_by_triggers() - before,
                changed => changed,
            };
            self.changed(&statement, changed);
            self.put_away(sql, statement);
            Source::Read(rows.into())
        };
        let mut open = self.cursors.borrow_mut();
        let id = CursorId(open.next);
        open.next = open.next.wrapping_add(1);
        if self.transaction.get() == State::Reading {
            self.reads.borrow_mut().begin(id, sql, params);
        }
        open.cursors.insert(id, Cursor { columns, rows });
        Ok(id)
    }

    pub(crate) fn cursor_columns(&self, id: CursorId) -> Vec<String> {
        self.cursors
            .borrow()
            .cursors
            .get(&id)
            .map(|cursor| cursor.columns.clone())
            .unwrap_or_default()
    }

    pub(crate) fn cursor_next(
        &self,
        id: CursorId,
        max_rows: u32,
    ) -> Result<Vec<Vec<Value>>, HostError> {
        if max_rows == 0 {
            return Err(HostError::new(code::INVALID, "ask a cursor for at least 1 row"));
        }
        self.alive()?;
        // Out of the map while it is read: a statement may fail and take its transaction, cursors
        // included, with it.
        let Some(mut cursor) = self.cursors.borrow_mut().cursors.remove(&id) else {
            return Err(HostError::new(
                code::CLOSED,
                "the cursor is closed, by a checkpoint or by a rollback: query again",
            ));
        };
        let columns = cursor.columns.len();
        let rows = match std::mem::replace(&mut cursor.rows, Source::Ended) {
            Source::Live(sql, mut statement) => {
                let (rows, ended) = self.read(&mut statement, columns, max_rows)?;
                if self.transaction.get() == State::Reading {
                    self.reads.borrow_mut().add(id, &rows, ended);
                }
                if ended {
                    self.put_away(&sql, statement);
                } else {
                    cursor.rows = Source::Live(sql, statement);
                }
                rows
            }
            Source::Read(mut rows) => {
                let rest = rows.split_off(rows.len().min(max_rows as usize));
                cursor.rows = Source::Read(rest);
                rows.into()
            }
            Source::Suspended => {
                return Err(HostError::new(
                    code::CLOSED,
                    "the cursor is closed: its rows have changed since a function of the app was called; query again",
                ));
            }
            Source::Ended => Vec::new(),
        };
        self.cursors.borrow_mut().cursors.insert(id, cursor);
        Ok(rows)
    }

    pub(crate) fn close_cursor(&self, id: CursorId) {
        self.cursors.borrow_mut().cursors.remove(&id);
    }

    /// Up to so many rows, fewer when they reach the bytes one chunk may have; and whether the
    /// statement came to its end.
    pub(super) fn read(
        &self,
        statement: &mut Prepared,
        columns: usize,
        max_rows: u32,
    ) -> Result<(Vec<Vec<Value>>, bool), HostError> {
        let most = self.task.grant.limits.chunk_bytes;
        let mut left = most;
        let mut chunk = Vec::new();
        let ended = self.turn(statement, |statement| {
            let mut rows = statement.raw_query();
            while chunk.len() < max_rows as usize && left > 0 {
                let Some(row) = rows.next()? else { return Ok(true) };
                chunk.push(values(row, columns, &mut left, most)?);
            }
            // Dropped, it would begin again from the first row.
            std::mem::forget(rows);
            Ok(false)
        });
        Ok((chunk, ended.map_err(|error| self.failed(statement, &error))?))
    }
}

/// The values of a row, their bytes taken from what is left. A row alone must not have more than
/// `most`.
fn values(
    row: &Row<'_>,
    columns: usize,
    left: &mut usize,
    most: usize,
) -> rusqlite::Result<Vec<Value>> {
    let mut values = Vec::with_capacity(columns);
    let mut total = 0;
    for column in 0..columns {
        let (value, bytes) = match row.get_ref(column)? {
            ValueRef::Null => (Value::Null, 0),
            ValueRef::Integer(number) => (Value::Integer(number), 8),
            ValueRef::Real(number) => (Value::Real(number), 8),
            // Text that is no UTF-8 is read with the replacement character, as SQLite's own tools
            // do.
            ValueRef::Text(text) => {
                (Value::Text(String::from_utf8_lossy(text).into_owned()), text.len())
            }
            ValueRef::Blob(bytes) => (Value::Blob(bytes.to_vec()), bytes.len()),
        };
        *left = left.saturating_sub(bytes + 16);
        total += bytes;
        if total > most {
            let message = format!("a row has more than the {most} bytes one chunk may have");
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_TOOBIG),
                Some(message),
            ));
        }
        values.push(value);
    }
    Ok(values)
}
