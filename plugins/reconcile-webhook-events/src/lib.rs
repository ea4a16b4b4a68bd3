//! Verger's built-in worker `reconcile-webhook-events`: links webhook events that arrived before
//! their delivery was known.
//!
//! Such an orphan is never changed. Once its delivery is there, in the same tenant, a `reconciled`
//! event is appended beside it, what it reports is projected onto the delivery, and [`TOPIC`] is
//! published after the commit. Without a match it is tried again by the next run, until it is too
//! old: see [`sql::UNLIKELY_TO_RECONCILE`]. It wants a queue of its own with concurrency 1, and
//! unique jobs over 60 s; two runs side by side are harmless, the idempotency key lets one of them
//! link.

use verger_worker::prelude::*;

mod link;
pub mod sql;

use link::{Linker, Links, Orphan};

/// The action in the audit log.
pub const ACTION: &str = "webhook_event.reconciled";

/// What is published for each link: `organization_id`, `delivery_id`, `event_id` (the orphan),
/// `reconciled_event_id`, `type`.
pub const TOPIC: &str = "delivery.reconciled";

/// The id and the idempotency key of the appended event are this and the orphan's id.
pub const EVENT_PREFIX: &str = "reconciled:";

/// An event this young may still see its delivery committed by the one who sent it.
const GRACE_MS: i64 = 60_000;

const MINUTE_MS: i64 = 60_000;

/// A hundred years.
const MAX_AGE_MINUTES: i64 = 52_560_000;

const MAX_BATCH: i64 = 10_000;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReconcileWebhookEvents;

impl Worker for ReconcileWebhookEvents {
    fn manifest(&self) -> Manifest {
        Manifest::new("reconcile-webhook-events", env!("CARGO_PKG_VERSION"))
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
                ArgSpec::default_value("unix_ms")
                    .describe("How both keep time: unix_ms, unix_s or iso8601 (UTC text)."),
            )
            .arg(
                "batch_size",
                ArgSpec::default_value(1000)
                    .describe("Orphans looked at between two commits: 1 to 10000."),
            )
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
        let sweep = Sweep::new(job.now(), scope, args)?;
        let mut tally = Tally::default();
        let mut place = Place { inserted_at: Value::Null, id: Value::from("") };
        loop {
            let read = sweep.read(job, &mut place, &mut tally)?;
            let linked = sweep.linker.link(job, &read.links)?;
            tally.scanned += read.rows;
            tally.linked += linked.linked;
            tally.errors += linked.errors;
            job.progress(tally.scanned, 0);
            if (read.rows as i64) < sweep.batch_size {
                tally.note_malformed(job);
                return Ok(Outcome::DoneWith(tally.result()));
            }
            job.checkpoint()?;
        }
    }
}

verger_worker::export!(ReconcileWebhookEvents);

/// What the args ask for.
struct Sweep<'a> {
    orphans: String,
    linker: Linker<'a>,
    organization: Option<&'a str>,
    youngest: i64,
    oldest: i64,
    batch_size: i64,
}

/// The last row read, in the order of insertion and id.
struct Place {
    inserted_at: Value,
    id: Value,
}

/// A batch: how many orphans it had, and the links to make.
struct Read {
    rows: u64,
    links: Links,
}

#[derive(Default)]
struct Tally {
    scanned: u64,
    linked: u64,
    malformed: u64,
    errors: u64,
}

impl Tally {
    /// `scanned` and `linked`, and what there is beside them.
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

impl<'a> Sweep<'a> {
    fn new(now: i64, scope: Option<&'a Scope>, args: &Args) -> Result<Self, ArgError> {
        let events = args.ident("table")?;
        let deliveries = args.ident("deliveries_table")?;
        let times = TimeFormat::from_args(args)?;
        let organization = scope.and_then(Scope::organization_id);
        Ok(Self {
            orphans: sql::orphans(&events, &deliveries, times, organization.is_some()),
            linker: Linker::new(&events, &deliveries, times, organization, now),
            organization,
            youngest: now - GRACE_MS,
            oldest: now - args.positive("max_age_minutes", MAX_AGE_MINUTES)? * MINUTE_MS,
            batch_size: args.positive("batch_size", MAX_BATCH)?,
        })
    }

    fn read(
        &self,
        job: &Context<'_>,
        place: &mut Place,
        tally: &mut Tally,
    ) -> Result<Read, HostError> {
        let mut params = params![
            self.youngest,
            self.oldest,
            place.inserted_at.clone(),
            place.id.clone(),
            self.batch_size
        ];
        params.extend(self.organization.map(Value::from));
        let mut read = Read { rows: 0, links: Links::default() };
        for row in job.query(&self.orphans, params)?.rows() {
            let mut row = row?;
            read.rows += 1;
            place.id = row.take(0)?;
            place.inserted_at = row.take(2)?;
            self.sort_in(&place.id, &mut row, &mut read.links, tally)?;
        }
        Ok(read)
    }

    /// A link to make, a malformed orphan, or one whose delivery is not there yet.
    fn sort_in(
        &self,
        id: &Value,
        row: &mut Row,
        links: &mut Links,
        tally: &mut Tally,
    ) -> Result<(), HostError> {
        let (provider, message_id): (Option<String>, Option<String>) = (row.take(5)?, row.take(6)?);
        let (Some(provider), Some(message_id), Some(id)) = (provider, message_id, id.as_id())
        else {
            tally.malformed += 1;
            return Ok(());
        };
        let delivery_id: Value = row.take(7)?;
        if delivery_id != Value::Null {
            let (organization_id, kind, occurred_at) = (row.take(1)?, row.take(3)?, row.take(4)?);
            let orphan = Orphan {
                id: &id,
                organization_id,
                kind,
                occurred_at,
                provider,
                message_id,
                delivery_id,
            };
            self.linker.add(links, orphan);
        }
        Ok(())
    }
}
