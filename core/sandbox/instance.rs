//! One instance of a component for one attempt: making it, calling its exports, and putting into
//! words what stopped it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use verger_worker::{Args, HostError, code};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};

use super::engine::{Floor, Sandbox};
use super::guest::{Guest, LastWords, bindings};
use super::limiter::Limiter;
use super::wasi::{self, Wasi};
use crate::json;
use crate::observation::{Described, observe};
use crate::run::{AttemptError, Ended, GuestRun, Unmigrated};
use crate::store::StopSignal;
use crate::text::reason;

/// How long `describe` and `migrate-args` may take.
const DESCRIBE_TIME: Duration = Duration::from_secs(2);
const DESCRIBE_MEMORY_BYTES: usize = 64 << 20;

/// The export of a worker that brings args of earlier versions into the present form.
const MIGRATE_ARGS: &str = "migrate-args";

/// The longest JSON of args, migrated or not.
const ARGS_MAX_BYTES: usize = 1 << 20;
const MANIFEST_MAX_BYTES: usize = 1 << 20;

/// A guest's value takes more memory in the host than its bytes. It may take this many times the
/// bytes that the guest may send.
const ROOM: usize = 4;

/// Enough for the largest result and some SQL, however little the guest may send.
const SENT_MIN_BYTES: usize = 4 << 20;

/// The largest JSON result a job may have.
const RESULT_MAX_BYTES: usize = 1 << 20;

/// What a result may take in memory. A report holds it until the app has read it.
const RESULT_UNFOLDED_MAX_BYTES: usize = 16 << 20;

/// A component linked with the host's functions for the pool, and, once the pool has been full, for
/// instances on demand too.
pub(super) struct Linked {
    sandbox: &'static Sandbox,
    has_wasi: bool,
    pooled: bindings::WorkerPre<Guest>,
    on_demand: OnceLock<Result<bindings::WorkerPre<Guest>, String>>,
}

/// What became of a call into a component.
enum Called<T> {
    Returned(T),
    Failed(wasmtime::Error),
    Panicked,
    /// The pool is full. Nothing of the component ran.
    Full,
    /// No instance could be made beside the pool either.
    NoRoom(String),
}

fn link(
    linker: &Linker<Guest>,
    component: &Component,
    has_wasi: bool,
) -> wasmtime::Result<bindings::WorkerPre<Guest>> {
    let pre: InstancePre<Guest> = if has_wasi {
        let mut linker = linker.clone();
        wasi::link(&mut linker, component)?;
        linker.instantiate_pre(component)?
    } else {
        linker.instantiate_pre(component)?
    };
    bindings::WorkerPre::new(pre)
}

impl Linked {
    pub(super) fn new(
        sandbox: &'static Sandbox,
        component: &Component,
        has_wasi: bool,
    ) -> wasmtime::Result<Self> {
        let pooled = link(&sandbox.pooled.linker, component, has_wasi)?;
        Ok(Self { sandbox, has_wasi, pooled, on_demand: OnceLock::new() })
    }

    /// Makes a fresh instance and calls it, in the pool if that has room. A full pool refuses
    /// before any code of the component has run.
    fn call<T>(
        &self,
        guest: Guest,
        sent: usize,
        call: impl Fn(&bindings::WorkerPre<Guest>, &mut Store<Guest>) -> wasmtime::Result<T>,
    ) -> (Guest, Called<T>) {
        let (guest, called) = enter(&self.sandbox.pooled, &self.pooled, guest, sent, &call);
        if !matches!(called, Called::Full) {
            return (guest, called);
        }
        match self.on_demand() {
            Ok((floor, pre)) => enter(floor, pre, guest, sent, &call),
            Err(why) => (guest, Called::NoRoom(why)),
        }
    }

    /// The same code, for an engine that makes each instance anew.
    fn on_demand(&self) -> Result<(&'static Floor, &bindings::WorkerPre<Guest>), String> {
        let floor = self.sandbox.on_demand()?;
        let linked = self.on_demand.get_or_init(|| {
            let component = self.pooled.instance_pre().component();
            let copied = component.serialize().and_then(|artefact| {
                // SAFETY: the engine of this process has just written it.
                #[allow(unsafe_code, reason = "wasmtime copies a component to another engine so")]
                unsafe {
                    Component::deserialize(&floor.engine, artefact)
                }
            });
            copied
                .and_then(|component| link(&floor.linker, &component, self.has_wasi))
                .map_err(|error| format!("{error:#}"))
        });
        Ok((floor, linked.as_ref().map_err(Clone::clone)?))
    }

