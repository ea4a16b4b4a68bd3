//! The table `verger_grants`: what dropped-in workers were granted, by whom and when.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::consent::{GrantDecision, GrantRow};
use crate::time::Timestamp;

/// All of them. A row that somebody wrote by hand and that cannot be used is among them, with what
/// is wrong. It keeps no other from being read.
pub(crate) fn grants(connection: &Connection) -> rusqlite::Result<Vec<GrantRow>> {
    connection
        .prepare_cached(
            "SELECT worker, what, digest, decision, decided_by, decided_at FROM verger_grants ORDER BY worker, what",
        )?
        .query_map([], grant_row)?
        .collect()
}

fn grant_row(row: &Row<'_>) -> rusqlite::Result<GrantRow> {
    let text = |column: usize| -> rusqlite::Result<String> {
        Ok(match row.get_ref(column)? {
            ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
            _ => String::new(),
        })
    };
    let word = text(3)?;
    let decided_at = match row.get_ref(5)? {
        ValueRef::Integer(millis) => millis,
        _ => 0,
    };
    let row = GrantRow {
        worker: text(0)?,
        what: text(1)?,
        digest: text(2)?,
        decision: GrantDecision::parse(&word),
        decided_by: text(4)?,
        decided_at: Timestamp::from_millis(decided_at),
        problem: None,
    };
    Ok(row.checked(&word))
}

/// Writes down what was decided about one thing.
pub(super) fn set_grant(
    connection: &Connection,
    (worker, what): (&str, &str),
    digest: &str,
    decision: GrantDecision,
    by: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO verger_grants (worker, what, digest, decision, decided_by, decided_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT (worker, what) DO UPDATE SET digest = excluded.digest, decision = excluded.decision, \
             decided_by = excluded.decided_by, decided_at = excluded.decided_at",
        )?
        .execute((worker, what, digest, decision.as_str(), by, now.as_millis()))?;
    Ok(())
}

/// Forgets what was decided about a worker.
pub(super) fn forget_grants(connection: &Connection, worker: &str) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM verger_grants WHERE worker = ?1", [worker])?;
    Ok(())
}
