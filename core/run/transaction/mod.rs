//! The one transaction of a run. It is begun at its first use, and committed by a checkpoint or
//! with the job's own transition.

mod savepoint;

use std::time::{Duration, Instant};

use verger_worker::{HostError, code};

pub(crate) use self::savepoint::SavepointId;
pub(super) use self::savepoint::Savepoints;
use super::error::{from_books, from_store};
use super::{AttemptError, Interrupted, Run, Tally, Task};
use crate::failpoint::Failpoint;
use crate::queue::{Moved, Transition};
use crate::store::{Books, StoreErrorKind, TransactionStep, kind_of};

/// How much longer than an attempt may last its lease holds.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    /// None is open.
    #[default]
    Idle,
    /// Open on a snapshot, with nothing written.
    Reading,
    /// Open, holding the write lock since then.
    Writing(Instant),
    /// A failure ended it. Nothing of this run can commit.
    Lost,
}

/// Why an attempt must stop now, in the words its worker is told.
pub(crate) fn why_stopped(task: &Task) -> HostError {
    match task.interrupt.raised() {
        Some(Interrupted::Cancelled) => HostError::new(code::CANCELLED, "the job was cancelled"),
        Some(Interrupted::Shutdown) => {
            HostError::new(code::CANCELLED, "the app is stopping; the job will run again")
        }
        None if task.stop_signal.is_over_for_the_lock() => HostError::new(
            code::LOCK_HELD,
            format!(
                "the attempt held the write lock for {} ms, the longest it may without a checkpoint: write in smaller batches, and compute before the first write",
                task.grant.write_lock.map_or(0, |most| most.as_millis())
            ),
        ),
        None => HostError::new(
            code::DEADLINE,
            format!("the time granted, {} ms, is over", task.grant.limits.time.as_millis()),
        ),
    }
}

impl Run {
    /// Whether a host call may still do anything.
    pub(super) fn alive(&self) -> Result<(), HostError> {
        if self.transaction.get() == State::Lost {
            return Err(HostError::new(
                code::STORE,
                "the transaction of this attempt is lost; return",
            ));
        }
        if self.task.stop_signal.is_over() { Err(self.stop_now()) } else { Ok(()) }
    }

    /// Why the run must stop now.
    pub(super) fn stop_now(&self) -> HostError {
        let error = why_stopped(&self.task);
        self.stop(error.clone().into());
        error
    }

    /// Why an attempt was interrupted outside a host call.
    #[cfg(feature = "wasm")]
    pub(crate) fn out_of_time(&self) -> AttemptError {
        self.stop_now().into()
    }

    pub(super) fn engine_step(&self, step: TransactionStep) -> Result<(), HostError> {
        self.connection.transact(step).map_err(|error| {
            if self.task.stop_signal.is_over() { self.stop_now() } else { from_store(&error) }
        })
    }

    /// Called after a failed statement. Some failures (a full disk, a trigger that says ROLLBACK)
    /// end the transaction.
    pub(super) fn notice_lost_transaction(&self, error: &HostError) {
        let is_open = matches!(self.transaction.get(), State::Reading | State::Writing(_));
        if !is_open || self.connection.is_in_transaction() {
            return;
        }
        if self.is_in_group() {
            self.undo_in_group();
            return;
        }
        if error.concerns_one_row() && self.may_begin_anew.get() {
            self.was_rolled_back.set(true);
        } else {
            self.lose(AttemptError::from(error.clone()));
        }
    }

    pub(super) fn lose(&self, error: AttemptError) {
        self.forget_uncommitted();
        self.transaction.set(State::Lost);
        self.stop(error);
    }

    /// Undoes what was not committed.
    pub(super) fn rollback(&self) {
        self.forget_uncommitted();
        if self.is_in_group() {
            self.undo_in_group();
        } else if self.connection.is_in_transaction() {
            // If this fails, the connection is not given back, and closing it rolls back.
            let _ = self.connection.transact(TransactionStep::Rollback);
        }
        if self.transaction.get() != State::Lost {
            self.transaction.set(State::Idle);
        }
    }

