//! What became of a job, and what an operator may do with it and with its queue.

use super::Verger;
use crate::error::Error;
use crate::event;
use crate::ids::JobId;
use crate::postgres::{cancel, jobs, queues};
use crate::queue::{Cancelled, Job, JobFilter, JobLog, Queue, QueueRow, Retried};
use crate::run::Interrupted;

impl Verger {
    /// One job.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn job(&self, id: JobId) -> Result<Option<Job>, Error> {
        let job = self.front(|session| jobs::get(session, id, &self.node.registry))?;
        Ok(job.map(|mut job| {
            if let Some((done, total)) = self.node.progress_of(id) {
                job.progress_done = i64::try_from(done).ok();
                job.progress_total = i64::try_from(total).ok();
            }
            job
        }))
    }

    /// The newest jobs that match, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn jobs(&self, filter: &JobFilter, limit: u32) -> Result<Vec<Job>, Error> {
        Ok(self.front(|session| jobs::list(session, filter, limit, &self.node.registry))?)
    }

    /// How many jobs match.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn count_jobs(&self, filter: &JobFilter) -> Result<u64, Error> {
        Ok(self.front(|session| jobs::count_of(session, filter))?)
    }

    /// What the workers of a job logged, attempt by attempt.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn job_log(&self, job: JobId) -> Result<Vec<JobLog>, Error> {
        Ok(self.front(|session| jobs::log(session, job))?)
    }

    /// Cancels a job that waits, and asks one that is being performed to end: on this node at once,
    /// on another within a second. False when there is none, or it had ended.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn cancel(&self, job: JobId) -> Result<bool, Error> {
        let now = self.now();
        let cancelled = self.front(|session| {
            let cancelled = cancel::cancel(session, job, now)?;
            if cancelled == Cancelled::Asked {
                self.node.interrupt(Some(&[job]), Interrupted::Cancelled);
                self.node.notify(session);
            }
            Ok(cancelled)
        })?;
        if let Cancelled::AtOnce(event) = &cancelled {
            event::say(event);
        }
        Ok(cancelled != Cancelled::Nothing)
    }

    /// Makes a job that failed or ended due now, with at least one attempt left. False when it
    /// waits already, is being performed, or is not there.
    ///
    /// # Errors
    /// [`Error::NotUnique`] when another job like it is there; [`Error::Store`] when the database
    /// cannot be written.
    pub fn retry(&self, job: JobId) -> Result<bool, Error> {
        let now = self.now();
        let retried = self.front(|session| {
            let retried = cancel::retry(session, job, now)?;
            self.node.notify(session);
            Ok(retried)
        })?;
        match retried {
            Retried::DueNow(_) => Ok(true),
            Retried::StandsFor(other) => Err(Error::NotUnique { job, other }),
            Retried::Nothing => Ok(false),
        }
    }

    /// The queues in which a job waits or is being performed, and those that were ever paused, by
    /// name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn queues(&self) -> Result<Vec<QueueRow>, Error> {
        Ok(self.front(queues::list)?)
    }

    /// Changes the settings of a queue in this process.
    ///
    /// # Errors
    /// [`Error::Queue`] for settings out of bounds.
    pub fn set_queue(&self, queue: Queue) -> Result<(), Error> {
        queue.check()?;
        self.node.settings.queues.set(queue);
        self.node.pool.work_is_there();
        Ok(())
    }

    /// Pauses a queue for all nodes. What is being performed goes on.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn pause_queue(&self, name: &str) -> Result<(), Error> {
        self.set_paused(name, true)
    }

    /// Resumes a queue.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn resume_queue(&self, name: &str) -> Result<(), Error> {
        self.set_paused(name, false)
    }

    fn set_paused(&self, name: &str, paused: bool) -> Result<(), Error> {
        let now = self.now();
        let event = self.front(|session| {
            let event = queues::pause(session, name, paused, now)?;
            self.node.notify(session);
            Ok(event)
        })?;
        if let Some(event) = event {
            event::say(&event);
        }
        Ok(())
    }
}
