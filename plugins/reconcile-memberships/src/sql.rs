//! The statements, for a table with the columns `id`, `organization_id`, `state` and `expires_at`.
//!
//! The index that serves them: `(state, expires_at, id, organization_id)`, whole or
//! `WHERE expires_at IS NOT NULL AND state IN ('active', 'suspended')`.

use verger_worker::{Ident, TimeFormat};

/// The states that run out, each swept after the other: the index has the state in front.
pub const STATES: [&str; 2] = ["active", "suspended"];

/// One batch of memberships in one of [`STATES`] that have run out, oldest first: `id`,
/// `organization_id`, `expires_at`.
///
/// `?1` now in milliseconds, `?2` and `?3` expiry and id of the last row read, `?4` rows; `?5` the
/// organization, if it is for one.
#[must_use]
pub fn stale(table: &Ident, state: &str, times: TimeFormat, one_organization: bool) -> String {
    let before = times.before("expires_at", 1);
    let tenant = if one_organization { " AND organization_id = ?5" } else { "" };
    // `state IN` says nothing new, but lets SQLite see that the partial index covers the query.
    format!(
        "SELECT id, organization_id, expires_at FROM {table} \
         WHERE state = '{state}' AND state IN ('active', 'suspended') AND {before} AND (expires_at, id) > (?2, ?3){tenant} \
         ORDER BY expires_at, id LIMIT ?4"
    )
}

/// Expires one of them, unless it was renewed or changed meanwhile. `?1` id, `?2` organization,
/// `?3` now in milliseconds.
#[must_use]
pub fn expire(table: &Ident, state: &str, times: TimeFormat, updated_at: Option<&Ident>) -> String {
    let before = times.before("expires_at", 3);
    let stamp =
        updated_at.map_or_else(String::new, |column| format!(", {column} = {}", times.stored(3)));
    format!(
        "UPDATE {table} SET state = 'expired'{stamp} WHERE id = ?1 AND organization_id IS ?2 AND state = '{state}' AND {before}"
    )
}