    /// Counts how long the write lock was held, if it was.
    fn count_lock(&self) {
        if let Some(since) = self.held_since() {
            self.services.counters.lock_held(since.elapsed());
        }
    }

    fn forget_uncommitted(&self) {
        self.count_lock();
        self.task.stop_signal.release_lock();
        self.reads.borrow_mut().clear();
        self.close_all();
        self.messages.take();
        self.log.borrow_mut().forget();
        self.forget_audited();
        self.uncommitted.set(Tally::default());
    }

    fn close_all(&self) {
        self.cursors.borrow_mut().clear();
        self.savepoints.borrow_mut().clear();
    }

    fn committed(&self) {
        self.count_lock();
        self.task.stop_signal.spare_no_more();
        self.task.stop_signal.release_lock();
        self.transaction.set(State::Idle);
        self.log.borrow_mut().forget();
        self.keep_audited();
        self.keep_tally();
        let messages = self.messages.borrow_mut().take();
        if !self.dry {
            self.services.bus.deliver(messages);
        }
        self.tell_of_jobs();
    }

    pub(super) fn keep_tally(&self) {
        let (mut tally, new) = (self.tally.get(), self.uncommitted.take());
        tally.rows_changed += new.rows_changed;
        tally.audited += new.audited;
        self.tally.set(tally);
    }

    /// What a commit would say of foreign keys, for a run that commits nothing.
    fn check_keys(&self) -> Result<(), HostError> {
        if self.connection.is_key_owed() { Err(refused_commit()) } else { Ok(()) }
    }

    pub(crate) fn checkpoint_now(&self) -> Result<(), HostError> {
        self.alive()?;
        self.leave_group()?;
        self.close_all();
        if self.dry {
            self.check_keys()?;
            self.keep_audited();
            self.keep_tally();
            // Otherwise what it published would be delivered now.
            self.messages.take();
            return Ok(());
        }
        self.end_snapshot()?;
        let held = self.held_since();
        let cancel_requested = self.renew()?;
        Failpoint::BeforeCheckpoint.reached();
        if held.is_some() {
            self.commit().inspect_err(|error| {
                self.rollback();
                self.lose(error.clone().into());
            })?;
        }
        Failpoint::AfterCheckpoint.reached();
        if held.is_some() || self.messages.borrow().len() > 0 {
            // It cannot be undone any more.
            self.lock_first.set(true);
            self.has_effects.set(true);
        }
        // Also without a transaction, because messages may wait.
        self.committed();
        if cancel_requested {
            self.task.interrupt.raise(Interrupted::Cancelled);
            return Err(self.stop_now());
        }
        if let Some(since) = held {
            self.connection.let_others_in(since);
        }
        Ok(())
    }

    /// Whether others would like to write, and have waited for this run for some time.
    pub(crate) fn is_checkpoint_due(&self) -> bool {
        self.held_since().is_some_and(|since| self.connection.is_wanted_by_others(since))
    }

    /// Since when the transaction holds the write lock, if one is open.
    fn held_since(&self) -> Option<Instant> {
        match self.transaction.get() {
            State::Writing(since) => Some(since),
            _ => None,
        }
    }

    /// Renews the lease inside the transaction, if one is open. Returns whether a cancel was asked
    /// for.
    fn renew(&self) -> Result<bool, HostError> {
        let Some(claim) = self.task.claim else { return Ok(false) };
        let now = self.clock.now();
        // Long enough for what may come without another checkpoint.
        let time_left = self.task.stop_signal.deadline.saturating_duration_since(Instant::now());
        let until = now + self.services.lease.max(time_left.saturating_add(LEASE_MARGIN));
        let renewed = self
            .connection
            .books(|books| {
                books.renew_lease(claim.id, claim.token, now, until, self.progress.get())
            })
            .map_err(|error| from_books(&error))?;
        renewed.ok_or_else(|| {
            self.rollback();
            let error = HostError::new(
                code::LEASE_LOST,
                "the lease of this attempt ran out and the job was taken over; nothing since the last checkpoint was kept",
            );
            self.lose(error.clone().into());
            error
        })
    }

