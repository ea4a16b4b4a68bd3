//! Opening a Verger: the database, the workers, the schedules.

#[cfg(feature = "wasm")]
use std::collections::BTreeMap;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;
#[cfg(feature = "wasm")]
use rusqlite::TransactionBehavior;
use serde_json::Value as Json;
use verger_worker::Worker;

use crate::capability::{Capabilities, CapabilityCall};
use crate::clock::{Clock, SystemClock};
use crate::engine::{Connector, Engine, Notifier, Pending, Queues, Reopen, Settings, take_back};
use crate::error::OpenError;
use crate::event::Bus;
use crate::grant::Grant;
use crate::plugin_error::PluginError;
use crate::queue::{Backoff, EnqueueError, Queue, Retention};
use crate::run::RunServices;
#[cfg(feature = "wasm")]
use crate::sandbox::{CompileCache, Compiler, Plugin, Source};
use crate::schedule::{self, Schedule, ScheduleError};
use crate::store::{
    self, ConnectionSetup, Durability, FileIdentity, Location, MigrationError, MigrationSet,
    ProcessLock, StoreContext, StoreError, StoreErrorKind,
};
use crate::verger::Verger;
use crate::wall_clock;
#[cfg(feature = "wasm")]
use crate::worker::{self, Bound, Decision};
use crate::worker::{Registered, Registry};

/// How long a claim holds when nothing renews it.
const LEASE: Duration = Duration::from_secs(120);

/// How many threads may perform jobs, unless the app says otherwise.
const THREADS: usize = 8;

/// The most threads there may be for jobs: a component needs a place in the pool.
const THREADS_MAX: usize = 32;

/// How long the audit log is kept at least.
const KEEP_AUDIT: Duration = Duration::from_secs(86_400);

/// How long compiling the plugins may take at one open.
#[cfg(feature = "wasm")]
const COMPILE_LIMIT: Duration = Duration::from_secs(60);

/// How long a built-in sweep may last.
#[cfg(feature = "builtins")]
const BUILT_IN_TIME: Duration = Duration::from_secs(600);

/// Which schedules an open takes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retires {
    /// Those that its set had and has no more.
    Dropped,
    /// None.
    None,
}

/// What a Verger is to be. Nothing happens before [`open`](Self::open).
#[must_use = "nothing happens before open()"]
pub struct Builder {
    location: Location,
    durability: Durability,
    setup: Option<ConnectionSetup>,
    clock: Arc<dyn Clock>,
    native: Vec<(Box<dyn Worker + Send + Sync>, Option<Grant>)>,
    plugin_folders: Vec<PathBuf>,
    plugin_files: Vec<PathBuf>,
    components: Vec<(String, Vec<u8>)>,
    built_ins: bool,
    grants: HashMap<String, Grant>,
    capabilities: Capabilities,
    schedules: Vec<Schedule>,
    schedule_set: String,
    retires: Retires,
    settings: Settings,
    queues: Vec<Queue>,
    lease: Duration,
    keep_audit: Duration,
    #[cfg(feature = "wasm")]
    cache: CompileCache,
    #[cfg(feature = "wasm")]
    compile_limit: Duration,
}

impl Builder {
    pub(crate) fn new(location: Location) -> Self {
        Self {
            location,
            durability: Durability::default(),
            setup: None,
            clock: Arc::new(SystemClock),
            native: Vec::new(),
            plugin_folders: Vec::new(),
            plugin_files: Vec::new(),
            components: Vec::new(),
            built_ins: true,
            grants: HashMap::new(),
            capabilities: Capabilities::default(),
            schedules: Vec::new(),
            schedule_set: String::new(),
            retires: Retires::Dropped,
            settings: Settings {
                backoff: Backoff::default(),
                backoffs: HashMap::new(),
                queues: Queues::default(),
                threads: THREADS,
                retention: Retention::default(),
                is_the_app: true,
            },
            queues: Vec::new(),
            lease: LEASE,
            keep_audit: KEEP_AUDIT,
            #[cfg(feature = "wasm")]
            cache: CompileCache::default(),
            #[cfg(feature = "wasm")]
            compile_limit: COMPILE_LIMIT,
        }
    }

