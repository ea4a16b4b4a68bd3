//! The table `verger_events`: what an app missed while it was closed.
//!
//! A row is written in the transaction of what it tells of, so the rows are in the order of the
//! commits. The jobs that one transaction completes share one row. A row for each would cost more
//! than the jobs' own bookkeeping when many small jobs run.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value as Json;

use super::lifecycle::{EventJob, EventKind, LifecycleEvent};
use super::position::{EventPosition, PLACES};
use crate::ids::JobId;
use crate::store::Cells;
use crate::time::Timestamp;

const COMPLETED: &str = "completed";

const INSERT: &str = "INSERT INTO verger_events (at, source, kind, data) VALUES (?1, ?2, ?3, ?4)";

/// The random number of this process, which tells who wrote a row.
pub(crate) fn source() -> i64 {
    static SOURCE: OnceLock<i64> = OnceLock::new();
    *SOURCE.get_or_init(|| RandomState::new().hash_one(std::process::id()).cast_signed())
}

/// Writes that something happened, inside the transaction in which it does.
pub(crate) fn record(
    connection: &Connection,
    now: Timestamp,
    kind: &EventKind,
) -> rusqlite::Result<()> {
    let data = serde_json::to_string(kind)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection
        .prepare_cached(INSERT)?
        .execute((now.as_millis(), source(), kind.as_str(), data))
        .map(drop)
}

/// Writes which jobs are completed, inside the transaction that completes them. One row stands for
/// all.
pub(crate) fn record_completed(
    connection: &Connection,
    now: Timestamp,
    jobs: impl IntoIterator<Item = JobId>,
) -> rusqlite::Result<()> {
    let mut jobs = jobs.into_iter().peekable();
    while jobs.peek().is_some() {
        let data = ids(jobs.by_ref().take(PLACES as usize));
        connection.prepare_cached(INSERT)?.execute((now.as_millis(), source(), COMPLETED, data))?;
    }
    Ok(())
}

/// The same, as SQL texts without parameters.
pub(crate) fn completed_sql(now: Timestamp, jobs: &[JobId]) -> Vec<String> {
    let insert = |jobs: &[JobId]| {
        let (at, source, data) = (now.as_millis(), source(), ids(jobs.iter().copied()));
        format!(
            "INSERT INTO verger_events (at, source, kind, data) VALUES ({at}, {source}, '{COMPLETED}', '{data}')"
        )
    };
    jobs.chunks(PLACES as usize).map(insert).collect()
}

/// The ids as the column has them.
fn ids(jobs: impl Iterator<Item = JobId>) -> String {
    use std::fmt::Write as _;

    let mut data = String::from("[");
    for (place, job) in jobs.enumerate() {
        // Writing to a String does not fail.
        let _ = write!(data, "{}{}", if place > 0 { "," } else { "" }, job.number());
    }
    data.push(']');
    data
}

/// The position of the newest event that is kept.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<EventPosition> {
    let row: Option<i64> = connection
        .prepare_cached("SELECT max(id) FROM verger_events")?
        .query_row([], |row| row.get(0))?;
    Ok(row.map_or(EventPosition::START, EventPosition::end_of))
}

/// What was read of the table.
pub(crate) struct Kept {
    /// How many rows after the position retention has deleted.
    pub(crate) missed: u64,
    pub(crate) events: Vec<LifecycleEvent>,
}

/// The events after a position, at most `limit`.
pub(super) fn after(
    connection: &Connection,
    position: EventPosition,
    limit: usize,
) -> rusqlite::Result<Kept> {
    let mut kept = Kept { missed: 0, events: Vec::new() };
    // A position can be in the middle of a row.
    let mut rows = connection.prepare_cached(
        "SELECT id, at, source, kind, data FROM verger_events WHERE id >= ?1 ORDER BY id LIMIT ?2",
    )?;
    let rows = rows.query_map(
        (position.row(), i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX)),
        |row| Ok(Recorded::of(row)),
    )?;
    for (place, row) in rows.enumerate() {
        let row = row?;
        if place == 0 && position > EventPosition::START {
            let between = row.id.saturating_sub(position.row()).saturating_sub(1);
            kept.missed = u64::try_from(between).unwrap_or(0);
        }
        for (place, kind) in row.kinds(connection)?.into_iter().enumerate() {
            let at = EventPosition::at(row.id, i64::try_from(place).unwrap_or(PLACES - 1));
            if at <= position {
                continue;
            }
            if kept.events.len() == limit {
                return Ok(kept);
            }
            kept.events.push(LifecycleEvent {
                position: at,
                at: row.at,
                here: row.source == source(),
                kind,
            });
        }
    }
    // The last event of a row stands for its end, because nothing is added to a written row.
    Ok(kept)
}

struct Recorded {
    id: i64,
    at: Timestamp,
    source: i64,
    kind: String,
    data: String,
}

const COLUMNS: &[&str] = &["id", "at", "source", "kind", "data"];

impl Recorded {
    fn of(row: &Row<'_>) -> Self {
        let mut cells = Cells::of(row, COLUMNS);
        Self {
            id: cells.integer("id"),
            at: cells.time("at"),
            source: cells.integer("source"),
            kind: cells.text("kind"),
            data: cells.text("data"),
        }
    }

    /// The events it stands for: one, or one for each job that was completed.
    fn kinds(&self, connection: &Connection) -> rusqlite::Result<Vec<EventKind>> {
        let unknown = || EventKind::Unknown { word: self.kind.clone() };
        if self.kind != COMPLETED {
            let kind = serde_json::from_str::<EventKind>(&self.data).ok();
            return Ok(vec![kind.unwrap_or_else(unknown)]);
        }
        match serde_json::from_str::<Json>(&self.data) {
            Ok(Json::Array(ids)) if !ids.is_empty() => ids
                .iter()
                .take(PLACES as usize)
                .map(|id| {
                    let id = JobId::from_number(id.as_i64().unwrap_or_default());
                    Ok(EventKind::Completed { job: job(connection, id)? })
                })
                .collect(),
            _ => Ok(vec![unknown()]),
        }
    }
}

const JOB: &[&str] = &["worker", "queue", "attempt", "schedule"];

/// What is still known of a job.
fn job(connection: &Connection, id: JobId) -> rusqlite::Result<EventJob> {
    let found = connection
        .prepare_cached("SELECT worker, queue, attempt, schedule FROM verger_jobs WHERE id = ?1")?
        .query_row([id.number()], |row| {
            let mut cells = Cells::of(row, JOB);
            Ok(EventJob {
                id,
                worker: cells.text("worker"),
                queue: cells.text("queue"),
                attempt: cells.count("attempt"),
                schedule: cells.opt_text("schedule"),
            })
        })
        .optional()?;
    Ok(found.unwrap_or(EventJob {
        id,
        worker: String::new(),
        queue: String::new(),
        attempt: 0,
        schedule: None,
    }))
}

/// The oldest rows that are past their time, at most `limit`. The newest row stays, because its
/// number says where the next begin.
pub(crate) fn past(
    connection: &Connection,
    before: Timestamp,
    most: usize,
) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT id FROM (SELECT id, at FROM verger_events ORDER BY id LIMIT +?2) \
             WHERE at < ?1 AND id < (SELECT max(id) FROM verger_events)",
        )?
        .query_map((before.as_millis(), i64::try_from(most).unwrap_or(i64::MAX)), |row| row.get(0))?
        .collect()
}
