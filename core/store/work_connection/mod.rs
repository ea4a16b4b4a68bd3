//! Who may do what on a connection that workers use, enforced by SQLite itself.
//!
//! The authorizer, the progress handler and the busy handler are installed once for each connection
//! and read one shared state, because installing an authorizer again would expire every prepared
//! statement. Between runs that state denies everything.

mod account;
mod handlers;
mod lock;
mod statements;
mod tenant;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::limits::Limit;

#[cfg(feature = "wasm")]
pub(crate) use self::handlers::tick_clock;
pub(crate) use self::handlers::{Handlers, Overdrawn};
use self::handlers::{Holder, HolderReset, State};
use super::books::Books;
use super::bounded_functions;
use super::cache::Cache;
use super::confinement::Confinement;
use super::full_text::{self, Words};
use super::location::{ConnectionSetup, Durability, Location};
use super::lock_fairness::{Holding, Waiting};
use super::lock_release::Lender;
use super::page_count::PageCount;
use super::rusqlite_versions::{IntoResult, set_busy_handler};
use super::statement_context::StatementContext;
use super::statement_cost::{StatementCosts, VALUE_MAX_BYTES};
use super::transaction_step::TransactionStep;
use super::unasked::Unasked;

/// The number of pages at which the write-ahead log is folded back. Batched sweeps are fast with a
/// long log. But whoever commits when the log has 1,000 pages, as SQLite's own setting is, folds it
/// back and waits for the disk. So beside an app that writes, the log is kept shorter, so that the
/// app does not have to wait.
pub(super) const FOLD_EVERY: u32 = 4_000;

fn has_log(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .query_row("PRAGMA main.journal_mode", [], |row| Ok(row.get_ref(0)?.as_bytes()? == b"wal"))
}

/// A connection that workers and the engine use in turns.
pub(crate) struct WorkConnection {
    connection: Connection,
    handlers: Arc<Handlers>,
    confinement: Option<Confinement>,
    holding: Holding,
    lender: Lender,
    /// Steps between two looks, as they are set now.
    looks_every: Cell<i32>,
    programs: StatementCosts,
    cache: Cache,
    unasked: Unasked,
    /// The version of the schema that the handlers know the views of.
    schema: Cell<i64>,
    has_log: Cell<bool>,
    has_late_checks: Cell<bool>,
    /// At how many pages it folds the write-ahead log back.
    folds_every: Cell<u32>,
    /// Where the write-ahead log is.
    log: Option<PathBuf>,
    /// The log is long and others wrote. It is cut once they do not.
    owes_log: Cell<bool>,
}

impl Drop for WorkConnection {
    fn drop(&mut self) {
        // Waits for the thread that uses the connection now.
        self.lender.take_back();
    }
}

impl WorkConnection {
    /// Opens a connection with every wall in place.
    pub(crate) fn open(
        location: &Location,
        durability: Durability,
        setup: Option<&ConnectionSetup>,
    ) -> rusqlite::Result<Self> {
        #[allow(
            unused_mut,
            reason = "the authorizer is set through a shared reference before 0.41"
        )]
        let mut connection = location.connect_for_workers(durability)?;
        let has_log = has_log(&connection)?;
        let mut around = StatementContext::default();
        if let Some(setup) = setup {
            let before = bounded_functions::known(&connection)?;
            setup(&connection)?;
            let now = bounded_functions::known(&connection)?;
            let added = now.difference(&before).cloned();
            let (open, closed) = added.partition::<BTreeSet<_>, _>(|(_, innocuous)| *innocuous);
            let names = |added: BTreeSet<(String, bool)>| added.into_iter().map(|(name, _)| name);
            around.open_functions = names(open).collect();
            around.closed_functions = names(closed).collect();
        }
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        // Plans do not depend on the values that are bound, so one look at a plan holds for all its
        // runs.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        // Generous enough for honest workers. The deadline bounds the rest.
        for (limit, value) in [
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_LENGTH, VALUE_MAX_BYTES),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, 64 << 10),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
            (Limit::SQLITE_LIMIT_VDBE_OP, 100_000),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 64),
            (Limit::SQLITE_LIMIT_FUNCTION_ARG, 500),
        ] {
            connection.set_limit(limit, value).into_result()?;
        }
        let handlers = Arc::new(Handlers {
            state: Mutex::new(State {
                holder: Holder::Nobody,
                around,
                stop_signal: None,
                watched: None,
                temp_space: None,
                denied: None,
                write: None,
                sets: Vec::new(),
                memory: 0,
                may_write: u64::MAX,
                is_impatient: false,
                overdrawn: None,
            }),
            seen: AtomicU64::new(0),
            looks: AtomicU32::new(0),
            quick_looks: AtomicU32::new(1),
            pages: PageCount::of(&connection)?,
            words: Words::default(),
            inner: Arc::default(),
        });
        let shared = Arc::clone(&handlers);
        let is_over = Arc::new(move || shared.is_over()) as _;
        handlers.state().around.has_bounded_full_text =
            full_text::install(&connection, &handlers.words, &is_over)?;
        bounded_functions::install(
            &connection,
            usize::try_from(VALUE_MAX_BYTES).unwrap_or_default(),
            &is_over,
        )?;
        let shared = Arc::clone(&handlers);
        connection
            .authorizer(Some(move |context: AuthContext<'_>| match shared.allow(&context) {
                true => Authorization::Allow,
                false => Authorization::Deny,
            }))
            .into_result()?;
        let shared = Arc::clone(&handlers);
        let mut waiting = Waiting::on(location);
        set_busy_handler(&connection, move |tries| shared.may_wait() && waiting.wait(tries))?;
        Ok(Self {
            lender: Lender::of(&connection),
            connection,
            handlers,
            confinement: None,
            holding: Holding::of(location),
            looks_every: Cell::new(0),
            programs: StatementCosts::default(),
            cache: Cache::default(),
            unasked: Unasked::default(),
            schema: Cell::new(-1),
            has_log: Cell::new(has_log),
            has_late_checks: Cell::new(false),
            folds_every: Cell::new(FOLD_EVERY),
            log: location.log_file(),
            owes_log: Cell::new(false),
        })
    }

    /// Runs `work` as the engine, in the types of the domain.
    pub(crate) fn books<T>(&self, work: impl FnOnce(Books<'_>) -> T) -> T {
        self.engine(|connection| work(Books::on(connection)))
    }

    /// Whether a transaction is open.
    pub(crate) fn is_in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Takes a step of a transaction.
    pub(crate) fn transact(&self, step: TransactionStep) -> rusqlite::Result<()> {
        self.engine(|connection| step.take(connection))
    }

    /// Runs `work` as the engine.
    pub(crate) fn engine<'c, T>(&'c self, work: impl FnOnce(&'c Connection) -> T) -> T {
        self.handlers.state().holder = Holder::Engine;
        let _reset = HolderReset(&self.handlers);
        work(&self.connection)
    }

    /// The connection, for what prepares nothing: counters, and cursors of statements prepared in a
    /// worker's turn.
    pub(crate) fn raw(&self) -> &Connection {
        &self.connection
    }
}
