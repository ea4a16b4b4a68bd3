//! Opening a Verger: the database, the workers, the schedules.

mod capabilities;
mod components;
mod execution;
mod open;
mod workers;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value as Json;
use verger_worker::Worker;

use crate::capability::{Capabilities, CapabilityCall, Speed};
use crate::clock::{Clock, SystemClock};
use crate::engine::{GroupCommit, Queues, Settings};
use crate::event::{Callback, LifecycleEvent};
use crate::grant::Grant;
use crate::metrics::Counters;
use crate::queue::{Backoff, Queue, Retention};
#[cfg(feature = "wasm")]
use crate::sandbox::{Ahead, CompileCache};
use crate::schedule::Schedule;
use crate::store::{ConnectionSetup, Durability, Key, Location};

/// How long a claim holds when nothing renews it.
const LEASE: Duration = Duration::from_secs(120);

/// How many threads may perform jobs, unless the app says otherwise.
const THREADS: usize = 8;

/// How long the audit log is kept at least.
const KEEP_AUDIT: Duration = Duration::from_secs(86_400);

/// How long compiling the plugins may take at one open.
#[cfg(feature = "wasm")]
const COMPILE_LIMIT: Duration = Duration::from_secs(60);

/// Which schedules an open retires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retires {
    /// Those that its set had once and has no more.
    Dropped,
    /// None.
    None,
}