    /// Commits what is open together with the job's transition, and what else belongs in that
    /// commit. Returns what became of the transition.
    ///
    /// # Errors
    /// When the claim is stale or the database refuses. Then nothing is kept.
    pub(crate) fn finish(
        &self,
        to: Option<&Transition>,
        also: &mut dyn FnMut(Books<'_>),
    ) -> Result<Moved, AttemptError> {
        self.worker_ended();
        if let Some(error) = self.stopped() {
            self.rollback();
            return Err(error);
        }
        if self.dry {
            let checked = self.check_keys();
            self.keep_tally();
            self.see_after();
            self.rollback();
            self.see_before();
            return checked.map(|()| Moved::There).map_err(AttemptError::from);
        }
        self.close_all();
        if let Some(ended) = self.finish_in_group(to) {
            return ended;
        }
        self.end_snapshot().inspect_err(|_| self.rollback())?;
        let held = self.held_since();
        Failpoint::Performed.reached();
        let ended = self.transition(to, also).and_then(|moved| {
            if held.is_some() {
                Failpoint::BeforeCommit.reached();
                self.commit()?;
            }
            Ok(moved)
        });
        match ended {
            Ok(moved) => {
                Failpoint::AfterCommit.reached();
                self.committed();
                if let Some(since) = held {
                    self.connection.let_others_in(since);
                }
                Ok(moved)
            }
            Err(error) => {
                self.rollback();
                Err(error)
            }
        }
    }

    pub(super) fn transition(
        &self,
        to: Option<&Transition>,
        also: &mut dyn FnMut(Books<'_>),
    ) -> Result<Moved, AttemptError> {
        let (Some(claim), Some(to)) = (self.task.claim, to) else { return Ok(Moved::There) };
        let now = self.clock.now();
        let moved = self
            .connection
            .books(|books| {
                books.write_together("record the end of an attempt", |books| {
                    let attempt = (claim.id, claim.token, claim.attempt);
                    let by = Some(&*self.task.performed_by);
                    let moved = books.transition(attempt, now, to, by)?;
                    if moved != Moved::Stale {
                        if let Some(log) = self.kept_lines() {
                            books.keep_job_log((claim.id, claim.attempt), now, &log)?;
                        }
                        also(books);
                    }
                    Ok(moved)
                })
            })
            .map_err(|error| AttemptError::from(from_books(&error)))?;
        if moved != Moved::Stale {
            return Ok(moved);
        }
        Err(AttemptError::new(
            code::LEASE_LOST,
            "the lease of this attempt ran out before it ended; nothing since the last checkpoint was kept",
        ))
    }

    /// Commits, and makes the audit log remember its newest row if this transaction added any.
    fn commit(&self) -> Result<(), HostError> {
        let growth = self.check_growth()?;
        let committed = self.connection.engine(|connection| {
            if self.audited.get().new.rows > 0 {
                self.log.borrow().seal(connection)?;
            }
            TransactionStep::Commit.take(connection)
        });
        committed.map_err(|error| match kind_of(&error) {
            StoreErrorKind::Constraint => refused_commit(),
            _ => from_store(&error),
        })?;
        self.keep_growth(growth);
        Ok(())
    }

    /// Whether nothing would be lost with this transaction yet.
    pub(super) fn has_written_nothing(&self) -> bool {
        let new = self.uncommitted.get();
        (new.rows_changed, new.audited) == (0, 0)
            && self.audited.get().new.rows == 0
            && self.messages.borrow().len() == 0
            && self.savepoints.borrow().is_empty()
    }

    /// Goes on in a new transaction, after a statement that took the old one, if nobody else has
    /// written since. `version` is the version of the data before.
    pub(super) fn begin_after_rollback(&self, version: i64) -> Result<(), HostError> {
        self.forget_uncommitted();
        self.transaction.set(State::Idle);
        self.begin()?;
        // As where the lock is taken late: what it had read must still be the same.
        if self.data_version()? == version || self.has_effects.get() {
            Ok(())
        } else {
            Err(self.conflict())
        }
    }
}

fn refused_commit() -> HostError {
    HostError::new(
        code::CONSTRAINT,
        "the commit was refused: FOREIGN KEY constraint failed, one whose check is put off to the commit",
    )
}
