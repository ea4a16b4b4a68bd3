//! Taking jobs out of the queue, in the order of priority, due time and id.

use std::time::Duration;

use postgres::Row;

use super::kinds::Kind;
use super::session::Session;
use crate::ids::JobId;
use crate::queue::Claimed;
use crate::store::StoreError;
use crate::time::Timestamp;

const CLAIMING: &str = "claim a job";

/// The most jobs one statement claims.
pub(super) const CLAIMED_MAX: usize = 32;

/// Claims the first jobs of these kinds. Jobs that another node is just claiming are passed over.
///
/// Its commit need not wait for the disk. If the server loses it in a crash, the job was never
/// claimed; and the commit of the attempt, which waits, comes after it in the server's log. A token
/// that was lost so must not be given again: its last 20 bits are those of the node's number, which
/// is another one after each loss of a connection.
const CLAIM: &str = "WITH found AS MATERIALIZED (SELECT job.id FROM ( \
     SELECT first.* FROM unnest($1::text[], $2::text[], $3::bigint[]) AS kind (queue, worker, newest) \
     CROSS JOIN LATERAL (SELECT id, priority, due_at FROM verger.jobs WHERE state = 'available' AND queue = kind.queue \
     AND worker = kind.worker AND args_version <= kind.newest AND due_at <= $6 ORDER BY priority, due_at, id LIMIT 32) AS first \
     WHERE kind.queue NOT IN (SELECT name FROM verger.queues WHERE paused) ORDER BY priority, due_at, id) AS head \
     CROSS JOIN LATERAL (SELECT id FROM verger.jobs WHERE id = head.id AND state = 'available' FOR UPDATE SKIP LOCKED) AS job LIMIT $7) \
     UPDATE verger.jobs AS job SET state = 'executing', attempt = least(attempt + 1, 4294967295), token = ((token >> 20) + 1 << 20) + ($4::bigint & 1048575), \
     claimed_by = $4, lease_until = $5, attempted_at = $6 WHERE job.id = ANY (ARRAY(SELECT id FROM found)) \
     RETURNING job.id, job.worker, job.args::text, job.args_version, job.attempt, job.max_attempts, job.token, job.schedule, job.slot, \
     job.missed, job.slot_after, job.zone, job.queue, job.due_at, job.traceparent, job.priority, set_config('synchronous_commit', 'off', true)";

/// Who claims, and until when.
#[derive(Clone, Copy)]
pub(super) struct Holder {
    pub(super) node: i64,
    pub(super) now: Timestamp,
    pub(super) until: Timestamp,
}

/// Claims the first due jobs of these kinds, so many at most, in their order, in a transaction of
/// its own.
pub(super) fn claim<'k>(
    session: &mut Session,
    kinds: impl Iterator<Item = (&'k Kind, &'k u32)>,
    holder: Holder,
    most: usize,
) -> Result<Vec<Claimed>, StoreError> {
    let (mut queues, mut workers, mut newest) = (Vec::new(), Vec::new(), Vec::new());
    for ((queue, worker), version) in kinds {
        queues.push(queue.as_str());
        workers.push(worker.as_str());
        newest.push(i64::from(*version));
    }
    if queues.is_empty() {
        return Ok(Vec::new());
    }
    let Holder { node, now, until } = holder;
    let (until, at) = (until.as_millis(), now.as_millis());
    let most = i64::try_from(most.clamp(1, CLAIMED_MAX)).unwrap_or(1);
    let mut rows =
        session.query(CLAIMING, CLAIM, &[&queues, &workers, &newest, &node, &until, &at, &most])?;
    // An UPDATE returns them in any order.
    rows.sort_by_key(|row| (row.get::<_, i16>(15), row.get::<_, i64>(13), row.get::<_, i64>(0)));
    Ok(rows.iter().map(|row| claimed(row, now)).collect())
}

/// Claims the first due job of a queue, if fewer than `most` of it are being performed by all
/// nodes. Claims of this queue take turns at its row.
pub(super) fn claim_within<'k>(
    session: &mut Session,
    queue: &str,
    kinds: impl Iterator<Item = (&'k Kind, &'k u32)>,
    most: usize,
    holder: Holder,
) -> Result<Option<Claimed>, StoreError> {
    session.transaction(CLAIMING, |session| {
        session.execute(
            CLAIMING,
            "INSERT INTO verger.queues (name, paused, updated_at) VALUES ($1, false, $2) ON CONFLICT (name) DO NOTHING",
            &[&queue, &holder.now.as_millis()],
        )?;
        let paused = session
            .first(CLAIMING, "SELECT paused FROM verger.queues WHERE name = $1 FOR UPDATE", &[&queue])?
            .is_none_or(|row| row.get(0));
        let executing: i64 = session
            .first(
                CLAIMING,
                "SELECT count(*) FROM verger.jobs WHERE state = 'executing' AND queue = $1",
                &[&queue],
            )?
            .map_or(0, |row| row.get(0));
        if paused || usize::try_from(executing).unwrap_or(usize::MAX) >= most {
            return Ok(None);
        }
        Ok(claim(session, kinds, holder, 1)?.pop())
    })
}

fn claimed(row: &Row, now: Timestamp) -> Claimed {
    Claimed {
        id: JobId(row.get(0)),
        worker: row.get(1),
        args: row.get(2),
        args_version: count(row.get(3)),
        attempt: count(row.get(4)),
        max_attempts: count(row.get(5)),
        token: row.get(6),
        schedule: row.get(7),
        slot: row.get(8),
        missed: count(row.get(9)),
        slot_after: row.get(10),
        zone: row.get(11),
        queue: row.get(12),
        wait: waited(now, row.get(13)),
        traceparent: row.get(14),
    }
}

/// A column that counts.
pub(super) fn count(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

/// How long a job had been due. One that was due "at once" says no time.
fn waited(now: Timestamp, due_at: i64) -> Duration {
    if due_at == 0 { Duration::ZERO } else { now.since(Timestamp::from_millis(due_at)) }
}
