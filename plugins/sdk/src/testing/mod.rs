//! Runs a worker in a unit test: no component, no app, a database in memory.
//!
//! ```
//! use verger_worker::prelude::*;
//! use verger_worker::testing::MemoryHost;
//!
//! struct Count;
//! impl Worker for Count {
//!     fn manifest(&self) -> Manifest { Manifest::new("count", "1.0.0") }
//!     fn perform(&self, job: &Context<'_>, _: Option<&Scope>, _: &Args) -> Result<Outcome, WorkerError> {
//!         let mut row = job.query_row("SELECT count(*) FROM users", params![])?.ok_or(WorkerError::new("no row"))?;
//!         Ok(Outcome::DoneWith(json!(row.take::<i64>(0)?)))
//!     }
//! }
//!
//! let host = MemoryHost::new("CREATE TABLE users (id TEXT); INSERT INTO users VALUES ('a'), ('b');");
//! assert_eq!(host.perform(&Count, json!({})), Ok(Outcome::DoneWith(json!(2))));
//! ```
//!
//! It is the host of one worker at a time and knows neither grants nor leases. To test what a
//! sandboxed worker may do, use the harness of the crate `verger`.

mod host;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;
use serde_json::Value as Json;

use self::host::{from_sqlite, not_prepared};
use crate::args::Args;
use crate::audit::AuditEvent;
use crate::context::Context;
use crate::error::{HostError, WorkerError, code};
use crate::host::LogLevel;
use crate::manifest::Manifest;
use crate::new_job::NewJob;
use crate::outcome::Outcome;
use crate::scope::Scope;
use crate::value::Value;
use crate::worker::Worker;

type Capability = Box<dyn Fn(&Json) -> Result<Json, String>>;

/// A host that lives in memory.
pub struct MemoryHost {
    connection: Connection,
    now: Cell<i64>,
    checkpoints: Cell<u32>,
    checkpoint_due: Cell<bool>,
    savepoints: RefCell<Vec<u32>>,
    next_savepoint: Cell<u32>,
    pending: RefCell<Kept>,
    kept: RefCell<Kept>,
    logs: RefCell<Vec<(LogLevel, String)>>,
    progress: Cell<(u32, u32)>,
    cancelled: Cell<bool>,
    cancel_after: Cell<u32>,
    capabilities: HashMap<String, Capability>,
    /// For which organization the job runs.
    organization: RefCell<Option<String>>,
}

/// What commits with the transaction.
#[derive(Default)]
struct Kept {
    audit: Vec<AuditEvent>,
    events: Vec<(String, Json)>,
    jobs: Vec<NewJob>,
    /// By organization and key. In uncommitted data, only what was set since the commit.
    state: BTreeMap<StateKey, Value>,
}

type StateKey = (Option<String>, String);

