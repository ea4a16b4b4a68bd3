//! The table `verger_plugins`: to which component each name of a dropped-in worker is bound.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::names::Bound;
use crate::time::Timestamp;

/// All of them, by name.
pub(crate) fn bound_names(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Bound>> {
    connection
        .prepare("SELECT name, digest, source FROM verger_plugins")?
        .query_map([], |row| Ok((row.get(0)?, Bound { digest: row.get(1)?, source: row.get(2)? })))?
        .collect()
}

/// Binds a name to a component, or to its new version.
pub(crate) fn bind_name(
    connection: &Connection,
    name: &str,
    to: &Bound,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO verger_plugins (name, digest, source, first_seen_at, bound_at) VALUES (?1, ?2, ?3, ?4, ?4) \
             ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, source = excluded.source, bound_at = excluded.bound_at",
        )?
        .execute((name, &to.digest, &to.source, now.as_millis()))?;
    Ok(())
}

/// Frees a name: whether it was bound.
pub(crate) fn free_name(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    Ok(connection.execute("DELETE FROM verger_plugins WHERE name = ?1", [name])? == 1)
}
