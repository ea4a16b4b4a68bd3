//! Jobs that nobody can perform, because their rows cannot be read. They end as discarded, with the
//! reason, and keep no other from its turn.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::read::count;
use super::transition::{error_json, event_job};
use super::waiting::{HasWorker, Kind, Next, WAITING, each_kind, is_here};
use crate::event::{self, EventFailure, EventKind};
use crate::ids::JobId;
use crate::time::Timestamp;

/// The code of the error such a job has.
pub(super) const UNREADABLE: &str = "unreadable";

/// The most jobs set aside in one transaction.
const BATCH: usize = 1_000;

/// The expression that a statement appends an error to: the row's errors if they are a list. If a
/// row made by hand has something else there, it is dropped.
pub(super) const ERRORS: &str =
    "CASE WHEN json_valid(errors) AND json_type(errors) = 'array' THEN errors ELSE '[]' END";

/// Waiting jobs that this process never performs.
#[derive(Default)]
pub(crate) struct Stuck {
    /// The kinds whose queue or worker cannot be read.
    pub(crate) unreadable: Vec<Kind>,
    /// The queues and workers of jobs that wait for another process.
    pub(crate) parked: BTreeSet<(String, String)>,
}

/// The kinds of waiting jobs that nobody, or nobody here, can perform.
pub(super) fn stuck(connection: &Connection, has_worker: HasWorker<'_>) -> rusqlite::Result<Stuck> {
    let mut stuck = Stuck::default();
    each_kind(connection, |kind| {
        match kind.names() {
            None => stuck.unreadable.push(kind.clone()),
            Some((_, worker)) if is_here(has_worker, worker, kind.args_version) => {}
            Some((queue, worker)) => {
                stuck.parked.insert((queue.to_string(), worker.to_string()));
            }
        }
        Ok(Next::Kind)
    })?;
    Ok(stuck)
}

/// Sets aside waiting jobs whose queue or worker cannot be read, inside a write transaction.
/// Returns the events to tell.
pub(super) fn set_kind_aside(
    connection: &Connection,
    kind: &Kind,
    now: Timestamp,
) -> rusqlite::Result<Vec<EventKind>> {
    let column = if kind.queue.as_str().is_none() { "queue" } else { "worker" };
    let message = format!(
        "the column {column} of this row is no UTF-8: something else than Verger wrote it; write it anew, and retry the job"
    );
    let sql = format!(
        "UPDATE verger_jobs SET state = 'discarded', finished_at = ?1, unique_until = NULL, errors = json_insert({ERRORS}, '$[#]', json(?2)) \
         WHERE id IN (SELECT id FROM verger_jobs WHERE {WAITING} AND queue = +?3 AND priority = +?4 AND worker = +?5 LIMIT +?6) RETURNING id, attempt, worker, queue, schedule"
    );
    let params = (
        now.as_millis(),
        error_json(0, now, UNREADABLE, &message),
        &kind.queue,
        kind.priority,
        &kind.worker,
        BATCH as i64,
    );
    let events: Vec<EventKind> = connection
        .prepare_cached(&sql)?
        .query_map(params, |row| {
            let job = event_job(row, 2, JobId(row.get(0)?), count(row, 1)?)?;
            let error = EventFailure { code: UNREADABLE.to_string(), message: message.clone() };
            Ok(EventKind::Discarded { job, error })
        })?
        .collect::<Result<_, _>>()?;
    events.iter().try_for_each(|event| event::record(connection, now, event))?;
    Ok(events)
}
