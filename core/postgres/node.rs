//! What the threads and the clones of one process share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use postgres::CancelToken;

use super::address::Address;
use super::claims::Claims;
use super::guests::Guests;
use super::kinds::{self, Kind};
use super::pool::Pool;
use super::presence::{CHANNEL, Presence};
use super::run::Connection;
use super::session::Session;
use crate::capability::Capabilities;
use crate::clock::Clock;
use crate::engine::Settings;
use crate::event::{self, Bus, EventKind};
use crate::ids::JobId;
use crate::metrics::Counters;
use crate::mutex::lock;
use crate::queue::{EnqueueError, NewJob, Ready};
use crate::run::{Claim, Interrupt, Interrupted, Workers};
use crate::store::{StopSignal, StoreError};
use crate::time::{Timestamp, is_due_again};
use crate::worker::Registry;

/// The least time between two notifications of other nodes. A commit that notifies waits for the
/// others that do.
const NOTIFY_EVERY: Duration = Duration::from_millis(100);

/// How long a cancelled statement has to end before it is cancelled again.
const CANCEL_AGAIN: Duration = Duration::from_secs(1);

/// The number of a node that lost the session which stands for it.
pub(super) const NOWHERE: i64 = 0;

/// One process with a database open.
pub(super) struct Node {
    pub(super) address: Arc<Address>,
    pub(super) registry: Registry,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: Settings,
    pub(super) capabilities: Capabilities,
    pub(super) bus: Bus,
    pub(super) counters: Arc<Counters>,
    /// The connection of the app's own calls.
    pub(super) front: Mutex<Connection>,
    pub(super) presence: Mutex<Presence>,
    /// The number of this node, as the claims of its jobs have it.
    pub(super) number: AtomicI64,
    pub(super) pool: Pool,
    /// The kinds of jobs that wait.
    known: Mutex<Known>,
    pub(super) claims: Claims,
    /// Jobs that are being performed in each queue.
    busy: Mutex<HashMap<String, usize>>,
    /// By job and token: two claims of one job may overlap, and only one of them counts.
    running: Mutex<HashMap<(JobId, i64), Running>>,
    /// Connections that wait for work.
    idle: Mutex<Vec<Connection>>,
    notified: Mutex<Option<Instant>>,
    /// A thread waits to notify.
    notifies_soon: AtomicBool,
    me: Weak<Self>,
    /// What the server's clock is ahead, in milliseconds, if the system's clock is read.
    pub(super) offset: Option<Arc<AtomicI64>>,
    /// Whose turn it is to claim first: queues that are bounded for all nodes, or the others.
    pub(super) turn: AtomicBool,
    pub(super) pruned_at: AtomicI64,
    /// What its components need, once that was made sure of.
    pub(super) guests: OnceLock<Guests>,
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
    /// When its statement was cancelled last.
    cancelled: Option<Instant>,
}

/// While this exists, a job is registered as being performed.
pub(super) struct Registration<'n> {
    node: &'n Node,
    claim: (JobId, i64),
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        lock(&self.node.running).remove(&self.claim);
    }
}

/// While this exists, a place in a queue is taken.
pub(super) struct Seat<'n> {
    node: &'n Node,
    queue: String,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(performing) = lock(&self.node.busy).get_mut(&self.queue) {
            *performing = performing.saturating_sub(1);
        }
    }
}

