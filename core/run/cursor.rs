//! Open queries of a run.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use verger_worker::{Found, HostError, Value, code};

use super::Run;
use super::transaction::State;
use crate::store::{HeldBytes, Overdrawn, WorkerStatement, row_bytes};

/// Cursors one run may have open.
const OPEN_MAX: usize = 64;

/// Rows of a statement that writes, read between two looks at the memory they take.
const ROWS_AT_ONCE: u32 = 64;

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

    fn next_id(&mut self) -> CursorId {
        let id = CursorId(self.next);
        self.next = self.next.wrapping_add(1);
        id
    }

    /// The number the next cursor gets.
    pub(super) fn mark(&self) -> u32 {
        self.next
    }

    /// Closes the cursors that were opened from that mark on.
    pub(super) fn close_from(&mut self, mark: u32) {
        self.cursors.split_off(&CursorId(mark));
    }

    /// Takes away the statements of cursors that are being read. The cursors are closed, unless
    /// they resume.
    pub(super) fn suspend(&mut self) {
        for cursor in self.cursors.values_mut() {
            if matches!(cursor.rows, Source::Live(..)) {
                cursor.rows = Source::Suspended;
            }
        }
    }

    /// Gives a cursor a new statement that is at the same row as its own was.
    pub(super) fn resume(&mut self, id: CursorId, sql: &str, statement: WorkerStatement) {
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
    Live(String, WorkerStatement),
    /// Rows that were read at once, because their statement also writes. Their bytes count with the
    /// memory of the run's SQL while the cursor is open.
    Read(VecDeque<Vec<Value>>, Option<HeldBytes>),
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
        statement.bind(params)?;
        // Each open cursor keeps a statement.
        if self.connection.takes_more_than(self.task.grant.limits.sql_memory_bytes) {
            return Err(self.overdrawn(Overdrawn::Memory));
        }
        let (columns, reads) = (statement.columns(), statement.only_reads());
        if columns.is_empty() {
            return Err(no_rows());
        }
        let rows = if reads {
            Source::Live(sql.to_string(), statement)
        } else {
            // A write happens when it is asked for, not when someone looks at its rows.
            let (rows, held) = self.write_and_read(&mut statement, columns.len())?;
            self.put_away(sql, statement);
            Source::Read(rows, held)
        };
        let mut open = self.cursors.borrow_mut();
        let id = open.next_id();
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
        // It is out of the map while it is read, because a statement may fail and take its
        // transaction, and the cursors, with it.
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
            Source::Read(mut rows, held) => {
                let most = self.task.grant.limits.chunk_bytes;
                let (mut chunk, mut bytes) = (Vec::new(), 0_usize);
                while chunk.len() < max_rows as usize && bytes < most {
                    let Some(row) = rows.pop_front() else { break };
                    bytes = bytes.saturating_add(row_bytes(&row));
                    chunk.push(row);
                }
                cursor.rows = Source::Read(rows, held);
                chunk
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

    /// All rows of a query, if one chunk can hold them. A statement that writes and returns more
    /// than that is undone.
    pub(crate) fn read_all(&self, sql: &str, params: &[Value]) -> Result<Found, HostError> {
        self.alive()?;
        self.account(1, &[params])?;
        let mut statement = self.ready(sql)?;
        statement.bind(params)?;
        let (columns, reads) = (statement.columns(), statement.only_reads());
        if columns.is_empty() {
            return Err(no_rows());
        }
        let most = self.task.grant.limits.chunk_bytes;
        let too_much = || {
            HostError::new(
                code::LIMIT,
                format!(
                    "the rows have more than the {most} bytes of one chunk: use query, which reads them in chunks"
                ),
            )
        };
        let rows = if reads {
            let (rows, mut ended) = self.read(&mut statement, columns.len(), u32::MAX)?;
            if !ended {
                // The last row may have filled the chunk.
                let more = self.read(&mut statement, columns.len(), 1)?;
                ended = more.1;
            }
            if !ended {
                return Err(too_much());
            }
            if self.transaction.get() == State::Reading {
                let id = self.cursors.borrow_mut().next_id();
                let mut reads = self.reads.borrow_mut();
                reads.begin(id, sql, params);
                reads.add(id, &rows, true);
            }
            rows
        } else {
            self.within_savepoint(|| {
                let (rows, _held) = self.write_and_read(&mut statement, columns.len())?;
                match rows.iter().map(|row| row_bytes(row)).sum::<usize>() > most {
                    true => Err(too_much()),
                    false => Ok(rows.into()),
                }
            })?
        };
        self.put_away(sql, statement);
        Ok((columns, rows))
    }

    pub(crate) fn close_cursor(&self, id: CursorId) {
        self.cursors.borrow_mut().cursors.remove(&id);
    }

    /// Steps a statement that writes to its end, and reads the rows it returns. If it returns more
    /// than the run may hold, it is undone.
    fn write_and_read(
        &self,
        statement: &mut WorkerStatement,
        columns: usize,
    ) -> Result<(VecDeque<Vec<Value>>, Option<HeldBytes>), HostError> {
        let before = self.connection.change_mark();
        let (mut held, mut all) = (self.connection.hold(), VecDeque::new());
        self.within_savepoint(|| {
            loop {
                let (rows, ended) = self.read(statement, columns, ROWS_AT_ONCE)?;
                if let Some(held) = &mut held {
                    held.add(rows.iter().map(|row| row_bytes(row)).sum());
                }
                all.extend(rows);
                if self.connection.takes_more_than(self.task.grant.limits.sql_memory_bytes) {
                    statement.reset();
                    return Err(self.overdrawn(Overdrawn::Memory));
                }
                if ended {
                    return self.check_transaction_bytes();
                }
            }
        })?;
        let changed = self.connection.changed_by_last_statement(before);
        self.changed(statement, changed);
        Ok((all, held))
    }

    /// Up to this many rows, fewer when they reach the bytes one chunk may have, and whether the
    /// statement came to its end.
    pub(super) fn read(
        &self,
        statement: &mut WorkerStatement,
        columns: usize,
        max_rows: u32,
    ) -> Result<(Vec<Vec<Value>>, bool), HostError> {
        let most = self.task.grant.limits.chunk_bytes;
        let read = statement.read(&self.task.grant, columns, max_rows, most);
        read.map_err(|error| self.failed(statement, &error))
    }
}

fn no_rows() -> HostError {
    HostError::new(code::INVALID, "the statement returns no rows: use execute, not query")
}
