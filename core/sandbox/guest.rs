//! One instance of a component for one attempt: its imports stand on the run, its exports are
//! called here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use verger_worker::{Args, AuditEvent, EventOutcome, Host, HostError, LogLevel, Value, code};
use wasmtime::component::Resource;
use wasmtime::{Store, Trap, UpdateDeadline};

use super::console::Stream;
use super::engine::Sandbox;
use super::limiter::Limiter;
use super::load::Loaded;
use super::wasi::Wasi;
use crate::run::{AttemptError, CursorId, Run, SavepointId};
use crate::store::StopSignal;
use crate::worker::Ended;

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

/// How long `describe` may take.
const DESCRIBE_TIME: Duration = Duration::from_secs(2);
const DESCRIBE_MEMORY_BYTES: usize = 64 << 20;
const MANIFEST_MAX_BYTES: usize = 1 << 20;

/// A value of a guest takes more room in the host than its bytes: so many times those it may send.
const ROOM: usize = 4;

/// However little it may send: the largest result, and some SQL.
const SENT_MIN_BYTES: usize = 4 << 20;

/// The largest JSON result a job may have.
const RESULT_MAX_BYTES: usize = 1 << 20;

/// The state of one instance.
pub(super) struct Guest {
    /// None while it describes itself.
    run: Option<Run>,
    limiter: Limiter,
    stop_signal: StopSignal,
    pub(super) wasi: Wasi,
}

/// `sent` is how many bytes the host may take up for what the guest sends in one call: lists count
/// by their elements.
fn store(sandbox: &Sandbox, guest: Guest, sent: usize) -> Store<Guest> {
    let mut store = Store::new(&sandbox.engine, guest);
    store.set_hostcall_fuel(sent);
    store.limiter(|guest| &mut guest.limiter);
    // Before anything is instantiated: a deadline of 0 traps at once.
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| match store.data().stop_signal.is_over() {
        true => Ok(UpdateDeadline::Interrupt),
        false => Ok(UpdateDeadline::Continue(1)),
    });
    store
}

/// Asks a component for its manifest.
pub(super) fn describe(
    sandbox: &Sandbox,
    pre: &bindings::WorkerPre<Guest>,
) -> Result<String, String> {
    let begun = Instant::now();
    let stop_signal = StopSignal::new(begun + DESCRIBE_TIME, Arc::new(AtomicBool::new(false)));
    let mut store = store(
        sandbox,
        Guest {
            run: None,
            limiter: Limiter::new(DESCRIBE_MEMORY_BYTES),
            stop_signal,
            wasi: Wasi::new(0),
        },
        MANIFEST_MAX_BYTES,
    );
    let _watched = sandbox.watchdog.watch();
    let described = pre.instantiate(&mut store).and_then(|worker| worker.call_describe(&mut store));
    let elapsed_us = begun.elapsed().as_micros() as u64;
    tracing::debug!(target: "verger::sandbox", elapsed_us, memory_bytes = store.data().limiter.taken(), "described");
    described.map_err(|error| match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => format!("it did not end within {} s", DESCRIBE_TIME.as_secs()),
        _ => with_last_words(trap_message(&error), &store.data().wasi),
    })
}

