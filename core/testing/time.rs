//! What happens to clocks on people's machines.

use std::time::Duration;

use super::TestVerger;
use crate::clock::Clock;
use crate::engine::TickReport;

impl TestVerger {
    /// The laptop sleeps for this long: the clock jumps, and nothing is done meanwhile. Then it
    /// wakes and does what is due. Returns the report of that.
    ///
    /// ```
    /// use std::time::Duration;
    /// use serde_json::json;
    /// use verger::testing::TestVerger;
    /// use verger::{FireOutcome, Schedule};
    ///
    /// let sweep = Schedule::every("memberships", Duration::from_secs(300))?
    ///     .worker("reconcile-memberships")
    ///     .args(json!({"organization_id": null, "actor_id": null}));
    /// let test = TestVerger::with(|builder| builder.schedule(sweep)).reference_tables();
    /// let woken = test.sleep_laptop(Duration::from_secs(3_600));
    /// assert!(matches!(woken.fired[0].outcome, FireOutcome::Coalesced(_, 11)), "one job for twelve slots");
    /// # Ok::<(), verger::ScheduleError>(())
    /// ```
    ///
    /// # Panics
    /// As [`drain`](Self::drain).
    #[track_caller]
    pub fn sleep_laptop(&self, time: Duration) -> TickReport {
        self.clock().advance(time);
        self.drain()
    }

    /// Someone, or a time server, sets the clock back by this much. Then what is due is done.
    /// Returns the report of that.
    ///
    /// # Panics
    /// As [`drain`](Self::drain).
    #[track_caller]
    pub fn set_clock_back(&self, by: Duration) -> TickReport {
        self.clock().set(self.clock().now() - by);
        self.drain()
    }
}
