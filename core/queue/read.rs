//! Jobs as an operator asks for them.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::filter::JobFilter;
use super::job::{Job, JobState};
use super::waiting::HasWorker;
use crate::ids::{JobId, Token};
use crate::store::{Cells, StoreContext, StoreError};

const COLUMNS: &[&str] = &[
    "id",
    "worker",
    "queue",
    "priority",
    "state",
    "args",
    "args_version",
    "due_at",
    "attempt",
    "max_attempts",
    "snoozes",
    "token",
    "lease_until",
    "created_at",
    "attempted_at",
    "finished_at",
    "result",
    "errors",
    "worker_version",
    "worker_digest",
    "schedule",
    "slot",
    "missed",
    "slot_after",
    "zone",
    "progress_done",
    "progress_total",
    "traceparent",
    "tags",
    "meta",
];

/// One job.
pub(super) fn get(
    connection: &Connection,
    id: JobId,
    has_worker: HasWorker<'_>,
) -> Result<Option<Job>, StoreError> {
    let reading = "read the job";
    let sql = format!("SELECT {} FROM verger_jobs WHERE id = ?1", COLUMNS.join(", "));
    let mut statement = connection.prepare_cached(&sql).doing(reading)?;
    statement.query_row([id.0], |row| Ok(from_row(row, has_worker))).optional().doing(reading)
}

/// The newest jobs that match, newest first.
pub(super) fn list(
    connection: &Connection,
    filter: &JobFilter,
    limit: u32,
    has_worker: HasWorker<'_>,
) -> Result<Vec<Job>, StoreError> {
    let reading = "list the jobs";
    let (condition, mut params) = filter.condition();
    params.push(Value::Integer(limit.into()));
    let sql = format!(
        "SELECT {} FROM verger_jobs WHERE {condition} ORDER BY id DESC LIMIT ?",
        COLUMNS.join(", ")
    );
    let mut statement = connection.prepare_cached(&sql).doing(reading)?;
    let rows = statement
        .query_map(params_from_iter(params), |row| Ok(from_row(row, has_worker)))
        .doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

/// A query for jobs, with this condition.
pub(super) fn select(condition: &str) -> String {
    format!("SELECT {} FROM verger_jobs WHERE {condition}", COLUMNS.join(", "))
}

pub(super) fn from_row(row: &Row<'_>, has_worker: HasWorker<'_>) -> Job {
    let mut cells = Cells::of(row, COLUMNS);
    // An unknown state is not one that Verger moves a job from.
    let state: JobState = cells.word("state", JobState::Discarded);
    let worker = cells.text("worker");
    let args_version = cells.count("args_version");
    let parked = Some(has_worker(&worker)).filter(|_| state.is_waiting());
    let parked = parked.and_then(|newest| why_parked(&worker, args_version, newest));
    Job {
        id: JobId(cells.integer("id")),
        parked: parked.is_some(),
        parked_because: parked,
        worker,
        queue: cells.text("queue"),
        priority: cells.small("priority"),
        state,
        args: cells.opt_json("args").unwrap_or_default(),
        args_version,
        due_at: cells.time("due_at"),
        attempt: cells.count("attempt"),
        max_attempts: cells.count("max_attempts"),
        snoozes: cells.count("snoozes"),
        token: Token(cells.integer("token")),
        // A completed job keeps its lease until the next claim.
        lease_until: cells.opt_time("lease_until").filter(|_| state == JobState::Executing),
        created_at: cells.time("created_at"),
        attempted_at: cells.opt_time("attempted_at"),
        finished_at: cells.opt_time("finished_at"),
        result: cells.opt_json("result"),
        errors: cells.opt_shape("errors").unwrap_or_default(),
        worker_version: cells.opt_text("worker_version"),
        worker_digest: cells.opt_text("worker_digest"),
        schedule: cells.opt_text("schedule"),
        slot: cells.opt_time("slot"),
        missed: cells.count("missed"),
        slot_after: cells.opt_time("slot_after"),
        zone: cells.opt_text("zone"),
        progress_done: cells.opt_integer("progress_done"),
        progress_total: cells.opt_integer("progress_total"),
        traceparent: cells.opt_text("traceparent"),
        tags: cells.opt_shape("tags").unwrap_or_default(),
        meta: cells.opt_json("meta"),
        unreadable: cells.unreadable(),
    }
}

/// Why a waiting job is parked, if it is. Here its worker takes args of versions up to `newest`.
pub(crate) fn why_parked(worker: &str, args_version: u32, newest: Option<u32>) -> Option<String> {
    match newest {
        None => Some(format!("no worker named `{worker}` is here")),
        Some(newest) if args_version > newest => Some(format!(
            "it was enqueued for version {args_version} of the args of `{worker}`, and the worker here knows them up to version {newest}"
        )),
        Some(_) => None,
    }
}

/// A row made by hand can hold text that is no UTF-8. It must not keep others from being listed or
/// performed.
pub(super) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(String::from_utf8_lossy(row.get_ref(column)?.as_bytes()?).into_owned())
}

/// The same, for a text that may be NULL.
pub(super) fn opt_text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    let bytes = row.get_ref(column)?.as_bytes_or_null()?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

/// A row made by hand can hold any number. It is taken for the nearest number that can be a count.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    let number: i64 = row.get(column)?;
    Ok(number.clamp(0, u32::MAX.into()) as u32)
}
