//! What a worker keeps between its jobs, as it sees it in its run.

use std::collections::BTreeMap;

use verger_worker::{HostError, Scope, Value, code};

use super::Run;
use super::error::from_books;
use super::reads::size;
use super::transaction::State;
use crate::worker_state::{KEYS_MAX, Kept, StateKey};

const KEY_MAX_BYTES: usize = 128;

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
            return Err(too_much_state(most));
        }
        self.begin()?;
        let (at, now) = (self.state_key(key), self.clock.now());
        let kept = self
            .connection
            .books(|books| books.keep_worker_state(at, (value, size(value)), most, now))
            .map_err(|error| from_books(&error));
        match kept.inspect_err(|error| self.notice_lost_transaction(error))? {
            Kept::TooMuch => Err(too_much_state(most)),
            Kept::Done(Some(verb)) if self.dry => {
                let key = ("verger_state".into(), verb);
                *self.changes.borrow_mut().entry(key).or_default() += 1;
                Ok(())
            }
            Kept::Done(_) => Ok(()),
        }
    }

    /// Whether what was read of the state is still the same.
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
        let at = self.state_key(key);
        self.connection.books(|books| books.worker_state(at)).map_err(|error| from_books(&error))
    }

    fn state_key<'a>(&'a self, key: &'a str) -> StateKey<'a> {
        let organization = self.scope().and_then(Scope::organization_id);
        StateKey { worker: &self.task.worker, organization, key }
    }
}

/// It would keep more than `most` bytes for one organization, or too many keys.
pub(crate) fn too_much_state(most: usize) -> HostError {
    HostError::new(
        code::LIMIT,
        format!(
            "this worker may keep {KEYS_MAX} keys and {most} bytes of state for one organization, keys included: put more into a table"
        ),
    )
}

pub(crate) fn check_key(key: &str) -> Result<(), HostError> {
    if key.is_empty() || key.len() > KEY_MAX_BYTES {
        return Err(HostError::new(
            code::INVALID,
            format!("a key of the state must have 1 to {KEY_MAX_BYTES} bytes"),
        ));
    }
    Ok(())
}
