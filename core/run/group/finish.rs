//! The end of a run whose commit can be put off.

use super::membership::Place;
use super::{Phase, Shared};
use crate::failpoint::Failpoint;
use crate::queue::{Moved, Transition};
use crate::run::transaction::State;
use crate::run::{AttemptError, Run};
use crate::store::{Savepoint, TransactionStep};

impl Run {
    /// Ends a run whose commit can be put off: its transition becomes part of the group. `None`
    /// when the run ends by itself.
    pub(in crate::run) fn finish_in_group(
        &self,
        to: Option<&Transition>,
    ) -> Option<Result<Moved, AttemptError>> {
        let to = to?;
        match self.place.get() {
            Place::First => {
                let short = self.membership.group.as_ref().map(|group| group.pace.short);
                let may = self.connection.has_log()
                    && !self.has_effects.get()
                    && short.is_some_and(|short| self.work_time() < short)
                    && !self.connection.is_key_owed();
                may.then(|| self.finish_first(to))
            }
            Place::Waiting => {
                let taken = self.take_connection();
                match taken {
                    Ok(()) if self.place.get() == Place::Waiting => Some(self.finish_waiting(to)),
                    Ok(()) => None,
                    Err(error) => Some(Err(error.into())),
                }
            }
            Place::Joined => Some(self.finish_joined(to)),
            Place::Alone | Place::Claimed | Place::Ended => None,
        }
    }

    fn finish_first(&self, to: &Transition) -> Result<Moved, AttemptError> {
        let ended = self.end_snapshot().map_err(AttemptError::from).and_then(|()| {
            let has_written = matches!(self.transaction.get(), State::Writing(_));
            self.begin()?;
            Failpoint::Performed.reached();
            let moved = self.transition(Some(to), &mut |_| {})?;
            let growth = self.check_growth()?;
            self.keep_growth(growth);
            Ok((moved, has_written))
        });
        let (moved, has_written) = ended.inspect_err(|_| self.rollback())?;
        let group = self.membership.group()?;
        let mut shared = group.shared();
        if let State::Writing(since) = self.transaction.get() {
            shared.since = since;
        }
        (shared.phase, shared.has_written) = (Phase::Open, has_written);
        self.put_off(&mut shared);
        Ok(moved)
    }

    /// Ends a run that never touched the database. Only its end is written.
    fn finish_waiting(&self, to: &Transition) -> Result<Moved, AttemptError> {
        Failpoint::Performed.reached();
        let unclaimed = self.membership.unclaimed.as_ref().filter(|_| !self.has_kept_lines());
        let (Transition::Complete(result), Some(unclaimed)) = (to, unclaimed) else {
            self.claim()?;
            let moved = self.transition(Some(to), &mut |_| {})?;
            self.put_off(&mut self.membership.group()?.shared());
            return Ok(moved);
        };
        let now = self.clock.now();
        let completed = self.connection.engine(|connection| {
            let by = &self.task.performed_by;
            unclaimed.complete(connection, now, result.as_deref(), by)
        });
        if !matches!(completed, Ok(true)) {
            return Err(self.lose_group().into());
        }
        let group = self.membership.group()?;
        let mut shared = group.shared();
        shared.completed.push(unclaimed.attempt.0);
        shared.completed_at = now;
        self.put_off(&mut shared);
        Ok(Moved::There)
    }

    fn finish_joined(&self, to: &Transition) -> Result<Moved, AttemptError> {
        Failpoint::Performed.reached();
        if self.connection.is_key_owed() {
            // Its commit would be refused, and with it that of all others.
            return Err(self.conflict().into());
        }
        let ended = self.transition(Some(to), &mut |_| {}).and_then(|moved| {
            let growth = self.check_growth()?;
            self.engine_step(TransactionStep::Release(Savepoint::Member))?;
            self.keep_growth(growth);
            Ok(moved)
        });
        let moved = ended.inspect_err(|_| self.rollback())?;
        self.put_off(&mut self.membership.group()?.shared());
        Ok(moved)
    }

    /// Makes what it did part of the group.
    fn put_off(&self, shared: &mut Shared) {
        shared.messages.append(&mut self.messages.borrow_mut().take());
        shared.has_audited |= self.audited.get().new.rows > 0;
        shared.has_enqueued |= self.take_enqueued();
        self.place.set(Place::Ended);
        self.task.stop_signal.release_lock();
        self.transaction.set(State::Idle);
        self.keep_audited();
        self.keep_tally();
    }

    /// Whether a connection inside a transaction can be given back, because the transaction is the
    /// group's.
    pub(in crate::run) fn leaves_group_open(&self) -> bool {
        matches!(self.place.get(), Place::Claimed | Place::Ended)
            && self.membership.group.as_ref().is_some_and(|group| group.is_open())
    }
}
