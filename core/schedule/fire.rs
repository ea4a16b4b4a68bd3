//! Firing: the jobs that schedules make, in the app's file.

use rusqlite::{Connection, OptionalExtension};

use super::decide::{self, SlotBooks, decide_due, free_instant, slot_of};
use super::definition::Overlap;
use super::ledger::{self, Line, Reason, SlotOutcome};
use super::rows::{self, Due, ScheduleRow};
use super::slots::Rule;
use crate::queue::{Enqueued, JobId, NewJob, Ready};
use crate::store::{Books, StoreContext, StoreError, StoreErrorKind};
use crate::time::Timestamp;

/// What became of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FireOutcome {
    /// It made this job.
    Enqueued(JobId),
    /// It made this job, which stands for this many earlier slots too.
    Coalesced(JobId, u32),
    /// It made none, for this reason.
    Skipped(Reason),
}

/// A slot that was decided in a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fired {
    /// The schedule.
    pub schedule: String,
    /// The instant it was due.
    pub slot: Timestamp,
    /// What became of it.
    pub outcome: FireOutcome,
}

/// The job a schedule makes, or why there is none. It is checked outside the transaction, because
/// its worker may have to be compiled first.
pub(crate) type Prepared = Result<Ready, String>;

/// Decides the slots of a schedule that are due, and moves it to its next slot, inside a write
/// transaction. The job, the ledger and the next slot commit together.
pub(super) fn fire(
    connection: &Connection,
    due: &Due,
    prepared: &Prepared,
    now: Timestamp,
) -> Result<Vec<Fired>, StoreError> {
    fire_slots(connection, due, prepared, now).doing("fire the schedule")
}

fn fire_slots(
    connection: &Connection,
    due: &Due,
    prepared: &Prepared,
    now: Timestamp,
) -> rusqlite::Result<Vec<Fired>> {
    if due.is_nameless() {
        tracing::error!("a schedule is set aside: its name is no UTF-8");
        rows::stop_nameless(connection, due, now)?;
        return Ok(Vec::new());
    }
    // Another process may have fired or changed it since it was read. If it is still due, the next
    // tick has it.
    match rows::get(connection, &due.row.name)?.filter(|row| *row == due.row) {
        Some(row) => decide_due(&Books::on(connection), &row, due.slot, prepared, now),
        None => Ok(Vec::new()),
    }
}

/// Makes the job of an `@reboot` schedule, once for each start.
pub(super) fn fire_at_start(
    connection: &Connection,
    row: &ScheduleRow,
    prepared: &Prepared,
    now: Timestamp,
) -> Result<Fired, StoreError> {
    decide::decide_at_start(&Books::on(connection), row, prepared, now).doing("fire the schedule")
}

impl SlotBooks for Books<'_> {
    type Error = rusqlite::Error;

    fn is_decided(&self, schedule: &str, slot: Timestamp) -> rusqlite::Result<bool> {
        ledger::is_decided(self.connection(), schedule, slot)
    }

    fn job_under_way(&self, schedule: &str) -> rusqlite::Result<Option<JobId>> {
        self.connection()
            .prepare_cached(
                "SELECT id FROM verger_jobs WHERE schedule = ?1 AND finished_at IS NULL LIMIT 1",
            )?
            .query_row([schedule], |row| row.get(0).map(JobId::from_number))
            .optional()
    }

    fn insert_slot_job(&self, job: &Ready, now: Timestamp) -> rusqlite::Result<Option<JobId>> {
        match self.insert_job(job, now) {
            Ok(enqueued) => Ok(Some(enqueued.id)),
            Err(error) if error.kind() == StoreErrorKind::Constraint => Ok(None),
            Err(error) => Err(error.into_sqlite()),
        }
    }

    fn write_line(
        &self,
        schedule: &str,
        line: &Line,
        outcome: (SlotOutcome, Option<&Reason>),
        job: Option<JobId>,
    ) -> rusqlite::Result<()> {
        ledger::write(self.connection(), schedule, line, outcome, job)
    }

    fn advance(
        &self,
        schedule: &str,
        last: Timestamp,
        next: Option<Timestamp>,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        rows::advance(self.connection(), schedule, last, next, now)
    }
}

/// Makes a job outside the slots, because someone asked for it. The next slot stays. If the
/// schedule forbids overlap and has an unfinished job, it returns that job.
pub(super) fn run_now(
    connection: &Connection,
    row: &ScheduleRow,
    mut ready: Ready,
    now: Timestamp,
) -> rusqlite::Result<Enqueued> {
    let books = Books::on(connection);
    if row.overlap == Overlap::Forbid
        && let Some(id) = books.job_under_way(&row.name)?
    {
        return Ok(Enqueued { id, existing: true });
    }
    // The line must not be at the instant of a real slot.
    let rule = Rule::of(row).ok();
    let slot = free_instant(&books, &row.name, now, |at| {
        rule.as_ref().is_some_and(|rule| rule.is_slot(at))
    })?;
    ready.of_slot(slot_of(row, slot, 0, row.last_slot), now);
    let enqueued = books.insert_job(&ready, now).map_err(StoreError::into_sqlite)?;
    let line = Line { slot, missed: 0, now };
    let outcome = (SlotOutcome::Enqueued, Some(&Reason::RunNow));
    books.write_line(&row.name, &line, outcome, Some(enqueued.id))?;
    Ok(enqueued)
}

/// The job a schedule makes, before its slot is known.
pub(crate) fn new_job(row: &ScheduleRow) -> Result<NewJob, String> {
    let args = serde_json::from_str(&row.args)
        .map_err(|error| format!("its stored args are no JSON: {error}"))?;
    Ok(NewJob::new(&row.worker, args)
        .args_version(row.args_version)
        .queue(&row.queue)
        .priority(row.priority)
        .max_attempts(row.max_attempts))
}