    /// Takes every `.wasm` in this folder as a worker. One that is refused does not keep the
    /// others, or the app, from starting: see [`Verger::refused_plugins`].
    ///
    /// The name a file gives itself is bound to its SHA-256 at the first open, in the database.
    /// Another file of that name is refused from then on; of two that differ at the first open, both
    /// are. The same file with new bytes is a new version, and keeps the name. A grant
    /// [for one SHA-256](Grant::for_digest) is above this, and [`Verger::forget_plugin`] frees a
    /// name. A database in memory remembers nothing.
    pub fn plugins(mut self, folder: impl Into<PathBuf>) -> Self {
        self.plugin_folders.push(folder.into());
        self
    }

    /// Takes this `.wasm` as a worker. Refused like one from a folder.
    pub fn plugin(mut self, file: impl Into<PathBuf>) -> Self {
        self.plugin_files.push(file.into());
        self
    }

    /// Takes these bytes as a worker; `what` names them in errors. Refused, it keeps Verger from
    /// opening: it is the app's own.
    pub fn component(mut self, what: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.components.push((what.into(), bytes.into()));
        self
    }

    /// Registers a worker that is part of the app. It is granted what its manifest asks for, unless
    /// [`grant`](Self::grant) says otherwise.
    pub fn worker(mut self, worker: impl Worker + Send + Sync + 'static) -> Self {
        self.native.push((Box::new(worker), None));
        self
    }

    /// Grants a worker what it may touch. A dropped-in worker has nothing without it; for the
    /// built-in workers and the app's own it takes the place of [`Grant::as_declared`].
    pub fn grant(mut self, worker: impl Into<String>, grant: Grant) -> Self {
        self.grants.insert(worker.into(), grant);
        self
    }

    /// Leaves the built-in workers out.
    pub fn without_built_ins(mut self) -> Self {
        self.built_ins = false;
        self
    }

    /// Registers a function that workers may call by this name, when granted. It runs on the
    /// worker's thread. If the worker has written since its last checkpoint, its transaction holds
    /// the write lock: the function keeps other writers waiting as long as it lasts (a log line names
    /// it after 100 ms), and if it writes to the same database by another connection (an enqueue,
    /// too) it waits for itself until its 10 s are over and fails. Register it as
    /// [slow](Self::slow_capability) then, or let the worker publish an event instead.
    pub fn capability(
        mut self,
        name: impl Into<String>,
        function: impl Fn(&CapabilityCall<'_>) -> Result<Json, String> + Send + Sync + 'static,
    ) -> Self {
        self.capabilities.add(name.into(), false, function);
        self
    }

    /// As [`capability`](Self::capability), for a function that may take long: one that waits for
    /// the network, a disk or a person. A worker cannot call it inside an open write transaction:
    /// the call is refused with the code `checkpoint-first`.
    pub fn slow_capability(
        mut self,
        name: impl Into<String>,
        function: impl Fn(&CapabilityCall<'_>) -> Result<Json, String> + Send + Sync + 'static,
    ) -> Self {
        self.capabilities.add(name.into(), true, function);
        self
    }

    /// Registers a schedule. One whose expression is unchanged keeps its next slot; a new or a
    /// changed one starts from now.
    ///
    /// The database remembers which schedules the app's code registered. One that it registers no
    /// more is retired at the next [`open`](Self::open): it makes no jobs any more, and its ledger
    /// says so. One that was added by an operator, or by [`Verger::add_schedule`], stays.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedules.push(schedule);
        self
    }

    /// Names the set of schedules this program registers. Programs that open one file with different
    /// schedules each give their set a name of its own, so that none retires those of another: an
    /// open retires what its own set has lost.
    pub fn schedule_set(mut self, name: impl Into<String>) -> Self {
        self.schedule_set = name.into();
        self
    }

    /// Retires no schedule at this open: for a program that opens the app's file and does not know
    /// the app's schedules, as the command `verger` does. Neither is it a start of the app, for
    /// `@reboot` schedules: they fire in such a program once for each start of the machine, where
    /// the system tells one from the next (Linux), and else when they never did.
    pub fn keep_schedules(mut self) -> Self {
        self.retires = Retires::None;
        self.settings.is_the_app = false;
        self
    }

    /// Reads time from this clock instead of the system's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// What a commit survives. Default [`Durability::Normal`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets up every connection workers use: register here the SQL functions and collations that
    /// the app's tables depend on.
    ///
    /// A worker may call those functions that are registered as
    /// [innocuous](https://www.sqlite.org/c3ref/c_deterministic.html#sqliteinnocuous): ones that
    /// only compute. The others are denied in its statements; SQLite allows them in no view or
    /// trigger either, for these connections do not trust the schema.
    pub fn connection_setup(
        mut self,
        setup: impl Fn(&Connection) -> rusqlite::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.setup = Some(Arc::new(setup));
        self
    }

    /// How long to wait before a failed job is tried again.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// How many jobs of this queue may be performed at a time. See [`Queue`]; while Verger is open,
    /// [`Verger::set_queue`] changes it.
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queues.push(queue);
        self
    }

