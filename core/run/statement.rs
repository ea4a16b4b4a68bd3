//! A worker's prepared statements: kept for one run, apart from the engine's.

use std::collections::HashMap;
use std::rc::Rc;

use rusqlite::Statement;
use rusqlite::types::{ToSqlOutput, ValueRef};
use self_cell::self_cell;
use verger_worker::{HostError, Value, code};

use super::Run;
use super::error::from_statement;
use crate::store::WorkConnection;

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

/// Statements that wait for their next use.
#[derive(Default)]
pub(super) struct Idle(HashMap<String, Owned>);

impl Run {
    /// Prepares a statement in the worker's name, or takes it from those that wait, and binds its parameters.
    pub(super) fn prepare(&self, sql: &str, params: &[Value]) -> Result<Owned, HostError> {
        let mut statement = self.take(sql)?;
        statement.with_dependent_mut(|_, statement| bind(statement, params))?;
        Ok(statement)
    }

    /// Prepares a statement whose parameters are bound later.
    pub(super) fn take(&self, sql: &str) -> Result<Owned, HostError> {
        if let Some(idle) = self.statements.borrow_mut().0.remove(sql) {
            return Ok(idle);
        }
        let grant = &self.task.grant;
        Owned::try_new(Rc::clone(&self.connection), |connection| connection.worker(grant, |connection| connection.prepare(sql)))
            .map_err(|error| from_statement(&error, self.connection.take_denied()))
    }

    /// Puts a statement that has ended away for its next use.
    pub(super) fn put_away(&self, sql: &str, mut statement: Owned) {
        let mut idle = self.statements.borrow_mut();
        if idle.0.len() < IDLE_MAX {
            statement.with_dependent_mut(|_, statement| statement.clear_bindings());
            idle.0.insert(sql.to_string(), statement);
        }
    }

    /// Steps a statement to its end; the rows it changed.
    pub(super) fn step(&self, statement: &mut Owned) -> Result<u64, HostError> {
        let before = self.connection.raw().total_changes();
        let grant = &self.task.grant;
        let result = statement.with_dependent_mut(|connection, statement| connection.worker(grant, |_| statement.raw_execute()));
        match result {
            Ok(changed) => {
                // A write through INSTEAD OF triggers shows only in the total.
                let changed = if changed == 0 { self.connection.raw().total_changes() - before } else { changed as u64 };
                self.count(|tally| tally.rows_changed += changed);
                Ok(changed)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Tells the worker why its statement failed, and notices when the failure took the whole transaction with it.
    pub(super) fn failed(&self, error: &rusqlite::Error) -> HostError {
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) {
            return self.over();
        }
        let error = from_statement(error, self.connection.take_denied());
        self.notice_lost_transaction(&error);
        error
    }
}

/// Binds every parameter of a statement.
pub(super) fn bind(statement: &mut Statement<'_>, params: &[Value]) -> Result<(), HostError> {
    let takes = statement.parameter_count();
    if takes != params.len() {
        return Err(HostError::new(code::SQL, format!("the statement takes {takes} parameters, {} were given", params.len())));
    }
    for (place, param) in params.iter().enumerate() {
        let value = ToSqlOutput::Borrowed(match param {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Real(number) => ValueRef::Real(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        });
        statement.raw_bind_parameter(place + 1, value).map_err(|error| from_statement(&error, None))?;
    }
    Ok(())
}
