//! Run a worker in a unit test: no component, no app, a database in memory.
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
//! It plays the host for one worker at a time and knows neither grants nor leases: what a sandboxed
//! worker may do is tested with the harness of the crate `verger`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::Value as Json;

use crate::args::Args;
use crate::audit::AuditEvent;
use crate::context::Context;
use crate::error::{HostError, WorkerError, code};
use crate::host::{Found, Host, HostCursor, HostSavepoint, JobInfo, LogLevel};
use crate::manifest::Manifest;
use crate::new_job::{Enqueued, NewJob};
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
    /// By organization and key; of what is not committed, what was set since.
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

    /// From now on `is_cancelled` is true and `checkpoint` fails with code `cancelled`.
    pub fn cancel(&self) {
        self.cancelled.set(true);
    }

    /// The same, once so many checkpoints were made: a cancellation in the middle of a sweep.
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

    /// Performs a job as Verger would: defaults filled in, required keys checked, committed or
    /// rolled back by the outcome.
    ///
    /// # Errors
    /// Why the attempt failed: its code, its words, and whether the job is discarded at once.
    pub fn perform(&self, worker: &dyn Worker, args: Json) -> Result<Outcome, WorkerError> {
        self.perform_enqueued_for(worker, worker.manifest().args_version, args)
    }

    /// As [`perform`](Self::perform), a job that was enqueued for this version of the args.
    ///
    /// # Errors
    /// As [`perform`](Self::perform); what [`Worker::migrate_args`] refuses is discarded.
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

    /// How SQLite would run a statement, its steps separated by `; `: asserts that an index serves
    /// a sweep.
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

    /// What the worker keeps under a key for this organization, or for jobs without any, once that was
    /// committed; NULL when nothing.
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

    /// From now on `checkpoint_due` says so: as if others wrote to the database all the time.
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
        // A write through INSTEAD OF triggers counts only there.
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

