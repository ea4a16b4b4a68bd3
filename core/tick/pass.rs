//! One pass: fire what is due, take back what is lost, perform what waits, prune what is past.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::attempt::attempt;
use super::executor::Executor;
use super::report::TickReport;
use crate::clock::{Clock, Shifted};
use crate::queue::{self, Claimed, Lease, Lost};
use crate::run::LEASE_MARGIN;
use crate::schedule::{self, Checked, Due, Prepared};
use crate::store::{Doing, StoreError};
use crate::time::Timestamp;
use crate::verger::Inner;

/// Jobs one tick performs before it returns; the next goes on where it left off.
const JOBS_MAX: usize = 1_000;

/// How long one tick goes on claiming.
const TIME_MAX: Duration = Duration::from_secs(1);

/// How often finished jobs are looked through.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Makes one pass at this instant. A raised `stopping` flag ends it after the current job.
pub(crate) fn tick(inner: &Inner, now: Timestamp, stopping: &AtomicBool) -> Result<TickReport, StoreError> {
    let clock = Shifted::reading(&inner.clock, now);
    let mut executor = inner.executor();
    let done = pass(inner, &mut executor, &clock, now, stopping);
    inner.put_back(executor);
    done
}

fn pass(
    inner: &Inner,
    executor: &mut Executor,
    clock: &Arc<dyn Clock>,
    now: Timestamp,
    stopping: &AtomicBool,
) -> Result<TickReport, StoreError> {
    let begun = Instant::now();
    let mut report = TickReport { now, fired: Vec::new(), attempts: Vec::new(), rescued: 0, pruned: 0, next_wake_at: None };
    for due in executor.engine(inner, |connection| schedule::due(connection, now).doing("read the schedules"))? {
        let prepared = prepare(inner, &due);
        report.fired.extend(executor.transaction(inner, |connection| schedule::fire(connection, &due, &prepared, now))?);
    }
    let expiry = executor.engine(inner, |connection| queue::next_expiry(connection).doing("read the leases"))?;
    if expiry.is_some_and(|expiry| expiry < now) {
        report.rescued = executor.transaction(inner, |connection| {
            queue::rescue(connection, Lost::Expired, now, &inner.settings.backoff).doing("take lost jobs back")
        })?;
    }
    while report.attempts.len() < JOBS_MAX && begun.elapsed() < TIME_MAX && !stopping.load(Ordering::Relaxed) {
        let (claimed, until) = claim(inner, executor, clock.now())?;
        if claimed.is_empty() {
            break;
        }
        perform(inner, executor, clock, claimed, until, stopping, &mut report)?;
    }
    if inner.prune_is_due(now, PRUNE_EVERY) {
        report.pruned = executor
            .engine(inner, |connection| queue::prune(connection, &inner.settings.retention, now).doing("prune finished jobs"))?;
    }
    report.next_wake_at = executor.engine(inner, |connection| next_wake(connection).doing("read what is due next"))?;
    Ok(report)
}

/// Checks a due schedule's job against its worker, before the transaction.
fn prepare(inner: &Inner, due: &Due) -> Prepared {
    check_schedule(inner, &due.row.worker, schedule::new_job(&due.row)?)
}

/// A schedule's job, checked against its worker; else why there is none.
pub(crate) fn check_schedule(inner: &Inner, worker: &str, job: crate::queue::NewJob) -> Prepared {
    let (args, tenant_aware) = inner.check_job(worker, &job.args).map_err(|error| error.to_string())?;
    Ok(Checked { job, args, tenant_aware })
}

fn claim(inner: &Inner, executor: &mut Executor, now: Timestamp) -> Result<(Vec<Claimed>, Timestamp), StoreError> {
    let until = now + inner.surroundings.lease;
    let next = executor.engine(inner, |connection| queue::next_due(connection).doing("read what is due"))?;
    if next.is_none_or(|next| next > now) {
        return Ok((Vec::new(), until));
    }
    let lease = Lease { holder: executor.holder.clone(), until };
    let batch = executor.batch;
    let claimed = executor.transaction(inner, |connection| queue::claim(connection, &lease, now, batch).doing("claim jobs"))?;
    Ok((claimed, until))
}

fn perform(
    inner: &Inner,
    executor: &mut Executor,
    clock: &Arc<dyn Clock>,
    claimed: Vec<Claimed>,
    until: Timestamp,
    stopping: &AtomicBool,
    report: &mut TickReport,
) -> Result<(), StoreError> {
    let (begun, count) = (Instant::now(), claimed.len());
    let mut claimed = claimed.into_iter();
    while let Some(job) = claimed.next() {
        // What was claimed and not begun goes back: when the loop stops, or when the jobs before it took so long that others may have it.
        let late = clock.now() + LEASE_MARGIN > until;
        if stopping.load(Ordering::Relaxed) || late {
            executor.transaction(inner, |connection| {
                std::iter::once(&job).chain(claimed.as_slice()).try_for_each(|job| {
                    queue::release(connection, job.id, job.token).map(|_| ()).doing("give jobs back")
                })
            })?;
            break;
        }
        let (id, token) = (job.id, job.token);
        match attempt(inner, executor, clock, job, until) {
            Ok(attempted) => report.attempts.push(attempted),
            Err(error) => {
                // No connection, so no attempt: give back what can be given.
                let _ = executor.transaction(inner, |connection| {
                    queue::release(connection, id, token).doing("give a job back")?;
                    claimed.as_slice().iter().try_for_each(|job| {
                        queue::release(connection, job.id, job.token).map(|_| ()).doing("give jobs back")
                    })
                });
                return Err(error);
            }
        }
    }
    executor.adapt(count, begun.elapsed());
    Ok(())
}

fn next_wake(connection: &rusqlite::Connection) -> rusqlite::Result<Option<Timestamp>> {
    // A lease is over only after its last millisecond.
    let expiry = queue::next_expiry(connection)?.map(|expiry| expiry + Duration::from_millis(1));
    let wakes = [queue::next_due(connection)?, schedule::next_fire(connection)?, expiry];
    Ok(wakes.into_iter().flatten().min())
}
