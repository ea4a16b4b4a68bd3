//! A worker under test, with no app around it.

use std::ops::Deref;
#[cfg(feature = "wasm")]
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value as Json;
use verger_worker::{Outcome, Worker};

use super::{LogLine, ManualClock, TestVerger, capture_logs, stop};
use crate::audit::{AuditFilter, AuditRow};
use crate::builder::Builder;
use crate::capability::CapabilityCall;
use crate::error::{OpenError, PerformError};
use crate::event::{Event, Subscription};
use crate::grant::Grant;
use crate::plugin_error::PluginError;
use crate::time::Timestamp;
use crate::verger::Verger;

/// A test of one worker: a `.wasm`, or plain Rust.
///
/// ```
/// use serde_json::json;
/// use verger::Grant;
/// use verger::testing::WorkerTest;
/// # let wasm = std::fs::read("plugins/prebuilt/reconcile-memberships.wasm")?;
/// # use verger::testing::TestVerger;
///
/// let worker = WorkerTest::component("reconcile-memberships.wasm", wasm)  // or WorkerTest::file("target/…/my_worker.wasm")
///     .grant(Grant::new().read("members").update("members"))
///     .sql("CREATE TABLE members (id TEXT PRIMARY KEY, organization_id TEXT, state TEXT, expires_at INTEGER);
///           INSERT INTO members VALUES ('m1', 'acme', 'active', 5);")
///     .open()?;
///
/// let performed = worker.perform(json!({"organization_id": "acme", "actor_id": null, "table": "members"}));
/// assert_eq!(performed.result(), &json!({"scanned": 1, "updated": 1, "errors": 0}));
/// assert_eq!(worker.rows("SELECT id, state FROM members"), [json!({"id": "m1", "state": "expired"})]);
/// assert_eq!(performed.audit[0].action, "membership.updated");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing happens before open()"]
pub struct WorkerTest {
    source: Source,
    grant: Option<Grant>,
    sql: Vec<String>,
    clock: ManualClock,
    builder: Builder,
}

enum Source {
    #[cfg(feature = "wasm")]
    File(PathBuf),
    #[cfg(feature = "wasm")]
    Bytes(String, Vec<u8>),
    /// Already in the builder, under this name.
    Native(String),
}

/// Compiled components of all tests, so that each is compiled once on a machine.
#[cfg(feature = "wasm")]
pub(super) fn shared_cache() -> crate::sandbox::CompileCache {
    // A folder of another user would be refused, because anyone who can write into it can run code
    // here.
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let user: String = user.chars().filter(char::is_ascii_alphanumeric).collect();
    crate::sandbox::CompileCache::Folder(
        std::env::temp_dir().join(format!("verger-test-cache-{user}")),
    )
}

impl WorkerTest {
    /// A test of the component in this file.
    #[cfg(feature = "wasm")]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(Source::File(path.into()))
    }

    /// A test of the component of these bytes. `what` names it in errors.
    #[cfg(feature = "wasm")]
    pub fn component(what: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(Source::Bytes(what.into(), bytes.into()))
    }

    /// A test of a worker in plain Rust, behind the same walls in the database.
    pub fn native(worker: impl Worker + Send + Sync + 'static) -> Self {
        let source = Source::Native(worker.manifest().name);
        let mut test = Self::of(source);
        test.builder = test.builder.worker(worker);
        test
    }

    fn of(source: Source) -> Self {
        let builder = Verger::in_memory().without_built_ins();
        Self {
            source,
            grant: None,
            sql: Vec::new(),
            clock: ManualClock::at(TestVerger::START),
            builder,
        }
    }

    /// Gives the worker this grant. Without it, the worker is granted what its manifest asks for.
    /// An app, in contrast, grants a dropped-in worker nothing by itself.
    pub fn grant(mut self, grant: Grant) -> Self {
        self.grant = Some(grant);
        self
    }

    /// Runs this SQL on the new database, after what was given before.
    pub fn sql(mut self, sql: impl Into<String>) -> Self {
        self.sql.push(sql.into());
        self
    }

    /// Starts at this instant instead of [`TestVerger::START`].
    pub fn at(self, now: impl Into<Timestamp>) -> Self {
        self.clock.set(now);
        self
    }

    /// Adds a function of the app: see [`Builder::capability`].
    pub fn capability(
        mut self,
        name: impl Into<String>,
        function: impl Fn(&CapabilityCall<'_>) -> Result<Json, String> + Send + Sync + 'static,
    ) -> Self {
        self.builder = self.builder.capability(name, function);
        self
    }

    /// Loads the worker and makes the database.
    ///
    /// # Errors
    /// [`OpenError::Worker`] with the reason why the component is refused.
    ///
    /// # Panics
    /// When the set-up SQL fails.
    #[track_caller]
    pub fn open(self) -> Result<TestedWorker, OpenError> {
        let grant = self.grant.unwrap_or_else(Grant::as_declared);
        let (name, builder) = add(self.source, self.builder)?;
        let test = TestVerger::open(builder.grant(name.clone(), grant), &self.clock)?;
        self.sql.iter().for_each(|sql| test.sql(sql));
        let events = test.subscribe();
        Ok(TestedWorker { name, test, events })
    }
}

