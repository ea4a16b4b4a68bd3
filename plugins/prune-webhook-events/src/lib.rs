//! Verger's built-in worker `prune-webhook-events`: deletes the providers' events some days after
//! they came. How many days depends on how taking them in ended.
//!
//! The table of events may be append-only, as the reference table is. Its triggers refuse a DELETE
//! unless a row of a second table opens the door. This worker opens it for one batch and shuts it
//! in the same transaction, so nobody else ever finds it open. One audit event for each batch says
//! how many were deleted. An event that the app keeps is counted, audited as an error, and does not
//! stop the others.

use serde_json::Value as Json;
use verger_worker::prelude::*;
use verger_worker::serde_json::Map;

pub mod door;

use door::Door;

/// The action in the audit log.
pub const ACTION: &str = "webhook_event.deleted";

/// The arg that says how long events of each status are kept, and its default in days. `None` keeps
/// them for ever.
pub const KEPT: [(&str, &str, Option<i64>); 3] = [
    ("succeeded", "succeeded_days", Some(14)),
    ("dead", "dead_days", Some(90)),
    ("failed", "failed_days", None),
];

const DAY_MS: i64 = 86_400_000;

/// A hundred thousand years: far from any overflow.
const MAX_RETENTION_DAYS: i64 = 36_500_000;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct PruneWebhookEvents;

impl Worker for PruneWebhookEvents {
    fn manifest(&self) -> Manifest {
        let mut manifest = Manifest::new("prune-webhook-events", env!("CARGO_PKG_VERSION"))
            .common_sql()
            .description("Deletes webhook events, some days after they came.")
            .arg(
                "table",
                ArgSpec::default_value("webhook_events")
                    .describe("The table or view of the events."),
            )
            .arg(
                "retention_table",
                ArgSpec::default_value("webhook_events_retention").describe(
                    "The table whose row lets events be deleted, with the columns id and keep_from; null where they can be deleted without.",
                ),
            )
            .arg("timestamps", TimeFormat::arg())
            .arg("batch_size", Walk::batch_size_arg(1000, "Rows deleted"))
            .table(TableAsk::from_arg("table", "webhook_events").read().delete())
            .table(
                TableAsk::from_arg("retention_table", "webhook_events_retention")
                    .read()
                    .insert()
                    .update()
                    .delete(),
            )
            .schedule(Suggested::Cron("40 3 * * *".into()));
        for (status, arg, days) in KEPT {
            let meaning =
                format!("Days an event that is {status} is kept: 1 or more; null: for ever.");
            let spec = ArgSpec::default_value(days.map_or(Json::Null, Json::from));
            manifest = manifest.arg(arg, spec.describe(meaning));
        }
        manifest
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let table = args.ident("table")?;
        let door = args.opt_ident("retention_table")?;
        let times = TimeFormat::from_args(args)?;
        let batch_size = Walk::batch_size(args)?;
        let mut kept = Vec::new();
        for (status, arg, default) in KEPT {
            if let Some(days) = retention(args, arg, default)? {
                kept.push((status, days, job.now() - days * DAY_MS));
            }
        }
        let of = |status| AgedRows { table: &table, column: "status", kind: status, times };
        for (status, _, cutoff) in &kept {
            of(status).check(job, *cutoff)?;
        }
        let (mut scanned, mut tally) = (0, AgedTally::default());
        for (status, days, cutoff) in kept {
            let metadata = Map::from_iter([("retention_days".to_string(), json!(days))]);
            let audit = AgedAudit { action: ACTION, subject: "webhook_event", metadata };
            let rows = of(status);
            let sweep = AgedSweep::new(rows, cutoff, &audit, &mut tally);
            let params = sweep.params();
            let door = door.as_ref().map(|table| Door { table, times, cutoff });
            let mut sweep = Sweep { door, sweep };
            scanned += job.sweep(&rows.walk(), &params, batch_size, scanned, &mut sweep)?;
        }
        Ok(Outcome::DoneWith(tally.result()))
    }
}

verger_worker::export!(PruneWebhookEvents);

/// Days, or `None` for ever.
fn retention(args: &Args, key: &str, default: Option<i64>) -> Result<Option<i64>, ArgError> {
    match args.as_map().get(key) {
        None => Ok(default),
        Some(Json::Null) => Ok(None),
        Some(_) => args.positive(key, MAX_RETENTION_DAYS).map(Some),
    }
}

/// The sweep of one status, through the door if there is one.
struct Sweep<'a> {
    door: Option<Door<'a>>,
    sweep: AgedSweep<'a>,
}

impl Sweeper for Sweep<'_> {
    fn batch(&mut self, job: &Context<'_>, rows: Vec<Row>) -> Result<(), HostError> {
        let Some(door) = &self.door else { return self.sweep.batch(job, rows) };
        // An error ends the attempt, and undoes what opened the door.
        let before = door.open(job)?;
        self.sweep.batch(job, rows)?;
        door.shut(job, before)
    }
}
