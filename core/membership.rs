//! The check for reading a membership, beside the worker `reconcile-memberships`.

use crate::time::Timestamp;

/// The state a membership counts as at this instant: `expired` when it is active or suspended past
/// its expiry, otherwise what is stored.
///
/// This check decides about access. The worker only brings the stored state up to date, so between
/// two of its runs a stored `active` may have expired.
///
/// ```
/// use verger::{Timestamp, normalized_membership_state};
/// let noon = Timestamp::from_millis(1_767_268_800_000);
/// let before = Timestamp::from_millis(1_767_268_799_999);
/// assert_eq!(normalized_membership_state("active", Some(before), noon), "expired");
/// assert_eq!(normalized_membership_state("active", Some(noon), noon), "active");
/// assert_eq!(normalized_membership_state("invited", Some(before), noon), "invited");
/// assert_eq!(normalized_membership_state("suspended", None, noon), "suspended");
/// ```
#[must_use]
pub fn normalized_membership_state(
    state: &str,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> &str {
    let over = expires_at.is_some_and(|expires_at| expires_at < now);
    if over && matches!(state, "active" | "suspended") { "expired" } else { state }
}
