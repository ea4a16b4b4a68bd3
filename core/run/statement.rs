//! A worker's prepared statements: kept for one run, apart from the engine's.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use rusqlite::Statement;
#[cfg(feature = "testing")]
use rusqlite::StatementStatus;
use self_cell::self_cell;
use verger_worker::{HostError, Value, Verb, code};

use super::Run;
use super::error::{Phase, from_statement};
use super::reads::size;
use super::values::bound;
use crate::store::{Overdrawn, StatementCost, Tokens, WorkConnection};
use crate::text::reason;

const EMPTY: &str = "the statement is empty";

/// Bytes that a set of parameters counts for, beside its values: it has a result of its own.
const SET_BYTES: usize = 16;

/// The longest statement, in bytes.
const SQL_MAX_BYTES: usize = 64 << 10;

/// Idle statements kept for the next call with the same text.
const IDLE_MAX: usize = 32;

self_cell!(
    /// A statement together with the connection it belongs to.
    pub(super) struct Owned {
        owner: Rc<WorkConnection>,
        #[not_covariant]
        dependent: Statement,
    }
);

/// A worker's statement, and what it writes.
pub(super) struct Prepared {
    owned: Owned,
    /// For the authorizer: SQLite may prepare it anew when it is stepped.
    tokens: Arc<Tokens>,
    program: StatementCost,
    /// The verb and the table, for a statement that writes.
    write: Option<(Verb, Rc<str>)>,
}

/// Rows that the statements of a dry run changed, by table and verb.
pub(super) type Changes = BTreeMap<(Rc<str>, Verb), u64>;

impl Prepared {
    pub(super) fn with<T>(
        &mut self,
        work: impl for<'s> FnOnce(&'s Rc<WorkConnection>, &mut Statement<'s>) -> T,
    ) -> T {
        self.owned.with_dependent_mut(work)
    }
}

/// Statements that wait for their next use.
#[derive(Default)]
pub(super) struct Idle(HashMap<String, Prepared>);

impl Idle {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Run {
    /// Prepares a statement in the worker's name, or takes it from those that wait, and binds its
    /// parameters.
    pub(super) fn prepare(&self, sql: &str, params: &[Value]) -> Result<Prepared, HostError> {
        let mut statement = self.take(sql)?;
        statement.with(|_, statement| bind(statement, params))?;
        Ok(statement)
    }

    /// Prepares a statement whose parameters are bound later.
    pub(super) fn take(&self, sql: &str) -> Result<Prepared, HostError> {
        if sql.len() > SQL_MAX_BYTES {
            return Err(HostError::new(
                code::LIMIT,
                format!(
                    "the statement is too long: {} bytes, {SQL_MAX_BYTES} at most; bind values as parameters",
                    sql.len()
                ),
            ));
        }
        if sql.trim().is_empty() {
            return Err(HostError::new(code::SQL, EMPTY));
        }
        if let Some(idle) = self.statements.borrow_mut().0.remove(sql) {
            return Ok(idle);
        }
        let grant = &self.task.grant;
        self.show_statement(sql);
        let tokens = Arc::new(Tokens::of(sql));
        let prepare = || {
            Owned::try_new(Rc::clone(&self.connection), |connection| {
                connection.prepare(grant, &tokens, sql)
            })
        };
        let mut owned = prepare()
            .or_else(|error| match self.connection.can_retry(&error)? {
                true => prepare(),
                false => Err(error),
            })
            .map_err(|error| self.not_prepared(&error))?;
        let write = self.connection.take_write();
        if owned.with_dependent_mut(|_, statement| statement.is_explain() != 0) {
            return Err(HostError::new(
                code::DENIED,
                format!("EXPLAIN denied ({})", grant.worker()),
            ));
        }
        // Nothing but a comment is a statement that cannot be explained.
        let program = self.connection.program(grant, &tokens, write.as_ref(), sql);
        let program = program.map_err(|error| {
            match owned.with_dependent(|_, statement| statement.expanded_sql()) {
                Some(_) => self.not_prepared(&error),
                None => HostError::new(code::SQL, EMPTY),
            }
        })?;
        let write = write.map(|(verb, table)| (verb, table.into()));
        Ok(Prepared { owned, tokens, program, write })
    }

