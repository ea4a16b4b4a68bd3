//! The workers of one Verger.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU32;
#[cfg(feature = "wasm")]
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use serde_json::Value as Json;
use verger_worker::{Args, Context, Host, Manifest, ManifestError, Outcome, Scope, Worker};

use crate::grant::Grant;
use crate::plugin_error::PluginError;
use crate::queue::{EnqueueError, NewJob, PerformedBy, Ready};
#[cfg(feature = "wasm")]
use crate::run::GuestRun as PerformableRun;
#[cfg(not(feature = "wasm"))]
use crate::run::WorkerRun as PerformableRun;
use crate::run::{AttemptError, Ended, Unmigrated};
#[cfg(feature = "wasm")]
use crate::sandbox::Plugin;

/// A worker that is part of the app.
type Native = Box<dyn Worker + Send + Sync>;

/// How many first attempts of a new version must fail in a row before the log says so.
#[cfg(feature = "wasm")]
const FIRST_FAILURES: u32 = 3;

/// A worker and its grant. Neither changes. A new version replaces it in the registry, and an
/// attempt that has begun keeps what it began with.
pub(crate) struct Registered {
    pub(crate) grant: Grant,
    code: Code,
    /// It waits for someone's consent, and none of its jobs is claimed.
    waits: bool,
    trial: Option<Trial>,
    performed_by: OnceLock<Arc<PerformedBy>>,
}

enum Code {
    Native {
        worker: Native,
        manifest: Box<Manifest>,
    },
    #[cfg(feature = "wasm")]
    Component(Arc<Plugin>),
}

/// How the first attempts of a new version go.
#[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "only components are replaced"))]
struct Trial {
    /// The version it replaced.
    before: String,
    /// Attempts that failed since then, all from the first on. `u32::MAX` once one went well.
    failures: AtomicU32,
}

impl Registered {
    pub(crate) fn native(worker: Native, grant: Grant) -> Result<Self, PluginError> {
        let manifest = catch_unwind(AssertUnwindSafe(|| worker.manifest())).map_err(|_| {
            PluginError::Describe {
                what: "a native worker".to_string(),
                reason: "its manifest() panicked".to_string(),
            }
        })?;
        manifest.check().map_err(|source| PluginError::Manifest {
            what: format!("the native worker `{}`", manifest.name),
            source,
        })?;
        let code = Code::Native { worker, manifest: Box::new(manifest) };
        Ok(Self { grant, code, waits: false, trial: None, performed_by: OnceLock::new() })
    }

    #[cfg(feature = "wasm")]
    pub(crate) fn component(plugin: Arc<Plugin>, grant: Grant) -> Self {
        let code = Code::Component(plugin);
        Self { grant, code, waits: false, trial: None, performed_by: OnceLock::new() }
    }

    /// Says whether it waits for someone's consent.
    #[cfg(feature = "wasm")]
    pub(crate) fn waiting(mut self, waits: bool) -> Self {
        self.waits = waits;
        self
    }

    /// Whether it waits for someone's consent. When it is called directly, it has what it was
    /// granted so far.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Says that it is new and replaces this version.
    #[cfg(feature = "wasm")]
    pub(crate) fn after(mut self, version: String) -> Self {
        self.trial = Some(Trial { before: version, failures: AtomicU32::new(0) });
        self
    }

    /// Prepares a component that is only known by name so far: compiles it, or loads it from the
    /// cache.
    pub(crate) fn prepare(&self) -> Result<(), PluginError> {
        match &self.code {
            Code::Native { .. } => Ok(()),
            #[cfg(feature = "wasm")]
            Code::Component(plugin) => plugin.prepare(),
        }
    }

    /// What a job's row says of the code that performed it.
    pub(crate) fn performed_by(&self) -> Result<&Arc<PerformedBy>, PluginError> {
        if let Some(known) = self.performed_by.get() {
            return Ok(known);
        }
        let by = PerformedBy { version: self.manifest()?.version.clone(), digest: self.digest()? };
        Ok(self.performed_by.get_or_init(|| Arc::new(by)))
    }

    /// Notes how an attempt ended. If all the first attempts of a new version fail, the log says
    /// so.
    #[cfg(feature = "wasm")]
    pub(crate) fn note(&self, went_well: bool) {
        let Some(trial) = &self.trial else { return };
        if went_well {
            trial.failures.store(u32::MAX, Ordering::Relaxed);
            return;
        }
        let more = |failures: u32| failures.checked_add(1);
        let counted = trial.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if counted == Ok(FIRST_FAILURES - 1)
            && let Ok(manifest) = self.manifest()
        {
            tracing::warn!(worker = %manifest.name, version = %manifest.version, before = %trial.before,
                "the first attempts of this version have all failed: `verger plugin rollback {}` takes the version before back", manifest.name);
        }
    }

