//! What a worker keeps between its jobs: a few small values by key, those of each organization apart.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use verger_worker::{HostError, Scope, Value, Verb, code};

use super::Run;
use super::error::from_store;
use super::reads::size;
use super::transaction::State;
use super::values::{bound, value_of};

const KEY_MAX_BYTES: usize = 128;

/// Keys that one worker may have for one organization.
const KEYS_MAX: i64 = 64;

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

/// What became of a value that was to be kept.
enum Set {
    /// The row was changed so, if it was.
    Done(Option<Verb>),
    TooMuch,
}

impl Run {
    pub(crate) fn get_state(&self, key: &str) -> Result<Value, HostError> {
        check_key(key)?;
        self.begin_read()?;
        let value = self.read_state(key)?;
        if self.transaction.get() == State::Reading {
            self.reads.borrow_mut().add_state(key, &value);
        }
        Ok(value)
    }

    pub(crate) fn set_state(&self, key: &str, value: &Value) -> Result<(), HostError> {
        check_key(key)?;
        let most = self.task.grant.limits.state_bytes;
        if key.len().saturating_add(size(value)) > most {
            return Err(self.too_much_state());
        }
        self.begin()?;
        let (worker, organization) = (&self.task.worker, self.organization());
        let now = self.clock.now().as_millis();
        let set = |connection: &Connection| {
            if *value == Value::Null {
                let forgotten =
                    connection.prepare_cached(FORGET)?.execute((worker, organization, key))?;
                return Ok(Set::Done((forgotten > 0).then_some(Verb::Delete)));
            }
            let (keys, bytes): (i64, i64) = connection
                .prepare_cached(OTHERS)?
                .query_row((worker, organization, key), |row| Ok((row.get(0)?, row.get(1)?)))?;
            let bytes = bytes.saturating_add((key.len() + size(value)) as i64);
            if keys >= KEYS_MAX || bytes > i64::try_from(most).unwrap_or(i64::MAX) {
                return Ok(Set::TooMuch);
            }
            let params = (worker, organization, key, bound(value), now);
            if connection.prepare_cached(REPLACE)?.execute(params)? > 0 {
                return Ok(Set::Done(Some(Verb::Update)));
            }
            let params = (worker, organization, key, bound(value), now);
            connection.prepare_cached(ADD)?.execute(params)?;
            Ok(Set::Done(Some(Verb::Insert)))
        };
        let done = self.connection.engine(set).map_err(|error| from_store(&error));
        match done.inspect_err(|error| self.notice_lost_transaction(error))? {
            Set::TooMuch => Err(self.too_much_state()),
            Set::Done(Some(verb)) if self.dry => {
                let key = ("verger_state".into(), verb);
                *self.changes.borrow_mut().entry(key).or_default() += 1;
                Ok(())
            }
            Set::Done(_) => Ok(()),
        }
    }

    /// Whether what was read of the state is still so.
    pub(super) fn is_state_as_read(
        &self,
        read: &BTreeMap<String, Value>,
    ) -> Result<bool, HostError> {
        for (key, value) in read {
            if self.read_state(key)? != *value {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_state(&self, key: &str) -> Result<Value, HostError> {
        let get = |connection: &Connection| {
            let mut select = connection.prepare_cached(GET)?;
            select
                .query_row((&self.task.worker, self.organization(), key), |row| {
                    Ok(value_of(row.get_ref(0)?))
                })
                .optional()
        };
        let value = self.connection.engine(get).map_err(|error| from_store(&error))?;
        Ok(value.unwrap_or(Value::Null))
    }

    fn organization(&self) -> Option<&str> {
        self.scope().and_then(Scope::organization_id)
    }

    fn too_much_state(&self) -> HostError {
        let most = self.task.grant.limits.state_bytes;
        HostError::new(
            code::LIMIT,
            format!(
                "this worker may keep {KEYS_MAX} keys and {most} bytes of state for one organization, keys included: put more into a table"
            ),
        )
    }
}

fn check_key(key: &str) -> Result<(), HostError> {
    if key.is_empty() || key.len() > KEY_MAX_BYTES {
        return Err(HostError::new(
            code::INVALID,
            format!("a key of the state must have 1 to {KEY_MAX_BYTES} bytes"),
        ));
    }
    Ok(())
}
