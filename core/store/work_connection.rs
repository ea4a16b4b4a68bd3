//! Who may do what on a connection that workers use, enforced by SQLite itself.
//!
//! The authorizer, the progress handler and the busy handler are installed once for each connection
//! and read one shared state: installing an authorizer again would expire every prepared statement.
//! Between runs that state denies everything.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, Statement};
use verger_worker::Verb;

use super::authorizer::judge;
use super::books::Books;
use super::bounded_functions;
use super::cache::Cache;
use super::confinement::{ChangeMark, Confinement};
use super::full_text::{self, Words};
use super::late_checks;
use super::location::{ConnectionSetup, Durability, Location};
use super::lock_fairness::{Holding, Waiting};
use super::lock_release::{Lender, LentConnection};
use super::page_count::PageCount;
use super::rusqlite_versions::{IntoResult, set_busy_handler};
use super::statement_context::StatementContext;
use super::statement_cost::{StatementCost, StatementCosts, VALUE_MAX_BYTES};
use super::stop_signal::StopSignal;
use super::temp_space::{HeldBytes, TempSpace};
use super::tokens::Tokens;
use super::transaction_guard::step;
use super::unasked::{self, Unasked, Write};
use crate::clock::Clock;
use crate::grant::Effective;
use crate::mutex::lock;

/// SQLite virtual-machine steps between two looks at the deadline: some microseconds. Looks after
/// each 64 took a sweep's read 8 % longer.
const STEPS_BETWEEN_LOOKS: i32 = 512;

/// The same for a program that calls functions: one may work for milliseconds on a long text.
const STEPS_BETWEEN_LOOKS_AT_CALLS: i32 = 8;

/// Steps, after which a look reads the clock. The others only see whether it ticked: they cost next
/// to nothing, but on a busy machine whatever makes it tick may come late.
const STEPS_BETWEEN_READINGS: i32 = 2048;
const STEPS_BETWEEN_READINGS_AT_CALLS: i32 = 32;

/// Steps of SQLite's planner, which are longer, between two looks that all read the clock.
const STEPS_BETWEEN_LOOKS_AT_PREPARE: i32 = 16;

/// Pages at which the write-ahead log is folded back. Batched sweeps live on a long log. But whoever
/// commits when it has 1,000, as SQLite's own setting is, folds it back and waits for the disk:
/// beside an app that writes it is kept shorter, so that it is not the app.
pub(super) const FOLD_EVERY: u32 = 4_000;
const FOLD_BESIDE_WRITERS: u32 = 600;

/// How often a transaction is begun anew when the schema changes just before it.
const SCHEMA_TRIES: u32 = 8;

/// Ticks every few milliseconds while a component runs.
static TICKS: AtomicU64 = AtomicU64::new(0);

/// Has every statement that is being stepped look at its deadline.
#[cfg(feature = "wasm")]
pub(crate) fn tick_clock() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

/// Who the statements being prepared belong to.
enum Holder {
    /// Nobody: everything is denied.
    Nobody,
    /// The engine.
    Engine,
    /// A worker, with what it may touch.
    Worker(Arc<Effective>),
}

/// What a statement was ended for, beside its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdrawn {
    /// The memory that SQL may take.
    Memory,
    /// The bytes that a transaction may write.
    Written,
}

/// The state the handlers of one connection share.
pub(crate) struct Guard {
    state: Mutex<State>,
    looks: AtomicU32,
    /// Looks, of which one reads the clock.
    quick_looks: AtomicU32,
    /// What `TICKS` was at the last look.
    seen: AtomicU64,
    pages: PageCount,
    /// Words of full-text searches since the last look.
    words: Words,
    /// A statement of the tenant's walls is prepared or stepped, inside a worker's.
    inner: Arc<AtomicBool>,
}

struct State {
    holder: Holder,
    /// The statement at hand, and whether the connection confines.
    around: StatementContext,
    stop_signal: Option<StopSignal>,
    /// While a worker's statement is prepared, looked at or stepped: the bytes of memory its run
    /// may hold. Then its deadline ends it, in whoever's name.
    watched: Option<usize>,
    temp_space: Option<Arc<TempSpace>>,
    denied: Option<String>,
    /// The first write of the statement being prepared, triggers apart.
    write: Option<(Verb, String)>,
    /// What SQLite held in this process when the run began, in bytes.
    memory: i64,
    /// What the connection may have written before a statement is ended.
    may_write: u64,
    /// Nobody may be waited for.
    is_impatient: bool,
    /// The limit a statement was ended for.
    overdrawn: Option<Overdrawn>,
}

