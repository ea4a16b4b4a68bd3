//! Opening a database, with the workers, the schedules and the settings of this process.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::Value as Json;
use verger_worker::Worker;

use super::address::Address;
use super::clock_offset::{self, Corrected};
#[cfg(feature = "wasm")]
use super::components::Components;
use super::migrate::{check, migrate, open_error};
use super::node::Node;
use super::presence::refuse_transaction_pooler;
use super::session::Session;
use super::verger::{Verger, handed_over};
use crate::capability::{Capabilities, CapabilityCall, Speed};
use crate::clock::Clock;
use crate::engine::{GroupCommit, Queues, Settings};
use crate::error::OpenError;
use crate::grant::Grant;
use crate::limits::Limits;
use crate::metrics::Counters;
use crate::mutex::lock;
use crate::queue::{Backoff, Queue, Retention};
use crate::schedule::{Schedule, ScheduleError};
use crate::store::StoreError;
use crate::time::Timestamp;
use crate::worker::{Registered, Registry};

/// The most threads that perform jobs.
const THREADS_MAX: usize = 64;

/// How to open a PostgreSQL database: see [`Verger::builder`].
#[must_use = "nothing is opened until `open` is called"]
pub struct Builder {
    url: String,
    workers: Vec<Box<dyn Worker + Send + Sync>>,
    limits: BTreeMap<String, Limits>,
    capabilities: Capabilities,
    schedules: Vec<Schedule>,
    set: String,
    queues: Vec<Queue>,
    settings: Settings,
    clock: Option<Arc<dyn Clock>>,
    roots: Option<String>,
    read_only: bool,
    #[cfg(feature = "wasm")]
    pub(super) components: Components,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("Builder").finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            workers: Vec::new(),
            limits: BTreeMap::new(),
            capabilities: Capabilities::default(),
            schedules: Vec::new(),
            set: String::new(),
            queues: Vec::new(),
            settings: Settings {
                backoff: Backoff::default(),
                backoffs: HashMap::new(),
                queues: Queues::default(),
                threads: 4,
                retention: Retention::default(),
                group_commit: GroupCommit::Off,
                is_the_app: true,
            },
            clock: None,
            roots: None,
            read_only: false,
            #[cfg(feature = "wasm")]
            components: Components::default(),
        }
    }

    #[cfg(feature = "wasm")]
    pub(super) fn address(&self) -> Result<Address, StoreError> {
        Address::of(&self.url, self.roots.as_deref())
    }

    /// Trusts the servers whose certificates these authorities issued, and no others: the one of a
    /// managed server, say. The text is PEM. It is for an address with `sslmode=require`; without
    /// this, the authorities of Mozilla's list are trusted, which is part of the app.
    #[cfg(feature = "postgres-tls")]
    pub fn root_certificates(mut self, pem: impl Into<String>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// Registers a worker that is part of the app. Its statements are sent as they are, but for
    /// parameters, which may be written `?1` as on SQLite, and `IS ?1`, which compares NULLs.
    pub fn worker(mut self, worker: impl Worker + Send + Sync + 'static) -> Self {
        self.workers.push(Box::new(worker));
        self
    }

    /// Sets the limits of a worker. Of tables nothing is granted or withheld here: an app's own
    /// worker has the role of the connection. The limits of memory and of bytes written are
    /// SQLite's, and do not hold on this store.
    pub fn limits(mut self, worker: impl Into<String>, limits: Limits) -> Self {
        self.limits.insert(worker.into(), limits);
        self
    }

    /// Registers a function that workers may call: see [`crate::Builder::capability`].
    pub fn capability(
        mut self,
        name: impl Into<String>,
        function: impl Fn(&CapabilityCall<'_>) -> Result<Json, String> + Send + Sync + 'static,
    ) -> Self {
        self.capabilities.add(name.into(), Speed::Quick, function);
        self
    }

    /// The same, for one that waits for the network, a disk or a person. It is refused while the
    /// attempt has written something that is not committed: see
    /// [`crate::Builder::slow_capability`].
    pub fn slow_capability(
        mut self,
        name: impl Into<String>,
        function: impl Fn(&CapabilityCall<'_>) -> Result<Json, String> + Send + Sync + 'static,
    ) -> Self {
        self.capabilities.add(name.into(), Speed::Slow, function);
        self
    }

    /// Registers a schedule. Each of its slots is decided once, by whichever node comes first.
    /// `@reboot` is refused, because a cluster has no start.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedules.push(schedule);
        self
    }

    /// Names the set that the schedules belong to: see [`crate::Builder::schedule_set`]. Nodes that
    /// run the same code have one set. A schedule that its set has no more is retired at the open
    /// of the first node that runs the new code.
    pub fn schedule_set(mut self, name: impl Into<String>) -> Self {
        self.set = name.into();
        self
    }

    /// How many jobs of this queue may be performed at a time: by this process, or with
    /// [`Queue::global`] by all nodes together.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queues.push(queue);
        self
    }

    /// How many threads may perform jobs while the loop runs, for all queues together: 1 to 64,
    /// default 4. Each has a connection of its own while there is work. Two more connections are
    /// for the app's calls and for the keeper.
    pub fn threads(mut self, most: usize) -> Self {
        self.settings.threads = most;
        self
    }

    /// How long to wait before a failed job is tried again.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// How long finished jobs, rows of the ledger and events are kept.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.settings.retention = retention;
        self
    }

    /// The clock that everything reads. By default it is the system's, corrected by what the
    /// server's clock differs from it, so that nodes agree on the time.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Opens the database only to look at it. Nothing is made or brought up to date, this process is
    /// no node, workers, components and schedules are left aside, and every call that would write
    /// fails. Verger must have been opened there before. A standby will do.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Opens the database. The tables, in the schema `verger`, are made if they are not there, for
    /// which the role needs the right to create a schema once.
    ///
    /// # Errors
    /// [`OpenError`] for an address, a server or a database that cannot be used; for tables of a
    /// newer Verger; for a pooler that gives each transaction another session; for a worker, a
    /// queue or a schedule that is not usable.
    pub fn open(self) -> Result<Verger, OpenError> {
        let Self {
            url,
            workers,
            mut limits,
            capabilities,
            schedules,
            set,
            queues,
            settings,
            clock,
            roots,
            read_only,
            #[cfg(feature = "wasm")]
            components,
        } = self;
        if !(1..=THREADS_MAX).contains(&settings.threads) {
            return Err(OpenError::Threads { asked: settings.threads, most: THREADS_MAX });
        }
        for queue in queues {
            queue.check()?;
            settings.queues.set(queue);
        }
        let registry = Registry::default();
        let counters = Arc::<Counters>::default();
        for worker in workers {
            let mut registered = Registered::native(worker, Grant::as_declared())?;
            let name = registered.manifest()?.name.clone();
            if let Some(limits) = limits.remove(&name) {
                registered.grant = Grant::as_declared().limits(limits);
            }
            registry.add(&name, "a native worker", registered)?;
        }
        if let Some(worker) = limits.into_keys().next() {
            let known = registry.known();
            return Err(OpenError::NoSuchWorker { what: "limits", worker, known });
        }
        #[cfg(feature = "wasm")]
        let wanted = components.register(&registry, &counters)?;
        let mut address = Address::of(&url, roots.as_deref()).map_err(open_error)?;
        if read_only {
            address = address.read_only();
        }
        let address = Arc::new(address);
        let (clock, offset): (Arc<dyn Clock>, _) = match clock {
            Some(clock) => (clock, None),
            None => {
                let offset = Arc::new(AtomicI64::new(0));
                (Arc::new(Corrected { offset: Arc::clone(&offset) }), Some(offset))
            }
        };
        let node = Node::new(address, registry, clock, settings, capabilities, counters, offset);
        handed_over(|| {
            let mut front = lock(&node.front);
            let mut presence = lock(&node.presence);
            refuse_transaction_pooler(&mut front.session, Session::new(Arc::clone(&node.address)))
                .map_err(open_error)?;
            if let Some(offset) = &node.offset {
                let ahead = clock_offset::measure(&mut front.session).map_err(open_error)?;
                offset.store(ahead, Ordering::Relaxed);
            }
            if read_only {
                return check(&mut front.session);
            }
            let now = node.clock.now();
            migrate(&mut front.session, now)?;
            let number = presence.appear().map_err(open_error)?;
            node.number.store(number, Ordering::Relaxed);
            #[cfg(feature = "wasm")]
            components.let_in(&node, &mut front.session, &wanted)?;
            publish_workers(&mut front.session, &node.registry, now).map_err(open_error)
        })?;
        let verger = Verger { node };
        if read_only {
            return Ok(verger);
        }
        verger.register(&schedules, Some(&set))?;
        Ok(verger)
    }
}

