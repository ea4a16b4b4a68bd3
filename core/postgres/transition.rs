//! The end of an attempt. Every statement requires the fencing token and a live lease, and changes
//! nothing without them.

use super::events;
use super::session::Session;
use crate::event::{EventJob, EventKind};
use crate::ids::JobId;
use crate::queue::{AttemptLog, Left, Moved, PerformedBy, Transition, kind_of};
use crate::store::StoreError;
use crate::time::Timestamp;

const ENDING: &str = "record the end of the attempt";

/// Completes a job, and writes the event of that, in one statement. It returns the number of the
/// transaction, by which a commit can be asked after whose answer was lost.
const COMPLETE: &str = "WITH done AS (UPDATE verger.jobs SET state = 'completed', finished_at = $3, result = $5, lease_until = NULL, claimed_by = NULL, \
     worker_version = coalesce($6, worker_version), worker_digest = CASE WHEN $6 IS NULL THEN worker_digest ELSE $7 END, \
     unique_until = CASE WHEN unique_until > $3 THEN unique_until END \
     WHERE id = $1 AND token = $2 AND state = 'executing' AND lease_until >= $4 RETURNING id), \
     told AS (INSERT INTO verger.events (at, source, kind, data) SELECT $3, $8, 'completed', $9 FROM done) \
     SELECT pg_current_xact_id()::text FROM done";

/// Every end of an attempt but completion. If someone asked to cancel the job meanwhile, it is
/// cancelled.
const LEAVE: &str = "WITH asked AS MATERIALIZED (SELECT EXISTS (SELECT 1 FROM verger.cancels WHERE job = $1 AND token = $2) AS cancelled), \
     gone AS (DELETE FROM verger.cancels WHERE job = $1 AND token <= $2) \
     UPDATE verger.jobs SET state = CASE WHEN asked.cancelled THEN 'cancelled' ELSE $5 END, \
     finished_at = CASE WHEN asked.cancelled OR $6 THEN $3::bigint END, due_at = coalesce($7, due_at), \
     attempt = greatest(0, attempt - $8), snoozes = least(snoozes + $9, 4294967295), lease_until = NULL, claimed_by = NULL, \
     unique_until = CASE WHEN unique_until > $3 OR NOT (asked.cancelled OR $6) THEN unique_until END, \
     errors = CASE WHEN $10::text IS NULL AND NOT asked.cancelled THEN errors ELSE \
     (CASE WHEN jsonb_array_length(errors) >= 20 THEN errors - 0 ELSE errors END) || (CASE WHEN asked.cancelled THEN $11 ELSE $10 END)::jsonb END, \
     worker_version = coalesce($12, worker_version), worker_digest = CASE WHEN $12 IS NULL THEN worker_digest ELSE $13 END \
     FROM asked WHERE id = $1 AND token = $2 AND state = 'executing' AND lease_until >= $4 \
     RETURNING asked.cancelled, worker, queue, schedule";

const RENEW: &str = "UPDATE verger.jobs SET lease_until = greatest(lease_until, $4), progress_done = coalesce($5, progress_done), \
     progress_total = coalesce($6, progress_total) WHERE id = $1 AND token = $2 AND state = 'executing' AND lease_until >= $3 \
     RETURNING EXISTS (SELECT 1 FROM verger.cancels WHERE job = $1 AND token = $2)";

const KEEP_LOG: &str = "INSERT INTO verger.logs (job, attempt, at, dropped, lines) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (job, attempt) \
     DO UPDATE SET at = excluded.at, dropped = excluded.dropped, lines = excluded.lines";

/// What a run sends to end, or to go on.
pub(super) const OF_A_RUN: [&str; 4] = [COMPLETE, LEAVE, RENEW, KEEP_LOG];

/// An attempt: the job, the fencing token of its claim, and its number.
pub(super) type Attempt = (JobId, i64, u32);

/// Completes the job, inside the caller's transaction or in one of its own. Returns the number of
/// the transaction. `None` when the claim is stale.
pub(super) fn complete(
    session: &mut Session,
    (id, token, _): Attempt,
    now: Timestamp,
    result: Option<&str>,
    (by, job): (&PerformedBy, EventJob),
) -> Result<Option<String>, StoreError> {
    let (at, event) = (now.as_millis(), events::data(&EventKind::Completed { job }));
    let row = session.first(
        ENDING,
        COMPLETE,
        &[
            &id.number(),
            &token,
            &at,
            &at,
            &result,
            &Some(&by.version),
            &by.digest,
            &events::source(),
            &event,
        ],
    )?;
    Ok(row.map(|row| row.get(0)))
}

