//! A worker's prepared statement: what it takes, what it writes, and its rows.
//!
//! It keeps the connection it was prepared on. It is stepped in its worker's name, behind the walls
//! of that worker's grant.

use std::rc::Rc;
use std::sync::Arc;

use rusqlite::Statement;
#[cfg(feature = "testing")]
use rusqlite::StatementStatus;
use self_cell::self_cell;
use verger_worker::{HostError, Value, Verb, code};

use super::host_error::{Phase, StatementError};
use super::statement_cost::StatementCost;
use super::tokens::Tokens;
use super::values::{bound, values_of};
use super::work_connection::WorkConnection;
use crate::grant::Effective;

self_cell!(
    /// A statement together with the connection it belongs to.
    struct Owned {
        owner: Rc<WorkConnection>,
        #[not_covariant]
        dependent: Statement,
    }
);

/// A statement of a worker, prepared in its name.
pub(crate) struct WorkerStatement {
    owned: Owned,
    /// For the authorizer, because SQLite may prepare it anew when it is stepped.
    tokens: Arc<Tokens>,
    cost: StatementCost,
    write: Option<(Verb, Rc<str>)>,
}

/// Why a text was not prepared.
pub(crate) enum Unprepared {
    /// It contains no statement: it is empty, or a comment.
    Empty,
    /// It asks how a statement would run.
    Explains,
    /// Its WITH clauses make it too large.
    Unfolds,
    /// SQLite, or a wall, refused it.
    Failed(StatementError),
}

impl From<rusqlite::Error> for Unprepared {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl WorkerStatement {
    /// Prepares a statement as a worker with this grant.
    pub(crate) fn prepare(
        connection: &Rc<WorkConnection>,
        grant: &Arc<Effective>,
        sql: &str,
    ) -> Result<Self, Unprepared> {
        if sql.trim().is_empty() {
            return Err(Unprepared::Empty);
        }
        let tokens = Arc::new(Tokens::of(sql));
        if tokens.unfold_too_far() {
            return Err(Unprepared::Unfolds);
        }
        let prepare = || {
            Owned::try_new(Rc::clone(connection), |connection| {
                connection.prepare(grant, &tokens, sql)
            })
        };
        let mut owned = prepare().or_else(|error| match connection.can_retry(&error)? {
            true => prepare(),
            false => Err(error),
        })?;
        let write = connection.take_write();
        if owned.with_dependent_mut(|_, statement| statement.is_explain() != 0) {
            return Err(Unprepared::Explains);
        }
        let cost = connection.program(grant, &tokens, write.as_ref(), sql).map_err(|error| {
            // A text with nothing but a comment cannot be explained either.
            match owned.with_dependent(|_, statement| statement.expanded_sql()) {
                Some(_) => Unprepared::from(error),
                None => Unprepared::Empty,
            }
        })?;
        let write = write.map(|(verb, table)| (verb, table.into()));
        Ok(Self { owned, tokens, cost, write })
    }

    fn with<T>(
        &mut self,
        work: impl for<'s> FnOnce(&'s Rc<WorkConnection>, &mut Statement<'s>) -> T,
    ) -> T {
        self.owned.with_dependent_mut(work)
    }

    /// Binds every parameter.
    ///
    /// # Errors
    /// When there are more or fewer than the statement takes, or one cannot be bound.
    pub(crate) fn bind(&mut self, params: &[Value]) -> Result<(), HostError> {
        self.with(|_, statement| {
            let takes = statement.parameter_count();
            if takes != params.len() {
                return Err(HostError::new(
                    code::SQL,
                    format!("the statement takes {takes} parameters, {} were given", params.len()),
                ));
            }
            for (place, param) in params.iter().enumerate() {
                statement
                    .raw_bind_parameter(place + 1, bound(param))
                    .map_err(|error| StatementError::from(error).in_words(None, Phase::Prepare))?;
            }
            Ok(())
        })
    }

    /// Forgets what is bound, so that a statement that waits for its next use keeps no values.
    pub(crate) fn unbind(&mut self) {
        self.with(|_, statement| statement.clear_bindings());
    }

    /// The names of its columns. None if it returns no rows.
    pub(crate) fn columns(&mut self) -> Vec<String> {
        self.with(|_, statement| {
            (0..statement.column_count())
                .filter_map(|at| statement.column_name(at).ok().map(str::to_string))
                .collect()
        })
    }

    /// How many columns it has.
    pub(crate) fn column_count(&mut self) -> usize {
        self.with(|_, statement| statement.column_count())
    }

    /// Whether it only reads.
    pub(crate) fn only_reads(&mut self) -> bool {
        self.with(|_, statement| statement.readonly())
    }

    /// The verb and the table, for a statement that writes.
    pub(crate) fn write(&self) -> Option<(Verb, &Rc<str>)> {
        self.write.as_ref().map(|(verb, table)| (*verb, table))
    }

    /// Why its values may not be longer, if it has a lower bound than others.
    pub(crate) fn why_not_longer(&self) -> Option<String> {
        self.cost.why_not_longer()
    }

    /// Up to this many rows, fewer when they reach `most` bytes, and whether it came to its end.
    pub(crate) fn read(
        &mut self,
        grant: &Arc<Effective>,
        columns: usize,
        max_rows: u32,
        most: usize,
    ) -> Result<(Vec<Vec<Value>>, bool), StatementError> {
        let mut left = most;
        let mut chunk = Vec::new();
        let ended = self.step(grant, |statement| {
            let mut rows = statement.raw_query();
            while chunk.len() < max_rows as usize && left > 0 {
                let Some(row) = rows.next()? else { return Ok(true) };
                chunk.push(values_of(row, columns, &mut left, most)?);
            }
            // If it were dropped, the statement would begin again from the first row.
            std::mem::forget(rows);
            Ok(false)
        })?;
        Ok((chunk, ended))
    }

    /// Gives up the rows that were not read.
    pub(crate) fn reset(&mut self) {
        // Dropping the rows resets the statement.
        self.with(|_, statement| drop(statement.raw_query()));
    }

    /// Steps it to its end, and returns the rows it changed.
    pub(crate) fn execute(&mut self, grant: &Arc<Effective>) -> Result<u64, StatementError> {
        let before = self.owned.borrow_owner().change_mark();
        let counted = self.step(grant, |statement| statement.raw_execute())?;
        Ok(self.owned.borrow_owner().changed_since(before, counted as u64))
    }

    /// Runs `work` in the worker's name.
    fn step<T>(
        &mut self,
        grant: &Arc<Effective>,
        work: impl FnOnce(&mut Statement<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StatementError> {
        let (tokens, cost) = (Arc::clone(&self.tokens), self.cost);
        let done = self.with(|connection, statement| {
            let done = connection.step(grant, &tokens, cost, |_| work(statement));
            #[cfg(feature = "testing")]
            crate::statement_steps::count_steps(statement.reset_status(StatementStatus::VmStep));
            done
        });
        Ok(done?)
    }
}
