//! The statements.
//!
//! The events' table has the columns `id`, `organization_id`, `delivery_id`, `type`, `provider`,
//! `payload`, `metadata`, `needs_reconciliation`, `idempotency_key`, `occurred_at` and
//! `inserted_at`. Its other columns must have defaults. The deliveries' table has `id`,
//! `organization_id`, `provider`, `provider_message_id`, `status`, `terminal`, `sent_at`,
//! `delivered_at`, `opened_at`, `clicked_at`, `bounced_at`, `complained_at`, `failed_at`,
//! `lock_version` and `updated_at`.
//!
//! The indexes that serve them: events `(inserted_at, id, organization_id) WHERE
//! needs_reconciliation = 1 AND delivery_id IS NULL` and UNIQUE `(idempotency_key) WHERE
//! idempotency_key IS NOT NULL`; deliveries UNIQUE `(organization_id, provider,
//! provider_message_id)`.

use verger_worker::{Ident, TimeFormat, Walk};

/// For the operator: the orphans that are too old to be swept any more, oldest first, in the
/// reference schema. `?1` is now - 7 days (or what `max_age_minutes` says), in milliseconds.
pub const UNLIKELY_TO_RECONCILE: &str = "\
SELECT e.id, e.organization_id, e.type, e.provider, e.occurred_at, e.inserted_at FROM webhook_events AS e \
WHERE e.needs_reconciliation = 1 AND e.delivery_id IS NULL AND e.inserted_at < ?1 \
AND NOT EXISTS (SELECT 1 FROM webhook_events AS r WHERE r.idempotency_key = 'reconciled:' || e.id \
AND r.organization_id IS NOT DISTINCT FROM e.organization_id) ORDER BY e.inserted_at, e.id";

/// The condition of orphans.
pub const ORPHANED: &str = "needs_reconciliation = 1 AND delivery_id IS NULL";

/// What tells orphans apart, in the order of the walk. Ids may repeat in another organization.
const KEY: &[&str] = &["e.inserted_at", "e.id", "e.organization_id"];

/// SQL for the idempotency key of the event that reconciles an orphan: `reconciled:` and its id, a
/// BLOB as `x'0a1f'`. The key is as unique within the organization as the id.
const ORPHAN_KEY: &str = "'reconciled:' || CASE typeof(e.id) WHEN 'blob' THEN 'x''' || lower(hex(e.id)) || '''' \
     WHEN 'real' THEN format('%!.17g', e.id) ELSE e.id END";

/// Orphans that are not reconciled yet, oldest first, with the delivery each belongs to. After the
/// key come `type`, `occurred_at`, provider, message id, delivery id and idempotency key. Provider,
/// message and delivery are NULL if the event does not name them or nothing matches.
///
/// `?1` now - grace and `?2` now - greatest age in milliseconds; `?3` and `?4` the organization, as
/// text and as what the text may stand for, if it is for one.
#[must_use]
pub fn orphans(
    events: &Ident,
    deliveries: &Ident,
    times: TimeFormat,
    one_organization: bool,
) -> Walk {
    let provider = said_by_event("provider");
    let message = said_by_event("provider_message_id");
    let old_enough = times.before("e.inserted_at", 1);
    let inserted = times.millis_of("e.inserted_at");
    let (tenant, params) =
        if one_organization { (" AND e.organization_id IN (?3, ?4)", 4) } else { ("", 2) };
    let columns = format!(
        ", e.type, e.occurred_at, {provider}, {message}, \
         (SELECT d.id FROM {deliveries} AS d WHERE d.organization_id = e.organization_id AND d.provider = {provider} \
         AND d.provider_message_id = {message} LIMIT 1), {ORPHAN_KEY}"
    );
    // The `+` keeps the greatest age out of the choice of the index's lower bound, which belongs to
    // the position in the walk.
    let from = format!(
        "FROM {events} AS e WHERE e.needs_reconciliation = 1 AND e.delivery_id IS NULL AND {old_enough} \
         AND +{inserted} >= ?2{tenant} \
         AND NOT EXISTS (SELECT 1 FROM {events} AS r WHERE r.idempotency_key = {ORPHAN_KEY} AND r.organization_id IS NOT DISTINCT FROM e.organization_id)"
    );
    Walk::new(KEY, from, params)
        .columns(columns)
        .starting(format!("e.inserted_at >= {}", times.start(2)))
}

/// SQL for the text that the event's metadata, or else its payload, has under a key. NULL when
/// neither is JSON with a text there.
fn said_by_event(key: &str) -> String {
    // Nested, because only CASE promises not to evaluate the rest for what is no JSON.
    let text = |column: &str| {
        format!(
            "CASE WHEN json_valid(e.{column}) THEN CASE WHEN json_type(e.{column}, '$.{key}') = 'text' \
             THEN nullif(json_extract(e.{column}, '$.{key}'), '') END END"
        )
    };
    format!("coalesce({}, {})", text("metadata"), text("payload"))
}

/// Appends the event that says an orphan is reconciled. `?1` its idempotency key, `?2`
/// organization, `?3` delivery, `?4` provider, `?5` metadata, `?6` now in milliseconds, `?7` its
/// id.
#[must_use]
pub fn append(events: &Ident, times: TimeFormat) -> String {
    let now = times.stored(6);
    format!(
        "INSERT INTO {events} (id, organization_id, delivery_id, type, provider, payload, metadata, needs_reconciliation, \
         idempotency_key, occurred_at, inserted_at) VALUES (?7, ?2, ?3, 'reconciled', ?4, '{{}}', ?5, 0, ?1, {now}, {now})"
    )
}

/// Projects what an orphan reports onto its delivery. `?1` delivery, `?2` organization, `?3` the
/// orphan's type, `?4` when it occurred, in the table's own form, `?5` now in milliseconds.
///
/// It reads the row as it is, so several orphans of one delivery follow each other correctly. The
/// status only moves to a higher rank, a time is set once, and `terminal` stays set.
#[must_use]
pub fn project(deliveries: &Ident, times: TimeFormat) -> String {
    let reported = rank("?3", "0");
    // An unknown status of the app's own counts as a beginning, unless the delivery is over.
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

/// SQL for the rank of a status. A type that is no status has rank 0 and moves nothing.
fn rank(status: &str, otherwise: &str) -> String {
    format!(
        "CASE {status} WHEN 'queued' THEN 0 WHEN 'sent' THEN 1 WHEN 'delivered' THEN 2 WHEN 'opened' THEN 3 WHEN 'clicked' THEN 4 \
         WHEN 'bounced' THEN 5 WHEN 'complained' THEN 5 WHEN 'rejected' THEN 5 WHEN 'failed' THEN 5 WHEN 'suppressed' THEN 5 \
         ELSE {otherwise} END"
    )
}
