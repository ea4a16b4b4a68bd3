//! The end of an attempt. Every statement asks for the fencing token and a live lease: without them it changes nothing.

use rusqlite::{Connection, OptionalExtension};
use serde_json::json;

use super::job::JobId;
use crate::time::Timestamp;

/// Who holds a claim, and until when.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) holder: String,
    pub(crate) until: Timestamp,
}

/// Where a job goes when its attempt went well. Commits together with what the attempt wrote.
#[derive(Debug, Clone)]
pub(crate) enum Transition {
    /// Completed, with the JSON text of a result.
    Complete(Option<String>),
    /// Again at this instant, no attempt used.
    Snooze(Timestamp),
    /// Cancelled by its worker.
    Cancel(String),
}

/// Leaves `lease_until` to [`TIDY`], so that no index is written: a commit of one page instead of three.
const COMPLETE: &str = "UPDATE verger_jobs SET state = 'completed', finished_at = ?3, result = ?4, \
     unique_key = CASE WHEN unique_until > ?3 THEN unique_key END \
     WHERE id = ?1 AND token = ?2 AND state = 'executing' AND lease_until >= ?3";

/// Moves what completed since the last claim, here or in another process, from the index of held jobs to that of finished ones.
pub(super) const TIDY: &str = "UPDATE verger_jobs SET lease_until = NULL WHERE lease_until IS NOT NULL AND state = 'completed'";

const SNOOZE: &str = "UPDATE verger_jobs SET state = 'scheduled', due_at = ?4, attempt = attempt - 1, snoozes = snoozes + 1, lease_until = NULL \
     WHERE id = ?1 AND token = ?2 AND state = 'executing' AND lease_until >= ?3";

/// Appends the error bound to ?5, keeping the last 20.
pub(super) const WITH_ERROR: &str = "errors = json_insert(CASE WHEN json_array_length(errors) >= 20 THEN json_remove(errors, '$[0]') ELSE coalesce(errors, '[]') END, '$[#]', json(?5))";

/// Records where the job goes. False when the claim is stale: then nothing was changed.
pub(crate) fn transition(
    connection: &Connection,
    id: JobId,
    token: i64,
    attempt: u32,
    now: Timestamp,
    to: &Transition,
) -> rusqlite::Result<bool> {
    let now_ms = now.as_millis();
    let changed = match to {
        Transition::Complete(result) => connection.prepare_cached(COMPLETE)?.execute((id.0, token, now_ms, result))?,
        Transition::Snooze(until) => connection.prepare_cached(SNOOZE)?.execute((id.0, token, now_ms, until.as_millis()))?,
        Transition::Cancel(reason) => {
            let sql = format!(
                "UPDATE verger_jobs SET state = ?4, finished_at = ?3, {WITH_ERROR}, \
                 unique_key = CASE WHEN unique_until > ?3 THEN unique_key END, lease_until = NULL \
                 WHERE id = ?1 AND token = ?2 AND state = 'executing' AND lease_until >= ?3"
            );
            let error = error_json(attempt, now, "cancelled", reason);
            connection.prepare_cached(&sql)?.execute((id.0, token, now_ms, "cancelled", error))?
        }
    };
    Ok(changed == 1)
}

/// Records a failed attempt: retryable at `retry_at`, or discarded when that is `None`. False when the claim is stale.
pub(crate) fn record_failure(
    connection: &Connection,
    job: (JobId, i64, u32),
    now: Timestamp,
    (code, message): (&str, &str),
    retry_at: Option<Timestamp>,
) -> rusqlite::Result<bool> {
    let (id, token, attempt) = job;
    let sql = format!(
        "UPDATE verger_jobs SET state = CASE WHEN ?4 IS NULL THEN 'discarded' ELSE 'retryable' END, due_at = coalesce(?4, due_at), \
         finished_at = CASE WHEN ?4 IS NULL THEN ?3 END, {WITH_ERROR}, \
         unique_key = CASE WHEN ?4 IS NOT NULL OR unique_until > ?3 THEN unique_key END, \
         lease_until = NULL WHERE id = ?1 AND token = ?2 AND state = 'executing' AND lease_until >= ?3"
    );
    let error = error_json(attempt, now, code, message);
    let retry_at = retry_at.map(Timestamp::as_millis);
    Ok(connection.prepare_cached(&sql)?.execute((id.0, token, now.as_millis(), retry_at, error))? == 1)
}

/// Gives a job back as it was before its claim, the attempt too.
pub(crate) fn release(connection: &Connection, id: JobId, token: i64) -> rusqlite::Result<bool> {
    let sql = "UPDATE verger_jobs SET state = 'available', attempt = attempt - 1, lease_until = NULL \
         WHERE id = ?1 AND token = ?2 AND state = 'executing'";
    Ok(connection.prepare_cached(sql)?.execute((id.0, token))? == 1)
}

/// Renews a lease that is still live, and keeps the progress. `None` when the claim is stale, else whether a cancel was asked for.
pub(crate) fn renew(
    connection: &Connection,
    id: JobId,
    token: i64,
    now: Timestamp,
    until: Timestamp,
    progress: Option<(u64, u64)>,
) -> rusqlite::Result<Option<bool>> {
    let column = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let progress = progress.map(|(done, total)| (column(done), column(total)));
    connection
        .prepare_cached(
            "UPDATE verger_jobs SET lease_until = ?4, progress_done = coalesce(?5, progress_done), progress_total = coalesce(?6, progress_total) \
             WHERE id = ?1 AND token = ?2 AND state = 'executing' AND lease_until >= ?3 RETURNING cancel_requested",
        )?
        .query_row((id.0, token, now.as_millis(), until.as_millis(), progress.map(|p| p.0), progress.map(|p| p.1)), |row| row.get(0))
        .optional()
}

pub(super) fn error_json(attempt: u32, at: Timestamp, code: &str, message: &str) -> String {
    // A worker's message may be of any length; a row's need not.
    let message: String = message.chars().take(4_000).collect();
    json!({"attempt": attempt, "at": at.as_millis(), "code": code, "message": message}).to_string()
}