/// Records any other end, with its event, inside the caller's transaction.
pub(super) fn leave(
    session: &mut Session,
    (id, token, attempt): Attempt,
    now: Timestamp,
    to: &Transition,
    by: Option<&PerformedBy>,
) -> Result<(Moved, Option<EventKind>), StoreError> {
    let Some(left) = Left::of(to, attempt, now) else { return Ok((Moved::Stale, None)) };
    // Giving it back, and taking it back from a dead node, need no live lease.
    let needs_no_lease = matches!(to, Transition::Release);
    let held_until = if needs_no_lease { i64::MIN } else { now.as_millis() };
    leave_held(session, (id, token, attempt), now, (to, &left), by, held_until)
}

/// As [`leave`], for a lease that holds until then at least.
pub(super) fn leave_held(
    session: &mut Session,
    (id, token, attempt): Attempt,
    now: Timestamp,
    (to, left): (&Transition, &Left),
    by: Option<&PerformedBy>,
    held_until: i64,
) -> Result<(Moved, Option<EventKind>), StoreError> {
    let error = left.error.as_deref().map(json_without_nul);
    let error_if_cancelled = json_without_nul(&left.error_if_cancelled);
    let (version, digest) =
        (by.map(|by| by.version.as_str()), by.and_then(|by| by.digest.as_deref()));
    let row = session.first(
        ENDING,
        LEAVE,
        &[
            &id.number(),
            &token,
            &now.as_millis(),
            &held_until,
            &left.state.as_str(),
            &left.state.is_final(),
            &left.due_at.map(Timestamp::as_millis),
            &left.attempts_back,
            &left.snoozes,
            &error,
            &error_if_cancelled,
            &version,
            &digest,
        ],
    )?;
    let Some(row) = row else { return Ok((Moved::Stale, None)) };
    let moved = if row.get(0) { Moved::Cancelled } else { Moved::There };
    let job = EventJob { id, worker: row.get(1), queue: row.get(2), attempt, schedule: row.get(3) };
    let kind = kind_of(moved, to, job);
    if let Some(kind) = &kind {
        events::record(session, now, kind)?;
    }
    Ok((moved, kind))
}

/// Renews a lease that is still live, and keeps the progress. `None` when the claim is stale.
/// Otherwise whether a cancel was asked for.
pub(super) fn renew(
    session: &mut Session,
    (id, token, _): Attempt,
    now: Timestamp,
    until: Timestamp,
    progress: Option<(u64, u64)>,
) -> Result<Option<bool>, StoreError> {
    let column = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (done, total) = progress.map(|(done, total)| (column(done), column(total))).unzip();
    let row = session.first(
        "renew the lease of the job",
        RENEW,
        &[&id.number(), &token, &now.as_millis(), &until.as_millis(), &done, &total],
    )?;
    Ok(row.map(|row| row.get(0)))
}

/// Keeps what a worker logged, inside the transaction that ends its attempt.
pub(super) fn keep_log(
    session: &mut Session,
    (job, attempt): (JobId, u32),
    now: Timestamp,
    log: &AttemptLog,
) -> Result<(), StoreError> {
    let lines = serde_json::to_string(&log.lines).unwrap_or_else(|_| "[]".to_string());
    session
        .execute(
            "keep the log of the job",
            KEEP_LOG,
            &[
                &job.number(),
                &i64::from(attempt),
                &now.as_millis(),
                &i64::from(log.dropped),
                &lines,
            ],
        )
        .map(drop)
}

/// JSON as the type `jsonb` takes it, which knows no character of the number 0. In JSON that is
/// always escaped.
pub(super) fn json_without_nul(json: &str) -> String {
    let mut kept = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        kept.push_str(before);
        let length = if escape.starts_with("\\u") { 6 } else { 2 };
        let (escape, after) = escape.split_at(escape.floor_char_boundary(length));
        kept.push_str(if escape == "\\u0000" { "\\ufffd" } else { escape });
        rest = after;
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_character_0_is_replaced() {
        for text in ["", "a", "\0", "\\u0000", "\\\0", "é\u{1}\0\n\"", "\\\\u0000"] {
            let json = serde_json::json!({"message": text}).to_string();
            let read: serde_json::Value = serde_json::from_str(&json_without_nul(&json)).unwrap();
            assert_eq!(read["message"], text.replace('\0', "\u{fffd}"));
        }
    }
}
