//! What a due slot becomes: a job, or a line in the ledger that says why not.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};

use super::definition::Overlap;
use super::rows::{self, Due, ScheduleRow};
use super::slots::{Chosen, Rule};
use crate::queue::{self, Enqueued, JobId, NewJob, Ready};
use crate::store::{StoreContext, StoreError, StoreErrorKind};
use crate::time::Timestamp;

/// What became of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FireOutcome {
    /// It made this job.
    Enqueued(JobId),
    /// It made this job, which stands for so many earlier slots too.
    Coalesced(JobId, u32),
    /// It made none, for this reason: `overlap`, `deadline`, `paused`, `missed`, `worker: …` or
    /// `unreadable: …`.
    Skipped(String),
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

/// The job a schedule makes, checked outside the transaction: its worker may have to be compiled
/// first. Else why there is none.
pub(crate) type Prepared = Result<Ready, String>;

/// Decides the slots of a schedule that are due, and moves it to its next slot, inside a write
/// transaction: the job, the ledger and the next slot commit together.
pub(crate) fn fire(
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
    let Some(row) = rows::get(connection, &due.row.name)?.filter(|row| *row == due.row) else {
        return Ok(Vec::new());
    };
    let rule = match Rule::of(&row) {
        Ok(rule) => rule,
        // It cannot be followed any more.
        Err(reason) => {
            let line = Line { slot: due.slot, missed: 0, now };
            let fired = line.skip(connection, &row, &format!("unreadable: {reason}"))?;
            advance(connection, &row.name, due.slot, None, now)?;
            return Ok(vec![fired]);
        }
    };
    let mut fired = Vec::new();
    let last = if row.paused {
        let (slot, missed) = rule.due(due.slot, now);
        fired.push(Line { slot, missed, now }.skip(connection, &row, "paused")?);
        slot
    } else {
        // The slots of one replay do not stand in each other's way; an older job does.
        let busy =
            row.overlap == Overlap::Forbid.as_str() && under_way(connection, &row.name)?.is_some();
        let mut last = due.slot;
        for chosen in rule.choose(row.missed.parse().unwrap_or_default(), due.slot, now) {
            let (Chosen::Decide(slot, missed) | Chosen::Missed(slot, missed)) = chosen;
            last = slot;
            // After the clock was set back, a new or changed schedule may come by slots that were
            // decided before.
            if is_decided(connection, &row.name, slot)? {
                continue;
            }
            let line = Line { slot, missed, now };
            fired.push(match chosen {
                Chosen::Decide(..) => line.decide(connection, &row, prepared, busy)?,
                Chosen::Missed(..) => line.skip(connection, &row, "missed")?,
            });
        }
        last
    };
    advance(connection, &row.name, last, rule.next(last).or_else(|| rule.next(now)), now)?;
    Ok(fired)
}

/// Makes the job of an `@reboot` schedule, once for each start.
pub(crate) fn fire_at_start(
    connection: &Connection,
    row: &ScheduleRow,
    prepared: &Prepared,
    now: Timestamp,
) -> Result<Fired, StoreError> {
    let fire = || {
        let line =
            Line { slot: free_instant(connection, &row.name, now, |_| false)?, missed: 0, now };
        let fired = match row.paused {
            true => line.skip(connection, row, "paused")?,
            false => {
                let busy = row.overlap == Overlap::Forbid.as_str()
                    && under_way(connection, &row.name)?.is_some();
                line.decide(connection, row, prepared, busy)?
            }
        };
        advance(connection, &row.name, line.slot, None, now)?;
        Ok(fired)
    };
    fire().doing("fire the schedule")
}

/// Makes a job outside the slots, because someone asked for it; the next slot stays. With an
/// unfinished job of a schedule that forbids overlap, it is that one.
pub(crate) fn run_now(
    connection: &Connection,
    row: &ScheduleRow,
    mut ready: Ready,
    now: Timestamp,
) -> rusqlite::Result<Enqueued> {
    if row.overlap == Overlap::Forbid.as_str()
        && let Some(id) = under_way(connection, &row.name)?
    {
        return Ok(Enqueued { id, existing: true });
    }
    // The line must not take the place of a real slot.
    let rule = Rule::of(row).ok();
    let slot = free_instant(connection, &row.name, now, |at| {
        rule.as_ref().is_some_and(|rule| rule.is_slot(at))
    })?;
    ready.of_slot(&row.name, slot, 0, now);
    let enqueued = queue::insert(connection, &ready, now).map_err(StoreError::into_sqlite)?;
    Line { slot, missed: 0, now }.write(
        connection,
        &row.name,
        ("enqueued", Some(RUN_NOW)),
        Some(enqueued.id),
    )?;
    Ok(enqueued)
}

