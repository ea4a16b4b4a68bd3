//! Searching for jobs among very many, in a bounded time.
//!
//! No index serves every filter, and each further index slows every insert. So a search goes
//! backwards from the newest job in spans of ids, as many as there is time for, and says how far it
//! came.

use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::filter::JobFilter;
use super::history::few_wait;
use super::job::{Job, JobState};
use super::read::{from_row, select};
use super::waiting::HasWorker;
use crate::ids::JobId;
use crate::store::{StoreContext, StoreError};

/// The first span of ids. If a span took less than [`QUICK`], the next is twice as long.
const SPAN: i64 = 2_000;
const QUICK: Duration = Duration::from_millis(5);

/// The jobs that were found, and how far back the search went.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JobSearch {
    /// Those that were found, the newest first.
    pub jobs: Vec<Job>,
    /// The job before which to go on, with [`JobFilter::before`]. `None` when all were looked at.
    pub go_on_before: Option<JobId>,
}

/// The newest jobs that fit, searched for as long as there is time. At least one span of ids is
/// searched.
pub(crate) fn search(
    connection: &Connection,
    filter: &JobFilter,
    limit: u32,
    time: Duration,
    has_worker: HasWorker<'_>,
) -> Result<JobSearch, StoreError> {
    let reading = "look for jobs";
    let begun = Instant::now();
    let (condition, params) = filter.without_ids().condition();
    // An index lists all jobs that can fit, so the others need not be searched.
    let (narrower, is_indexed) = match filter.states.as_slice() {
        [JobState::Executing] => (" AND lease_until IS NOT NULL", true),
        _ if filter.is_waiting() => ("", few_wait(connection).doing(reading)?),
        _ => ("", false),
    };
    // The plus makes SQLite read by the index, and not the table backwards.
    let order = if is_indexed { "+id" } else { "id" };
    let sql = select(&format!(
        "{condition}{narrower} AND {order} >= ? AND {order} <= ? ORDER BY {order} DESC LIMIT ?"
    ));
    let mut statement = connection.prepare_cached(&sql).doing(reading)?;
    let (first, mut last) = id_range(connection, filter).doing(reading)?;
    let mut found = JobSearch { jobs: Vec::new(), go_on_before: None };
    let mut span = if is_indexed { i64::MAX } else { SPAN };
    while first <= last {
        let from = last.saturating_sub(span - 1).max(first);
        let left = i64::from(limit) - found.jobs.len() as i64;
        let bounds = [from, last, left].map(Value::Integer);
        let looked_at = Instant::now();
        let jobs = statement
            .query_map(params_from_iter(params.iter().cloned().chain(bounds)), |row| {
                Ok(from_row(row, has_worker))
            })
            .and_then(Iterator::collect::<rusqlite::Result<Vec<Job>>>)
            .doing(reading)?;
        found.jobs.extend(jobs);
        if found.jobs.len() as i64 >= i64::from(limit) {
            let oldest = found.jobs.last().map(|job| job.id);
            found.go_on_before = oldest.filter(|job| job.number() > first);
            break;
        }
        if from > first && begun.elapsed() >= time {
            found.go_on_before = Some(JobId(from));
            break;
        }
        if looked_at.elapsed() < QUICK {
            span = span.saturating_mul(2);
        }
        last = from.saturating_sub(1);
        if from == first {
            break;
        }
    }
    Ok(found)
}

/// The lowest and the highest id of jobs that can fit.
pub(super) fn id_range(
    connection: &Connection,
    filter: &JobFilter,
) -> rusqlite::Result<(i64, i64)> {
    let ends: (Option<i64>, Option<i64>) = connection
        .prepare_cached(
            "SELECT (SELECT min(id) FROM verger_jobs), (SELECT max(id) FROM verger_jobs)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (first, last) = filter.id_range();
    Ok((first.max(ends.0.unwrap_or(1)), last.min(ends.1.unwrap_or(0))))
}
