//! Schedules and the fire ledger as rows.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

use super::definition::Schedule;
use super::fire::decide_missed;
use super::slots::Rule;
use crate::store::{StoreContext, StoreError};
use crate::time::Timestamp;

/// One row of `verger_schedules`. Times are unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ScheduleRow {
    /// Its name.
    pub name: String,
    /// The crontab expression, or the interval.
    pub expression: String,
    /// The IANA name of its time zone.
    pub timezone: String,
    /// The worker of its jobs.
    pub worker: String,
    /// The args of its jobs, as JSON text.
    pub args: String,
    /// The queue of its jobs.
    pub queue: String,
    /// The priority of its jobs.
    pub priority: u8,
    /// The attempts of its jobs.
    pub max_attempts: u32,
    /// What becomes of missed slots.
    pub missed: String,
    /// What becomes of overlapping slots.
    pub overlap: String,
    /// A slot found due later than this is skipped.
    pub deadline_ms: Option<i64>,
    /// Its jobs are put off by up to this long.
    pub jitter_ms: i64,
    /// Whether it is paused.
    pub paused: bool,
    /// Where an interval starts to count.
    pub anchor: i64,
    /// The next slot.
    pub next_fire_at: Option<i64>,
    /// The last slot in the ledger.
    pub last_slot: Option<i64>,
}

/// One row of the fire ledger: what became of a slot. Times are unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FireRow {
    /// The schedule.
    pub schedule: String,
    /// The instant it was due.
    pub slot: i64,
    /// When that was decided.
    pub fired_at: i64,
    /// `enqueued`, `coalesced` or `skipped`.
    pub outcome: String,
    /// Why it was skipped: `overlap`, `deadline`, `paused`, `missed`, `changed`, `removed`,
    /// `worker: …`, `unreadable: …`. `run-now` when the row is for no slot, but for a job someone
    /// asked for.
    pub reason: Option<String>,
    /// How many slots before this one the row stands for too.
    pub missed: u32,
    /// The job it made.
    pub job: Option<i64>,
}

/// A schedule whose next slot has come.
pub(crate) struct Due {
    pub(crate) row: ScheduleRow,
    pub(crate) slot: Timestamp,
}

/// A clock that was set back by more than this was wrong before. What a schedule decided by it does
/// not bind it.
const CORRECTION: Duration = Duration::from_secs(86_400);

/// 2025-01-01T00:00:00Z. A clock that shows an earlier time was never set: a device without a
/// battery begins in 1970.
const PLAUSIBLE: Timestamp = Timestamp::from_millis(1_735_689_600_000);

/// Numbers that someone wrote by hand are brought to where they can be read: the check before a job
/// is made refuses them, and says so.
const COLUMNS: &str = "name, expression, timezone, worker, args, queue, max(0, min(priority, 255)), max(0, min(max_attempts, 4294967295)), \
     missed, overlap, deadline_ms, jitter_ms, paused, anchor, next_fire_at, last_slot";

fn from_row(row: &Row<'_>) -> rusqlite::Result<ScheduleRow> {
    Ok(ScheduleRow {
        name: row.get(0)?,
        expression: row.get(1)?,
        timezone: row.get(2)?,
        worker: row.get(3)?,
        args: row.get(4)?,
        queue: row.get(5)?,
        priority: row.get(6)?,
        max_attempts: row.get(7)?,
        missed: row.get(8)?,
        overlap: row.get(9)?,
        deadline_ms: row.get(10)?,
        jitter_ms: row.get(11)?,
        paused: row.get(12)?,
        anchor: row.get(13)?,
        next_fire_at: row.get(14)?,
        last_slot: row.get(15)?,
    })
}