    /// Asks a component for its manifest.
    pub(super) fn describe(&self) -> Result<String, String> {
        let begun = Instant::now();
        let (guest, called) =
            self.call(without_a_run(begun), MANIFEST_MAX_BYTES, |component, store| {
                let instance = component.instance_pre().instantiate(&mut *store)?;
                if let Some(export) = instance.get_func(&mut *store, MIGRATE_ARGS) {
                    // Reported now, and not by the first job that needs it.
                    export.typed::<MigrateParams<'_>, MigrateResult>(&mut *store)?;
                }
                bindings::Worker::new(&mut *store, &instance)?.call_describe(&mut *store)
            });
        let (elapsed, memory_bytes) = (begun.elapsed(), guest.limiter.taken() as u64);
        let elapsed_us = elapsed.as_micros() as u64;
        tracing::debug!(target: "verger::sandbox", elapsed_us, memory_bytes, "described");
        observe(|observed| observed.described = Some(Described { elapsed, memory_bytes }));
        match called {
            Called::Returned(manifest) => Ok(manifest),
            Called::Failed(error) if error.downcast_ref() == Some(&Trap::Interrupt) => {
                Err(format!("it did not end within {} s", DESCRIBE_TIME.as_secs()))
            }
            Called::Failed(error) => Err(with_last_words(trap_message(&error), &guest)),
            Called::Panicked => Err(HOST_PANICKED.to_string()),
            Called::Full => Err(no_room("")),
            Called::NoRoom(why) => Err(no_room(&why)),
        }
    }

    /// Brings args of an earlier version into the present form. If the component has no export for
    /// that, they stay as they are.
    pub(super) fn migrate_args(&self, from: u32, args: &Args) -> Result<Args, Unmigrated> {
        let failed = |code: &str, message: String| {
            Unmigrated::Failed(AttemptError::new(code, format!("{MIGRATE_ARGS}: {message}")))
        };
        let text = args.to_string();
        let guest = without_a_run(Instant::now());
        let (guest, called) = self.call(guest, ARGS_MAX_BYTES, |component, store| {
            let instance = component.instance_pre().instantiate(&mut *store)?;
            let Some(export) = instance.get_func(&mut *store, MIGRATE_ARGS) else {
                return Ok(None);
            };
            let export = export.typed::<MigrateParams<'_>, MigrateResult>(&mut *store)?;
            export.call(&mut *store, (from, &text)).map(|(migrated,)| Some(migrated))
        });
        match called {
            Called::Returned(None) => Ok(args.clone()),
            Called::Returned(Some(Ok(migrated))) if migrated.len() > ARGS_MAX_BYTES => {
                Err(failed(code::LIMIT, format!("args of more than {ARGS_MAX_BYTES} bytes")))
            }
            Called::Returned(Some(Ok(migrated))) => {
                Args::parse(&migrated).map_err(|error| failed("invalid-result", error.to_string()))
            }
            Called::Returned(Some(Err(error))) => {
                Err(Unmigrated::Refused(AttemptError::of_worker(to_error(error))))
            }
            Called::Failed(error) if error.downcast_ref() == Some(&Trap::Interrupt) => {
                let most = DESCRIBE_TIME.as_secs();
                Err(failed(code::DEADLINE, format!("it did not end within {most} s")))
            }
            Called::Failed(error) => {
                let AttemptError { code, message } = explain(&error, &guest);
                Err(failed(&code, message))
            }
            Called::Panicked => Err(failed("panic", HOST_PANICKED.to_string())),
            Called::Full => Err(failed(code::LIMIT, no_room(""))),
            Called::NoRoom(why) => Err(failed(code::LIMIT, no_room(&why))),
        }
    }

