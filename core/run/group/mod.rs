//! A transaction that short jobs share, and a run's part in it.
//!
//! The first job of a group is performed like any other, and its commit is put off. The next ones
//! are performed inside the same transaction, whose lock keeps everyone else's writes out. A job's
//! claim and whatever it writes are in a savepoint of its own. If a job never touches the database,
//! only its end is written. One commit covers all of them.
//!
//! A job leaves the group before it does what concerns only itself. It also leaves before it reads,
//! because what only reads must keep nobody from writing. If it has not touched the database, it is
//! claimed, the group is committed with that, and it goes on like any other job. If it has written,
//! its writes are undone, the group is committed with its claim, and it is performed again from its
//! start, by itself. It has done nothing yet that cannot be undone. While a job does not touch the
//! database its connection is lent. If it takes long, another thread commits the group.
//!
//! If anything goes wrong with the group itself, nothing of it has happened but the first claim.

mod finish;
mod membership;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub(crate) use self::membership::Seat;
pub(super) use self::membership::{Membership, Place};
use super::RunServices;
use crate::audit;
use crate::event::{self, Message};
use crate::failpoint::Failpoint;
use crate::ids::JobId;
use crate::mutex::lock;
use crate::queue::Unclaimed;
use crate::store::{LentConnection, StoreContext, StoreError, TransactionStep, WorkConnection};
use crate::time::Timestamp;

/// A job that takes longer shares no transaction.
pub(crate) const SHORT: Duration = Duration::from_millis(1);

/// How long a group holds the write lock before it commits. After that no other job of it begins.
const HELD_MAX: Duration = Duration::from_millis(2);

/// How long a group waits for a job that does not touch the database.
const WAITS_MAX: Duration = Duration::from_millis(3);

/// The pace that a group requires of its jobs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The first job's commit is put off only if the job took no longer.
    short: Duration,
    /// After that no other job begins.
    held_max: Duration,
}

impl Pace {
    pub(crate) const BRISK: Self = Self { short: SHORT, held_max: HELD_MAX };

    /// For tests, however busy the machine is.
    pub(crate) const PATIENT: Self =
        Self { short: Duration::from_secs(1), held_max: Duration::from_millis(50) };
}

/// The state of a group's transaction.
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
    /// Messages to be delivered after the commit.
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

    /// Commits what its jobs did, if it is open. Otherwise nothing of it has happened.
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
                audit::seal(connection)?;
            }
            TransactionStep::Commit.take(connection)
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

    /// As [`commit`](Self::commit), with the claim of the present job, on a lent connection.
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
            .and_then(|()| connection.execute(&TransactionStep::Commit.sql()));
        match done {
            Ok(()) => self.committed(shared),
            Err(error) => {
                tracing::warn!(%error, "jobs that shared a transaction are performed again, one by one");
                shared.lose();
                // If that fails, whoever finds the connection in a transaction closes it.
                let _ = connection.execute(&TransactionStep::Rollback.sql());
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
    if connection.is_in_transaction() {
        // If this fails, the connection is closed, and that rolls back.
        let _ = connection.transact(TransactionStep::Rollback);
    }
}
