//! A worker whose code is a closure of the test.

use verger::verger_worker::prelude::*;

type Perform =
    dyn Fn(&Context<'_>, Option<&Scope>, &Args) -> Result<Outcome, WorkerError> + Send + Sync;

pub(crate) struct Scripted {
    manifest: Manifest,
    perform: Box<Perform>,
}

/// A worker of this name.
pub(crate) fn worker(
    name: &str,
    perform: impl Fn(&Context<'_>, &Args) -> Result<Outcome, WorkerError> + Send + Sync + 'static,
) -> Scripted {
    scripted(Manifest::new(name, "1.0.0"), move |job, _, args| perform(job, args))
}

/// A worker with this manifest.
pub(crate) fn scripted(
    manifest: Manifest,
    perform: impl Fn(&Context<'_>, Option<&Scope>, &Args) -> Result<Outcome, WorkerError>
    + Send
    + Sync
    + 'static,
) -> Scripted {
    Scripted { manifest, perform: Box::new(perform) }
}

impl Worker for Scripted {
    fn manifest(&self) -> Manifest {
        self.manifest.clone()
    }

    fn perform(
        &self,
        job: &Context<'_>,
        scope: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        (self.perform)(job, scope, args)
    }
}