impl State {
    /// Bytes that the run's SQL takes, and what the run holds beside it.
    fn taken(&self) -> usize {
        let grown = usize::try_from(memory_used().saturating_sub(self.memory)).unwrap_or_default();
        grown.saturating_add(self.temp_space.as_ref().map_or(0, |space| space.held()))
    }
}

impl Guard {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn allow(&self, context: &AuthContext<'_>) -> bool {
        if self.inner.load(Ordering::Relaxed) {
            return true;
        }
        let mut state = self.state();
        if matches!(state.holder, Holder::Worker(_))
            && context.accessor.is_none()
            && let Some((verb, table)) = write_of(&context.action)
        {
            // Told before anything the statement reads.
            state.around.target.get_or_insert_with(|| table.to_string());
            state.write.get_or_insert_with(|| (verb, table.to_string()));
        }
        let verdict = match &state.holder {
            Holder::Engine => return true,
            Holder::Nobody => Err("no run is in progress".to_string()),
            Holder::Worker(grant) => judge(grant, &state.around, context),
        };
        match verdict {
            Ok(()) => true,
            Err(reason) => {
                state.denied.get_or_insert(reason);
                false
            }
        }
    }

    fn is_over(&self) -> bool {
        let state = self.state();
        state.watched.is_some() && state.stop_signal.as_ref().is_some_and(StopSignal::is_over)
    }

    /// Whether a statement is to end: its time is over, or its run holds more memory than it is
    /// granted. What others in the process make SQLite hold meanwhile counts too: it keeps one
    /// count.
    fn is_to_end(&self) -> bool {
        // One thread looks: no need to add, or to exchange, in one step.
        let (looks, ticks) =
            (self.looks.load(Ordering::Relaxed).wrapping_add(1), TICKS.load(Ordering::Relaxed));
        self.looks.store(looks, Ordering::Relaxed);
        if !looks.is_multiple_of(self.quick_looks.load(Ordering::Relaxed))
            && ticks == self.seen.load(Ordering::Relaxed)
        {
            return false;
        }
        self.seen.store(ticks, Ordering::Relaxed);
        if self.is_over() {
            return true;
        }
        let mut state = self.state();
        let Some(most) = state.watched else { return false };
        if state.taken() > most {
            state.overdrawn = Some(Overdrawn::Memory);
        } else if self.pages.bytes_written() > state.may_write {
            state.overdrawn = Some(Overdrawn::Written);
        }
        state.overdrawn.is_some()
    }

    /// Whether a lock may still be waited for.
    fn may_wait(&self) -> bool {
        let state = self.state();
        !state.is_impatient && !state.stop_signal.as_ref().is_some_and(StopSignal::is_over)
    }
}

/// The progress handler.
#[allow(unsafe_code, reason = "SQLite calls it through a pointer")]
unsafe extern "C" fn look(guard: *mut c_void) -> c_int {
    // SAFETY: it is the pointer that was installed, to the guard of the connection that calls.
    let guard = unsafe { &*guard.cast::<Guard>() };
    // A refused search is over, and stays refused.
    if guard.words.load(Ordering::Relaxed) < full_text::REFUSED {
        guard.words.store(0, Ordering::Relaxed);
    }
    c_int::from(guard.is_to_end())
}

fn has_log(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .query_row("PRAGMA main.journal_mode", [], |row| Ok(row.get_ref(0)?.as_bytes()? == b"wal"))
}

fn memory_used() -> i64 {
    // SAFETY: it reads a counter, takes no argument, and may be called at any time from any thread.
    #[allow(unsafe_code, reason = "rusqlite has no safe form of it")]
    unsafe {
        rusqlite::ffi::sqlite3_memory_used()
    }
}

fn write_of<'a>(action: &AuthAction<'a>) -> Option<(Verb, &'a str)> {
    match *action {
        AuthAction::Insert { table_name } => Some((Verb::Insert, table_name)),
        AuthAction::Update { table_name, .. } => Some((Verb::Update, table_name)),
        AuthAction::Delete { table_name } => Some((Verb::Delete, table_name)),
        _ => None,
    }
}

