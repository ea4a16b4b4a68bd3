//! Verger's built-in worker `cleanup-audit`: deletes rows of Verger's own audit log some days after
//! they were written.
//!
//! No worker's SQL reaches that log. This one asks the engine, which deletes the oldest rows in the
//! run's transaction and keeps the hash of the last one, so that what stays still verifies. What
//! was deleted is in the log, too.

use serde_json::Value as Json;
use verger_worker::prelude::*;

/// The engine's function that deletes: `{"before": unix milliseconds, "limit": rows}` →
/// `{"deleted": rows}`.
pub const CAPABILITY: &str = "verger.prune-audit";

/// The action in the audit log.
pub const ACTION: &str = "audit.pruned";

const DAY_MS: i64 = 86_400_000;

/// A hundred thousand years: far from any overflow.
const MAX_RETENTION_DAYS: i64 = 36_500_000;

const BATCH: u64 = 10_000;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct CleanupAudit;

impl Worker for CleanupAudit {
    fn manifest(&self) -> Manifest {
        Manifest::new("cleanup-audit", env!("CARGO_PKG_VERSION"))
            .description("Deletes rows of the audit log, some days after they were written.")
            .arg(
                "retention_days",
                ArgSpec::default_value(Json::Null)
                    .describe("Days a row is kept: 1 or more; null: for ever."),
            )
            .capability(CAPABILITY)
            .schedule(Suggested::Cron("30 3 * * *".into()))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let mut deleted = 0;
        if args.as_map().get("retention_days").is_none_or(Json::is_null) {
            return Ok(Outcome::DoneWith(json!({ "deleted": deleted })));
        }
        let retention_days = args.positive("retention_days", MAX_RETENTION_DAYS)?;
        let cutoff = job.now() - retention_days * DAY_MS;
        loop {
            let reply = job.call(CAPABILITY, &json!({"before": cutoff, "limit": BATCH}))?;
            let batch = reply["deleted"].as_u64().unwrap_or_default();
            deleted += batch;
            job.progress(deleted, 0);
            if batch > 0 {
                job.audit(AuditEvent::success(ACTION).metadata(json!({
                    "deleted": batch,
                    "retention_days": retention_days,
                    "cutoff": cutoff,
                })))?;
            }
            if batch < BATCH {
                return Ok(Outcome::DoneWith(json!({ "deleted": deleted })));
            }
            job.checkpoint()?;
        }
    }
}

verger_worker::export!(CleanupAudit);
