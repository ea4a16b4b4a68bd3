//! Deleting finished jobs, old lines of the ledger, old events, and requests to cancel that are
//! moot.

use super::session::Session;
use crate::queue::{JobState, Retention};
use crate::store::StoreError;
use crate::time::Timestamp;

/// Rows deleted by one statement.
const BATCH: i64 = 1_000;

const PRUNING: &str = "delete what is past its time";

/// Deletes one batch of what is past its time. Returns how many rows went, and whether there may be
/// more.
pub(super) fn prune(
    session: &mut Session,
    retention: &Retention,
    now: Timestamp,
) -> Result<(usize, bool), StoreError> {
    let (mut pruned, mut more) = (0, false);
    let mut note = |rows: u64| {
        pruned += usize::try_from(rows).unwrap_or(usize::MAX);
        more |= rows == BATCH.unsigned_abs();
    };
    for (state, keep) in [
        (JobState::Completed, retention.completed),
        (JobState::Cancelled, retention.cancelled),
        (JobState::Discarded, retention.discarded),
    ] {
        let Some(keep) = keep else { continue };
        note(session.execute(
            PRUNING,
            "WITH past AS (DELETE FROM verger.jobs WHERE id IN (SELECT id FROM verger.jobs WHERE state = $1 AND finished_at < $2 \
             AND (unique_until IS NULL OR unique_until <= $3) ORDER BY finished_at LIMIT $4 FOR UPDATE SKIP LOCKED) RETURNING id), \
             logs AS (DELETE FROM verger.logs WHERE job IN (SELECT id FROM past)) \
             SELECT id FROM past",
            &[&state.as_str(), &(now - keep).as_millis(), &now.as_millis(), &BATCH],
        )?);
    }
    if let Some(keep) = retention.fires {
        // The last line of a schedule that is there stays.
        note(session.execute(
            PRUNING,
            "WITH RECURSIVE names AS ((SELECT schedule FROM verger.fires ORDER BY schedule LIMIT 1) \
             UNION ALL SELECT next.schedule FROM names CROSS JOIN LATERAL \
             (SELECT schedule FROM verger.fires WHERE schedule > names.schedule ORDER BY schedule LIMIT 1) AS next) \
             DELETE FROM verger.fires WHERE ctid IN (SELECT past.ctid FROM names CROSS JOIN LATERAL \
             (SELECT fire.ctid FROM verger.fires AS fire WHERE fire.schedule = names.schedule AND fire.slot < least($1, \
             coalesce((SELECT last_slot FROM verger.schedules WHERE name = names.schedule), $1)) ORDER BY fire.slot LIMIT $2) AS past LIMIT $2)",
            &[&(now - keep).as_millis(), &BATCH],
        )?);
    }
    if let Some(keep) = retention.events {
        note(session.execute(
            PRUNING,
            "DELETE FROM verger.events WHERE ctid IN (SELECT ctid FROM \
             (SELECT ctid, at FROM verger.events ORDER BY xid, id LIMIT $2) AS oldest WHERE at < $1)",
            &[&(now - keep).as_millis(), &BATCH],
        )?);
    }
    session.execute(
        PRUNING,
        "DELETE FROM verger.cancels AS asked WHERE NOT EXISTS \
         (SELECT 1 FROM verger.jobs AS job WHERE job.id = asked.job AND job.token = asked.token AND job.state = 'executing')",
        &[],
    )?;
    Ok((pruned, more))
}
