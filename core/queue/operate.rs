//! What an operator does to a job.

use rusqlite::{Connection, OptionalExtension};

use super::read::count;
use super::transition::{ON_REQUEST, error_json, event_job, returned};
use crate::event::{self, EventKind};
use crate::ids::JobId;
use crate::time::Timestamp;

/// What became of a request to cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// The job had not begun. It is cancelled, and this is the event to tell.
    AtOnce(EventKind),
    /// It is being performed. The end of the attempt is its end, unless the attempt completes it.
    Asked,
    /// There is no such job, or it had ended.
    Nothing,
}

/// Cancels a job that waits, and asks one that is being performed to end. Call it inside a write
/// transaction.
pub(super) fn cancel(
    connection: &Connection,
    id: JobId,
    now: Timestamp,
) -> rusqlite::Result<Cancelled> {
    let error = error_json(0, now, "cancelled", ON_REQUEST);
    let waiting = returned(
        connection,
        "UPDATE verger_jobs SET state = 'cancelled', finished_at = ?2, \
         unique_until = CASE WHEN unique_until > ?2 THEN unique_until END, errors = json_insert(CASE WHEN json_valid(errors) AND json_type(errors) = 'array' THEN errors ELSE '[]' END, '$[#]', \
         json_set(?3, '$.attempt', attempt)) WHERE id = ?1 AND state IN ('scheduled', 'available', 'retryable') \
         RETURNING attempt, worker, queue, schedule",
        (id.number(), now.as_millis(), error),
        |row| event_job(row, 1, id, count(row, 0)?),
    )?;
    if let Some(job) = waiting {
        let event = EventKind::Cancelled { job, reason: ON_REQUEST.to_string() };
        event::record(connection, now, &event)?;
        return Ok(Cancelled::AtOnce(event));
    }
    let asked = connection
        .prepare_cached(
            "UPDATE verger_jobs SET cancel_requested = 1 WHERE id = ?1 AND state = 'executing'",
        )?
        .execute([id.number()])?;
    Ok(if asked == 1 { Cancelled::Asked } else { Cancelled::Nothing })
}

/// What became of a request to retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Retried {
    /// It is due now, and this is the event to tell.
    DueNow(EventKind),
    /// It stays as it is, because this other job has its unique key.
    StandsFor(JobId),
    /// It waits already, is being performed, or is not there.
    Nothing,
}

/// Makes a job that failed or ended due now, with at least one attempt left. Call it inside a write
/// transaction.
pub(super) fn retry(
    connection: &Connection,
    id: JobId,
    now: Timestamp,
) -> rusqlite::Result<Retried> {
    let other: Option<i64> = connection
        .prepare_cached(
            "SELECT other.id FROM verger_jobs AS job JOIN verger_jobs AS other ON other.unique_key = job.unique_key \
             AND (other.finished_at IS NULL OR other.unique_until IS NOT NULL) WHERE job.id = ?1 AND other.id <> ?1 \
             AND job.finished_at IS NOT NULL AND (other.finished_at IS NULL OR other.unique_until > ?2)",
        )?
        .query_row((id.number(), now.as_millis()), |row| row.get(0))
        .optional()?;
    if let Some(other) = other {
        return Ok(Retried::StandsFor(JobId(other)));
    }
    // A key whose period is over.
    connection
        .prepare_cached(
            "UPDATE verger_jobs SET unique_until = NULL WHERE unique_key = (SELECT unique_key FROM verger_jobs WHERE id = ?1) \
             AND finished_at IS NOT NULL AND unique_until <= ?2",
        )?
        .execute((id.number(), now.as_millis()))?;
    let retried = returned(
        connection,
        "UPDATE verger_jobs SET state = 'available', due_at = ?2, finished_at = NULL, result = NULL, lease_until = NULL, cancel_requested = 0, \
         max_attempts = max(max_attempts, attempt + 1) WHERE id = ?1 AND state IN ('retryable', 'completed', 'discarded', 'cancelled') \
         RETURNING attempt, worker, queue, schedule",
        (id.number(), now.as_millis()),
        |row| event_job(row, 1, id, count(row, 0)?),
    )?;
    Ok(match retried {
        Some(job) => Retried::DueNow(EventKind::Rescheduled { job, due_at: now }),
        None => Retried::Nothing,
    })
}