/// Performs one attempt in a fresh instance.
pub(super) fn perform(
    loaded: &Loaded,
    run: Run,
    args: &Args,
) -> (Option<Run>, Result<Ended, AttemptError>) {
    let scope = run.scope().map(|scope| bindings::Scope {
        organization_id: scope.organization_id().map(str::to_string),
        actor_id: scope.actor_id().map(str::to_string),
        impersonating_from: scope.impersonating_from().map(str::to_string),
    });
    let args = args.to_string();
    let sent = run.task().grant.limits.chunk_bytes.saturating_mul(ROOM).max(SENT_MIN_BYTES);
    let info = &run.task().info;
    let wasi = Wasi::new(info.id.unwrap_or_default() << 16 | u64::from(info.attempt));
    let guest = Guest {
        limiter: Limiter::new(run.task().grant.limits.memory_bytes),
        stop_signal: run.task().stop_signal.clone(),
        run: Some(run),
        wasi,
    };
    let mut store = store(loaded.sandbox, guest, sent);
    let watched = loaded.sandbox.watchdog.watch();
    let called = catch_unwind(AssertUnwindSafe(|| {
        loaded
            .pre
            .instantiate(&mut store)
            .and_then(|worker| worker.call_perform(&mut store, scope.as_ref(), &args))
    }));
    drop(watched);
    let mut guest = store.into_data();
    guest.finish_lines();
    let Guest { run, limiter, wasi, .. } = guest;
    tracing::debug!(target: "verger::sandbox", memory_bytes = limiter.taken(), "performed");
    let ended = match called {
        Ok(Ok(outcome)) => read_outcome(outcome),
        Ok(Err(error)) => Err(explain(&error, &limiter, &wasi, run.as_ref())),
        Err(_) => {
            Err(AttemptError::new("panic", "a host function panicked while the worker called it"))
        }
    };
    (run, ended)
}

fn read_outcome(outcome: bindings::Outcome) -> Result<Ended, AttemptError> {
    let invalid = |reason: String| AttemptError::new("invalid-result", reason);
    match outcome {
        bindings::Outcome::Done => Ok(Ended::Done(None)),
        bindings::Outcome::DoneWith(json) if json.len() > RESULT_MAX_BYTES => {
            Err(invalid(format!(
                "the result has {} bytes, more than the {RESULT_MAX_BYTES} a job keeps",
                json.len()
            )))
        }
        bindings::Outcome::DoneWith(json) => match serde_json::from_str(&json) {
            Ok(result) => Ok(Ended::Done(Some(result))),
            Err(error) => Err(invalid(format!("the result is no valid JSON: {error}"))),
        },
        bindings::Outcome::Failed(reason) => Err(AttemptError::new("failed", reason)),
        bindings::Outcome::Snooze(seconds) => crate::worker::snooze(seconds),
        bindings::Outcome::Cancel(reason) => Ok(Ended::Cancel(reason)),
    }
}

/// What stopped a component, in words.
fn explain(
    error: &wasmtime::Error,
    limiter: &Limiter,
    wasi: &Wasi,
    run: Option<&Run>,
) -> AttemptError {
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt)
        && let Some(run) = run
    {
        return run.out_of_time();
    }
    if let Some(most) = limiter.refused() {
        return AttemptError::new(
            "memory",
            format!(
                "the worker asked for more than the {} KiB of memory it is granted",
                most >> 10
            ),
        );
    }
    let message = trap_message(error);
    let code = if message.contains("hostcalls has been exhausted") { code::LIMIT } else { "trap" };
    AttemptError::new(code, with_last_words(message, wasi))
}

/// A trap says little; what was written just before says why.
fn with_last_words(message: String, wasi: &Wasi) -> String {
    match wasi.console.last_words() {
        Some(words) => format!("{message}; it last wrote: {words}"),
        None => message,
    }
}

fn trap_message(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => {
            "the worker panicked or aborted (wasm trap: unreachable)".to_string()
        }
        Some(Trap::StackOverflow) => {
            "the worker used up its stack (wasm trap: call stack exhausted)".to_string()
        }
        Some(trap) => format!("the worker trapped ({trap})"),
        None => match format!("{error:#}") {
            text if text.contains("hostcalls has been exhausted") => {
                "the worker sent more in one call than it is granted (hostcalls has been exhausted)"
                    .to_string()
            }
            text => text,
        },
    }
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
        let lines = self.wasi.console.write(stream, bytes);
        self.log_lines(lines);
    }

    fn finish_lines(&mut self) {
        let lines = self.wasi.console.finish();
        self.log_lines(lines);
    }

    fn log_lines(&self, lines: Vec<(LogLevel, String)>) {
        if let Some(run) = &self.run {
            lines.iter().for_each(|(level, line)| run.log_line(*level, line));
        }
    }
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
