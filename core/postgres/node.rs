//! What the threads and the clones of one process share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postgres::{CancelToken, Config, NoTls};

use super::audit::Lane;
use super::kinds::{self, Kind};
use super::pool::Pool;
use super::presence::{CHANNEL, Presence};
use super::run::Connection;
use super::session::Session;
use crate::capability::Capabilities;
use crate::clock::Clock;
use crate::engine::Settings;
use crate::event::Bus;
use crate::ids::JobId;
use crate::mutex::lock;
use crate::queue::{EnqueueError, NewJob, Ready};
use crate::run::{Interrupt, Interrupted, Workers};
use crate::store::{StopSignal, StoreError};
use crate::time::Timestamp;
use crate::worker::Registry;

/// The least time between two notifications of other nodes. A commit that notifies waits for the
/// others that do.
const NOTIFY_EVERY: Duration = Duration::from_millis(100);

/// One process with a database open.
pub(super) struct Node {
    pub(super) config: Config,
    pub(super) registry: Registry,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: Settings,
    pub(super) capabilities: Capabilities,
    pub(super) bus: Bus,
    /// The connection of the app's own calls.
    pub(super) front: Mutex<Connection>,
    pub(super) presence: Mutex<Presence>,
    /// The number of this node, as the claims of its jobs have it.
    pub(super) number: AtomicI64,
    pub(super) pool: Pool,
    /// The kinds of jobs that wait.
    known: Mutex<Known>,
    /// Held by the thread that claims.
    pub(super) claiming: Mutex<()>,
    /// Jobs that are being performed in each queue.
    busy: Mutex<HashMap<String, usize>>,
    running: Mutex<HashMap<JobId, Running>>,
    /// Connections that wait for work.
    idle: Mutex<Vec<Connection>>,
    notified: Mutex<Option<Instant>>,
    pub(super) pruned_at: AtomicI64,
}

#[derive(Default)]
struct Known {
    /// As they were last seen, and those that this process enqueued since.
    kinds: BTreeSet<Kind>,
    /// Those that this process enqueued since the last look began.
    added: BTreeSet<Kind>,
}

/// A job that is being performed, and how to stop it.
struct Running {
    interrupt: Interrupt,
    stop: StopSignal,
    cancel: CancelToken,
}

impl Node {
    pub(super) fn new(
        config: Config,
        registry: Registry,
        clock: Arc<dyn Clock>,
        settings: Settings,
        capabilities: Capabilities,
    ) -> Self {
        let session = || Session::new(config.clone());
        Self {
            registry,
            clock,
            capabilities,
            bus: Bus::default(),
            front: Mutex::new(Connection { session: session(), lane: Lane::default() }),
            presence: Mutex::new(Presence::new(session())),
            number: AtomicI64::new(0),
            pool: Pool::new(settings.threads),
            settings,
            known: Mutex::default(),
            claiming: Mutex::default(),
            busy: Mutex::default(),
            running: Mutex::default(),
            idle: Mutex::default(),
            notified: Mutex::default(),
            pruned_at: AtomicI64::new(i64::MIN),
            config,
        }
    }

    /// A connection for jobs.
    pub(super) fn connection(&self) -> Connection {
        lock(&self.idle).pop().unwrap_or_else(|| Connection {
            session: Session::new(self.config.clone()),
            lane: Lane::default(),
        })
    }

    /// Keeps one connection for whoever needs one next, and closes the others of a busy hour.
    pub(super) fn give_back(&self, connection: Connection) {
        let mut idle = lock(&self.idle);
        if idle.is_empty() {
            idle.push(connection);
        }
    }

    /// Looks which kinds wait, and tells of those that nobody here performs. Returns whether there is
    /// something for this process.
    pub(super) fn look(&self, session: &mut Session) -> Result<bool, StoreError> {
        lock(&self.known).added.clear();
        let mut kinds = kinds::waiting(session)?;
        let mut known = lock(&self.known);
        kinds.extend(known.added.iter().cloned());
        let (here, parked) = kinds::sorted(&kinds, &self.registry);
        let before = std::mem::replace(&mut known.kinds, kinds);
        drop(known);
        for (queue, worker) in parked.difference(&before) {
            crate::event::say(&crate::event::EventKind::Parked {
                worker: worker.clone(),
                queue: queue.clone(),
            });
        }
        Ok(!here.is_empty())
    }

