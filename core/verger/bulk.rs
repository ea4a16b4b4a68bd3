//! Many jobs at once, chosen by a filter. And one job, edited or deleted.

use std::time::{Duration, Instant};

use serde_json::json;
use verger_worker::AuditEvent;

use super::Verger;
use crate::audit::Stamp;
use crate::error::Error;
use crate::event;
use crate::queue::{
    self, BulkMode, BulkPart, BulkReport, BulkVerb, Done, Edited, JobEdit, JobFilter, JobId, JobLog,
};
use crate::text::beginning;
use crate::time::Timestamp;

/// The most bytes of a filter that the audit log repeats.
const FILTER_MAX_BYTES: usize = 2 << 10;

/// Jobs that one transaction changes when somebody waits for the answer.
const PART: usize = 100;

/// Whether a verb can be done at all.
fn check(verb: BulkVerb) -> Result<(), Error> {
    let reason = match verb {
        BulkVerb::Reschedule(at) if !queue::is_due_time(at) => {
            "they would be due after the year 9999, the last a time can name"
        }
        BulkVerb::SetPriority(priority) if !queue::is_priority(priority) => {
            "the priority must be from 0, first, to 9, last"
        }
        _ => return Ok(()),
    };
    Err(Error::Invalid { reason: reason.into() })
}

