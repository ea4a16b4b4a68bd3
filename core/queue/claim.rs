//! Taking jobs out of the queue, in the order of priority, due time and id.
//!
//! A job is claimed when it is about to begin and not before. Until then it can be cancelled, its
//! queue paused, and a job of a higher priority put in front of it. Workers have no part in the
//! order, so within a queue none of them can starve another: what was due before comes first,
//! whichever worker it is for.
//!
//! Every statement here is served by the index `verger_jobs_due`, and reads no more rows of each
//! worker than it takes. So a backlog of a million jobs costs nothing, and neither does a backlog
//! of jobs whose worker this process lacks. Those are parked: they wait for a process that has it.

use std::sync::LazyLock;
use std::time::Duration;

use rusqlite::{Connection, Row};

use super::queues::paused_queues;
use super::read::{count, text};
use super::transition::{Lease, TIDY};
use super::waiting::{HasWorker, Kind, Next, WAITING, each_kind, each_kind_in, first_due, is_here};
use crate::ids::JobId;
use crate::store::{TransactionGuard, is_busy};
use crate::time::Timestamp;

/// A job that was claimed, with what is needed to perform it.
#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) id: JobId,
    pub(crate) worker: String,
    pub(crate) args: String,
    /// The version of the args that the job was written for.
    pub(crate) args_version: u32,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) token: i64,
    pub(crate) schedule: Option<String>,
    pub(crate) slot: Option<i64>,
    pub(crate) missed: u32,
    pub(crate) slot_after: Option<i64>,
    pub(crate) zone: Option<String>,
    pub(crate) queue: String,
    /// How long the job had been due.
    pub(crate) wait: Duration,
    pub(crate) traceparent: Option<String>,
}

/// What is to be claimed.
pub(crate) struct ClaimOrder<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) now: Timestamp,
    /// How many jobs.
    pub(crate) most: usize,
    pub(crate) has_worker: HasWorker<'a>,
    /// How many jobs of a queue may be executing at a time in the whole file. `None` sets no bound.
    pub(crate) most_in_file: &'a dyn Fn(&str) -> Option<usize>,
}

/// A job that can be claimed: its priority, when it is due, and its id. Candidates sort in the
/// order in which they are performed.
type Candidate = (i64, i64, i64);

/// Claims the first due jobs, of a queue or of all, whose workers are here, in a transaction of its
/// own. They are performed in the order returned. If none is due, nothing is written and nobody is
/// kept from writing.
pub(super) fn claim_due(
    connection: &Connection,
    queue: Option<&str>,
    order: &ClaimOrder<'_>,
) -> rusqlite::Result<Vec<Claimed>> {
    let look = TransactionGuard::begin_read(connection)?;
    let found = candidates(&look, queue, order)?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    match claim(&look, found, order) {
        Ok(claimed) => look.commit().map(|()| claimed),
        // Someone is writing, or has written since the look.
        Err(error) if is_busy(&error) => {
            drop(look);
            let transaction = TransactionGuard::begin_write(connection)?;
            let claimed = claim_now(&transaction, queue, order)?;
            transaction.commit().map(|()| claimed)
        }
        Err(error) => Err(error),
    }
}

/// As [`claim_due`], inside the caller's write transaction.
pub(super) fn claim_now(
    connection: &Connection,
    queue: Option<&str>,
    order: &ClaimOrder<'_>,
) -> rusqlite::Result<Vec<Claimed>> {
    let found = candidates(connection, queue, order)?;
    claim(connection, found, order)
}

fn candidates(
    connection: &Connection,
    queue: Option<&str>,
    order: &ClaimOrder<'_>,
) -> rusqlite::Result<Vec<Candidate>> {
    match queue {
        Some(queue) => waiting_in(connection, queue, order),
        None => waiting(connection, order),
    }
}

/// The first due jobs of a queue whose workers are here, in their order.
fn waiting_in(
    connection: &Connection,
    queue: &str,
    order: &ClaimOrder<'_>,
) -> rusqlite::Result<Vec<Candidate>> {
    if paused_queues(connection)?.iter().any(|paused| paused == queue) {
        return Ok(Vec::new());
    }
    let room = room(connection, queue, order)?;
    let mut found = Vec::new();
    // Kinds come by priority. Once the room is full, jobs of the next priority cannot be among the
    // first.
    let mut priority = -1;
    each_kind_in(connection, queue, |kind| {
        if kind.priority != priority && found.len() >= room {
            return Ok(Next::Stop);
        }
        priority = kind.priority;
        look_at(connection, kind, room, order, &mut found)
    })?;
    trim(&mut found, 0, room);
    Ok(found)
}