    /// Counts statements, and bounds what is sent with them.
    pub(super) fn account(&self, statements: usize, sets: &[&[Value]]) -> Result<(), HostError> {
        let limits = &self.task.grant.limits;
        let count = self.statements_run.get().saturating_add(statements as u64);
        if count > limits.statements {
            return Err(HostError::new(
                code::LIMIT,
                format!("more than the {} statements this run is granted", limits.statements),
            ));
        }
        self.statements_run.set(count);
        let values = sets.iter().flat_map(|set| set.iter()).map(size);
        let bytes = values.sum::<usize>().saturating_add(sets.len().saturating_mul(SET_BYTES));
        if bytes > limits.chunk_bytes {
            return Err(HostError::new(
                code::LIMIT,
                format!(
                    "the parameters have {bytes} bytes, more than the {} of one call",
                    limits.chunk_bytes
                ),
            ));
        }
        Ok(())
    }

    /// Steps in the worker's name.
    pub(super) fn turn<T>(
        &self,
        statement: &mut Prepared,
        work: impl FnOnce(&mut Statement<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let (tokens, program) = (Arc::clone(&statement.tokens), statement.program);
        statement.with(|connection, statement| {
            let done = connection.step(&self.task.grant, &tokens, program, |_| work(statement));
            #[cfg(feature = "testing")]
            crate::statement_steps::count_steps(statement.reset_status(StatementStatus::VmStep));
            done
        })
    }

    /// Puts a statement that has ended away for its next use.
    pub(super) fn put_away(&self, sql: &str, mut statement: Prepared) {
        let mut idle = self.statements.borrow_mut();
        if idle.0.len() < IDLE_MAX {
            statement.with(|_, statement| statement.clear_bindings());
            idle.0.insert(sql.to_string(), statement);
        }
    }

    /// Steps a statement to its end; the rows it changed.
    pub(super) fn step(&self, statement: &mut Prepared) -> Result<u64, HostError> {
        let before = self.connection.change_mark();
        match self.turn(statement, |statement| statement.raw_execute()) {
            Ok(changed) => {
                let changed = self.connection.changed_since(before, changed as u64);
                self.check_transaction_bytes()?;
                self.changed(statement, changed);
                Ok(changed)
            }
            Err(error) => Err(self.failed(statement, &error)),
        }
    }

    /// Counts rows that a statement changed.
    pub(super) fn changed(&self, statement: &Prepared, rows: u64) {
        self.count(|tally| tally.rows_changed += rows);
        if self.dry
            && let Some((verb, table)) = &statement.write
        {
            *self.changes.borrow_mut().entry((Rc::clone(table), *verb)).or_default() += rows;
        }
    }

    /// Counts rows that the engine changed in a worker's name.
    pub(super) fn engine_changed(&self, verb: Verb, table: &str, rows: u64) {
        self.count(|tally| tally.rows_changed += rows);
        if self.dry {
            *self.changes.borrow_mut().entry((table.into(), verb)).or_default() += rows;
        }
    }

    /// Tells the worker why its statement failed, and notices when the failure took the whole
    /// transaction with it.
    pub(super) fn failed(&self, statement: &Prepared, error: &rusqlite::Error) -> HostError {
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) {
            let Some(overdrawn) = self.connection.take_overdrawn() else { return self.stop_now() };
            let error = self.overdrawn(overdrawn);
            // A read ends alone, and what it held is free again. A write that is interrupted may
            // have taken the whole transaction with it.
            if overdrawn == Overdrawn::Written || statement.write.is_some() {
                self.rollback();
                self.lose(error.clone().into());
            }
            return error;
        }
        let too_big = error.sqlite_error_code() == Some(rusqlite::ErrorCode::TooBig);
        let mut error = self.explain(error, Phase::Step);
        if let Some(why) = statement.program.why_not_longer().filter(|_| too_big) {
            error.message = format!("{}: {why}", error.message);
        }
        self.notice_lost_transaction(&error);
        error
    }

    /// Why a statement was not prepared.
    fn not_prepared(&self, error: &rusqlite::Error) -> HostError {
        if error.sqlite_error_code() != Some(rusqlite::ErrorCode::OperationInterrupted) {
            return self.explain(error, Phase::Prepare);
        }
        match self.connection.take_overdrawn() {
            Some(overdrawn) => self.overdrawn(overdrawn),
            None => self.stop_now(),
        }
    }

    fn explain(&self, error: &rusqlite::Error, phase: Phase) -> HostError {
        let mut error = from_statement(error, self.connection.take_denied(), phase);
        error.message = reason(self.connection.redact(error.message));
        if error.code == code::DENIED {
            return self.denied(error.message);
        }
        error
    }
}

/// Binds every parameter of a statement.
pub(super) fn bind(statement: &mut Statement<'_>, params: &[Value]) -> Result<(), HostError> {
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
            .map_err(|error| from_statement(&error, None, Phase::Prepare))?;
    }
    Ok(())
}
