//! When a run must end: its deadline, a cancel, the time it may hold the write lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When a run must end.
#[derive(Clone)]
pub(crate) struct StopSignal {
    pub(crate) deadline: Instant,
    pub(crate) cancelled: Arc<AtomicBool>,
    /// How many microseconds before the deadline it must end, while the write lock is held.
    earlier_by: Arc<AtomicU64>,
    made: Instant,
    /// Until when nothing ends it, in microseconds since it was made. 0 means that it is not
    /// spared.
    spared_until: Arc<AtomicU64>,
}

impl StopSignal {
    pub(crate) fn is_over(&self) -> bool {
        self.is_to_end() && !self.is_within_the_spared_time()
    }

    pub(crate) fn new(deadline: Instant, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            deadline,
            cancelled,
            earlier_by: Arc::default(),
            made: Instant::now(),
            spared_until: Arc::default(),
        }
    }

    /// Lets nothing end the run for this long, or until [`spare_no_more`](Self::spare_no_more).
    pub(crate) fn spare(&self, most: Duration) {
        let until = u64::try_from((self.made.elapsed() + most).as_micros()).unwrap_or(u64::MAX);
        self.spared_until.store(until, Ordering::Relaxed);
    }

    pub(crate) fn spare_no_more(&self) {
        self.spared_until.store(0, Ordering::Relaxed);
    }

    /// Whether the run goes on only because it is spared.
    pub(crate) fn is_spared(&self) -> bool {
        self.is_to_end() && self.is_within_the_spared_time()
    }

    fn is_to_end(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.is_late()
    }

    fn is_within_the_spared_time(&self) -> bool {
        let until = self.spared_until.load(Ordering::Relaxed);
        until != 0 && self.made.elapsed() < Duration::from_micros(until)
    }

    fn is_late(&self) -> bool {
        let earlier_by = Duration::from_micros(self.earlier_by.load(Ordering::Relaxed));
        Instant::now() + earlier_by >= self.deadline
    }

    /// Notes that the write lock is held from now on, for at most this long.
    pub(crate) fn hold_lock(&self, most: Option<Duration>) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let earlier_by = most.map_or(Duration::ZERO, |most| left.saturating_sub(most));
        let micros = u64::try_from(earlier_by.as_micros()).unwrap_or(0);
        self.earlier_by.store(micros, Ordering::Relaxed);
    }

    /// Notes that the write lock is no longer held.
    pub(crate) fn release_lock(&self) {
        self.earlier_by.store(0, Ordering::Relaxed);
    }

    /// Whether the run is over only because of the write lock.
    pub(crate) fn is_over_for_the_lock(&self) -> bool {
        self.is_late() && Instant::now() < self.deadline
    }
}
