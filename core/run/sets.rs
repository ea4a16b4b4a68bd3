//! One statement over many sets of parameters. A set that fails is undone alone, in whatever way it
//! fails, and the others go on.
//!
//! Most failures undo themselves. Three do not, and SQLite reports none of them in time. A foreign
//! key may be checked only at the commit, which would then refuse everything. A trigger that says
//! RAISE(FAIL) keeps what the statement did so far. A trigger that says RAISE(ROLLBACK) takes the
//! transaction. If the schema has any of these, the sets run within a savepoint, and once more one
//! by one if there was such a failure.

use verger_worker::{HostError, Value, code};

use super::error::from_store;
use super::statement::Changes;
use super::transaction::State;
use super::{Run, Tally};
use crate::store::{Savepoint, TransactionStep, WorkerStatement};

type Results = Vec<Result<u64, HostError>>;

/// How a pass over the sets ended.
enum Pass {
    Done(Results),
    /// Something stayed that must not stay. The sets must be run one by one.
    Suspect,
    /// A set took the transaction with it, and is refused from now on.
    RolledBack,
}

/// What had been counted.
struct Mark {
    tally: Tally,
    changes: Changes,
}

impl Run {
    pub(super) fn execute_sets(
        &self,
        sql: &str,
        sets: &[Vec<Value>],
    ) -> Result<Results, HostError> {
        self.account(sets.len(), &sets.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let mut statement = self.ready(sql)?;
        let writes = matches!(self.transaction.get(), State::Writing(_));
        let results = if writes && self.connection.has_late_checks() {
            self.each_for_itself(&mut statement, sets)?
        } else {
            let mut results = Vec::with_capacity(sets.len());
            for set in sets {
                self.alive()?;
                results.push(self.execute_set(&mut statement, set));
            }
            results
        };
        self.put_away(sql, statement);
        Ok(results)
    }

    /// Runs one statement by itself. What a failure kept is undone.
    pub(super) fn execute_one(&self, sql: &str, params: &[Value]) -> Result<u64, HostError> {
        self.account(1, &[params])?;
        let mut statement = self.ready(sql)?;
        let writes = matches!(self.transaction.get(), State::Writing(_));
        let done = if writes && self.connection.has_late_checks() {
            self.within_savepoint(|| self.execute_set(&mut statement, params))
        } else {
            self.execute_set(&mut statement, params)
        };
        let changed = done?;
        self.put_away(sql, statement);
        Ok(changed)
    }

    fn execute_set(
        &self,
        statement: &mut WorkerStatement,
        set: &[Value],
    ) -> Result<u64, HostError> {
        statement.bind(set)?;
        self.step(statement)
    }

    fn each_for_itself(
        &self,
        statement: &mut WorkerStatement,
        sets: &[Vec<Value>],
    ) -> Result<Results, HostError> {
        let mark = self.mark();
        let version = self.data_version()?;
        // The transaction can be begun anew if nothing else is lost with it.
        let begins = self.has_written_nothing() && !self.is_in_group();
        let mut refused: Vec<Option<HostError>> = vec![None; sets.len()];
        let mut one_by_one = false;
        loop {
            self.may_begin_anew.set(begins);
            let pass = self.pass(statement, sets, &mut refused, one_by_one);
            self.may_begin_anew.set(false);
            match pass? {
                Pass::Done(results) => return Ok(results),
                Pass::Suspect => one_by_one = true,
                Pass::RolledBack => self.begin_after_rollback(version)?,
            }
            self.back_to(&mark);
        }
    }

    fn pass(
        &self,
        statement: &mut WorkerStatement,
        sets: &[Vec<Value>],
        refused: &mut [Option<HostError>],
        one_by_one: bool,
    ) -> Result<Pass, HostError> {
        let owed = self.connection.is_key_owed();
        let mut suspect = false;
        let mut results = Vec::with_capacity(sets.len());
        self.engine_step(TransactionStep::Open(Savepoint::Sets))?;
        for (set, refused) in sets.iter().zip(refused.iter_mut()) {
            if let Some(error) = refused {
                results.push(Err(error.clone()));
                continue;
            }
            self.alive()?;
            let before = self.connection.total_changes();
            let result = if one_by_one {
                self.execute_alone(statement, set, owed)
            } else {
                self.execute_set(statement, set)
            };
            if let (Err(error), true) = (&result, self.was_rolled_back.take()) {
                *refused = Some(error.clone());
                return Ok(Pass::RolledBack);
            }
            self.alive()?;
            suspect |= result.is_err() && self.connection.total_changes() != before;
            results.push(result);
        }
        if one_by_one {
            self.try_owing_again(statement, sets, &mut results, owed)?;
        } else if suspect || (!owed && self.connection.is_key_owed()) {
            self.engine_step(TransactionStep::RollbackTo(Savepoint::Sets))?;
            self.engine_step(TransactionStep::Release(Savepoint::Sets))?;
            return Ok(Pass::Suspect);
        }
        self.engine_step(TransactionStep::Release(Savepoint::Sets))?;
        Ok(Pass::Done(results))
    }

    /// Runs one set in a savepoint of its own, which is undone when it leaves a foreign key that
    /// does not hold.
    fn execute_alone(
        &self,
        statement: &mut WorkerStatement,
        set: &[Value],
        owed: bool,
    ) -> Result<u64, HostError> {
        self.within_savepoint(|| {
            let changed = self.execute_set(statement, set)?;
            if !owed && self.connection.is_key_owed() {
                return Err(HostError::new(
                    code::CONSTRAINT,
                    "FOREIGN KEY constraint failed: its check is put off to the commit, which it would refuse",
                ));
            }
            Ok(changed)
        })
    }

    /// Tries refused sets again after the others: a row may point to a row of another set.
    fn try_owing_again(
        &self,
        statement: &mut WorkerStatement,
        sets: &[Vec<Value>],
        results: &mut Results,
        owed: bool,
    ) -> Result<(), HostError> {
        let mut goes_on = !owed && results.iter().any(Result::is_ok);
        while std::mem::take(&mut goes_on) {
            for (set, result) in sets.iter().zip(results.iter_mut()) {
                if !matches!(result, Err(error) if error.message.contains("put off to the commit"))
                {
                    continue;
                }
                self.alive()?;
                let again = self.execute_alone(statement, set, owed);
                self.alive()?;
                goes_on |= again.is_ok();
                *result = again;
            }
        }
        Ok(())
    }

    /// Undoes what a failure left. If the failure took the transaction, there is nothing to undo.
    pub(super) fn within_savepoint<T>(
        &self,
        work: impl FnOnce() -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let mark = self.mark();
        self.engine_step(TransactionStep::Open(Savepoint::Call))?;
        let done = work();
        if !self.connection.is_in_transaction() || self.alive().is_err() {
            return done;
        }
        if done.is_err() {
            self.engine_step(TransactionStep::RollbackTo(Savepoint::Call))?;
            self.back_to(&mark);
        }
        self.engine_step(TransactionStep::Release(Savepoint::Call))?;
        done
    }

    pub(super) fn data_version(&self) -> Result<i64, HostError> {
        self.connection.data_version().map_err(|error| from_store(&error))
    }

    fn mark(&self) -> Mark {
        Mark { tally: self.uncommitted.get(), changes: self.changes.borrow().clone() }
    }

    fn back_to(&self, mark: &Mark) {
        self.uncommitted.set(mark.tally);
        self.changes.replace(mark.changes.clone());
    }
}
