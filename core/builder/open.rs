//! Opening: the file, its tables, the jobs of a process that died, workers, schedules.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, Mutex, Weak};

use super::Builder;
use crate::engine::{Engine, Habits, Notifier, Pending, Readers, take_back};
use crate::error::OpenError;
use crate::event::{Bus, Hub};
use crate::grant::Grant;
use crate::run::{RunServices, WorkersLink};
use crate::schedule::ScheduleError;
use crate::store::{
    self, BookConnection, Connector, FileIdentity, MigrationError, MigrationSet, ProcessLock,
    StoreContext, StoreError, StoreErrorKind,
};
use crate::time::Timestamp;
use crate::verger::Verger;
use crate::worker::{Registered, Registry};

/// The most threads that may perform jobs. A component needs an instance of the pool.
const THREADS_MAX: usize = 32;

impl Builder {
    /// Opens the database, brings its tables up to date, takes back the jobs of a process that
    /// died, and registers workers and schedules.
    ///
    /// # Errors
    /// [`OpenError`] when the file is no database, is newer than this build, or cannot be written,
    /// and when a worker of the app's own or a schedule is not usable. What was done before the
    /// error stays: migrations, and jobs taken back from a process that died. Schedules are stored
    /// all or none.
    pub fn open(mut self) -> Result<Verger, OpenError> {
        if let Some(reason) = store::unfit() {
            return Err(OpenError::Library { reason });
        }
        for queue in std::mem::take(&mut self.queues) {
            queue.check()?;
            self.settings.queues.set(queue);
        }
        if !(1..=THREADS_MAX).contains(&self.settings.threads) {
            return Err(OpenError::Threads { asked: self.settings.threads, most: THREADS_MAX });
        }
        let may_have_plugins = !(self.plugin_folders.is_empty()
            && self.plugin_files.is_empty()
            && self.components.is_empty());
        if self.read_only {
            if self.location.file().is_none() {
                return Err(OpenError::ReadOnlyMemory);
            }
            self.location = self.location.into_read_only();
        }
        let path = self.location.file().map(std::path::Path::to_path_buf).unwrap_or_default();
        let looking = self.location.is_read_only();
        let database = |source: StoreError| match source.kind() {
            StoreErrorKind::ReadOnly if !looking => OpenError::ReadOnly { path: path.clone() },
            _ => OpenError::Database { path: path.clone(), source },
        };
        self.location = self
            .location
            .resolve()
            .map_err(|reason| OpenError::NotAFile { path: path.clone(), reason })?;
        let doing = "open the database";
        if let Some(reason) = self.location.key_fault().doing(doing).map_err(database)? {
            return Err(OpenError::Key { path, reason });
        }
        if store::has_second_copy_open(&self.location).doing(doing).map_err(database)? {
            return Err(OpenError::SecondCopy { path });
        }
        if store::is_open_by_another_name(&self.location).doing(doing).map_err(database)? {
            return Err(OpenError::OtherName { path });
        }
        let mut front = self
            .location
            .first_connection(self.durability)
            .doing(doing)
            .map_err(database)
            .map(BookConnection::new)?;
        let now = self.clock.now();
        let hub = Hub::new(std::mem::take(&mut self.callbacks));
        let mut process_lock = None;
        let habits = Habits::default();
        if looking {
            store::check(front.raw(), &MigrationSet::ENGINE)
                .map_err(|source| OpenError::Migration { path: path.clone(), source })?;
            hub.begin(front.books()).map_err(database)?;
        } else {
            self.location = self.location.without_links();
            self.location
                .prepare_journal(front.raw())
                .doing("read the database")
                .map_err(database)?;
            if store::is_read_only(front.raw()) {
                return Err(OpenError::ReadOnly { path });
            }
            store::migrate(front.raw(), &MigrationSet::ENGINE, now).map_err(
                |source| match source {
                    MigrationError::Store(source) => database(source),
                    source => OpenError::Migration { path: path.clone(), source },
                },
            )?;
            let mark = store::mark_of_move(front.raw()).doing("read the database");
            if let Some(mark) = mark.map_err(database)?
                && (mark.is_done || !self.moves)
            {
                return Err(OpenError::Moved { path, to: mark.target, is_done: mark.is_done });
            }
            let lock = |source: std::io::Error| OpenError::Lock { path: path.clone(), source };
            if let Some(file) = self.location.file() {
                process_lock = ProcessLock::announce(file).map_err(lock)?;
            }
            hub.begin(front.books()).map_err(database)?;
            let reopen = self.connector();
            front =
                take_back(front, process_lock.as_ref(), &reopen, now, (&self.settings, &habits))
                    .map_err(database)?;
            front.books().note_reading(now).map_err(database)?;
            if let Some(process_lock) = &mut process_lock {
                process_lock.downgrade().map_err(lock)?;
            }
        }
        let file_identity = FileIdentity::of(&self.location);
        let registry = Registry::default();
        let registered = self.register(&registry, &mut front, looking, now);
        #[cfg_attr(
            not(feature = "wasm"),
            allow(unused_variables, clippy::let_unit_value, reason = "there are none")
        )]
        let plugins = registered.map_err(|error| match error {
            RegisterError::Open(error) => error,
            RegisterError::Store(source) => database(source),
        })?;
        if !may_have_plugins {
            self.check_workers(&registry)?;
        }
        let schedules = std::mem::take(&mut self.schedules);
        let verger = Verger {
            inner: Arc::new(Engine {
                connector: Arc::new(self.connector()),
                front: Mutex::new(front),
                readers: Readers::default(),
                idle: Mutex::new(Vec::new()),
                registry,
                #[cfg(feature = "wasm")]
                plugins,
                services: Arc::new(RunServices {
                    capabilities: self.capabilities,
                    bus: Bus::default(),
                    hub,
                    counters: self.counters,
                    lease: self.lease,
                    keep_audit: self.keep_audit,
                    workers: WorkersLink::default(),
                    location: self.location,
                    setup: self.setup,
                }),
                clock: self.clock,
                settings: self.settings,
                notifier: Notifier::default(),
                habits,
                executing: Mutex::new(HashMap::new()),
                file_identity,
                pending: Pending::default(),
                pruned_at: AtomicI64::new(i64::MIN),
                has_ticked: AtomicBool::new(false),
                parked: Mutex::default(),
                noted_at: AtomicI64::new(now.as_millis()),
                process_lock,
            }),
        };
        let workers: Weak<Engine> = Arc::downgrade(&verger.inner);
        verger.inner.services.workers.set(workers);
        if !looking {
            let registered = verger.register_set(&schedules, &self.schedule_set, self.retires);
            registered.map_err(|error| match error {
                ScheduleError::Store(source) => database(source),
                refused => refused.into(),
            })?;
            // The callbacks also hear of the jobs that were taken back.
            verger.inner.deliver_front();
        }
        Ok(verger)
    }

    fn connector(&self) -> Connector {
        Connector {
            location: self.location.clone(),
            durability: self.durability,
            setup: self.setup.clone(),
        }
    }

    /// A setting for a worker that cannot exist is a typing error. A worker that was refused, or
    /// may still be dropped in, can exist.
    fn check_workers(&self, registry: &Registry) -> Result<(), OpenError> {
        let grants = self.grants.keys().map(|worker| ("a grant", worker));
        let backoffs = self.settings.backoffs.keys().map(|worker| ("a backoff", worker));
        let mut unknown =
            grants.chain(backoffs).filter(|(_, worker)| registry.get(worker).is_none());
        match unknown.next() {
            None => Ok(()),
            Some((what, worker)) => Err(OpenError::NoSuchWorker {
                what,
                worker: worker.clone(),
                known: registry.known(),
            }),
        }
    }

    fn register(
        &mut self,
        registry: &Registry,
        front: &mut BookConnection,
        looking: bool,
        now: Timestamp,
    ) -> Result<Taken, RegisterError> {
        for worker in std::mem::take(&mut self.native) {
            let mut registered = Registered::native(worker, Grant::as_declared())?;
            let name = registered.manifest()?.name.clone();
            if let Some(grant) = self.grants.get(&name) {
                registered.grant = grant.clone();
            }
            registry.add(&name, "a native worker", registered)?;
        }
        self.register_components(registry, front, looking, now)
    }
}

/// The dropped-in workers.
#[cfg(feature = "wasm")]
type Taken = Arc<crate::worker::Plugins>;
#[cfg(not(feature = "wasm"))]
type Taken = ();

/// Why the workers could not be registered.
pub(super) enum RegisterError {
    Open(OpenError),
    #[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "no name is looked up"))]
    Store(StoreError),
}

impl<E: Into<OpenError>> From<E> for RegisterError {
    fn from(error: E) -> Self {
        Self::Open(error.into())
    }
}
