//! Queues as an operator asks for them: what waits in each, and which are paused.

use rusqlite::{Connection, Row};
use serde::Serialize;

use super::read::text;
use super::waiting::WAITING;
use crate::event::{self, EventKind};
use crate::metrics::Metrics;
use crate::store::{Cells, StoreContext, StoreError, Unreadable};
use crate::time::Timestamp;

/// A queue: what waits in it, and whether it is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QueueRow {
    /// Its name.
    pub name: String,
    /// Whether it is paused. Nothing is claimed from a paused queue.
    pub paused: bool,
    /// Jobs that wait for their time, for their turn, or to be tried again.
    pub waiting: u64,
    /// Jobs that are being performed.
    pub executing: u64,
    /// When the first waiting job is due. It is in the past when the job waits for its turn.
    pub next_due_at: Option<Timestamp>,
    /// The columns that someone else wrote and that cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
}

/// With what waits, and is being performed, in each queue.
pub(crate) fn counted(mut metrics: Metrics, queues: Vec<QueueRow>) -> Metrics {
    for queue in queues {
        metrics.waiting.insert(queue.name.clone(), queue.waiting);
        metrics.executing.insert(queue.name, queue.executing);
    }
    metrics
}

/// The queues in which a job waits or is being performed, and those that were ever paused, by name.
pub(super) fn queues(connection: &Connection) -> Result<Vec<QueueRow>, StoreError> {
    let reading = "read the queues";
    let sql = format!(
        "SELECT name, max(paused), sum(waiting), sum(executing), min(next_due_at) FROM (\
         SELECT name, paused, 0 AS waiting, 0 AS executing, NULL AS next_due_at FROM verger_queues UNION ALL \
         SELECT queue, 0, count(*), 0, min(due_at) FROM verger_jobs WHERE {WAITING} GROUP BY queue UNION ALL \
         SELECT queue, 0, 0, count(*), NULL FROM verger_jobs WHERE lease_until IS NOT NULL AND state = 'executing' GROUP BY queue) \
         GROUP BY name ORDER BY name"
    );
    let mut statement = connection.prepare_cached(&sql).doing(reading)?;
    let rows = statement.query_map([], |row| Ok(from_row(row))).doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

const COLUMNS: &[&str] = &["name", "paused", "waiting", "executing", "next_due_at"];

fn from_row(row: &Row<'_>) -> QueueRow {
    let mut cells = Cells::of(row, COLUMNS);
    QueueRow {
        name: cells.text("name"),
        paused: cells.flag("paused"),
        waiting: cells.integer("waiting").unsigned_abs(),
        executing: cells.integer("executing").unsigned_abs(),
        next_due_at: cells.opt_time("next_due_at"),
        unreadable: cells.unreadable(),
    }
}

/// Pauses or resumes a queue, inside a write transaction. Returns the event to tell.
pub(super) fn pause_queue(
    connection: &Connection,
    name: &str,
    paused: bool,
    now: Timestamp,
) -> rusqlite::Result<Option<EventKind>> {
    let was_paused = paused_queues(connection)?.iter().any(|paused| paused == name);
    connection
        .prepare_cached(
            "INSERT INTO verger_queues (name, paused, updated_at) VALUES (?1, ?2, ?3) \
             ON CONFLICT (name) DO UPDATE SET paused = excluded.paused, updated_at = excluded.updated_at WHERE paused <> excluded.paused",
        )?
        .execute((name, paused, now.as_millis()))?;
    let event = (paused != was_paused).then(|| match paused {
        true => EventKind::QueuePaused { queue: name.to_string() },
        false => EventKind::QueueResumed { queue: name.to_string() },
    });
    event.iter().try_for_each(|event| event::record(connection, now, event))?;
    Ok(event)
}

/// The queues that are paused, by name.
pub(super) fn paused_queues(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached("SELECT name FROM verger_queues WHERE paused <> 0 ORDER BY name")?
        .query_map([], |row| text(row, 0))?
        .collect()
}
