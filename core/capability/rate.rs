//! How often a worker may call a capability.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::mutex::lock;
use crate::time::Timestamp;

const MINUTE_MS: f64 = 60_000.0;

/// Each worker has this many calls a minute. One that has called none for a minute may make them
/// all at once. The time is the clock's that Verger was given; while that stands still or goes
/// back, no new calls are added.
#[derive(Debug)]
pub(super) struct Rate {
    per_minute: u32,
    /// For each worker the calls it had left, and when.
    left: Mutex<HashMap<String, (f64, Timestamp)>>,
}

impl Rate {
    pub(super) fn per_minute(calls: u32) -> Self {
        Self { per_minute: calls, left: Mutex::default() }
    }

    /// Takes one call.
    ///
    /// # Errors
    /// In words, when there is none left.
    pub(super) fn take(&self, worker: &str, now: Timestamp) -> Result<(), String> {
        let most = f64::from(self.per_minute);
        let mut all = lock(&self.left);
        let (left, at) = all.entry(worker.to_string()).or_insert((most, now));
        let grown = now.since(*at).as_millis() as f64 * most / MINUTE_MS;
        *left = (*left + grown).min(most);
        *at = now;
        if *left < 1.0 {
            return Err(format!(
                "it was called more than {} times a minute: try again later",
                self.per_minute
            ));
        }
        *left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_so_many_calls_a_minute_and_no_other_pays_for_it() {
        let rate = Rate::per_minute(3);
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        for _ in 0..3 {
            assert_eq!(rate.take("w", at(0)), Ok(()));
        }
        assert!(rate.take("w", at(0)).unwrap_err().contains("3 times a minute"));
        assert_eq!(rate.take("other", at(0)), Ok(()));
        assert!(rate.take("w", at(19)).is_err());
        assert_eq!(rate.take("w", at(20)), Ok(()));
        assert!(rate.take("w", at(10)).is_err(), "a clock that goes back gives nothing");
        assert!(rate.take("w", at(29)).is_err());
        for _ in 0..3 {
            assert_eq!(rate.take("w", at(3600)), Ok(()));
        }
        assert!(rate.take("w", at(3600)).is_err());
    }
}
