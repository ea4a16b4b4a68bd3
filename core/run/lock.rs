//! When a run takes the write lock, and how long it keeps it.
//!
//! A run begins with a snapshot that only reads, beside whoever writes. It takes the lock at its
//! first write. If someone has committed in between, its queries are repeated under the lock. If
//! they find the same, the run goes on as if it had begun now. If not, it is undone and performed
//! once more from its start, with the lock from the beginning.
//!
//! A run that has called a function of the app's, or has committed something at a checkpoint,
//! cannot be undone, so it takes the lock before it reads. In a database without a write-ahead log
//! every run does, because there readers keep writers out as well.

use std::time::Instant;

use verger_worker::{HostError, code};

use super::Run;
use super::error::from_store;
use super::group::Place;
use super::reads::{Extent, Query};
use super::transaction::State;
use crate::store::{TransactionStep, WorkerStatement, is_busy};

impl Run {
    /// Begins the transaction to read in it, if none is open.
    pub(super) fn begin_read(&self) -> Result<(), HostError> {
        self.alive()?;
        // What only reads must keep nobody from writing.
        if self.place.get() == Place::Waiting {
            self.leave_group()?;
        }
        if self.transaction.get() != State::Idle {
            return Ok(());
        }
        if self.lock_first.get() || !self.connection.has_log() {
            return self.begin_write();
        }
        self.connection.look_for_others();
        self.begin_as(TransactionStep::BeginRead)?;
        self.transaction.set(State::Reading);
        self.reads.borrow_mut().clear();
        self.learn()
    }

    /// Begins the transaction, if none is open, and takes the write lock, unless it has it.
    pub(super) fn begin(&self) -> Result<(), HostError> {
        self.alive()?;
        self.join()?;
        match self.transaction.get() {
            State::Idle => self.begin_write(),
            State::Reading => {
                match self.connection.transact(TransactionStep::TakeLock) {
                    Ok(()) => self.hold(),
                    // Someone writes now, or did since then. SQLite gives no lock to an old
                    // snapshot.
                    Err(error) if is_busy(&error) => self.begin_anew(),
                    Err(error) => Err(from_store(&error)),
                }
            }
            State::Writing(_) | State::Lost => Ok(()),
        }
    }

    fn begin_write(&self) -> Result<(), HostError> {
        self.connection.look_for_others();
        let since = Instant::now();
        self.begin_as(TransactionStep::BeginWrite)?;
        self.waited.set(self.waited.get() + since.elapsed());
        self.hold()?;
        self.learn()
    }

    fn begin_as(&self, begin: TransactionStep) -> Result<(), HostError> {
        self.connection.begin(begin).map_err(|error| {
            if self.task.stop_signal.is_over() { self.stop_now() } else { from_store(&error) }
        })
    }

    pub(super) fn hold(&self) -> Result<(), HostError> {
        self.transaction.set(State::Writing(Instant::now()));
        self.reads.borrow_mut().clear();
        self.task.stop_signal.hold_lock(self.task.grant.write_lock);
        self.writing_begins()
    }

    pub(super) fn learn(&self) -> Result<(), HostError> {
        let is_new = self.connection.learn().map_err(|error| from_store(&error))?;
        if is_new {
            // They were examined under another schema.
            self.statements.borrow_mut().clear();
        }
        Ok(())
    }

    /// Whether this is the first statement of a run that can join a group, and writes.
    fn writes_first(&self, sql: &str) -> Result<bool, HostError> {
        self.alive()?;
        self.take_connection()?;
        if self.place.get() != Place::Waiting {
            return Ok(false);
        }
        self.learn()?;
        let mut statement = match self.take(sql) {
            Ok(statement) => statement,
            Err(refused) => {
                self.leave_group()?;
                return Err(refused);
            }
        };
        let writes = !statement.only_reads();
        self.put_away(sql, statement);
        Ok(writes)
    }

    /// Prepares a statement and takes what it needs: a snapshot, or the write lock.
    pub(super) fn ready(&self, sql: &str) -> Result<WorkerStatement, HostError> {
        if self.writes_first(sql)? {
            self.join()?;
        }
        self.begin_read()?;
        loop {
            let mut statement = self.take(sql)?;
            let schema = self.connection.schema();
            if !statement.only_reads() {
                self.begin()?;
            }
            if schema == self.connection.schema() {
                return Ok(statement);
            }
        }
    }

    /// Gives the snapshot up and begins anew with the lock. What was read before is read again.
    fn begin_anew(&self) -> Result<(), HostError> {
        let state = self.reads.borrow_mut().take_state();
        let read = self.reads.borrow_mut().take();
        // Statements that are being stepped would keep the old snapshot.
        self.cursors.borrow_mut().suspend();
        self.end_snapshot()?;
        self.begin_write()?;
        for savepoint in self.savepoints.borrow().ids() {
            self.engine_step(TransactionStep::Open(savepoint.into()))?;
        }
        let mut is_same = read.is_some() && self.is_state_as_read(&state)?;
        for query in read.into_iter().flatten() {
            is_same &= self.read_again(&query)?;
        }
        // After a call that cannot be undone, the run goes on as things are now. A cursor whose
        // rows have changed is closed.
        if is_same || self.has_effects.get() { Ok(()) } else { Err(self.conflict()) }
    }

    /// Reads the rows of a query again, as far as they were read, and returns whether they are the
    /// same. If so, a cursor on it goes on from there.
    fn read_again(&self, query: &Query) -> Result<bool, HostError> {
        let mut statement = self.prepare(&query.sql, &query.params)?;
        let columns = statement.column_count();
        let mut found = Extent::default();
        while found.rows < query.read.rows && !found.ended {
            let most = u32::try_from(query.read.rows - found.rows).unwrap_or(u32::MAX);
            let (rows, ended) = self.read(&mut statement, columns, most)?;
            rows.iter().for_each(|row| found.add(std::slice::from_ref(row), false));
            found.ended = ended;
        }
        if query.read.ended && !found.ended {
            let (rows, ended) = self.read(&mut statement, columns, 1)?;
            found.add(&rows, ended);
        }
        let is_same = found.is_like(&query.read);
        if is_same {
            self.cursors.borrow_mut().resume(query.cursor, &query.sql, statement);
        }
        Ok(is_same)
    }

    /// Ends a snapshot in which nothing was written.
    pub(super) fn end_snapshot(&self) -> Result<(), HostError> {
        if self.transaction.get() == State::Reading {
            self.engine_step(TransactionStep::Commit)?;
            self.transaction.set(State::Idle);
        }
        Ok(())
    }

    /// Makes the run be performed once more.
    pub(super) fn conflict(&self) -> HostError {
        let error = HostError::new(
            code::CONFLICT,
            "what this attempt had read was changed before it wrote: return, it is performed again from its start",
        );
        self.must_repeat.set(true);
        self.rollback();
        self.lose(error.clone().into());
        error
    }

    /// Whether what it had read was changed before it wrote. Then nothing of it counts, and it is
    /// performed again.
    pub(crate) fn must_repeat(&self) -> bool {
        self.must_repeat.get()
    }

    /// The same, for a run that has not been repeated yet.
    pub(crate) fn is_to_be_repeated_alone(&self) -> bool {
        self.must_repeat.get() && !self.lock_first.get()
    }
}