    /// How many threads may perform jobs while the loop runs, of all queues together, 1 to 32.
    /// Default 8. They are started when there is work and end when there is none for some seconds.
    /// With fewer than there are queues with due jobs, the queues take turns.
    pub fn threads(mut self, most: usize) -> Self {
        self.settings.threads = most;
        self
    }

    /// How long to wait before a failed job of this worker is tried again.
    pub fn backoff_of(mut self, worker: impl Into<String>, backoff: Backoff) -> Self {
        self.settings.backoffs.insert(worker.into(), backoff);
        self
    }

    /// How long finished jobs are kept.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.settings.retention = retention;
        self
    }

    /// How long a claim holds when nothing renews it: after this long, another process takes the
    /// jobs of one that died. Default 2 min. A worker that may run longer by its grant has a longer
    /// lease.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long rows of the audit log are kept at least, whatever the worker `cleanup-audit` is
    /// told: it is the only way out of the log. Default a day.
    pub fn keep_audit(mut self, at_least: Duration) -> Self {
        self.keep_audit = at_least;
        self
    }

    /// Where compiled components are kept between starts.
    #[cfg(feature = "wasm")]
    pub fn compile_cache(mut self, cache: CompileCache) -> Self {
        self.cache = cache;
        self
    }

    /// How long compiling plugins may take at one [`open`](Self::open), all together, so that none
    /// can keep the app from starting. What is not compiled by then is refused
    /// ([`PluginError::TooSlow`], [`PluginError::NoTimeLeft`]); smaller files come before larger
    /// ones. Those in the [`compile_cache`](Self::compile_cache) take none of it, nor do the
    /// built-in workers. Default 60 s: a worker compiles in well under one, an interpreter of 18 MB
    /// in 15 s where the compiler is optimised, and in minutes where it is not.
    ///
    /// A plugin whose code could keep the compiler busy for long is refused before
    /// ([`PluginError::TooComplex`]). So a compiler that is stopped ends soon: after the step it is
    /// at, on one function.
    #[cfg(feature = "wasm")]
    pub fn compile_limit(mut self, limit: Duration) -> Self {
        self.compile_limit = limit;
        self
    }

    /// Opens the file to look at it and nothing else: it is not created, migrated, or marked as
    /// open, no job of a process that died is taken back, and every call that would write fails.
    /// The file must have been opened for writing before.
    pub fn read_only(mut self) -> Self {
        if let Location::File(path) = self.location {
            self.location = Location::ReadOnly(path);
        }
        self
    }

    /// Opens the database, brings its tables up to date, takes back the jobs of a process that
    /// died, and registers workers and schedules.
    ///
    /// # Errors
    /// [`OpenError`]: the file is no database, newer than this build, or cannot be written; a
    /// worker of the app's own or a schedule is not usable. The file is as it was then, up to
    /// migrations that were due.
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
        if store::is_open_by_another_name(&self.location).doing(doing).map_err(database)? {
            return Err(OpenError::OtherName { path });
        }
        let mut front =
            self.location.first_connection(self.durability).doing(doing).map_err(database)?;
        let now = self.clock.now();
        let mut process_lock = None;
        if looking {
            store::check(&front, &MigrationSet::ENGINE)
                .map_err(|source| OpenError::Migration { path: path.clone(), source })?;
        } else {
            self.location = self.location.without_links();
            self.location.prepare_journal(&front).doing("read the database").map_err(database)?;
            if store::is_read_only(&front) {
                return Err(OpenError::ReadOnly { path });
            }
            store::migrate(&mut front, &MigrationSet::ENGINE, now).map_err(
                |source| match source {
                    MigrationError::Store(source) => database(source),
                    source => OpenError::Migration { path: path.clone(), source },
                },
            )?;
            let lock = |source: std::io::Error| OpenError::Lock { path: path.clone(), source };
            if let Some(file) = self.location.file() {
                process_lock = ProcessLock::announce(file).map_err(lock)?;
            }
            let reopen = Reopen { location: &self.location, durability: self.durability };
            front = take_back(front, process_lock.as_ref(), &reopen, now, &self.settings)
                .map_err(database)?;
            wall_clock::note_reading(&front, now)
                .doing("note what the clock reads")
                .map_err(database)?;
            if let Some(process_lock) = &mut process_lock {
                process_lock.downgrade().map_err(lock)?;
            }
        }
        let file_identity = FileIdentity::of(&self.location);
        let (registry, refused) =
            self.register(&mut front, looking, now).map_err(|error| match error {
                RegisterError::Open(error) => error,
                RegisterError::Store(source) => database(source),
            })?;
        for refusal in &refused {
            tracing::warn!(reason = %refusal, "a plugin was refused");
        }
        let schedules = std::mem::take(&mut self.schedules);
        let verger = Verger {
            inner: Arc::new(Engine {
                connector: Arc::new(Connector {
                    location: self.location,
                    durability: self.durability,
                    setup: self.setup,
                }),
                front: Mutex::new(front),
                idle: Mutex::new(Vec::new()),
                registry,
                refused,
                services: Arc::new(RunServices {
                    capabilities: self.capabilities,
                    bus: Bus::default(),
                    lease: self.lease,
                    keep_audit: self.keep_audit,
                }),
                clock: self.clock,
                settings: self.settings,
                notifier: Notifier::default(),
                executing: Mutex::new(HashMap::new()),
                file_identity,
                pending: Pending::default(),
                pruned_at: AtomicI64::new(i64::MIN),
                has_ticked: AtomicBool::new(false),
                noted_at: AtomicI64::new(now.as_millis()),
                process_lock,
            }),
        };
        if !looking {
            let registered = verger.register_set(&schedules, &self.schedule_set, self.retires);
            registered.map_err(|error| match error {
                ScheduleError::Store(source) => database(source),
                refused => refused.into(),
            })?;
        }
        Ok(verger)
    }

    fn register(
        &mut self,
        front: &mut Connection,
        looking: bool,
        now: crate::Timestamp,
    ) -> Result<(Registry, Vec<PluginError>), RegisterError> {
        let mut registry = Registry::default();
        for (worker, _) in std::mem::take(&mut self.native) {
            let mut registered = Registered::native(worker, Grant::as_declared())?;
            let name = registered.manifest()?.name.clone();
            if let Some(grant) = self.grants.get(&name) {
                registered.grant = grant.clone();
            }
            registry.add(&name, "a native worker", registered)?;
        }
        let refused =
            self.register_components(&mut registry, &mut NameStore { front, looking, now })?;
        Ok((registry, refused))
    }

    /// What compiles the components of one open.
    #[cfg(feature = "wasm")]
    pub(crate) fn compiler(&self) -> Arc<Compiler> {
        Arc::new(Compiler::new(self.cache.clone(), self.compile_limit))
    }

    #[cfg(feature = "wasm")]
    fn register_components(
        &mut self,
        registry: &mut Registry,
        store: &mut NameStore<'_>,
    ) -> Result<Vec<PluginError>, RegisterError> {
        let compiler = self.compiler();
        let plugin = |source| Plugin::new(source, Arc::clone(&compiler));
        #[cfg(feature = "builtins")]
        if self.built_ins {
            for (name, bytes) in crate::builtins::PREBUILT {
                let grant = self
                    .grants
                    .get(name)
                    .cloned()
                    .unwrap_or_else(|| Grant::as_declared().time_limit(BUILT_IN_TIME));
                let built_in =
                    Registered::component(plugin(Source::Embedded { name, bytes }), grant);
                registry.add(name, &format!("the built-in worker `{name}`"), built_in)?;
            }
        }
        for (what, bytes) in std::mem::take(&mut self.components) {
            self.register_plugin(registry, plugin(Source::Bytes { name: what, bytes }))?;
        }
        let mut files = std::mem::take(&mut self.plugin_files);
        for folder in &self.plugin_folders {
            let listed = list(folder)
                .map_err(|source| OpenError::Plugins { folder: folder.clone(), source })?;
            files.extend(listed);
        }
        // One file is one file, however often it is named.
        let mut seen = HashSet::new();
        files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
        let plugins: Vec<Plugin> =
            files.into_iter().map(|file| plugin(Source::File(file))).collect();
        // What takes all the time there is for compiling takes it from none but larger ones.
        let mut by_size: Vec<&Plugin> = plugins.iter().collect();
        by_size.sort_by_key(|plugin| plugin.file_size());
        for plugin in by_size {
            // Whether it is refused is asked below.
            let _ = plugin.manifest();
        }
        let mut refused = Vec::new();
        let mut by_name: BTreeMap<String, Vec<(Plugin, Bound)>> = BTreeMap::new();
        for plugin in plugins {
            match claim(&plugin) {
                // The app's own workers, and Verger's, keep their names.
                Ok((name, _)) if registry.get(&name).is_some() => {
                    refused.push(PluginError::Duplicate { what: plugin.what(), name });
                }
                Ok((name, claim)) => by_name.entry(name).or_default().push((plugin, claim)),
                Err(error) => refused.push(error),
            }
        }
        refused.extend(self.take_names(registry, by_name, store).map_err(RegisterError::Store)?);
        Ok(refused)
    }

    /// Registers the dropped-in files that have their names; the refusals of the others.
    #[cfg(feature = "wasm")]
    fn take_names(
        &self,
        registry: &mut Registry,
        by_name: BTreeMap<String, Vec<(Plugin, Bound)>>,
        store: &mut NameStore<'_>,
    ) -> Result<Vec<PluginError>, StoreError> {
        let mut refused = Vec::new();
        let claims: BTreeMap<String, Vec<Bound>> = by_name
            .iter()
            .map(|(name, files)| {
                (name.clone(), files.iter().map(|(_, claim)| claim.clone()).collect())
            })
            .collect();
        let granted = |name: &str| self.grants.get(name).and_then(Grant::digest);
        let mut decided = store.decide(&claims, &granted)?;
        for (name, files) in by_name {
            let Some((decision, bound)) = decided.remove(&name) else { continue };
            let claimants: Vec<Bound> = files.iter().map(|(_, claim)| claim.clone()).collect();
            for (place, (plugin, _)) in files.into_iter().enumerate() {
                match worker::refusal(&name, &claimants, place, &decision, bound.as_ref()) {
                    Some(refusal) => refused.push(refusal),
                    None => refused.extend(self.register_plugin(registry, plugin).err()),
                }
            }
        }
        Ok(refused)
    }

    #[cfg(feature = "wasm")]
    fn register_plugin(&self, registry: &mut Registry, plugin: Plugin) -> Result<(), PluginError> {
        let (what, name) = (plugin.what(), plugin.manifest()?.name.clone());
        let grant = self.grants.get(&name).cloned().unwrap_or_default();
        if let Some(withheld) = grant.withholds(plugin.manifest()?) {
            tracing::warn!(%withheld, "a plugin runs without what it asks for");
        }
        registry.add(&name, &what, Registered::component(plugin, grant))
    }

    #[cfg(not(feature = "wasm"))]
    fn register_components(
        &mut self,
        _: &mut Registry,
        _: &mut NameStore<'_>,
    ) -> Result<Vec<PluginError>, RegisterError> {
        let folders = self
            .plugin_folders
            .iter()
            .chain(&self.plugin_files)
            .map(|path| path.display().to_string());
        let wanted: Vec<String> =
            folders.chain(self.components.iter().map(|(what, _)| what.clone())).collect();
        if !wanted.is_empty() {
            tracing::warn!(
                plugins = %wanted.join(", "),
                "this build of Verger has no WebAssembly (feature `wasm`): these workers do not run; enable the feature, or register native workers in their place"
            );
        }
        Ok(Vec::new())
    }
}

