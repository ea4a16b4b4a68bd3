//! Jobs that nobody can perform, because their rows cannot be read: they end as discarded, with the
//! reason, and keep no other from its turn.

use rusqlite::Connection;

use super::transition::error_json;
use super::waiting::{Kind, Next, WAITING, each_kind};
use crate::time::Timestamp;

/// The code of the error such a job has.
pub(super) const UNREADABLE: &str = "unreadable";

/// The most jobs set aside in one transaction.
const BATCH: usize = 1_000;

/// What a statement appends to: the errors a row has, where they are a list; of one made by hand
/// that are none, nothing is kept.
pub(super) const ERRORS: &str =
    "CASE WHEN json_valid(errors) AND json_type(errors) = 'array' THEN errors ELSE '[]' END";

/// The kinds of waiting jobs whose queue or worker cannot be read.
pub(crate) fn unreadable(connection: &Connection) -> rusqlite::Result<Vec<Kind>> {
    let mut found = Vec::new();
    each_kind(connection, |kind| {
        if kind.names().is_none() {
            found.push(kind.clone());
        }
        Ok(Next::Kind)
    })?;
    Ok(found)
}

/// Sets waiting jobs aside whose queue or worker cannot be read, inside a write transaction.
pub(crate) fn set_kind_aside(
    connection: &Connection,
    kind: &Kind,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let column = if kind.queue.as_str().is_none() { "queue" } else { "worker" };
    let message = format!(
        "the column {column} of this row is no UTF-8: something else than Verger wrote it; write it anew, and retry the job"
    );
    let sql = format!(
        "UPDATE verger_jobs SET state = 'discarded', finished_at = ?1, unique_until = NULL, errors = json_insert({ERRORS}, '$[#]', json(?2)) \
         WHERE id IN (SELECT id FROM verger_jobs WHERE {WAITING} AND queue = +?3 AND priority = +?4 AND worker = +?5 LIMIT +?6)"
    );
    let set_aside = connection.prepare_cached(&sql)?.execute((
        now.as_millis(),
        error_json(0, now, UNREADABLE, &message),
        &kind.queue,
        kind.priority,
        &kind.worker,
        BATCH as i64,
    ))?;
    tracing::error!(column, set_aside, "jobs are set aside: their rows cannot be read");
    Ok(())
}
