//! One verb on many jobs: those that a filter means, in bounded batches.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::Serialize;

use super::filter::JobFilter;
use super::operate::{Cancelled, Retried, cancel, retry};
use super::prune::delete_job;
use super::read::count;
use super::transition::{event_job, returned};
use super::waiting::WAITING;
use crate::event::EventKind;
use crate::ids::JobId;
use crate::time::Timestamp;

/// Jobs changed in one transaction: their ids fit into one row of the audit log.
pub(crate) const BATCH: usize = 400;

/// Jobs that are named in a report because they resisted, or as an example.
const NAMED_MAX: usize = 20;

/// Whether a verb on many jobs does what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkMode {
    /// It does.
    Apply,
    /// It tells which jobs it would change, and changes none.
    DryRun,
}

/// What a verb on many jobs did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BulkReport {
    /// Jobs that were changed, or would be.
    pub changed: u64,
    /// Of them the first, 20 at most.
    pub first: Vec<JobId>,
    /// Jobs that fit the filter and were left as they are: they changed meanwhile, a unique job like
    /// it is unfinished, or the row resists.
    pub skipped: u64,
    /// Of them the first, 20 at most, with the reason.
    pub reasons: Vec<Skipped>,
}

/// A job that was left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Skipped {
    /// The job.
    pub job: JobId,
    /// Why.
    pub reason: String,
}

impl BulkReport {
    pub(crate) fn changed(&mut self, job: JobId) {
        self.changed += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(job);
        }
    }

    pub(crate) fn skipped(&mut self, job: JobId, reason: impl Into<String>) {
        self.skipped += 1;
        if self.reasons.len() < NAMED_MAX {
            self.reasons.push(Skipped { job, reason: reason.into() });
        }
    }
}

/// What is done to each job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Retry,
    Cancel,
    Delete,
    Reschedule(Timestamp),
    SetPriority(u8),
}

impl Verb {
    /// The action in the audit log.
    pub(crate) const fn action(self) -> &'static str {
        match self {
            Self::Retry => "jobs.retried",
            Self::Cancel => "jobs.cancelled",
            Self::Delete => "jobs.deleted",
            Self::Reschedule(_) => "jobs.rescheduled",
            Self::SetPriority(_) => "jobs.reprioritized",
        }
    }

    /// The states it applies to.
    const fn applies(self) -> &'static str {
        match self {
            Self::Retry => "state IN ('retryable', 'completed', 'discarded', 'cancelled')",
            Self::Cancel => "state IN ('scheduled', 'available', 'retryable', 'executing')",
            Self::Delete => "state <> 'executing'",
            Self::Reschedule(_) | Self::SetPriority(_) => WAITING,
        }
    }
}

/// What became of one job.
pub(crate) enum Done {
    /// It was changed, and this is told of it.
    Changed(Option<EventKind>),
    /// It is being performed, and is to be told to stop.
    Asked,
    Skipped(String),
}

/// The next jobs, after this one, that a verb would change; oldest first.
pub(super) fn next_batch(
    connection: &Connection,
    filter: &JobFilter,
    verb: Verb,
    after: i64,
    up_to: i64,
) -> rusqlite::Result<Vec<JobId>> {
    let (condition, mut params) = filter.condition();
    let sql = format!(
        "SELECT id FROM verger_jobs WHERE {condition} AND {} AND id > ? AND id <= ? ORDER BY id LIMIT ?",
        verb.applies()
    );
    params.extend([after, up_to, BATCH as i64].map(Value::Integer));
    connection
        .prepare(&sql)?
        .query_map(params_from_iter(params), |row| row.get(0).map(JobId))?
        .collect()
}

/// The newest job there is: what is enqueued while a verb is at work is not meant.
pub(super) fn newest_id(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT ifnull(max(id), 0) FROM verger_jobs")?
        .query_row([], |row| row.get(0))
}

/// How many jobs a verb would change.
pub(super) fn count_for(
    connection: &Connection,
    filter: &JobFilter,
    verb: Verb,
) -> rusqlite::Result<u64> {
    counted(connection, filter, verb.applies())
}

