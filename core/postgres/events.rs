//! Events that are kept: what an app missed while it was closed, or another node did.

use super::session::Session;
use crate::event::{self, EventKind, EventPosition, LifecycleEvent, PLACES};
use crate::store::StoreError;
use crate::time::Timestamp;

/// The random number of this process.
pub(super) fn source() -> i64 {
    event::source()
}

/// An event as its column has it.
pub(super) fn data(kind: &EventKind) -> String {
    serde_json::to_string(kind).unwrap_or_default()
}

const RECORD: &str = "INSERT INTO verger.events (at, source, kind, data) VALUES ($1, $2, $3, $4)";

/// What a run sends to keep an event.
pub(super) const OF_A_RUN: [&str; 1] = [RECORD];

/// Writes that something happened, inside the transaction in which it does.
pub(super) fn record(
    session: &mut Session,
    now: Timestamp,
    kind: &EventKind,
) -> Result<(), StoreError> {
    session
        .execute(
            "record an event",
            RECORD,
            &[&now.as_millis(), &source(), &kind.as_str(), &data(kind)],
        )
        .map(drop)
}

/// Rows after a position, up to the oldest transaction that is still open. One that commits later
/// has a higher number, or is waited for: so none is passed over.
const AFTER: &str = "SELECT xid::text::bigint, at, source, kind, data, \
     row_number() OVER (PARTITION BY xid ORDER BY id) - 1 FROM verger.events \
     WHERE xid >= $1::text::xid8 AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, id LIMIT $2";

/// The events after a position, at most `limit`.
pub(super) fn after(
    session: &mut Session,
    position: EventPosition,
    limit: usize,
) -> Result<Vec<LifecycleEvent>, StoreError> {
    // A position can be in the middle of a transaction, whose events come again then.
    let limit_rows = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(PLACES);
    let xid = position.row().max(0).to_string();
    let rows = session.query("read the events", AFTER, &[&xid, &limit_rows])?;
    let events = rows.iter().map(|row| {
        let (kind, data): (String, String) = (row.get(3), row.get(4));
        LifecycleEvent {
            position: EventPosition::at(row.get(0), row.get(5)),
            at: Timestamp::from_millis(row.get(1)),
            here: row.get::<_, i64>(2) == source(),
            kind: serde_json::from_str(&data).unwrap_or(EventKind::Unknown { word: kind }),
        }
    });
    Ok(events.filter(|event| event.position > position).take(limit).collect())
}
