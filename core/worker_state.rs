//! What a worker keeps between its jobs: a few small values by key, for each organization apart.

use rusqlite::{Connection, OptionalExtension};
use verger_worker::{Value, Verb};

use crate::store::{Books, StoreContext, StoreError, bound, value_of};
use crate::time::Timestamp;

/// Keys that one worker may have for one organization.
pub(crate) const KEYS_MAX: i64 = 64;

const GET: &str =
    "SELECT value FROM verger_state WHERE worker = ?1 AND organization_id IS ?2 AND key = ?3";

const FORGET: &str =
    "DELETE FROM verger_state WHERE worker = ?1 AND organization_id IS ?2 AND key = ?3";

const REPLACE: &str = "UPDATE verger_state SET value = ?4, updated_at = ?5 \
     WHERE worker = ?1 AND organization_id IS ?2 AND key = ?3";

const ADD: &str = "INSERT INTO verger_state (worker, organization_id, key, value, updated_at) \
     VALUES (?1, ?2, ?3, ?4, ?5)";

/// The other keys of a worker and an organization, and the bytes they take.
const OTHERS: &str = "SELECT count(*), coalesce(sum(length(CAST(key AS BLOB)) + \
     CASE typeof(value) WHEN 'text' THEN length(CAST(value AS BLOB)) WHEN 'blob' THEN length(value) ELSE 8 END), 0) \
     FROM verger_state WHERE worker = ?1 AND organization_id IS ?2 AND key <> ?3";

/// Whose value it is, and its key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StateKey<'a> {
    pub(crate) worker: &'a str,
    pub(crate) organization: Option<&'a str>,
    pub(crate) key: &'a str,
}

/// What happened to a value that was to be kept.
pub(crate) enum Kept {
    /// It was kept. How the row was changed, if it was.
    Done(Option<Verb>),
    /// The worker would keep more for this organization than it may. Nothing was changed.
    TooMuch,
}

impl Books<'_> {
    /// What is kept under this key: null when nothing is.
    pub(crate) fn worker_state(self, at: StateKey<'_>) -> Result<Value, StoreError> {
        let value = read(self.connection(), at).doing("read the state of a worker")?;
        Ok(value.unwrap_or(Value::Null))
    }

    /// Keeps a value of `bytes` bytes, or forgets the key for null. Together the worker's values
    /// for the organization take `most` bytes at most.
    pub(crate) fn keep_worker_state(
        self,
        at: StateKey<'_>,
        (value, bytes): (&Value, usize),
        most: usize,
        now: Timestamp,
    ) -> Result<Kept, StoreError> {
        keep(self.connection(), at, (value, bytes), most, now).doing("keep the state of a worker")
    }
}

fn read(connection: &Connection, at: StateKey<'_>) -> rusqlite::Result<Option<Value>> {
    let mut select = connection.prepare_cached(GET)?;
    select
        .query_row((at.worker, at.organization, at.key), |row| Ok(value_of(row.get_ref(0)?)))
        .optional()
}

fn keep(
    connection: &Connection,
    StateKey { worker, organization, key }: StateKey<'_>,
    (value, bytes): (&Value, usize),
    most: usize,
    now: Timestamp,
) -> rusqlite::Result<Kept> {
    let now = now.as_millis();
    if *value == Value::Null {
        let forgotten = connection.prepare_cached(FORGET)?.execute((worker, organization, key))?;
        return Ok(Kept::Done((forgotten > 0).then_some(Verb::Delete)));
    }
    let (keys, others): (i64, i64) = connection
        .prepare_cached(OTHERS)?
        .query_row((worker, organization, key), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let all = others.saturating_add(i64::try_from(key.len() + bytes).unwrap_or(i64::MAX));
    if keys >= KEYS_MAX || all > i64::try_from(most).unwrap_or(i64::MAX) {
        return Ok(Kept::TooMuch);
    }
    let params = (worker, organization, key, bound(value), now);
    if connection.prepare_cached(REPLACE)?.execute(params)? > 0 {
        return Ok(Kept::Done(Some(Verb::Update)));
    }
    let params = (worker, organization, key, bound(value), now);
    connection.prepare_cached(ADD)?.execute(params)?;
    Ok(Kept::Done(Some(Verb::Insert)))
}
