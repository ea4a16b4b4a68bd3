//! A transaction that short jobs share, and a run's part in it.
//!
//! The first job of a group is performed as any other, and its commit is put off. The next ones are
//! performed inside the same transaction, whose lock keeps everyone else's writes out: a job's claim
//! and whatever it writes stand in a savepoint of its own; of one that never touches the database only
//! the end is written. The commit of all of them is one.
//!
//! A job leaves the group before it does what concerns only itself, and before it reads: what only
//! reads keeps nobody from writing. One that has not touched the database is claimed and the group
//! committed, under its feet; it goes on as any other. One that has written is undone, the group is
//! committed with its claim, and it is performed again from its start, by itself: it has done nothing
//! yet that cannot be undone. While one does not touch the database its connection is lent: if it takes
//! long, another thread commits the group.
//!
//! When anything goes wrong with the group itself, nothing of it has happened but the first claim.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use verger_worker::{HostError, code};

use super::transaction::State;
use super::{AttemptError, Run, RunServices};
use crate::audit;
use crate::event::{self, Message};
use crate::failpoint::Failpoint;
use crate::ids::JobId;
use crate::mutex::lock;
use crate::queue::{Moved, Transition, Unclaimed};
use crate::store::{LentConnection, StoreContext, StoreError, WorkConnection, step};
use crate::time::Timestamp;

/// A job that takes longer shares no transaction.
pub(crate) const SHORT: Duration = Duration::from_millis(1);

/// How long a group holds the write lock before it commits. No other job of it begins then.
const HELD_MAX: Duration = Duration::from_millis(2);

/// How long a group waits for a job that does not touch the database.
const WAITS_MAX: Duration = Duration::from_millis(3);

/// What a group asks of its jobs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The first one's commit is put off only if it took no longer.
    short: Duration,
    /// No other job begins after that.
    held_max: Duration,
}

impl Pace {
    pub(crate) const BRISK: Self = Self { short: SHORT, held_max: HELD_MAX };

    /// For tests, on however busy a machine.
    pub(crate) const PATIENT: Self =
        Self { short: Duration::from_secs(1), held_max: Duration::from_millis(50) };
}

/// Where the transaction of a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first job has not ended.
    First,
    Open,
    Committed,
    /// It is rolled back, or will be with its connection.
    Lost,
}

/// Short jobs that share a transaction.
pub(crate) struct Group {
    services: Arc<RunServices>,
    pace: Pace,
    shared: Mutex<Shared>,
}

struct Shared {
    phase: Phase,
    /// Since when the lock is held.
    since: Instant,
    /// To be delivered after the commit.
    messages: Vec<Message>,
    /// Jobs that it completes and whose event is not written yet, and when the last one ended.
    completed: Vec<JobId>,
    completed_at: Timestamp,
    has_audited: bool,
    has_enqueued: bool,
    /// A job has written since this was last asked.
    has_written: bool,
}

impl Group {
    pub(crate) fn new(services: &Arc<RunServices>, pace: Pace) -> Arc<Self> {
        Arc::new(Self {
            services: Arc::clone(services),
            pace,
            shared: Mutex::new(Shared {
                phase: Phase::First,
                since: Instant::now(),
                messages: Vec::new(),
                completed: Vec::new(),
                completed_at: Timestamp::from_millis(0),
                has_audited: false,
                has_enqueued: false,
                has_written: false,
            }),
        })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    fn phase(&self) -> Phase {
        self.shared().phase
    }

    /// Whether its transaction is open.
    pub(crate) fn is_open(&self) -> bool {
        self.phase() == Phase::Open
    }

    /// Whether nothing of it has happened.
    pub(crate) fn is_lost(&self) -> bool {
        self.phase() == Phase::Lost
    }

    /// Whether another job may begin in it.
    pub(crate) fn has_time(&self) -> bool {
        let shared = self.shared();
        shared.phase == Phase::Open && shared.since.elapsed() < self.pace.held_max
    }

    /// Whether a job has written anything but its end since this was last asked.
    pub(crate) fn take_written(&self) -> bool {
        std::mem::take(&mut self.shared().has_written)
    }

    /// Commits what its jobs did, if it is open. Nothing of it has happened otherwise.
    pub(crate) fn commit(&self, connection: &WorkConnection) -> Result<(), StoreError> {
        let mut shared = self.shared();
        if shared.phase != Phase::Open {
            return Ok(());
        }
        let since = shared.since;
        Failpoint::BeforeCommit.reached();
        let has_audited = shared.has_audited;
        let (completed, at) = (std::mem::take(&mut shared.completed), shared.completed_at);
        let committed = connection.engine(|connection| {
            event::record_completed(connection, at, completed)?;
            if has_audited {
                step(connection, audit::SEAL)?;
            }
            step(connection, "COMMIT")
        });
        if let Err(error) = committed.doing("commit a transaction that jobs share") {
            shared.lose();
            drop(shared);
            roll_back(connection);
            return Err(error);
        }
        Failpoint::AfterCommit.reached();
        self.committed(shared);
        connection.let_others_in(since);
        Ok(())
    }

    fn committed(&self, mut shared: MutexGuard<'_, Shared>) {
        shared.phase = Phase::Committed;
        let messages = std::mem::take(&mut shared.messages);
        let has_enqueued = shared.has_enqueued;
        drop(shared);
        self.services.bus.deliver(messages);
        if has_enqueued {
            self.services.workers.tell();
        }
    }

    /// As [`commit`](Self::commit), with the claim of the job at hand, on a lent connection.
    fn commit_lent(&self, connection: &LentConnection<'_>, claim: &Unclaimed) {
        let mut shared = self.shared();
        let events = event::completed_sql(shared.completed_at, &shared.completed);
        let done = connection
            .execute(&claim.claim_sql())
            .and_then(|()| events.iter().try_for_each(|event| connection.execute(event)))
            .and_then(|()| match shared.has_audited {
                true => connection.execute(audit::SEAL),
                false => Ok(()),
            })
            .and_then(|()| connection.execute("COMMIT"));
        match done {
            Ok(()) => self.committed(shared),
            Err(error) => {
                tracing::warn!(%error, "jobs that shared a transaction are performed again, one by one");
                shared.lose();
                // Where that fails the connection is closed, by whoever finds it in a transaction.
                let _ = connection.execute("ROLLBACK");
            }
        }
    }
}

impl Shared {
    fn lose(&mut self) {
        self.phase = Phase::Lost;
        self.messages.clear();
        self.completed.clear();
    }
}

fn roll_back(connection: &WorkConnection) {
    if !connection.raw().is_autocommit() {
        // Without it the connection is closed, and that rolls back.
        let _ = connection.engine(|connection| step(connection, "ROLLBACK"));
    }
}

/// What a run is to a group.
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

/// Where a run in a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Alone,
    First,
    /// It has not touched the database, and is not claimed.
    Waiting,
    /// It is claimed, and what it does stands in a savepoint.
    Joined,
    /// It is claimed and has nothing else in the transaction: the group is to be committed before
    /// anything becomes of the job.
    Claimed,
    /// Its end is part of the transaction.
    Ended,
}

