//! Taking jobs out of the queue, in the order of priority, due time and id.
//!
//! Every statement here is served by the index `verger_jobs_due` and reads no more rows than it
//! takes: queues and priorities are found by jumping from one to the next, so a backlog of a
//! million jobs costs nothing.
//!
//! The plus before a parameter hides its value from the planner: SQLite would prepare the statement
//! anew whenever it changed.

use rusqlite::{Connection, OptionalExtension, Row};

use super::job::JobId;
use super::queues::paused_queues;
use super::read::{count, text};
use super::transition::{Lease, TIDY};
use crate::time::Timestamp;

/// The states a job can be claimed from. Word for word the condition of the index.
pub(super) const WAITING: &str =
    "(state = 'scheduled' OR state = 'available' OR state = 'retryable')";

/// A job that was claimed, with what is needed to perform it.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) id: JobId,
    pub(crate) worker: String,
    pub(crate) args: String,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) token: i64,
    pub(crate) schedule: Option<String>,
    pub(crate) slot: Option<i64>,
    pub(crate) missed: u32,
    order: (u8, i64, i64),
}

/// Claims due jobs, up to its limit in each queue, inside a write transaction. They are performed
/// in the order returned.
pub(crate) fn claim(
    connection: &Connection,
    lease: &Lease,
    now: Timestamp,
    limit: impl Fn(&str) -> usize,
) -> rusqlite::Result<Vec<Claimed>> {
    connection.prepare_cached(TIDY)?.execute([])?;
    let sql = format!(
        "UPDATE verger_jobs SET state = 'executing', attempt = attempt + 1, token = token + 1, claimed_by = ?1, lease_until = ?2, \
         attempted_at = ?3 WHERE id IN (SELECT id FROM verger_jobs WHERE {WAITING} AND queue = +?4 AND priority = +?5 AND due_at <= +?3 \
         ORDER BY due_at, id LIMIT +?6) RETURNING id, worker, args, attempt, max_attempts, token, schedule, slot, missed, priority, due_at"
    );
    let mut update = connection.prepare_cached(&sql)?;
    let mut claimed: Vec<Claimed> = Vec::new();
    each_queue(connection, |queue| {
        let (mut room, mut priority) = (limit(queue), -1);
        while room > 0
            && let Some(next) = next_priority(connection, queue, priority)?
        {
            priority = next;
            let room_now = i64::try_from(room).unwrap_or(i64::MAX);
            let rows = update.query_map(
                (
                    &lease.holder,
                    lease.until.as_millis(),
                    now.as_millis(),
                    queue,
                    priority,
                    room_now,
                ),
                from_row,
            )?;
            for row in rows {
                claimed.push(row?);
                room -= 1;
            }
        }
        Ok(())
    })?;
    claimed.sort_unstable_by_key(|job| job.order);
    Ok(claimed)
}

/// When the next waiting job is due, if there is one.
pub(crate) fn next_due(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let mut earliest = None;
    each_queue(connection, |queue| {
        earliest = earlier(earliest, due_in(connection, queue)?);
        Ok(())
    })?;
    Ok(earliest)
}

/// When the next waiting job of a queue is due, if there is one and the queue is not paused.
pub(crate) fn next_due_in(
    connection: &Connection,
    queue: &str,
) -> rusqlite::Result<Option<Timestamp>> {
    if paused_queues(connection)?.iter().any(|paused| paused == queue) {
        Ok(None)
    } else {
        due_in(connection, queue)
    }
}

fn due_in(connection: &Connection, queue: &str) -> rusqlite::Result<Option<Timestamp>> {
    let sql = format!(
        "SELECT due_at FROM verger_jobs WHERE {WAITING} AND queue = +?1 AND priority = +?2 ORDER BY due_at LIMIT 1"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let (mut earliest, mut priority) = (None, -1);
    while let Some(next) = next_priority(connection, queue, priority)? {
        priority = next;
        let due: Option<i64> = select.query_row((queue, priority), |row| row.get(0)).optional()?;
        earliest = earlier(earliest, due.map(Timestamp::from_millis));
    }
    Ok(earliest)
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

/// Visits the queues that have jobs waiting and are not paused, by name.
fn each_queue(
    connection: &Connection,
    mut visit: impl FnMut(&str) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let paused = paused_queues(connection)?;
    let mut queue = String::new();
    while let Some(next) = next_queue(connection, &queue)? {
        queue = next;
        if !paused.contains(&queue) {
            visit(&queue)?;
        }
    }
    Ok(())
}

fn next_queue(connection: &Connection, after: &str) -> rusqlite::Result<Option<String>> {
    let sql = format!(
        "SELECT queue FROM verger_jobs WHERE {WAITING} AND queue > +?1 ORDER BY queue LIMIT 1"
    );
    connection.prepare_cached(&sql)?.query_row([after], |row| row.get(0)).optional()
}

fn next_priority(
    connection: &Connection,
    queue: &str,
    after: i64,
) -> rusqlite::Result<Option<i64>> {
    let sql = format!(
        "SELECT priority FROM verger_jobs WHERE {WAITING} AND queue = +?1 AND priority > +?2 ORDER BY priority LIMIT 1"
    );
    connection.prepare_cached(&sql)?.query_row((queue, after), |row| row.get(0)).optional()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Claimed> {
    let id = row.get(0)?;
    Ok(Claimed {
        id: JobId(id),
        worker: text(row, 1)?,
        // What is no UTF-8, in a row made by hand, is no JSON either: this job fails, and the
        // others go on.
        args: row.get_ref(2)?.as_str().unwrap_or_default().to_string(),
        attempt: count(row, 3)?,
        max_attempts: count(row, 4)?,
        token: row.get(5)?,
        schedule: row.get(6)?,
        slot: row.get(7)?,
        missed: count(row, 8)?,
        order: (row.get(9)?, row.get(10)?, id),
    })
}
