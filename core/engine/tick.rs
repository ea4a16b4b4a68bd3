//! One pass: fire what is due, take back what is lost, perform what waits, prune what is past.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::executor::Executor;
use super::performing;
use super::report::TickReport;
use super::shared::Engine;
use super::upkeep;
use crate::clock::{Clock, Shifted};
use crate::store::{StoreContext, StoreError};
use crate::time::Timestamp;

/// The most jobs one tick performs before it returns. The next tick goes on where it stopped.
const JOBS_MAX: usize = 1_000;

/// How long one tick goes on claiming jobs.
const TIME_MAX: Duration = Duration::from_secs(1);

/// Makes one pass at this instant, on the caller's thread.
pub(crate) fn tick(inner: &Arc<Engine>, now: Timestamp) -> Result<TickReport, StoreError> {
    #[cfg(feature = "wasm")]
    super::plugin_watch::take_in_changed(inner)?;
    let clock = Shifted::reading(&inner.clock, now);
    let mut executor = inner.executor();
    let done = pass(inner, &mut executor, &clock, now);
    inner.put_back(executor);
    done
}

/// Performs what is due, up to the bounds of one tick.
fn perform(
    inner: &Engine,
    executor: &mut Executor,
    clock: &Arc<dyn Clock>,
    begun: Instant,
    report: &mut TickReport,
) -> Result<(), StoreError> {
    while executor.has_following() || report.attempts.len() < JOBS_MAX && begun.elapsed() < TIME_MAX
    {
        let has_room = report.attempts.len() + 1 < JOBS_MAX;
        executor.begin_turn(None, move || has_room && begun.elapsed() < TIME_MAX);
        let attempts = performing::perform_due(inner, executor, clock, None)?;
        if attempts.is_empty() {
            break;
        }
        report.attempts.extend(attempts);
    }
    Ok(())
}

fn pass(
    inner: &Engine,
    executor: &mut Executor,
    clock: &Arc<dyn Clock>,
    now: Timestamp,
) -> Result<TickReport, StoreError> {
    let begun = Instant::now();
    let mut report = TickReport::at(now);
    let failed = upkeep::before_jobs(inner, executor, now, &mut report)?;
    // Jobs of every queue, in one order.
    let performed = perform(inner, executor, clock, begun, &mut report);
    performing::end_turn(inner, executor, clock);
    performed?;
    let next_due = executor
        .books(|books| books.next_due_job(&inner.has_worker()).doing("read what is due next"))?;
    report.next_wake_at = upkeep::next_wake(executor, now)?.into_iter().chain(next_due).min();
    if upkeep::prune(inner, executor, now, &mut report)? {
        report.next_wake_at = Some(now);
    }
    failed.map_or(Ok(report), Err)
}