impl Host for MemoryHost {
    fn query(&self, sql: &str, params: &[Value]) -> Result<Box<dyn HostCursor + '_>, HostError> {
        let mut statement = self.connection.prepare(sql).map_err(|error| not_prepared(&error))?;
        let columns: Vec<String> = (0..statement.column_count())
            .filter_map(|at| statement.column_name(at).ok().map(str::to_string))
            .collect();
        let mut rows = statement
            .query(rusqlite::params_from_iter(params))
            .map_err(|error| from_sqlite(&error))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(|error| from_sqlite(&error))? {
            let values = (0..columns.len())
                .map(|i| row.get_ref(i).map(from_ref))
                .collect::<Result<Vec<_>, _>>();
            all.push(values.map_err(|error| from_sqlite(&error))?);
        }
        Ok(Box::new(MemoryCursor {
            columns,
            rows: RefCell::new(all.into_iter()),
            opened: self.checkpoints.get(),
            host: self,
        }))
    }

    fn execute(&self, sql: &str, params: &[Value]) -> Result<u32, HostError> {
        self.changed(sql, params)
    }

    fn execute_many(
        &self,
        sql: &str,
        sets: &[Vec<Value>],
    ) -> Result<Vec<Result<u32, HostError>>, HostError> {
        drop(self.connection.prepare(sql).map_err(|error| not_prepared(&error))?);
        Ok(sets.iter().map(|set| self.changed(sql, set)).collect())
    }

    fn begin_savepoint(&self) -> Result<Box<dyn HostSavepoint + '_>, HostError> {
        let id = self.next_savepoint.get();
        self.next_savepoint.set(id + 1);
        self.batch(&format!("SAVEPOINT verger_{id}"))?;
        self.savepoints.borrow_mut().push(id);
        let pending = self.pending.borrow();
        Ok(Box::new(MemorySavepoint {
            host: self,
            id,
            audit: pending.audit.len(),
            events: pending.events.len(),
            jobs: pending.jobs.len(),
            state: pending.state.clone(),
        }))
    }

    fn checkpoint_due(&self) -> bool {
        self.checkpoint_due.get()
    }

    fn checkpoint(&self) -> Result<(), HostError> {
        if self.is_cancelled() {
            return Err(HostError::new(code::CANCELLED, "the job was cancelled"));
        }
        self.commit()?;
        self.savepoints.borrow_mut().clear();
        self.checkpoints.set(self.checkpoints.get() + 1);
        self.batch("BEGIN IMMEDIATE")
    }

    fn audit_append(&self, events: &[AuditEvent]) -> Result<Vec<u64>, HostError> {
        for event in events {
            event.check().map_err(|fault| HostError::new(code::INVALID, fault.to_string()))?;
        }
        let mut pending = self.pending.borrow_mut();
        let first = self.kept.borrow().audit.len() + pending.audit.len() + 1;
        pending.audit.extend_from_slice(events);
        Ok((first..first + events.len()).map(|id| id as u64).collect())
    }

    fn audit_append_safe(&self, events: &[AuditEvent]) -> u32 {
        let good = events.iter().filter(|event| event.check().is_ok()).cloned();
        let mut pending = self.pending.borrow_mut();
        let before = pending.audit.len();
        pending.audit.extend(good);
        (pending.audit.len() - before) as u32
    }

    fn now(&self) -> i64 {
        self.now.get()
    }

    fn publish(&self, topic: &str, payload: &str) -> Result<(), HostError> {
        let payload = serde_json::from_str(payload)
            .map_err(|error| HostError::new(code::INVALID, error.to_string()))?;
        self.pending.borrow_mut().events.push((topic.to_string(), payload));
        Ok(())
    }

    fn job(&self) -> JobInfo {
        JobInfo {
            id: Some(1),
            attempt: 1,
            max_attempts: 1,
            deadline: self.now.get() + 60_000,
            scheduled: None,
        }
    }

    fn progress(&self, done: u32, total: u32) {
        self.progress.set((done, total));
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.get() || self.checkpoints.get() >= self.cancel_after.get()
    }

    fn log(&self, level: LogLevel, message: &str) {
        self.logs.borrow_mut().push((level, message.to_string()));
    }

    fn call(&self, capability: &str, request: &str) -> Result<String, HostError> {
        let Some(function) = self.capabilities.get(capability) else {
            return Err(HostError::new(
                code::DENIED,
                format!("capability `{capability}` is not granted"),
            ));
        };
        let request = serde_json::from_str(request)
            .map_err(|error| HostError::new(code::INVALID, error.to_string()))?;
        function(&request)
            .map(|reply| reply.to_string())
            .map_err(|error| HostError::new(code::CAPABILITY, error))
    }

    fn query_all(&self, sql: &str, params: &[Value]) -> Result<Found, HostError> {
        let cursor = self.query(sql, params)?;
        Ok((cursor.columns(), cursor.next(u32::MAX)?))
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, HostError> {
        if let Some(job) = jobs.iter().find(|job| !job.args().is_object()) {
            return Err(HostError::new(
                code::INVALID,
                format!("the args of a job for `{}` are no JSON object", job.worker()),
            ));
        }
        let mut pending = self.pending.borrow_mut();
        // This job is number 1.
        let first = self.kept.borrow().jobs.len() + pending.jobs.len() + 2;
        pending.jobs.extend_from_slice(jobs);
        let ids = (first..).zip(jobs);
        Ok(ids.map(|(id, _)| Enqueued { id: id as u64, existing: false }).collect())
    }

    fn state(&self, key: &str) -> Result<Value, HostError> {
        let key = self.state_key(key)?;
        let (pending, kept) = (self.pending.borrow(), self.kept.borrow());
        let value = pending.state.get(&key).or_else(|| kept.state.get(&key));
        Ok(value.cloned().unwrap_or(Value::Null))
    }

    fn set_state(&self, key: &str, value: &Value) -> Result<(), HostError> {
        let key = self.state_key(key)?;
        self.pending.borrow_mut().state.insert(key, value.clone());
        Ok(())
    }
}

struct MemoryCursor<'a> {
    columns: Vec<String>,
    rows: RefCell<std::vec::IntoIter<Vec<Value>>>,
    opened: u32,
    host: &'a MemoryHost,
}

impl HostCursor for MemoryCursor<'_> {
    fn columns(&self) -> Vec<String> {
        self.columns.clone()
    }

    fn next(&self, max_rows: u32) -> Result<Vec<Vec<Value>>, HostError> {
        if self.opened != self.host.checkpoints.get() {
            return Err(HostError::new(code::CLOSED, "the cursor was closed by a checkpoint"));
        }
        if max_rows == 0 {
            return Err(HostError::new(code::INVALID, "ask for at least 1 row"));
        }
        Ok(self.rows.borrow_mut().by_ref().take(max_rows as usize).collect())
    }
}

struct MemorySavepoint<'a> {
    host: &'a MemoryHost,
    id: u32,
    audit: usize,
    events: usize,
    jobs: usize,
    state: BTreeMap<StateKey, Value>,
}