/// A run's part in a group.
pub(super) struct Membership {
    group: Option<Arc<Group>>,
    unclaimed: Option<Unclaimed>,
}

impl Membership {
    pub(super) fn of(seat: Seat) -> (Self, Place) {
        match seat {
            Seat::Alone => (Self { group: None, unclaimed: None }, Place::Alone),
            Seat::First(group) => (Self { group: Some(group), unclaimed: None }, Place::First),
            Seat::Member(group, unclaimed) => {
                (Self { group: Some(group), unclaimed: Some(unclaimed) }, Place::Waiting)
            }
        }
    }

    fn group(&self) -> Result<&Arc<Group>, HostError> {
        self.group.as_ref().ok_or_else(lost)
    }
}

fn lost() -> HostError {
    HostError::new(code::CONFLICT, "the transaction of this attempt is lost; it is performed again")
}

impl Run {
    /// The worker is about to begin. If it takes long before it touches the database, nobody waits
    /// for it.
    pub(super) fn lend_connection(&self) {
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
    pub(super) fn take_connection(&self) -> Result<(), HostError> {
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
    pub(super) fn is_in_group(&self) -> bool {
        !matches!(self.place.get(), Place::Alone | Place::First)
    }

    /// Before the first statement: a run of a group claims its job and begins its savepoint.
    pub(super) fn join(&self) -> Result<(), HostError> {
        if self.place.get() != Place::Waiting {
            return Ok(());
        }
        self.claim()?;
        if self.place.get() != Place::Claimed {
            return Ok(());
        }
        self.engine_step("SAVEPOINT verger_member").map_err(|_| self.lose_group())?;
        self.place.set(Place::Joined);
        self.membership.group()?.shared().has_written = true;
        self.hold()?;
        self.learn()
    }

    /// Writes the claim of a run that waits, if its group is still open.
    fn claim(&self) -> Result<(), HostError> {
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

    /// The transaction of the group cannot go on: nothing of it has happened.
    fn lose_group(&self) -> HostError {
        if let Some(group) = &self.membership.group {
            group.shared().lose();
        }
        roll_back(&self.connection);
        self.place.set(Place::Alone);
        let error = lost();
        self.lose(error.clone().into());
        error
    }

    /// Undoes what a run of a group did, and leaves its claim.
    pub(super) fn undo_in_group(&self) {
        if self.place.get() != Place::Joined {
            return;
        }
        let undone = !self.connection.raw().is_autocommit()
            && self
                .connection
                .engine(|connection| {
                    step(connection, "ROLLBACK TO verger_member")?;
                    step(connection, "RELEASE verger_member")
                })
                .is_ok();
        if undone {
            self.place.set(Place::Claimed);
        } else {
            let _ = self.lose_group();
        }
    }

    /// Before what concerns this job alone: it leaves its group, to be performed again if it has
    /// done anything.
    pub(super) fn leave_group(&self) -> Result<(), HostError> {
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

    /// A run that ends otherwise than well: what it did is undone, and if it is in a group its claim
    /// is written.
    pub(crate) fn abandon(&self) {
        self.rollback();
        if self.place.get() == Place::Waiting {
            // Lost with the group, it is nobody's.
            let _ = self.claim();
        }
    }

    /// Ends a run whose commit can be put off: its transition becomes part of the group. `None` when
    /// it ends by itself.
    pub(super) fn finish_in_group(
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

    /// A run that never touched the database: only its end is written.
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
            // Its commit would be refused, and everyone else's with it.
            return Err(self.conflict().into());
        }
        let ended = self.transition(Some(to), &mut |_| {}).and_then(|moved| {
            let growth = self.check_growth()?;
            self.engine_step("RELEASE verger_member")?;
            self.keep_growth(growth);
            Ok(moved)
        });
        let moved = ended.inspect_err(|_| self.rollback())?;
        self.put_off(&mut self.membership.group()?.shared());
        Ok(moved)
    }

    /// What it did is part of the group now.
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

    /// Whether a connection inside a transaction can be given back: it is the group's.
    pub(super) fn leaves_group_open(&self) -> bool {
        matches!(self.place.get(), Place::Claimed | Place::Ended)
            && self.membership.group.as_ref().is_some_and(|group| group.is_open())
    }
}
