//! What became of a job, and what an operator may do with it.

use std::time::Duration;

use super::Verger;
use crate::error::Error;
use crate::event;
use crate::queue::{Cancelled, Job, JobFilter, JobId, JobSearch, JobState, Retried};

impl Verger {
    /// One job.
    ///
    /// ```
    /// use verger::{JobState, NewJob};
    ///
    /// let verger = verger::testing::example();
    /// let id = verger.enqueue(NewJob::new("send-mail", serde_json::json!({"to": "ann@example.org"})))?.id;
    /// assert_eq!(verger.job(id)?.unwrap().state, JobState::Available);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn job(&self, id: JobId) -> Result<Option<Job>, Error> {
        let job = self.inner.reader().books().job(id, &self.inner.has_worker())?;
        Ok(job.map(|job| self.with_progress(job)))
    }

    /// The newest jobs that match, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn jobs(&self, filter: &JobFilter, limit: u32) -> Result<Vec<Job>, Error> {
        let jobs = self.inner.reader().books().jobs(filter, limit, &self.inner.has_worker())?;
        Ok(jobs.into_iter().map(|job| self.with_progress(job)).collect())
    }

    /// The newest jobs that match, newest first, at most `limit`, searched for no longer than about
    /// `time`. [`jobs`](Self::jobs) goes through all there are, which takes seconds where a million
    /// do not match. This stops, and says before which job to go on.
    ///
    /// ```
    /// # let verger = verger::Verger::in_memory().open()?;
    /// use std::time::Duration;
    /// use verger::JobFilter;
    ///
    /// let filter = JobFilter::new().text_contains("invoice 4711");
    /// let found = verger.search_jobs(&filter, 50, Duration::from_millis(50))?;
    /// if let Some(job) = found.go_on_before {
    ///     let further = verger.search_jobs(&filter.before(job), 50, Duration::from_millis(50))?;
    /// }
    /// # Ok::<(), verger::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn search_jobs(
        &self,
        filter: &JobFilter,
        limit: u32,
        time: Duration,
    ) -> Result<JobSearch, Error> {
        let has_worker = self.inner.has_worker();
        let mut found =
            self.inner.reader().books().search_jobs(filter, limit, time, &has_worker)?;
        found.jobs = found.jobs.into_iter().map(|job| self.with_progress(job)).collect();
        Ok(found)
    }

    /// For a job that this process performs, the progress is as it is now. The row has only the
    /// progress of the last commit.
    fn with_progress(&self, mut job: Job) -> Job {
        if job.state == JobState::Executing
            && let Some((done, total)) = self.inner.progress_of(job.id)
        {
            let number = |number: u64| Some(i64::try_from(number).unwrap_or(i64::MAX));
            (job.progress_done, job.progress_total) = (number(done), number(total));
        }
        job
    }

    /// Cancels a job. One that waits is cancelled at once. One that is being performed is told to
    /// stop: in this process at once, in another process at its next checkpoint. If the attempt
    /// ends first and does not complete the job, the job is cancelled. False when there is no such
    /// job, or it has ended.
    ///
    /// ```
    /// use verger::{JobState, NewJob};
    ///
    /// let verger = verger::testing::example();
    /// let id = verger.enqueue(NewJob::new("send-mail", serde_json::json!({"to": "ann@example.org"})))?.id;
    /// assert!(verger.cancel(id)?);
    /// assert_eq!(verger.job(id)?.unwrap().state, JobState::Cancelled);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn cancel(&self, job: JobId) -> Result<bool, Error> {
        // Tell it before the write: the job may hold the write lock until it ends.
        let told = self.inner.tell_to_stop(job);
        let now = self.inner.clock.now();
        let cancelled = self.inner.write("cancel the job", |books| books.cancel_job(job, now))?;
        match &cancelled {
            Cancelled::AtOnce(event) => event::say(event),
            Cancelled::Asked => {
                self.inner.tell_to_stop(job);
            }
            Cancelled::Nothing => {}
        }
        Ok(told || cancelled != Cancelled::Nothing)
    }

    /// Makes a job due now that failed, was cancelled or is completed, with at least one attempt
    /// left. False when it waits already, is being performed, or is not there.
    ///
    /// ```
    /// use verger::NewJob;
    ///
    /// let verger = verger::testing::example();
    /// let id = verger.enqueue(NewJob::new("send-mail", serde_json::json!({"to": "ann@example.org"})))?.id;
    /// verger.cancel(id)?;
    /// assert!(verger.retry(id)?); // it is due again
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`Error::NotUnique`] when the job is unique and another like it is unfinished, or keeps its
    /// period. Nothing is changed then. [`Error::Store`] when the database cannot be written.
    pub fn retry(&self, job: JobId) -> Result<bool, Error> {
        let now = self.inner.clock.now();
        let retried = self.inner.write("retry the job", |books| books.retry_job(job, now))?;
        match retried {
            Retried::StandsFor(other) => Err(Error::NotUnique { job, other }),
            Retried::DueNow(event) => {
                self.inner.notifier.ring();
                self.inner.tell(now, event);
                Ok(true)
            }
            Retried::Nothing => Ok(false),
        }
    }
}
