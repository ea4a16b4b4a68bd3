//! Taking jobs out of the queue, in the order of priority, due time and id.
//!
//! Every statement here is served by the index `verger_jobs_due` and reads no more rows than it
//! takes, from each worker: a backlog of a million jobs costs nothing, and neither does one of
//! jobs whose worker this process lacks. Those are parked: they wait for a process that has it.

use rusqlite::{Connection, Row};

use super::job::JobId;
use super::queues::paused_queues;
use super::read::{count, text};
use super::set_aside::set_kind_aside;
use super::transition::{Lease, TIDY};
use super::waiting::{HasWorker, Kind, Next, WAITING, each_kind, first_due};
use crate::time::Timestamp;

/// A job that was claimed, with what is needed to perform it.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) id: JobId,
    pub(crate) worker: String,
    pub(crate) args: String,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) token: i64,
    pub(crate) schedule: Option<String>,
    pub(crate) slot: Option<i64>,
    pub(crate) missed: u32,
    order: (i64, i64, i64),
}

/// Claims due jobs whose worker is here, up to its limit in each queue, inside a write transaction.
/// They are performed in the order returned. Jobs whose queue or worker cannot be read are set
/// aside.
pub(crate) fn claim(
    connection: &Connection,
    lease: &Lease,
    now: Timestamp,
    has_worker: HasWorker<'_>,
    limit: impl Fn(&str) -> usize,
) -> rusqlite::Result<Vec<Claimed>> {
    connection.prepare_cached(TIDY)?.execute([])?;
    let mut claimed: Vec<Claimed> = Vec::new();
    let mut unreadable: Vec<Kind> = Vec::new();
    for queue in runnable(connection, has_worker, &mut unreadable)? {
        let mut room = limit(&queue.name);
        for kinds in &queue.priorities {
            for (kind, most) in shares(connection, kinds, now, room)? {
                let before = claimed.len();
                claim_kind(connection, lease, now, kind, most, &mut claimed)?;
                room = room.saturating_sub(claimed.len() - before);
            }
        }
    }
    for kind in &unreadable {
        set_kind_aside(connection, kind, now)?;
    }
    claimed.sort_unstable_by_key(|job| job.order);
    Ok(claimed)
}

/// A queue with jobs of workers that are here: their kinds, by priority.
struct Runnable {
    name: String,
    priorities: Vec<Vec<Kind>>,
}

/// The queues that are not paused and have such jobs.
fn runnable(
    connection: &Connection,
    has_worker: HasWorker<'_>,
    unreadable: &mut Vec<Kind>,
) -> rusqlite::Result<Vec<Runnable>> {
    let paused = paused_queues(connection)?;
    let mut queues: Vec<Runnable> = Vec::new();
    let mut priority = None;
    each_kind(connection, |kind| {
        let Some((queue, worker)) = kind.names() else {
            unreadable.push(kind.clone());
            return Ok(Next::Kind);
        };
        if paused.iter().any(|paused| paused == queue) {
            return Ok(Next::Queue);
        }
        if !has_worker(worker) {
            return Ok(Next::Kind);
        }
        if queues.last().is_none_or(|last| last.name != queue) {
            queues.push(Runnable { name: queue.to_string(), priorities: Vec::new() });
            priority = None;
        }
        let Some(last) = queues.last_mut() else { return Ok(Next::Stop) };
        match last.priorities.last_mut().filter(|_| priority == Some(kind.priority)) {
            Some(kinds) => kinds.push(kind.clone()),
            None => last.priorities.push(vec![kind.clone()]),
        }
        priority = Some(kind.priority);
        Ok(Next::Kind)
    })?;
    Ok(queues)
}

