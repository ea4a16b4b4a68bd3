//! A run's statements: translated, checked once, and run so that one that fails undoes itself only.

use fallible_iterator::FallibleIterator;
use postgres::types::{ToSql, Type};
use postgres::{Client, Row, Statement, ToStatement};
use verger_worker::{HostError, Value, code};

use super::{Run, State};
use crate::postgres::failure::{
    host_error, is_cancelled, is_conflict, is_lost, is_of_the_statement, is_outdated,
};
use crate::postgres::session::{Prepare, Session};
use crate::postgres::sql_text::{is_empty, selects_into, translated};
use crate::postgres::values::Param;
use crate::run::{check_length, check_parameters, count_statements};

impl Run {
    pub(super) fn execute_one(&self, sql: &str, params: &[Value]) -> Result<u64, HostError> {
        self.account(1, &[params])?;
        let statement = self.prepared(sql, &[params])?;
        if !statement.columns().is_empty() {
            return Err(HostError::new(
                code::INVALID,
                "the statement returns rows: use query, not execute",
            ));
        }
        let changed = self.run(&statement, params)?;
        self.wrote(changed);
        Ok(changed)
    }

    /// Runs a statement with each set, and returns what became of each. One that fails undoes
    /// itself only.
    pub(super) fn execute_sets(
        &self,
        sql: &str,
        sets: &[Vec<Value>],
    ) -> Result<Vec<Result<u64, HostError>>, HostError> {
        let borrowed: Vec<&[Value]> = sets.iter().map(Vec::as_slice).collect();
        self.account(sets.len(), &borrowed)?;
        let statement = self.prepared(sql, &borrowed)?;
        if !statement.columns().is_empty() {
            return Err(HostError::new(
                code::INVALID,
                "the statement returns rows: use query, not execute-many",
            ));
        }
        let one = |params: &[Value]| {
            self.run_it(|session| {
                with(&statement, params, |params| {
                    session.noticing(|client| client.execute(&statement, params))
                })
            })
        };
        // All under one savepoint. If one fails, all before it are undone with it, and are run
        // again with a savepoint each.
        self.guard()?;
        let mut results = Vec::with_capacity(sets.len());
        for set in sets {
            match one(set) {
                Ok(changed) => results.push(Ok(changed)),
                Err(_) if self.state.get() == State::Open => {
                    results.clear();
                    for set in sets {
                        self.guard()?;
                        let result = one(set);
                        if result.is_err() {
                            self.alive()?;
                        }
                        results.push(result);
                    }
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.wrote(results.iter().flatten().sum());
        Ok(results)
    }

    /// Runs a statement that returns no rows, and counts nothing.
    pub(super) fn run(&self, statement: &Statement, params: &[Value]) -> Result<u64, HostError> {
        self.guard()?;
        self.run_it(|session| {
            with(statement, params, |params| {
                session.noticing(|client| client.execute(statement, params))
            })
        })
    }

    /// Rows of a cursor. What a FETCH returns depends on the cursor, so it is prepared each time.
    pub(super) fn fetch_rows(&self, sql: &str) -> Result<Vec<Row>, HostError> {
        self.guard()?;
        let most = self.most_bytes();
        let rows = self.run_it(|session| {
            session.noticing(|client| read(client, sql, &[], most)).map_err(Into::into)
        });
        self.unless_too_many(rows?)
    }

    /// Closes a cursor.
    pub(super) fn close_by(&self, sql: &str) -> Result<(), HostError> {
        self.guard()?;
        self.run_it(|session| {
            session.noticing(|client| client.batch_execute(sql)).map_err(Into::into)
        })
    }

    /// All rows of a statement that writes and returns rows, or of any other.
    pub(super) fn rows(
        &self,
        statement: &Statement,
        params: &[Value],
    ) -> Result<Vec<Row>, HostError> {
        self.guard()?;
        let most = self.most_bytes();
        let rows = self.run_it(|session| {
            with(statement, params, |params| {
                session.noticing(|client| read(client, statement, params, most))
            })
        });
        self.unless_too_many(rows?)
    }

    /// How many bytes of rows are taken from the server at once: more than a worker gets, because
    /// how large a row is shows when it is there.
    fn most_bytes(&self) -> usize {
        self.task.grant.limits.chunk_bytes.saturating_mul(2).saturating_add(1 << 20)
    }

    /// Goes back to before a statement whose rows were too many to be read.
    fn unless_too_many(&self, rows: Option<Vec<Row>>) -> Result<Vec<Row>, HostError> {
        if let Some(rows) = rows {
            return Ok(rows);
        }
        self.go_back()?;
        let most = self.most_bytes();
        Err(HostError::new(
            code::LIMIT,
            format!(
                "the rows have more than {most} bytes: read fewer at a time, or shorter values"
            ),
        ))
    }

    /// Prepares a statement, for these sets of values, and begins the transaction.
    pub(super) fn prepared(&self, sql: &str, sets: &[&[Value]]) -> Result<Statement, HostError> {
        if let Some(fault) = formal_fault(sql) {
            return Err(fault);
        }
        self.begin()?;
        // The engine's own texts are not a worker's, whatever they are.
        let sql = format!("/* worker */ {}", in_its_words(sql, sets));
        let known = self.connection.borrow().session.already_prepared(&sql);
        let statement = match known {
            Some(statement) => statement,
            None => {
                self.check(&sql)?;
                self.guard()?;
                let prepared = self.connection.borrow_mut().session.prepared(&sql);
                let statement = self.of_server(prepared)?;
                self.with_wide_integers(&sql, &statement)?.unwrap_or(statement)
            }
        };
        self.refuse(&sql, &statement)?;
        Ok(statement)
    }

    /// Refuses a component's statement that does more than the rights of its role can forbid. It
    /// was parsed so far, and not executed.
    fn refuse(&self, sql: &str, statement: &Statement) -> Result<(), HostError> {
        let connection = self.connection.borrow();
        let (Some(guest), Some(guests)) = (&connection.guest, self.node.guests.get()) else {
            return Ok(());
        };
        let verdict = guests.refuses(guest, sql, statement.params());
        drop(connection);
        match verdict {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(HostError::new(code::DENIED, why)),
            Err(error) => Err(self.failed_of_itself(&error)),
        }
    }

    /// The same with parameters of 64 bits where the server would take fewer, as it does for
    /// `?1 / 1000`: a worker's integers have 64. `None` when there are none, or the statement takes
    /// no others.
    fn with_wide_integers(
        &self,
        sql: &str,
        statement: &Statement,
    ) -> Result<Option<Statement>, HostError> {
        if !statement.params().iter().any(is_narrow) {
            return Ok(None);
        }
        let wide = wide(statement.params());
        self.guard()?;
        let prepared = self.connection.borrow_mut().session.prepared_with(sql, &wide);
        match prepared {
            Err(Prepare::Refused(error)) if is_of_the_statement(&error) => {
                self.go_back().map(|()| None)
            }
            prepared => self.of_server(prepared).map(Some),
        }
    }

    /// Prepares a cursor for a statement that was checked, with parameters of the same types.
    pub(super) fn declared(&self, sql: &str, of: &Statement) -> Result<Statement, HostError> {
        if let Some(statement) = self.connection.borrow().session.already_prepared(sql) {
            return Ok(statement);
        }
        self.guard()?;
        let prepared = self.connection.borrow_mut().session.prepared_with(sql, of.params());
        self.of_server(prepared)
    }

    fn of_server(&self, prepared: Result<Statement, Prepare>) -> Result<Statement, HostError> {
        match prepared {
            Ok(statement) => Ok(statement),
            Err(Prepare::Connect(error)) => Err(self.failed_of_itself(&error)),
            Err(Prepare::Refused(error)) => Err(self.refused(&error)),
        }
    }

    /// Has the server's own grammar take the text as one statement on rows, and nothing else. So no
    /// text can end the transaction, change the role or a setting, or define something.
    fn check(&self, sql: &str) -> Result<(), HostError> {
        self.guard()?;
        // A name of its own, because a PREPARE outlives its transaction.
        let name = format!("verger_check_{}", self.connection.borrow_mut().session.next_number());
        let text = format!("PREPARE {name} AS {sql}");
        let checked = self.run_it(|session| {
            session.noticing(|client| client.execute(&text, &[])).map_err(Into::into)
        });
        match checked {
            Ok(_) => self.run_it(|session| {
                session
                    .noticing(|client| client.batch_execute(&format!("DEALLOCATE {name}")))
                    .map_err(Into::into)
            }),
            // A statement of another kind is no statement on rows, whatever the server calls it.
            Err(error) if error.code == code::SQL => {
                let message = error.message.replace(&format!(" {name}"), "");
                Err(HostError { message, ..error })
            }
            Err(error) => Err(error),
        }?;
        match selects_into(sql) {
            true => Err(HostError::new(code::DENIED, "SELECT … INTO denied: it makes a table")),
            false => Ok(()),
        }
    }

    /// Runs a statement behind its guard.
    fn run_it<T>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<Result<T, postgres::Error>, Failed>,
    ) -> Result<T, HostError> {
        let done = work(&mut self.connection.borrow_mut().session);
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(self.refused(&error)),
            Err(Failed::Lost(error)) => Err(self.failed_of_itself(&error)),
            Err(Failed::Invalid(error)) => Err(error),
        }
    }

    /// The server refused a statement. The transaction goes back to its guard.
    fn refused(&self, error: &postgres::Error) -> HostError {
        let told = self.interrupted_or(host_error(error));
        let is_over = self.task.stop_signal.is_over();
        // A cancel that was meant for the job before says nothing of this one.
        let is_to_repeat =
            is_conflict(error) || is_outdated(error) || (is_cancelled(error) && !is_over);
        if is_outdated(error) {
            self.connection.borrow_mut().session.forget_statements();
        }
        if is_to_repeat || is_over || is_lost(error) {
            self.has_conflict.set(self.has_conflict.get() || is_to_repeat);
            self.lose(told.clone().into());
            return told;
        }
        match self.go_back() {
            Ok(()) => told,
            Err(lost) => lost,
        }
    }

    /// Counts statements, and bounds what is sent with them.
    pub(super) fn account(&self, statements: usize, sets: &[&[Value]]) -> Result<(), HostError> {
        self.alive()?;
        let limits = &self.task.grant.limits;
        count_statements(&self.statements_run, statements, limits)?;
        check_parameters(sets, limits)
    }

    /// Counts rows that a statement changed.
    pub(super) fn wrote(&self, rows: u64) {
        self.has_written.set(true);
        self.count(|tally| tally.rows_changed += rows);
    }
}

/// Rows, as long as they have no more bytes than this. What is not read is dropped as it comes.
fn read<S: ToStatement + ?Sized>(
    client: &mut Client,
    statement: &S,
    params: &[&(dyn ToSql + Sync)],
    most: usize,
) -> Result<Option<Vec<Row>>, postgres::Error> {
    let params = params.iter().map(|param| *param as &dyn ToSql);
    let mut sent = client.query_raw(statement, params)?;
    let (mut rows, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = sent.next()? {
        bytes = bytes.saturating_add(row.raw_size_bytes());
        if bytes > most {
            return Ok(None);
        }
        rows.push(row);
    }
    Ok(Some(rows))
}

/// What is wrong with a text whatever it says.
pub(in crate::postgres) fn formal_fault(sql: &str) -> Option<HostError> {
    if let Err(error) = check_length(sql) {
        return Some(error);
    }
    if sql.contains('\0') {
        let why = "the statement has a character of the number 0";
        return Some(HostError::new(code::SQL, why));
    }
    is_empty(sql).then(|| HostError::new(code::SQL, "the statement is empty"))
}

/// Whether an integer of it has fewer than 64 bits.
pub(in crate::postgres) fn is_narrow(of: &Type) -> bool {
    *of == Type::INT4 || *of == Type::INT2
}

/// The same types, with integers of 64 bits.
pub(in crate::postgres) fn wide(types: &[Type]) -> Vec<Type> {
    types.iter().map(|of| if is_narrow(of) { Type::INT8 } else { of.clone() }).collect()
}

/// A worker's statement in the words of this server, for these sets of values.
pub(in crate::postgres) fn in_its_words(sql: &str, sets: &[&[Value]]) -> String {
    let is_null = |number: u32| {
        let place = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
        sets.iter().any(|set| matches!(set.get(place), None | Some(Value::Null)))
    };
    translated(sql, &is_null)
}

/// Why a statement was not even sent.
enum Failed {
    Lost(crate::store::StoreError),
    Invalid(HostError),
}

impl From<crate::store::StoreError> for Failed {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Lost(error)
    }
}

/// Does this with the values as parameters.
fn with<T>(
    statement: &Statement,
    values: &[Value],
    work: impl FnOnce(&[&(dyn ToSql + Sync)]) -> Result<T, crate::store::StoreError>,
) -> Result<T, Failed> {
    let wanted = statement.params().len();
    if wanted != values.len() {
        return Err(Failed::Invalid(HostError::new(
            code::SQL,
            format!(
                "the statement has {wanted} parameters, and {} values were given",
                values.len()
            ),
        )));
    }
    let params: Vec<Param<'_>> = values.iter().map(Param).collect();
    let params: Vec<&(dyn ToSql + Sync)> =
        params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
    Ok(work(&params)?)
}
