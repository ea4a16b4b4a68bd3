//! What the server says of the statements of a component, before one runs.

mod keys;
mod node_tree;
mod order;

use std::collections::BTreeSet;
use std::sync::Arc;

use postgres::types::Type;
use verger_worker::HostError;

use super::address::Address;
use super::failure::{is_about_names, is_cancelled, kind_of, store_error, words};
use super::guests::{Tree, TreeStatement};
use super::migrate::{check, open_error};
use super::random::random;
use super::run::{formal_fault, in_its_words, is_narrow, wide};
use super::session::{Prepare, Session};
use super::sql_text::selects_into;
use super::verger::handed_over;
use crate::error::{Error, OpenError};
use crate::store::{StoreError, StoreErrorKind};

pub use order::OtherOrder;

const CHECKING: &str = "check a statement";

/// Says of the statements of a component whether it may send them on PostgreSQL. None is run, and
/// nothing is changed. A statement goes the way it goes in a run: it is put into the words of this
/// server, taken by its grammar as one statement on rows, and judged by its parse tree. What a role
/// was granted is not looked at.
///
/// ```no_run
/// use verger::postgres::StatementCheck;
///
/// let mut check = StatementCheck::open("postgres://app@localhost/app")?;
/// if let Some(refusal) = check.refusal("INSERT OR IGNORE INTO seen VALUES (?1)", false)? {
///     println!("{}", refusal.why);
/// }
/// # Ok::<(), verger::Error>(())
/// ```
pub struct StatementCheck {
    session: Session,
    tree: Tree,
    path: String,
}

/// Why a component may not send a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatementRefusal {
    /// In the words of the server, or of the wall.
    pub why: String,
    /// It is about a table, a column, a type, or a function of such arguments: with other tables
    /// the statement may be taken.
    pub is_about_names: bool,
}

impl std::fmt::Debug for StatementCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatementCheck").finish_non_exhaustive()
    }
}

impl StatementCheck {
    /// Opens the database at this address, whose tables the statements are about. Verger must have
    /// been opened there before.
    ///
    /// # Errors
    /// [`OpenError`] for an address, a server or a database that cannot be used.
    pub fn open(url: &str) -> Result<Self, OpenError> {
        let address = Arc::new(Address::of(url, None).map_err(open_error)?);
        handed_over(|| {
            let mut session = Session::new(Arc::clone(&address));
            check(&mut session)?;
            let path = super::guests::path(&mut session).map_err(open_error)?;
            let path = format!("{path}verger_sql, pg_temp");
            let name = random(CHECKING, 8).map_err(open_error)?;
            Ok(Self { session, tree: Tree::new(Session::new(address), &name), path })
        })
    }

    /// Why a component may not send this statement. `None` if it may. `is_common` is for one whose
    /// manifest says that its SQL is for both stores.
    ///
    /// # Errors
    /// [`Error::Store`] when the server cannot be asked.
    pub fn refusal(
        &mut self,
        sql: &str,
        is_common: bool,
    ) -> Result<Option<StatementRefusal>, Error> {
        if let Some(HostError { message, .. }) = formal_fault(sql) {
            return Ok(Some(by_the_wall(message)));
        }
        let sql = in_its_words(sql, &[]);
        Ok(handed_over(|| self.judged(&sql, is_common))?)
    }

    /// By which columns a statement that may be sent orders its rows otherwise than on SQLite. It
    /// names what the server's tree and its catalog say for sure: columns of tables, not what is
    /// computed from them, and nothing that is compared without being sorted.
    ///
    /// # Errors
    /// [`Error::Store`] when the server cannot be asked.
    pub fn other_orders(&mut self, sql: &str) -> Result<BTreeSet<OtherOrder>, Error> {
        if formal_fault(sql).is_some() {
            return Ok(BTreeSet::new());
        }
        let sql = in_its_words(sql, &[]);
        Ok(handed_over(|| self.ordered(&sql))?)
    }

    fn ordered(&mut self, sql: &str) -> Result<BTreeSet<OtherOrder>, StoreError> {
        let Ok(params) = self.params(sql)? else { return Ok(BTreeSet::new()) };
        let statement = self.statement(sql, &params, true);
        let others = self
            .tree
            .read(&statement, |session, function| order::other_orders(session, function, sql));
        Ok(others?.unwrap_or_default())
    }

    /// The types of its parameters, if the server takes it as a statement on rows.
    fn params(&mut self, sql: &str) -> Result<Result<Vec<Type>, StatementRefusal>, StoreError> {
        let begin =
            format!("BEGIN; SET LOCAL search_path = {}; SET LOCAL lock_timeout = 2000", self.path);
        self.session.begin(CHECKING, &begin)?;
        let prepared = prepared(&mut self.session, sql);
        self.session.roll_back();
        self.session.forget_statements();
        prepared
    }

    fn statement<'s>(
        &'s self,
        sql: &'s str,
        params: &'s [Type],
        knows_both: bool,
    ) -> TreeStatement<'s> {
        TreeStatement { sql, params, path: &self.path, knows_both }
    }

    fn judged(
        &mut self,
        sql: &str,
        is_common: bool,
    ) -> Result<Option<StatementRefusal>, StoreError> {
        let params = match self.params(sql)? {
            Ok(params) => params,
            Err(refusal) => return Ok(Some(refusal)),
        };
        if selects_into(sql) {
            return Ok(Some(by_the_wall("SELECT … INTO makes a table".to_string())));
        }
        let verdict = self.tree.verdict(&self.statement(sql, &params, is_common))?;
        Ok(verdict.map(by_the_wall))
    }
}

/// The types of its parameters, if the server takes it as a statement on rows.
fn prepared(
    session: &mut Session,
    sql: &str,
) -> Result<Result<Vec<Type>, StatementRefusal>, StoreError> {
    let text = format!("PREPARE verger_check AS {sql}");
    if let Err(error) = session.noticing(|client| client.execute(&text, &[]))? {
        return refused(&error).map(Err);
    }
    session.batch(CHECKING, "DEALLOCATE verger_check; SAVEPOINT wide")?;
    let statement = match session.prepared(sql) {
        Ok(statement) => statement,
        Err(Prepare::Connect(error)) => return Err(error),
        Err(Prepare::Refused(error)) => return refused(&error).map(Err),
    };
    let params = statement.params().to_vec();
    if !params.iter().any(is_narrow) {
        return Ok(Ok(params));
    }
    // As in a run, where it can be.
    let wide = wide(&params);
    Ok(Ok(if session.prepared_with(sql, &wide).is_ok() { wide } else { params }))
}

/// A refusal, unless the server could not answer: for want of a connection, of a lock or of room.
fn refused(error: &postgres::Error) -> Result<StatementRefusal, StoreError> {
    match kind_of(error) {
        StoreErrorKind::Other if error.code().is_some() && !is_cancelled(error) => {
            Ok(StatementRefusal {
                why: words(error).replace(" verger_check", ""),
                is_about_names: is_about_names(error),
            })
        }
        _ => Err(store_error(CHECKING, error)),
    }
}

fn by_the_wall(why: String) -> StatementRefusal {
    StatementRefusal { why, is_about_names: false }
}
