//! Open queries of a run.

use std::collections::VecDeque;

use verger_worker::{Found, HostError, Value, code};

use super::Run;
use super::statement::in_its_words;

use crate::postgres::sql_text::seems_to_read;
use crate::postgres::values::values;
use crate::run::size;

/// Cursors one run may have open.
const OPEN_MAX: usize = 64;

/// Rows fetched at once, between two looks at the memory they take.
const FETCHED: u32 = 500;

/// Rows fetched before it is known how large one is.
const FIRST_FETCHED: u32 = 50;

/// An open cursor.
pub(super) struct Open {
    columns: Vec<String>,
    rows: Source,
}

enum Source {
    /// A cursor of the server, by its place among the open ones. Its name has that place, so that
    /// the statement that declares it is prepared once.
    Server(u32),
    /// Rows that were read at once, because their statement also writes.
    Read(VecDeque<Vec<Value>>),
    Ended,
}

impl Run {
    pub(super) fn open_cursor(&self, sql: &str, params: &[Value]) -> Result<u32, HostError> {
        self.account(1, &[params])?;
        if self.cursors.borrow().len() >= OPEN_MAX {
            return Err(HostError::new(
                code::LIMIT,
                format!("{OPEN_MAX} cursors are open: drop one before opening another"),
            ));
        }
        let statement = self.prepared(sql, &[params])?;
        let columns: Vec<String> =
            statement.columns().iter().map(|column| column.name().to_string()).collect();
        if columns.is_empty() {
            return Err(HostError::new(
                code::INVALID,
                "the statement returns no rows: use execute, not query",
            ));
        }
        let number = self.next_number();
        let rows = if seems_to_read(sql) {
            let place = self.free_place();
            let declare = format!(
                "DECLARE verger_at_{place} NO SCROLL CURSOR FOR {}",
                in_its_words(sql, &[params])
            );
            let declared = self.declared(&declare, &statement)?;
            self.run(&declared, params)?;
            Source::Server(place)
        } else {
            // A write happens when it is asked for, not when someone looks at its rows.
            let rows = self.rows(&statement, params)?;
            self.wrote(rows.len() as u64);
            let rows: Result<VecDeque<_>, HostError> = rows.iter().map(values).collect();
            Source::Read(rows?)
        };
        self.cursors.borrow_mut().insert(number, Open { columns, rows });
        Ok(number)
    }

    pub(super) fn cursor_columns(&self, number: u32) -> Vec<String> {
        self.cursors.borrow().get(&number).map(|cursor| cursor.columns.clone()).unwrap_or_default()
    }

    pub(super) fn cursor_next(
        &self,
        number: u32,
        max_rows: u32,
    ) -> Result<Vec<Vec<Value>>, HostError> {
        if max_rows == 0 {
            return Err(HostError::new(code::INVALID, "ask a cursor for at least 1 row"));
        }
        self.alive()?;
        let mut cursors = self.cursors.borrow_mut();
        let Some(cursor) = cursors.get_mut(&number) else {
            return Err(HostError::new(
                code::CLOSED,
                "the cursor is closed, by a checkpoint or by a rollback: query again",
            ));
        };
        let most = self.task.grant.limits.chunk_bytes;
        match &mut cursor.rows {
            Source::Ended => Ok(Vec::new()),
            Source::Read(rows) => {
                let (mut chunk, mut bytes) = (Vec::new(), 0);
                while chunk.len() < max_rows as usize && bytes < most {
                    let Some(row) = rows.pop_front() else { break };
                    bytes += row_bytes(&row);
                    chunk.push(row);
                }
                Ok(chunk)
            }
            Source::Server(place) => {
                let place = *place;
                drop(cursors);
                let (rows, has_ended) = self.fetch(place, max_rows, most)?;
                if has_ended {
                    self.close(place)?;
                    if let Some(cursor) = self.cursors.borrow_mut().get_mut(&number) {
                        cursor.rows = Source::Ended;
                    }
                }
                Ok(rows)
            }
        }
    }

    pub(super) fn close_cursor(&self, number: u32) {
        let cursor = self.cursors.borrow_mut().remove(&number);
        if let Some(Open { rows: Source::Server(place), .. }) = cursor
            && self.alive().is_ok()
        {
            // An error of it shows in what comes next.
            let _ = self.close(place);
        }
    }

    /// All rows of a statement, if they fit into one chunk.
    pub(super) fn read_all(&self, sql: &str, params: &[Value]) -> Result<Found, HostError> {
        let number = self.open_cursor(sql, params)?;
        let columns = self.cursor_columns(number);
        let rows = self.cursor_next(number, u32::MAX).and_then(|rows| {
            match self.cursor_next(number, 1)?.is_empty() {
                true => Ok(rows),
                false => Err(HostError::new(
                    code::LIMIT,
                    format!(
                        "the rows have more than the {} bytes of one chunk: use query, which reads them in chunks",
                        self.task.grant.limits.chunk_bytes
                    ),
                )),
            }
        });
        self.close_cursor(number);
        rows.map(|rows| (columns, rows))
    }

    /// Up to `max_rows` rows, or as many as have about `most` bytes, and whether the cursor ended.
    fn fetch(
        &self,
        place: u32,
        max_rows: u32,
        most: usize,
    ) -> Result<(Vec<Vec<Value>>, bool), HostError> {
        let (mut chunk, mut bytes, mut largest) = (Vec::new(), 0_usize, 0_usize);
        while chunk.len() < max_rows as usize && bytes < most {
            let left = max_rows - u32::try_from(chunk.len()).unwrap_or(max_rows);
            // As many as there is room for, by the largest so far: at first a few.
            let room = match largest {
                0 => FIRST_FETCHED,
                largest => u32::try_from((most - bytes) / largest).unwrap_or(FETCHED),
            };
            let wanted = left.min(FETCHED).min(room.max(1));
            let rows =
                self.fetch_rows(&format!("FETCH FORWARD {wanted} FROM verger_at_{place}"))?;
            for row in &rows {
                largest = largest.max(row.raw_size_bytes());
                let row = values(row)?;
                bytes = bytes.saturating_add(row_bytes(&row));
                chunk.push(row);
            }
            if rows.len() < wanted as usize {
                return Ok((chunk, true));
            }
        }
        Ok((chunk, false))
    }

    fn close(&self, place: u32) -> Result<(), HostError> {
        self.close_by(&format!("CLOSE verger_at_{place}"))
    }

    /// The first place that no open cursor of the server has.
    fn free_place(&self) -> u32 {
        let cursors = self.cursors.borrow();
        let is_taken = |place: &u32| {
            cursors
                .values()
                .any(|open| matches!(open.rows, Source::Server(taken) if taken == *place))
        };
        (0..).find(|place| !is_taken(place)).unwrap_or(0)
    }
}

/// The bytes of a row.
fn row_bytes(row: &[Value]) -> usize {
    row.iter().map(size).sum()
}
