//! Schedules as rows of `verger_schedules`.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Serialize, Serializer};

use super::definition::{Missed, Overlap, Schedule, ScheduleError};
use super::expression::parse_zone;
use crate::queue::NewJob;
use crate::store::{Cells, RawText, StoreContext, StoreError, Unreadable};
use crate::time::Timestamp;

/// The expression of a schedule that makes a job at each start.
pub(super) const REBOOT: &str = "@reboot";

/// One row of `verger_schedules`.
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
    /// The version of its worker's args that they were written for.
    pub args_version: u32,
    /// The queue of its jobs.
    pub queue: String,
    /// The priority of its jobs.
    pub priority: u8,
    /// The attempts of its jobs.
    pub max_attempts: u32,
    /// What happens to missed slots.
    #[serde(serialize_with = "as_text")]
    pub missed: Missed,
    /// What happens to overlapping slots.
    #[serde(serialize_with = "as_text")]
    pub overlap: Overlap,
    /// A slot found due later than this is skipped, in milliseconds.
    pub deadline_ms: Option<i64>,
    /// Its jobs are delayed by up to this long, in milliseconds.
    pub jitter_ms: i64,
    /// Whether it is paused.
    pub paused: bool,
    /// Where an interval starts to count.
    pub anchor: Timestamp,
    /// The next slot.
    pub next_fire_at: Option<Timestamp>,
    /// The last slot in the ledger.
    pub last_slot: Option<Timestamp>,
    /// The set of schedules in the app's code that it belongs to, by the name given to
    /// [`Builder::schedule_set`](crate::Builder::schedule_set). Empty if none was given. `None` for
    /// a schedule that was added by an operator, or at run time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered_by: Option<String>,
    /// The columns that someone else wrote and that cannot be read. Such a schedule makes no jobs,
    /// and the ledger says why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
}

fn as_text<S: Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

/// A schedule whose next slot has come.
pub(crate) struct Due {
    pub(crate) row: ScheduleRow,
    pub(crate) slot: Timestamp,
    /// Its name as it is stored.
    raw_name: RawText,
}

const COLUMNS: &[&str] = &[
    "name",
    "expression",
    "timezone",
    "worker",
    "args",
    "args_version",
    "queue",
    "priority",
    "max_attempts",
    "missed",
    "overlap",
    "deadline_ms",
    "jitter_ms",
    "paused",
    "anchor",
    "next_fire_at",
    "last_slot",
    "registered_by",
];

/// A query for schedules that ends with `rest`.
fn select(rest: &str) -> String {
    let (_, own) = COLUMNS.split_last().unwrap_or((&"", &[]));
    let own = own.join(", s.");
    format!(
        "SELECT s.{own}, r.registered_by FROM verger_schedules AS s \
         LEFT JOIN verger_registrations AS r ON r.schedule = s.name {rest}"
    )
}

fn from_row(row: &Row<'_>) -> ScheduleRow {
    let mut cells = Cells::of(row, COLUMNS);
    ScheduleRow {
        name: cells.text("name"),
        expression: cells.text("expression"),
        timezone: cells.text("timezone"),
        worker: cells.text("worker"),
        args: cells.text("args"),
        args_version: cells.count("args_version"),
        queue: cells.text("queue"),
        priority: cells.small("priority"),
        max_attempts: cells.count("max_attempts"),
        missed: cells.word("missed", Missed::Skip),
        overlap: cells.word("overlap", Overlap::Forbid),
        deadline_ms: cells.opt_integer("deadline_ms"),
        jitter_ms: cells.integer("jitter_ms"),
        paused: cells.flag("paused"),
        anchor: cells.time("anchor"),
        next_fire_at: cells.opt_time("next_fire_at"),
        last_slot: cells.opt_time("last_slot"),
        registered_by: cells.opt_text("registered_by"),
        unreadable: cells.unreadable(),
    }
}