/// The settings of a Verger. Nothing happens before [`open`](Self::open).
#[must_use = "nothing happens before open()"]
pub struct Builder {
    location: Location,
    durability: Durability,
    setup: Option<ConnectionSetup>,
    clock: Arc<dyn Clock>,
    native: Vec<Box<dyn Worker + Send + Sync>>,
    plugin_folders: Vec<PathBuf>,
    plugin_files: Vec<PathBuf>,
    components: Vec<(String, Vec<u8>)>,
    built_ins: bool,
    grants: HashMap<String, Grant>,
    plugin_grant: Option<Grant>,
    approved_grant: Grant,
    capabilities: Capabilities,
    schedules: Vec<Schedule>,
    schedule_set: String,
    read_only: bool,
    retires: Retires,
    settings: Settings,
    queues: Vec<Queue>,
    lease: Duration,
    keep_audit: Duration,
    callbacks: Vec<Callback>,
    counters: Arc<Counters>,
    /// It is opened to be moved.
    moves: bool,
    #[cfg(feature = "wasm")]
    cache: CompileCache,
    #[cfg(feature = "wasm")]
    ahead: Ahead,
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
            plugin_grant: None,
            approved_grant: Grant::new(),
            capabilities: Capabilities::default(),
            schedules: Vec::new(),
            schedule_set: String::new(),
            read_only: false,
            retires: Retires::Dropped,
            settings: Settings {
                backoff: Backoff::default(),
                backoffs: HashMap::new(),
                queues: Queues::default(),
                threads: THREADS,
                retention: Retention::default(),
                group_commit: GroupCommit::On,
                is_the_app: true,
            },
            queues: Vec::new(),
            lease: LEASE,
            keep_audit: KEEP_AUDIT,
            callbacks: Vec::new(),
            counters: Arc::default(),
            moves: false,
            #[cfg(feature = "wasm")]
            cache: CompileCache::default(),
            #[cfg(feature = "wasm")]
            ahead: Ahead::default(),
            #[cfg(feature = "wasm")]
            compile_limit: COMPILE_LIMIT,
        }
    }

    /// Calls this whenever an attempt fails in this process, whether it is made again or the job
    /// has failed for good. If a process crashed, the process that takes its job back makes the
    /// call.
    ///
    /// It is called after the commit, on the thread that performed the job. The next job of its
    /// queue waits until it returns, so long work belongs on a thread of the app's that reads
    /// [`Verger::events`](crate::Verger::events). It may use Verger. Its panic is caught and
    /// logged.
    ///
    /// ```
    /// use verger::{EventKind, Verger};
    /// let verger = Verger::in_memory()
    ///     .on_failure(|event| {
    ///         if let EventKind::Discarded { job, error } = &event.kind {
    ///             eprintln!("job {} of {} failed: {}", job.id, job.worker, error.message);
    ///         }
    ///     })
    ///     .open()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_failure(self, call: impl Fn(&LifecycleEvent) + Send + Sync + 'static) -> Self {
        self.calls_back(true, call)
    }

    /// Calls this for every event, those that other processes write included. It is called as
    /// [`on_failure`](Self::on_failure) is.
    pub fn on_event(self, call: impl Fn(&LifecycleEvent) + Send + Sync + 'static) -> Self {
        self.calls_back(false, call)
    }

    fn calls_back(
        mut self,
        failures_only: bool,
        call: impl Fn(&LifecycleEvent) + Send + Sync + 'static,
    ) -> Self {
        self.callbacks.push(Callback { failures_only, call: Box::new(call) });
        self
    }

    /// Registers a function that workers may call by this name, when granted. It runs on the
    /// worker's thread. If the worker has written since its last checkpoint, its transaction holds
    /// the write lock, and other writers wait as long as the function lasts. A log line names it
    /// after 100 ms. If the function then writes to the same database by another connection, an
    /// enqueue included, it waits for its own worker and fails after 10 s. Register such a function
    /// as [slow](Self::slow_capability), or let the worker publish an event instead.
    ///
    /// ```
    /// use serde_json::json;
    /// use verger::Verger;
    ///
    /// let verger = Verger::in_memory()
    ///     .capability("greet", |call| Ok(json!({ "greeting": format!("hello, {}", call.request["name"]) })))
    ///     .open()?;
    /// # Ok::<(), verger::Error>(())
    /// ```
    pub fn capability(
        mut self,
        name: impl Into<String>,
        function: impl Fn(&CapabilityCall<'_>) -> Result<Json, String> + Send + Sync + 'static,
    ) -> Self {
        self.capabilities.add(name.into(), Speed::Quick, function);
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
        self.capabilities.add(name.into(), Speed::Slow, function);
        self
    }

    /// Registers a schedule. If its expression is unchanged, it keeps its next slot. A new or a
    /// changed one starts from now.
    ///
    /// The database remembers which schedules the app's code registered. One that the code
    /// registers no more is retired at the next [`open`](Self::open): it makes no more jobs, and
    /// its ledger says so. One that an operator or
    /// [`Verger::add_schedule`](crate::Verger::add_schedule) added stays.
    ///
    /// ```
    /// use serde_json::json;
    /// use verger::{Schedule, Verger};
    ///
    /// let nightly = Schedule::cron("nightly-audit", "0 3 * * *")?
    ///     .worker("cleanup-audit")
    ///     .args(json!({"table": "audit_log", "retention_days": 90}))
    ///     .for_all_organizations();
    /// let verger = Verger::in_memory().schedule(nightly).open()?;
    /// # Ok::<(), verger::Error>(())
    /// ```
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedules.push(schedule);
        self
    }

    /// Names the set of schedules this program registers. An open retires the schedules that its
    /// own set has lost. Programs that open one file with different schedules each need a set of
    /// their own, so that none retires those of another.
    pub fn schedule_set(mut self, name: impl Into<String>) -> Self {
        self.schedule_set = name.into();
        self
    }

    /// Retires no schedule at this open. It is for a program that opens the app's file and does not
    /// know the app's schedules, as the command `verger` does. Such an open is no start of the app
    /// for `@reboot` schedules either. In such a program they fire once for each start of the
    /// machine, where the system tells one start from the next (Linux). Elsewhere they fire if they
    /// never did.
    pub fn keep_schedules(mut self) -> Self {
        self.retires = Retires::None;
        self.settings.is_the_app = false;
        self
    }

    /// Reads time from this clock instead of the system's.
    ///
    /// ```
    /// use verger::testing::ManualClock;
    /// use verger::{Timestamp, Verger};
    ///
    /// let clock = ManualClock::at(Timestamp::from_millis(1_767_225_600_000));
    /// let verger = Verger::in_memory().clock(clock.clone()).open()?;
    /// clock.advance(std::time::Duration::from_secs(3600));
    /// assert_eq!(verger.now().as_millis(), 1_767_225_600_000 + 3_600_000);
    /// # Ok::<(), verger::Error>(())
    /// ```
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// What a commit survives. Default [`Durability::Normal`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Opens an encrypted file with this key, or makes one. The key is set first on every
    /// connection that Verger opens, before any pragma and before
    /// [`connection_setup`](Self::connection_setup). See [`Key`].
    pub fn key(mut self, key: Key) -> Self {
        self.location = self.location.with_key(key);
        self
    }

    /// Sets up every connection that workers use. Register here the SQL functions and collations
    /// that the app's tables depend on.
    ///
    /// A worker may call the functions that are registered as
    /// [innocuous](https://www.sqlite.org/c3ref/c_deterministic.html#sqliteinnocuous): those that
    /// only compute. The others are denied in its statements. SQLite denies them in views and
    /// triggers too, because these connections do not trust the schema.
    ///
    /// ```
    /// use verger::Verger;
    /// use verger::rusqlite::functions::FunctionFlags;
    ///
    /// let flags = FunctionFlags::SQLITE_UTF8
    ///     | FunctionFlags::SQLITE_DETERMINISTIC
    ///     | FunctionFlags::SQLITE_INNOCUOUS;
    /// let verger = Verger::in_memory()
    ///     .connection_setup(move |connection| {
    ///         connection.create_scalar_function("slug", 1, flags, |call| {
    ///             Ok(call.get::<String>(0)?.to_lowercase().replace(' ', "-"))
    ///         })
    ///     })
    ///     .open()?;
    /// # Ok::<(), verger::Error>(())
    /// ```
    pub fn connection_setup(
        mut self,
        setup: impl Fn(&Connection) -> rusqlite::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.setup = Some(Arc::new(setup));
        self
    }

    /// How long rows of the audit log are kept at least, whatever the worker `cleanup-audit` is
    /// told. That worker is the only one that deletes rows of the log. Default a day.
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

    /// Adds the machine code of a component, compiled ahead by `verger plugin compile` or by
    /// [`compile_component`](crate::compile_component), most often with `include_bytes!`. It is
    /// used for the component it was made from, wherever that comes from, if it fits this build and
    /// this machine. Otherwise it is ignored. A build without the feature `compile` runs only
    /// components that have their machine code here or in the
    /// [`compile_cache`](Self::compile_cache).
    ///
    /// # Safety
    /// The bytes are what one of these two made, and nobody has changed them: they are run.
    #[cfg(feature = "wasm")]
    #[allow(unsafe_code, reason = "machine code is run: only the app can vouch for it")]
    pub unsafe fn compiled(mut self, artefact: impl Into<std::borrow::Cow<'static, [u8]>>) -> Self {
        self.ahead.add(artefact.into());
        self
    }

    /// How long compiling plugins may take at one [`open`](Self::open), all together, so that none
    /// can keep the app from starting. Smaller files come before larger ones. What is not compiled
    /// by then is refused with [`PluginError::TooSlow`](crate::PluginError::TooSlow) or
    /// [`PluginError::NoTimeLeft`](crate::PluginError::NoTimeLeft). Components in the
    /// [`compile_cache`](Self::compile_cache), the app's own
    /// ([`component`](Self::component)) and the built-in workers do not count. Default 60 s.
    /// A worker compiles in well under one second. An interpreter of 18 MB takes 15 s where the
    /// compiler is optimised, and minutes where it is not.
    ///
    /// A plugin whose code could keep the compiler busy for long is refused before that, with
    /// [`PluginError::TooComplex`](crate::PluginError::TooComplex). So a compiler that is told to
    /// stop does so soon, after the step it is at on one function.
    #[cfg(feature = "wasm")]
    pub fn compile_limit(mut self, limit: Duration) -> Self {
        self.compile_limit = limit;
        self
    }

    /// Opens a file whose move was begun.
    #[cfg(feature = "postgres")]
    pub(crate) fn for_a_move(mut self) -> Self {
        self.moves = true;
        self
    }

    /// Opens the file only to read it. It is not created, migrated, or marked as open. No job of a
    /// process that died is taken back, and every call that would write fails. The file must have
    /// been opened for writing before. A database in memory is refused.
    ///
    /// ```
    /// use verger::{JobFilter, Verger};
    ///
    /// let path = std::env::temp_dir().join("verger-read-only-example.db");
    /// drop(Verger::builder(&path).open()?);
    /// let looking = Verger::builder(&path).read_only().open()?;
    /// assert!(looking.jobs(&JobFilter::default(), 10)?.is_empty());
    /// # drop(looking); let _ = std::fs::remove_file(path);
    /// # Ok::<(), verger::Error>(())
    /// ```
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}
