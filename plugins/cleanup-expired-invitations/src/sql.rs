//! The statements, for a table with the columns `id`, `organization_id`, `expires_at` and
//! `accepted_at`.
//!
//! The index that serves them: `(expires_at, id, organization_id, accepted_at) WHERE accepted_at IS
//! NULL`.

use verger_worker::{Ident, TimeFormat, Walk};

/// The condition of invitations that nobody accepted.
pub const OPEN: &str = "accepted_at IS NULL";

/// What tells invitations apart, in the order of the walk. Ids may be unique only within an
/// organization.
const KEY: &[&str] = &["expires_at", "id", "organization_id"];

/// Open invitations that expired before the cutoff, oldest first.
///
/// `?1` cutoff in milliseconds; `?2` and `?3` the organization, as text and as what the text may
/// stand for, if it is for one.
#[must_use]
pub fn expired(table: &Ident, times: TimeFormat, one_organization: bool) -> Walk {
    let before = times.before("expires_at", 1);
    let (tenant, params) =
        if one_organization { (" AND organization_id IN (?2, ?3)", 3) } else { ("", 1) };
    Walk::new(KEY, format!("FROM {table} WHERE {OPEN} AND {before}{tenant}"), params)
}

/// Deletes an invitation, unless it was accepted or renewed meanwhile. `?1` id, `?2` organization,
/// `?3` cutoff in milliseconds.
#[must_use]
pub fn delete(table: &Ident, times: TimeFormat) -> String {
    let before = times.before("expires_at", 3);
    format!("DELETE FROM {table} WHERE id IS ?1 AND organization_id IS ?2 AND {OPEN} AND {before}")
}
