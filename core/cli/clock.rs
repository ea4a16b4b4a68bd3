//! The clock of a command: the system's, or one that `--now` holds still.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use verger::{Clock, SystemClock, Timestamp};

/// A clock that stands still where it was set. Clones are the same clock.
#[derive(Debug, Clone)]
pub(crate) struct Held(Arc<AtomicI64>);

impl Held {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.as_millis())))
    }

    pub(crate) fn set(&self, now: Timestamp) {
        self.0.store(now.as_millis(), Ordering::SeqCst);
    }
}

impl Clock for Held {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// The clock a command goes by.
#[derive(Debug, Clone)]
pub(crate) enum CommandClock {
    System,
    Held(Held),
}

impl Clock for CommandClock {
    fn now(&self) -> Timestamp {
        match self {
            Self::System => SystemClock.now(),
            Self::Held(held) => held.now(),
        }
    }
}
