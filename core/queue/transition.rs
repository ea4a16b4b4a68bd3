//! The end of an attempt. Every statement requires the fencing token and a live lease, and changes
//! nothing without them.

use rusqlite::{Connection, Params, Row};
use serde_json::json;

use super::job::JobState;
use super::read::{opt_text, text};
use crate::event::{self, EventFailure, EventJob, EventKind};
use crate::ids::JobId;
use crate::time::Timestamp;

/// Who holds a claim, and until when.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) holder: String,
    pub(crate) until: Timestamp,
}

/// An attempt: the job, the fencing token of its claim, and its number.
pub(crate) type Attempt = (JobId, i64, u32);

/// The code that performed an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PerformedBy {
    /// The version of the worker.
    pub(crate) version: String,
    /// The SHA-256 of its component, if it is one.
    pub(crate) digest: Option<String>,
}

/// What becomes of a job when its attempt ends.
#[derive(Debug, Clone)]
pub(crate) enum Transition {
    /// Completed, with the JSON text of a result.
    Complete(Option<String>),
    /// Due again at this instant. No attempt is used.
    Snooze(Timestamp),
    /// Cancelled, for this reason.
    Cancel(String),
    /// Failed, with a code and a message. Tried again at that instant, or never.
    Fail(String, String, Option<Timestamp>),
    /// Could not begin, with a code and a message. Tried again at that instant. No attempt is used.
    #[cfg(feature = "postgres")]
    Defer(String, String, Timestamp),
    /// Given back as it was before its claim, with its attempt unused.
    Release,
}

/// What became of a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// The claim is stale. Nothing was changed.
    Stale,
    /// The job is in the state it was to have.
    There,
    /// It is cancelled, because someone asked for that while it was being performed, and it was not
    /// completed.
    Cancelled,
}

/// The reason of a cancelled job whose worker gave none.
pub(crate) const ON_REQUEST: &str = "cancelled by an operator";

/// It leaves `lease_until` to [`TIDY`], so that no index is written. That makes a commit of one
/// page instead of three.
const COMPLETE: &str = "UPDATE verger_jobs SET state = 'completed', finished_at = ?3, result = ?5, \
     worker_version = coalesce(?6, worker_version), worker_digest = CASE WHEN ?6 IS NULL THEN worker_digest ELSE ?7 END, \
     unique_until = CASE WHEN unique_until > ?3 THEN unique_until END \
     WHERE id = ?1 AND token = ?2 AND state = 'executing' AND lease_until >= ?4";

/// Moves jobs that completed since the last claim, here or in another process, from the index of
/// held jobs to that of finished ones.
pub(super) const TIDY: &str = "UPDATE verger_jobs SET lease_until = NULL WHERE lease_until IS NOT NULL AND state = 'completed'";

/// Every end of an attempt but completion. If someone asked to cancel the job meanwhile, it is
/// cancelled. The last 20 of its errors stay.
const LEAVE: &str = "UPDATE verger_jobs SET state = CASE WHEN cancel_requested THEN 'cancelled' ELSE ?5 END, \
     finished_at = CASE WHEN cancel_requested OR ?6 THEN ?3 END, due_at = coalesce(?7, due_at), \
     attempt = max(0, attempt - ?8), snoozes = min(snoozes + ?9, 4294967295), lease_until = NULL, \
     unique_until = CASE WHEN unique_until > ?3 OR NOT (cancel_requested OR ?6) THEN unique_until END, \
     errors = CASE WHEN ?10 IS NULL AND NOT cancel_requested THEN errors ELSE json_insert( \
         CASE WHEN json_valid(errors) AND json_type(errors) = 'array' THEN \
         CASE WHEN json_array_length(errors) >= 20 THEN json_remove(errors, '$[0]') ELSE errors END ELSE '[]' END, \
         '$[#]', json(CASE WHEN cancel_requested THEN ?11 ELSE ?10 END)) END, \
     worker_version = coalesce(?12, worker_version), worker_digest = CASE WHEN ?12 IS NULL THEN worker_digest ELSE ?13 END \
     WHERE id = ?1 AND token = ?2 AND state = 'executing' AND lease_until >= ?4 RETURNING cancel_requested, worker, queue, schedule";

