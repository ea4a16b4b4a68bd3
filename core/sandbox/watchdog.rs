//! Moves the engine's epoch while a component runs, so that none runs on unnoticed, and makes its
//! SQL look at the deadline.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::EngineWeak;

/// How often a running component is looked at, which is how late a deadline may be noticed.
const PERIOD: Duration = Duration::from_millis(5);

/// Periods without a run after which the thread goes to sleep until the next one.
const LINGER: u32 = 4;

/// One thread for the engine. It sleeps, at no cost, while nothing runs.
#[derive(Clone)]
pub(super) struct Watchdog(Arc<Shared>);

struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

/// While this exists, a component is running.
pub(super) struct Watched<'a>(&'a Shared);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Watchdog {
    pub(super) fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let watched = Arc::clone(&shared);
        let handle = std::thread::Builder::new()
            .name("verger-watchdog".to_string())
            .spawn(move || watch(&watched, &engine))?;
        // It cannot be set yet, because this is the only place that sets it.
        let _ = shared.thread.set(handle.thread().clone());
        Ok(Self(shared))
    }

    pub(super) fn watch(&self) -> Watched<'_> {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        if self.0.asleep.load(Ordering::SeqCst)
            && let Some(thread) = self.0.thread.get()
        {
            thread.unpark();
        }
        Watched(&self.0)
    }
}

fn watch(shared: &Shared, engine: &EngineWeak) {
    let mut quiet = 0;
    loop {
        if shared.running.load(Ordering::SeqCst) > 0 {
            quiet = 0;
        } else {
            quiet += 1;
        }
        if quiet > LINGER {
            shared.asleep.store(true, Ordering::SeqCst);
            // Looks again after the thread said that it sleeps, because a run that began just
            // before did not wake it.
            while shared.running.load(Ordering::SeqCst) == 0 {
                std::thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
            quiet = 0;
        }
        std::thread::sleep(PERIOD);
        crate::store::tick_clock();
        match engine.upgrade() {
            Some(engine) => engine.increment_epoch(),
            None => return,
        }
    }
}
