//! What became of jobs over time, for a chart, and the newest jobs of a state, for a page.

use rusqlite::{Connection, Row};
use serde::Serialize;

use super::job::{Job, JobState};
use super::read::{from_row, select};
use super::waiting::{HasWorker, WAITING};
use crate::store::{StoreContext, StoreError};
use crate::time::Timestamp;

/// A span is counted in this many parts, and in each part at most this many jobs of a state are
/// counted one by one. If there are more, the time that these took gives an estimate.
const PARTS: i64 = 4;
const PART_MAX: i64 = 150;

/// The most jobs that are counted as completed since the last claim.
const FRESH_MAX: i64 = 50_000;

/// If no more jobs wait than this, all of them are looked at. Otherwise the newest jobs of all
/// states are.
const WAITING_MAX: i64 = 2_000;
const NEWEST: i64 = 100_000;

/// How many jobs of a span have their times looked at: the newest.
const SAMPLE: i64 = 40;

/// What became of jobs that ended in one span of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HistorySpan {
    /// When it begins.
    pub from: Timestamp,
    /// Jobs that completed.
    pub completed: u64,
    /// Jobs that were discarded.
    pub discarded: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// Whether one of the counts is an estimate: at least 150 jobs ended in a quarter of the span,
    /// and the time that the first 150 took tells how many there were.
    pub is_estimate: bool,
    /// How long jobs waited after they were due, in milliseconds, among the newest forty that
    /// completed. Half of them waited less than the first number, 95 of 100 less than the second.
    pub wait_ms: Option<[u64; 2]>,
    /// How long their last attempts took, in the same way.
    pub run_ms: Option<[u64; 2]>,
}

/// The history of `count` spans of this many milliseconds, the oldest first.
pub(super) fn history(
    connection: &Connection,
    from: Timestamp,
    span: i64,
    count: u32,
) -> Result<Vec<HistorySpan>, StoreError> {
    let reading = "read the history of the jobs";
    let mut counting = connection
        .prepare_cached(
            "SELECT count(*), max(finished_at) FROM (SELECT finished_at FROM verger_jobs WHERE state = +?1 AND finished_at IS NOT NULL \
             AND lease_until IS NULL AND finished_at >= +?2 AND finished_at < +?3 ORDER BY finished_at LIMIT +?4)",
        )
        .doing(reading)?;
    let mut sampling = connection
        .prepare_cached(
            "SELECT attempted_at - max(due_at, created_at), finished_at - attempted_at FROM verger_jobs \
             WHERE state = 'completed' AND finished_at IS NOT NULL AND lease_until IS NULL AND finished_at >= +?1 AND finished_at < +?2 \
             AND attempted_at IS NOT NULL ORDER BY finished_at DESC LIMIT +?3",
        )
        .doing(reading)?;
    let fresh = fresh(connection).doing(reading)?;
    let mut spans = Vec::new();
    for place in 0..i64::from(count) {
        let from = from.as_millis().saturating_add(place.saturating_mul(span));
        let until = from.saturating_add(span);
        let mut is_estimate = false;
        let mut of = |state: JobState| -> Result<u64, StoreError> {
            let mut all = 0;
            for part in 0..PARTS {
                let from = from.saturating_add(span / PARTS * part);
                let until =
                    if part + 1 == PARTS { until } else { from.saturating_add(span / PARTS) };
                let (count, last): (i64, Option<i64>) = counting
                    .query_row((state.as_str(), from, until, PART_MAX), |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })
                    .doing(reading)?;
                is_estimate |= count == PART_MAX;
                all += match last {
                    Some(last) if count == PART_MAX => estimated(count, from, last, until),
                    _ => count.unsigned_abs(),
                };
            }
            Ok(all)
        };
        let (completed, discarded, cancelled) =
            (of(JobState::Completed)?, of(JobState::Discarded)?, of(JobState::Cancelled)?);
        let times = sampling
            .query_map((from, until, SAMPLE), |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect::<rusqlite::Result<Vec<(i64, i64)>>>)
            .doing(reading)?;
        let recent = fresh.iter().filter(|at| (from..until).contains(*at)).count() as u64;
        spans.push(HistorySpan {
            from: Timestamp::from_millis(from),
            completed: completed + recent,
            discarded,
            cancelled,
            is_estimate,
            wait_ms: percentiles(times.iter().map(|(wait, _)| *wait)),
            run_ms: percentiles(times.iter().map(|(_, run)| *run)),
        });
    }
    Ok(spans)
}

