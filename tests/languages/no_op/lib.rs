//! Does nothing.

use verger_worker::prelude::*;

/// The worker.
pub struct NoOp;

impl Worker for NoOp {
    fn manifest(&self) -> Manifest {
        Manifest::new("no-op", env!("CARGO_PKG_VERSION"))
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

verger_worker::export!(NoOp);
