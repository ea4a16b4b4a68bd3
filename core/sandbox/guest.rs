//! What a component imports: the host's functions, which use its run.

use verger_worker::{AuditEvent, EventOutcome, HostError, LogLevel, Value, code};
use wasmtime::component::Resource;

use super::console::Stream;
use super::limiter::Limiter;
use super::wasi::Wasi;
use crate::run::GuestRun;
use crate::store::StopSignal;
use crate::text::beginning;

/// The longest line that explains a trap, in bytes.
const WORDS_MAX_BYTES: usize = 4 << 10;

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

/// A guest's handle of a cursor. Its number is the handle's own.
#[allow(unreachable_pub, reason = "the generated code re-exports it")]
pub struct CursorHandle;
/// A guest's handle of a savepoint.
#[allow(unreachable_pub, reason = "the generated code re-exports it")]
pub struct SavepointHandle;

/// The state of one instance.
pub(super) struct Guest {
    /// `None` while the component describes itself.
    pub(super) run: Option<Box<dyn GuestRun>>,
    pub(super) limiter: Limiter,
    pub(super) stop_signal: StopSignal,
    pub(super) wasi: Wasi,
    pub(super) last_words: LastWords,
}

/// What explains a trap, because most guests say little themselves.
#[derive(Default)]
pub(super) struct LastWords {
    /// The last call that the host refused.
    pub(super) refused: Option<HostError>,
    /// The last line it logged as an error.
    pub(super) error: Option<String>,
}

impl Guest {
    fn run(&self) -> Result<&dyn GuestRun, HostError> {
        self.run.as_deref().ok_or_else(|| {
            HostError::new(
                code::DENIED,
                "a worker has no database, audit log, events, queue, state or app while it describes itself",
            )
        })
    }

    /// Calls the host. A refusal is remembered, because the guest may trap over it.
    fn answer<T>(&mut self, call: impl FnOnce(&dyn GuestRun) -> Result<T, HostError>) -> Answer<T> {
        let answer = self.run().and_then(call);
        Ok(answer.map_err(|error| {
            let words = error.clone();
            self.last_words.refused = Some(words);
            error.into()
        }))
    }
}

impl Guest {
    /// The time by the host's clock.
    pub(super) fn now_millis(&self) -> i64 {
        self.run().map_or(0, |run| run.now())
    }

    /// Takes what it writes to a standard stream.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let Self { run, wasi, .. } = self;
        wasi.console.write(stream, bytes, |level, line| log_line(run.as_deref(), level, line));
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self) -> bool {
        self.stop_signal.is_over()
    }

    pub(super) fn finish_lines(&mut self) {
        let Self { run, wasi, .. } = self;
        wasi.console.finish(|level, line| log_line(run.as_deref(), level, line));
    }
}

/// False when nobody wants more lines. A worker that describes itself has no log.
fn log_line(run: Option<&dyn GuestRun>, level: LogLevel, line: &str) -> bool {
    run.is_some_and(|run| run.log_line(level, line))
}

