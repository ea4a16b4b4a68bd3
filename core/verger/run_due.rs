//! One run of an app that is otherwise closed: it does what is due, and ends.

use std::time::{Duration, Instant};

use super::Verger;
use crate::engine::AttemptReport;
use crate::error::Error;
use crate::schedule::Fired;
use crate::time::Timestamp;

/// What one run did.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct DueReport {
    /// The slots that were decided.
    pub fired: Vec<Fired>,
    /// The attempts that were made, in order.
    pub attempts: Vec<AttemptReport>,
    /// Jobs that were taken back from processes that are gone.
    pub rescued: usize,
    /// When there is something to do next. It is in the past when the time ran out first.
    pub next_wake_at: Option<Timestamp>,
}

impl Verger {
    /// Does what is due, and ends. It is for an app that the system's timer starts while it is
    /// closed, as with `yourapp --verger-tick`. It makes one pass after another until nothing is
    /// due, or this much time is over. A job that has begun is finished. Then this Verger is
    /// closed, and [`next_wake_at`](DueReport::next_wake_at) says when the next run is of use.
    ///
    /// It may share the file with the running app: each job is performed once, by one of the two.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let verger = verger::Verger::in_memory().open()?;
    /// let report = verger.run_due_and_exit(Duration::from_secs(600))?;
    /// if let Some(next) = report.next_wake_at {
    ///     println!("there is something to do at {next}");
    /// }
    /// # Ok::<(), verger::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read or written.
    pub fn run_due_and_exit(self, at_most: Duration) -> Result<DueReport, Error> {
        let begun = Instant::now();
        let mut all = DueReport::default();
        loop {
            let now = self.now();
            let report = self.tick(now)?;
            let is_idle = report.fired.is_empty()
                && report.attempts.is_empty()
                && report.rescued == 0
                && report.pruned == 0;
            all.fired.extend(report.fired);
            all.attempts.extend(report.attempts);
            all.rescued += report.rescued;
            all.next_wake_at = report.next_wake_at;
            let is_due = report.next_wake_at.is_some_and(|next| next <= self.now());
            // If a pass did nothing although something is due, the next pass would do nothing
            // either. A clock in doubt is one cause.
            if !is_due || is_idle || begun.elapsed() >= at_most {
                return Ok(all);
            }
        }
    }
}