/// The reason of a job that was made outside the slots.
pub(super) const RUN_NOW: &str = "run-now";

/// Decides that what is due of a schedule makes no job, for this reason. Before the schedule is
/// changed, removed or resumed. The slot.
pub(super) fn decide_missed(
    connection: &Connection,
    row: &ScheduleRow,
    reason: &str,
    now: Timestamp,
) -> rusqlite::Result<Option<Timestamp>> {
    let first = row.next_fire_at.map(Timestamp::from_millis).filter(|first| *first <= now);
    let (Some(first), Ok(rule)) = (first, Rule::of(row)) else { return Ok(None) };
    let (slot, missed) = rule.due(first, now);
    Line { slot, missed, now }.skip(connection, row, reason)?;
    advance(connection, &row.name, slot, rule.next(slot), now)?;
    Ok(Some(slot))
}

/// A line of the ledger to be written now: for a slot, and so many before it.
struct Line {
    slot: Timestamp,
    missed: u32,
    now: Timestamp,
}

impl Line {
    fn decide(
        &self,
        connection: &Connection,
        row: &ScheduleRow,
        prepared: &Prepared,
        busy: bool,
    ) -> rusqlite::Result<Fired> {
        let late = self.now.since(self.slot);
        if row
            .deadline_ms
            .is_some_and(|deadline| late.as_millis() > u128::try_from(deadline).unwrap_or(0))
        {
            return self.skip(connection, row, "deadline");
        }
        if busy {
            return self.skip(connection, row, "overlap");
        }
        let mut ready = match prepared {
            Ok(ready) => ready.clone(),
            Err(reason) => return self.skip(connection, row, &format!("worker: {reason}")),
        };
        ready.of_slot(&row.name, self.slot, self.missed, self.slot + jitter(row));
        let job = match queue::insert(connection, &ready, self.now) {
            Ok(enqueued) => enqueued.id,
            Err(error) if error.kind() == StoreErrorKind::Constraint => {
                return self.skip(connection, row, "worker: its args are refused by the table");
            }
            Err(error) => return Err(error.into_sqlite()),
        };
        let outcome = if self.missed > 0 { "coalesced" } else { "enqueued" };
        self.write(connection, &row.name, (outcome, None), Some(job))?;
        let outcome = if self.missed > 0 {
            FireOutcome::Coalesced(job, self.missed)
        } else {
            FireOutcome::Enqueued(job)
        };
        Ok(Fired { schedule: row.name.clone(), slot: self.slot, outcome })
    }

    fn skip(
        &self,
        connection: &Connection,
        row: &ScheduleRow,
        reason: &str,
    ) -> rusqlite::Result<Fired> {
        self.write(connection, &row.name, ("skipped", Some(reason)), None)?;
        Ok(Fired {
            schedule: row.name.clone(),
            slot: self.slot,
            outcome: FireOutcome::Skipped(reason.to_string()),
        })
    }

    /// A slot that was decided stays as it was.
    fn write(
        &self,
        connection: &Connection,
        name: &str,
        (outcome, reason): (&str, Option<&str>),
        job: Option<JobId>,
    ) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO verger_fires (schedule, slot, fired_at, outcome, reason, missed, job) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT (schedule, slot) DO NOTHING",
            )?
            .execute((name, self.slot.as_millis(), self.now.as_millis(), outcome, reason, self.missed, job.map(JobId::number)))?;
        Ok(())
    }
}

fn advance(
    connection: &Connection,
    name: &str,
    last: Timestamp,
    next: Option<Timestamp>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE verger_schedules SET last_slot = ?2, next_fire_at = ?3, updated_at = ?4 WHERE name = ?1")?
        .execute((name, last.as_millis(), next.map(Timestamp::as_millis), now.as_millis()))?;
    Ok(())
}

fn is_decided(connection: &Connection, name: &str, slot: Timestamp) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM verger_fires WHERE schedule = ?1 AND slot = ?2)",
        )?
        .query_row((name, slot.as_millis()), |row| row.get(0))
}

/// The first instant from now on that has no line in the ledger and is not taken otherwise.
fn free_instant(
    connection: &Connection,
    name: &str,
    now: Timestamp,
    is_taken: impl Fn(Timestamp) -> bool,
) -> rusqlite::Result<Timestamp> {
    let mut at = now;
    while is_taken(at) || is_decided(connection, name, at)? {
        at = at + Duration::from_millis(1);
    }
    Ok(at)
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
        .queue(&row.queue)
        .priority(row.priority)
        .max_attempts(row.max_attempts))
}
