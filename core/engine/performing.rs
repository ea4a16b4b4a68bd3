//! From a due job to its finished attempt.

use std::sync::Arc;

use super::attempt::attempt;
use super::executor::Executor;
use super::next_claim::Following;
use super::observe;
use super::pending::PendingTransition;
use super::report::AttemptReport;
use super::shared::Engine;
use super::sharing;
use crate::clock::Clock;
use crate::queue::{ClaimOrder, Claimed, Lease, Transition};
use crate::run::Seat;
use crate::store::StoreError;
use crate::time::Timestamp;

/// Performs the first due job, of this queue or of all, and with it those behind it that may share
/// its transaction. The job is claimed here, unless the end of the one before has claimed it.
/// Nothing is reported when none is due, or none may begin now.
pub(super) fn perform_due(
    inner: &Engine,
    executor: &mut Executor,
    clock: &Arc<dyn Clock>,
    queue: Option<&str>,
) -> Result<Vec<AttemptReport>, StoreError> {
    let claimed = match executor.take_following() {
        Some(following) => Some(following),
        None => claim(inner, executor, clock.now(), queue)?,
    };
    claimed.map_or(Ok(Vec::new()), |claimed| perform(inner, executor, clock, claimed, queue))
}

fn claim(
    inner: &Engine,
    executor: &mut Executor,
    now: Timestamp,
    queue: Option<&str>,
) -> Result<Option<Following>, StoreError> {
    let lease = Lease {
        holder: executor.holder(inner.process_lock.as_ref()),
        until: now + inner.services.lease,
    };
    let claimed = claim_order(inner, &lease, now, |order| {
        executor.books(|books| books.claim_due(queue, order))
    })?;
    Ok(claimed.into_iter().next().map(|job| Following { job, lease }))
}

/// Runs `work` with the order to claim one job.
pub(super) fn claim_order<T>(
    inner: &Engine,
    lease: &Lease,
    now: Timestamp,
    work: impl FnOnce(&ClaimOrder<'_>) -> T,
) -> T {
    work(&ClaimOrder {
        lease,
        now,
        most: 1,
        has_worker: &inner.has_worker(),
        most_in_file: &|queue| inner.settings.queues.most_in_file(queue),
    })
}

/// Ends an executor's turn. A job that was claimed and not begun goes back, its attempt unused.
pub(super) fn end_turn(inner: &Engine, executor: &mut Executor, clock: &Arc<dyn Clock>) {
    if let Some(Following { job, .. }) = executor.end_turn() {
        // What cannot be written now is written later.
        let _ = inner.pending.write_all(executor, clock.now(), vec![given_back(&job)]);
    }
}

fn given_back(job: &Claimed) -> PendingTransition {
    PendingTransition {
        id: job.id,
        token: job.token,
        attempt: job.attempt,
        to: Transition::Release,
        by: None,
        log: None,
    }
}

/// Whether a job is due, in this queue or in any.
pub(super) fn is_due(
    inner: &Engine,
    executor: &mut Executor,
    now: Timestamp,
    queue: Option<&str>,
) -> Result<bool, StoreError> {
    let next = executor.books(|books| match queue {
        Some(queue) => books.next_due_job_in(queue, &inner.has_worker()),
        None => books.next_due_job(&inner.has_worker()),
    })?;
    Ok(next.is_some_and(|next| next <= now))
}

fn perform(
    inner: &Engine,
    executor: &mut Executor,
    clock: &Arc<dyn Clock>,
    Following { job, lease }: Following,
    queue: Option<&str>,
) -> Result<Vec<AttemptReport>, StoreError> {
    let given_back = given_back(&job);
    observe::started(inner, clock.now(), &job);
    let attempted = if sharing::may_begin(inner, &job) {
        sharing::perform_group(inner, executor, clock, job, &lease, queue)
    } else {
        observe::in_span(&observe::span(&job), || {
            attempt(inner, executor, clock, job, lease.until, Seat::Alone)
        })
        .map(|one| vec![one])
    };
    match attempted {
        Ok(attempted) => {
            attempted.iter().for_each(|attempt| observe::ended(inner, clock.now(), attempt));
            inner.deliver(executor);
            // If an end could not be written, the next job's would fare no better.
            inner.pending.write_waiting(executor, clock.now())?;
            Ok(attempted)
        }
        Err(error) => {
            // Without a connection there is no attempt. The job goes back, now or later.
            let _ = inner.pending.write_all(executor, clock.now(), vec![given_back]);
            Err(error)
        }
    }
}