    /// Performs one attempt in a fresh instance.
    pub(super) fn perform<R: GuestRun>(
        &self,
        run: R,
        args: &Args,
    ) -> (Option<R>, Result<Ended, AttemptError>) {
        let scope = run.task().scope.as_ref().map(|scope| bindings::Scope {
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
            run: Some(Box::new(run)),
            wasi,
            last_words: LastWords::default(),
        };
        let (mut guest, called) = self.call(guest, sent, |component, store| {
            let worker = component.instantiate(&mut *store)?;
            worker.call_perform(&mut *store, scope.as_ref(), &args)
        });
        guest.finish_lines();
        let memory_bytes = guest.limiter.taken() as u64;
        tracing::debug!(target: "verger::sandbox", memory_bytes, "performed");
        observe(|observed| observed.memory_bytes = Some(memory_bytes));
        let ended = match called {
            Called::Returned(outcome) => read_outcome(outcome),
            Called::Failed(error) => Err(explain(&error, &guest)),
            Called::Panicked => Err(AttemptError::new("panic", HOST_PANICKED)),
            Called::Full => Err(AttemptError::new(code::BUSY, no_room(""))),
            Called::NoRoom(why) => Err(AttemptError::new(code::BUSY, no_room(&why))),
        };
        (guest.run.and_then(unboxed), ended)
    }
}

/// The run that was lent to a guest.
fn unboxed<R: GuestRun>(run: Box<dyn GuestRun>) -> Option<R> {
    let run: Box<dyn Any> = run;
    run.downcast().ok().map(|run| *run)
}

type MigrateParams<'a> = (u32, &'a str);
type MigrateResult = (Result<String, bindings::verger::worker::types::Error>,);

/// A guest that is called without a job.
fn without_a_run(begun: Instant) -> Guest {
    Guest {
        run: None,
        limiter: Limiter::new(DESCRIBE_MEMORY_BYTES),
        stop_signal: StopSignal::new(begun + DESCRIBE_TIME, Arc::new(AtomicBool::new(false))),
        wasi: Wasi::new(0),
        last_words: LastWords::default(),
    }
}

const HOST_PANICKED: &str = "a host function panicked while the worker called it";

fn no_room(why: &str) -> String {
    format!(
        "as many components run in this process as its pool holds, and none can be made beside it: {why}"
    )
}

/// `sent` is how many bytes the host may take for what the guest sends in one call. Lists count by
/// their elements.
fn enter<T>(
    floor: &Floor,
    pre: &bindings::WorkerPre<Guest>,
    guest: Guest,
    sent: usize,
    call: impl Fn(&bindings::WorkerPre<Guest>, &mut Store<Guest>) -> wasmtime::Result<T>,
) -> (Guest, Called<T>) {
    let mut store = Store::new(&floor.engine, guest);
    store.set_hostcall_fuel(sent);
    store.limiter(|guest| &mut guest.limiter);
    // Set before anything is instantiated, because a deadline of 0 traps at once.
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| match store.data().stop_signal.is_over() {
        true => Ok(UpdateDeadline::Interrupt),
        false => Ok(UpdateDeadline::Continue(1)),
    });
    let watched = floor.watchdog.watch();
    let called = catch_unwind(AssertUnwindSafe(|| match call(pre, &mut store) {
        Ok(returned) => Called::Returned(returned),
        Err(error) if error.is::<PoolConcurrencyLimitError>() => Called::Full,
        Err(error) => Called::Failed(error),
    }));
    drop(watched);
    (store.into_data(), called.unwrap_or(Called::Panicked))
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
        bindings::Outcome::DoneWith(json) => match json::parse(&json, RESULT_UNFOLDED_MAX_BYTES) {
            Ok(result) => Ok(Ended::Done(Some(result))),
            Err(error) if error.is_data() => {
                Err(invalid(format!("the result is too large: {error}")))
            }
            Err(error) => Err(invalid(format!("the result is no valid JSON: {error}"))),
        },
        bindings::Outcome::Failed(error) => Err(AttemptError::of_worker(to_error(error))),
        bindings::Outcome::Discard(error) => {
            Ok(Ended::Discard(AttemptError::of_worker(to_error(error))))
        }
        bindings::Outcome::Snooze(seconds) => Ended::snooze(seconds),
        bindings::Outcome::Cancel(why) => Ok(Ended::Cancel(reason(why))),
    }
}

/// What stopped a component, in words.
fn explain(error: &wasmtime::Error, guest: &Guest) -> AttemptError {
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt)
        && let Some(run) = &guest.run
    {
        return run.out_of_time();
    }
    if let Some(most) = guest.limiter.refused() {
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
    AttemptError::new(code, with_last_words(message, guest))
}

/// Adds what was refused, logged and written just before, because a trap says little.
fn with_last_words(mut message: String, guest: &Guest) -> String {
    let LastWords { refused, error } = &guest.last_words;
    if let Some(refused) = refused {
        message.push_str(&format!("; the last call that was refused: {refused}"));
    }
    if let Some(line) = error {
        message.push_str(&format!("; it last logged as an error: {line}"));
    }
    if let Some(words) = guest.wasi.console.last_words() {
        message.push_str(&format!("; it last wrote: {words}"));
    }
    reason(message)
}

fn to_error(error: bindings::verger::worker::types::Error) -> HostError {
    HostError { code: error.code, message: error.message }
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
