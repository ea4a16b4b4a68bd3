//! Ends of attempts that could not be written, because the disk was full or the file could not be
//! reached. They are written before anything else, as soon as that is possible. Otherwise a job
//! would wait for its lease to run out.

use std::sync::{Arc, Mutex};

use super::executor::Executor;
use crate::mutex::lock;
use crate::queue::{AttemptLog, JobId, Moved, PerformedBy, Transition};
use crate::store::{Books, StoreContext, StoreError};
use crate::time::Timestamp;

/// The end of one attempt that kept nothing.
#[derive(Debug, Clone)]
pub(super) struct PendingTransition {
    pub(super) id: JobId,
    pub(super) token: i64,
    pub(super) attempt: u32,
    pub(super) to: Transition,
    /// `None` when nothing of the job was performed.
    pub(super) by: Option<Arc<PerformedBy>>,
    /// What the worker logged. The attempt's rollback must not lose it.
    pub(super) log: Option<AttemptLog>,
}

impl PendingTransition {
    fn write(&self, books: Books<'_>, now: Timestamp) -> Result<Moved, StoreError> {
        let attempt = (self.id, self.token, self.attempt);
        let moved = books.transition(attempt, now, &self.to, self.by.as_deref())?;
        if let Some(log) = self.log.as_ref().filter(|_| moved != Moved::Stale) {
            books.keep_job_log((self.id, self.attempt), now, log)?;
        }
        Ok(moved)
    }
}

/// The ends that one Verger has still to write.
#[derive(Default)]
pub(crate) struct Pending(Mutex<Vec<PendingTransition>>);

impl Pending {
    /// Writes an end, or keeps it for later.
    pub(super) fn write(
        &self,
        executor: &mut Executor,
        now: Timestamp,
        ending: PendingTransition,
    ) -> Result<Moved, StoreError> {
        // The end and its event are written in one transaction.
        let written = executor
            .transaction(|books| ending.write(books, now).doing("record the end of an attempt"));
        if written.is_err() {
            self.endings().push(ending);
        }
        written
    }

    /// Writes many ends at once, or keeps them for later.
    pub(super) fn write_all(
        &self,
        executor: &mut Executor,
        now: Timestamp,
        endings: Vec<PendingTransition>,
    ) -> Result<(), StoreError> {
        if endings.is_empty() {
            return Ok(());
        }
        let written = executor.transaction(|books| {
            endings
                .iter()
                .try_for_each(|ending| match ending.write(books, now) {
                    // If the row, or a trigger on it, refuses this, it refuses it the next time
                    // too. So the job is left to its lease.
                    Err(error) if error.is_of_the_row() && books.is_in_transaction() => {
                        tracing::error!(job = ending.id.number(), %error, "the end of an attempt cannot be recorded");
                        Ok(())
                    }
                    written => written.map(drop),
                })
                .doing("record the ends of attempts")
        });
        if written.is_err() {
            self.endings().extend(endings);
        }
        written
    }

    /// Writes what is pending.
    pub(super) fn write_waiting(
        &self,
        executor: &mut Executor,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let endings = std::mem::take(&mut *self.endings());
        self.write_all(executor, now, endings)
    }

    fn endings(&self) -> std::sync::MutexGuard<'_, Vec<PendingTransition>> {
        lock(&self.0)
    }
}
