//! What is checked beside every attack: a worker that does its work, and a database that stays
//! whole.

use serde_json::json;
use verger::rusqlite::Connection;
use verger::verger_worker::prelude::*;
use verger::{AttemptOutcome, NewJob, Verger};

/// Gives its args back, and leaves an audit row.
pub(crate) struct Honest;

pub(crate) const HONEST: &str = "honest";

impl Worker for Honest {
    fn manifest(&self) -> Manifest {
        Manifest::new(HONEST, "1")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        job.audit(AuditEvent::success("job.done"))?;
        Ok(Outcome::DoneWith(args.as_map().clone().into()))
    }
}

/// That the file is whole, the log verifies, and the next job is performed.
pub(crate) fn goes_on(verger: &Verger, app: &Connection) -> Result<(), String> {
    let whole: String = app
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .map_err(|error| error.to_string())?;
    if whole != "ok" {
        return Err(format!("the database is not whole: {whole}"));
    }
    verger.verify_audit().map_err(|error| format!("the audit log does not verify: {error}"))?;
    let id = verger
        .enqueue(NewJob::new(HONEST, json!({"n": 1})).priority(0))
        .map_err(|error| format!("an honest job: {error}"))?
        .id;
    let report = verger.tick(verger.now()).map_err(|error| format!("a tick failed: {error}"))?;
    match report.attempts.iter().find(|attempt| attempt.job == id).map(|attempt| &attempt.outcome) {
        Some(AttemptOutcome::Completed(_)) => Ok(()),
        other => Err(format!("the honest job ended as {other:?}")),
    }
}
