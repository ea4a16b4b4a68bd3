//! Where time comes from.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Timestamp;

/// A clock. Everything Verger does reads the one it was given, its SQL and its workers included.
///
/// It tells wall time: it may jump, forward after a suspend and backward when someone sets it.
/// Limits on how long a worker may run are measured with the monotonic timer of the machine and do
/// not depend on it.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the system's clock"
    )]
    fn now(&self) -> Timestamp {
        let now = SystemTime::now();
        let millis = match now.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis)
            }
        };
        Timestamp::from_millis(millis)
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

/// A clock moved by a constant, so that a tick for a given instant sees that instant and the time
/// that passes from there.
pub(crate) struct Shifted {
    clock: Arc<dyn Clock>,
    by_millis: i64,
}

impl Shifted {
    /// The clock that reads `now` at this moment.
    pub(crate) fn reading(clock: &Arc<dyn Clock>, now: Timestamp) -> Arc<dyn Clock> {
        match now.as_millis().saturating_sub(clock.now().as_millis()) {
            0 => Arc::clone(clock),
            by_millis => Arc::new(Self { clock: Arc::clone(clock), by_millis }),
        }
    }
}

impl Clock for Shifted {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.now().as_millis().saturating_add(self.by_millis))
    }
}