/// Adds the worker to the builder, and returns its name.
fn add(source: Source, builder: Builder) -> Result<(String, Builder), PluginError> {
    #[cfg(feature = "wasm")]
    use crate::sandbox::{Plugin, Source as From};
    Ok(match source {
        Source::Native(name) => (name, builder),
        #[cfg(feature = "wasm")]
        Source::File(path) => {
            let what = path.display().to_string();
            let unreadable = |error: std::io::Error| PluginError::Unreadable {
                what: what.clone(),
                reason: error.to_string(),
            };
            let bytes = std::fs::read(&path).map_err(unreadable)?;
            return add(Source::Bytes(what, bytes), builder);
        }
        #[cfg(feature = "wasm")]
        Source::Bytes(what, bytes) => {
            let builder = builder.compile_cache(shared_cache());
            let plugin = Plugin::new(
                From::Bytes { name: what.clone(), bytes: bytes.clone() },
                builder.compiler(),
            );
            (plugin.manifest()?.name.clone(), builder.component(what, bytes))
        }
    })
}

/// A worker ready to be performed, in a [`TestVerger`] of its own.
#[derive(Debug)]
pub struct TestedWorker {
    name: String,
    test: TestVerger,
    events: Subscription,
}

impl Deref for TestedWorker {
    type Target = TestVerger;
    fn deref(&self) -> &TestVerger {
        &self.test
    }
}

/// What one attempt did. Apart from the log, only what was committed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Performed {
    /// What the worker returned, or why the attempt failed.
    pub outcome: Result<Outcome, PerformError>,
    /// Rows of the app's tables it changed.
    pub rows_changed: u64,
    /// What it wrote to the audit log, in order.
    pub audit: Vec<AuditRow>,
    /// What it published, in order.
    pub events: Vec<Event>,
    /// What it wrote to the log, and what Verger wrote there about it, committed or not.
    pub logs: Vec<LogLine>,
}

impl TestedWorker {
    /// The worker's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Performs one attempt: see [`TestVerger::perform_job`]. To test a job with its retries,
    /// enqueue it and [`drain`](TestVerger::drain).
    ///
    /// # Panics
    /// When the audit log cannot be read.
    #[track_caller]
    pub fn perform(&self, args: impl Serialize) -> Performed {
        let last = self.audit().last().map_or(0, |row| row.id);
        while self.events.try_next().is_some() {}
        let (performed, logs) = capture_logs(|| self.test.perform_job(&self.name, args));
        Performed {
            rows_changed: performed.as_ref().map_or(0, |performance| performance.rows_changed),
            outcome: performed.map(|performance| performance.outcome),
            audit: self.audit().into_iter().filter(|row| row.id > last).collect(),
            events: std::iter::from_fn(|| self.events.try_next()).collect(),
            logs,
        }
    }

    #[track_caller]
    fn audit(&self) -> Vec<AuditRow> {
        let mut rows = self
            .test
            .audit_log(&AuditFilter::default(), u32::MAX)
            .unwrap_or_else(|error| stop(&error.to_string()));
        rows.reverse();
        rows
    }
}

impl Performed {
    /// The JSON result.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn result(&self) -> &Json {
        match &self.outcome {
            Ok(Outcome::DoneWith(result)) => result,
            Ok(other) => stop(&format!("the worker returned {other:?}, no result")),
            Err(error) => stop(&format!("the attempt failed: {error}")),
        }
    }

    /// The failure, in words.
    ///
    /// # Panics
    /// When it did not fail.
    #[must_use]
    #[track_caller]
    pub fn error(&self) -> String {
        match &self.outcome {
            Err(error) => error.to_string(),
            Ok(outcome) => stop(&format!("the attempt did not fail, it returned {outcome:?}")),
        }
    }
}