impl Verger {
    /// How many jobs fit a filter. Conditions that no index serves are checked row by row, which
    /// takes about 0.3 s for a million jobs.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn count_jobs(&self, filter: &JobFilter) -> Result<u64, Error> {
        Ok(self.inner.reader().books().count_jobs(filter)?)
    }

    /// What the worker of a job logged, attempt by attempt: the last 64 KiB of each, committed or
    /// not. The log is deleted with its job.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn job_log(&self, job: JobId) -> Result<Vec<JobLog>, Error> {
        Ok(self.inner.reader().books().job_log(job)?)
    }

    /// Makes all jobs that fit due now, if they failed, were cancelled or are completed. Each is
    /// retried as [`retry`](Self::retry) does it.
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
        self.bulk(filter, BulkVerb::Retry, mode)
    }

    /// Cancels all unfinished jobs that fit, as [`cancel`](Self::cancel) does one: those that are
    /// being performed are told to stop.
    ///
    /// # Errors
    /// As [`retry_all`](Self::retry_all).
    pub fn cancel_all(&self, filter: &JobFilter, mode: BulkMode) -> Result<BulkReport, Error> {
        self.bulk(filter, BulkVerb::Cancel, mode)
    }

    /// Deletes all jobs that fit and are not being performed, as [`delete`](Self::delete) does one.
    ///
    /// # Errors
    /// As [`retry_all`](Self::retry_all).
    pub fn delete_all(&self, filter: &JobFilter, mode: BulkMode) -> Result<BulkReport, Error> {
        self.bulk(filter, BulkVerb::Delete, mode)
    }

    /// Makes all waiting jobs that fit due at this instant. An instant in the past means now.
    ///
    /// # Errors
    /// As [`retry_all`](Self::retry_all); [`Error::Invalid`] for an instant after the year 9999.
    pub fn reschedule_all(
        &self,
        filter: &JobFilter,
        at: impl Into<Timestamp>,
        mode: BulkMode,
    ) -> Result<BulkReport, Error> {
        self.bulk(filter, BulkVerb::Reschedule(at.into()), mode)
    }

    /// Gives all waiting jobs that fit this priority, from 0 (first) to 9 (last).
    ///
    /// # Errors
    /// As [`retry_all`](Self::retry_all); [`Error::Invalid`] for another priority.
    pub fn set_priority_all(
        &self,
        filter: &JobFilter,
        priority: u8,
        mode: BulkMode,
    ) -> Result<BulkReport, Error> {
        self.bulk(filter, BulkVerb::SetPriority(priority), mode)
    }

    /// Does what these do, for about as long as `time` says. It is for callers that must answer
    /// soon and go on later, as a request does. It looks through one span of ids at least, and
    /// works in transactions of 100 jobs. It ends between two of them once the time is over, so it
    /// takes somewhat longer.
    ///
    /// ```
    /// use std::time::Duration;
    /// use verger::{BulkMode, BulkVerb, JobFilter, JobState, Verger};
    /// let verger = Verger::in_memory().open()?;
    /// let mut failed = JobFilter::new().state(JobState::Discarded);
    /// loop {
    ///     let time = Duration::from_millis(40);
    ///     let part = verger.change_some(&failed, BulkVerb::Retry, BulkMode::Apply, time)?;
    ///     println!("{} more", part.report.changed);
    ///     let Some(job) = part.go_on_after else { break };
    ///     failed = failed.after(job);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As the verb itself. What is done stays done.
    pub fn change_some(
        &self,
        filter: &JobFilter,
        verb: BulkVerb,
        mode: BulkMode,
        time: Duration,
    ) -> Result<BulkPart, Error> {
        check(verb)?;
        let begun = Instant::now();
        let mut part = BulkPart::default();
        let mut spans = self.inner.reader().books().bulk_spans(filter)?;
        while let Some((first, last)) = spans.next() {
            let looked_at = Instant::now();
            let range = (first.saturating_sub(1), last);
            let jobs = self.inner.reader().books().next_bulk_batch(filter, verb, range, PART)?;
            let mut reached = last;
            if mode == BulkMode::DryRun {
                let before = part.report.changed;
                jobs.iter().for_each(|job| part.report.changed(*job));
                let found =
                    self.inner.reader().books().count_for_bulk_in(filter, verb, (first, last))?;
                part.report.changed = before.saturating_add(found);
            } else if let Some(job) = jobs.last() {
                if jobs.len() == PART {
                    reached = job.number();
                }
                self.change(filter, verb, &jobs, &mut part.report)?;
            }
            spans.done_to(reached, looked_at.elapsed());
            if begun.elapsed() >= time && spans.next().is_some() {
                part.go_on_after = Some(JobId::from_number(reached));
                break;
            }
        }
        if mode == BulkMode::Apply {
            self.inner.notifier.ring();
        }
        Ok(part)
    }

    /// Changes the args, time, priority, queue or tags of a job that waits. False when there is no
    /// such job. New args are checked as they are when a job is enqueued. If the job's worker is
    /// not here, only what holds for every job is checked. The audit log has a row of it.
    ///
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
                let ready = match self.inner.registry.registered(&row.worker) {
                    Ok(_) => self.inner.registry.ready(new)?,
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

    /// Deletes a job and its log, unless it is being performed. False when it is being performed,
    /// or is not there. The newest job of the file is emptied and cancelled instead, because its id
    /// must not be given again. Retention deletes it later. The audit log has a row of it.
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

    fn bulk(
        &self,
        filter: &JobFilter,
        verb: BulkVerb,
        mode: BulkMode,
    ) -> Result<BulkReport, Error> {
        check(verb)?;
        let mut report = BulkReport::default();
        if mode == BulkMode::DryRun {
            let front = self.inner.reader();
            let all = (i64::MIN, i64::MAX);
            let first = front.books().next_bulk_batch(filter, verb, all, queue::BULK_BATCH)?;
            first.into_iter().for_each(|job| report.changed(job));
            report.changed = front.books().count_for_bulk(filter, verb)?;
            return Ok(report);
        }
        let newest = self.inner.reader().books().newest_job_id()?;
        let mut after = i64::MIN;
        loop {
            let range = (after, newest);
            let books = self.inner.reader();
            let jobs = books.books().next_bulk_batch(filter, verb, range, queue::BULK_BATCH)?;
            drop(books);
            let Some(last) = jobs.last() else { break };
            after = last.number();
            self.change(filter, verb, &jobs, &mut report)?;
        }
        self.inner.notifier.ring();
        Ok(report)
    }

    /// Changes one batch of jobs, all or none, with its row in the audit log.
    fn change(
        &self,
        filter: &JobFilter,
        verb: BulkVerb,
        jobs: &[JobId],
        report: &mut BulkReport,
    ) -> Result<(), Error> {
        if verb == BulkVerb::Cancel {
            // Tell them before the write: one of them may hold the write lock until it ends.
            for job in jobs {
                self.inner.tell_to_stop(*job);
            }
        }
        let now = self.inner.clock.now();
        let done = self.inner.write("change the jobs", |books| {
            let mut done = Vec::with_capacity(jobs.len());
            for job in jobs {
                done.push(match books.apply_bulk(*job, verb, now) {
                    // A row that cannot be changed does not stop the others.
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
