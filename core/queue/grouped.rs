//! Jobs that are claimed and performed within one write transaction, one after the other.
//!
//! Only the first job of such a group is claimed in a transaction of its own. The others are
//! claimed when they are about to begin, as any job is, by a statement of the group's transaction.
//! Nobody else can write meanwhile, so until then each could still be cancelled and its queue
//! paused. A crash undoes these claims with everything else, and counts as an attempt of the first
//! job.

use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension};

use super::claim::{ClaimOrder, Claimed, first_waiting, from_row};
use super::transition::{Attempt, Lease, PerformedBy};
use super::waiting::WAITING;
use crate::ids::JobId;
use crate::time::Timestamp;

/// An attempt that has begun in a group, and whose row does not say so yet.
#[derive(Debug, Clone)]
pub(crate) struct Unclaimed {
    pub(crate) attempt: Attempt,
    pub(crate) lease: Lease,
    pub(crate) at: Timestamp,
}

/// The first due jobs of a queue, or of all, as they would be claimed now.
pub(super) fn next_in_line(
    connection: &Connection,
    queue: Option<&str>,
    order: &ClaimOrder<'_>,
) -> rusqlite::Result<Vec<JobId>> {
    first_waiting(connection, queue, order)
}

static LOOK: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT id, worker, args, attempt + 1, max_attempts, token + 1, schedule, slot, missed, slot_after, zone, \
         queue, max(due_at, created_at), traceparent, args_version \
         FROM verger_jobs WHERE id = ?1 AND {WAITING}"
    )
});

static CLAIM: LazyLock<String> = LazyLock::new(|| {
    format!(
        "UPDATE verger_jobs SET state = 'executing', attempt = ?3, token = ?2, claimed_by = ?4, \
         lease_until = ?5, attempted_at = ?6 WHERE {IS_NEXT} AND {WAITING}"
    )
});

static COMPLETE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "UPDATE verger_jobs SET state = 'completed', attempt = ?3, token = ?2, claimed_by = ?4, \
         lease_until = NULL, attempted_at = ?5, finished_at = ?6, result = ?7, \
         worker_version = ?8, worker_digest = ?9, \
         unique_until = CASE WHEN unique_until > ?6 THEN unique_until END WHERE {IS_NEXT} AND {WAITING}"
    )
});

/// The condition that the row still waits for this attempt.
const IS_NEXT: &str = "id = ?1 AND token = ?2 - 1 AND attempt = ?3 - 1";

/// A waiting job as it would be claimed.
pub(super) fn look(
    connection: &Connection,
    id: JobId,
    now: Timestamp,
) -> rusqlite::Result<Option<Claimed>> {
    connection.prepare_cached(&LOOK)?.query_row([id.0], |row| from_row(row, now)).optional()
}

impl Unclaimed {
    /// Writes the claim, and returns whether the row was still as it was found.
    pub(crate) fn claim(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let (id, token, attempt) = self.attempt;
        let (holder, until) = (&self.lease.holder, self.lease.until.as_millis());
        let params = (id.0, token, attempt, holder, until, self.at.as_millis());
        Ok(connection.prepare_cached(&CLAIM)?.execute(params)? == 1)
    }

    /// The same as SQL text without parameters.
    pub(crate) fn claim_sql(&self) -> String {
        let (id, token, attempt) = self.attempt;
        format!(
            "UPDATE verger_jobs SET state = 'executing', attempt = {attempt}, token = {token}, claimed_by = '{}', \
             lease_until = {}, attempted_at = {} WHERE id = {} AND {WAITING}",
            self.lease.holder.replace('\'', "''"),
            self.lease.until.as_millis(),
            self.at.as_millis(),
            id.0,
        )
    }

    /// Claims the job and completes it in one statement, and returns whether the row was still as
    /// it was found. The group writes one event for all its jobs.
    pub(crate) fn complete(
        &self,
        connection: &Connection,
        now: Timestamp,
        result: Option<&str>,
        by: &PerformedBy,
    ) -> rusqlite::Result<bool> {
        let (id, token, attempt) = self.attempt;
        let (holder, at) = (&self.lease.holder, self.at.as_millis());
        let now = now.as_millis();
        let params = (id.0, token, attempt, holder, at, now, result, &by.version, &by.digest);
        Ok(connection.prepare_cached(&COMPLETE)?.execute(params)? == 1)
    }
}