    /// The kinds that can be claimed now: of a worker that is here, in a queue that is not full.
    pub(super) fn claimable(&self) -> BTreeMap<Kind, u32> {
        let (mut here, _) = kinds::sorted(&lock(&self.known).kinds, &self.registry);
        let busy = lock(&self.busy);
        here.retain(|(queue, _), _| {
            busy.get(queue).copied().unwrap_or(0) < self.settings.queues.concurrency(queue)
        });
        here
    }

    /// Takes a place in a queue.
    pub(super) fn enter(&self, queue: &str) {
        *lock(&self.busy).entry(queue.to_string()).or_default() += 1;
    }

    /// Gives it back.
    pub(super) fn leave(&self, queue: &str) {
        if let Some(performing) = lock(&self.busy).get_mut(queue) {
            *performing = performing.saturating_sub(1);
        }
    }

    /// Registers a job as being performed, until [`ended`](Self::ended).
    pub(super) fn begins(
        &self,
        job: JobId,
        interrupt: &Interrupt,
        stop: StopSignal,
        cancel: CancelToken,
    ) {
        let running = Running { interrupt: interrupt.clone(), stop, cancel };
        lock(&self.running).insert(job, running);
    }

    pub(super) fn ended(&self, job: JobId) {
        lock(&self.running).remove(&job);
    }

    pub(super) fn is_performing(&self) -> bool {
        !lock(&self.running).is_empty()
    }

    /// Stops these jobs, or all, for this reason.
    pub(super) fn interrupt(&self, jobs: Option<&[JobId]>, why: Interrupted) {
        let running = lock(&self.running);
        for (job, running) in &*running {
            if jobs.is_none_or(|jobs| jobs.contains(job)) {
                running.interrupt.raise(why);
            }
        }
        drop(running);
        self.cancel_overdue();
    }

    /// Cancels the statements of jobs that are to end. A statement that is not one of them any more
    /// is not harmed for good: it fails, and its job is tried again.
    pub(super) fn cancel_overdue(&self) {
        let overdue: Vec<CancelToken> = lock(&self.running)
            .values()
            .filter(|running| running.stop.is_over())
            .map(|running| running.cancel.clone())
            .collect();
        for cancel in overdue {
            // What cannot be cancelled now is at the next look.
            let _ = cancel.cancel_query(NoTls);
        }
    }

    /// The progress of a job that this process performs.
    pub(super) fn progress_of(&self, job: JobId) -> Option<(u64, u64)> {
        lock(&self.running).get(&job)?.interrupt.progress()
    }

    /// Jobs of these kinds were committed: tells the threads of this process, and every keeper. The
    /// session is in no transaction.
    pub(super) fn jobs_wait(&self, session: &mut Session, kinds: impl IntoIterator<Item = Kind>) {
        for kind in kinds {
            let mut known = lock(&self.known);
            known.added.insert(kind.clone());
            known.kinds.insert(kind);
            drop(known);
            self.pool.work_is_there();
        }
        let mut notified = lock(&self.notified);
        if notified.is_none_or(|at| at.elapsed() >= NOTIFY_EVERY) {
            *notified = Some(Instant::now());
            drop(notified);
            self.notify(session);
        }
    }

    /// Wakes the keepers of all nodes.
    pub(super) fn notify(&self, session: &mut Session) {
        // Nothing is lost: each keeper looks once a second.
        if let Err(error) = session.batch("notify the other nodes", &format!("NOTIFY {CHANNEL}")) {
            tracing::debug!(%error, "the other nodes notice by themselves");
        }
    }

    /// Connects the session that stands for this node, if nobody else does just now.
    pub(super) fn appear(&self) -> Result<(), StoreError> {
        if let Ok(mut presence) = self.presence.try_lock() {
            self.number.store(presence.appear()?, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether `every` has passed since finished jobs were last looked through.
    pub(super) fn prune_is_due(&self, now: Timestamp, every: Duration) -> bool {
        let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        let is_due = now.as_millis().abs_diff(self.pruned_at.load(Ordering::Relaxed)) >= every;
        if is_due {
            self.pruned_at.store(now.as_millis(), Ordering::Relaxed);
        }
        is_due
    }
}

impl Workers for Node {
    fn ready(&self, job: NewJob) -> Result<Ready, EnqueueError> {
        self.registry.ready(job)
    }

    fn enqueued(&self) {
        self.pool.work_is_there();
    }
}
