//! What is done when a reading of the clock shows that others were wrong.

use super::executor::Executor;
use super::shared::Engine;
use crate::queue;
use crate::schedule;
use crate::store::{StoreContext, StoreError};
use crate::time::Timestamp;
use crate::wall_clock::{self, Reading};

/// Jobs corrected in one transaction.
const BATCH: usize = 200;

/// Looks at this reading, and corrects what waits by wrong ones. `is_busy` tells whether something
/// is going to be decided by it: only then a plain reading is noted.
pub(super) fn look(
    inner: &Engine,
    executor: &mut Executor,
    now: Timestamp,
) -> Result<(), StoreError> {
    let doing = "read what the clock read before";
    let (reading, news) =
        executor.engine(|connection| wall_clock::read(connection, now).doing(doing))?;
    let Some(noted) = news else { return Ok(()) };
    match reading {
        Reading::Plain if !is_busy(inner, executor, now)? => return Ok(()),
        Reading::Plain | Reading::InDoubt => {}
        Reading::CorrectedSince(since) => correct(executor, since)?,
    }
    executor.transaction(|connection| {
        wall_clock::note(connection, &noted).doing("note what the clock reads")
    })
}

/// Whether anything is due.
fn is_busy(inner: &Engine, executor: &mut Executor, now: Timestamp) -> Result<bool, StoreError> {
    let next_due = executor.engine(|connection| {
        queue::next_due(connection, &inner.has_worker()).doing("read what is due")
    })?;
    let next = super::upkeep::next_event(executor)?;
    Ok(next.into_iter().chain(next_due).any(|next| next <= now))
}

/// Puts back what a wrong clock sent away, each row by itself.
fn correct(executor: &mut Executor, since: Timestamp) -> Result<(), StoreError> {
    let after = wall_clock::beyond(since);
    for row in executor
        .engine(|connection| schedule::misled(connection, after).doing("read the schedules"))?
    {
        tracing::info!(schedule = row.name, %since, "the clock was wrong: the schedule goes on from now");
        executor.transaction(|connection| {
            schedule::bring_back(connection, &row, since).doing("bring a schedule back")
        })?;
    }
    let jobs =
        executor.engine(|connection| queue::misled(connection, after).doing("read the jobs"))?;
    if !jobs.is_empty() {
        tracing::info!(jobs = jobs.len(), %since, "the clock was wrong: these jobs wait from now");
    }
    for jobs in jobs.chunks(BATCH) {
        executor.transaction(|connection| {
            jobs.iter()
                .try_for_each(|id| queue::bring_back(connection, *id, since, after))
                .doing("bring jobs back")
        })?;
    }
    Ok(())
}
