//! What became of jobs over time.

use std::time::Duration;

use super::Verger;
use crate::error::Error;
use crate::queue::{HistorySpan, Job, JobState};
use crate::time::Timestamp;

impl Verger {
    /// How many jobs came to which end, and how long they waited and took, in each of `count` spans
    /// of time from this instant on, oldest first. It is meant for a chart. At most 1,000 spans,
    /// each a millisecond at least.
    ///
    /// ```
    /// # let verger = verger::Verger::in_memory().open()?;
    /// let hour = std::time::Duration::from_secs(3_600);
    /// let today = verger.history(verger.now() - hour * 24, hour, 24)?;
    /// assert_eq!(today.len(), 24);
    /// # Ok::<(), verger::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn history(
        &self,
        from: impl Into<Timestamp>,
        span: Duration,
        count: u32,
    ) -> Result<Vec<HistorySpan>, Error> {
        let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX).max(1);
        Ok(self.inner.reader().books().job_history(from.into(), span, count.min(1_000))?)
    }

    /// The newest jobs of a state, at most `limit`: finished jobs by when they ended, jobs being
    /// performed by when they began, and waiting ones by their ids. It takes some milliseconds
    /// however many jobs there are. Where more than 2,000 jobs wait, it looks for waiting ones only
    /// among the newest 100,000 of all jobs.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn latest_jobs(&self, state: JobState, limit: u32) -> Result<Vec<Job>, Error> {
        Ok(self.inner.reader().books().latest_jobs(state, limit, &self.inner.has_worker())?)
    }
}