/// The first due jobs of a queue, or of all, in their order: those a claim would take now.
pub(super) fn first_waiting(
    connection: &Connection,
    queue: Option<&str>,
    order: &ClaimOrder<'_>,
) -> rusqlite::Result<Vec<JobId>> {
    let found = candidates(connection, queue, order)?;
    Ok(found.into_iter().map(|(_, _, id)| JobId(id)).collect())
}

fn waiting(connection: &Connection, order: &ClaimOrder<'_>) -> rusqlite::Result<Vec<Candidate>> {
    let paused = paused_queues(connection)?;
    let mut found = Vec::new();
    let (mut queue, mut room_in, mut before) = (None, 0, 0);
    each_kind(connection, |kind| {
        let name = kind.queue.as_str();
        if name.is_some_and(|name| paused.iter().any(|paused| paused == name)) {
            return Ok(Next::Queue);
        }
        if queue.as_ref() != Some(&kind.queue) {
            // Of each queue, no more jobs than it has room for.
            trim(&mut found, before, room_in);
            before = found.len();
            room_in = name.map_or(Ok(0), |name| room(connection, name, order))?;
            queue = Some(kind.queue.clone());
        }
        look_at(connection, kind, room_in, order, &mut found)
    })?;
    trim(&mut found, before, room_in);
    trim(&mut found, 0, order.most);
    Ok(found)
}

/// Keeps only the first `most` of the candidates from this index on.
fn trim(found: &mut Vec<Candidate>, from: usize, most: usize) {
    if let Some(last) = found.get_mut(from..) {
        last.sort_unstable();
    }
    found.truncate(from + most);
}

/// How many jobs of a queue may be claimed.
fn room(connection: &Connection, queue: &str, order: &ClaimOrder<'_>) -> rusqlite::Result<usize> {
    let Some(most_in_file) = (order.most_in_file)(queue) else { return Ok(order.most) };
    let executing: u32 = connection
        .prepare_cached(
            "SELECT count(*) FROM verger_jobs WHERE lease_until IS NOT NULL AND state = 'executing' AND queue = +?1",
        )?
        .query_row([queue], |row| row.get(0))?;
    Ok(order.most.min(most_in_file.saturating_sub(executing as usize)))
}

static FIRST_OF_KIND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT due_at, id FROM verger_jobs WHERE {WAITING} AND queue = +?1 AND priority = +?2 AND worker = +?3 AND args_version = +?4 \
         AND due_at <= +?5 ORDER BY due_at, id LIMIT +?6"
    )
});

/// Adds the first due jobs of a kind to the candidates.
fn look_at(
    connection: &Connection,
    kind: &Kind,
    room: usize,
    order: &ClaimOrder<'_>,
    found: &mut Vec<Candidate>,
) -> rusqlite::Result<Next> {
    let names = kind.names();
    if room == 0
        || !names.is_some_and(|(_, name)| is_here(order.has_worker, name, kind.args_version))
    {
        return Ok(Next::Kind);
    }
    let mut select = connection.prepare_cached(&FIRST_OF_KIND)?;
    let most = i64::try_from(room).unwrap_or(i64::MAX);
    let rows = select.query_map(
        (&kind.queue, kind.priority, &kind.worker, kind.args_version, order.now.as_millis(), most),
        |row| Ok((kind.priority, row.get(0)?, row.get(1)?)),
    )?;
    for row in rows {
        found.push(row?);
    }
    Ok(Next::Kind)
}

/// Claims these jobs.
fn claim(
    connection: &Connection,
    found: Vec<Candidate>,
    order: &ClaimOrder<'_>,
) -> rusqlite::Result<Vec<Claimed>> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    connection.prepare_cached(TIDY)?.execute([])?;
    let mut update = connection.prepare_cached(
        "UPDATE verger_jobs SET state = 'executing', attempt = attempt + 1, token = token + 1, claimed_by = ?1, lease_until = ?2, \
         attempted_at = ?3 WHERE id = ?4 RETURNING id, worker, args, attempt, max_attempts, token, schedule, slot, missed, slot_after, \
         zone, queue, max(due_at, created_at), traceparent, args_version",
    )?;
    let mut claimed = Vec::with_capacity(found.len());
    for (_, _, id) in found {
        let Lease { holder, until } = order.lease;
        let params = (holder, until.as_millis(), order.now.as_millis(), id);
        for row in update.query_map(params, |row| from_row(row, order.now))? {
            claimed.push(row?);
        }
    }
    Ok(claimed)
}

