//! One pass: fire what is due, take back what is lost, perform what waits, prune what is past.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::attempt::attempt;
use super::executor::Executor;
use super::pending::PendingTransition;
use super::report::TickReport;
use super::shared::Engine;
use crate::clock::{Clock, Shifted};
use crate::queue::{self, Claimed, Lease, Lost, Transition};
use crate::run::LEASE_MARGIN;
use crate::schedule::{self, Checked, Prepared, ScheduleRow};
use crate::store::{StoreContext, StoreError, StoreErrorKind};
use crate::time::Timestamp;

/// Jobs one tick performs before it returns; the next goes on where it left off.
const JOBS_MAX: usize = 1_000;

/// How long one tick goes on claiming.
const TIME_MAX: Duration = Duration::from_secs(1);

/// How often finished jobs are looked through. Where more than a batch is past its time, the next
/// tick goes on.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Makes one pass at this instant. A raised `stopping` flag ends it after the current job.
pub(crate) fn tick(
    inner: &Engine,
    now: Timestamp,
    stopping: &AtomicBool,
) -> Result<TickReport, StoreError> {
    let clock = Shifted::reading(&inner.clock, now);
    let mut executor = inner.executor();
    let done = pass(inner, &mut executor, &clock, now, stopping);
    inner.put_back(executor);
    done
}

fn pass(
    inner: &Engine,
    executor: &mut Executor,
    clock: &Arc<dyn Clock>,
    now: Timestamp,
    stopping: &AtomicBool,
) -> Result<TickReport, StoreError> {
    let begun = Instant::now();
    let mut report = TickReport {
        now,
        fired: Vec::new(),
        attempts: Vec::new(),
        rescued: 0,
        pruned: 0,
        next_wake_at: None,
    };
    inner.file_identity.check()?;
    inner.pending.write_waiting(inner, executor, now)?;
    look_at_the_clock(inner, executor, now, &mut report)?;
    let failed = fire(inner, executor, now, &mut report)?;
    let expiry = executor
        .engine(inner, |connection| queue::next_expiry(connection).doing("read the leases"))?;
    if expiry.is_some_and(|expiry| expiry < now) {
        report.rescued = executor.transaction(inner, |connection| {
            queue::rescue(connection, Lost::Expired, now, &|worker| inner.backoff(worker))
                .doing("take lost jobs back")
        })?;
    }
    while report.attempts.len() < JOBS_MAX
        && begun.elapsed() < TIME_MAX
        && !stopping.load(Ordering::Relaxed)
    {
        let (claimed, until) = claim(inner, executor, clock.now())?;
        if claimed.is_empty() {
            break;
        }
        perform(inner, executor, clock, claimed, until, stopping, &mut report)?;
    }
    report.next_wake_at = executor
        .engine(inner, |connection| next_wake(inner, connection).doing("read what is due next"))?;
    if inner.prune_is_due(now, PRUNE_EVERY) {
        let pruned = executor.engine(inner, |connection| {
            queue::prune(connection, &inner.settings.retention, now).doing("prune finished jobs")
        })?;
        report.pruned = pruned.rows;
        if pruned.more {
            inner.prune_soon();
            report.next_wake_at = Some(now);
        }
    }
    failed.map_or(Ok(report), Err)
}

/// In the first tick, and when the clock was set back since the last one.
fn look_at_the_clock(
    inner: &Engine,
    executor: &mut Executor,
    now: Timestamp,
    report: &mut TickReport,
) -> Result<(), StoreError> {
    let last = Timestamp::from_millis(inner.ticked_at.load(Ordering::Relaxed));
    if last > now {
        for row in executor.engine(inner, |connection| {
            schedule::misled(connection, now).doing("read the schedules")
        })? {
            tracing::info!(
                schedule = row.name,
                "the clock was wrong by more than a day: the schedule goes on from now"
            );
            executor.transaction(inner, |connection| {
                schedule::bring_back(connection, &row, now).doing("bring a schedule back")
            })?;
        }
    }
    if last.as_millis() == i64::MAX {
        for row in executor.engine(inner, |connection| {
            schedule::at_start(connection).doing("read the schedules")
        })? {
            let prepared = prepare(inner, &row);
            let fired = executor.transaction(inner, |connection| {
                schedule::fire_at_start(connection, &row, &prepared, now)
            });
            // One that fails by itself waits for the next start.
            report.fired.extend(alone(&row.name, fired)?.ok());
        }
    }
    inner.ticked_at.store(now.as_millis(), Ordering::Relaxed);
    Ok(())
}