/// How many due jobs of each kind are among the first of all, by due time and id.
fn shares<'k>(
    connection: &Connection,
    kinds: &'k [Kind],
    now: Timestamp,
    room: usize,
) -> rusqlite::Result<Vec<(&'k Kind, usize)>> {
    if let ([kind], 1..) = (kinds, room) {
        return Ok(vec![(kind, room)]);
    }
    let sql = format!(
        "SELECT due_at, id FROM verger_jobs WHERE {WAITING} AND queue = +?1 AND priority = +?2 AND worker = +?3 AND due_at <= +?4 \
         ORDER BY due_at, id LIMIT +?5"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let mut first: Vec<(i64, i64, usize)> = Vec::new();
    for (place, kind) in kinds.iter().enumerate() {
        let rows = select.query_map(
            (&kind.queue, kind.priority, &kind.worker, now.as_millis(), limit_of(room)),
            |row| Ok((row.get(0)?, row.get(1)?, place)),
        )?;
        for row in rows {
            first.push(row?);
        }
    }
    first.sort_unstable();
    first.truncate(room);
    let of = |place| first.iter().filter(|(_, _, of)| *of == place).count();
    Ok(kinds
        .iter()
        .enumerate()
        .map(|(place, kind)| (kind, of(place)))
        .filter(|(_, most)| *most > 0)
        .collect())
}

fn claim_kind(
    connection: &Connection,
    lease: &Lease,
    now: Timestamp,
    kind: &Kind,
    most: usize,
    claimed: &mut Vec<Claimed>,
) -> rusqlite::Result<()> {
    let sql = format!(
        "UPDATE verger_jobs SET state = 'executing', attempt = attempt + 1, token = token + 1, claimed_by = ?1, lease_until = ?2, \
         attempted_at = ?3 WHERE id IN (SELECT id FROM verger_jobs WHERE {WAITING} AND queue = +?4 AND priority = +?5 AND worker = +?6 \
         AND due_at <= +?3 ORDER BY due_at, id LIMIT +?7) \
         RETURNING id, worker, args, attempt, max_attempts, token, schedule, slot, missed, priority, due_at"
    );
    let mut update = connection.prepare_cached(&sql)?;
    let rows = update.query_map(
        (
            &lease.holder,
            lease.until.as_millis(),
            now.as_millis(),
            &kind.queue,
            kind.priority,
            &kind.worker,
            limit_of(most),
        ),
        from_row,
    )?;
    for row in rows {
        claimed.push(row?);
    }
    Ok(())
}

fn limit_of(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// When the next waiting job is due that can be claimed here, if there is one. One that cannot be
/// read is due at once, to be set aside.
pub(crate) fn next_due(
    connection: &Connection,
    has_worker: HasWorker<'_>,
) -> rusqlite::Result<Option<Timestamp>> {
    due_where(connection, has_worker, |_| true)
}

/// When the next waiting job of a queue is due that can be claimed here, if there is one and the
/// queue is not paused.
pub(crate) fn next_due_in(
    connection: &Connection,
    queue: &str,
    has_worker: HasWorker<'_>,
) -> rusqlite::Result<Option<Timestamp>> {
    due_where(connection, has_worker, |name| name == queue)
}

fn due_where(
    connection: &Connection,
    has_worker: HasWorker<'_>,
    is_meant: impl Fn(&str) -> bool,
) -> rusqlite::Result<Option<Timestamp>> {
    let paused = paused_queues(connection)?;
    let mut earliest: Option<Timestamp> = None;
    each_kind(connection, |kind| {
        let due = match kind.names() {
            None => Some(Timestamp::from_millis(i64::MIN)),
            Some((queue, _)) if !is_meant(queue) || paused.iter().any(|paused| paused == queue) => {
                return Ok(Next::Queue);
            }
            Some((_, worker)) if !has_worker(worker) => None,
            Some(_) => first_due(connection, kind)?,
        };
        earliest = earliest.into_iter().chain(due).min();
        Ok(Next::Kind)
    })?;
    Ok(earliest)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Claimed> {
    let id = row.get(0)?;
    Ok(Claimed {
        id: JobId(id),
        worker: text(row, 1)?,
        // What is no UTF-8, in a row made by hand, is no JSON either: this job fails, and the
        // others go on.
        args: row.get_ref(2)?.as_str().unwrap_or_default().to_string(),
        attempt: count(row, 3)?,
        max_attempts: count(row, 4)?,
        token: row.get(5)?,
        schedule: row.get_ref(6)?.as_bytes_or_null()?.map(lossy),
        slot: row.get(7)?,
        missed: count(row, 8)?,
        order: (row.get(9)?, row.get(10)?, id),
    })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
