//! Who may do what on a connection that workers use, enforced by SQLite itself.
//!
//! The authorizer, the progress handler and the busy handler are installed once for each connection and read one shared
//! state: installing an authorizer again would expire every prepared statement. Between runs that state denies everything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::Connection;
use verger_worker::Verb;

use super::confine::Confinement;
use super::judge::{Circumstances, judge};
use super::location::{BUSY_TIMEOUT, ConnectionSetup, Durability, Location};
use crate::grant::Effective;

/// SQLite virtual-machine steps between two looks at the deadline: some 10 µs.
const STEPS_BETWEEN_LOOKS: i32 = 1_000;

/// Who the statements being prepared belong to.
enum Holder {
    /// Nobody: everything is denied.
    Nobody,
    /// The engine.
    Engine,
    /// A worker, with what it may touch.
    Worker(Arc<Effective>),
}

/// When a run has to end.
#[derive(Clone)]
pub(crate) struct Leash {
    pub(crate) deadline: Instant,
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Leash {
    pub(crate) fn is_over(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || Instant::now() >= self.deadline
    }
}

/// The state the handlers of one connection share.
pub(crate) struct Guard {
    state: Mutex<State>,
}

struct State {
    holder: Holder,
    /// The statement at hand, and whether the connection confines.
    around: Circumstances,
    leash: Option<Leash>,
    denied: Option<String>,
    /// The first write of the statement being prepared, triggers apart.
    write: Option<(Verb, String)>,
}

impl Guard {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is plain data, whole after any panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allow(&self, context: &AuthContext<'_>) -> bool {
        let mut state = self.state();
        let verdict = match &state.holder {
            Holder::Engine => return true,
            Holder::Nobody => Err("no run is in progress".to_string()),
            Holder::Worker(grant) => judge(grant, &state.around, context),
        };
        if context.accessor.is_none()
            && let Some((verb, table)) = write_of(&context.action)
        {
            state.write.get_or_insert_with(|| (verb, table.to_string()));
        }
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
        matches!(state.holder, Holder::Worker(_)) && state.leash.as_ref().is_some_and(Leash::is_over)
    }

    /// How long a lock may still be waited for after waiting `tries` times; `None` to give up.
    fn pause(&self, tries: i32) -> Option<Duration> {
        let state = self.state();
        // 1, 2, 4, 8, 10, 10 … ms: short steps, so that a long queue of writers stays fair.
        let step = Duration::from_millis(1 << tries.clamp(0, 4)).min(Duration::from_millis(10));
        let waited = Duration::from_millis(10) * u32::try_from(tries).unwrap_or(u32::MAX);
        let over = waited > BUSY_TIMEOUT || state.leash.as_ref().is_some_and(Leash::is_over);
        (!over).then_some(step)
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
}

/// Puts the holder back to nobody at the end of a turn.
struct Turn<'a>(&'a Guard);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().holder = Holder::Nobody;
    }
}

impl WorkConnection {
    /// Opens a connection with every wall in place.
    pub(crate) fn open(location: &Location, durability: Durability, setup: Option<&ConnectionSetup>) -> rusqlite::Result<Self> {
        let mut connection = location.connect(durability)?;
        if let Some(setup) = setup {
            setup(&connection)?;
        }
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        // Generous enough for honest workers; the deadline bounds the rest.
        for (limit, value) in [
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_LENGTH, 64 << 20),
            (Limit::SQLITE_LIMIT_SQL_LENGTH, 256 << 10),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
            (Limit::SQLITE_LIMIT_VDBE_OP, 250_000),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 64),
        ] {
            connection.set_limit(limit, value)?;
        }
        let guard = Arc::new(Guard { state: Mutex::new(State {
                holder: Holder::Nobody,
                around: Circumstances::default(),
                leash: None,
                denied: None,
                write: None,
            }) });
        let shared = Arc::clone(&guard);
        connection.authorizer(Some(move |context: AuthContext<'_>| match shared.allow(&context) {
            true => Authorization::Allow,
            false => Authorization::Deny,
        }))?;
        let shared = Arc::clone(&guard);
        connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(move || shared.is_over()))?;
        let shared = Arc::clone(&guard);
        connection.busy_handler(Some(move |tries| match shared.pause(tries) {
            Some(pause) => {
                std::thread::sleep(pause);
                true
            }
            None => false,
        }))?;
        Ok(Self { connection, guard, confinement: None })
    }

    /// Does something as the engine.
    pub(crate) fn engine<'c, T>(&'c self, work: impl FnOnce(&'c Connection) -> T) -> T {
        self.guard.state().holder = Holder::Engine;
        let _turn = Turn(&self.guard);
        work(&self.connection)
    }

    /// Does something as a worker with this grant, for the statement with this text.
    pub(crate) fn worker<'c, T>(&'c self, grant: &Arc<Effective>, text: &Arc<str>, work: impl FnOnce(&'c Connection) -> T) -> T {
        let mut state = self.guard.state();
        state.holder = Holder::Worker(Arc::clone(grant));
        state.around.text = Some(Arc::clone(text));
        state.denied = None;
        state.write = None;
        drop(state);
        let _turn = Turn(&self.guard);
        work(&self.connection)
    }

    /// Makes this a connection whose workers see one tenant only; see [`confine`](Self::confine).
    pub(crate) fn confinable(mut self) -> rusqlite::Result<Self> {
        self.confinement = Some(Confinement::install(&self)?);
        Ok(self)
    }

    pub(crate) fn is_confinable(&self) -> bool {
        self.confinement.is_some()
    }

    /// From now on, until the next call, workers see the rows of this tenant and no others in the tables of this grant.
    pub(crate) fn confine(&mut self, grant: &Effective, tenant: &str) -> rusqlite::Result<()> {
        let Some(mut confinement) = self.confinement.take() else { return Ok(()) };
        let confined = confinement.confine(self, grant, tenant);
        self.guard.state().around.confined = Some(confinement.shadows());
        self.confinement = Some(confinement);
        confined
    }

    /// A count that grows with the rows that triggers change in a worker's name.
    pub(crate) fn changed_by_triggers(&self) -> u64 {
        match &self.confinement {
            Some(confinement) => confinement.changed(),
            None => self.connection.total_changes(),
        }
    }

    /// A text without the names a worker must not learn.
    pub(crate) fn redact(&self, text: String) -> String {
        match &self.confinement {
            Some(confinement) => text.replace(confinement.token(), ""),
            None => text,
        }
    }

    /// Sets until when waiting and stepping may last, for the run that begins.
    pub(crate) fn leash(&self, leash: Option<Leash>) {
        self.guard.state().leash = leash;
    }

    /// What the last refused statement of a worker was refused for.
    pub(crate) fn take_denied(&self) -> Option<String> {
        self.guard.state().denied.take()
    }

    /// The first write that the worker's last prepared statement makes by itself: the verb and the table.
    pub(crate) fn take_write(&self) -> Option<(Verb, String)> {
        self.guard.state().write.take()
    }

    /// The connection, for what prepares nothing: counters, cursors of statements prepared in a worker's turn.
    pub(crate) fn raw(&self) -> &Connection {
        &self.connection
    }
}