    #[cfg(not(feature = "wasm"))]
    pub(crate) fn note(&self, _: bool) {
        let _ = &self.trial;
    }

    /// What the worker says of itself. The first call prepares a component: compiles it, or loads
    /// it from the cache.
    pub(crate) fn manifest(&self) -> Result<&Manifest, PluginError> {
        match &self.code {
            Code::Native { manifest, .. } => Ok(manifest),
            #[cfg(feature = "wasm")]
            Code::Component(plugin) => plugin.manifest(),
        }
    }

    /// The SHA-256 of a component, in hexadecimal digits. `None` for a worker that is part of the
    /// app.
    pub(crate) fn digest(&self) -> Result<Option<String>, PluginError> {
        match &self.code {
            Code::Native { .. } => Ok(None),
            #[cfg(feature = "wasm")]
            Code::Component(plugin) => plugin.digest().map(Some),
        }
    }

    /// Whether a job must say for which tenant it runs, because the worker asks for it, or because
    /// the app confines the worker, whatever it says of itself.
    pub(crate) fn has_tenant(&self, manifest: &Manifest) -> bool {
        manifest.tenant_aware || self.grant.confines()
    }

    pub(crate) fn check_args(
        &self,
        manifest: &Manifest,
        args: &Args,
        version: u32,
    ) -> Result<(), ManifestError> {
        manifest.check_args_of(args, version, self.has_tenant(manifest))
    }

    /// The newest version of its args that it takes. As long as that is not known it counts as any
    /// version, because a component is not compiled only to learn it.
    pub(crate) fn newest_args(&self) -> u32 {
        self.known_manifest().map_or(u32::MAX, |manifest| manifest.args_version)
    }

    /// What the worker says of itself, as far as that is known without preparing a component.
    pub(crate) fn known_manifest(&self) -> Option<&Manifest> {
        match &self.code {
            Code::Native { manifest, .. } => Some(manifest),
            #[cfg(feature = "wasm")]
            Code::Component(plugin) => plugin.known_manifest(),
        }
    }

    /// Brings args of an earlier version into the present form. Their scope stays.
    pub(crate) fn migrate_args(&self, from: u32, args: &Args) -> Result<Args, Unmigrated> {
        let migrated = match &self.code {
            Code::Native { worker, .. } => migrate_native(&**worker, from, args.clone()),
            #[cfg(feature = "wasm")]
            Code::Component(plugin) => plugin.migrate_args(from, args),
        };
        migrated.map(|migrated| Manifest::keep_scope(args, migrated))
    }

    /// Whether it is a built-in worker with the grant it comes with.
    pub(crate) fn has_all_it_declares(&self) -> bool {
        let is_built_in = match &self.code {
            Code::Native { .. } => false,
            #[cfg(feature = "wasm")]
            Code::Component(plugin) => plugin.is_built_in(),
        };
        is_built_in && self.grant.is_as_declared() && !self.grant.confines()
    }

    /// Refuses code that its grant is not for.
    fn check_digest(&self, name: &str, what: &str) -> Result<(), PluginError> {
        let Some(granted) = self.grant.digest() else { return Ok(()) };
        let found = self.digest()?.unwrap_or_else(|| "a part of the app".to_string());
        if found == granted {
            return Ok(());
        }
        Err(PluginError::OtherDigest {
            what: what.to_string(),
            name: name.to_string(),
            granted: granted.to_string(),
            found,
        })
    }

    /// Whether it runs in the sandbox.
    #[cfg(feature = "postgres")]
    pub(crate) fn is_component(&self) -> bool {
        !matches!(self.code, Code::Native { .. })
    }

    /// Whether it says that its SQL means the same on both stores.
    #[cfg(feature = "postgres")]
    pub(crate) fn knows_both_stores(&self) -> bool {
        self.known_manifest().is_some_and(Manifest::is_for_both_stores)
    }

    /// Performs one attempt. The run comes back, unless a panic took it.
    pub(crate) fn perform<R: PerformableRun>(
        &self,
        run: R,
        args: &Args,
    ) -> (Option<R>, Result<Ended, AttemptError>) {
        match &self.code {
            Code::Native { worker, .. } => {
                let ended = perform_native(&**worker, &run, run.task().scope.as_ref(), args);
                (Some(run), ended)
            }
            #[cfg(feature = "wasm")]
            Code::Component(plugin) => plugin.perform(run, args),
        }
    }
}

fn migrate_native(worker: &dyn Worker, from: u32, args: Args) -> Result<Args, Unmigrated> {
    match catch_unwind(AssertUnwindSafe(|| worker.migrate_args(from, args))) {
        Ok(Ok(migrated)) => Ok(migrated),
        Ok(Err(error)) => Err(Unmigrated::Refused(AttemptError::of_native(error))),
        Err(panic) => Err(Unmigrated::Failed(AttemptError::new(
            "panic",
            format!("migrate_args panicked: {}", panic_message(&*panic)),
        ))),
    }
}