/// When the next waiting job is due that can be claimed here, if there is one.
pub(super) fn next_due(
    connection: &Connection,
    has_worker: HasWorker<'_>,
) -> rusqlite::Result<Option<Timestamp>> {
    let queues = due_by_queue(connection, Timestamp::from_millis(i64::MIN), has_worker)?;
    Ok(queues.into_iter().map(|queue| queue.next_due_at).min())
}

/// When the next waiting job of a queue is due that can be claimed here, if there is one and the
/// queue is not paused.
pub(super) fn next_due_in(
    connection: &Connection,
    queue: &str,
    has_worker: HasWorker<'_>,
) -> rusqlite::Result<Option<Timestamp>> {
    if paused_queues(connection)?.iter().any(|paused| paused == queue) {
        return Ok(None);
    }
    let mut earliest = None;
    each_kind_in(connection, queue, |kind| {
        earliest = earlier(earliest, due_of(connection, kind, has_worker)?);
        Ok(Next::Kind)
    })?;
    Ok(earliest)
}

/// A queue in which jobs wait that can be claimed here.
pub(crate) struct DueQueue {
    pub(crate) name: String,
    pub(crate) next_due_at: Timestamp,
    /// The highest priority of its due jobs, from 0. `None` when none is due.
    pub(crate) due_priority: Option<i64>,
}

/// The queues that are not paused and in which jobs wait that can be claimed here, by name.
pub(super) fn due_by_queue(
    connection: &Connection,
    now: Timestamp,
    has_worker: HasWorker<'_>,
) -> rusqlite::Result<Vec<DueQueue>> {
    let paused = paused_queues(connection)?;
    let mut found: Vec<DueQueue> = Vec::new();
    each_kind(connection, |kind| {
        let Some(name) = kind.queue.as_str() else { return Ok(Next::Queue) };
        if paused.iter().any(|paused| paused == name) {
            return Ok(Next::Queue);
        }
        let Some(due) = due_of(connection, kind, has_worker)? else { return Ok(Next::Kind) };
        // Kinds come by priority, the highest first.
        let priority = (due <= now).then_some(kind.priority);
        match found.last_mut().filter(|last| last.name == name) {
            Some(last) => {
                last.next_due_at = due.min(last.next_due_at);
                last.due_priority = last.due_priority.or(priority);
            }
            None => found.push(DueQueue {
                name: name.to_string(),
                next_due_at: due,
                due_priority: priority,
            }),
        }
        Ok(Next::Kind)
    })?;
    Ok(found)
}

fn due_of(
    connection: &Connection,
    kind: &Kind,
    has_worker: HasWorker<'_>,
) -> rusqlite::Result<Option<Timestamp>> {
    match kind.names() {
        Some((_, worker)) if is_here(has_worker, worker, kind.args_version) => {
            first_due(connection, kind)
        }
        _ => Ok(None),
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

pub(super) fn from_row(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<Claimed> {
    Ok(Claimed {
        id: JobId(row.get(0)?),
        worker: text(row, 1)?,
        // Text that is no UTF-8, in a row made by hand, is no JSON either. So this job fails, and
        // the others go on.
        args: row.get_ref(2)?.as_str().unwrap_or_default().to_string(),
        attempt: count(row, 3)?,
        max_attempts: count(row, 4)?,
        token: row.get(5)?,
        schedule: row.get_ref(6)?.as_bytes_or_null()?.map(lossy),
        slot: row.get(7)?,
        missed: count(row, 8)?,
        slot_after: row.get(9)?,
        zone: row.get_ref(10)?.as_bytes_or_null()?.map(lossy),
        queue: text(row, 11)?,
        wait: now.since(Timestamp::from_millis(row.get(12)?)),
        traceparent: row.get_ref(13)?.as_bytes_or_null()?.map(lossy),
        args_version: count(row, 14)?,
    })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