impl ScheduleRow {
    /// The schedule that is stored, to store it again with a field changed.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use verger::{Schedule, Verger};
    /// # let verger = Verger::in_memory().schedule(Schedule::every("sweep", Duration::from_secs(9))?
    /// #     .worker("cleanup-audit").args(serde_json::json!({"retention_days": null}))).open()?;
    /// for row in verger.schedules()? {
    ///     let hourly = row.to_schedule()?.set_interval(Duration::from_secs(3_600))?;
    ///     verger.add_schedule(&hourly)?;
    /// }
    /// # assert_eq!(verger.schedules()?[0].expression, "@every 1h");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ScheduleError`] when someone else wrote the row, and a column of it cannot be used.
    pub fn to_schedule(&self) -> Result<Schedule, ScheduleError> {
        let name = self.name.clone();
        let invalid = |reason: String| ScheduleError::Invalid { name: self.name.clone(), reason };
        if let Some(found) = self.unreadable.first() {
            let reason = format!("its column {} cannot be read: {}", found.column, found.why);
            return Err(invalid(reason));
        }
        let expression = self
            .expression
            .parse()
            .map_err(|source| ScheduleError::Expression { name: name.clone(), source })?;
        let zone = parse_zone(&self.timezone)
            .map_err(|source| ScheduleError::Zone { name: name.clone(), source })?;
        let args = serde_json::from_str(&self.args)
            .map_err(|error| invalid(format!("its args are no JSON: {error}")))?;
        let job = NewJob::new(&self.worker, args)
            .args_version(self.args_version)
            .queue(&self.queue)
            .priority(self.priority)
            .max_attempts(self.max_attempts);
        Ok(Schedule {
            name,
            expression,
            zone,
            job,
            missed: self.missed,
            overlap: self.overlap,
            deadline: self.deadline(),
            jitter: self.jitter(),
            yields: false,
        })
    }

    /// A slot found due later than this is skipped.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline_ms.map(|millis| Duration::from_millis(millis.max(0).unsigned_abs()))
    }

    /// Its jobs are delayed by up to this long.
    #[must_use]
    pub fn jitter(&self) -> Duration {
        Duration::from_millis(self.jitter_ms.max(0).unsigned_abs())
    }

    /// Why no job can be made of what is stored, if that is so.
    pub(super) fn why_unreadable(&self) -> Option<String> {
        // A number out of range is refused like any other, by the check of the job.
        let numbers = ["priority", "max_attempts", "paused"];
        let mut unreadable = self.unreadable.iter();
        let found = unreadable.find(|unreadable| !numbers.contains(&unreadable.column))?;
        Some(format!("its column {} cannot be read: {}", found.column, found.why))
    }
}

/// All schedules, by name.
pub(super) fn list(connection: &Connection) -> Result<Vec<ScheduleRow>, StoreError> {
    let reading = "list the schedules";
    let mut statement = connection.prepare_cached(&select("ORDER BY s.name")).doing(reading)?;
    let rows = statement.query_map([], |row| Ok(from_row(row))).doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

/// One schedule.
pub(super) fn get(connection: &Connection, name: &str) -> rusqlite::Result<Option<ScheduleRow>> {
    connection
        .prepare_cached(&select("WHERE s.name = ?1"))?
        .query_row([name], |row| Ok(from_row(row)))
        .optional()
}

/// The schedules that make a job at each start.
pub(super) fn at_start(connection: &Connection) -> rusqlite::Result<Vec<ScheduleRow>> {
    connection
        .prepare_cached(&select("WHERE s.expression = '@reboot' ORDER BY s.name"))?
        .query_map([], |row| Ok(from_row(row)))?
        .filter(|row| row.as_ref().is_ok_and(|row| row.why_unreadable().is_none()))
        .collect()
}

/// The schedules whose next slot has come.
pub(super) fn due(connection: &Connection, now: Timestamp) -> rusqlite::Result<Vec<Due>> {
    let sql = select(
        "WHERE s.next_fire_at IS NOT NULL AND s.next_fire_at <= ?1 ORDER BY s.next_fire_at, s.name",
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([now.as_millis()], |row| {
        let raw_name = RawText::of(row, 0)?;
        let row = from_row(row);
        let slot = row.next_fire_at.unwrap_or(Timestamp::from_millis(i64::MAX));
        Ok(Due { row, slot, raw_name })
    })?;
    rows.collect()
}

/// When the next slot of any schedule comes.
pub(super) fn next_fire(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached(
            "SELECT min(next_fire_at) FROM verger_schedules WHERE next_fire_at IS NOT NULL",
        )?
        .query_row([], |row| Ok(row.get::<_, Option<i64>>(0)?.map(Timestamp::from_millis)))
}

/// The schedules that were written after this instant.
pub(super) fn written_after(
    connection: &Connection,
    at: Timestamp,
) -> rusqlite::Result<Vec<ScheduleRow>> {
    connection
        .prepare_cached(&select("WHERE s.updated_at > ?1 ORDER BY s.name"))?
        .query_map([at.as_millis()], |row| Ok(from_row(row)))?
        .collect()
}

/// Moves a schedule on to its next slot.
pub(super) fn advance(
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

/// Stops a schedule whose name cannot be read, because the ledger could have no line of it.
pub(super) fn stop_nameless(
    connection: &Connection,
    due: &Due,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE verger_schedules SET next_fire_at = NULL, updated_at = ?2 WHERE name = ?1",
        )?
        .execute((&due.raw_name, now.as_millis()))?;
    Ok(())
}

impl Due {
    pub(super) fn is_nameless(&self) -> bool {
        self.raw_name.as_str().is_none()
    }
}