impl Node {
    pub(super) fn new(
        address: Arc<Address>,
        registry: Registry,
        clock: Arc<dyn Clock>,
        settings: Settings,
        capabilities: Capabilities,
        counters: Arc<Counters>,
        offset: Option<Arc<AtomicI64>>,
    ) -> Arc<Self> {
        let front = Connection::new(&address);
        let presence = Presence::new(Session::new(Arc::clone(&address)));
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            offset,
            turn: AtomicBool::new(false),
            notifies_soon: AtomicBool::new(false),
            registry,
            clock,
            capabilities,
            bus: Bus::default(),
            counters,
            front: Mutex::new(front),
            presence: Mutex::new(presence),
            number: AtomicI64::new(NOWHERE),
            pool: Pool::new(settings.threads),
            settings,
            known: Mutex::default(),
            claims: Claims::default(),
            busy: Mutex::default(),
            running: Mutex::default(),
            idle: Mutex::default(),
            notified: Mutex::default(),
            pruned_at: AtomicI64::new(i64::MIN),
            guests: OnceLock::new(),
            address,
        })
    }

    /// A connection for jobs.
    pub(super) fn connection(&self) -> Connection {
        lock(&self.idle).pop().unwrap_or_else(|| Connection::new(&self.address))
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
        let workers = self.registry.snapshot();
        let is_here = |kind: &Kind| workers.contains_key(&kind.1);
        let has_work = kinds.iter().any(is_here);
        let newly_parked: Vec<Kind> =
            kinds.difference(&known.kinds).filter(|kind| !is_here(kind)).cloned().collect();
        known.kinds = kinds;
        drop(known);
        for (queue, worker) in newly_parked {
            event::say(&EventKind::Parked { worker, queue });
        }
        Ok(has_work)
    }

    /// The kinds that can be claimed now: of a worker that is here, in a queue that is not full.
    pub(super) fn claimable(&self) -> BTreeMap<Kind, u32> {
        self.choose(|kinds| kinds.map(|(kind, newest)| (kind.clone(), newest)).collect())
    }

    /// Whether there is any such kind.
    pub(super) fn has_claimable(&self) -> bool {
        self.choose(|kinds| kinds.next().is_some())
    }

    fn choose<T>(&self, of: impl FnOnce(&mut dyn Iterator<Item = (&Kind, u32)>) -> T) -> T {
        let (workers, known, busy) =
            (self.registry.snapshot(), lock(&self.known), lock(&self.busy));
        let has_room = |queue: &str| {
            busy.get(queue).copied().unwrap_or(0) < self.settings.queues.concurrency(queue)
        };
        let kinds = known.kinds.iter().filter(|(queue, _)| has_room(queue));
        of(&mut kinds.filter_map(|kind| Some((kind, workers.get(&kind.1)?.newest_args()))))
    }

    /// How many more jobs the fullest of these queues has room for.
    pub(super) fn least_room(&self, kinds: &BTreeMap<Kind, u32>) -> usize {
        let busy = lock(&self.busy);
        let room = |queue: &String| {
            let taken = busy.get(queue).copied().unwrap_or(0);
            self.settings.queues.concurrency(queue).saturating_sub(taken)
        };
        kinds.keys().map(|(queue, _)| room(queue)).min().unwrap_or(0)
    }

    /// Takes a place in a queue, which a [`seat`](Self::seat) gives back.
    pub(super) fn enter(&self, queue: &str) {
        *lock(&self.busy).entry(queue.to_string()).or_default() += 1;
    }

    /// The place that was taken in a queue.
    pub(super) fn seat(&self, queue: &str) -> Seat<'_> {
        Seat { node: self, queue: queue.to_string() }
    }

    /// Registers a job as being performed.
    pub(super) fn begins(
        &self,
        claim: Claim,
        interrupt: &Interrupt,
        stop: StopSignal,
        cancel: CancelToken,
    ) -> Registration<'_> {
        let claim = (claim.id, claim.token);
        let running = Running { interrupt: interrupt.clone(), stop, cancel, cancelled: None };
        lock(&self.running).insert(claim, running);
        Registration { node: self, claim }
    }

    pub(super) fn is_performing(&self) -> bool {
        !lock(&self.running).is_empty()
    }

    /// Stops these jobs, or all, for this reason.
    pub(super) fn interrupt(&self, jobs: Option<&[JobId]>, why: Interrupted) {
        let running = lock(&self.running);
        for ((job, _), running) in &*running {
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
        let mut running = lock(&self.running);
        let is_due = |running: &&mut Running| {
            running.stop.is_over() && running.cancelled.is_none_or(|at| at.elapsed() > CANCEL_AGAIN)
        };
        let overdue: Vec<CancelToken> = running
            .values_mut()
            .filter(is_due)
            .map(|running| {
                running.cancelled = Some(Instant::now());
                running.cancel.clone()
            })
            .collect();
        drop(running);
        for cancel in overdue {
            // What cannot be cancelled now is at the next look.
            let _ = self.address.cancel(&cancel);
        }
    }

    /// The progress of a job that this process performs.
    pub(super) fn progress_of(&self, job: JobId) -> Option<(u64, u64)> {
        let running = lock(&self.running);
        running.iter().find(|((running, _), _)| *running == job)?.1.interrupt.progress()
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
        let since = lock(&self.notified).map_or(NOTIFY_EVERY, |at| at.elapsed());
        if since >= NOTIFY_EVERY {
            *lock(&self.notified) = Some(Instant::now());
            self.notify(session);
        } else if !self.notifies_soon.swap(true, Ordering::Relaxed)
            && let Some(node) = self.me.upgrade()
        {
            // The last of many is told too.
            let told = std::thread::Builder::new().spawn(move || {
                std::thread::sleep(NOTIFY_EVERY.saturating_sub(since));
                node.notifies_soon.store(false, Ordering::Relaxed);
                *lock(&node.notified) = Some(Instant::now());
                node.notify(&mut lock(&node.front).session);
            });
            if told.is_err() {
                self.notifies_soon.store(false, Ordering::Relaxed);
            }
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
        is_due_again(&self.pruned_at, now, every)
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
