//! A worker that does nothing: what is left of a job's time is the engine's.

use verger_worker::prelude::*;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noop;

impl Worker for Noop {
    fn manifest(&self) -> Manifest {
        Manifest::new("noop", env!("CARGO_PKG_VERSION")).description("Does nothing.")
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(Outcome::Done)
    }
}

verger_worker::export!(Noop);
