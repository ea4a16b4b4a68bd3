//! Verger's built-in worker `reconcile-webhook-events`: links webhook events that arrived before
//! their delivery was known.
//!
//! Such an orphan is never changed. Once its delivery is there, in the same tenant, a `reconciled`
//! event is appended beside it, what it reports is projected onto the delivery, and [`TOPIC`] is
//! published after the commit. Without a match the next run tries again, until the orphan is too
//! old: see [`sql::UNLIKELY_TO_RECONCILE`]. Give it a queue of its own with concurrency 1, and
//! unique jobs over 60 s. Two runs side by side are harmless, because the idempotency key lets only
//! one of them link.

use verger_worker::prelude::*;

mod link;
pub mod sql;

use link::{Linker, Links, Orphan};

/// The action in the audit log.
pub const ACTION: &str = "webhook_event.reconciled";

/// What is published for each link: `organization_id`, `delivery_id`, `event_id` (the orphan),
/// `reconciled_event_id`, `type`.
pub const TOPIC: &str = "delivery.reconciled";

/// The prefix of the appended event's idempotency key. The orphan's id follows. The event's id is
/// the same text, if ids are text.
pub const EVENT_PREFIX: &str = "reconciled:";

/// For this long the sender may still commit the delivery of a new event.
const GRACE_MS: i64 = 60_000;

const MINUTE_MS: i64 = 60_000;

/// A hundred years.
const MAX_AGE_MINUTES: i64 = 52_560_000;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReconcileWebhookEvents;

impl Worker for ReconcileWebhookEvents {
    fn manifest(&self) -> Manifest {
        Manifest::new("reconcile-webhook-events", env!("CARGO_PKG_VERSION"))
            .common_sql()
            .description("Links webhook events that arrived before their delivery was known.")
            .tenant_aware()
            .arg(
                "table",
                ArgSpec::default_value("webhook_events")
                    .describe("The table or view of the events."),
            )
            .arg(
                "deliveries_table",
                ArgSpec::default_value("deliveries")
                    .describe("The table or view of the deliveries."),
            )
            .arg(
                "max_age_minutes",
                ArgSpec::default_value(10_080)
                    .describe("Older orphans are left alone: 1 or more, 7 days by default."),
            )
            .arg(
                "timestamps",
                TimeFormat::arg()
                    .describe("How both keep time: unix_ms, unix_s or iso8601 (UTC text)."),
            )
            .arg("batch_size", Walk::batch_size_arg(1000, "Orphans looked at"))
            .table(TableAsk::from_arg("table", "webhook_events").read().insert())
            .table(TableAsk::from_arg("deliveries_table", "deliveries").read().update())
            .schedule(Suggested::Cron("*/5 * * * *".into()))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        scope: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let now = job.now();
        let events = args.ident("table")?;
        let deliveries = args.ident("deliveries_table")?;
        let times = TimeFormat::from_args(args)?;
        let oldest = now - args.positive("max_age_minutes", MAX_AGE_MINUTES)? * MINUTE_MS;
        let batch_size = Walk::batch_size(args)?;
        let organization = scope.and_then(Scope::organization_id);
        times.check(job, &events, "inserted_at", sql::ORPHANED, now)?;
        let mut params = params![now - GRACE_MS, oldest];
        params.extend(organization.map(Value::from_id).into_iter().flatten());
        let walk = sql::orphans(&events, &deliveries, times, organization.is_some());
        let linker = Linker::new(&events, &deliveries, times, organization, now);
        let mut sweep = Sweep { linker, tally: Tally::default() };
        sweep.tally.scanned = job.sweep(&walk, &params, batch_size, 0, &mut sweep)?;
        sweep.tally.note_malformed(job);
        Ok(Outcome::DoneWith(sweep.tally.result()))
    }
}

verger_worker::export!(ReconcileWebhookEvents);

struct Sweep<'a> {
    linker: Linker<'a>,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    scanned: u64,
    linked: u64,
    malformed: u64,
    errors: u64,
}

impl Tally {
    /// `scanned` and `linked`, and other counts that are not 0.
    fn result(&self) -> serde_json::Value {
        let mut result = serde_json::Map::new();
        let counts = [
            ("scanned", self.scanned),
            ("linked", self.linked),
            ("malformed", self.malformed),
            ("errors", self.errors),
        ];
        for (place, (key, count)) in counts.into_iter().enumerate() {
            if place < 2 || count > 0 {
                result.insert(key.to_string(), count.into());
            }
        }
        result.into()
    }

    fn note_malformed(&self, job: &Context<'_>) {
        if self.malformed > 0 {
            let line = format!(
                "{} orphans name no provider or no provider_message_id: they cannot be matched",
                self.malformed
            );
            job.log(LogLevel::Debug, &line);
        }
    }
}

impl Sweeper for Sweep<'_> {
    fn batch(&mut self, job: &Context<'_>, rows: Vec<Row>) -> Result<(), HostError> {
        let mut links = Links::default();
        for mut row in rows {
            self.sort_in(&mut row, &mut links)?;
        }
        let linked = self.linker.link(job, &links)?;
        self.tally.linked += linked.linked;
        self.tally.errors += linked.errors;
        Ok(())
    }
}

impl Sweep<'_> {
    /// Takes a link to make, a malformed orphan, or one whose delivery is not there yet.
    fn sort_in(&mut self, row: &mut Row, links: &mut Links) -> Result<(), HostError> {
        let (provider, message_id): (Option<String>, Option<String>) = (row.take(5)?, row.take(6)?);
        let (id, delivery_id): (Value, Value) = (row.take(1)?, row.take(7)?);
        let (Some(provider), Some(message_id), true) = (provider, message_id, id != Value::Null)
        else {
            self.tally.malformed += 1;
            return Ok(());
        };
        if delivery_id != Value::Null {
            let orphan = Orphan {
                id,
                organization_id: row.take(2)?,
                kind: row.take(3)?,
                occurred_at: row.take(4)?,
                provider,
                message_id,
                delivery_id,
                key: row.take(8)?,
            };
            self.linker.add(links, orphan);
        }
        Ok(())
    }
}
