//! Deleting finished jobs, old lines of the ledger and old events.

use std::time::Duration;

use rusqlite::Connection;

use super::job::JobState;
use crate::event;
use crate::store::{RawText, TransactionGuard, is_of_the_row};
use crate::time::Timestamp;

/// Rows deleted in one transaction.
const BATCH: usize = 1_000;

/// How long finished jobs, rows of the fire ledger and events are kept. `None` keeps them for ever.
///
/// ```
/// use std::time::Duration;
/// use verger::Retention;
///
/// let days = |days: u64| Duration::from_secs(days * 86_400);
/// let retention = Retention::new().completed(days(1)).discarded(None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it holds once the builder has it"]
pub struct Retention {
    pub(crate) completed: Option<Duration>,
    pub(crate) cancelled: Option<Duration>,
    pub(crate) discarded: Option<Duration>,
    pub(crate) fires: Option<Duration>,
    pub(crate) events: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        Self {
            completed: days(7),
            cancelled: days(7),
            discarded: days(90),
            fires: days(90),
            events: days(7),
        }
    }
}

impl Retention {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps everything for ever. The app deletes what it does not want.
    pub fn for_ever() -> Self {
        Self { completed: None, cancelled: None, discarded: None, fires: None, events: None }
    }

    /// Jobs that completed, from their end. Default 7 days.
    pub fn completed(mut self, keep: impl Into<Option<Duration>>) -> Self {
        self.completed = keep.into();
        self
    }

    /// Jobs that were cancelled, from their end. Default 7 days.
    pub fn cancelled(mut self, keep: impl Into<Option<Duration>>) -> Self {
        self.cancelled = keep.into();
        self
    }

    /// Jobs that were discarded, from their end. Default 90 days.
    pub fn discarded(mut self, keep: impl Into<Option<Duration>>) -> Self {
        self.discarded = keep.into();
        self
    }

    /// Rows of the fire ledger, from their slot. The last one of each schedule stays. Default 90
    /// days.
    pub fn fires(mut self, keep: impl Into<Option<Duration>>) -> Self {
        self.fires = keep.into();
        self
    }

    /// Events, from when they happened. For this long an app may be closed and miss none of them
    /// (see [`Verger::events_since`](crate::Verger::events_since)). Default 7 days.
    pub fn events(mut self, keep: impl Into<Option<Duration>>) -> Self {
        self.events = keep.into();
        self
    }
}

/// What pruning did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub(crate) rows: usize,
    /// A batch was full, so there may be more.
    pub(crate) more: bool,
}

/// A job, a line of the ledger, or an event that is past its time.
enum Past {
    Job(i64),
    Fire(RawText, i64),
    Event(i64),
}

impl Past {
    fn delete(&self, connection: &Connection) -> rusqlite::Result<usize> {
        match self {
            Self::Job(id) => delete_job(connection, *id),
            Self::Event(id) => {
                connection.prepare_cached("DELETE FROM verger_events WHERE id = ?1")?.execute([id])
            }
            Self::Fire(schedule, slot) => connection
                .prepare_cached("DELETE FROM verger_fires WHERE schedule = ?1 AND slot = ?2")?
                .execute((schedule, slot)),
        }
    }
}

/// Deletes a job with what its worker logged.
pub(super) fn delete_job(connection: &Connection, id: i64) -> rusqlite::Result<usize> {
    let deleted =
        connection.prepare_cached("DELETE FROM verger_jobs WHERE id = ?1")?.execute([id])?;
    connection.prepare_cached("DELETE FROM verger_logs WHERE job = ?1")?.execute([id])?;
    Ok(deleted)
}

/// Deletes one batch of what is past its time, each kind in a transaction of its own. It reads
/// first: if nothing is past its time, no lock is taken.
///
/// If a foreign key or a trigger of the app's keeps a row from being deleted, the others are
/// deleted all the same.
pub(super) fn prune(
    connection: &Connection,
    retention: &Retention,
    now: Timestamp,
) -> rusqlite::Result<Pruned> {
    let mut pruned = Pruned::default();
    let mut delete = |past: Vec<Past>| {
        let deleted = delete_all(connection, &past)?;
        pruned.rows += deleted;
        // A batch of which nothing was deleted would come again and again.
        pruned.more |= past.len() == BATCH && deleted > 0;
        Ok::<_, rusqlite::Error>(())
    };
    for (state, keep) in [
        (JobState::Completed, retention.completed),
        (JobState::Cancelled, retention.cancelled),
        (JobState::Discarded, retention.discarded),
    ] {
        if let Some(keep) = keep {
            delete(past_jobs(connection, state, now - keep, now)?)?;
        }
    }
    if let Some(keep) = retention.fires {
        delete(past_fires(connection, now - keep)?)?;
    }
    if let Some(keep) = retention.events {
        let past = event::past(connection, now - keep, BATCH)?;
        delete(past.into_iter().map(Past::Event).collect())?;
    }
    Ok(pruned)
}

fn past_jobs(
    connection: &Connection,
    state: JobState,
    before: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<Vec<Past>> {
    // The newest row stays, because the next id is one more than the largest, and ids are never
    // used again. The plus before the id keeps SQLite from walking the whole table. The plus before
    // a parameter keeps it from preparing the statement anew for each value.
    connection
        .prepare_cached(
            "SELECT id FROM verger_jobs WHERE state = +?1 AND finished_at IS NOT NULL AND lease_until IS NULL AND finished_at < +?2 \
             AND (unique_until IS NULL OR unique_until <= +?4) AND +id < (SELECT max(id) FROM verger_jobs) ORDER BY finished_at LIMIT +?3",
        )?
        .query_map((state.as_str(), before.as_millis(), BATCH as i64, now.as_millis()), |row| {
            row.get(0).map(Past::Job)
        })?
        .collect()
}

/// Goes schedule by schedule, including removed ones. The last line of a schedule that is there
/// stays.
fn past_fires(connection: &Connection, before: Timestamp) -> rusqlite::Result<Vec<Past>> {
    connection
        .prepare_cached(
            "WITH RECURSIVE names (name) AS (SELECT min(schedule) FROM verger_fires UNION ALL \
             SELECT (SELECT min(schedule) FROM verger_fires WHERE schedule > name) FROM names WHERE name IS NOT NULL) \
             SELECT f.schedule, f.slot FROM names n CROSS JOIN verger_fires f WHERE f.schedule = n.name \
             AND f.slot < min(?1, ifnull((SELECT s.last_slot FROM verger_schedules s WHERE s.name = n.name), ?1)) LIMIT +?2",
        )?
        .query_map((before.as_millis(), BATCH as i64), |row| {
            Ok(Past::Fire(RawText::of(row, 0)?, row.get(1)?))
        })?
        .collect()
}

/// Deletes these rows in one transaction. If one of them cannot be deleted, each gets its own.
fn delete_all(connection: &Connection, past: &[Past]) -> rusqlite::Result<usize> {
    if past.is_empty() {
        return Ok(0);
    }
    let together = || {
        let transaction = TransactionGuard::begin_write(connection)?;
        let deleted =
            past.iter().map(|row| row.delete(&transaction)).sum::<rusqlite::Result<_>>()?;
        transaction.commit()?;
        Ok(deleted)
    };
    match together() {
        Err(error) if is_of_the_row(&error) => {
            let mut deleted = 0;
            for row in past {
                match row.delete(connection) {
                    Ok(rows) => deleted += rows,
                    Err(error) if is_of_the_row(&error) => {
                        tracing::warn!(%error, "a finished job, an old line of the ledger or an old event cannot be deleted");
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(deleted)
        }
        done => done,
    }
}
