//! The host API as a Rust trait, which [`Context`](crate::Context) uses, whatever the host
//! is.
//!
//! Its functions are those of the WIT package `verger:worker`, one to one. Worker authors use
//! [`Context`](crate::Context).

use crate::audit::AuditEvent;
use crate::error::HostError;
use crate::new_job::{Enqueued, NewJob};
use crate::value::Value;

/// A host: Verger itself, the test kit, or the imports of a component.
pub trait Host {
    /// `store.query`.
    ///
    /// # Errors
    /// When the statement is denied, wrong, or over a limit.
    fn query(&self, sql: &str, params: &[Value]) -> Result<Box<dyn HostCursor + '_>, HostError>;

    /// `store.execute`.
    ///
    /// # Errors
    /// When the statement is denied, wrong, refused by a constraint, or over a limit.
    fn execute(&self, sql: &str, params: &[Value]) -> Result<u32, HostError>;

    /// `store.execute-many`.
    ///
    /// # Errors
    /// When the statement cannot be prepared. A set's failure is in its own result.
    fn execute_many(
        &self,
        sql: &str,
        sets: &[Vec<Value>],
    ) -> Result<Vec<Result<u32, HostError>>, HostError>;

    /// `store.begin-savepoint`.
    ///
    /// # Errors
    /// When too many are open.
    fn begin_savepoint(&self) -> Result<Box<dyn HostSavepoint + '_>, HostError>;

    /// `store.checkpoint`.
    ///
    /// # Errors
    /// Codes `cancelled`, `lease-lost`, `busy`, `store`, `deadline`, `lock-held`.
    fn checkpoint(&self) -> Result<(), HostError>;

    /// `store.checkpoint-due`.
    fn checkpoint_due(&self) -> bool;

    /// `audit.append`.
    ///
    /// # Errors
    /// When an event breaks a rule. Nothing is written then.
    fn audit_append(&self, events: &[AuditEvent]) -> Result<Vec<u64>, HostError>;

    /// `audit.append-safe`: how many were written.
    fn audit_append_safe(&self, events: &[AuditEvent]) -> u32;

    /// `clock.now`, in unix milliseconds.
    fn now(&self) -> i64;

    /// `events.publish`.
    ///
    /// # Errors
    /// When the topic or the JSON is not usable, or too many wait.
    fn publish(&self, topic: &str, payload: &str) -> Result<(), HostError>;

    /// The functions of the interface `job` that do not change, in one call.
    fn job(&self) -> JobInfo;

    /// `job.progress`.
    fn progress(&self, done: u32, total: u32);

    /// `job.is-cancelled`.
    fn is_cancelled(&self) -> bool;

    /// `log.write`.
    fn log(&self, level: LogLevel, message: &str);

    /// `host.call`.
    ///
    /// # Errors
    /// When the capability is not granted or fails.
    fn call(&self, capability: &str, request: &str) -> Result<String, HostError>;

    /// `store.query-all`: the columns and the rows.
    ///
    /// # Errors
    /// As [`query`](Self::query). Code `limit` for more than one chunk.
    fn query_all(&self, sql: &str, params: &[Value]) -> Result<Found, HostError>;

    /// `queue.enqueue`.
    ///
    /// # Errors
    /// When a job is denied, unusable, or over a limit. None is enqueued then.
    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, HostError>;

    /// `state.get`: NULL for a key that has no value.
    ///
    /// # Errors
    /// When the key is not usable or the database cannot be read.
    fn state(&self, key: &str) -> Result<Value, HostError>;

    /// `state.set`.
    ///
    /// # Errors
    /// When the key is not usable or the value is over a limit.
    fn set_state(&self, key: &str, value: &Value) -> Result<(), HostError>;
}

/// What a query found: its columns, and its rows.
pub type Found = (Vec<String>, Vec<Vec<Value>>);

/// A cursor of a host.
pub trait HostCursor {
    /// The names of the columns.
    fn columns(&self) -> Vec<String>;

    /// Up to `max_rows` rows. None at the end.
    ///
    /// # Errors
    /// When the cursor is closed or reading fails.
    fn next(&self, max_rows: u32) -> Result<Vec<Vec<Value>>, HostError>;
}

/// A savepoint of a host.
pub trait HostSavepoint {
    /// Keeps what was written since it was opened.
    ///
    /// # Errors
    /// When it is closed.
    fn release(&self) -> Result<(), HostError>;

    /// Undoes what was written since it was opened.
    ///
    /// # Errors
    /// When it is closed.
    fn rollback(&self) -> Result<(), HostError>;
}

/// What a worker may know of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobInfo {
    /// The job's id. `None` when the worker is called directly.
    pub id: Option<u64>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How many attempts the job has.
    pub max_attempts: u32,
    /// When the attempt will be stopped, in unix milliseconds.
    pub deadline: i64,
    /// The slot, for a job made by a schedule.
    pub scheduled: Option<Slot>,
}

/// The instant of a schedule that a job was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The name of the schedule.
    pub schedule: String,
    /// When it was due, in unix milliseconds.
    pub at: i64,
    /// How many earlier slots this job stands for.
    pub missed: u32,
    /// The slot before those this job stands for, in unix milliseconds. `None` for the first slot
    /// of a schedule.
    pub after: Option<i64>,
    /// The schedule's time zone, an IANA name.
    pub zone: String,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For a developer.
    Debug,
    /// For an operator.
    Info,
    /// Something to look at.
    Warn,
    /// Something went wrong.
    Error,
}
