//! What a run and those outside it share while it goes on: the flag that stops it, and its
//! progress.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use crate::mutex::lock;

/// Why a run must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupted {
    /// The loop is stopping. The attempt is given back.
    Shutdown,
    /// Someone cancelled the job. That holds even when the loop stops.
    Cancelled,
}

/// Shared between a run and whoever may stop it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    flag: Arc<AtomicBool>,
    /// 1 for a shutdown, 2 for a cancellation. It only grows.
    why: Arc<AtomicU8>,
    /// The run's progress, for whoever looks at its job meanwhile.
    progress: Arc<Mutex<Option<(u64, u64)>>>,
}

impl Interrupt {
    pub(crate) fn raise(&self, why: Interrupted) {
        self.why.fetch_max(if why == Interrupted::Cancelled { 2 } else { 1 }, Ordering::Relaxed);
        self.flag.store(true, Ordering::Release);
    }

    pub(crate) fn raised(&self) -> Option<Interrupted> {
        if !self.flag.load(Ordering::Acquire) {
            return None;
        }
        Some(if self.why.load(Ordering::Relaxed) == 2 {
            Interrupted::Cancelled
        } else {
            Interrupted::Shutdown
        })
    }

    pub(crate) fn progresses(&self, done: u64, total: u64) {
        *lock(&self.progress) = Some((done, total));
    }

    /// How much is done, of how much.
    pub(crate) fn progress(&self) -> Option<(u64, u64)> {
        *lock(&self.progress)
    }

    /// The flag itself, for callers that only ask whether to stop.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancellation_stays_one_whatever_else_stops_the_run() {
        for order in [
            [Interrupted::Cancelled, Interrupted::Shutdown],
            [Interrupted::Shutdown, Interrupted::Cancelled],
        ] {
            let interrupt = Interrupt::default();
            assert_eq!(interrupt.raised(), None);
            interrupt.raise(order[0]);
            assert_eq!(interrupt.raised(), Some(order[0]));
            interrupt.raise(order[1]);
            assert_eq!(interrupt.raised(), Some(Interrupted::Cancelled));
        }
    }
}
