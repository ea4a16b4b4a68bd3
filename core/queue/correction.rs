//! Jobs that a wrong clock sent away: their times are moved back by as much as the clock was wrong.

use rusqlite::Connection;

use super::waiting::WAITING;
use crate::ids::JobId;
use crate::time::Timestamp;

/// The most a lease reaches beyond the present.
const LEASE_MAX_MILLIS: i64 = 86_400_000;

/// The jobs with a time after this instant that only a wrong clock can have given them.
pub(super) fn misled(connection: &Connection, after: Timestamp) -> rusqlite::Result<Vec<JobId>> {
    connection
        .prepare_cached(
            "SELECT id FROM verger_jobs WHERE created_at > ?1 OR attempted_at > ?1 OR finished_at > ?1 \
             OR (state = 'executing' AND lease_until > ?2) ORDER BY id",
        )?
        .query_map((after.as_millis(), after.as_millis().saturating_add(LEASE_MAX_MILLIS)), |row| {
            row.get(0).map(JobId)
        })?
        .collect()
}

/// The times of a job, in the order of the columns below.
type Times = [Option<i64>; 6];

/// Makes such a job wait from this instant for as long as it was to wait. A time later than `after`
/// is wrong.
pub(super) fn bring_back(
    connection: &Connection,
    id: JobId,
    since: Timestamp,
    after: Timestamp,
) -> rusqlite::Result<()> {
    let sql = format!(
        "SELECT {WAITING}, created_at, attempted_at, finished_at, due_at, lease_until, unique_until FROM verger_jobs WHERE id = ?1"
    );
    let (waits, times): (bool, Times) =
        connection.prepare_cached(&sql)?.query_row([id.number()], |row| {
            let at = |column: usize| row.get::<_, Option<i64>>(column);
            Ok((row.get(0)?, [at(1)?, at(2)?, at(3)?, at(4)?, at(5)?, at(6)?]))
        })?;
    let [created, attempted, finished, due, lease, unique] = times;
    let (since, after) = (since.as_millis(), after.as_millis());
    let is_wrong = |time: Option<i64>| time.is_some_and(|time| time > after);
    // What the wait was counted from: the last attempt, or the enqueueing.
    let from = attempted.filter(|_| is_wrong(attempted)).or(created.filter(|_| is_wrong(created)));
    let moved = |time: Option<i64>, from: Option<i64>| match (time, from) {
        // An earlier time is one that somebody chose.
        (Some(time), Some(from)) if time >= from => {
            Some(since.saturating_add(time.saturating_sub(from)))
        }
        _ => time,
    };
    let put = |time: Option<i64>| if is_wrong(time) { Some(since) } else { time };
    let lease_is_wrong = lease.is_some_and(|lease| lease > after.saturating_add(LEASE_MAX_MILLIS));
    let lease = match moved(lease, attempted.filter(|_| is_wrong(attempted))) {
        moved if moved != lease => moved,
        _ if lease_is_wrong => Some(after),
        lease => lease,
    };
    connection
        .prepare_cached(
            "UPDATE verger_jobs SET created_at = ?2, attempted_at = ?3, finished_at = ?4, due_at = ?5, lease_until = ?6, unique_until = ?7 \
             WHERE id = ?1",
        )?
        .execute((
            id.number(),
            put(created),
            put(attempted),
            put(finished),
            if waits { moved(due, from) } else { due },
            lease,
            moved(unique, created.filter(|_| is_wrong(created))),
        ))
        .map(drop)
}