/// All schedules, by name.
pub(crate) fn list(connection: &Connection) -> Result<Vec<ScheduleRow>, StoreError> {
    let reading = "list the schedules";
    let sql = format!("SELECT {COLUMNS} FROM verger_schedules ORDER BY name");
    let mut statement = connection.prepare_cached(&sql).doing(reading)?;
    let rows = statement.query_map([], from_row).doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

/// One schedule.
pub(crate) fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<ScheduleRow>> {
    let sql = format!("SELECT {COLUMNS} FROM verger_schedules WHERE name = ?1");
    connection.prepare_cached(&sql)?.query_row([name], from_row).optional()
}

/// The schedules that make a job at each start.
pub(crate) fn at_start(connection: &Connection) -> rusqlite::Result<Vec<ScheduleRow>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM verger_schedules WHERE expression = '@reboot' ORDER BY name"
    );
    connection.prepare_cached(&sql)?.query_map([], from_row)?.collect()
}

/// The schedules whose next slot has come.
pub(crate) fn due(connection: &Connection, now: Timestamp) -> rusqlite::Result<Vec<Due>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM verger_schedules WHERE next_fire_at IS NOT NULL AND next_fire_at <= ?1 ORDER BY next_fire_at, name"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([now.as_millis()], |row| {
        let row = from_row(row)?;
        let slot = Timestamp::from_millis(row.next_fire_at.unwrap_or(i64::MAX));
        Ok(Due { row, slot })
    })?;
    rows.collect()
}

/// When the next slot of any schedule comes.
pub(crate) fn next_fire(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached(
            "SELECT min(next_fire_at) FROM verger_schedules WHERE next_fire_at IS NOT NULL",
        )?
        .query_row([], |row| Ok(row.get::<_, Option<i64>>(0)?.map(Timestamp::from_millis)))
}

