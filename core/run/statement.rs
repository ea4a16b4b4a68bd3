//! A worker's prepared statements: kept for one run, apart from the engine's.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use verger_worker::{HostError, Value, Verb, code};

use super::Run;
use super::error::Phase;
use super::reads::size;
use crate::limits::Limits;
use crate::store::{Overdrawn, StatementError, Unprepared, WorkerStatement};
use crate::text::reason;

const EMPTY: &str = "the statement is empty";
const NESTED: &str = "the queries of its WITH clauses are nested too deep, or too often";

/// Bytes that a set of parameters counts for besides its values, because it has a result of its
/// own.
const SET_BYTES: usize = 16;

/// The longest statement, in bytes.
const SQL_MAX_BYTES: usize = 64 << 10;

/// Idle statements kept for the next call with the same text.
const IDLE_MAX: usize = 32;

/// Rows that the statements of a dry run changed, by table and verb.
pub(super) type Changes = BTreeMap<(Rc<str>, Verb), u64>;

/// Statements that wait for their next use.
#[derive(Default)]
pub(super) struct Idle(HashMap<String, WorkerStatement>);

impl Idle {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Refuses a statement that is too long.
pub(crate) fn check_length(sql: &str) -> Result<(), HostError> {
    match sql.len() {
        bytes if bytes > SQL_MAX_BYTES => Err(HostError::new(
            code::LIMIT,
            format!(
                "the statement is too long: {bytes} bytes, {SQL_MAX_BYTES} at most; bind values as parameters"
            ),
        )),
        _ => Ok(()),
    }
}

/// Counts statements of a run, up to what it is granted.
pub(crate) fn count_statements(
    run: &Cell<u64>,
    statements: usize,
    limits: &Limits,
) -> Result<(), HostError> {
    let count = run.get().saturating_add(statements as u64);
    if count > limits.statements {
        return Err(HostError::new(
            code::LIMIT,
            format!("more than the {} statements this run is granted", limits.statements),
        ));
    }
    run.set(count);
    Ok(())
}

/// Bounds what is sent with one call.
pub(crate) fn check_parameters(sets: &[&[Value]], limits: &Limits) -> Result<(), HostError> {
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

impl Run {
    /// Prepares a statement in the worker's name, or takes it from those that wait, and binds its
    /// parameters.
    pub(super) fn prepare(
        &self,
        sql: &str,
        params: &[Value],
    ) -> Result<WorkerStatement, HostError> {
        let mut statement = self.take(sql)?;
        statement.bind(params)?;
        Ok(statement)
    }

    /// Prepares a statement whose parameters are bound later.
    pub(super) fn take(&self, sql: &str) -> Result<WorkerStatement, HostError> {
        check_length(sql)?;
        if let Some(idle) = self.statements.borrow_mut().0.remove(sql) {
            return Ok(idle);
        }
        let grant = &self.task.grant;
        if !sql.trim().is_empty() {
            self.show_statement(sql);
        }
        WorkerStatement::prepare(&self.connection, grant, sql).map_err(|why| match why {
            Unprepared::Empty => HostError::new(code::SQL, EMPTY),
            Unprepared::Unfolds => HostError::new(code::SQL, NESTED),
            Unprepared::Explains => {
                HostError::new(code::DENIED, format!("EXPLAIN denied ({})", grant.worker()))
            }
            Unprepared::Failed(error) => self.not_prepared(&error),
        })
    }

    /// Counts statements, and bounds what is sent with them.
    pub(super) fn account(&self, statements: usize, sets: &[&[Value]]) -> Result<(), HostError> {
        let limits = &self.task.grant.limits;
        count_statements(&self.statements_run, statements, limits)?;
        check_parameters(sets, limits)
    }

    /// Puts an ended statement away for its next use.
    pub(super) fn put_away(&self, sql: &str, mut statement: WorkerStatement) {
        let mut idle = self.statements.borrow_mut();
        if idle.0.len() < IDLE_MAX {
            statement.unbind();
            idle.0.insert(sql.to_string(), statement);
        }
    }

    /// Steps a statement to its end, and returns the rows it changed.
    pub(super) fn step(&self, statement: &mut WorkerStatement) -> Result<u64, HostError> {
        match statement.execute(&self.task.grant) {
            Ok(changed) => {
                self.check_transaction_bytes()?;
                self.changed(statement, changed);
                Ok(changed)
            }
            Err(error) => Err(self.failed(statement, &error)),
        }
    }

    /// Counts rows that a statement changed.
    pub(super) fn changed(&self, statement: &WorkerStatement, rows: u64) {
        self.count(|tally| tally.rows_changed += rows);
        if self.dry
            && let Some((verb, table)) = statement.write()
        {
            *self.changes.borrow_mut().entry((Rc::clone(table), verb)).or_default() += rows;
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
    pub(super) fn failed(&self, statement: &WorkerStatement, error: &StatementError) -> HostError {
        if error.is_interrupted() {
            let Some(overdrawn) = self.connection.take_overdrawn() else { return self.stop_now() };
            let error = self.overdrawn(overdrawn);
            // A read ends alone, and what it held is free again. A write that is interrupted may
            // have taken the whole transaction with it.
            if overdrawn == Overdrawn::Written || statement.write().is_some() {
                self.rollback();
                self.lose(error.clone().into());
            }
            return error;
        }
        let too_big = error.is_too_big();
        let mut error = self.explain(error, Phase::Step);
        if let Some(why) = statement.why_not_longer().filter(|_| too_big) {
            error.message = format!("{}: {why}", error.message);
        }
        self.notice_lost_transaction(&error);
        error
    }

    /// Why a statement was not prepared.
    fn not_prepared(&self, error: &StatementError) -> HostError {
        if !error.is_interrupted() {
            return self.explain(error, Phase::Prepare);
        }
        match self.connection.take_overdrawn() {
            Some(overdrawn) => self.overdrawn(overdrawn),
            None => self.stop_now(),
        }
    }

    fn explain(&self, error: &StatementError, phase: Phase) -> HostError {
        let mut error = error.in_words(self.connection.take_denied(), phase);
        error.message = reason(self.connection.redact(error.message));
        if error.code == code::DENIED {
            return self.denied(error.message);
        }
        error
    }
}