/// Records what becomes of the job, inside a write transaction. Giving it back needs no live lease.
pub(super) fn transition(
    connection: &Connection,
    attempt: Attempt,
    now: Timestamp,
    to: &Transition,
    by: Option<&PerformedBy>,
) -> rusqlite::Result<Moved> {
    let held_until =
        if matches!(to, Transition::Release) { Timestamp::from_millis(i64::MIN) } else { now };
    recorded(connection, attempt, held_until, now, to, by).map(|(moved, _)| moved)
}

/// Records what becomes of the job, and the event of that if it is one that is kept, inside a write
/// transaction.
pub(super) fn recorded(
    connection: &Connection,
    attempt: Attempt,
    held_until: Timestamp,
    now: Timestamp,
    to: &Transition,
    by: Option<&PerformedBy>,
) -> rusqlite::Result<(Moved, Option<EventKind>)> {
    if let Transition::Complete(result) = to {
        let moved = complete(connection, attempt, held_until, now, (result.as_deref(), by))?;
        if moved == Moved::There {
            event::record_completed(connection, now, [attempt.0])?;
        }
        return Ok((moved, None));
    }
    let Some((moved, job)) = leave(connection, attempt, held_until, now, to, by)? else {
        return Ok((Moved::Stale, None));
    };
    let kind = kind_of(moved, to, job);
    if let Some(kind) = &kind {
        event::record(connection, now, kind)?;
    }
    Ok((moved, kind))
}

/// Records that a job is completed, without an event. The caller records one event for all jobs
/// that its transaction completes.
pub(crate) fn complete(
    connection: &Connection,
    (id, token, _): Attempt,
    held_until: Timestamp,
    now: Timestamp,
    (result, by): (Option<&str>, Option<&PerformedBy>),
) -> rusqlite::Result<Moved> {
    let version = by.map(|by| &by.version);
    let digest = by.and_then(|by| by.digest.as_ref());
    let held_until = held_until.as_millis();
    let params = (id.0, token, now.as_millis(), held_until, result, version, digest);
    let changed = connection.prepare_cached(COMPLETE)?.execute(params)?;
    Ok(if changed == 1 { Moved::There } else { Moved::Stale })
}

/// Every end of an attempt but completion. Returns what became of it, and the job. `None` when the
/// claim is stale.
fn leave(
    connection: &Connection,
    (id, token, attempt): Attempt,
    held_until: Timestamp,
    now: Timestamp,
    to: &Transition,
    by: Option<&PerformedBy>,
) -> rusqlite::Result<Option<(Moved, EventJob)>> {
    let version = by.map(|by| &by.version);
    let digest = by.and_then(|by| by.digest.as_ref());
    let Some(left) = Left::of(to, attempt, now) else { return Ok(None) };
    let params = rusqlite::params![
        id.0,
        token,
        now.as_millis(),
        held_until.as_millis(),
        left.state.as_str(),
        left.state.is_final(),
        left.due_at.map(Timestamp::as_millis),
        left.attempts_back,
        left.snoozes,
        left.error,
        left.error_if_cancelled,
        version,
        digest,
    ];
    returned(connection, LEAVE, params, |row| {
        let moved = if row.get(0)? { Moved::Cancelled } else { Moved::There };
        Ok((moved, event_job(row, 1, id, attempt)?))
    })
}

/// What the row of a job says once its attempt has ended in any way but completion.
pub(crate) struct Left {
    pub(crate) state: JobState,
    pub(crate) due_at: Option<Timestamp>,
    /// 1 if the attempt does not count.
    pub(crate) attempts_back: i64,
    /// 1 if it was put off.
    pub(crate) snoozes: i64,
    /// What is added to its errors, as JSON.
    pub(crate) error: Option<String>,
    /// The same, if someone asked to cancel it meanwhile.
    pub(crate) error_if_cancelled: String,
}