/// How many jobs there are that fit.
pub(super) fn count_jobs(connection: &Connection, filter: &JobFilter) -> rusqlite::Result<u64> {
    counted(connection, filter, "1")
}

fn counted(connection: &Connection, filter: &JobFilter, applies: &str) -> rusqlite::Result<u64> {
    let (condition, params) = filter.condition();
    let sql = format!("SELECT count(*) FROM verger_jobs WHERE {condition} AND {applies}");
    let count: i64 =
        connection.prepare(&sql)?.query_row(params_from_iter(params), |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// Does a verb to one job, inside a write transaction. It may have changed since it was found.
pub(super) fn apply(
    connection: &Connection,
    id: JobId,
    verb: Verb,
    now: Timestamp,
) -> rusqlite::Result<Done> {
    let gone = || Done::Skipped("it is in another state now".to_string());
    Ok(match verb {
        Verb::Retry => match retry(connection, id, now)? {
            Retried::DueNow(event) => Done::Changed(Some(event)),
            Retried::StandsFor(other) => Done::Skipped(format!(
                "it is unique, and job {other} like it is unfinished, or keeps its period"
            )),
            Retried::Nothing => gone(),
        },
        Verb::Cancel => match cancel(connection, id, now)? {
            Cancelled::AtOnce(event) => Done::Changed(Some(event)),
            Cancelled::Asked => Done::Asked,
            Cancelled::Nothing => gone(),
        },
        Verb::Delete => match delete(connection, id, now)? {
            true => Done::Changed(None),
            false => gone(),
        },
        Verb::Reschedule(at) => match reschedule(connection, id, at, now)? {
            Some(event) => Done::Changed(Some(event)),
            None => gone(),
        },
        Verb::SetPriority(priority) => {
            let sql = format!("UPDATE verger_jobs SET priority = ?2 WHERE id = ?1 AND {WAITING}");
            match connection.prepare_cached(&sql)?.execute((id.number(), priority))? {
                1 => Done::Changed(None),
                _ => gone(),
            }
        }
    })
}

/// Deletes a job that is not being performed, with its log. The newest of the file is emptied and
/// cancelled instead: its id must not be given again.
pub(super) fn delete(connection: &Connection, id: JobId, now: Timestamp) -> rusqlite::Result<bool> {
    let executing: Option<bool> = returned(
        connection,
        "SELECT state = 'executing' FROM verger_jobs WHERE id = ?1",
        [id.number()],
        |row| row.get(0),
    )?;
    if executing != Some(false) {
        return Ok(false);
    }
    if id.number() < newest_id(connection)? {
        return Ok(delete_job(connection, id.number())? == 1);
    }
    connection.prepare_cached("DELETE FROM verger_logs WHERE job = ?1")?.execute([id.number()])?;
    let emptied = connection
        .prepare_cached(
            "UPDATE verger_jobs SET state = 'cancelled', args = '{}', tenant_aware = 0, finished_at = ?2, result = NULL, errors = NULL, \
             unique_key = NULL, unique_until = NULL, lease_until = NULL, traceparent = NULL, tags = NULL, meta = NULL WHERE id = ?1",
        )?
        .execute((id.number(), now.as_millis()))?;
    Ok(emptied == 1)
}

/// Has a waiting job be due at another time.
pub(crate) fn reschedule(
    connection: &Connection,
    id: JobId,
    at: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<Option<EventKind>> {
    // One that failed stays one that failed.
    let sql = format!(
        "UPDATE verger_jobs SET due_at = ?2, state = CASE WHEN state = 'retryable' THEN state WHEN ?2 > ?3 THEN 'scheduled' ELSE 'available' END \
         WHERE id = ?1 AND {WAITING} RETURNING attempt, worker, queue, schedule"
    );
    let job = returned(connection, &sql, (id.number(), at.as_millis(), now.as_millis()), |row| {
        event_job(row, 1, id, count(row, 0)?)
    })?;
    Ok(job.map(|job| EventKind::Rescheduled { job, due_at: at }))
}