/// A connection that workers and the engine take turns on.
pub(crate) struct WorkConnection {
    connection: Connection,
    guard: Arc<Guard>,
    confinement: Option<Confinement>,
    holding: Holding,
    lender: Lender,
    /// Steps between two looks, as set now.
    looks_every: Cell<i32>,
    programs: StatementCosts,
    cache: Cache,
    unasked: Unasked,
    /// The version of the schema whose views the guard knows.
    schema: Cell<i64>,
    has_log: Cell<bool>,
    has_late_checks: Cell<bool>,
    /// At how many pages it folds the write-ahead log back.
    folds_every: Cell<u32>,
}

impl Drop for WorkConnection {
    fn drop(&mut self) {
        // Whoever uses it now is waited for.
        self.lender.take_back();
    }
}

/// Puts the holder back to nobody at the end of a turn.
struct Turn<'a>(&'a Guard);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.holder, state.watched) = (Holder::Nobody, None);
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
        // Plans do not depend on the values that are bound: one look at a plan holds for all its
        // runs.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        // Generous enough for honest workers; the deadline bounds the rest.
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
        let guard = Arc::new(Guard {
            state: Mutex::new(State {
                holder: Holder::Nobody,
                around,
                stop_signal: None,
                watched: None,
                temp_space: None,
                denied: None,
                write: None,
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
        let shared = Arc::clone(&guard);
        let is_over = Arc::new(move || shared.is_over()) as _;
        guard.state().around.has_bounded_full_text =
            full_text::install(&connection, &guard.words, &is_over)?;
        bounded_functions::install(
            &connection,
            usize::try_from(VALUE_MAX_BYTES).unwrap_or_default(),
            &is_over,
        )?;
        let shared = Arc::clone(&guard);
        connection
            .authorizer(Some(move |context: AuthContext<'_>| match shared.allow(&context) {
                true => Authorization::Allow,
                false => Authorization::Deny,
            }))
            .into_result()?;
        let shared = Arc::clone(&guard);
        let mut waiting = Waiting::on(location);
        set_busy_handler(&connection, move |tries| shared.may_wait() && waiting.wait(tries))?;
        Ok(Self {
            lender: Lender::of(&connection),
            connection,
            guard,
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
        })
    }

    /// Does something as the engine, in the types of the domain.
    pub(crate) fn books<T>(&self, work: impl FnOnce(Books<'_>) -> T) -> T {
        self.engine(|connection| work(Books::on(connection)))
    }

    /// Whether a transaction is open.
    pub(crate) fn is_in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Does something as the engine.
    pub(crate) fn engine<'c, T>(&'c self, work: impl FnOnce(&'c Connection) -> T) -> T {
        self.guard.state().holder = Holder::Engine;
        let _turn = Turn(&self.guard);
        work(&self.connection)
    }

    /// Lends the connection until it is [taken back](Self::take_back): at this instant, another
    /// thread does something on it as the engine. Nothing may use it meanwhile. False when it cannot
    /// be lent.
    pub(crate) fn lend(
        &self,
        at: Instant,
        work: impl FnOnce(&LentConnection<'_>) + Send + 'static,
    ) -> bool {
        let guard = Arc::clone(&self.guard);
        self.lender.lend(
            at,
            Box::new(move |lent: &LentConnection<'_>| {
                guard.state().holder = Holder::Engine;
                let _turn = Turn(&guard);
                work(lent);
            }),
        )
    }

    /// Takes the connection back: whether it was lent and nobody has used it.
    pub(crate) fn take_back(&self) -> bool {
        self.lender.take_back()
    }

    /// Installs the progress handler, unless it looks that often already.
    #[allow(
        unsafe_code,
        reason = "rusqlite sets a handler only where nothing else holds the connection; statements do"
    )]
    fn look_every(&self, steps: i32, reading: i32) {
        if self.looks_every.replace(steps) != steps {
            self.guard.quick_looks.store((reading / steps).unsigned_abs(), Ordering::Relaxed);
            // SAFETY: the guard lives as long as this connection, which is used from one thread at
            // a time, as is the handle.
            unsafe {
                rusqlite::ffi::sqlite3_progress_handler(
                    self.connection.handle(),
                    steps,
                    Some(look),
                    Arc::as_ptr(&self.guard) as _,
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
                confinement.begin_step();
                // Those that return rows are undone by whoever reads them.
                let many = program.writes_rows
                    && !program.returns
                    && (program.loops || confinement.computes_tenants());
                self.undone_if_failed(confinement, many, || self.worker(grant, tokens, work))
            }
            None => self.worker(grant, tokens, work),
        };
        if limited {
            self.connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_MAX_BYTES).into_result()?;
        }
        done
    }

    /// Undoes what a failed write through the tenant's walls did before: each of its rows was a
    /// statement of its own to SQLite.
    fn undone_if_failed<T>(
        &self,
        confinement: &Confinement,
        many: bool,
        work: impl FnOnce() -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if !many || self.connection.is_autocommit() {
            return work();
        }
        self.engine(|connection| step(connection, "SAVEPOINT verger_statement"))?;
        let done = work();
        // A failure may have ended the transaction, and the savepoint with it.
        if !self.connection.is_autocommit() {
            self.engine(|connection| {
                if done.is_err() && !confinement.keeps() {
                    step(connection, "ROLLBACK TO verger_statement")?;
                }
                step(connection, "RELEASE verger_statement")
            })?;
        }
        done
    }

    /// Prepares a statement as a worker with this grant, under its deadline.
    pub(crate) fn prepare<'c>(
        &'c self,
        grant: &Arc<Effective>,
        tokens: &Arc<Tokens>,
        sql: &str,
    ) -> rusqlite::Result<Statement<'c>> {
        self.look_every(STEPS_BETWEEN_LOOKS_AT_PREPARE, STEPS_BETWEEN_LOOKS_AT_PREPARE);
        self.worker(grant, tokens, |connection| connection.prepare(sql))
    }

    /// Does something as a worker with this grant, for the statement with these tokens.
    fn worker<'c, T>(
        &'c self,
        grant: &Arc<Effective>,
        tokens: &Arc<Tokens>,
        work: impl FnOnce(&'c Connection) -> T,
    ) -> T {
        let mut state = self.guard.state();
        state.holder = Holder::Worker(Arc::clone(grant));
        state.watched = Some(grant.limits.sql_memory_bytes);
        state.around.tokens = Some(Arc::clone(tokens));
        state.around.target = None;
        state.around.closed.take();
        state.denied = None;
        state.write = None;
        state.overdrawn = None;
        self.guard.words.store(0, Ordering::Relaxed);
        let temp_space = state.temp_space.clone();
        drop(state);
        let _entered = temp_space.map(TempSpace::enter);
        let _turn = Turn(&self.guard);
        work(&self.connection)
    }

    /// Looks at the schema, where it changed. To be called in each transaction before a worker's
    /// first statement: then it stays.
    /// Whether it had changed.
    pub(crate) fn learn(&self) -> rusqlite::Result<bool> {
        self.engine(|connection| {
            let version = connection.prepare_cached("PRAGMA main.schema_version")?.query_row([], |row| row.get(0))?;
            if version == self.schema.get() {
                return Ok(false);
            }
            self.has_log.set(has_log(connection)?);
            self.has_late_checks.set(late_checks::are_in_schema(connection)?);
            let names = |sql: &str| -> rusqlite::Result<BTreeSet<String>> {
                connection.prepare(sql)?.query_map([], |row| row.get::<_, String>(0).map(|name| name.to_ascii_lowercase()))?.collect()
            };
            let views = names("SELECT name FROM main.sqlite_schema WHERE type = 'view'")?;
            let tables = names("SELECT name FROM main.sqlite_schema WHERE type = 'table' UNION ALL SELECT name FROM pragma_module_list")?;
            let virtual_tables = unasked::virtual_tables(connection)?;
            let mut state = self.guard.state();
            (state.around.views, state.around.tables) = (views, tables);
            state.around.virtual_tables = virtual_tables;
            drop(state);
            self.programs.forget();
            self.unasked.forget();
            self.schema.set(version);
            Ok(true)
        })
    }

    /// The version of the schema that was last looked at.
    pub(crate) fn schema(&self) -> i64 {
        self.schema.get()
    }

    /// Whether the schema has what a statement's own result does not tell.
    pub(crate) fn has_late_checks(&self) -> bool {
        self.has_late_checks.get()
    }

    /// Whether a commit would be refused now, for a foreign key that does not hold yet.
    pub(crate) fn is_key_owed(&self) -> bool {
        self.has_late_checks.get() && late_checks::is_key_owed(&self.connection)
    }

    /// Changes when another connection has written.
    pub(crate) fn data_version(&self) -> rusqlite::Result<i64> {
        self.engine(|connection| {
            connection.prepare_cached("PRAGMA main.data_version")?.query_row([], |row| row.get(0))
        })
    }

    /// Whether the database has a write-ahead log, as far as is known: then readers and a writer go
    /// on beside each other.
    pub(crate) fn has_log(&self) -> bool {
        self.has_log.get()
    }

    /// Makes this a connection whose workers see one tenant only; see [`confine`](Self::confine).
    pub(crate) fn confinable(mut self) -> rusqlite::Result<Self> {
        self.confinement = Some(Confinement::install(&self, Arc::clone(&self.guard.inner))?);
        Ok(self)
    }

    pub(crate) fn is_confinable(&self) -> bool {
        self.confinement.is_some()
    }

    /// From now on, until the next call, workers see the rows of this tenant and no others in the
    /// tables of this grant.
    pub(crate) fn confine(&self, grant: &Effective, tenant: &str) -> rusqlite::Result<()> {
        let Some(confinement) = &self.confinement else { return Ok(()) };
        let confined = confinement.confine(self, grant, tenant);
        self.guard.state().around.confined = Some(confinement.shadows());
        confined
    }

    /// Begins a transaction in a run, the tenant's walls as the schema is in it: an app may change
    /// that while a worker runs.
    pub(crate) fn begin(&self, sql: &str) -> rusqlite::Result<()> {
        let Some(confinement) = &self.confinement else {
            return self.engine(|connection| step(connection, sql));
        };
        for _ in 0..SCHEMA_TRIES {
            let followed = confinement.follow_schema(self);
            self.guard.state().around.confined = Some(confinement.shadows());
            followed?;
            self.engine(|connection| step(connection, sql))?;
            let version = self.schema_version()?;
            if confinement.is_for(version) {
                return Ok(());
            }
            // It changed in between. Nothing was done in the transaction.
            self.engine(|connection| step(connection, "ROLLBACK"))?;
        }
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_SCHEMA),
            Some("the app changes the schema again and again".to_string()),
        ))
    }

    fn schema_version(&self) -> rusqlite::Result<i64> {
        self.engine(|connection| {
            connection.prepare_cached("PRAGMA main.schema_version")?.query_row([], |row| row.get(0))
        })
    }

    /// To be asked [later](Self::changed_since) what was changed from here on.
    pub(crate) fn change_mark(&self) -> ChangeMark {
        let (changed, writes) =
            self.confinement.as_ref().map(Confinement::changed).unwrap_or_default();
        ChangeMark { writes, changed, total: self.connection.total_changes() }
    }

    /// The rows that a worker's statement changed, given how many SQLite counts for it. Those
    /// changed through the tenant's walls are counted there; those that triggers in a view's place
    /// changed are not in SQLite's own count.
    pub(crate) fn changed_since(&self, mark: ChangeMark, counted: u64) -> u64 {
        let now = self.change_mark();
        match () {
            () if now.writes != mark.writes => now.changed - mark.changed,
            () if counted == 0 => now.total - mark.total,
            () => counted,
        }
    }

    /// Whether a statement that could not be prepared can be now: one that returns what it changes
    /// behind the tenant's walls takes another road.
    pub(crate) fn can_retry(&self, error: &rusqlite::Error) -> rusqlite::Result<bool> {
        match &self.confinement {
            Some(confinement) if Confinement::is_refusal(error) => {
                confinement.put_views(self).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// A text without the names a worker must not learn.
    pub(crate) fn redact(&self, text: String) -> String {
        match &self.confinement {
            Some(confinement) => text.replace(confinement.token(), ""),
            None => text,
        }
    }

    /// A run begins: until when waiting and stepping may last, and the clock its SQL reads.
    pub(crate) fn run_begins(&self, stop_signal: StopSignal, clock: Arc<dyn Clock>) {
        let mut state = self.guard.state();
        state.stop_signal = Some(stop_signal);
        state.temp_space = Some(TempSpace::new(clock));
        state.memory = memory_used();
    }

    /// Counts what a run holds beside SQLite with what its SQL takes. `None` between runs.
    pub(crate) fn hold(&self) -> Option<HeldBytes> {
        self.guard.state().temp_space.clone().map(HeldBytes::of)
    }

    /// Whether the SQL of the run at hand takes more memory than this, with what the run holds.
    pub(crate) fn takes_more_than(&self, bytes: usize) -> bool {
        self.guard.state().taken() > bytes
    }

    /// Looks at a worker's statement before it is stepped, under the run's deadline: what it costs,
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
            let mut state = self.guard.state();
            state.watched = Some(grant.limits.sql_memory_bytes);
            let confined = state.around.confined.is_some();
            // The program shows of a table behind the tenant's walls no more than the wall.
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
                self.guard.state().denied = Some(reason);
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_AUTH),
                    None,
                ));
            }
            if program.cost.sorts {
                self.cache.make_small(connection)?;
            }
            Ok(program.cost)
        })
    }

    pub(crate) fn run_ends(&self) -> rusqlite::Result<()> {
        let mut state = self.guard.state();
        (state.stop_signal, state.temp_space) = (None, None);
        state.may_write = u64::MAX;
        drop(state);
        self.engine(|connection| self.cache.restore(connection))
    }

    /// Bytes of pages that this connection wrote since it was opened, to the log or to the file.
    /// What still waits in its cache is not among them.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.guard.pages.bytes_written()
    }

    /// A worker's statement is ended when the connection has written more than this in all.
    pub(crate) fn may_write(&self, bytes: u64) {
        self.guard.state().may_write = bytes;
    }

    /// Bytes of the pages that are in use in the database, as this transaction sees it.
    pub(crate) fn bytes_in_use(&self) -> rusqlite::Result<u64> {
        self.engine(|connection| self.guard.pages.bytes_in_use(connection))
    }

    /// Gives back what a long write-ahead log takes on the disk: folds it into the file and cuts
    /// it, when nobody else reads or writes. Whoever writes next does it otherwise: the log is cut
    /// to its usual size when it is used again from its start.
    pub(crate) fn shorten_log(&self) -> rusqlite::Result<()> {
        self.guard.state().is_impatient = true;
        let done = self.engine(|connection| {
            // Cutting holds the write lock. So the folding, which waits for the disk, goes first by
            // itself and keeps nobody from writing; what is written meanwhile stays.
            let is_folded: bool = connection
                .prepare_cached("PRAGMA main.wal_checkpoint(PASSIVE)")?
                .query_row([], |row| Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?))?;
            match is_folded {
                true => connection
                    .prepare_cached("PRAGMA main.wal_checkpoint(TRUNCATE)")?
                    .query_row([], |_| Ok(())),
                false => Ok(()),
            }
        });
        self.guard.state().is_impatient = false;
        done
    }

    /// What the last refused statement of a worker was refused for.
    pub(crate) fn take_denied(&self) -> Option<String> {
        full_text::why_refused(&self.guard.words)
            .or_else(|| self.guard.state().denied.take())
            .or_else(|| self.confinement.as_ref().and_then(Confinement::take_denied))
    }

    /// The limit that a worker's last statement was ended for.
    pub(crate) fn take_overdrawn(&self) -> Option<Overdrawn> {
        self.guard.state().overdrawn.take()
    }

    /// The first write that the worker's last prepared statement makes by itself: the verb and the
    /// table.
    pub(crate) fn take_write(&self) -> Option<(Verb, String)> {
        self.guard.state().write.take()
    }

    /// After a commit of a transaction that held the write lock since then: others may have waited
    /// for it.
    pub(crate) fn let_others_in(&self, since: Instant) {
        self.holding.let_others_in(since, || self.data_version().ok());
        let pages = if self.holding.is_beside_writers() { FOLD_BESIDE_WRITERS } else { FOLD_EVERY };
        if self.folds_every.replace(pages) != pages {
            // Without it the log is folded back as before.
            let _ = self.engine(|connection| {
                connection.execute_batch(&format!("PRAGMA wal_autocheckpoint = {pages}"))
            });
        }
    }

    /// Before a transaction: takes note of what others have written since the last one.
    pub(crate) fn look_for_others(&self) {
        if self.holding.wants_look()
            && let Ok(version) = self.data_version()
        {
            self.holding.look(version);
        }
    }

    /// Whether a transaction that has held the write lock since then should end soon, for others.
    pub(crate) fn is_wanted_by_others(&self, since: Instant) -> bool {
        self.holding.is_due(since)
    }

    /// The connection, for what prepares nothing: counters, cursors of statements prepared in a
    /// worker's turn.
    pub(crate) fn raw(&self) -> &Connection {
        &self.connection
    }
}
