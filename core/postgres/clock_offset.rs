//! One clock for all nodes: the system's, corrected by what the server's differs from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::failure::unusable;
use super::session::Session;
use crate::clock::{Clock, SystemClock};
use crate::store::StoreError;
use crate::time::Timestamp;

/// How often the clocks are compared.
const EVERY: Duration = Duration::from_secs(600);

/// A step of the system's clock that has them compared at once, in milliseconds.
const STEP: i64 = 1_000;

/// When the clocks were compared last, by the timer that nobody sets, and what the system's clock
/// read then.
pub(super) struct Compared {
    at: Instant,
    wall: Timestamp,
}

impl Compared {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), wall: SystemClock.now() }
    }

    /// Whether it is long ago, or somebody set the system's clock since.
    fn is_outdated(&self) -> bool {
        let passed = self.at.elapsed();
        let told = SystemClock.now().as_millis().saturating_sub(self.wall.as_millis());
        let passed_millis = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        passed >= EVERY || (told - passed_millis).abs() > STEP
    }

    /// Compares the clocks again, if it is time to.
    pub(super) fn again(
        &mut self,
        session: &mut Session,
        offset: &AtomicI64,
    ) -> Result<(), StoreError> {
        if self.is_outdated() {
            offset.store(measure(session)?, Ordering::Relaxed);
            *self = Self::now();
        }
        Ok(())
    }
}

/// The system's clock, corrected by what the server's differs from it.
pub(super) struct Corrected {
    pub(super) offset: Arc<AtomicI64>,
}

impl Clock for Corrected {
    fn now(&self) -> Timestamp {
        let millis = SystemClock.now().as_millis();
        Timestamp::from_millis(millis.saturating_add(self.offset.load(Ordering::Relaxed)))
    }
}

/// By how many milliseconds the server's clock is ahead of the system's, within half the time of a
/// round trip: the least of three.
pub(super) fn measure(session: &mut Session) -> Result<i64, StoreError> {
    const MEASURING: &str = "compare the clocks";
    let mut best: Option<(i64, i64)> = None;
    for _ in 0..3 {
        let before = SystemClock.now().as_millis();
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let row = session.first(MEASURING, sql, &[])?;
        let after = SystemClock.now().as_millis();
        let Some(server) = row.map(|row| row.get::<_, i64>(0)) else {
            return Err(unusable(MEASURING, "the server told no time"));
        };
        let found = (after - before, server - i64::midpoint(before, after));
        best = Some(best.map_or(found, |best| best.min(found)));
    }
    // Within the measure's own error the clocks agree.
    Ok(best.map_or(0, |(trip, offset)| if offset.abs() <= trip + 2 { 0 } else { offset }))
}
