//! The time that compiling may take.
//!
//! A plugin may be made to keep a compiler busy. So its complexity is checked first. Then it is
//! compiled on a thread of its own. When the time is over that thread is left behind, and ends
//! itself before the compiler's next step on a function.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cranelift_codegen::timing::{Pass, Profiler, set_thread_profiler};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::complexity::{self, Refusal};
use super::from_binary;
use crate::mutex::lock;
use crate::plugin_error::PluginError;

/// Address space for the compiler's recursion. Overflowing a stack ends the process.
const STACK_BYTES: usize = 32 << 20;

/// The time that all plugins of one open share.
pub(super) struct Budget {
    limit: Duration,
    spent: Mutex<Spent>,
}

#[derive(Default)]
struct Spent {
    time: Duration,
    /// The plugin during which the time ran out.
    by: Option<String>,
}

impl Budget {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, spent: Mutex::default() }
    }

    /// Compiles one plugin at a time. `what` names it in errors.
    pub(super) fn compile(
        &self,
        what: &str,
        bytes: &[u8],
        engine: &Engine,
    ) -> Result<Component, PluginError> {
        let mut spent = lock(&self.spent);
        if let Some(by) = &spent.by {
            return Err(PluginError::NoTimeLeft {
                what: what.to_string(),
                by: by.clone(),
                limit: self.limit,
            });
        }
        let begun = Instant::now();
        let left = self.limit.saturating_sub(spent.time);
        let compiled = Compiling::start(what, bytes, engine).and_then(|it| it.within(left));
        spent.time += begun.elapsed();
        compiled?.ok_or_else(|| {
            spent.by = Some(what.to_string());
            PluginError::TooSlow { what: what.to_string(), limit: self.limit }
        })
    }
}

/// Compiles a component that the app gave, however long that takes.
pub(super) fn compile_unhurried(
    what: &str,
    bytes: &[u8],
    engine: &Engine,
) -> Result<Component, PluginError> {
    Compiling::start(what, bytes, engine)?.finish()
}

/// A component that is being compiled, on a thread of its own.
struct Compiling {
    what: String,
    compiled: Receiver<Result<Component, PluginError>>,
    abandoned: Arc<AtomicBool>,
}

impl Compiling {
    fn start(what: &str, bytes: &[u8], engine: &Engine) -> Result<Self, PluginError> {
        let abandoned = Arc::new(AtomicBool::new(false));
        let (sender, compiled) = sync_channel(1);
        let (name, stop) = (what.to_string(), Stop(Arc::clone(&abandoned)));
        let (bytes, engine) = (bytes.to_vec(), engine.clone());
        let thread = std::thread::Builder::new()
            .name("verger-compiler".to_string())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                set_thread_profiler(Box::new(stop));
                // Nobody waits for it any longer when the time is over.
                let _ = sender.send(check_and_compile(&name, &bytes, &engine));
            });
        thread.map_err(|error| PluginError::Engine {
            what: what.to_string(),
            reason: format!("no thread can be started to compile it: {error}"),
        })?;
        Ok(Self { what: what.to_string(), compiled, abandoned })
    }

    fn finish(self) -> Result<Component, PluginError> {
        self.compiled.recv().unwrap_or_else(|_| Err(self.failed()))
    }

    /// `None` when the time was over first. The thread is left behind.
    fn within(self, time: Duration) -> Result<Option<Component>, PluginError> {
        match self.compiled.recv_timeout(time) {
            Ok(compiled) => compiled.map(Some),
            Err(RecvTimeoutError::Timeout) => {
                self.abandoned.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.failed()),
        }
    }

    fn failed(&self) -> PluginError {
        PluginError::Engine {
            what: self.what.clone(),
            reason: "the compiler failed on it: build it with other settings, or report it"
                .to_string(),
        }
    }
}

fn check_and_compile(what: &str, bytes: &[u8], engine: &Engine) -> Result<Component, PluginError> {
    let what = what.to_string();
    match complexity::check(bytes) {
        Err(Refusal::Invalid(error)) => Err(PluginError::invalid(&what, error.to_string())),
        Err(Refusal::TooMuch(reason)) => Err(PluginError::TooComplex { what, reason }),
        Ok(()) => from_binary(&what, bytes, engine),
    }
}

/// Ends the thread it is set for. The compiler has no way to be stopped, but it calls its profiler
/// at each step on each function.
struct Stop(Arc<AtomicBool>);

impl Profiler for Stop {
    fn start_pass(&self, _: Pass) -> Box<dyn Any> {
        if self.0.load(Ordering::Relaxed) {
            end_thread();
        }
        Box::new(())
    }
}

#[cfg(panic = "unwind")]
fn end_thread() -> ! {
    // It unwinds as a panic does, but does not call the app's panic hook.
    std::panic::resume_unwind(Box::new("the time to compile is over"))
}

/// Without unwinding, the thread stands still for good.
#[cfg(not(panic = "unwind"))]
fn end_thread() -> ! {
    loop {
        std::thread::park();
    }
}
