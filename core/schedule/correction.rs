//! Schedules that a wrong clock moved on, and how they are brought back.

use rusqlite::Connection;

use super::ledger::is_decided;
use super::rows::{ScheduleRow, written_after};
use super::slots::Rule;
use crate::time::Timestamp;

/// The most slots in a row that are looked up in the ledger.
const LOOKUPS_MAX: u32 = 10_000;

/// The schedules that were written after this instant.
pub(super) fn misled(
    connection: &Connection,
    after: Timestamp,
) -> rusqlite::Result<Vec<ScheduleRow>> {
    written_after(connection, after)
}

/// Brings such a schedule back to its first slot after this instant that has no line in the ledger.
pub(super) fn bring_back(
    connection: &Connection,
    row: &ScheduleRow,
    since: Timestamp,
) -> rusqlite::Result<()> {
    let row = ScheduleRow { anchor: row.anchor.min(since), ..row.clone() };
    let mut next = None;
    if let Ok(rule) = Rule::of(&row) {
        next = rule.next(since);
        for _ in 0..LOOKUPS_MAX {
            match next {
                Some(slot) if is_decided(connection, &row.name, slot)? => next = rule.next(slot),
                _ => break,
            }
        }
        next = next.into_iter().chain(row.next_fire_at).min();
    }
    connection
        .prepare_cached("UPDATE verger_schedules SET anchor = ?2, next_fire_at = ?3, updated_at = ?4 WHERE name = ?1")?
        .execute((&row.name, row.anchor, next, since))?;
    Ok(())
}
