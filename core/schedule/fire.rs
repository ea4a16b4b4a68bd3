//! What a due slot becomes: a job, or a line in the ledger that says why not.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};
use verger_worker::Args;

use super::definition::{Missed, Overlap};
use super::expression::{Expression, parse_zone};
use super::stored::{Due, ScheduleRow};
use crate::queue::{self, JobId, NewJob, Ready};
use crate::store::StoreError;
use crate::time::Timestamp;

/// With [`Missed::Skip`], a slot found due later than this was missed.
const SKIP_GRACE: Duration = Duration::from_secs(60);

/// Missed slots counted one by one; beyond it the count stops and the last slot is searched for from now.
const COUNT_MAX: u32 = 100_000;

/// What became of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FireOutcome {
    /// It made this job.
    Enqueued(JobId),
    /// It made this job, which stands for so many earlier slots too.
    Coalesced(JobId, u32),
    /// It made none, for this reason: `overlap`, `deadline`, `paused`, `missed`, or `worker: …`.
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

/// The job a schedule makes, checked outside the transaction: its worker may have to be compiled first. Else why there is none.
pub(crate) type Prepared = Result<Checked, String>;

/// A job that was checked against its worker.
pub(crate) struct Checked {
    pub(crate) job: NewJob,
    pub(crate) args: Args,
    pub(crate) tenant_aware: bool,
}

/// Decides the slots of a schedule that are due, and moves it to its next slot. Inside a write transaction that began after `due` was
/// read again; the job, the ledger and the next slot commit together.
pub(crate) fn fire(connection: &Connection, due: &Due, prepared: &Prepared, now: Timestamp) -> Result<Vec<Fired>, StoreError> {
    use crate::store::Doing;
    fire_slots(connection, due, prepared, now).doing("fire the schedule")
}

fn fire_slots(connection: &Connection, due: &Due, prepared: &Prepared, now: Timestamp) -> rusqlite::Result<Vec<Fired>> {
    let row = &due.row;
    // Another process may have been here first.
    if next_of(connection, &row.name)? != Some(due.slot.as_millis()) {
        return Ok(Vec::new());
    }
    let rule = match (row.expression.parse::<Expression>(), parse_zone(&row.timezone)) {
        (Ok(expression), Ok(zone)) => Rule { expression, zone, anchor: Timestamp::from_millis(row.anchor) },
        // Someone edited the row. It cannot be followed any more, and the ledger says so.
        _ => {
            let fired = skip(connection, row, due.slot, 0, "the stored expression or time zone cannot be read", now)?;
            advance(connection, &row.name, due.slot, None, now)?;
            return Ok(vec![fired]);
        }
    };
    let slots = rule.due(due.slot, now);
    let mut fired = Vec::new();
    if row.paused {
        fired.push(skip(connection, row, slots.last, slots.before, "paused", now)?);
    } else {
        for chosen in slots.chosen(row, &rule, now) {
            fired.push(match chosen {
                Chosen::Decide(slot, missed) => decide(connection, row, prepared, slot, missed, now)?,
                Chosen::Missed(slot, missed) => skip(connection, row, slot, missed, "missed", now)?,
            });
        }
    }
    advance(connection, &row.name, slots.last, rule.next(slots.last), now)?;
    Ok(fired)
}

/// Makes the job of an `@reboot` schedule, once for each start.
pub(crate) fn fire_at_start(connection: &Connection, row: &ScheduleRow, prepared: &Prepared, now: Timestamp) -> rusqlite::Result<Fired> {
    let fired = decide(connection, row, prepared, now, 0, now)?;
    advance(connection, &row.name, now, None, now)?;
    Ok(fired)
}

struct Rule {
    expression: Expression,
    zone: chrono_tz::Tz,
    anchor: Timestamp,
}

/// The slots that are due: the last, and how many came before it.
struct Slots {
    first: Timestamp,
    last: Timestamp,
    before: u32,
}

impl Rule {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.expression.next_after(after, self.zone, self.anchor)
    }

    fn due(&self, first: Timestamp, now: Timestamp) -> Slots {
        let (mut last, mut before) = (first, 0);
        while let Some(next) = self.next(last).filter(|next| *next <= now) {
            if before == COUNT_MAX {
                return Slots { first, last: self.last_before(now).unwrap_or(last).max(last), before };
            }
            last = next;
            before += 1;
        }
        Slots { first, last, before }
    }

    /// The last slot up to now, found by looking back further and further.
    fn last_before(&self, now: Timestamp) -> Option<Timestamp> {
        let mut back = Duration::from_secs(2);
        let mut slot = loop {
            match self.next(now - back).filter(|slot| *slot <= now) {
                Some(slot) => break slot,
                None if back.as_secs() > 400 * 86_400 => return None,
                None => back *= 2,
            }
        };
        while let Some(next) = self.next(slot).filter(|next| *next <= now) {
            slot = next;
        }
        Some(slot)
    }
}

