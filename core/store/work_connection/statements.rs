//! A worker's statements, which are prepared, stepped and examined in its name.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::limits::Limit;
use rusqlite::{Connection, Statement};
use verger_worker::Verb;

use super::WorkConnection;
use super::handlers::{
    Holder, HolderReset, Overdrawn, STEPS_BETWEEN_LOOKS, STEPS_BETWEEN_LOOKS_AT_CALLS,
    STEPS_BETWEEN_LOOKS_AT_PREPARE, STEPS_BETWEEN_READINGS, STEPS_BETWEEN_READINGS_AT_CALLS, look,
};
use crate::grant::Effective;
use crate::store::confinement::Confinement;
use crate::store::full_text;
use crate::store::rusqlite_versions::IntoResult;
use crate::store::statement_cost::{StatementCost, VALUE_MAX_BYTES};
use crate::store::temp_space::TempSpace;
use crate::store::tokens::Tokens;
use crate::store::transaction_step::{Savepoint, TransactionStep};
use crate::store::unasked::{self, Write};

impl WorkConnection {
    /// Installs the progress handler, unless it looks that often already.
    #[allow(
        unsafe_code,
        reason = "rusqlite sets a handler only where nothing else holds the connection; statements do"
    )]
    fn look_every(&self, steps: i32, reading: i32) {
        if self.looks_every.replace(steps) != steps {
            self.handlers.quick_looks.store((reading / steps).unsigned_abs(), Ordering::Relaxed);
            // SAFETY: the handlers live as long as this connection, which is used from one thread
            // at a time, as is the handle.
            unsafe {
                rusqlite::ffi::sqlite3_progress_handler(
                    self.connection.handle(),
                    steps,
                    Some(look),
                    Arc::as_ptr(&self.handlers) as _,
                )
            };
        }
    }

    /// Steps a statement as a worker with this grant.
    pub(crate) fn step<'c, T>(
        &'c self,
        grant: &Arc<Effective>,
        tokens: &Arc<Tokens>,
        program: StatementCost,
        work: impl FnOnce(&'c Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        match program.calls {
            true => self.look_every(STEPS_BETWEEN_LOOKS_AT_CALLS, STEPS_BETWEEN_READINGS_AT_CALLS),
            false => self.look_every(STEPS_BETWEEN_LOOKS, STEPS_BETWEEN_READINGS),
        }
        let limited = program.value_max_bytes() < VALUE_MAX_BYTES;
        if limited {
            self.connection
                .set_limit(Limit::SQLITE_LIMIT_LENGTH, program.value_max_bytes())
                .into_result()?;
        }
        let done = match &self.confinement {
            Some(confinement) => {
                confinement.begin_step(program.inserts);
                // Statements that return rows are undone by whoever reads the rows.
                let many = program.writes_rows
                    && !program.returns
                    && (program.loops || confinement.computes_tenants());
                let work = || self.worker(grant, tokens, work);
                match many && program.is_sure {
                    true => self.all_undone_if_failed(confinement, work),
                    false => self.undone_if_failed(confinement, many, work),
                }
            }
            None => self.worker(grant, tokens, work),
        };
        if limited {
            self.connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_MAX_BYTES).into_result()?;
        }
        done
    }

    /// Undoes what a failed write through the tenant's walls did before, because each of its rows
    /// was a statement of its own to SQLite.
    fn undone_if_failed<T>(
        &self,
        confinement: &Confinement,
        many: bool,
        work: impl FnOnce() -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if !many || self.connection.is_autocommit() {
            return work();
        }
        self.transact(TransactionStep::Open(Savepoint::Statement))?;
        let done = work();
        // A failure may have ended the transaction, and the savepoint with it.
        if !self.connection.is_autocommit() {
            if done.is_err() && !confinement.keeps() {
                self.transact(TransactionStep::RollbackTo(Savepoint::Statement))?;
            }
            self.transact(TransactionStep::Release(Savepoint::Statement))?;
        }
        done
    }

    /// With a savepoint, SQLite would copy each page that a write changes. If no row can be
    /// refused, there is none. Should a write fail nevertheless after rows were written, as when
    /// the disk is full, the whole transaction is undone, as SQLite itself then does.
    fn all_undone_if_failed<T>(
        &self,
        confinement: &Confinement,
        work: impl FnOnce() -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let before = confinement.changed().0;
        let done = work();
        let is_left = done.is_err() && confinement.changed().0 != before;
        if is_left && !self.connection.is_autocommit() {
            self.transact(TransactionStep::Rollback)?;
        }
        done
    }

    /// Prepares a statement as a worker with this grant, under its deadline. The text has to be one
    /// statement. The oldest rusqlite in the range would leave the others out and say nothing.
    pub(crate) fn prepare<'c>(
        &'c self,
        grant: &Arc<Effective>,
        tokens: &Arc<Tokens>,
        sql: &str,
    ) -> rusqlite::Result<Statement<'c>> {
        self.look_every(STEPS_BETWEEN_LOOKS_AT_PREPARE, STEPS_BETWEEN_LOOKS_AT_PREPARE);
        let statement = self.worker(grant, tokens, |connection| connection.prepare(sql))?;
        match tokens.are_of_several_statements() {
            true => Err(rusqlite::Error::MultipleStatement),
            false => Ok(statement),
        }
    }

    /// Runs `work` as a worker with this grant, for the statement with these tokens.
    fn worker<'c, T>(
        &'c self,
        grant: &Arc<Effective>,
        tokens: &Arc<Tokens>,
        work: impl FnOnce(&'c Connection) -> T,
    ) -> T {
        let mut state = self.handlers.state();
        state.holder = Holder::Worker(Arc::clone(grant));
        state.watched = Some(grant.limits.sql_memory_bytes);
        state.around.tokens = Some(Arc::clone(tokens));
        state.around.target = None;
        state.around.closed.take();
        state.denied = None;
        state.write = None;
        state.sets.clear();
        state.overdrawn = None;
        self.handlers.words.store(0, Ordering::Relaxed);
        let temp_space = state.temp_space.clone();
        drop(state);
        let _entered = temp_space.map(TempSpace::enter);
        let _reset = HolderReset(&self.handlers);
        work(&self.connection)
    }

    /// Examines a worker's statement before it is stepped, under the run's deadline: what it costs,
    /// and whether it does anything that the grant does not cover and the authorizer is not asked
    /// about. If it sorts, the rest of the run sorts in small steps.
    pub(crate) fn program(
        &self,
        grant: &Effective,
        tokens: &Tokens,
        write: Option<&Write>,
        sql: &str,
    ) -> rusqlite::Result<StatementCost> {
        self.engine(|connection| {
            let mut state = self.handlers.state();
            state.watched = Some(grant.limits.sql_memory_bytes);
            let confined = state.around.confined.is_some();
            let sets = std::mem::take(&mut state.sets);
            // Of a table behind the tenant's walls the program shows only the wall.
            let walled = state.around.confined.as_ref().map_or(Ok(()), |shadows| {
                unasked::check_joins(grant, tokens, shadows.tables.iter().map(String::as_str))
            });
            drop(state);
            let program = self.programs.of(connection, tokens, sql)?;
            let unasked = match walled {
                Ok(()) => self.unasked.check(
                    connection,
                    (grant, confined),
                    tokens,
                    write,
                    &program.reached,
                )?,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = unasked {
                self.handlers.state().denied = Some(reason);
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_AUTH),
                    None,
                ));
            }
            if program.cost.sorts {
                self.cache.make_small(connection)?;
            }
            let mut cost = program.cost;
            cost.inserts = write.is_some_and(|(verb, _)| *verb == Verb::Insert);
            cost.is_sure &= match (&self.confinement, write) {
                (Some(confinement), Some((verb, table))) => {
                    confinement.is_sure(connection, *verb, table, &sets)?
                }
                _ => false,
            };
            Ok(cost)
        })
    }

    /// Why the last refused statement of a worker was refused.
    pub(crate) fn take_denied(&self) -> Option<String> {
        full_text::why_refused(&self.handlers.words)
            .or_else(|| self.handlers.state().denied.take())
            .or_else(|| self.confinement.as_ref().and_then(Confinement::take_denied))
    }

    /// The limit for which a worker's last statement was ended.
    pub(crate) fn take_overdrawn(&self) -> Option<Overdrawn> {
        self.handlers.state().overdrawn.take()
    }

    /// The first write that the worker's last prepared statement makes by itself: the verb and the
    /// table.
    pub(crate) fn take_write(&self) -> Option<(Verb, String)> {
        self.handlers.state().write.take()
    }
}
