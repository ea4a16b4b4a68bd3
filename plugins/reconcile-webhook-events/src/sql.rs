//! The statements.
//!
//! The events' table has the columns `id`, `organization_id`, `delivery_id`, `type`, `provider`,
//! `payload`, `metadata`, `needs_reconciliation`, `idempotency_key`, `occurred_at` and
//! `inserted_at`; whatever else it has must have a default. The deliveries' table has `id`,
//! `organization_id`, `provider`, `provider_message_id`, `status`, `terminal`, `sent_at`,
//! `delivered_at`, `opened_at`, `clicked_at`, `bounced_at`, `complained_at`, `failed_at`,
//! `lock_version` and `updated_at`.
//!
//! The indexes that serve them: events `(inserted_at, id, organization_id) WHERE
//! needs_reconciliation = 1 AND delivery_id IS NULL` and UNIQUE `(idempotency_key) WHERE
//! idempotency_key IS NOT NULL`; deliveries UNIQUE `(organization_id, provider,
//! provider_message_id)`.

use verger_worker::{Ident, TimeFormat};

/// For the operator: the orphans that are too old to be swept any more, oldest first, in the
/// reference schema. `?1` is now - 7 days (or what `max_age_minutes` says), in milliseconds.
pub const UNLIKELY_TO_RECONCILE: &str = "\
SELECT e.id, e.organization_id, e.type, e.provider, e.occurred_at, e.inserted_at FROM webhook_events AS e \
WHERE e.needs_reconciliation = 1 AND e.delivery_id IS NULL AND e.inserted_at < ?1 \
AND NOT EXISTS (SELECT 1 FROM webhook_events AS r WHERE r.idempotency_key = 'reconciled:' || e.id) \
ORDER BY e.inserted_at, e.id";

/// One batch of orphans, oldest first, with the delivery each belongs to: `id`, `organization_id`,
/// `inserted_at`, `type`, `occurred_at`, provider, message id, delivery id. The last three are NULL
/// where the event does not say or nothing matches.
///
/// `?1` now - grace and `?2` now - greatest age in milliseconds, `?3` and `?4` insertion time and
/// id of the last row read (NULL and '' at the start), `?5` rows; `?6` the organization, if it is
/// for one.
#[must_use]
pub fn orphans(
    events: &Ident,
    deliveries: &Ident,
    times: TimeFormat,
    one_organization: bool,
) -> String {
    let provider = said_by_event("provider");
    let message = said_by_event("provider_message_id");
    let old_enough = times.before("e.inserted_at", 1);
    let oldest = times.start(2);
    let inserted = times.millis_of("e.inserted_at");
    let tenant = if one_organization { " AND e.organization_id = ?6" } else { "" };
    // The `+` keeps the greatest age out of the choice of the index's lower bound, which belongs to
    // the place in the walk.
    format!(
        "SELECT e.id, e.organization_id, e.inserted_at, e.type, e.occurred_at, {provider}, {message}, \
         (SELECT d.id FROM {deliveries} AS d WHERE d.organization_id = e.organization_id AND d.provider = {provider} \
         AND d.provider_message_id = {message} LIMIT 1) \
         FROM {events} AS e WHERE e.needs_reconciliation = 1 AND e.delivery_id IS NULL AND {old_enough} \
         AND (e.inserted_at, e.id) > (coalesce(?3, {oldest}), ?4) AND +{inserted} >= ?2{tenant} \
         AND NOT EXISTS (SELECT 1 FROM {events} AS r WHERE r.idempotency_key = 'reconciled:' || e.id) \
         ORDER BY e.inserted_at, e.id LIMIT ?5"
    )
}

/// SQL for a text the event's metadata has under a key, else its payload; NULL when neither is JSON
/// with a text there.
fn said_by_event(key: &str) -> String {
    // Nested, because only CASE promises that the rest is not evaluated for what is no JSON.
    let text = |column: &str| {
        format!(
            "CASE WHEN json_valid(e.{column}) THEN CASE WHEN json_type(e.{column}, '$.{key}') = 'text' \
             THEN nullif(json_extract(e.{column}, '$.{key}'), '') END END"
        )
    };
    format!("coalesce({}, {})", text("metadata"), text("payload"))
}

/// Appends the event that says an orphan is reconciled. `?1` its id, which is its idempotency key
/// too, `?2` organization, `?3` delivery, `?4` provider, `?5` metadata, `?6` now in milliseconds.
#[must_use]
pub fn append(events: &Ident, times: TimeFormat) -> String {
    let now = times.stored(6);
    format!(
        "INSERT INTO {events} (id, organization_id, delivery_id, type, provider, payload, metadata, needs_reconciliation, \
         idempotency_key, occurred_at, inserted_at) VALUES (?1, ?2, ?3, 'reconciled', ?4, '{{}}', ?5, 0, ?1, {now}, {now})"
    )
}

/// Projects what an orphan reports onto its delivery. `?1` delivery, `?2` organization, `?3` the
/// orphan's type, `?4` when it occurred, in the table's own form, `?5` now in milliseconds.
///
/// It reads the row as it is, so several orphans of one delivery follow each other correctly. The
/// status only moves to a higher rank, a time is set once, `terminal` latches.
#[must_use]
pub fn project(deliveries: &Ident, times: TimeFormat) -> String {
    let reported = rank("?3", "0");
    // An unknown status of the app's own is a beginning, unless the delivery is over.
    let reached = rank("status", "CASE WHEN terminal = 1 THEN 9 ELSE 0 END");
    let set_once: String = TIMES
        .iter()
        .map(|(column, types)| format!(", {column} = CASE WHEN ?3 IN ({types}) THEN coalesce({column}, ?4) ELSE {column} END"))
        .collect();
    let now = times.stored(5);
    format!(
        "UPDATE {deliveries} SET status = CASE WHEN {reported} > {reached} THEN ?3 ELSE status END, \
         terminal = CASE WHEN ?3 IN ({TERMINAL}) THEN 1 ELSE terminal END{set_once}, \
         lock_version = lock_version + 1, updated_at = {now} WHERE id = ?1 AND organization_id IS ?2"
    )
}

/// The types after which the provider is done with a message. A delivered one can still be opened,
/// or bounce late.
const TERMINAL: &str = "'delivered', 'bounced', 'complained', 'rejected', 'failed', 'suppressed'";

/// The times of a delivery, and the types that set them.
const TIMES: [(&str, &str); 7] = [
    ("sent_at", "'sent'"),
    ("delivered_at", "'delivered'"),
    ("opened_at", "'opened'"),
    ("clicked_at", "'clicked'"),
    ("bounced_at", "'bounced'"),
    ("complained_at", "'complained'"),
    ("failed_at", "'failed', 'rejected', 'suppressed'"),
];

/// SQL for how far along a status is. A type that is no status has rank 0 and moves nothing.
fn rank(status: &str, otherwise: &str) -> String {
    format!(
        "CASE {status} WHEN 'queued' THEN 0 WHEN 'sent' THEN 1 WHEN 'delivered' THEN 2 WHEN 'opened' THEN 3 WHEN 'clicked' THEN 4 \
         WHEN 'bounced' THEN 5 WHEN 'complained' THEN 5 WHEN 'rejected' THEN 5 WHEN 'failed' THEN 5 WHEN 'suppressed' THEN 5 \
         ELSE {otherwise} END"
    )
}
