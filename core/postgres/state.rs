//! What a worker keeps between its jobs.

use postgres::Row;
use verger_worker::Value;

use super::session::Session;
use crate::run::size;
use crate::store::StoreError;
use crate::time::Timestamp;
use crate::worker_state::{KEYS_MAX, StateKey};

const KEEPING: &str = "keep the state of a worker";

const GET: &str = "SELECT kind, value FROM verger.state WHERE worker = $1 AND organization_id IS NOT DISTINCT FROM $2 AND key = $3";

const FORGET: &str = "DELETE FROM verger.state WHERE worker = $1 AND organization_id IS NOT DISTINCT FROM $2 AND key = $3";

const USED: &str = "SELECT count(*), coalesce(sum(octet_length(key) + CASE WHEN kind IN ('text', 'blob') THEN octet_length(value) ELSE 8 END), 0)::bigint \
     FROM verger.state WHERE worker = $1 AND organization_id IS NOT DISTINCT FROM $2 AND key <> $3";

const KEEP: &str = "INSERT INTO verger.state (worker, organization_id, key, kind, value, updated_at) VALUES ($1, $2, $3, $4, $5, $6) \
     ON CONFLICT (worker, organization_id, key) DO UPDATE SET kind = excluded.kind, value = excluded.value, updated_at = excluded.updated_at";

/// What a run sends to read and keep state.
pub(super) const OF_A_RUN: [&str; 4] = [GET, FORGET, USED, KEEP];

/// Whose value it is, and its key.
pub(super) type Place<'a> = StateKey<'a>;

/// What is kept under this key: null when nothing is.
pub(super) fn get(session: &mut Session, at: Place<'_>) -> Result<Value, StoreError> {
    let row = session.first(
        "read the state of a worker",
        GET,
        &[&at.worker, &at.organization, &at.key],
    )?;
    Ok(row.map_or(Value::Null, |row| value(&row)))
}

fn value(row: &Row) -> Value {
    let (kind, bytes): (&str, Vec<u8>) = (row.get(0), row.get(1));
    let text = || String::from_utf8_lossy(&bytes).into_owned();
    match kind {
        "integer" => Value::Integer(text().parse().unwrap_or_default()),
        "real" => Value::Real(text().parse().unwrap_or_default()),
        "text" => Value::Text(text()),
        _ => Value::Blob(bytes),
    }
}

/// Keeps a value, or forgets the key for null, inside a transaction. False when the worker would
/// keep more for the organization than `most` bytes, or too many keys.
pub(super) fn keep(
    session: &mut Session,
    at: Place<'_>,
    value: &Value,
    most: usize,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some((kind, bytes)) = stored(value) else {
        session.execute(KEEPING, FORGET, &[&at.worker, &at.organization, &at.key])?;
        return Ok(true);
    };
    let row = session.first(KEEPING, USED, &[&at.worker, &at.organization, &at.key])?;
    let (keys, others): (i64, i64) = row.map_or((0, 0), |row| (row.get(0), row.get(1)));
    let own = i64::try_from(at.key.len() + size(value)).unwrap_or(i64::MAX);
    if keys >= KEYS_MAX || others.saturating_add(own) > i64::try_from(most).unwrap_or(i64::MAX) {
        return Ok(false);
    }
    session.execute(
        KEEPING,
        KEEP,
        &[&at.worker, &at.organization, &at.key, &kind, &bytes, &now.as_millis()],
    )?;
    Ok(true)
}

/// A value as its columns have it. `None` for null, which is not kept.
pub(super) fn stored(value: &Value) -> Option<(&'static str, Vec<u8>)> {
    Some(match value {
        Value::Null => return None,
        Value::Integer(number) => ("integer", number.to_string().into_bytes()),
        // By its digits it is the same number when it is read.
        Value::Real(number) => ("real", format!("{number:?}").into_bytes()),
        Value::Text(text) => ("text", text.clone().into_bytes()),
        Value::Blob(bytes) => ("blob", bytes.clone()),
    })
}
