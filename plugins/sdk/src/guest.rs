//! The WebAssembly edge: the component's imports as a [`Host`], and its exports.

use crate::args::Args;
use crate::audit::{AuditEvent, EventOutcome};
use crate::context::Context;
use crate::error::{HostError, WorkerError};
use crate::host::{Found, Host, HostCursor, HostSavepoint, JobInfo, LogLevel, Slot};
use crate::new_job::{Enqueued, NewJob};
use crate::outcome::Outcome;
use crate::scope::Scope;
use crate::value::{Value, json_text};
use crate::worker::Worker;

#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, reason = "generated from the WIT")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit/0.1.0",
        world: "worker-with-migration",
        pub_export_macro: true,
        default_bindings_module: "verger_worker::guest::bindings",
        additional_derives: [PartialEq],
    });
}

use bindings::verger::worker as wit;

/// The export `describe`.
pub fn describe(worker: &dyn Worker) -> String {
    serde_json::to_string(&worker.manifest()).unwrap_or_default()
}

/// The export `perform`.
pub fn perform(
    worker: &dyn Worker,
    scope: Option<bindings::Scope>,
    args: &str,
) -> bindings::Outcome {
    let scope = scope.map(|scope| {
        Scope::from_parts(scope.organization_id, scope.actor_id, scope.impersonating_from)
    });
    let args = match Args::parse(args) {
        Ok(args) => args,
        Err(error) => return failure(WorkerError::from(error)),
    };
    match worker.perform(&Context::new(&Imports), scope.as_ref(), &args) {
        Ok(Outcome::Done) => bindings::Outcome::Done,
        Ok(Outcome::DoneWith(result)) => bindings::Outcome::DoneWith(json_text(&result)),
        Ok(Outcome::Failed(error)) => bindings::Outcome::Failed(error.into_error().into()),
        Ok(Outcome::Discard(error)) => bindings::Outcome::Discard(error.into_error().into()),
        Ok(Outcome::Snooze(seconds)) => bindings::Outcome::Snooze(seconds),
        Ok(Outcome::Cancel(reason)) => bindings::Outcome::Cancel(reason),
        Err(error) => failure(error),
    }
}

/// The export `migrate-args`.
///
/// # Errors
/// Why the args cannot be used.
pub fn migrate_args(
    worker: &dyn Worker,
    from_version: u32,
    args: &str,
) -> Result<String, bindings::Error> {
    let migrated = Args::parse(args)
        .map_err(WorkerError::from)
        .and_then(|args| worker.migrate_args(from_version, args));
    match migrated {
        Ok(args) => Ok(args.to_string()),
        Err(error) => Err(error.into_error().into()),
    }
}

fn failure(error: WorkerError) -> bindings::Outcome {
    let how = match error.is_final() {
        true => bindings::Outcome::Discard,
        false => bindings::Outcome::Failed,
    };
    how(error.into_error().into())
}

/// Makes a panic log its message before it traps, because the trap has none. Once an instance.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        wit::log::write(wit::log::Level::Error, &panic.to_string());
    }));
}

struct Imports;

impl From<wit::types::Error> for HostError {
    fn from(error: wit::types::Error) -> Self {
        Self { code: error.code, message: error.message }
    }
}

impl From<HostError> for wit::types::Error {
    fn from(error: HostError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

impl Host for Imports {
    fn query(&self, sql: &str, params: &[Value]) -> Result<Box<dyn HostCursor + '_>, HostError> {
        Ok(Box::new(wit::store::query(sql, params)?))
    }

    fn execute(&self, sql: &str, params: &[Value]) -> Result<u32, HostError> {
        Ok(wit::store::execute(sql, params)?)
    }

    fn execute_many(
        &self,
        sql: &str,
        sets: &[Vec<Value>],
    ) -> Result<Vec<Result<u32, HostError>>, HostError> {
        let results = wit::store::execute_many(sql, sets)?;
        Ok(results.into_iter().map(|result| result.map_err(HostError::from)).collect())
    }

    fn begin_savepoint(&self) -> Result<Box<dyn HostSavepoint + '_>, HostError> {
        Ok(Box::new(wit::store::begin_savepoint()?))
    }

