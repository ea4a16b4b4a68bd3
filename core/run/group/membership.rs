//! A run's part in a group: how it joins, and how it leaves.

use std::sync::Arc;

use verger_worker::{HostError, code};

use super::{Group, Phase, WAITS_MAX, roll_back};
use crate::queue::Unclaimed;
use crate::run::Run;
use crate::store::{Savepoint, TransactionStep};

/// A run's relation to a group.
pub(crate) enum Seat {
    /// It has a transaction of its own.
    Alone,
    /// It is claimed, and its commit may be put off.
    First(Arc<Group>),
    /// It is performed inside the open transaction of the group.
    Member(Arc<Group>, Unclaimed),
}

impl Seat {
    /// The group, if there is one.
    pub(crate) fn group(&self) -> Option<Arc<Group>> {
        match self {
            Self::Alone => None,
            Self::First(group) | Self::Member(group, _) => Some(Arc::clone(group)),
        }
    }
}

/// The state of a run in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::run) enum Place {
    Alone,
    First,
    /// It has not touched the database, and is not claimed.
    Waiting,
    /// It is claimed, and what it does is in a savepoint.
    Joined,
    /// It is claimed and has nothing else in the transaction. The group must be committed before
    /// anything happens to the job.
    Claimed,
    /// Its end is part of the transaction.
    Ended,
}

/// A run's part in a group.
pub(in crate::run) struct Membership {
    pub(super) group: Option<Arc<Group>>,
    pub(super) unclaimed: Option<Unclaimed>,
}

impl Membership {
    pub(in crate::run) fn of(seat: Seat) -> (Self, Place) {
        match seat {
            Seat::Alone => (Self { group: None, unclaimed: None }, Place::Alone),
            Seat::First(group) => (Self { group: Some(group), unclaimed: None }, Place::First),
            Seat::Member(group, unclaimed) => {
                (Self { group: Some(group), unclaimed: Some(unclaimed) }, Place::Waiting)
            }
        }
    }

    pub(super) fn group(&self) -> Result<&Arc<Group>, HostError> {
        self.group.as_ref().ok_or_else(lost)
    }
}

fn lost() -> HostError {
    HostError::new(code::CONFLICT, "the transaction of this attempt is lost; it is performed again")
}

impl Run {
    /// Lends the connection when the worker is about to begin. If the worker takes long before it
    /// touches the database, nobody waits for it.
    pub(in crate::run) fn lend_connection(&self) {
        let (Place::Waiting, Membership { group: Some(group), unclaimed: Some(claim) }) =
            (self.place.get(), &self.membership)
        else {
            return;
        };
        let at = group.shared().since + WAITS_MAX;
        let (group, claim) = (Arc::clone(group), claim.clone());
        self.connection.lend(at, move |connection| group.commit_lent(connection, &claim));
    }

    /// Takes the connection back, before anything is done on it.
    pub(in crate::run) fn take_connection(&self) -> Result<(), HostError> {
        if self.place.get() != Place::Waiting || self.connection.take_back() {
            return Ok(());
        }
        match self.membership.group()?.phase() {
            Phase::Committed => {
                self.place.set(Place::Alone);
                Ok(())
            }
            Phase::First | Phase::Open => Ok(()),
            Phase::Lost => Err(self.lose_group()),
        }
    }

    /// Whether the run is inside the transaction of a group.
    pub(in crate::run) fn is_in_group(&self) -> bool {
        !matches!(self.place.get(), Place::Alone | Place::First)
    }

    /// Called before the first statement. A run of a group claims its job and begins its savepoint.
    pub(in crate::run) fn join(&self) -> Result<(), HostError> {
        if self.place.get() != Place::Waiting {
            return Ok(());
        }
        self.claim()?;
        if self.place.get() != Place::Claimed {
            return Ok(());
        }
        self.engine_step(TransactionStep::Open(Savepoint::Member))
            .map_err(|_| self.lose_group())?;
        self.place.set(Place::Joined);
        self.membership.group()?.shared().has_written = true;
        self.hold()?;
        self.learn()
    }

    /// Writes the claim of a run that waits, if its group is still open.
    pub(super) fn claim(&self) -> Result<(), HostError> {
        self.take_connection()?;
        if self.place.get() != Place::Waiting {
            return Ok(());
        }
        let claimed = self.membership.unclaimed.as_ref().map_or(Ok(false), |unclaimed| {
            self.connection.engine(|connection| unclaimed.claim(connection))
        });
        match claimed {
            Ok(true) => {
                self.place.set(Place::Claimed);
                Ok(())
            }
            _ => Err(self.lose_group()),
        }
    }

    /// Notes that the transaction of the group cannot go on. Nothing of it has happened.
    pub(super) fn lose_group(&self) -> HostError {
        if let Some(group) = &self.membership.group {
            group.shared().lose();
        }
        roll_back(&self.connection);
        self.place.set(Place::Alone);
        let error = lost();
        self.lose(error.clone().into());
        error
    }

    /// Undoes what a run of a group did, but not its claim.
    pub(in crate::run) fn undo_in_group(&self) {
        if self.place.get() != Place::Joined {
            return;
        }
        let steps = [TransactionStep::RollbackTo, TransactionStep::Release];
        let undone = self.connection.is_in_transaction()
            && steps.iter().all(|step| self.connection.transact(step(Savepoint::Member)).is_ok());
        if undone {
            self.place.set(Place::Claimed);
        } else {
            let _ = self.lose_group();
        }
    }

    /// Leaves the group before something that concerns this job alone. If the run has done
    /// anything, it is performed again.
    pub(in crate::run) fn leave_group(&self) -> Result<(), HostError> {
        match self.place.get() {
            Place::Waiting => {
                self.claim()?;
                self.commit_group()
            }
            Place::Joined => Err(self.conflict()),
            Place::First => {
                self.place.set(Place::Alone);
                Ok(())
            }
            Place::Alone | Place::Claimed | Place::Ended => Ok(()),
        }
    }

    fn commit_group(&self) -> Result<(), HostError> {
        if self.place.get() != Place::Claimed {
            return Ok(());
        }
        let committed = self.membership.group()?.commit(&self.connection);
        self.place.set(Place::Alone);
        committed.map_err(|_| self.lose_group())
    }

    /// Ends a run that did not end well. What it did is undone. If it is in a group, its claim is
    /// written.
    pub(crate) fn abandon(&self) {
        self.rollback();
        if self.place.get() == Place::Waiting {
            // If the claim is lost with the group, nobody has the job.
            let _ = self.claim();
        }
    }
}