impl HostSavepoint for MemorySavepoint<'_> {
    fn release(&self) -> Result<(), HostError> {
        self.host.end_savepoint(self.id, &["RELEASE"])
    }

    fn rollback(&self) -> Result<(), HostError> {
        self.host.end_savepoint(self.id, &["ROLLBACK TO", "RELEASE"])?;
        let mut pending = self.host.pending.borrow_mut();
        pending.audit.truncate(self.audit);
        pending.events.truncate(self.events);
        pending.jobs.truncate(self.jobs);
        pending.state.clone_from(&self.state);
        Ok(())
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn from_ref(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

fn not_prepared(error: &rusqlite::Error) -> HostError {
    HostError::new(code::SQL, error.to_string())
}

/// A statement that was prepared failed on its values.
fn from_sqlite(error: &rusqlite::Error) -> HostError {
    let code = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => code::CONSTRAINT,
        Some(rusqlite::ErrorCode::TypeMismatch) => code::TYPE,
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => code::BUSY,
        Some(rusqlite::ErrorCode::Unknown) => code::ROW,
        _ => code::SQL,
    };
    HostError::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_audit_events_loses_only_the_bad_ones() {
        let host = MemoryHost::new("");
        let events = [
            AuditEvent::success("a.b"),
            AuditEvent::success("nonsense"),
            AuditEvent::success("c.d"),
        ];
        assert_eq!(Context::new(&host).audit_batch(&events), Ok(()));
        let actions: Vec<String> =
            host.pending.borrow().audit.iter().map(|event| event.action.clone()).collect();
        assert_eq!(actions, ["a.b", "c.d"]);
    }

    #[test]
    fn what_is_kept_and_enqueued_commits_with_the_job_and_not_without() {
        struct Keeper;
        impl Worker for Keeper {
            fn manifest(&self) -> crate::Manifest {
                crate::Manifest::new("keeper", "1")
            }

            fn perform(
                &self,
                job: &Context<'_>,
                _: Option<&Scope>,
                args: &Args,
            ) -> Result<Outcome, WorkerError> {
                job.set_state("seen", args.get::<i64>("seen")?)?;
                job.enqueue(NewJob::new("other", serde_json::json!({})).priority(1))?;
                let undone = job.savepoint()?;
                job.set_state("seen", 0)?;
                job.enqueue(NewJob::new("third", serde_json::json!({})))?;
                undone.rollback()?;
                match args.opt::<bool>("fail")? {
                    Some(true) => Err(WorkerError::new("as told")),
                    _ => Ok(Outcome::Done),
                }
            }
        }
        let host = MemoryHost::new("");
        let run = |args: Json| host.perform(&Keeper, args);
        assert_eq!(run(serde_json::json!({"seen": 3})), Ok(Outcome::Done));
        let failed = run(serde_json::json!({"seen": 4, "fail": true}));
        assert_eq!(failed.map_err(|error| error.is_final()), Err(false));
        let refused = run(serde_json::json!({"seen": "three"}));
        assert_eq!(refused.map_err(|error| error.is_final()), Err(true));
        let acme = serde_json::json!({"seen": 5, "organization_id": "acme", "actor_id": null});
        assert_eq!(run(acme), Ok(Outcome::Done));
        assert_eq!(host.kept_state(None, "seen"), Value::Integer(3));
        assert_eq!(host.kept_state(Some("acme"), "seen"), Value::Integer(5));
        let workers: Vec<String> =
            host.enqueued().iter().map(|job| job.worker().to_string()).collect();
        assert_eq!(workers, ["other", "other"]);
    }

    #[test]
    fn a_plan_needs_no_parameters() {
        let host =
            MemoryHost::new("CREATE TABLE t (id TEXT, at INTEGER); CREATE INDEX t_at ON t (at);");
        assert_eq!(host.plan("SELECT id FROM t WHERE at < ?1"), "SEARCH t USING INDEX t_at (at<?)");
    }

    #[test]
    fn a_cancellation_is_met_at_the_checkpoint_it_was_set_for() {
        let host = MemoryHost::new("");
        host.cancel_after(1);
        let job = Context::new(&host);
        assert_eq!(host.batch("BEGIN IMMEDIATE").and_then(|()| job.checkpoint()), Ok(()));
        assert_eq!(job.checkpoint().map_err(|error| error.code), Err(code::CANCELLED.to_string()));
    }
}
