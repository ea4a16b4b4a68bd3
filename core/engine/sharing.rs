//! Short jobs that share a transaction, from the claim of the first to the commit of all.

use std::sync::Arc;
use std::vec;

use super::attempt::{Preparation, attempt, attempt_prepared, prepare, worker_of};
use super::executor::Executor;
use super::habits::GroupCommit;
use super::observe;
use super::report::AttemptReport;
use super::shared::Engine;
use crate::clock::Clock;
use crate::failpoint::Failpoint;
use crate::queue::{ClaimOrder, Claimed, JobId, Lease, Unclaimed};
use crate::run::{Group, LEASE_MARGIN, Pace, Seat};
use crate::store::StoreError;
use crate::time::Timestamp;

/// Jobs that one group has at most.
const JOBS_MAX: usize = 256;

/// Jobs that are looked up at once.
const LOOKED_UP: usize = 32;

/// Whether a claimed job may be the first of a group. If the process dies, its attempt counts as
/// crashed, whichever job of the group was at fault. So it must not be the job's last attempt.
pub(super) fn may_begin(inner: &Engine, claimed: &Claimed) -> bool {
    claimed.attempt < claimed.max_attempts
        && inner.habits.may_share(&claimed.worker, inner.settings.group_commit)
}

/// Performs a claimed job, and those behind it that are short.
pub(super) fn perform_group(
    inner: &Engine,
    executor: &mut Executor,
    clock: &Arc<dyn Clock>,
    first: Claimed,
    lease: &Lease,
    queue: Option<&str>,
) -> Result<Vec<AttemptReport>, StoreError> {
    let pace = match inner.settings.group_commit {
        GroupCommit::Always => Pace::PATIENT,
        GroupCommit::On | GroupCommit::Off => Pace::BRISK,
    };
    let group = Group::new(&inner.services, pace);
    let seat = Seat::First(Arc::clone(&group));
    let mut reports = vec![observe::in_span(&observe::span(&first), || {
        attempt(inner, executor, clock, first.clone(), lease.until, seat)
    })?];
    let mut line = Line { queue, jobs: Vec::new().into_iter(), read_at: None };
    while reports.len() < JOBS_MAX && group.has_time() {
        if group.take_written() {
            // Its triggers may have enqueued something, or changed what was found.
            line.read_at = None;
        }
        let Some((claimed, preparation)) = line.next(inner, executor, clock) else { break };
        let now = clock.now();
        let time = preparation.time() + LEASE_MARGIN;
        let unclaimed = Unclaimed {
            attempt: (claimed.id, claimed.token, claimed.attempt),
            lease: Lease {
                holder: lease.holder.clone(),
                until: now + inner.services.lease.max(time),
            },
            at: now,
        };
        let seat = Seat::Member(Arc::clone(&group), unclaimed);
        Failpoint::Claimed.reached();
        observe::started(inner, now, &claimed);
        reports.push(observe::in_span(&observe::span(&claimed), || {
            attempt_prepared(inner, executor, clock, claimed, preparation, None, seat)
        })?);
    }
    executor.commit(&group)?;
    if group.is_lost() {
        // Performing each job by itself shows which one was at fault. Only the first is claimed.
        tracing::warn!("jobs that shared a transaction are performed again, one by one");
        inner.habits.expect_trouble();
        return Ok(vec![attempt(inner, executor, clock, first, lease.until, Seat::Alone)?]);
    }
    Ok(reports)
}

/// The jobs that come next. They stay known, because nobody else can write meanwhile.
struct Line<'a> {
    queue: Option<&'a str>,
    jobs: vec::IntoIter<JobId>,
    /// The clock's reading at which they were found. At a later one other jobs may be due.
    read_at: Option<Timestamp>,
}

impl Line<'_> {
    /// The next job, if it may share the transaction. If something is in its way, the next claim
    /// meets that too, and reports it.
    fn next(
        &mut self,
        inner: &Engine,
        executor: &mut Executor,
        clock: &Arc<dyn Clock>,
    ) -> Option<(Claimed, Preparation)> {
        let now = clock.now();
        let claimed = executor
            .in_transaction(|books| {
                if self.read_at != Some(now) || self.jobs.len() == 0 {
                    let order = ClaimOrder {
                        lease: &Lease { holder: String::new(), until: now },
                        now,
                        most: LOOKED_UP,
                        has_worker: &inner.has_worker(),
                        most_in_file: &|queue| inner.settings.queues.most_in_file(queue),
                    };
                    let found = books.next_in_line(self.queue, &order);
                    self.jobs = found?.into_iter();
                    self.read_at = Some(now);
                }
                let Some(id) = self.jobs.next() else { return Ok(None) };
                books.look_at_job(id, now)
            })
            .ok()??;
        let when = inner.settings.group_commit;
        if claimed.attempt > claimed.max_attempts || !inner.habits.may_share(&claimed.worker, when)
        {
            return None;
        }
        let worker = worker_of(inner, &claimed)?;
        // The group may hold the write lock, and migrating args would run the worker's own code.
        if claimed.args_version < worker.newest_args() {
            return None;
        }
        let preparation = prepare(&worker, &claimed).ok()?;
        (!preparation.is_confined()).then_some((claimed, preparation))
    }
}