/// Decides the slots that are due. A schedule that fails does not keep the others from theirs: its
/// error is returned.
fn fire(
    inner: &Engine,
    executor: &mut Executor,
    now: Timestamp,
    report: &mut TickReport,
) -> Result<Option<StoreError>, StoreError> {
    let mut failed = None;
    for due in executor
        .engine(inner, |connection| schedule::due(connection, now).doing("read the schedules"))?
    {
        let prepared = prepare(inner, &due.row);
        match alone(
            &due.row.name,
            executor
                .transaction(inner, |connection| schedule::fire(connection, &due, &prepared, now)),
        )? {
            Ok(fired) => report.fired.extend(fired),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Ok(failed)
}

/// Parts the failure of one schedule from the file's own trouble, which is everyone's.
fn alone<T>(name: &str, fired: Result<T, StoreError>) -> Result<Result<T, StoreError>, StoreError> {
    match fired {
        Err(error)
            if matches!(error.kind(), StoreErrorKind::Constraint | StoreErrorKind::Other) =>
        {
            tracing::error!(schedule = name, error = %error, cause = ?std::error::Error::source(&error), "a schedule could not fire");
            Ok(Err(error))
        }
        fired => fired.map(Ok),
    }
}

/// Checks a due schedule's job against its worker, before the transaction.
fn prepare(inner: &Engine, row: &ScheduleRow) -> Prepared {
    let job = schedule::new_job(row)?;
    let (args, tenant_aware) =
        inner.check_job(&row.worker, &job.args).map_err(|error| error.to_string())?;
    Ok(Checked { job, args, tenant_aware })
}

fn claim(
    inner: &Engine,
    executor: &mut Executor,
    now: Timestamp,
) -> Result<(Vec<Claimed>, Timestamp), StoreError> {
    let until = now + inner.services.lease;
    let next = executor.engine(inner, |connection| {
        queue::next_due(connection, &inner.has_worker()).doing("read what is due")
    })?;
    if next.is_none_or(|next| next > now) {
        return Ok((Vec::new(), until));
    }
    let lease = Lease { holder: executor.holder.clone(), until };
    let batch = executor.batch;
    // A queue with helpers shares its jobs with them, one at a time.
    let limit = |queue: &str| {
        if inner.settings.concurrency.get(queue).is_some_and(|concurrency| *concurrency > 1) {
            1
        } else {
            batch
        }
    };
    let claimed = executor.transaction(inner, |connection| {
        queue::claim(connection, &lease, now, &inner.has_worker(), limit).doing("claim jobs")
    })?;
    Ok((claimed, until))
}

/// When the next job of a queue is due.
pub(super) fn next_due_in(
    inner: &Engine,
    executor: &mut Executor,
    queue: &str,
) -> Result<Option<Timestamp>, StoreError> {
    executor.engine(inner, |connection| {
        queue::next_due_in(connection, queue, &inner.has_worker()).doing("read what is due")
    })
}

/// Claims one due job of a queue and performs it: how many there were.
pub(super) fn perform_one(
    inner: &Engine,
    executor: &mut Executor,
    queue: &str,
    stopping: &AtomicBool,
) -> Result<usize, StoreError> {
    let now = inner.clock.now();
    let lease = Lease { holder: executor.holder.clone(), until: now + inner.services.lease };
    let limit = |name: &str| usize::from(name == queue);
    let claimed = executor.transaction(inner, |connection| {
        queue::claim(connection, &lease, now, &inner.has_worker(), limit).doing("claim a job")
    })?;
    let mut report = TickReport {
        now,
        fired: Vec::new(),
        attempts: Vec::new(),
        rescued: 0,
        pruned: 0,
        next_wake_at: None,
    };
    let count = claimed.len();
    perform(inner, executor, &inner.clock, claimed, lease.until, stopping, &mut report)?;
    Ok(count)
}

fn perform(
    inner: &Engine,
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
        // What was claimed and not begun goes back: when the loop stops, or when the jobs before it
        // took so long that others may have it.
        let late = clock.now() + LEASE_MARGIN > until;
        if stopping.load(Ordering::Relaxed) || late {
            let given_back =
                std::iter::once(&job).chain(claimed.as_slice()).map(given_back).collect();
            inner.pending.write_all(inner, executor, clock.now(), given_back)?;
            break;
        }
        let this = given_back(&job);
        match attempt(inner, executor, clock, job, until) {
            Ok(attempted) => {
                report.attempts.push(attempted);
                // An end that could not be written: the next job's would fare no better.
                if let Err(error) = inner.pending.write_waiting(inner, executor, clock.now()) {
                    let given_back = claimed.as_slice().iter().map(given_back).collect();
                    let _ = inner.pending.write_all(inner, executor, clock.now(), given_back);
                    return Err(error);
                }
            }
            Err(error) => {
                // No connection, so no attempt: give back what can be given, now or later.
                let given_back = std::iter::once(this)
                    .chain(claimed.as_slice().iter().map(given_back))
                    .collect();
                let _ = inner.pending.write_all(inner, executor, clock.now(), given_back);
                return Err(error);
            }
        }
    }
    executor.adapt(count, begun.elapsed());
    Ok(())
}

/// A job that was claimed and not begun.
fn given_back(job: &Claimed) -> PendingTransition {
    PendingTransition {
        id: job.id,
        token: job.token,
        attempt: job.attempt,
        to: Transition::Release,
    }
}

fn next_wake(
    inner: &Engine,
    connection: &rusqlite::Connection,
) -> rusqlite::Result<Option<Timestamp>> {
    // A lease is over only after its last millisecond.
    let expiry = queue::next_expiry(connection)?.map(|expiry| expiry + Duration::from_millis(1));
    let wakes = [
        queue::next_due(connection, &inner.has_worker())?,
        schedule::next_fire(connection)?,
        expiry,
    ];
    Ok(wakes.into_iter().flatten().min())
}