impl MemoryHost {
    /// A host whose database was made by this SQL, at 2026-01-01T00:00:00Z.
    ///
    /// # Panics
    /// When the SQL fails: this is a test.
    #[must_use]
    #[expect(clippy::panic, reason = "a test kit stops the test")]
    pub fn new(setup: &str) -> Self {
        let connection = Connection::open_in_memory()
            .and_then(|connection| connection.execute_batch(setup).map(|()| connection));
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => panic!("the set-up SQL of the memory host failed: {error}"),
        };
        Self {
            connection,
            now: Cell::new(1_767_225_600_000),
            checkpoints: Cell::new(0),
            checkpoint_due: Cell::new(false),
            savepoints: RefCell::default(),
            next_savepoint: Cell::new(0),
            pending: RefCell::default(),
            kept: RefCell::default(),
            logs: RefCell::default(),
            progress: Cell::new((0, 0)),
            cancelled: Cell::new(false),
            cancel_after: Cell::new(u32::MAX),
            capabilities: HashMap::new(),
            organization: RefCell::default(),
        }
    }

    /// Sets the clock, in unix milliseconds.
    pub fn set_now(&self, millis: i64) {
        self.now.set(millis);
    }

    /// Makes `is_cancelled` true and `checkpoint` fail with code `cancelled`, from now on.
    pub fn cancel(&self) {
        self.cancelled.set(true);
    }

    /// The same, after this many checkpoints: a cancellation in the middle of a sweep.
    pub fn cancel_after(&self, checkpoints: u32) {
        self.cancel_after.set(checkpoints);
    }

    /// Adds a function the worker may call.
    #[must_use]
    pub fn capability(
        mut self,
        name: &str,
        function: impl Fn(&Json) -> Result<Json, String> + 'static,
    ) -> Self {
        self.capabilities.insert(name.to_string(), Box::new(function));
        self
    }

    /// Performs a job as Verger would: fills in defaults, checks required keys, and commits or
    /// rolls back as the outcome says.
    ///
    /// # Errors
    /// Why the attempt failed: its code, its words, and whether the job is discarded at once.
    pub fn perform(&self, worker: &dyn Worker, args: Json) -> Result<Outcome, WorkerError> {
        self.perform_enqueued_for(worker, worker.manifest().args_version, args)
    }

    /// As [`perform`](Self::perform), for a job that was enqueued for this version of the args.
    ///
    /// # Errors
    /// As [`perform`](Self::perform). If [`Worker::migrate_args`] refuses, the job is discarded.
    pub fn perform_enqueued_for(
        &self,
        worker: &dyn Worker,
        version: u32,
        args: Json,
    ) -> Result<Outcome, WorkerError> {
        let manifest = worker.manifest();
        manifest.check()?;
        let mut args = Args::from_json(args)?;
        let scope = Scope::of(&args);
        if version < manifest.args_version {
            let migrated = worker.migrate_args(version, args.clone());
            args = Manifest::keep_scope(&args, migrated.map_err(WorkerError::discard)?);
        }
        let args = manifest.complete(&args)?;
        let organization = scope.as_ref().and_then(Scope::organization_id);
        self.organization.replace(organization.map(str::to_string));
        self.batch("BEGIN IMMEDIATE")?;
        let ended = match worker.perform(&Context::new(self), scope.as_ref(), &args) {
            Ok(Outcome::Failed(error)) => Err(error),
            Ok(Outcome::Discard(error)) => Err(error.discard()),
            Ok(Outcome::Snooze(0)) => Err(WorkerError::new("a snooze must be at least 1 second")),
            Ok(outcome) => self.commit().map(|()| outcome).map_err(WorkerError::from),
            Err(error) => Err(error),
        };
        if ended.is_err() {
            *self.pending.borrow_mut() = Kept::default();
            if !self.connection.is_autocommit() {
                self.batch("ROLLBACK")?;
            }
        }
        self.savepoints.borrow_mut().clear();
        ended
    }

    /// The database, to set up rows and to look at them.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The first column of the first row of a query, for assertions.
    ///
    /// # Panics
    /// When the SQL fails: this is a test.
    #[must_use]
    #[expect(clippy::panic, reason = "a test kit stops the test")]
    pub fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        match self.connection.query_row(sql, [], |row| row.get(0)) {
            Ok(value) => value,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// How SQLite would run a statement, its steps separated by `; `, to assert that an index
    /// serves a sweep.
    ///
    /// # Panics
    /// When the SQL fails: this is a test.
    #[must_use]
    #[expect(clippy::panic, reason = "a test kit stops the test")]
    pub fn plan(&self, sql: &str) -> String {
        let steps = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let mut rows = statement.raw_query();
            let mut steps = Vec::new();
            while let Some(row) = rows.next()? {
                steps.push(row.get("detail")?);
            }
            Ok(steps)
        };
        match steps() {
            Ok(steps) => steps.join("; "),
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// The audit events that were committed.
    #[must_use]
    pub fn audited(&self) -> Vec<AuditEvent> {
        self.kept.borrow().audit.clone()
    }

    /// The messages that were committed: topic and payload.
    #[must_use]
    pub fn published(&self) -> Vec<(String, Json)> {
        self.kept.borrow().events.clone()
    }

    /// The jobs whose enqueueing was committed.
    #[must_use]
    pub fn enqueued(&self) -> Vec<NewJob> {
        self.kept.borrow().jobs.clone()
    }

    /// What the worker keeps under a key for this organization, or for jobs without one, once that
    /// was committed. NULL when nothing.
    #[must_use]
    pub fn kept_state(&self, organization: Option<&str>, key: &str) -> Value {
        let key = (organization.map(str::to_string), key.to_string());
        self.kept.borrow().state.get(&key).cloned().unwrap_or(Value::Null)
    }

    /// The log lines.
    #[must_use]
    pub fn logged(&self) -> Vec<(LogLevel, String)> {
        self.logs.borrow().clone()
    }

    /// Makes `checkpoint_due` true from now on, as if others wrote to the database all the time.
    pub fn beside_others(&self, others_write: bool) {
        self.checkpoint_due.set(others_write);
    }

    /// How many checkpoints were made.
    #[must_use]
    pub fn checkpoints(&self) -> u32 {
        self.checkpoints.get()
    }

    /// The last progress reported: done, total.
    #[must_use]
    pub fn last_progress(&self) -> (u32, u32) {
        self.progress.get()
    }

    fn batch(&self, sql: &str) -> Result<(), HostError> {
        self.connection.execute_batch(sql).map_err(|error| from_sqlite(&error))
    }

    fn commit(&self) -> Result<(), HostError> {
        self.batch("COMMIT")?;
        let mut pending = self.pending.borrow_mut();
        let mut kept = self.kept.borrow_mut();
        kept.audit.append(&mut pending.audit);
        kept.events.append(&mut pending.events);
        kept.jobs.append(&mut pending.jobs);
        kept.state.append(&mut pending.state);
        Ok(())
    }

    fn state_key(&self, key: &str) -> Result<StateKey, HostError> {
        if key.is_empty() || key.len() > 128 {
            return Err(HostError::new(
                code::INVALID,
                "a key of the state must have 1 to 128 bytes",
            ));
        }
        Ok((self.organization.borrow().clone(), key.to_string()))
    }

    fn changed(&self, sql: &str, params: &[Value]) -> Result<u32, HostError> {
        let before = self.connection.total_changes();
        let mut statement = self.connection.prepare(sql).map_err(|error| not_prepared(&error))?;
        let changed = statement
            .execute(rusqlite::params_from_iter(params))
            .map_err(|error| from_sqlite(&error))?;
        // A write through INSTEAD OF triggers counts only in the total.
        let changed = match changed {
            0 => self.connection.total_changes() - before,
            changed => changed as u64,
        };
        Ok(u32::try_from(changed).unwrap_or(u32::MAX))
    }

    fn end_savepoint(&self, id: u32, sql: &[&str]) -> Result<(), HostError> {
        let mut open = self.savepoints.borrow_mut();
        let Some(place) = open.iter().position(|open| *open == id) else {
            return Err(HostError::new(code::CLOSED, "the savepoint is closed"));
        };
        open.truncate(place);
        for step in sql {
            self.batch(&format!("{step} verger_{id}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