fn perform_native(
    worker: &dyn Worker,
    host: &dyn Host,
    scope: Option<&Scope>,
    args: &Args,
) -> Result<Ended, AttemptError> {
    let outcome =
        catch_unwind(AssertUnwindSafe(|| worker.perform(&Context::new(host), scope, args)));
    match outcome {
        Ok(Ok(Outcome::Done)) => Ok(Ended::Done(None)),
        Ok(Ok(Outcome::DoneWith(result))) => Ok(Ended::Done(Some(result))),
        Ok(Ok(Outcome::Failed(error))) => Err(AttemptError::of_native(error)),
        Ok(Ok(Outcome::Discard(error))) => Ok(Ended::Discard(AttemptError::of_native(error))),
        Ok(Ok(Outcome::Snooze(seconds))) => Ended::snooze(seconds),
        Ok(Ok(Outcome::Cancel(reason))) => Ok(Ended::Cancel(reason)),
        Ok(Err(error)) if error.is_final() => Ok(Ended::Discard(AttemptError::of_native(error))),
        Ok(Err(error)) => Err(AttemptError::of_native(error)),
        Err(panic) => Err(AttemptError::new(
            "panic",
            format!("the worker panicked: {}", panic_message(&*panic)),
        )),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Workers by name.
pub(crate) type Workers = BTreeMap<String, Arc<Registered>>;

/// The workers there are now. They can change at any time, so whoever needs more than one answer
/// asks one [`snapshot`](Self::snapshot).
#[derive(Default)]
pub(crate) struct Registry {
    workers: RwLock<Arc<Workers>>,
}

impl Registry {
    /// Adds a worker that is part of the app, under the name it was given or gave itself.
    pub(crate) fn add(
        &self,
        name: &str,
        what: &str,
        worker: Registered,
    ) -> Result<(), PluginError> {
        if self.get(name).is_some() {
            return Err(PluginError::Duplicate { what: what.to_string(), name: name.to_string() });
        }
        worker.check_digest(name, what)?;
        self.put(name, worker);
        Ok(())
    }

    /// Replaces the worker that had the name, if any had.
    pub(crate) fn put(&self, name: &str, worker: Registered) {
        self.change(|workers| workers.insert(name.to_string(), Arc::new(worker)));
    }

    /// Removes a worker. Its jobs wait from now on.
    #[cfg(feature = "wasm")]
    pub(crate) fn remove(&self, name: &str) {
        self.change(|workers| workers.remove(name));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Workers) -> T) {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        // What was removed is dropped after the lock is released, because releasing a component's
        // memory takes a while.
        let _out = change(Arc::make_mut(&mut workers));
        drop(workers);
    }

    /// The workers there are at this moment.
    pub(crate) fn snapshot(&self) -> Arc<Workers> {
        Arc::clone(&self.workers.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Registered>> {
        self.workers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Checks a job's worker, and its args against that worker, with nothing filled in. `version`
    /// is that of the args, if the job says one.
    pub(crate) fn check_args(
        &self,
        worker: &str,
        args: Json,
        version: Option<u32>,
    ) -> Result<(Args, Arc<Registered>), EnqueueError> {
        let registered = self.registered(worker)?;
        let manifest = registered.manifest()?;
        let args = Args::from_json(args)
            .map_err(|source| EnqueueError::Args { worker: worker.to_string(), source })?;
        registered.check_args(manifest, &args, version.unwrap_or(manifest.args_version))?;
        Ok((args, registered))
    }

    pub(crate) fn manifest(&self, worker: &str) -> Result<Manifest, EnqueueError> {
        Ok(self.registered(worker)?.manifest()?.clone())
    }

    pub(crate) fn registered(&self, worker: &str) -> Result<Arc<Registered>, EnqueueError> {
        self.get(worker).ok_or_else(|| EnqueueError::UnknownWorker {
            name: worker.to_string(),
            known: self.known(),
        })
    }

    /// A job that was checked against its worker.
    pub(crate) fn ready(&self, mut job: NewJob) -> Result<Ready, EnqueueError> {
        let (args, registered) = self.check_args(&job.worker, job.args.take(), job.args_version)?;
        let manifest = registered.manifest()?;
        Ready::new(job, &args, Some(manifest), registered.has_tenant(manifest))
    }

    /// The names, for an error message.
    pub(crate) fn known(&self) -> String {
        let workers = self.snapshot();
        match workers.is_empty() {
            true => "none".to_string(),
            false => workers.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        }
    }
}