/// The ledger of a schedule, newest slot first.
pub(crate) fn fires(
    connection: &Connection,
    schedule: &str,
    limit: u32,
) -> Result<Vec<FireRow>, StoreError> {
    let reading = "read the fire ledger";
    let sql = format!(
        "SELECT {FIRE_COLUMNS} FROM verger_fires WHERE schedule = ?1 ORDER BY slot DESC LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql).doing(reading)?;
    let rows = statement.query_map((schedule, limit), fire_from_row).doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

/// The first row of the ledger at or after this slot.
pub(super) fn fire_at_or_after(
    connection: &Connection,
    schedule: &str,
    slot: Timestamp,
) -> rusqlite::Result<Option<FireRow>> {
    let sql = format!(
        "SELECT {FIRE_COLUMNS} FROM verger_fires WHERE schedule = ?1 AND slot >= ?2 ORDER BY slot LIMIT 1"
    );
    connection
        .prepare_cached(&sql)?
        .query_row((schedule, slot.as_millis()), fire_from_row)
        .optional()
}

const FIRE_COLUMNS: &str =
    "schedule, slot, fired_at, outcome, reason, max(0, min(missed, 4294967295)), job";

fn fire_from_row(row: &Row<'_>) -> rusqlite::Result<FireRow> {
    Ok(FireRow {
        schedule: row.get(0)?,
        slot: row.get(1)?,
        fired_at: row.get(2)?,
        outcome: row.get(3)?,
        reason: row.get(4)?,
        missed: row.get(5)?,
        job: row.get(6)?,
    })
}

/// Stores a schedule, inside a write transaction. An unchanged expression keeps its next slot; a
/// new or a changed one starts from now.
pub(crate) fn upsert(
    connection: &Connection,
    schedule: &Schedule,
    args: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let stored = get(connection, &schedule.name)?;
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let (expression, timezone) =
        (schedule.expression.to_string(), schedule.zone.name().to_string());
    // One that could not be read before, and was mended by hand, begins anew too.
    let goes_on =
        |row: &&ScheduleRow| row.next_fire_at.is_some() || schedule.expression.is_reboot();
    let kept = stored
        .as_ref()
        .filter(|row| row.expression == expression && row.timezone == timezone)
        .filter(goes_on);
    let (anchor, next_fire_at) = match kept {
        Some(row) => (row.anchor, row.next_fire_at),
        None => {
            if let Some(row) = &stored {
                decide_missed(connection, row, "changed", now)?;
            }
            let next = schedule.expression.next_after(now, schedule.zone, now);
            (now.as_millis(), next.map(Timestamp::as_millis))
        }
    };
    let row = ScheduleRow {
        name: schedule.name.clone(),
        expression,
        timezone,
        worker: schedule.job.worker.clone(),
        args: args.to_string(),
        queue: schedule.job.queue.clone(),
        priority: schedule.job.priority,
        max_attempts: schedule.job.max_attempts,
        missed: schedule.missed.to_string(),
        overlap: schedule.overlap.as_str().to_string(),
        deadline_ms: schedule.deadline.map(millis),
        jitter_ms: millis(schedule.jitter),
        paused: stored.as_ref().is_some_and(|row| row.paused),
        anchor,
        next_fire_at,
        last_slot: stored.as_ref().and_then(|row| row.last_slot),
    };
    if stored.as_ref() == Some(&row) {
        return Ok(());
    }
    connection
        .prepare_cached(
            "INSERT INTO verger_schedules (name, expression, timezone, worker, args, queue, priority, max_attempts, missed, overlap, deadline_ms, \
             jitter_ms, paused, anchor, next_fire_at, last_slot, created_at, updated_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?17) \
             ON CONFLICT (name) DO UPDATE SET expression = ?2, timezone = ?3, worker = ?4, args = ?5, queue = ?6, priority = ?7, \
             max_attempts = ?8, missed = ?9, overlap = ?10, deadline_ms = ?11, jitter_ms = ?12, anchor = ?14, next_fire_at = ?15, updated_at = ?17",
        )?
        .execute(rusqlite::params![
            row.name,
            row.expression,
            row.timezone,
            row.worker,
            row.args,
            row.queue,
            row.priority,
            row.max_attempts,
            row.missed,
            row.overlap,
            row.deadline_ms,
            row.jitter_ms,
            row.paused,
            row.anchor,
            row.next_fire_at,
            row.last_slot,
            now.as_millis(),
        ])?;
    Ok(())
}

/// Pauses or resumes a schedule: false when there is none of that name. Slots that fall due while
/// it is paused are skipped, and the ledger says so.
pub(crate) fn set_paused(
    connection: &Connection,
    name: &str,
    paused: bool,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let Some(row) = get(connection, name)? else { return Ok(false) };
    if row.paused && !paused {
        decide_missed(connection, &row, "paused", now)?;
    }
    if row.paused != paused {
        connection
            .prepare_cached(
                "UPDATE verger_schedules SET paused = ?2, updated_at = ?3 WHERE name = ?1",
            )?
            .execute((name, paused, now.as_millis()))?;
    }
    Ok(true)
}

/// Removes a schedule; its ledger and its jobs stay.
pub(crate) fn remove(
    connection: &Connection,
    name: &str,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let Some(row) = get(connection, name)? else { return Ok(false) };
    decide_missed(connection, &row, "removed", now)?;
    Ok(connection
        .prepare_cached("DELETE FROM verger_schedules WHERE name = ?1")?
        .execute([name])?
        == 1)
}

/// The schedules that a wrong clock sent into the future: they were written more than a day after
/// now.
pub(crate) fn misled(
    connection: &Connection,
    now: Timestamp,
) -> rusqlite::Result<Vec<ScheduleRow>> {
    if now < PLAUSIBLE {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM verger_schedules WHERE updated_at > ?1 AND next_fire_at IS NOT NULL ORDER BY name"
    );
    connection
        .prepare_cached(&sql)?
        .query_map([(now + CORRECTION).as_millis()], from_row)?
        .collect()
}

/// Brings such a schedule back to its first slot after now. Slots that have a line in the ledger
/// make no second job.
pub(crate) fn bring_back(
    connection: &Connection,
    row: &ScheduleRow,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let mut row = ScheduleRow { anchor: row.anchor.min(now.as_millis()), ..row.clone() };
    let Ok(rule) = Rule::of(&row) else { return Ok(()) };
    row.next_fire_at =
        rule.next(now).map(Timestamp::as_millis).min(row.next_fire_at).or(row.next_fire_at);
    connection.prepare_cached("UPDATE verger_schedules SET anchor = ?2, next_fire_at = ?3, updated_at = ?4 WHERE name = ?1")?.execute((
        &row.name,
        row.anchor,
        row.next_fire_at,
        now.as_millis(),
    ))?;
    Ok(())
}
