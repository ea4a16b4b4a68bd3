//! The statements, for a table with the columns `id`, `organization_id`, `state` and `expires_at`.
//!
//! The index that serves them: `(state, expires_at, id, organization_id)`, whole or
//! `WHERE expires_at IS NOT NULL AND state IN ('active', 'suspended')`.

use verger_worker::{Ident, TimeFormat, Walk};

/// The states that run out. Each is swept by itself, because the index begins with the state.
pub const STATES: [&str; 2] = ["active", "suspended"];

/// What tells memberships apart, in the order of the walk. Ids may be unique only within an
/// organization.
const KEY: &[&str] = &["expires_at", "id", "organization_id"];

/// The condition of rows in one of [`STATES`].
#[must_use]
pub fn in_state(state: &str) -> String {
    // `state IN` says nothing new, but lets SQLite see that the partial index covers the query.
    format!("state = '{state}' AND state IN ('active', 'suspended')")
}

/// Memberships in one of [`STATES`] that have run out, oldest first.
///
/// `?1` now in milliseconds; `?2` and `?3` the organization, as text and as what the text may stand
/// for, if it is for one.
#[must_use]
pub fn stale(table: &Ident, state: &str, times: TimeFormat, one_organization: bool) -> Walk {
    let (state, before) = (in_state(state), times.before("expires_at", 1));
    let (tenant, params) =
        if one_organization { (" AND organization_id IN (?2, ?3)", 3) } else { ("", 1) };
    Walk::new(KEY, format!("FROM {table} WHERE {state} AND {before}{tenant}"), params)
}

/// Expires one of them, unless it was renewed or changed meanwhile. `?1` id, `?2` organization,
/// `?3` now in milliseconds.
#[must_use]
pub fn expire(table: &Ident, state: &str, times: TimeFormat, updated_at: Option<&Ident>) -> String {
    let before = times.before("expires_at", 3);
    let stamp =
        updated_at.map_or_else(String::new, |column| format!(", {column} = {}", times.stored(3)));
    format!(
        "UPDATE {table} SET state = 'expired'{stamp} WHERE id IS ?1 AND organization_id IS ?2 AND state = '{state}' AND {before}"
    )
}
