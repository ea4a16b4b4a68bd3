//! What a due slot becomes: a job, or a line in the ledger that says why not.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};

use super::definition::Overlap;
use super::ledger::{Line, Reason, SlotOutcome, free_instant, is_decided};
use super::rows::{self, Due, ScheduleRow, advance};
use super::slots::{Chosen, Rule};
use crate::queue::{Enqueued, JobId, NewJob, Ready, SlotOf};
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
    // Another process may have fired or changed it since it was read. If it is still due, the next
    // tick has it.
    if due.is_nameless() {
        tracing::error!("a schedule is set aside: its name is no UTF-8");
        rows::stop_nameless(connection, due, now)?;
        return Ok(Vec::new());
    }
    let Some(row) = rows::get(connection, &due.row.name)?.filter(|row| *row == due.row) else {
        return Ok(Vec::new());
    };
    let rule = match row.why_unreadable().map_or_else(|| Rule::of(&row), Err) {
        Ok(rule) => rule,
        // It cannot be followed any more.
        Err(reason) => {
            let line = Line { slot: due.slot, missed: 0, now };
            let fired = skip(&line, connection, &row, Reason::Unreadable(reason))?;
            advance(connection, &row.name, due.slot, None, now)?;
            return Ok(vec![fired]);
        }
    };
    // After the clock was set back for a while, slots may come that were decided before.
    let first = match row.last_slot {
        Some(last) if last <= now && due.slot <= last => match rule.next(last) {
            Some(next) if next <= now => next,
            next => {
                advance(connection, &row.name, last, next, now)?;
                return Ok(Vec::new());
            }
        },
        _ => due.slot,
    };
    let mut fired = Vec::new();
    let last = if row.paused {
        let (slot, missed) = rule.due(first, now);
        fired.push(skip(&Line { slot, missed, now }, connection, &row, Reason::Paused)?);
        slot
    } else {
        // The slots of one replay do not stand in each other's way; an older job does.
        let busy = row.overlap == Overlap::Forbid && under_way(connection, &row.name)?.is_some();
        let mut last = first;
        let mut before = row.last_slot;
        for chosen in rule.choose(row.missed, first, now) {
            let (Chosen::Decide(slot, missed) | Chosen::Missed(slot, missed)) = chosen;
            last = slot;
            let after = before.replace(slot).filter(|after| *after < slot);
            // After the clock was set back, a new or changed schedule may come by slots that were
            // decided before.
            if is_decided(connection, &row.name, slot)? {
                continue;
            }
            let line = Line { slot, missed, now };
            fired.push(match chosen {
                Chosen::Decide(..) => decide(&line, connection, &row, prepared, (busy, after))?,
                Chosen::Missed(..) => skip(&line, connection, &row, Reason::Missed)?,
            });
        }
        last
    };
    advance(connection, &row.name, last, rule.next(last).or_else(|| rule.next(now)), now)?;
    Ok(fired)
}

/// Makes the job of an `@reboot` schedule, once for each start.
pub(super) fn fire_at_start(
    connection: &Connection,
    row: &ScheduleRow,
    prepared: &Prepared,
    now: Timestamp,
) -> Result<Fired, StoreError> {
    let fire = || -> rusqlite::Result<Fired> {
        let line =
            Line { slot: free_instant(connection, &row.name, now, |_| false)?, missed: 0, now };
        let fired = match row.paused {
            true => skip(&line, connection, row, Reason::Paused)?,
            false => {
                let busy =
                    row.overlap == Overlap::Forbid && under_way(connection, &row.name)?.is_some();
                decide(&line, connection, row, prepared, (busy, row.last_slot))?
            }
        };
        advance(connection, &row.name, line.slot, None, now)?;
        Ok(fired)
    };
    fire().doing("fire the schedule")
}

