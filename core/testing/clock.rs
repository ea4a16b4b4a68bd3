//! A clock that a test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::time::Timestamp;

/// A clock that stands still until a test moves it. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock at this instant.
    pub fn at(now: impl Into<Timestamp>) -> Self {
        Self(Arc::new(AtomicI64::new(now.into().as_millis())))
    }

    /// Moves the clock to this instant, which may lie in its past.
    pub fn set(&self, now: impl Into<Timestamp>) {
        self.0.store(now.into().as_millis(), Ordering::SeqCst);
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.set(self.now() + by);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}
