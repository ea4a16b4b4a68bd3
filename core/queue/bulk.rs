//! One verb on many jobs, chosen by a filter, in bounded batches.

use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::Serialize;

use super::filter::JobFilter;
use super::operate::{Cancelled, Retried, cancel, retry};
use super::prune::delete_job;
use super::read::count;
use super::search::id_range;
use super::transition::{event_job, returned};
use super::waiting::WAITING;
use crate::event::EventKind;
use crate::ids::JobId;
use crate::time::Timestamp;

/// Jobs changed in one transaction. Their ids fit in one row of the audit log.
pub(crate) const BATCH: usize = 400;

/// The most jobs that a report names, as examples or because they could not be changed.
const NAMED_MAX: usize = 20;

/// Whether a verb on many jobs changes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkMode {
    /// It changes them.
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
    /// The first of them, 20 at most.
    pub first: Vec<JobId>,
    /// Jobs that fit the filter and were left as they are, because they changed meanwhile, a unique
    /// job like them is unfinished, or the row cannot be changed.
    pub skipped: u64,
    /// The first of them, 20 at most, with the reason.
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
#[non_exhaustive]
pub enum BulkVerb {
    /// Jobs that failed, were cancelled or are completed become due now.
    Retry,
    /// Unfinished jobs are cancelled. Those that are being performed are told to stop.
    Cancel,
    /// All jobs but those that are being performed are deleted.
    Delete,
    /// Waiting jobs become due at this instant.
    Reschedule(Timestamp),
    /// Waiting jobs get this priority, from 0 (first) to 9 (last).
    SetPriority(u8),
}

/// What a verb on many jobs did in the time it had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BulkPart {
    /// What it did, or would do.
    pub report: BulkReport,
    /// The job after which to go on, with [`JobFilter::after`]. `None` when all were looked at.
    pub go_on_after: Option<JobId>,
}

/// The first span of ids that is looked through. If a span took less than [`QUICK`], the next is
/// twice as long.
const SPAN: i64 = 2_000;
const QUICK: Duration = Duration::from_millis(5);

/// Spans of ids, from the oldest job that can fit to the newest, for as long as there is time.
pub(crate) struct Spans {
    next: i64,
    last: i64,
    span: i64,
}

impl Spans {
    /// The next span: its first and its last id.
    pub(crate) fn next(&self) -> Option<(i64, i64)> {
        let last = self.next.saturating_add(self.span - 1).min(self.last);
        (self.next <= self.last).then_some((self.next, last))
    }

    /// Goes on after this id, which took this long to reach.
    pub(crate) fn done_to(&mut self, id: i64, took: Duration) {
        self.next = id.saturating_add(1);
        if took < QUICK {
            self.span = self.span.saturating_mul(2);
        }
    }
}

impl BulkVerb {
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
    /// It was changed, with the event to tell.
    Changed(Option<EventKind>),
    /// It is being performed, and is to be told to stop.
    Asked,
    Skipped(String),
}

/// The next jobs after this one that a verb would change, oldest first.
pub(super) fn next_batch(
    connection: &Connection,
    filter: &JobFilter,
    verb: BulkVerb,
    (after, up_to): (i64, i64),
    most: usize,
) -> rusqlite::Result<Vec<JobId>> {
    let (first, last) = filter.id_range();
    let (after, up_to) = (after.max(first.saturating_sub(1)), up_to.min(last));
    let (condition, mut params) = filter.without_ids().condition();
    let sql = format!(
        "SELECT id FROM verger_jobs WHERE {condition} AND {} AND id > ? AND id <= ? ORDER BY id LIMIT ?",
        verb.applies()
    );
    params.extend([after, up_to, i64::try_from(most).unwrap_or(i64::MAX)].map(Value::Integer));
    connection
        .prepare(&sql)?
        .query_map(params_from_iter(params), |row| row.get(0).map(JobId))?
        .collect()
}

/// The newest job there is. Jobs that are enqueued while a verb works are not changed by it.
pub(super) fn newest_id(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT ifnull(max(id), 0) FROM verger_jobs")?
        .query_row([], |row| row.get(0))
}

/// How many jobs a verb would change.
pub(super) fn count_for(
    connection: &Connection,
    filter: &JobFilter,
    verb: BulkVerb,
) -> rusqlite::Result<u64> {
    counted(connection, filter, verb.applies())
}

/// The same, among the jobs with ids from the first of these to the last.
pub(super) fn count_between(
    connection: &Connection,
    filter: &JobFilter,
    verb: BulkVerb,
    (first, last): (i64, i64),
) -> rusqlite::Result<u64> {
    let ids = filter.id_range();
    let (first, last) = (first.max(ids.0), last.min(ids.1));
    let between = format!("{} AND id >= {first} AND id <= {last}", verb.applies());
    counted(connection, &filter.without_ids(), &between)
}

/// The spans of ids of the jobs that are there now, in which jobs can fit. Jobs that are enqueued
/// while a verb works are not changed by it.
pub(super) fn spans(connection: &Connection, filter: &JobFilter) -> rusqlite::Result<Spans> {
    let (next, last) = id_range(connection, filter)?;
    Ok(Spans { next, last, span: SPAN })
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

/// Applies a verb to one job, inside a write transaction. The job may have changed since it was
/// found.
pub(super) fn apply(
    connection: &Connection,
    id: JobId,
    verb: BulkVerb,
    now: Timestamp,
) -> rusqlite::Result<Done> {
    let gone = || Done::Skipped("it is in another state now".to_string());
    Ok(match verb {
        BulkVerb::Retry => match retry(connection, id, now)? {
            Retried::DueNow(event) => Done::Changed(Some(event)),
            Retried::StandsFor(other) => Done::Skipped(format!(
                "it is unique, and job {other} like it is unfinished, or keeps its period"
            )),
            Retried::Nothing => gone(),
        },
        BulkVerb::Cancel => match cancel(connection, id, now)? {
            Cancelled::AtOnce(event) => Done::Changed(Some(event)),
            Cancelled::Asked => Done::Asked,
            Cancelled::Nothing => gone(),
        },
        BulkVerb::Delete => match delete(connection, id, now)? {
            true => Done::Changed(None),
            false => gone(),
        },
        BulkVerb::Reschedule(at) => match reschedule(connection, id, at, now)? {
            Some(event) => Done::Changed(Some(event)),
            None => gone(),
        },
        BulkVerb::SetPriority(priority) => {
            let sql = format!("UPDATE verger_jobs SET priority = ?2 WHERE id = ?1 AND {WAITING}");
            match connection.prepare_cached(&sql)?.execute((id.number(), priority))? {
                1 => Done::Changed(None),
                _ => gone(),
            }
        }
    })
}

/// Deletes a job that is not being performed, with its log. The newest job of the file is emptied
/// and cancelled instead, because its id must not be given again.
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

/// Makes a waiting job due at another time.
pub(crate) fn reschedule(
    connection: &Connection,
    id: JobId,
    at: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<Option<EventKind>> {
    // A job that failed keeps its state.
    let sql = format!(
        "UPDATE verger_jobs SET due_at = ?2, state = CASE WHEN state = 'retryable' THEN state WHEN ?2 > ?3 THEN 'scheduled' ELSE 'available' END \
         WHERE id = ?1 AND {WAITING} RETURNING attempt, worker, queue, schedule"
    );
    let job = returned(connection, &sql, (id.number(), at.as_millis(), now.as_millis()), |row| {
        event_job(row, 1, id, count(row, 0)?)
    })?;
    Ok(job.map(|job| EventKind::Rescheduled { job, due_at: at }))
}