/// Makes a job outside the slots, because someone asked for it. The next slot stays. If the
/// schedule forbids overlap and has an unfinished job, it returns that job.
pub(super) fn run_now(
    connection: &Connection,
    row: &ScheduleRow,
    mut ready: Ready,
    now: Timestamp,
) -> rusqlite::Result<Enqueued> {
    if row.overlap == Overlap::Forbid
        && let Some(id) = under_way(connection, &row.name)?
    {
        return Ok(Enqueued { id, existing: true });
    }
    // The line must not be at the instant of a real slot.
    let rule = Rule::of(row).ok();
    let slot = free_instant(connection, &row.name, now, |at| {
        rule.as_ref().is_some_and(|rule| rule.is_slot(at))
    })?;
    ready.of_slot(slot_of(row, slot, 0, row.last_slot), now);
    let enqueued =
        Books::on(connection).insert_job(&ready, now).map_err(StoreError::into_sqlite)?;
    Line { slot, missed: 0, now }.write(
        connection,
        &row.name,
        (SlotOutcome::Enqueued, Some(&Reason::RunNow)),
        Some(enqueued.id),
    )?;
    Ok(enqueued)
}

/// Makes the job of a slot, if nothing prevents it.
fn decide(
    line: &Line,
    connection: &Connection,
    row: &ScheduleRow,
    prepared: &Prepared,
    (busy, after): (bool, Option<Timestamp>),
) -> rusqlite::Result<Fired> {
    let late = line.now.since(line.slot);
    if row
        .deadline_ms
        .is_some_and(|deadline| late.as_millis() > u128::try_from(deadline).unwrap_or(0))
    {
        return skip(line, connection, row, Reason::Deadline);
    }
    if busy {
        return skip(line, connection, row, Reason::Overlap);
    }
    let mut ready = match prepared {
        Ok(ready) => ready.clone(),
        Err(reason) => return skip(line, connection, row, Reason::Worker(reason.clone())),
    };
    ready.of_slot(slot_of(row, line.slot, line.missed, after), line.slot + jitter(row));
    let job = match Books::on(connection).insert_job(&ready, line.now) {
        Ok(enqueued) => enqueued.id,
        Err(error) if error.kind() == StoreErrorKind::Constraint => {
            return skip(
                line,
                connection,
                row,
                Reason::Worker("its args are refused by the table".to_string()),
            );
        }
        Err(error) => return Err(error.into_sqlite()),
    };
    let outcome = if line.missed > 0 { SlotOutcome::Coalesced } else { SlotOutcome::Enqueued };
    line.write(connection, &row.name, (outcome, None), Some(job))?;
    let outcome = if line.missed > 0 {
        FireOutcome::Coalesced(job, line.missed)
    } else {
        FireOutcome::Enqueued(job)
    };
    Ok(Fired { schedule: row.name.clone(), slot: line.slot, outcome })
}

/// Writes that a slot made no job, and reports it.
fn skip(
    line: &Line,
    connection: &Connection,
    row: &ScheduleRow,
    reason: Reason,
) -> rusqlite::Result<Fired> {
    line.skip(connection, &row.name, &reason)?;
    Ok(Fired { schedule: row.name.clone(), slot: line.slot, outcome: FireOutcome::Skipped(reason) })
}

fn slot_of(row: &ScheduleRow, slot: Timestamp, missed: u32, after: Option<Timestamp>) -> SlotOf {
    let (schedule, zone) = (row.name.clone(), row.timezone.clone());
    SlotOf { schedule, slot, missed, after: after.filter(|after| *after < slot), zone }
}

/// An unfinished job of the schedule.
fn under_way(connection: &Connection, name: &str) -> rusqlite::Result<Option<JobId>> {
    connection
        .prepare_cached(
            "SELECT id FROM verger_jobs WHERE schedule = ?1 AND finished_at IS NULL LIMIT 1",
        )?
        .query_row([name], |row| row.get(0).map(JobId::from_number))
        .optional()
}

/// How long this schedule's jobs are put off: by its name, within its bound.
fn jitter(row: &ScheduleRow) -> Duration {
    let most = u64::try_from(row.jitter_ms).unwrap_or(0);
    if most == 0 {
        return Duration::ZERO;
    }
    let digest: [u8; 32] = Sha256::digest(row.name.as_bytes()).into();
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Duration::from_millis(number % (most + 1))
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
