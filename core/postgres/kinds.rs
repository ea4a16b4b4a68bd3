//! The kinds of jobs that wait: which queues, and for which workers.
//!
//! A claim looks at the first job of each kind it may take. The kinds are few, and are read anew at
//! each look of the keeper; what this process enqueues is added at once.

use std::collections::BTreeSet;

use super::session::Session;
use crate::store::StoreError;

/// A queue, and a worker whose jobs wait there.
pub(super) type Kind = (String, String);

/// Jumps from one kind to the next, whatever the number of jobs.
const KINDS: &str = "WITH RECURSIVE kinds AS ( \
     (SELECT queue, worker FROM verger.jobs WHERE state = 'available' ORDER BY queue, worker LIMIT 1) \
     UNION ALL SELECT next.queue, next.worker FROM kinds CROSS JOIN LATERAL ( \
     SELECT queue, worker FROM verger.jobs WHERE state = 'available' AND (queue, worker) > (kinds.queue, kinds.worker) \
     ORDER BY queue, worker LIMIT 1) AS next) \
     SELECT queue, worker FROM kinds WHERE queue NOT IN (SELECT name FROM verger.queues WHERE paused)";

/// The kinds there are in queues that are not paused.
pub(super) fn waiting(session: &mut Session) -> Result<BTreeSet<Kind>, StoreError> {
    let rows = session.query("look for due jobs", KINDS, &[])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
