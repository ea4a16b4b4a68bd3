//! What is due besides the jobs: schedules to fire, lost jobs to take back, finished ones to prune.

use std::time::Duration;

use super::clock_watch;
use super::executor::Executor;
use super::observe;
use super::report::TickReport;
use super::shared::Engine;
use crate::event::{self, EventKind};
use crate::queue::{Lost, Stuck};
use crate::schedule::{self, Prepared, ScheduleRow};
use crate::store::{StoreContext, StoreError, StoreErrorKind};
use crate::time::Timestamp;
use crate::wall_clock::Reading;

/// How often finished jobs are looked through. If more than a batch is past its time, the next tick
/// goes on.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Runs before any job: writes what could not be written before, decides the slots that are due,
/// and takes back jobs whose lease is over. It returns the error of a schedule that failed by
/// itself.
pub(super) fn before_jobs(
    inner: &Engine,
    executor: &mut Executor,
    now: Timestamp,
    report: &mut TickReport,
) -> Result<Option<StoreError>, StoreError> {
    inner.file_identity.check()?;
    if let Some(process_lock) = &inner.process_lock {
        process_lock.refresh();
    }
    inner.pending.write_waiting(executor, now)?;
    clock_watch::look(inner, executor, now)?;
    fire_at_start(inner, executor, now, report)?;
    let failed = fire(inner, executor, now, report)?;
    let expiry = executor.books(|books| books.next_lease_expiry())?;
    let believed = believed(executor, now)?;
    if expiry.is_some_and(|expiry| expiry < believed) {
        let rescued = executor.transaction(|books| {
            books.rescue_jobs(Lost::Expired, now, &|worker| inner.backoff(worker))
        })?;
        rescued.events.iter().for_each(event::say);
        report.rescued = rescued.jobs;
        if report.rescued > 0 {
            inner.habits.expect_trouble();
        }
    }
    let Stuck { unreadable, parked } =
        executor.books(|books| books.stuck_jobs(&inner.has_worker()))?;
    for (queue, worker) in inner.newly_parked(parked) {
        inner.tell(now, EventKind::Parked { worker, queue });
    }
    if !unreadable.is_empty() {
        let set_aside = executor.transaction(|books| {
            unreadable
                .iter()
                .map(|kind| books.set_kind_aside(kind, now))
                .collect::<Result<Vec<_>, _>>()
        })?;
        set_aside.iter().flatten().for_each(event::say);
    }
    observe::fired(inner, now, &report.fired);
    inner.deliver(executor);
    Ok(failed)
}

/// Deletes one batch of finished jobs that are past their time. Returns whether there are more.
pub(super) fn prune(
    inner: &Engine,
    executor: &mut Executor,
    now: Timestamp,
    report: &mut TickReport,
) -> Result<bool, StoreError> {
    if !inner.prune_is_due(now, PRUNE_EVERY) {
        return Ok(false);
    }
    let believed = believed(executor, now)?;
    let pruned = executor.books(|books| books.prune_jobs(&inner.settings.retention, believed))?;
    report.pruned = pruned.rows;
    if pruned.more {
        inner.prune_soon();
    }
    Ok(pruned.more)
}

/// The instant by which ages are told: now, unless the clock leapt and that is in doubt.
fn believed(executor: &mut Executor, now: Timestamp) -> Result<Timestamp, StoreError> {
    executor.books(|books| books.believed_now(now))
}

/// When there is something to do next, apart from jobs. At once while a clock that was set back is
/// in doubt.
pub(super) fn next_wake(
    executor: &mut Executor,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let (reading, _) = executor.books(|books| books.clock_reading(now))?;
    if reading != Reading::Plain {
        return Ok(Some(now));
    }
    // A lease that is over only by a reading in doubt.
    let in_doubt = believed(executor, now)? < now;
    let next = next_event(executor)?;
    Ok(next.filter(|next| !in_doubt || *next > now))
}

/// When the next slot is due or the next lease runs out.
pub(super) fn next_event(executor: &mut Executor) -> Result<Option<Timestamp>, StoreError> {
    executor.books(|books| {
        let doing = "read what is due next";
        // A lease is over only after its last millisecond.
        let expiry =
            books.next_lease_expiry().doing(doing)?.map(|expiry| expiry + Duration::from_millis(1));
        let fire = books.next_fire()?;
        Ok(expiry.into_iter().chain(fire).min())
    })
}

/// What tells one start of the machine from the next, where the system has it.
fn machine_boot() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(boot.trim().to_string())
}

/// Fires the `@reboot` schedules, in the first tick. Each open by the app is a start. For a program
/// that is not the app, such as `verger tick` run once a minute, only its first tick after the
/// machine started is one.
fn fire_at_start(
    inner: &Engine,
    executor: &mut Executor,
    now: Timestamp,
    report: &mut TickReport,
) -> Result<(), StoreError> {
    if !inner.has_ticked.swap(true, std::sync::atomic::Ordering::Relaxed) {
        let _doing = "read the schedules";
        let rows = executor.books(|books| books.schedules_at_start())?;
        let boot = machine_boot();
        let is_start = inner.settings.is_the_app
            || executor.books(|books| books.boot())?
                != boot.clone().or_else(|| Some("unknown".to_string()));
        if rows.is_empty() || !is_start {
            return Ok(());
        }
        executor.transaction(|books| books.note_boot(now, boot.as_deref()))?;
        for row in rows {
            let prepared = prepare(inner, &row);
            let fired =
                executor.transaction(|books| books.fire_schedule_at_start(&row, &prepared, now));
            // A schedule that fails by itself waits for the next start.
            report.fired.extend(alone(inner, &row.name, fired)?.ok());
        }
    }
    Ok(())
}

/// Decides the slots that are due. A schedule that fails does not keep the others from theirs. Its
/// error is returned.
fn fire(
    inner: &Engine,
    executor: &mut Executor,
    now: Timestamp,
    report: &mut TickReport,
) -> Result<Option<StoreError>, StoreError> {
    let mut failed = None;
    for due in executor.books(|books| books.due_schedules(now))? {
        let prepared = prepare(inner, &due.row);
        match alone(
            inner,
            &due.row.name,
            executor.transaction(|books| books.fire_schedule(&due, &prepared, now)),
        )? {
            Ok(fired) => report.fired.extend(fired),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Ok(failed)
}

/// Tells the failure of one schedule from trouble with the file, which concerns everyone.
fn alone<T>(
    inner: &Engine,
    name: &str,
    fired: Result<T, StoreError>,
) -> Result<Result<T, StoreError>, StoreError> {
    match fired {
        Err(error)
            if matches!(error.kind(), StoreErrorKind::Constraint | StoreErrorKind::Other) =>
        {
            observe::failed(inner, format!("the schedule `{name}` could not fire"), &error);
            Ok(Err(error))
        }
        fired => fired.map(Ok),
    }
}

/// Checks a due schedule's job against its worker, before the transaction.
fn prepare(inner: &Engine, row: &ScheduleRow) -> Prepared {
    let job = schedule::new_job(row)?;
    inner.registry.ready(job).map_err(|error| error.to_string())
}