    fn checkpoint(&self) -> Result<(), HostError> {
        Ok(wit::store::checkpoint()?)
    }

    fn checkpoint_due(&self) -> bool {
        wit::store::checkpoint_due()
    }

    fn audit_append(&self, events: &[AuditEvent]) -> Result<Vec<u64>, HostError> {
        Ok(wit::audit::append(&events.iter().map(to_wit).collect::<Vec<_>>())?)
    }

    fn audit_append_safe(&self, events: &[AuditEvent]) -> u32 {
        wit::audit::append_safe(&events.iter().map(to_wit).collect::<Vec<_>>())
    }

    fn now(&self) -> i64 {
        wit::clock::now()
    }

    fn publish(&self, topic: &str, payload: &str) -> Result<(), HostError> {
        Ok(wit::events::publish(topic, payload)?)
    }

    fn job(&self) -> JobInfo {
        JobInfo {
            id: wit::job::id(),
            attempt: wit::job::attempt(),
            max_attempts: wit::job::max_attempts(),
            deadline: wit::job::deadline(),
            scheduled: wit::job::scheduled().map(|slot| Slot {
                schedule: slot.schedule,
                at: slot.at,
                missed: slot.missed,
                after: slot.after,
                zone: slot.zone,
            }),
        }
    }

    fn progress(&self, done: u32, total: u32) {
        wit::job::progress(done, total);
    }

    fn is_cancelled(&self) -> bool {
        wit::job::is_cancelled()
    }

    fn log(&self, level: LogLevel, message: &str) {
        use wit::log::Level;
        let level = match level {
            LogLevel::Trace => Level::Trace,
            LogLevel::Debug => Level::Debug,
            LogLevel::Info => Level::Info,
            LogLevel::Warn => Level::Warn,
            LogLevel::Error => Level::Error,
        };
        wit::log::write(level, message);
    }

    fn call(&self, capability: &str, request: &str) -> Result<String, HostError> {
        Ok(wit::host::call(capability, request)?)
    }

    fn query_all(&self, sql: &str, params: &[Value]) -> Result<Found, HostError> {
        let table = wit::store::query_all(sql, params)?;
        Ok((table.columns, table.rows))
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, HostError> {
        let jobs: Vec<wit::queue::NewJob> = jobs
            .iter()
            .map(|job| {
                let (args, options) = job.texts();
                wit::queue::NewJob { worker: job.worker().to_string(), args, options }
            })
            .collect();
        let enqueued = wit::queue::enqueue(&jobs)?;
        Ok(enqueued
            .into_iter()
            .map(|enqueued| Enqueued { id: enqueued.id, existing: enqueued.existing })
            .collect())
    }

    fn state(&self, key: &str) -> Result<Value, HostError> {
        Ok(wit::state::get(key)?)
    }

    fn set_state(&self, key: &str, value: &Value) -> Result<(), HostError> {
        Ok(wit::state::set(key, value)?)
    }
}

impl HostCursor for wit::store::Cursor {
    fn columns(&self) -> Vec<String> {
        wit::store::Cursor::columns(self)
    }

    fn next(&self, max_rows: u32) -> Result<Vec<Vec<Value>>, HostError> {
        Ok(wit::store::Cursor::next(self, max_rows)?)
    }
}

impl HostSavepoint for wit::store::Savepoint {
    fn release(&self) -> Result<(), HostError> {
        Ok(wit::store::Savepoint::release(self)?)
    }

    fn rollback(&self) -> Result<(), HostError> {
        Ok(wit::store::Savepoint::rollback(self)?)
    }
}

fn to_wit(event: &AuditEvent) -> wit::audit::Event {
    wit::audit::Event {
        action: event.action.clone(),
        outcome: match event.outcome {
            EventOutcome::Success => wit::audit::EventOutcome::Success,
            EventOutcome::Failure => wit::audit::EventOutcome::Failure,
            EventOutcome::Error => wit::audit::EventOutcome::Error,
        },
        organization_id: event.organization_id.clone(),
        subject_type: event.subject_type.clone(),
        subject_id: event.subject_id.clone(),
        before: event.before.clone(),
        after: event.after.clone(),
        metadata: event.metadata.clone(),
    }
}
