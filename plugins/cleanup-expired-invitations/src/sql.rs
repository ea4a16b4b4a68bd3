//! The statements, for a table with the columns `id`, `organization_id`, `expires_at` and
//! `accepted_at`.
//!
//! The index that serves them: `(expires_at, id, organization_id, accepted_at) WHERE accepted_at IS
//! NULL`.

use verger_worker::{Ident, TimeFormat};

/// One batch of open invitations that expired before the cutoff, oldest first: `id`,
/// `organization_id`, `expires_at`.
///
/// `?1` cutoff in milliseconds, `?2` and `?3` expiry and id of the last row read, `?4` rows; `?5`
/// the organization, if it is for one.
#[must_use]
pub fn expired(table: &Ident, times: TimeFormat, one_organization: bool) -> String {
    let before = times.before("expires_at", 1);
    let tenant = if one_organization { " AND organization_id = ?5" } else { "" };
    format!(
        "SELECT id, organization_id, expires_at FROM {table} \
         WHERE accepted_at IS NULL AND {before} AND (expires_at, id) > (?2, ?3){tenant} ORDER BY expires_at, id LIMIT ?4"
    )
}

/// Deletes one of them, unless it was accepted or renewed meanwhile. `?1` id, `?2` organization,
/// `?3` cutoff in milliseconds.
#[must_use]
pub fn delete(table: &Ident, times: TimeFormat) -> String {
    let before = times.before("expires_at", 3);
    format!(
        "DELETE FROM {table} WHERE id = ?1 AND organization_id IS ?2 AND accepted_at IS NULL AND {before}"
    )
}
