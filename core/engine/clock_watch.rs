//! What is done when a reading of the clock shows that earlier readings were wrong.

use super::executor::Executor;
use super::shared::Engine;
use crate::store::StoreError;
use crate::time::Timestamp;
use crate::wall_clock::{self, Reading};

/// Jobs corrected in one transaction.
const BATCH: usize = 200;

/// Looks at this reading, and corrects what wrong ones sent away. `is_busy` tells whether something
/// is about to be decided by it, because only then a plain reading is noted.
pub(super) fn look(
    inner: &Engine,
    executor: &mut Executor,
    now: Timestamp,
) -> Result<(), StoreError> {
    let _doing = "read what the clock read before";
    let (reading, news) = executor.books(|books| books.clock_reading(now))?;
    let Some(noted) = news else { return Ok(()) };
    match reading {
        Reading::Plain if !is_busy(inner, executor, now)? => return Ok(()),
        Reading::Plain | Reading::InDoubt => {}
        Reading::CorrectedSince(since) => correct(executor, since)?,
    }
    executor.transaction(|books| books.note_clock(&noted))
}

/// Whether anything is due.
fn is_busy(inner: &Engine, executor: &mut Executor, now: Timestamp) -> Result<bool, StoreError> {
    let next_due = executor.books(|books| books.next_due_job(&inner.has_worker()))?;
    let next = super::upkeep::next_event(executor)?;
    Ok(next.into_iter().chain(next_due).any(|next| next <= now))
}

/// Puts back what a wrong clock sent away, each row in a transaction of its own.
fn correct(executor: &mut Executor, since: Timestamp) -> Result<(), StoreError> {
    let after = wall_clock::beyond(since);
    for row in executor.books(|books| books.misled_schedules(after))? {
        tracing::info!(schedule = row.name, %since, "the clock was wrong: the schedule goes on from now");
        executor.transaction(|books| books.bring_schedule_back(&row, since))?;
    }
    let jobs = executor.books(|books| books.misled_jobs(after))?;
    if !jobs.is_empty() {
        tracing::info!(jobs = jobs.len(), %since, "the clock was wrong: these jobs wait from now");
    }
    for jobs in jobs.chunks(BATCH) {
        executor.transaction(|books| {
            jobs.iter().try_for_each(|id| books.bring_job_back(*id, since, after))
        })?;
    }
    Ok(())
}
