//! Ends of attempts that could not be written: the disk was full, the file could not be reached. They are written before anything else is
//! done, as soon as that is possible; without them a job would wait for its lease to run out.

use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::executor::Executor;
use crate::queue::{self, JobId, Transition};
use crate::run::AttemptError;
use crate::store::{Doing, StoreError};
use crate::time::Timestamp;
use crate::verger::Inner;

/// How an attempt that kept nothing ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// Given back as it was before the claim.
    Released,
    /// Cancelled, for this reason.
    Cancelled(String),
    /// Failed: tried again then, or never.
    Failed(AttemptError, Option<Timestamp>),
}

/// The end of one attempt.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    pub(super) id: JobId,
    pub(super) token: i64,
    pub(super) attempt: u32,
    pub(super) end: End,
}

impl Ending {
    /// False when the claim is stale: then nothing was changed.
    fn write(&self, connection: &Connection, now: Timestamp) -> rusqlite::Result<bool> {
        let Self { id, token, attempt, end } = self;
        match end {
            End::Released => queue::release(connection, *id, *token),
            End::Cancelled(reason) => queue::transition(connection, *id, *token, *attempt, now, &Transition::Cancel(reason.clone())),
            End::Failed(error, retry_at) => {
                queue::record_failure(connection, (*id, *token, *attempt), now, (&error.code, &error.message), *retry_at)
            }
        }
    }
}

/// What one Verger owes its file.
#[derive(Default)]
pub(crate) struct Owed(Mutex<Vec<Ending>>);

impl Owed {
    /// Writes an end, or owes it. False when the claim is stale.
    pub(super) fn write(&self, inner: &Inner, executor: &mut Executor, now: Timestamp, ending: Ending) -> Result<bool, StoreError> {
        let written = executor.engine(inner, |connection| ending.write(connection, now).doing("record the end of an attempt"));
        if written.is_err() {
            self.endings().push(ending);
        }
        written
    }

    /// Writes many ends at once, or owes them.
    pub(super) fn write_all(&self, inner: &Inner, executor: &mut Executor, now: Timestamp, endings: Vec<Ending>) -> Result<(), StoreError> {
        if endings.is_empty() {
            return Ok(());
        }
        let written = executor.transaction(inner, |connection| {
            endings.iter().try_for_each(|ending| ending.write(connection, now).map(drop)).doing("record the ends of attempts")
        });
        if written.is_err() {
            self.endings().extend(endings);
        }
        written
    }

    /// Writes what is owed.
    pub(super) fn settle(&self, inner: &Inner, executor: &mut Executor, now: Timestamp) -> Result<(), StoreError> {
        let endings = std::mem::take(&mut *self.endings());
        self.write_all(inner, executor, now, endings)
    }

    fn endings(&self) -> std::sync::MutexGuard<'_, Vec<Ending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