/// How many jobs end in a span if the first `count` ended by `last`.
fn estimated(count: i64, from: i64, last: i64, until: i64) -> u64 {
    let passed = last.saturating_sub(from).max(1);
    let whole = until.saturating_sub(from).max(passed);
    let all = i128::from(count) * i128::from(whole) / i128::from(passed);
    u64::try_from(all).unwrap_or(u64::MAX).max(count.unsigned_abs())
}

/// When the jobs ended that completed since the last claim. They are not in the index yet.
fn fresh(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached(
            "SELECT finished_at FROM verger_jobs WHERE lease_until IS NOT NULL AND state = 'completed' AND finished_at IS NOT NULL LIMIT ?1",
        )?
        .query_map([FRESH_MAX], |row| row.get(0))?
        .collect()
}

fn percentiles(values: impl Iterator<Item = i64>) -> Option<[u64; 2]> {
    let mut values: Vec<u64> = values.map(|value| value.max(0).unsigned_abs()).collect();
    values.sort_unstable();
    let at = |share: usize| values.get((values.len().saturating_sub(1)) * share / 100).copied();
    Some([at(50)?, at(95)?])
}

/// The newest jobs of a state: finished ones by when they ended, those being performed by when they
/// began, waiting ones by their ids.
pub(super) fn latest(
    connection: &Connection,
    state: JobState,
    limit: u32,
    has_worker: HasWorker<'_>,
) -> Result<Vec<Job>, StoreError> {
    let mut jobs = Vec::new();
    if state == JobState::Completed {
        // Those that completed since the last claim are not in the index of finished jobs yet.
        let fresh = "lease_until IS NOT NULL AND state = ?1 ORDER BY finished_at DESC LIMIT ?2";
        jobs = read(connection, fresh, state, limit, has_worker)?;
    }
    let rest = match state {
        state if state.is_final() => {
            "state = ?1 AND finished_at IS NOT NULL AND lease_until IS NULL ORDER BY finished_at DESC LIMIT ?2".to_string()
        }
        JobState::Executing => {
            "lease_until IS NOT NULL AND state = ?1 ORDER BY attempted_at DESC LIMIT ?2".to_string()
        }
        // The plus makes SQLite read the waiting jobs by their index, and not the table backwards.
        _ if few_wait(connection).doing("count what waits")? => {
            format!("{WAITING} AND state = ?1 ORDER BY +id DESC LIMIT ?2")
        }
        _ => format!(
            "state = ?1 AND id > (SELECT max(id) FROM verger_jobs) - {NEWEST} ORDER BY id DESC LIMIT ?2"
        ),
    };
    let left = limit.saturating_sub(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
    jobs.extend(read(connection, &rest, state, left, has_worker)?);
    Ok(jobs)
}

pub(super) fn few_wait(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM verger_jobs WHERE {WAITING} LIMIT {WAITING_MAX} + 1)"
    );
    let count: i64 = connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?;
    Ok(count <= WAITING_MAX)
}

fn read(
    connection: &Connection,
    condition: &str,
    state: JobState,
    limit: u32,
    has_worker: HasWorker<'_>,
) -> Result<Vec<Job>, StoreError> {
    let reading = "list the jobs";
    let mut statement = connection.prepare_cached(&select(condition)).doing(reading)?;
    let job = |row: &Row<'_>| Ok(from_row(row, has_worker));
    let rows = statement.query_map((state.as_str(), limit), job).doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_told_by_the_time_the_first_took() {
        assert_eq!(estimated(500, 0, 250, 1_000), 2_000);
        assert_eq!(estimated(500, 0, 999, 1_000), 500);
        assert_eq!(estimated(500, 7, 7, 8), 500);
        assert_eq!(estimated(500, i64::MIN, i64::MAX, i64::MAX), 500);
        assert_eq!(percentiles([5, -1, 3].into_iter()), Some([3, 3]));
        assert_eq!(percentiles([].into_iter()), None);
    }
}
