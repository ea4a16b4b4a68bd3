//! What a component imports: the host's functions, which stand on its run.

use verger_worker::{AuditEvent, EventOutcome, Host, HostError, LogLevel, Value, code};
use wasmtime::component::Resource;

use super::console::Stream;
use super::limiter::Limiter;
use super::wasi::Wasi;
use crate::run::{CursorId, Run, SavepointId};
use crate::store::StopSignal;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "generated from the WIT"
)]
pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/0.1.0",
        world: "worker",
        imports: { default: trappable },
        with: {
            "verger:worker/store.cursor": super::CursorHandle,
            "verger:worker/store.savepoint": super::SavepointHandle,
        },
    });
}

use bindings::verger::worker as wit;

/// What a cursor handle of a guest stands for: the number is the handle's own.
#[allow(unreachable_pub, reason = "the generated code re-exports it")]
pub struct CursorHandle;
/// What a savepoint handle of a guest stands for.
#[allow(unreachable_pub, reason = "the generated code re-exports it")]
pub struct SavepointHandle;

/// The state of one instance.
pub(super) struct Guest {
    /// None while it describes itself.
    pub(super) run: Option<Run>,
    pub(super) limiter: Limiter,
    pub(super) stop_signal: StopSignal,
    pub(super) wasi: Wasi,
}

impl Guest {
    fn run(&self) -> Result<&Run, wit::types::Error> {
        self.run.as_ref().ok_or_else(|| wit::types::Error {
            code: code::DENIED.to_string(),
            message: "a worker has no database, audit log, events or app while it describes itself"
                .to_string(),
        })
    }
}

impl Guest {
    /// The time by the host's clock.
    pub(super) fn now_millis(&self) -> i64 {
        self.run().map_or(0, Host::now)
    }

    /// Takes up what it writes to a standard stream.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let Self { run, wasi, .. } = self;
        wasi.console.write(stream, bytes, |level, line| log_line(run.as_ref(), level, line));
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self) -> bool {
        self.stop_signal.is_over()
    }

    pub(super) fn finish_lines(&mut self) {
        let Self { run, wasi, .. } = self;
        wasi.console.finish(|level, line| log_line(run.as_ref(), level, line));
    }
}

/// False when nobody wants more lines: a worker that describes itself has no log.
fn log_line(run: Option<&Run>, level: LogLevel, line: &str) -> bool {
    run.is_some_and(|run| run.log_line(level, line))
}

