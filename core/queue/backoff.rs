//! How long to wait before a failed job is tried again.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::ids::JobId;

/// Exponential backoff: `base × 2^(attempt − 1)`, at most `max`, shifted by up to a tenth either
/// way.
///
/// The shift is computed from the job and the attempt, so that jobs that failed together do not
/// come back together, and a run can be repeated exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failed attempt. Default 15 s.
    pub base: Duration,
    /// The longest wait. Default 6 hours.
    pub max: Duration,
}

/// The longest wait, whatever is asked for: 10,000 years, which always reaches the end of the year
/// 9999.
const LONGEST: Duration = Duration::from_secs(10_000 * 366 * 86_400);

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(15), max: Duration::from_secs(6 * 3600) }
    }
}

impl Backoff {
    /// The wait after this attempt, from 1, of this job.
    #[must_use]
    pub fn after(&self, job: JobId, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        let wait = self.base.saturating_mul(1 << doublings).min(self.max).min(LONGEST);
        let mut sha = Sha256::new();
        sha.update(job.0.to_be_bytes());
        sha.update(attempt.to_be_bytes());
        // A fifth of the wait in 256 steps, from a tenth below to a tenth above.
        let step = u32::from(sha.finalize()[0]);
        (wait - wait / 10) + wait / 5 * step / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_clamp_within_a_tenth() {
        let backoff = Backoff::default();
        for (attempt, seconds) in
            [(1, 15), (2, 30), (3, 60), (10, 7_680), (12, 21_600), (u32::MAX, 21_600)]
        {
            let wait = backoff.after(JobId(7), attempt).as_millis();
            assert!(
                (seconds * 900..=seconds * 1_100).contains(&wait),
                "attempt {attempt}: {wait} ms"
            );
        }
    }

    #[test]
    fn jobs_that_failed_together_do_not_come_back_together() {
        let waits: std::collections::HashSet<_> =
            (1..20).map(|id| Backoff::default().after(JobId(id), 1)).collect();
        assert!(waits.len() > 10);
        assert_eq!(Backoff::default().after(JobId(1), 1), Backoff::default().after(JobId(1), 1));
    }
}