/// Refuses what a cluster cannot have.
pub(super) fn check_schedule(schedule: &Schedule) -> Result<(), ScheduleError> {
    schedule.check()?;
    if schedule.expression.is_reboot() {
        return Err(ScheduleError::Invalid {
            name: schedule.name().to_string(),
            reason: "it makes a job at each start, and a cluster of nodes has none: enqueue the job where the app starts".to_string(),
        });
    }
    Ok(())
}

/// Tells `verger.enqueue()` which workers there are.
fn publish_workers(
    session: &mut Session,
    registry: &Registry,
    now: Timestamp,
) -> Result<(), StoreError> {
    const DOING: &str = "tell which workers there are";
    for (name, worker) in &*registry.snapshot() {
        let Some(manifest) = worker.known_manifest() else { continue };
        let tenant_aware = worker.has_tenant(manifest);
        let mut required: Vec<&str> = manifest
            .args
            .iter()
            .filter(|(_, spec)| spec.required && spec.default.is_none())
            .map(|(key, _)| key.as_str())
            .collect();
        if tenant_aware {
            required.extend(["organization_id", "actor_id"]);
        }
        session.execute(
            DOING,
            "INSERT INTO verger.workers (name, args_version, required, tenant_aware, seen_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (name) DO UPDATE SET args_version = greatest(workers.args_version, $2), required = $3, tenant_aware = $4, seen_at = $5",
            &[name, &i64::from(manifest.args_version), &required, &tenant_aware, &now.as_millis()],
        )?;
    }
    Ok(())
}