impl From<HostError> for wit::types::Error {
    fn from(error: HostError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

fn to_value(value: wit::types::Value) -> Value {
    match value {
        wit::types::Value::Null => Value::Null,
        wit::types::Value::Integer(number) => Value::Integer(number),
        wit::types::Value::Real(number) => Value::Real(number),
        wit::types::Value::Text(text) => Value::Text(text),
        wit::types::Value::Blob(bytes) => Value::Blob(bytes),
    }
}

fn from_value(value: Value) -> wit::types::Value {
    match value {
        Value::Null => wit::types::Value::Null,
        Value::Integer(number) => wit::types::Value::Integer(number),
        Value::Real(number) => wit::types::Value::Real(number),
        Value::Text(text) => wit::types::Value::Text(text),
        Value::Blob(bytes) => wit::types::Value::Blob(bytes),
    }
}

fn to_values(values: Vec<wit::types::Value>) -> Vec<Value> {
    values.into_iter().map(to_value).collect()
}

fn from_values(values: Vec<Value>) -> Vec<wit::types::Value> {
    values.into_iter().map(from_value).collect()
}

/// The answer of a host function. It never traps: it answers the guest with a result.
type Answer<T> = wasmtime::Result<Result<T, wit::types::Error>>;

impl wit::types::Host for Guest {}

impl wit::store::Host for Guest {
    fn query(
        &mut self,
        sql: String,
        params: Vec<wit::types::Value>,
    ) -> Answer<Resource<CursorHandle>> {
        self.answer(|run| Ok(Resource::new_own(run.open_cursor(&sql, &to_values(params))?)))
    }

    fn execute(&mut self, sql: String, params: Vec<wit::types::Value>) -> Answer<u32> {
        self.answer(|run| run.execute(&sql, &to_values(params)))
    }

    fn execute_many(
        &mut self,
        sql: String,
        params: Vec<Vec<wit::types::Value>>,
    ) -> Answer<Vec<Result<u32, wit::types::Error>>> {
        let sets: Vec<_> = params.into_iter().map(to_values).collect();
        self.answer(|run| {
            let results = run.execute_many(&sql, &sets)?;
            Ok(results.into_iter().map(|result| result.map_err(Into::into)).collect())
        })
    }

    fn begin_savepoint(&mut self) -> Answer<Resource<SavepointHandle>> {
        self.answer(|run| Ok(Resource::new_own(run.open_savepoint()?)))
    }

    fn checkpoint(&mut self) -> Answer<()> {
        self.answer(|run| run.checkpoint())
    }

    fn checkpoint_due(&mut self) -> wasmtime::Result<bool> {
        Ok(self.run().is_ok_and(|run| run.checkpoint_due()))
    }

    fn query_all(
        &mut self,
        sql: String,
        params: Vec<wit::types::Value>,
    ) -> Answer<wit::store::Table> {
        self.answer(|run| {
            let (columns, rows) = run.query_all(&sql, &to_values(params))?;
            Ok(wit::store::Table { columns, rows: rows.into_iter().map(from_values).collect() })
        })
    }
}

impl wit::store::HostCursor for Guest {
    fn columns(&mut self, cursor: Resource<CursorHandle>) -> wasmtime::Result<Vec<String>> {
        Ok(self.run().map(|run| run.cursor_columns(cursor.rep())).unwrap_or_default())
    }

    fn next(
        &mut self,
        cursor: Resource<CursorHandle>,
        max_rows: u32,
    ) -> Answer<Vec<Vec<wit::types::Value>>> {
        self.answer(|run| {
            let rows = run.cursor_next(cursor.rep(), max_rows)?;
            Ok(rows.into_iter().map(from_values).collect())
        })
    }

    fn drop(&mut self, cursor: Resource<CursorHandle>) -> wasmtime::Result<()> {
        if let Ok(run) = self.run() {
            run.close_cursor(cursor.rep());
        }
        Ok(())
    }
}

impl wit::store::HostSavepoint for Guest {
    fn release(&mut self, savepoint: Resource<SavepointHandle>) -> Answer<()> {
        self.answer(|run| run.release_savepoint(savepoint.rep()))
    }

    fn rollback(&mut self, savepoint: Resource<SavepointHandle>) -> Answer<()> {
        self.answer(|run| run.roll_savepoint_back(savepoint.rep()))
    }

    fn drop(&mut self, _: Resource<SavepointHandle>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl wit::audit::Host for Guest {
    fn append(&mut self, events: Vec<wit::audit::Event>) -> Answer<Vec<u64>> {
        let events: Vec<_> = events.into_iter().map(to_event).collect();
        self.answer(|run| run.audit_append(&events))
    }

    fn append_safe(&mut self, events: Vec<wit::audit::Event>) -> wasmtime::Result<u32> {
        let events: Vec<_> = events.into_iter().map(to_event).collect();
        Ok(self.run().map_or(0, |run| run.audit_append_safe(&events)))
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
        self.answer(|run| run.publish(&topic, &payload))
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
            after: slot.after,
            zone: slot.zone,
        }))
    }

    fn progress(&mut self, done: u32, total: u32) -> wasmtime::Result<()> {
        if let Ok(run) = self.run() {
            run.progress(done, total);
        }
        Ok(())
    }

    fn is_cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.run().is_ok_and(|run| run.is_cancelled()))
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
        if level == LogLevel::Error {
            self.last_words.error = Some(beginning(&message, WORDS_MAX_BYTES).to_string());
        }
        Ok(())
    }
}

impl wit::host::Host for Guest {
    fn call(&mut self, capability: String, request: String) -> Answer<String> {
        self.answer(|run| run.call(&capability, &request))
    }
}

impl wit::queue::Host for Guest {
    fn enqueue(&mut self, jobs: Vec<wit::queue::NewJob>) -> Answer<Vec<wit::queue::Enqueued>> {
        let jobs = jobs.into_iter().map(|job| (job.worker, job.args, job.options)).collect();
        self.answer(|run| {
            let enqueued = run.enqueue_texts(jobs)?.into_iter();
            Ok(enqueued
                .map(|job| wit::queue::Enqueued { id: job.id, existing: job.existing })
                .collect())
        })
    }
}

impl wit::state::Host for Guest {
    fn get(&mut self, key: String) -> Answer<wit::types::Value> {
        self.answer(|run| run.state(&key)).map(|answer| answer.map(from_value))
    }

    fn set(&mut self, key: String, value: wit::types::Value) -> Answer<()> {
        self.answer(|run| run.set_state(&key, &to_value(value)))
    }
}
