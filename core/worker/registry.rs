//! The workers of one Verger.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use verger_worker::{Args, Context, Manifest, ManifestError, Outcome, Scope, Worker};

use crate::grant::Grant;
use crate::plugin_error::PluginError;
use crate::run::{AttemptError, Ended, Run};
#[cfg(feature = "wasm")]
use crate::sandbox::Plugin;

/// A worker that is part of the app.
type Native = Box<dyn Worker + Send + Sync>;

/// A worker and its grant.
pub(crate) struct Registered {
    pub(crate) grant: Grant,
    code: Code,
}

enum Code {
    Native {
        worker: Native,
        manifest: Box<Manifest>,
    },
    #[cfg(feature = "wasm")]
    Component(Box<Plugin>),
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
        Ok(Self { grant, code: Code::Native { worker, manifest: Box::new(manifest) } })
    }

    #[cfg(feature = "wasm")]
    pub(crate) fn component(plugin: Plugin, grant: Grant) -> Self {
        Self { grant, code: Code::Component(Box::new(plugin)) }
    }

    /// What the worker says of itself. The first call prepares a component: compiled, or loaded
    /// from the cache.
    pub(crate) fn manifest(&self) -> Result<&Manifest, PluginError> {
        match &self.code {
            Code::Native { manifest, .. } => Ok(manifest),
            #[cfg(feature = "wasm")]
            Code::Component(plugin) => plugin.manifest(),
        }
    }

    /// The SHA-256 of a component, in hexadecimal digits; `None` for a worker that is part of the
    /// app.
    pub(crate) fn digest(&self) -> Result<Option<String>, PluginError> {
        match &self.code {
            Code::Native { .. } => Ok(None),
            #[cfg(feature = "wasm")]
            Code::Component(plugin) => plugin.digest().map(Some),
        }
    }

    /// Whether a job must say for which tenant it runs: the worker asks for it, or the app confines
    /// the worker, whatever that says of itself.
    pub(crate) fn has_tenant(&self, manifest: &Manifest) -> bool {
        manifest.tenant_aware || self.grant.confines()
    }

    pub(crate) fn check_args(&self, manifest: &Manifest, args: &Args) -> Result<(), ManifestError> {
        manifest.check_args_of(args, self.has_tenant(manifest))
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

    /// Performs one attempt. The run comes back, unless a panic took it.
    pub(crate) fn perform(
        &self,
        run: Run,
        args: &Args,
    ) -> (Option<Run>, Result<Ended, AttemptError>) {
        match &self.code {
            Code::Native { worker, .. } => perform_native(&**worker, run, args),
            #[cfg(feature = "wasm")]
            Code::Component(plugin) => plugin.perform(run, args),
        }
    }
}

fn perform_native(
    worker: &dyn Worker,
    run: Run,
    args: &Args,
) -> (Option<Run>, Result<Ended, AttemptError>) {
    let scope: Option<Scope> = run.scope().cloned();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        worker.perform(&Context::new(&run), scope.as_ref(), args)
    }));
    let ended = match outcome {
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
    };
    (Some(run), ended)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// All workers, by name.
#[derive(Default)]
pub(crate) struct Registry {
    workers: BTreeMap<String, Arc<Registered>>,
}

impl Registry {
    /// Adds a worker under the name it was given or gave itself.
    pub(crate) fn add(
        &mut self,
        name: &str,
        what: &str,
        worker: Registered,
    ) -> Result<(), PluginError> {
        if self.workers.contains_key(name) {
            return Err(PluginError::Duplicate { what: what.to_string(), name: name.to_string() });
        }
        worker.check_digest(name, what)?;
        self.workers.insert(name.to_string(), Arc::new(worker));
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Registered>> {
        self.workers.get(name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Registered> {
        self.workers.values().map(Arc::as_ref)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.workers.keys().map(String::as_str)
    }

    /// The names, for an error message.
    pub(crate) fn known(&self) -> String {
        match self.workers.is_empty() {
            true => "none".to_string(),
            false => self.names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        }
    }
}