/// The name of a dropped-in file, and with what it claims it.
#[cfg(feature = "wasm")]
fn claim(plugin: &Plugin) -> Result<(String, Bound), PluginError> {
    let name = plugin.manifest()?.name.clone();
    let path = plugin.path().unwrap_or(std::path::Path::new(""));
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    Ok((name, Bound { digest: plugin.digest()?, source: path.display().to_string() }))
}

/// Where names are bound to components.
#[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "there are no components"))]
struct NameStore<'a> {
    front: &'a mut Connection,
    /// Opened to be read only: nothing is written down.
    looking: bool,
    now: crate::Timestamp,
}

/// Why the workers could not be registered.
enum RegisterError {
    Open(OpenError),
    #[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "no name is looked up"))]
    Store(StoreError),
}

impl<E: Into<OpenError>> From<E> for RegisterError {
    fn from(error: E) -> Self {
        Self::Open(error.into())
    }
}

#[cfg(feature = "wasm")]
type Decided = BTreeMap<String, (Decision, Option<Bound>)>;

#[cfg(feature = "wasm")]
impl NameStore<'_> {
    /// Whose each name is, and was. What is new is written down, in one transaction with the
    /// decision: of two processes that open at once, the second sees what the first decided.
    fn decide<'g>(
        &mut self,
        claims: &BTreeMap<String, Vec<Bound>>,
        granted: &dyn Fn(&str) -> Option<&'g str>,
    ) -> Result<Decided, StoreError> {
        let doing = "read the names of the plugins";
        if claims.is_empty() {
            return Ok(Decided::new());
        }
        let is_there = |path: &str| std::path::Path::new(path).exists();
        let decide = |connection: &Connection| -> rusqlite::Result<Decided> {
            let mut bound = worker::bound_names(connection)?;
            let of = |(name, claimants): (&String, &Vec<Bound>)| {
                let bound = bound.remove(name);
                let decision = worker::decide(claimants, bound.as_ref(), granted(name), is_there);
                (name.clone(), (decision, bound))
            };
            Ok(claims.iter().map(of).collect())
        };
        let decided = decide(self.front).doing(doing)?;
        let is_news = |(decision, _): &(Decision, _)| {
            matches!(decision, Decision::Owner { is_news: true, .. })
        };
        if self.looking || !decided.values().any(is_news) {
            return Ok(decided);
        }
        let doing = "write down the names of the plugins";
        let transaction =
            self.front.transaction_with_behavior(TransactionBehavior::Immediate).doing(doing)?;
        let decided = decide(&transaction).doing(doing)?;
        for (name, (decision, bound)) in &decided {
            let Decision::Owner { place, is_news: true } = decision else { continue };
            let Some(owner) = claims.get(name).and_then(|claimants| claimants.get(*place)) else {
                continue;
            };
            worker::bind_name(&transaction, name, owner, self.now).doing(doing)?;
            if let Some(before) = bound.as_ref().filter(|before| before.digest != owner.digest) {
                tracing::info!(worker = %name, file = %owner.source, before = %before.digest, now = %owner.digest, "a plugin was replaced by another version");
            }
        }
        transaction.commit().doing(doing)?;
        Ok(decided)
    }
}

