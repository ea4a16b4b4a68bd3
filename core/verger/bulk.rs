//! Many jobs at once: those that a filter means. And one job, edited or deleted.

use serde_json::json;
use verger_worker::AuditEvent;

use super::Verger;
use crate::audit::Stamp;
use crate::error::Error;
use crate::event;
use crate::queue::{
    self, BulkMode, BulkReport, Done, Edited, JobEdit, JobFilter, JobId, JobLog, Verb,
};
use crate::text::beginning;
use crate::time::Timestamp;

/// The most bytes of a filter that the audit log repeats.
const FILTER_MAX_BYTES: usize = 2 << 10;

impl Verger {
    /// How many jobs fit a filter. What the filter bounds by no index is counted row by row: about
    /// 0.3 s for a million jobs.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn count_jobs(&self, filter: &JobFilter) -> Result<u64, Error> {
        Ok(self.inner.reader().books().count_jobs(filter)?)
    }

    /// What the worker of a job logged, attempt by attempt: of each the last 64 KiB, committed or
    /// not. It goes with the job.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn job_log(&self, job: JobId) -> Result<Vec<JobLog>, Error> {
        Ok(self.inner.reader().books().job_log(job)?)
    }

    /// Makes all jobs that fit, and that failed, were cancelled or are completed, due now, as
    /// [`retry`](Self::retry) does one.
    ///
    /// Like all verbs on many jobs, it works in transactions of 400 jobs, oldest first, so that
    /// nobody waits for long. Jobs that are enqueued meanwhile are not changed. A job that cannot
    /// be changed does not stop the others. Each transaction has a row in the audit log that names
    /// its jobs. What is done stays done when a later transaction fails.
    ///
    /// ```
    /// use verger::{BulkMode, JobFilter, JobState, Verger};
    /// let verger = Verger::in_memory().open()?;
    /// let failed = JobFilter::new().state(JobState::Discarded).worker("send-report");
    /// let would = verger.retry_all(&failed, BulkMode::DryRun)?;
    /// if would.changed < 1_000 {
    ///     verger.retry_all(&failed, BulkMode::Apply)?;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read or written.
    pub fn retry_all(&self, filter: &JobFilter, mode: BulkMode) -> Result<BulkReport, Error> {
        self.bulk(filter, Verb::Retry, mode)
    }

    /// Cancels all unfinished jobs that fit, as [`cancel`](Self::cancel) does one: those that are
    /// being performed are told to stop.
    ///
    /// # Errors
    /// As [`retry_all`](Self::retry_all).
    pub fn cancel_all(&self, filter: &JobFilter, mode: BulkMode) -> Result<BulkReport, Error> {
        self.bulk(filter, Verb::Cancel, mode)
    }

    /// Deletes all jobs that fit and are not being performed, as [`delete`](Self::delete) does one.
    ///
    /// # Errors
    /// As [`retry_all`](Self::retry_all).
    pub fn delete_all(&self, filter: &JobFilter, mode: BulkMode) -> Result<BulkReport, Error> {
        self.bulk(filter, Verb::Delete, mode)
    }

    /// Has all waiting jobs that fit be due at this instant; one in the past is now.
    ///
    /// # Errors
    /// As [`retry_all`](Self::retry_all); [`Error::Invalid`] for an instant after the year 9999.
    pub fn reschedule_all(
        &self,
        filter: &JobFilter,
        at: impl Into<Timestamp>,
        mode: BulkMode,
    ) -> Result<BulkReport, Error> {
        let at = at.into();
        if !queue::is_due_time(at) {
            return Err(Error::Invalid {
                reason: "they would be due after the year 9999, the last a time can name".into(),
            });
        }
        self.bulk(filter, Verb::Reschedule(at), mode)
    }

    /// Gives all waiting jobs that fit this priority, from 0, first, to 9, last.
    ///
    /// # Errors
    /// As [`retry_all`](Self::retry_all); [`Error::Invalid`] for another priority.
    pub fn set_priority_all(
        &self,
        filter: &JobFilter,
        priority: u8,
        mode: BulkMode,
    ) -> Result<BulkReport, Error> {
        if !queue::is_priority(priority) {
            return Err(Error::Invalid {
                reason: "the priority must be from 0, first, to 9, last".into(),
            });
        }
        self.bulk(filter, Verb::SetPriority(priority), mode)
    }

    /// Changes a job that waits: its args, its time, its priority, its queue, its tags. False when
    /// there is no such job. New args are checked as when it was enqueued; of a worker that is not
    /// here only what every job has to keep. The audit log has a row of it.
    ///
    /// # Errors
    /// [`Error::NotEdited`] when the job does not wait, when it is unique and its args or its queue
    /// were to change, or when something is out of bounds; [`Error::Enqueue`] for args that its
    /// worker refuses; [`Error::Store`] when the database cannot be written. Nothing is changed
    /// then.
    pub fn edit(&self, job: JobId, edit: &JobEdit) -> Result<bool, Error> {
        let args = match &edit.args {
            None => None,
            Some(args) => {
                let Some(row) = self.job(job)? else { return Ok(false) };
                let new = queue::NewJob::new(&row.worker, args.clone());
                let ready = match self.inner.registered(&row.worker) {
                    Ok(_) => self.inner.ready(new)?,
                    Err(_) => queue::Ready::unchecked(new)?,
                };
                Some(ready.into_args())
            }
        };
        let now = self.inner.clock.now();
        let edited = self.inner.write("edit the job", |books| {
            let args = args.as_ref().map(|(text, version)| (text.as_str(), *version));
            let edited = books.edit_job(job, edit, args, now)?;
            if matches!(edited, Edited::Changed(_)) {
                let changes = json!({
                    "args": args.is_some(), "due_at": edit.due_at, "priority": edit.priority,
                    "queue": edit.queue, "tags": edit.tags,
                });
                let event = AuditEvent::success("job.edited").subject("job", job.to_string());
                books.append_audit(now, &Stamp::default(), &event.after(changes))?;
            }
            Ok(edited)
        })?;
        match edited {
            Edited::Nothing => Ok(false),
            Edited::Refused(reason) => Err(Error::NotEdited { job, reason }),
            Edited::Changed(event) => {
                self.inner.notifier.ring();
                if let Some(event) = event {
                    self.inner.tell(now, event);
                }
                Ok(true)
            }
        }
    }

    /// Deletes a job, with its log, unless it is being performed. False when it is, or is not
    /// there. The newest job of the file is emptied and cancelled instead, for its id must not be
    /// given again; retention takes it out later. The audit log has a row of it.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn delete(&self, job: JobId) -> Result<bool, Error> {
        let now = self.inner.clock.now();
        Ok(self.inner.write("delete the job", |books| {
            let deleted = books.delete_job(job, now)?;
            if deleted {
                let event = AuditEvent::success("job.deleted").subject("job", job.to_string());
                books.append_audit(now, &Stamp::default(), &event)?;
            }
            Ok(deleted)
        })?)
    }

    fn bulk(&self, filter: &JobFilter, verb: Verb, mode: BulkMode) -> Result<BulkReport, Error> {
        let mut report = BulkReport::default();
        if mode == BulkMode::DryRun {
            let front = self.inner.reader();
            let first = front.books().next_bulk_batch(filter, verb, i64::MIN, i64::MAX)?;
            first.into_iter().for_each(|job| report.changed(job));
            report.changed = front.books().count_for_bulk(filter, verb)?;
            return Ok(report);
        }
        let newest = self.inner.reader().books().newest_job_id()?;
        let mut after = i64::MIN;
        loop {
            let jobs = self.inner.reader().books().next_bulk_batch(filter, verb, after, newest);
            let jobs = jobs?;
            let Some(last) = jobs.last() else { break };
            after = last.number();
            self.change(filter, verb, &jobs, &mut report)?;
        }
        self.inner.notifier.ring();
        Ok(report)
    }

    /// One batch: all of it commits, with its row in the audit log.
    fn change(
        &self,
        filter: &JobFilter,
        verb: Verb,
        jobs: &[JobId],
        report: &mut BulkReport,
    ) -> Result<(), Error> {
        if verb == Verb::Cancel {
            // Told before it is written: one of them may hold the write lock until it ends.
            for job in jobs {
                self.inner.tell_to_stop(*job);
            }
        }
        let now = self.inner.clock.now();
        let done = self.inner.write("change the jobs", |books| {
            let mut done = Vec::with_capacity(jobs.len());
            for job in jobs {
                done.push(match books.apply_bulk(*job, verb, now) {
                    // A row that resists keeps no other from its turn.
                    Err(error) if error.is_of_the_row() && books.is_in_transaction() => {
                        Done::Skipped(error.to_string())
                    }
                    applied => applied?,
                });
            }
            let changed: Vec<_> = jobs
                .iter()
                .zip(&done)
                .filter(|(_, done)| !matches!(done, Done::Skipped(_)))
                .map(|(job, _)| job)
                .collect();
            if !changed.is_empty() {
                let text = filter.to_string();
                let event = AuditEvent::success(verb.action())
                    .after(json!({ "jobs": changed }))
                    .metadata(json!({
                        "filter": beginning(&text, FILTER_MAX_BYTES), "count": changed.len(),
                    }));
                books.append_audit(now, &Stamp::default(), &event)?;
            }
            Ok(done)
        })?;
        for (job, done) in jobs.iter().zip(done) {
            match done {
                Done::Changed(event) => {
                    report.changed(*job);
                    match event {
                        Some(event) if event.is_kept() => event::say(&event),
                        Some(event) => self.inner.tell(now, event),
                        None => {}
                    }
                }
                Done::Asked => {
                    self.inner.tell_to_stop(*job);
                    report.changed(*job);
                }
                Done::Skipped(reason) => report.skipped(*job, reason),
            }
        }
        Ok(())
    }
}
