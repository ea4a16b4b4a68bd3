//! Jobs as an operator asks for them.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::job::{Job, JobFilter, JobId, JobState};
use super::waiting::HasWorker;
use crate::store::{StoreContext, StoreError};

const COLUMNS: &str = "id, worker, queue, priority, state, args, due_at, attempt, max_attempts, snoozes, token, lease_until, created_at, \
     attempted_at, finished_at, result, errors, schedule, slot, missed, progress_done, progress_total";

/// One job.
pub(crate) fn get(
    connection: &Connection,
    id: JobId,
    has_worker: HasWorker<'_>,
) -> Result<Option<Job>, StoreError> {
    let reading = "read the job";
    let sql = format!("SELECT {COLUMNS} FROM verger_jobs WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql).doing(reading)?;
    statement.query_row([id.0], |row| from_row(row, has_worker)).optional().doing(reading)
}

/// The newest jobs that match, newest first.
pub(crate) fn list(
    connection: &Connection,
    filter: &JobFilter,
    limit: u32,
    has_worker: HasWorker<'_>,
) -> Result<Vec<Job>, StoreError> {
    let reading = "list the jobs";
    let sql = format!(
        "SELECT {COLUMNS} FROM verger_jobs WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR worker = ?2) AND (?3 IS NULL OR queue = ?3) \
         AND id < coalesce(?4, 9223372036854775807) ORDER BY id DESC LIMIT ?5"
    );
    let mut statement = connection.prepare_cached(&sql).doing(reading)?;
    let state = filter.state.map(|state| state.as_str());
    let rows = statement
        .query_map(
            (state, &filter.worker, &filter.queue, filter.before.map(JobId::number), limit),
            |row| from_row(row, has_worker),
        )
        .doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

fn from_row(row: &Row<'_>, has_worker: HasWorker<'_>) -> rusqlite::Result<Job> {
    let state: JobState = parse(row, 4, |text| text.parse())?;
    let worker = text(row, 1)?;
    Ok(Job {
        id: JobId(row.get(0)?),
        parked: state.is_waiting() && !has_worker(&worker),
        worker,
        queue: row.get(2)?,
        priority: row.get(3)?,
        state,
        args: parse(row, 5, json).or_else(|_| text(row, 5).map(Json::from))?,
        due_at: row.get(6)?,
        attempt: count(row, 7)?,
        max_attempts: count(row, 8)?,
        snoozes: count(row, 9)?,
        token: row.get(10)?,
        // A completed job keeps it until the next claim.
        lease_until: if state == JobState::Executing { row.get(11)? } else { None },
        created_at: row.get(12)?,
        attempted_at: row.get(13)?,
        finished_at: row.get(14)?,
        result: row.get_ref(15)?.as_str_or_null()?.map(|_| parse(row, 15, json)).transpose()?,
        errors: row
            .get_ref(16)?
            .as_str_or_null()?
            .map(|_| parse(row, 16, json))
            .transpose()?
            .unwrap_or_default(),
        schedule: row.get(17)?,
        slot: row.get(18)?,
        missed: count(row, 19)?,
        progress_done: row.get(20)?,
        progress_total: row.get(21)?,
    })
}

/// A row made by hand can hold text that is no UTF-8. It keeps no other from being listed or
/// performed.
pub(super) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(String::from_utf8_lossy(row.get_ref(column)?.as_bytes()?).into_owned())
}

/// A row made by hand can hold any number: it is taken for the nearest that counts something.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    let number: i64 = row.get(column)?;
    Ok(number.clamp(0, u32::MAX.into()) as u32)
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn parse<T>(
    row: &Row<'_>,
    column: usize,
    read: impl Fn(&str) -> Result<T, String>,
) -> rusqlite::Result<T> {
    read(row.get_ref(column)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}
