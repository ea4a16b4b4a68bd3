//! Retention: the oldest rows are deleted, and an anchor stays, so that the rest still verifies.
//!
//! Rows are deleted from the beginning of the log only, in the order of insertion. The triggers of
//! the table let a row be deleted only when the anchor has moved past it. They let the anchor move
//! forward only, and only onto a row with that hash.

use rusqlite::{Connection, OptionalExtension};

use crate::time::Timestamp;

/// The capability by which the worker [`PRUNER`] asks for retention.
pub(crate) const PRUNE: &str = "verger.prune-audit";
/// The one worker that may use it.
pub(crate) const PRUNER: &str = "cleanup-audit";

/// The most rows deleted at once.
const BATCH_MAX: u32 = 10_000;

/// Deletes the oldest rows that were written before this instant and before this transaction, and
/// returns how many. Call it inside a write transaction.
///
/// It stops at the first row that is not older. A row that claims to be from the future, from when
/// the clock was wrong, does not stop it: it is deleted with those around it.
pub(super) fn prune(
    connection: &Connection,
    before: Timestamp,
    now: Timestamp,
    most: u32,
) -> rusqlite::Result<u64> {
    let anchor: i64 = connection
        .prepare_cached("SELECT id FROM verger_audit_anchor")?
        .query_row([], |row| row.get(0))?;
    let most = i64::from(most.min(BATCH_MAX));
    let young: Option<i64> = connection
        .prepare_cached(
            "SELECT id FROM (SELECT id, occurred_at FROM verger_audit WHERE id > ?1 ORDER BY id LIMIT ?2) \
             WHERE occurred_at >= ?3 AND occurred_at <= ?4 ORDER BY id LIMIT 1",
        )?
        .query_row((anchor, most, before.as_millis(), now.as_millis()), |row| row.get(0))
        .optional()?;
    let last: Option<i64> = connection
        .prepare_cached(
            "SELECT id FROM verger_audit WHERE id > ?1 AND id < ?2 AND id <= (SELECT id FROM verger_audit_head) AND occurred_at < ?3 \
             ORDER BY id DESC LIMIT 1",
        )?
        .query_row((anchor, young.unwrap_or(i64::MAX).min(anchor.saturating_add(most).saturating_add(1)), before.as_millis()), |row| {
            row.get(0)
        })
        .optional()?;
    let Some(last) = last else { return Ok(0) };
    connection
        .prepare_cached(
            "UPDATE verger_audit_anchor SET id = ?1, hash = (SELECT hash FROM verger_audit WHERE id = ?1), cutoff = ?2, pruned_at = ?3",
        )?
        .execute((last, before.as_millis(), now.as_millis()))?;
    let deleted =
        connection.prepare_cached("DELETE FROM verger_audit WHERE id <= ?1")?.execute([last])?;
    Ok(deleted as u64)
}