impl From<HostError> for wit::types::Error {
    fn from(error: HostError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

fn to_values(values: Vec<wit::types::Value>) -> Vec<Value> {
    values
        .into_iter()
        .map(|value| match value {
            wit::types::Value::Null => Value::Null,
            wit::types::Value::Integer(number) => Value::Integer(number),
            wit::types::Value::Real(number) => Value::Real(number),
            wit::types::Value::Text(text) => Value::Text(text),
            wit::types::Value::Blob(bytes) => Value::Blob(bytes),
        })
        .collect()
}

fn from_values(values: Vec<Value>) -> Vec<wit::types::Value> {
    values
        .into_iter()
        .map(|value| match value {
            Value::Null => wit::types::Value::Null,
            Value::Integer(number) => wit::types::Value::Integer(number),
            Value::Real(number) => wit::types::Value::Real(number),
            Value::Text(text) => wit::types::Value::Text(text),
            Value::Blob(bytes) => wit::types::Value::Blob(bytes),
        })
        .collect()
}

/// A host function: traps never, answers the guest with a result.
type Answer<T> = wasmtime::Result<Result<T, wit::types::Error>>;

impl wit::types::Host for Guest {}

impl wit::store::Host for Guest {
    fn query(
        &mut self,
        sql: String,
        params: Vec<wit::types::Value>,
    ) -> Answer<Resource<CursorHandle>> {
        let opened = self.run().and_then(|run| Ok(run.open_cursor(&sql, &to_values(params))?));
        Ok(opened.map(|id| Resource::new_own(id.0)))
    }

    fn execute(&mut self, sql: String, params: Vec<wit::types::Value>) -> Answer<u64> {
        Ok(self.run().and_then(|run| Ok(run.execute(&sql, &to_values(params))?)))
    }

    fn execute_many(
        &mut self,
        sql: String,
        params: Vec<Vec<wit::types::Value>>,
    ) -> Answer<Vec<Result<u64, wit::types::Error>>> {
        let sets: Vec<_> = params.into_iter().map(to_values).collect();
        let results = self.run().and_then(|run| Ok(run.execute_many(&sql, &sets)?));
        Ok(results
            .map(|results| results.into_iter().map(|result| result.map_err(Into::into)).collect()))
    }

    fn begin_savepoint(&mut self) -> Answer<Resource<SavepointHandle>> {
        let opened = self.run().and_then(|run| Ok(run.open_savepoint()?));
        Ok(opened.map(|id| Resource::new_own(id.0)))
    }

    fn checkpoint(&mut self) -> Answer<()> {
        Ok(self.run().and_then(|run| Ok(run.checkpoint_now()?)))
    }

    fn checkpoint_due(&mut self) -> wasmtime::Result<bool> {
        Ok(self.run().is_ok_and(Run::is_checkpoint_due))
    }
}

impl wit::store::HostCursor for Guest {
    fn columns(&mut self, cursor: Resource<CursorHandle>) -> wasmtime::Result<Vec<String>> {
        Ok(self.run().map(|run| run.cursor_columns(CursorId(cursor.rep()))).unwrap_or_default())
    }

    fn next(
        &mut self,
        cursor: Resource<CursorHandle>,
        max_rows: u32,
    ) -> Answer<Vec<Vec<wit::types::Value>>> {
        let rows =
            self.run().and_then(|run| Ok(run.cursor_next(CursorId(cursor.rep()), max_rows)?));
        Ok(rows.map(|rows| rows.into_iter().map(from_values).collect()))
    }

    fn drop(&mut self, cursor: Resource<CursorHandle>) -> wasmtime::Result<()> {
        if let Ok(run) = self.run() {
            run.close_cursor(CursorId(cursor.rep()));
        }
        Ok(())
    }
}

impl wit::store::HostSavepoint for Guest {
    fn release(&mut self, savepoint: Resource<SavepointHandle>) -> Answer<()> {
        Ok(self.run().and_then(|run| Ok(run.release_savepoint(SavepointId(savepoint.rep()))?)))
    }

    fn rollback(&mut self, savepoint: Resource<SavepointHandle>) -> Answer<()> {
        Ok(self.run().and_then(|run| Ok(run.rollback_savepoint(SavepointId(savepoint.rep()))?)))
    }

    fn drop(&mut self, _: Resource<SavepointHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl wit::audit::Host for Guest {
    fn log(&mut self, events: Vec<wit::audit::Event>) -> Answer<Vec<u64>> {
        let events: Vec<_> = events.into_iter().map(to_event).collect();
        Ok(self.run().and_then(|run| Ok(run.log_events(&events)?)))
    }

    fn log_safe(&mut self, events: Vec<wit::audit::Event>) -> wasmtime::Result<u32> {
        let events: Vec<_> = events.into_iter().map(to_event).collect();
        Ok(self.run().map_or(0, |run| run.log_events_safely(&events)))
    }
}

fn to_event(event: wit::audit::Event) -> AuditEvent {
    AuditEvent {
        action: event.action,
        outcome: match event.outcome {
            wit::audit::EventOutcome::Success => EventOutcome::Success,
            wit::audit::EventOutcome::Failure => EventOutcome::Failure,
            wit::audit::EventOutcome::Error => EventOutcome::Error,
        },
        organization_id: event.organization_id,
        subject_type: event.subject_type,
        subject_id: event.subject_id,
        before: event.before,
        after: event.after,
        metadata: event.metadata,
    }
}

impl wit::clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<i64> {
        Ok(self.now_millis())
    }
}

impl wit::events::Host for Guest {
    fn publish(&mut self, topic: String, payload: String) -> Answer<()> {
        Ok(self.run().and_then(|run| Ok(run.publish_event(&topic, &payload)?)))
    }
}

impl wit::job::Host for Guest {
    fn id(&mut self) -> wasmtime::Result<Option<u64>> {
        Ok(self.run().ok().and_then(|run| run.task().info.id))
    }

    fn attempt(&mut self) -> wasmtime::Result<u32> {
        Ok(self.run().map_or(0, |run| run.task().info.attempt))
    }

    fn max_attempts(&mut self) -> wasmtime::Result<u32> {
        Ok(self.run().map_or(0, |run| run.task().info.max_attempts))
    }

    fn deadline(&mut self) -> wasmtime::Result<i64> {
        Ok(self.run().map_or(0, |run| run.task().info.deadline))
    }

    fn scheduled(&mut self) -> wasmtime::Result<Option<wit::job::Slot>> {
        let slot = self.run().ok().and_then(|run| run.task().info.scheduled.clone());
        Ok(slot.map(|slot| wit::job::Slot {
            schedule: slot.schedule,
            at: slot.at,
            missed: slot.missed,
        }))
    }

    fn progress(&mut self, done: u64, total: u64) -> wasmtime::Result<()> {
        if let Ok(run) = self.run() {
            Host::progress(run, done, total);
        }
        Ok(())
    }

    fn is_cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.run().is_ok_and(Host::is_cancelled))
    }
}

impl wit::log::Host for Guest {
    fn write(&mut self, level: wit::log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            wit::log::Level::Trace => LogLevel::Trace,
            wit::log::Level::Debug => LogLevel::Debug,
            wit::log::Level::Info => LogLevel::Info,
            wit::log::Level::Warn => LogLevel::Warn,
            wit::log::Level::Error => LogLevel::Error,
        };
        if let Ok(run) = self.run() {
            run.log_line(level, &message);
        }
        Ok(())
    }
}

impl wit::host::Host for Guest {
    fn call(&mut self, capability: String, request: String) -> Answer<String> {
        Ok(self.run().and_then(|run| Ok(run.call_capability(&capability, &request)?)))
    }
}
