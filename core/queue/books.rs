//! What the engine and the façade ask of the queue. The SQL stands in the file of its noun.

use std::time::Duration;

use super::backoff::Backoff;
use super::bulk::{BulkVerb, Done, Spans};
use super::claim::{ClaimOrder, Claimed, DueQueue};
use super::edit::{Edited, JobEdit};
use super::filter::JobFilter;
use super::history::HistorySpan;
use super::insert::{Inserting, Ready};
use super::job::{Job, JobState};
use super::log::{AttemptLog, JobLog};
use super::new_job::Enqueued;
use super::operate::{Cancelled, Retried};
use super::prune::{Pruned, Retention};
use super::queues::QueueRow;
use super::rescue::{Lost, Rescued};
use super::search::JobSearch;
use super::set_aside::Stuck;
use super::transition::{Attempt, Moved, PerformedBy, Transition};
use super::waiting::{HasWorker, Kind};
use super::{
    bulk, claim, correction, edit, grouped, history, insert, log, operate, prune, queues, read,
    rescue, search, set_aside, transition,
};
use crate::event::EventKind;
use crate::ids::JobId;
use crate::store::{Books, StoreContext, StoreError};
use crate::time::Timestamp;

impl Books<'_> {
    /// Renews a lease that is still live, and keeps the progress.
    pub(crate) fn renew_lease(
        &self,
        id: JobId,
        token: i64,
        now: Timestamp,
        until: Timestamp,
        progress: Option<(u64, u64)>,
    ) -> Result<Option<bool>, StoreError> {
        transition::renew(self.connection(), id, token, now, until, progress)
            .doing("renew the lease of a job")
    }

    /// Records what becomes of the job, inside a write transaction.
    pub(crate) fn transition(
        &self,
        attempt: Attempt,
        now: Timestamp,
        to: &Transition,
        by: Option<&PerformedBy>,
    ) -> Result<Moved, StoreError> {
        transition::transition(self.connection(), attempt, now, to, by)
            .doing("record the end of an attempt")
    }

    /// Claims the first due jobs, of a queue or of all, whose workers are here, in a transaction of
    /// its own. If none is due, nobody is kept from writing.
    pub(crate) fn claim_due(
        &self,
        queue: Option<&str>,
        order: &ClaimOrder<'_>,
    ) -> Result<Vec<Claimed>, StoreError> {
        claim::claim_due(self.connection(), queue, order).doing("claim a job")
    }

    /// As [`claim_due`](Self::claim_due), inside the caller's write transaction.
    pub(crate) fn claim_now(
        &self,
        queue: Option<&str>,
        order: &ClaimOrder<'_>,
    ) -> Result<Vec<Claimed>, StoreError> {
        claim::claim_now(self.connection(), queue, order).doing("claim a job")
    }

    /// When the next waiting job is due that can be claimed here, if there is one.
    pub(crate) fn next_due_job(
        &self,
        has_worker: HasWorker<'_>,
    ) -> Result<Option<Timestamp>, StoreError> {
        claim::next_due(self.connection(), has_worker).doing("read what is due")
    }

    /// When the next waiting job of a queue is due that can be claimed here, if there is one and
    /// the queue is not paused.
    pub(crate) fn next_due_job_in(
        &self,
        queue: &str,
        has_worker: HasWorker<'_>,
    ) -> Result<Option<Timestamp>, StoreError> {
        claim::next_due_in(self.connection(), queue, has_worker).doing("read what is due")
    }

    /// The queues that are not paused and in which jobs wait that can be claimed here, by name.
    pub(crate) fn due_queues(
        &self,
        now: Timestamp,
        has_worker: HasWorker<'_>,
    ) -> Result<Vec<DueQueue>, StoreError> {
        claim::due_by_queue(self.connection(), now, has_worker).doing("read what is due")
    }

    /// The jobs with a time after this instant that only a wrong clock can have given them.
    pub(crate) fn misled_jobs(&self, after: Timestamp) -> Result<Vec<JobId>, StoreError> {
        correction::misled(self.connection(), after).doing("read the jobs")
    }

    /// Makes such a job wait from this instant for as long as it was to wait.
    pub(crate) fn bring_job_back(
        &self,
        id: JobId,
        since: Timestamp,
        after: Timestamp,
    ) -> Result<(), StoreError> {
        correction::bring_back(self.connection(), id, since, after).doing("bring jobs back")
    }

    /// A waiting job as it would be claimed.
    pub(crate) fn look_at_job(
        &self,
        id: JobId,
        now: Timestamp,
    ) -> Result<Option<Claimed>, StoreError> {
        grouped::look(self.connection(), id, now).doing("read a job")
    }

    /// The first due jobs of a queue, or of all, as they would be claimed now.
    pub(crate) fn next_in_line(
        &self,
        queue: Option<&str>,
        order: &ClaimOrder<'_>,
    ) -> Result<Vec<JobId>, StoreError> {
        grouped::next_in_line(self.connection(), queue, order).doing("read what is due")
    }

    /// When the next lease runs out.
    pub(crate) fn next_lease_expiry(&self) -> Result<Option<Timestamp>, StoreError> {
        rescue::next_expiry(self.connection()).doing("read the leases")
    }

    /// Takes jobs back, inside a write transaction.
    pub(crate) fn rescue_jobs(
        &self,
        lost: Lost<'_>,
        now: Timestamp,
        backoff: &dyn Fn(&str) -> Backoff,
    ) -> Result<Rescued, StoreError> {
        rescue::rescue(self.connection(), lost, now, backoff).doing("take lost jobs back")
    }

    /// The kinds of waiting jobs that nobody, or nobody here, can perform.
    pub(crate) fn stuck_jobs(&self, has_worker: HasWorker<'_>) -> Result<Stuck, StoreError> {
        set_aside::stuck(self.connection(), has_worker).doing("look for jobs that wait for nobody")
    }

    /// Sets aside waiting jobs whose queue or worker cannot be read, inside a write transaction.
    /// Returns the events to tell.
    pub(crate) fn set_kind_aside(
        &self,
        kind: &Kind,
        now: Timestamp,
    ) -> Result<Vec<EventKind>, StoreError> {
        set_aside::set_kind_aside(self.connection(), kind, now).doing("set unreadable jobs aside")
    }

    /// Deletes one batch of what is past its time, each kind in a transaction of its own.
    pub(crate) fn prune_jobs(
        &self,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<Pruned, StoreError> {
        prune::prune(self.connection(), retention, now).doing("prune finished jobs")
    }

    /// Keeps what a worker logged, inside the transaction that ends its attempt.
    pub(crate) fn keep_job_log(
        &self,
        attempt: (JobId, u32),
        now: Timestamp,
        log: &AttemptLog,
    ) -> Result<(), StoreError> {
        log::keep_log(self.connection(), attempt, now, log).doing("keep the log of a job")
    }

    /// One job.
    pub(crate) fn job(
        &self,
        id: JobId,
        has_worker: HasWorker<'_>,
    ) -> Result<Option<Job>, StoreError> {
        read::get(self.connection(), id, has_worker)
    }

    /// The newest jobs that match, newest first.
    pub(crate) fn jobs(
        &self,
        filter: &JobFilter,
        limit: u32,
        has_worker: HasWorker<'_>,
    ) -> Result<Vec<Job>, StoreError> {
        read::list(self.connection(), filter, limit, has_worker)
    }

    /// Cancels a job that waits, and asks one that is being performed to end.
    pub(crate) fn cancel_job(&self, id: JobId, now: Timestamp) -> Result<Cancelled, StoreError> {
        operate::cancel(self.connection(), id, now).doing("cancel the job")
    }

    /// Makes a job that failed or ended due now, with at least one attempt left.
    pub(crate) fn retry_job(&self, id: JobId, now: Timestamp) -> Result<Retried, StoreError> {
        operate::retry(self.connection(), id, now).doing("retry the job")
    }

    /// The history of `count` spans of this many milliseconds, the oldest first.
    pub(crate) fn job_history(
        &self,
        from: Timestamp,
        span: i64,
        count: u32,
    ) -> Result<Vec<HistorySpan>, StoreError> {
        history::history(self.connection(), from, span, count)
    }

    /// The newest jobs of a state: finished ones by when they ended, those being performed by when
    /// they began, waiting ones by their ids.
    pub(crate) fn latest_jobs(
        &self,
        state: JobState,
        limit: u32,
        has_worker: HasWorker<'_>,
    ) -> Result<Vec<Job>, StoreError> {
        history::latest(self.connection(), state, limit, has_worker)
    }

    /// The queues in which a job waits or is being performed, and those that were ever paused, by
    /// name.
    pub(crate) fn queues(&self) -> Result<Vec<QueueRow>, StoreError> {
        queues::queues(self.connection())
    }

    /// Pauses or resumes a queue, inside a write transaction. Returns the event to tell.
    pub(crate) fn pause_queue(
        &self,
        name: &str,
        paused: bool,
        now: Timestamp,
    ) -> Result<Option<EventKind>, StoreError> {
        queues::pause_queue(self.connection(), name, paused, now).doing("pause the queue")
    }

    /// The queues that are paused, by name.
    pub(crate) fn paused_queues(&self) -> Result<Vec<String>, StoreError> {
        queues::paused_queues(self.connection()).doing("read the queues")
    }

    /// How many jobs there are that fit.
    pub(crate) fn count_jobs(&self, filter: &JobFilter) -> Result<u64, StoreError> {
        bulk::count_jobs(self.connection(), filter).doing("count the jobs")
    }

    /// What was logged of a job, attempt by attempt.
    pub(crate) fn job_log(&self, job: JobId) -> Result<Vec<JobLog>, StoreError> {
        log::log_of(self.connection(), job)
    }

    /// Changes a job that waits, inside a write transaction.
    pub(crate) fn edit_job(
        &self,
        id: JobId,
        edit: &JobEdit,
        args: Option<(&str, u32)>,
        now: Timestamp,
    ) -> Result<Edited, StoreError> {
        edit::edit(self.connection(), id, edit, args, now).doing("edit the job")
    }

    /// Deletes a job that is not being performed, with its log.
    pub(crate) fn delete_job(&self, id: JobId, now: Timestamp) -> Result<bool, StoreError> {
        bulk::delete(self.connection(), id, now).doing("delete the job")
    }

    /// The next jobs after this one that a verb would change, oldest first.
    pub(crate) fn next_bulk_batch(
        &self,
        filter: &JobFilter,
        verb: BulkVerb,
        after_and_up_to: (i64, i64),
        most: usize,
    ) -> Result<Vec<JobId>, StoreError> {
        bulk::next_batch(self.connection(), filter, verb, after_and_up_to, most)
            .doing("find the jobs")
    }

    /// The spans of ids of the jobs that are there now, in which jobs can fit.
    pub(crate) fn bulk_spans(&self, filter: &JobFilter) -> Result<Spans, StoreError> {
        bulk::spans(self.connection(), filter).doing("find the jobs")
    }

    /// How many jobs of a span a verb would change.
    pub(crate) fn count_for_bulk_in(
        &self,
        filter: &JobFilter,
        verb: BulkVerb,
        span: (i64, i64),
    ) -> Result<u64, StoreError> {
        bulk::count_between(self.connection(), filter, verb, span).doing("find the jobs")
    }

    /// How many jobs a verb would change.
    pub(crate) fn count_for_bulk(
        &self,
        filter: &JobFilter,
        verb: BulkVerb,
    ) -> Result<u64, StoreError> {
        bulk::count_for(self.connection(), filter, verb).doing("find the jobs")
    }

    /// The newest job there is. Jobs that are enqueued while a verb works are not changed by it.
    pub(crate) fn newest_job_id(&self) -> Result<i64, StoreError> {
        bulk::newest_id(self.connection()).doing("find the jobs")
    }

    /// Applies a verb to one job, inside a write transaction.
    pub(crate) fn apply_bulk(
        &self,
        id: JobId,
        verb: BulkVerb,
        now: Timestamp,
    ) -> Result<Done, StoreError> {
        bulk::apply(self.connection(), id, verb, now).doing("change the jobs")
    }

    /// Inserts a job, inside the caller's transaction or as one of its own.
    pub(crate) fn insert_job(&self, job: &Ready, now: Timestamp) -> Result<Enqueued, StoreError> {
        insert::insert(self.connection(), job, now)
    }

    /// Prepares to insert many jobs, inside a write transaction.
    pub(crate) fn inserting(&self) -> Result<Inserting<'_>, StoreError> {
        Inserting::into(self.connection())
    }

    /// The newest jobs that fit, searched for as long as there is time.
    pub(crate) fn search_jobs(
        &self,
        filter: &JobFilter,
        limit: u32,
        time: Duration,
        has_worker: HasWorker<'_>,
    ) -> Result<JobSearch, StoreError> {
        search::search(self.connection(), filter, limit, time, has_worker)
    }
}