/// A slot that gets a line of its own in the ledger, with how many earlier ones it stands for.
enum Chosen {
    Decide(Timestamp, u32),
    Missed(Timestamp, u32),
}

impl Slots {
    fn chosen(&self, row: &ScheduleRow, rule: &Rule, now: Timestamp) -> Vec<Chosen> {
        let Missed::Replay(most) = row.missed.parse().unwrap_or_default() else {
            return vec![Chosen::Decide(self.last, self.before)];
        };
        let skipped = (self.before + 1).saturating_sub(most.max(1));
        let mut chosen = Vec::new();
        let (mut slot, mut place) = (Some(self.first), 0);
        while let Some(at) = slot.filter(|at| *at <= now) {
            place += 1;
            if place == skipped {
                chosen.push(Chosen::Missed(at, skipped - 1));
            } else if place > skipped {
                chosen.push(Chosen::Decide(at, 0));
            }
            slot = rule.next(at);
        }
        chosen
    }
}

fn decide(
    connection: &Connection,
    row: &ScheduleRow,
    prepared: &Prepared,
    slot: Timestamp,
    missed: u32,
    now: Timestamp,
) -> rusqlite::Result<Fired> {
    let late = now.since(slot);
    let policy: Missed = row.missed.parse().unwrap_or_default();
    if policy == Missed::Skip && late > SKIP_GRACE {
        return skip(connection, row, slot, missed, "missed", now);
    }
    if row.deadline_ms.is_some_and(|deadline| late.as_millis() > u128::try_from(deadline).unwrap_or(0)) {
        return skip(connection, row, slot, missed, "deadline", now);
    }
    // The slots of one replay do not stand in each other's way; an older job does.
    if row.overlap == Overlap::Forbid.as_str() && is_under_way(connection, &row.name, now)? {
        return skip(connection, row, slot, missed, "overlap", now);
    }
    let ready = prepared.as_ref().map_err(Clone::clone).and_then(|checked| {
        Ready::new(checked.job.clone(), &checked.args, checked.tenant_aware).map_err(|error| error.to_string())
    });
    let mut ready = match ready {
        Ok(ready) => ready,
        Err(reason) => return skip(connection, row, slot, missed, &format!("worker: {reason}"), now),
    };
    ready.of_slot(&row.name, slot, missed, slot + jitter(row));
    let job = match queue::insert(connection, &ready, now) {
        Ok(enqueued) => enqueued.id,
        Err(error) if error.kind() == crate::store::StoreErrorKind::Constraint => {
            return skip(connection, row, slot, missed, "worker: its args are refused by the table", now);
        }
        Err(error) => return Err(error.into_sqlite()),
    };
    let missed = if policy == Missed::Coalesce { missed } else { 0 };
    let outcome = if missed > 0 { "coalesced" } else { "enqueued" };
    ledger(connection, row, slot, (outcome, None), missed, Some(job), now)?;
    let outcome = if missed > 0 { FireOutcome::Coalesced(job, missed) } else { FireOutcome::Enqueued(job) };
    Ok(Fired { schedule: row.name.clone(), slot, outcome })
}

fn skip(connection: &Connection, row: &ScheduleRow, slot: Timestamp, missed: u32, reason: &str, now: Timestamp) -> rusqlite::Result<Fired> {
    ledger(connection, row, slot, ("skipped", Some(reason)), missed, None, now)?;
    Ok(Fired { schedule: row.name.clone(), slot, outcome: FireOutcome::Skipped(reason.to_string()) })
}

fn ledger(
    connection: &Connection,
    row: &ScheduleRow,
    slot: Timestamp,
    (outcome, reason): (&str, Option<&str>),
    missed: u32,
    job: Option<JobId>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO verger_fires (schedule, slot, fired_at, outcome, reason, missed, job) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute((&row.name, slot.as_millis(), now.as_millis(), outcome, reason, missed, job.map(JobId::number)))?;
    Ok(())
}

fn advance(connection: &Connection, name: &str, last: Timestamp, next: Option<Timestamp>, now: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE verger_schedules SET last_slot = ?2, next_fire_at = ?3, updated_at = ?4 WHERE name = ?1")?
        .execute((name, last.as_millis(), next.map(Timestamp::as_millis), now.as_millis()))?;
    Ok(())
}

fn next_of(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    let next = connection
        .prepare_cached("SELECT next_fire_at FROM verger_schedules WHERE name = ?1")?
        .query_row([name], |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    Ok(next.flatten())
}

fn is_under_way(connection: &Connection, name: &str, now: Timestamp) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM verger_jobs WHERE schedule = ?1 AND finished_at IS NULL AND created_at < ?2)")?
        .query_row((name, now.as_millis()), |row| row.get(0))
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
    let args = serde_json::from_str(&row.args).map_err(|error| format!("its stored args are no JSON: {error}"))?;
    Ok(NewJob::new(&row.worker, args).queue(&row.queue).priority(row.priority).max_attempts(row.max_attempts))
}
