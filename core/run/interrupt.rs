//! A flag that stops a run from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Why a run is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupted {
    /// Someone cancelled the job.
    Cancelled,
    /// The loop is stopping: the attempt is given back.
    Shutdown,
}

/// Shared between a run and whoever may stop it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    flag: Arc<AtomicBool>,
    why: Arc<AtomicU8>,
}

impl Interrupt {
    pub(crate) fn raise(&self, why: Interrupted) {
        self.why.store(if why == Interrupted::Cancelled { 1 } else { 2 }, Ordering::Relaxed);
        self.flag.store(true, Ordering::Release);
    }

    pub(crate) fn raised(&self) -> Option<Interrupted> {
        if !self.flag.load(Ordering::Acquire) {
            return None;
        }
        Some(if self.why.load(Ordering::Relaxed) == 1 { Interrupted::Cancelled } else { Interrupted::Shutdown })
    }

    /// The flag itself, for what only asks whether.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }
}
