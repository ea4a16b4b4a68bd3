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

/// Which schedules an open takes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retires {
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
            #[cfg(feature = "wasm")]
            cache: CompileCache::default(),
            #[cfg(feature = "wasm")]
            ahead: Ahead::default(),
            #[cfg(feature = "wasm")]
            compile_limit: COMPILE_LIMIT,
        }
    }

    /// Calls this whenever an attempt fails in this process: to be tried again, or for good. A job
    /// that a crash of another process took down counts where it is taken back.
    ///
    /// It is called after the commit, on the thread that performed the job: the next one of its
    /// queue waits until it returns, so what takes long belongs on a thread of the app's, behind
    /// [`Verger::events`](crate::Verger::events). It may use Verger. Its panic is caught and logged.
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

    /// Calls this for every event, as [`on_failure`](Self::on_failure) does for failures, and for
    /// those that other processes write too.
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
    /// the write lock: the function keeps other writers waiting as long as it lasts (a log line names
    /// it after 100 ms), and if it writes to the same database by another connection (an enqueue,
    /// too) it waits for itself until its 10 s are over and fails. Register it as
    /// [slow](Self::slow_capability) then, or let the worker publish an event instead.
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

    /// Registers a schedule. One whose expression is unchanged keeps its next slot; a new or a
    /// changed one starts from now.
    ///
    /// The database remembers which schedules the app's code registered. One that it registers no
    /// more is retired at the next [`open`](Self::open): it makes no jobs any more, and its ledger
    /// says so. One that was added by an operator, or by [`Verger::add_schedule`](crate::Verger::add_schedule), stays.
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

    /// Opens an encrypted file with this key, or makes one. It comes first on every connection that
    /// Verger opens: before its first pragma, and before [`connection_setup`](Self::connection_setup).
    /// See [`Key`].
    pub fn key(mut self, key: Key) -> Self {
        self.location = self.location.with_key(key);
        self
    }

    /// Sets up every connection workers use: register here the SQL functions and collations that
    /// the app's tables depend on.
    ///
    /// A worker may call those functions that are registered as
    /// [innocuous](https://www.sqlite.org/c3ref/c_deterministic.html#sqliteinnocuous): ones that
    /// only compute. The others are denied in its statements; SQLite allows them in no view or
    /// trigger either, for these connections do not trust the schema.
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

    /// Brings the machine code of a component, compiled ahead by `verger plugin compile` or by
    /// [`compile_component`](crate::compile_component): most often with `include_bytes!`. It is used
    /// for the component it was made from, wherever that comes from, if it fits this build and this
    /// machine; otherwise it is passed over. A build without the feature `compile` runs no others
    /// than those that are here or in the [`compile_cache`](Self::compile_cache).
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
    /// can keep the app from starting. What is not compiled by then is refused
    /// ([`PluginError::TooSlow`](crate::PluginError::TooSlow), [`PluginError::NoTimeLeft`](crate::PluginError::NoTimeLeft)); smaller files come before larger
    /// ones. Those in the [`compile_cache`](Self::compile_cache) take none of it, nor do the
    /// built-in workers. Default 60 s: a worker compiles in well under one, an interpreter of 18 MB
    /// in 15 s where the compiler is optimised, and in minutes where it is not.
    ///
    /// A plugin whose code could keep the compiler busy for long is refused before
    /// ([`PluginError::TooComplex`](crate::PluginError::TooComplex)). So a compiler that is stopped ends soon: after the step it is
    /// at, on one function.
    #[cfg(feature = "wasm")]
    pub fn compile_limit(mut self, limit: Duration) -> Self {
        self.compile_limit = limit;
        self
    }

    /// Opens the file to look at it and nothing else: it is not created, migrated, or marked as
    /// open, no job of a process that died is taken back, and every call that would write fails.
    /// The file must have been opened for writing before; a database in memory never was, and is
    /// refused.
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
