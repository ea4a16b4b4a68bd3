//! Finished jobs do not stay for ever.

use std::time::Duration;

use rusqlite::Connection;

use super::job::JobState;
use crate::time::Timestamp;

/// Rows deleted in one transaction.
const BATCH: usize = 1_000;

/// How long finished jobs, and rows of the fire ledger, are kept. `None` keeps them for ever.
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
    completed: Option<Duration>,
    cancelled: Option<Duration>,
    discarded: Option<Duration>,
    fires: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        Self { completed: days(7), cancelled: days(7), discarded: days(90), fires: days(90) }
    }
}

impl Retention {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything is kept for ever; the app deletes what it does not want.
    pub fn for_ever() -> Self {
        Self { completed: None, cancelled: None, discarded: None, fires: None }
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
}

/// What pruning did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    pub(crate) rows: usize,
    /// A batch was full: there may be more.
    pub(crate) more: bool,
}

impl Pruned {
    fn add(&mut self, rows: usize) {
        self.rows += rows;
        self.more |= rows == BATCH;
    }
}

/// Deletes one batch of what is past its time, as one statement for each kind.
pub(crate) fn prune(
    connection: &Connection,
    retention: &Retention,
    now: Timestamp,
) -> rusqlite::Result<Pruned> {
    let mut pruned = Pruned::default();
    for (state, keep) in [
        (JobState::Completed, retention.completed),
        (JobState::Cancelled, retention.cancelled),
        (JobState::Discarded, retention.discarded),
    ] {
        let Some(keep) = keep else { continue };
        // The newest row stays: the next id is one more than the largest, and ids are never used
        // again. The plus before the id keeps SQLite from walking the whole table; before a
        // parameter, from preparing the statement anew for each value.
        let rows = connection
            .prepare_cached(
                "DELETE FROM verger_jobs WHERE id IN (SELECT id FROM verger_jobs WHERE state = +?1 AND finished_at IS NOT NULL AND lease_until IS NULL \
                 AND finished_at < +?2 AND (unique_until IS NULL OR unique_until <= +?4) AND +id < (SELECT max(id) FROM verger_jobs) ORDER BY finished_at LIMIT +?3)",
            )?
            .execute((state.as_str(), (now - keep).as_millis(), BATCH as i64, now.as_millis()))?;
        pruned.add(rows);
    }
    if let Some(keep) = retention.fires {
        let rows = connection
            .prepare_cached(
                // Schedule by schedule, those that were removed too. The last line of one that is
                // there stays.
                "WITH RECURSIVE names (name) AS (SELECT min(schedule) FROM verger_fires UNION ALL \
                 SELECT (SELECT min(schedule) FROM verger_fires WHERE schedule > name) FROM names WHERE name IS NOT NULL) \
                 DELETE FROM verger_fires WHERE (schedule, slot) IN (SELECT f.schedule, f.slot FROM names n CROSS JOIN verger_fires f \
                 WHERE f.schedule = n.name AND f.slot < min(?1, ifnull((SELECT s.last_slot FROM verger_schedules s WHERE s.name = n.name), ?1)) \
                 LIMIT +?2)",
            )?
            .execute(((now - keep).as_millis(), BATCH as i64))?;
        pruned.add(rows);
    }
    Ok(pruned)
}