/// The `.wasm` files of a folder, by name. What has that ending and is no file is among them: it is
/// refused, and so told of. A folder that is not there yet, as after a fresh install, is empty.
#[cfg(feature = "wasm")]
fn list(folder: &std::path::Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::info!(folder = %folder.display(), "the plugins folder is not there: no plugins");
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        match path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("wasm")) {
            true => files.push(path),
            false => {
                tracing::info!(path = %path.display(), "passed over: no .wasm, so no plugin");
            }
        }
    }
    files.sort();
    Ok(files)
}

impl Verger {
    /// Stores a schedule that belongs to no set of the app's code.
    pub(crate) fn store_schedule(&self, schedule: &Schedule) -> Result<(), ScheduleError> {
        let args = self.check_schedule(schedule)?;
        let now = self.inner.clock.now();
        self.inner.write("store the schedule", |connection| {
            schedule::upsert(connection, schedule, &args, None, now)
        })?;
        Ok(())
    }

    /// Stores the schedules the app's code registers, all or none, and retires those that its set
    /// has no more.
    fn register_set(
        &self,
        schedules: &[Schedule],
        set: &str,
        retires: Retires,
    ) -> Result<(), ScheduleError> {
        let mut names = HashSet::new();
        let mut checked = Vec::new();
        for schedule in schedules {
            if !names.insert(schedule.name.as_str()) {
                return Err(ScheduleError::Invalid {
                    name: schedule.name.clone(),
                    reason: "another schedule has the same name".to_string(),
                });
            }
            checked.push((schedule, self.check_schedule(schedule)?));
        }
        let doing = "store the schedules";
        let dropped = match retires {
            Retires::Dropped => schedule::dropped(&self.inner.front(), set, &names).doing(doing)?,
            Retires::None => Vec::new(),
        };
        if checked.is_empty() && dropped.is_empty() {
            return Ok(());
        }
        let now = self.inner.clock.now();
        let mut executor = self.inner.executor();
        executor.transaction(|connection| {
            let stored = checked.iter().try_for_each(|(schedule, args)| {
                schedule::upsert(connection, schedule, args, Some(set), now)
            });
            let retired =
                || dropped.iter().try_for_each(|name| schedule::retire(connection, name, now));
            stored.and_then(|()| retired()).doing(doing)
        })?;
        self.inner.put_back(executor);
        for name in dropped {
            tracing::info!(
                schedule = name,
                "the app registers this schedule no more: it is retired"
            );
        }
        Ok(())
    }

    /// Checks a schedule and its job: the text of its args.
    fn check_schedule(&self, schedule: &Schedule) -> Result<String, ScheduleError> {
        schedule.check()?;
        let (args, _) = self
            .inner
            .check_args(&schedule.job.worker, schedule.job.args.clone())
            .map_err(|error| refusal(schedule, error))?;
        self.inner.ready(schedule.job.clone()).map_err(|error| refusal(schedule, error))?;
        Ok(args.to_string())
    }
}

fn refusal(schedule: &Schedule, error: EnqueueError) -> ScheduleError {
    let name = schedule.name.clone();
    match error {
        EnqueueError::UnknownWorker { name: worker, known } => {
            ScheduleError::UnknownWorker { name, worker, known }
        }
        EnqueueError::Manifest(source) => ScheduleError::Args { name, source },
        EnqueueError::Plugin(source) => ScheduleError::Plugin { name, source },
        EnqueueError::Store(source) => ScheduleError::Store(source),
        other => ScheduleError::Invalid { name, reason: other.to_string() },
    }
}