impl Left {
    /// `None` for a completed job.
    pub(crate) fn of(to: &Transition, attempt: u32, now: Timestamp) -> Option<Self> {
        let error = |code: &str, message: &str| error_json(attempt, now, code, message);
        let cancelled = |reason: &str| error("cancelled", reason);
        let left = |state, error_if_cancelled| Self {
            state,
            due_at: None,
            attempts_back: 0,
            snoozes: 0,
            error: None,
            error_if_cancelled,
        };
        Some(match to {
            Transition::Complete(_) => return None,
            Transition::Snooze(until) => Self {
                due_at: Some(*until),
                attempts_back: 1,
                snoozes: 1,
                ..left(JobState::Scheduled, cancelled(ON_REQUEST))
            },
            Transition::Cancel(reason) => Self {
                error: Some(cancelled(reason)),
                ..left(JobState::Cancelled, cancelled(reason))
            },
            Transition::Fail(code, message, retry_at) => {
                let state = retry_at.map_or(JobState::Discarded, |_| JobState::Retryable);
                Self {
                    due_at: *retry_at,
                    error: Some(error(code, message)),
                    ..left(state, cancelled(&too_late(code, message)))
                }
            }
            #[cfg(feature = "postgres")]
            Transition::Defer(code, message, at) => Self {
                due_at: Some(*at),
                attempts_back: 1,
                error: Some(error(code, message)),
                ..left(JobState::Retryable, cancelled(ON_REQUEST))
            },
            Transition::Release => {
                Self { attempts_back: 1, ..left(JobState::Available, cancelled(ON_REQUEST)) }
            }
        })
    }
}

/// The reason of a job that failed while someone asked to cancel it.
fn too_late(code: &str, message: &str) -> String {
    format!("{ON_REQUEST}; the attempt failed: {message} [{code}]")
}

/// The event of an end, if it is one that is kept.
pub(crate) fn kind_of(moved: Moved, to: &Transition, job: EventJob) -> Option<EventKind> {
    Some(match (moved, to) {
        (_, Transition::Cancel(reason)) => EventKind::Cancelled { job, reason: shortened(reason) },
        (Moved::Cancelled, Transition::Fail(code, message, _)) => {
            EventKind::Cancelled { job, reason: shortened(&too_late(code, message)) }
        }
        (Moved::Cancelled, _) => EventKind::Cancelled { job, reason: ON_REQUEST.to_string() },
        (_, Transition::Fail(code, message, due_at)) => {
            let error = EventFailure { code: code.clone(), message: shortened(message) };
            match due_at {
                Some(due_at) => EventKind::Retried { job, error, due_at: *due_at },
                None => EventKind::Discarded { job, error },
            }
        }
        #[cfg(feature = "postgres")]
        (_, Transition::Defer(code, message, due_at)) => {
            let error = EventFailure { code: code.clone(), message: shortened(message) };
            EventKind::Retried { job, error, due_at: *due_at }
        }
        (_, Transition::Snooze(_) | Transition::Release | Transition::Complete(_)) => return None,
    })
}

/// Renews a lease that is still live, and keeps the progress. `None` when the claim is stale.
/// Otherwise whether a cancel was asked for.
pub(super) fn renew(
    connection: &Connection,
    id: JobId,
    token: i64,
    now: Timestamp,
    until: Timestamp,
    progress: Option<(u64, u64)>,
) -> rusqlite::Result<Option<bool>> {
    let column = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let progress = progress.map(|(done, total)| (column(done), column(total)));
    let params = (
        id.0,
        token,
        now.as_millis(),
        until.as_millis(),
        progress.map(|p| p.0),
        progress.map(|p| p.1),
    );
    returned(
        connection,
        "UPDATE verger_jobs SET lease_until = max(lease_until, ?4), progress_done = coalesce(?5, progress_done), progress_total = coalesce(?6, progress_total) \
         WHERE id = ?1 AND token = ?2 AND state = 'executing' AND lease_until >= ?3 RETURNING cancel_requested",
        params,
        |row| row.get(0),
    )
}

/// A job as events have it. `worker, queue, schedule` are the columns from this one on.
pub(super) fn event_job(
    row: &Row<'_>,
    column: usize,
    id: JobId,
    attempt: u32,
) -> rusqlite::Result<EventJob> {
    let (worker, queue) = (text(row, column)?, text(row, column + 1)?);
    Ok(EventJob { id, worker, queue, attempt, schedule: opt_text(row, column + 2)? })
}

/// What a statement returns of the one row that it changes. It is stepped to its end, because only
/// there an error of its commit shows, if it is a transaction of its own.
pub(super) fn returned<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut returned = None;
    while let Some(row) = rows.next()? {
        returned = Some(read(row)?);
    }
    Ok(returned)
}

/// A worker's message may be of any length, but a row's may not.
pub(super) fn shortened(message: &str) -> String {
    message.chars().take(4_000).collect()
}

pub(crate) fn error_json(attempt: u32, at: Timestamp, code: &str, message: &str) -> String {
    let message = shortened(message);
    json!({"attempt": attempt, "at": at.as_millis(), "code": code, "message": message}).to_string()
}
