//! The WebAssembly edge: the component's imports as a [`Host`], and its exports.

use crate::args::Args;
use crate::audit::{AuditEvent, EventOutcome};
use crate::context::Context;
use crate::error::HostError;
use crate::host::{Host, HostCursor, HostSavepoint, JobInfo, LogLevel, Slot};
use crate::outcome::Outcome;
use crate::scope::Scope;
use crate::value::{Value, json_text};
use crate::worker::Worker;

#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, reason = "generated from the WIT")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit/0.1.0",
        world: "worker",
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
        Err(error) => return bindings::Outcome::Failed(error.to_string()),
    };
    match worker.perform(&Context::new(&Imports), scope.as_ref(), &args) {
        Ok(Outcome::Done) => bindings::Outcome::Done,
        Ok(Outcome::DoneWith(result)) => bindings::Outcome::DoneWith(json_text(&result)),
        Ok(Outcome::Failed(reason)) => bindings::Outcome::Failed(reason),
        Ok(Outcome::Snooze(seconds)) => bindings::Outcome::Snooze(seconds),
        Ok(Outcome::Cancel(reason)) => bindings::Outcome::Cancel(reason),
        Err(error) => bindings::Outcome::Failed(error.to_string()),
    }
}

struct Imports;

impl From<wit::types::Error> for HostError {
    fn from(error: wit::types::Error) -> Self {
        Self { code: error.code, message: error.message }
    }
}

impl Host for Imports {
    fn query(&self, sql: &str, params: &[Value]) -> Result<Box<dyn HostCursor + '_>, HostError> {
        Ok(Box::new(wit::store::query(sql, params)?))
    }

    fn execute(&self, sql: &str, params: &[Value]) -> Result<u64, HostError> {
        Ok(wit::store::execute(sql, params)?)
    }

    fn execute_many(
        &self,
        sql: &str,
        sets: &[Vec<Value>],
    ) -> Result<Vec<Result<u64, HostError>>, HostError> {
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

    fn audit_log(&self, events: &[AuditEvent]) -> Result<Vec<u64>, HostError> {
        Ok(wit::audit::log(&events.iter().map(to_wit).collect::<Vec<_>>())?)
    }

    fn audit_log_safe(&self, events: &[AuditEvent]) -> u32 {
        wit::audit::log_safe(&events.iter().map(to_wit).collect::<Vec<_>>())
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
            }),
        }
    }

    fn progress(&self, done: u64, total: u64) {
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
