//! What one Verger's threads and clones share, and what the engine asks of it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::executor::Executor;
use super::habits::Habits;
use super::notifier::Notifier;
use super::pending::Pending;
use super::readers::Readers;
use super::settings::Settings;
use crate::clock::Clock;
use crate::mutex::lock;
use crate::queue::{Backoff, EnqueueError, JobId, NewJob, Ready};
use crate::run::{Interrupt, Interrupted, RunServices, Workers};
use crate::store::{BookConnection, Books, Connector, FileIdentity, ProcessLock, StoreError};
use crate::time::{Timestamp, is_due_again};
#[cfg(feature = "wasm")]
use crate::worker::Plugins;
use crate::worker::Registry;

/// Executors kept while they have nothing to do.
const IDLE_MAX: usize = 2;

/// What all clones share.
pub(crate) struct Engine {
    pub(crate) connector: Arc<Connector>,
    /// The app's connection, for enqueues and other writes. It keeps a database in memory alive.
    pub(crate) front: Mutex<BookConnection>,
    /// Connections for reads that do not make the app's own calls wait.
    pub(crate) readers: Readers,
    /// Executors that wait for work.
    pub(crate) idle: Mutex<Vec<Executor>>,
    pub(crate) registry: Registry,
    #[cfg(feature = "wasm")]
    pub(crate) plugins: Arc<Plugins>,
    pub(crate) services: Arc<RunServices>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) notifier: Notifier,
    pub(crate) habits: Habits,
    /// The jobs being performed, and how to stop each.
    pub(crate) executing: Mutex<HashMap<JobId, Interrupt>>,
    /// The identity of the file, to notice when it is another file.
    pub(crate) file_identity: FileIdentity,
    /// Ends of attempts that could not be written yet.
    pub(crate) pending: Pending,
    /// When finished jobs were last looked through, in unix milliseconds.
    pub(crate) pruned_at: AtomicI64,
    /// Whether a tick was made.
    pub(crate) has_ticked: AtomicBool,
    /// The queues and workers of parked jobs that were told of.
    pub(crate) parked: Mutex<BTreeSet<(String, String)>>,
    /// The reading of the clock that was noted last, in unix milliseconds.
    pub(crate) noted_at: AtomicI64,
    /// `None` for a database in memory, for one opened only to read, and where there can be no
    /// lock.
    pub(crate) process_lock: Option<ProcessLock>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verger").field("location", &self.connector.location).finish_non_exhaustive()
    }
}

/// While this exists, a job is registered as executing.
pub(crate) struct Executing<'a> {
    inner: &'a Engine,
    id: JobId,
}

impl Drop for Executing<'_> {
    fn drop(&mut self) {
        lock(&self.inner.executing).remove(&self.id);
    }
}

impl Engine {
    pub(crate) fn executor(&self) -> Executor {
        lock(&self.idle).pop().unwrap_or_else(|| Executor::new(&self.connector))
    }

    /// Keeps an executor for whoever needs one next. Only a few are kept; the others of a busy hour
    /// are closed, which gives their memory back.
    pub(crate) fn put_back(&self, executor: Executor) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_MAX {
            executor.shrink();
            idle.push(executor);
        }
    }

    /// Tells which jobs can be performed here, by worker and version of their args. The others are
    /// parked.
    pub(crate) fn has_worker(&self) -> impl Fn(&str) -> Option<u32> + use<> {
        let workers = self.registry.snapshot();
        move |name| {
            workers.get(name).filter(|worker| !worker.waits()).map(|worker| worker.newest_args())
        }
    }

    /// Notes the reading of the clock by which something is about to be written, if it is far from
    /// the last one. Call it inside a transaction, or let it be one of its own.
    pub(crate) fn note_reading(&self, books: Books<'_>, now: Timestamp) -> Result<(), StoreError> {
        const FAR: u64 = 1_800_000;
        if now.as_millis().abs_diff(self.noted_at.load(Ordering::Relaxed)) > FAR {
            books.note_reading(now)?;
            self.noted_at.store(now.as_millis(), Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn backoff(&self, worker: &str) -> Backoff {
        self.settings.backoff(worker)
    }

    pub(crate) fn running(&self, id: JobId, interrupt: &Interrupt) -> Executing<'_> {
        lock(&self.executing).insert(id, interrupt.clone());
        Executing { inner: self, id }
    }

    /// Tells a job to stop that this process performs. False when it performs no such job.
    pub(crate) fn tell_to_stop(&self, job: JobId) -> bool {
        let executing = lock(&self.executing);
        let interrupt = executing.get(&job);
        interrupt.inspect(|interrupt| interrupt.raise(Interrupted::Cancelled)).is_some()
    }

    /// The progress of a job that this process performs, as its worker said it last.
    pub(crate) fn progress_of(&self, job: JobId) -> Option<(u64, u64)> {
        lock(&self.executing).get(&job)?.progress()
    }

    /// Those of these queues and workers with parked jobs that were not told of before.
    pub(super) fn newly_parked(&self, parked: BTreeSet<(String, String)>) -> Vec<(String, String)> {
        let mut told = lock(&self.parked);
        let new = parked.difference(&told).cloned().collect();
        *told = parked;
        new
    }

    pub(crate) fn interrupt_all(&self, why: Interrupted) {
        lock(&self.executing).values().for_each(|interrupt| interrupt.raise(why));
    }

    /// Whether `every` has passed since finished jobs were last looked through. If so, they count
    /// as looked through now.
    pub(crate) fn prune_is_due(&self, now: Timestamp, every: Duration) -> bool {
        is_due_again(&self.pruned_at, now, every)
    }

    /// Makes the next tick look through finished jobs again.
    pub(crate) fn prune_soon(&self) {
        self.pruned_at.store(i64::MIN, Ordering::Relaxed);
    }

    /// Gives memory back that big sweeps left in the page caches.
    pub(crate) fn shrink(&self) {
        self.front().books().release_memory();
    }

    pub(crate) fn front(&self) -> MutexGuard<'_, BookConnection> {
        lock(&self.front)
    }

    /// Writes on the app's connection, in one transaction.
    pub(crate) fn write<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(Books<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.file_identity.check()?;
        let done = self.front().books().write(doing, work)?;
        self.deliver_front();
        Ok(done)
    }

    /// As [`deliver`](Self::deliver), for what was committed on the app's connection.
    pub(crate) fn deliver_front(&self) {
        let hub = &self.services.hub;
        if !hub.is_heard() {
            return;
        }
        // Nothing is lost: what cannot be read now is read the next time.
        if let Err(error) = hub.hand_on(self.front().books()) {
            tracing::debug!(%error, "events are told later");
        }
        hub.call_back();
    }
}

impl Workers for Engine {
    fn ready(&self, job: NewJob) -> Result<Ready, EnqueueError> {
        self.registry.ready(job)
    }

    fn enqueued(&self) {
        self.notifier.ring();
    }
}
