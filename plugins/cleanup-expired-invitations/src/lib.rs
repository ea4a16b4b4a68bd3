//! Verger's built-in worker `cleanup-expired-invitations`: deletes invitations that nobody
//! accepted, some days after they expired.
//!
//! Accepted invitations are history and stay for ever. One audit event a batch and tenant says how
//! many went; an invitation that the app's own trigger or constraint keeps is counted, audited as
//! an error, and does not stop the others.

use std::borrow::Cow;
use std::collections::BTreeMap;

use verger_worker::prelude::*;

pub mod sql;

/// The action in the audit log.
pub const ACTION: &str = "organization_invitation.deleted";

const DAY_MS: i64 = 86_400_000;

/// A hundred thousand years: far from any overflow.
const MAX_RETENTION_DAYS: i64 = 36_500_000;

const MAX_BATCH: i64 = 10_000;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct CleanupExpiredInvitations;

impl Worker for CleanupExpiredInvitations {
    fn manifest(&self) -> Manifest {
        Manifest::new("cleanup-expired-invitations", env!("CARGO_PKG_VERSION"))
            .description(
                "Deletes invitations that were never accepted, some days after they expired.",
            )
            .tenant_aware()
            .arg(
                "retention_days",
                ArgSpec::default_value(30)
                    .describe("Days an expired invitation is kept: 1 or more."),
            )
            .arg(
                "table",
                ArgSpec::default_value("organization_invitations")
                    .describe("The table or view of the invitations."),
            )
            .arg(
                "timestamps",
                ArgSpec::default_value("unix_ms")
                    .describe("How it keeps time: unix_ms, unix_s or iso8601 (UTC text)."),
            )
            .arg(
                "batch_size",
                ArgSpec::default_value(1000)
                    .describe("Rows deleted between two commits: 1 to 10000."),
            )
            .table(TableAsk::from_arg("table", "organization_invitations").read().delete())
            .schedule(Suggested::Cron("0 3 * * *".into()))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        scope: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let sweep = Sweep::new(job.now(), scope, args)?;
        let mut tally = Tally::default();
        let mut place = Place::start();
        loop {
            let batch = sweep.read(job, &mut place)?;
            sweep.delete(job, &batch, &mut tally)?;
            tally.scanned += batch.len() as u64;
            job.progress(tally.scanned, 0);
            if (batch.len() as i64) < sweep.batch_size {
                return Ok(Outcome::DoneWith(tally.result()));
            }
            job.checkpoint()?;
        }
    }
}

verger_worker::export!(CleanupExpiredInvitations);

/// What the args ask for.
struct Sweep {
    select: String,
    delete: String,
    organization: Option<String>,
    retention_days: i64,
    cutoff: i64,
    batch_size: i64,
}

/// The last row read, in the order of expiry and id.
struct Place {
    expires_at: Value,
    id: Value,
}

#[derive(Default)]
struct Tally {
    scanned: u64,
    deleted: u64,
    errors: u64,
}

impl Place {
    /// Before every row: the smallest integer comes before all numbers, and as text before all
    /// texts that begin with a digit.
    fn start() -> Self {
        Self { expires_at: Value::from(i64::MIN), id: Value::from("") }
    }
}

impl Tally {
    fn result(&self) -> serde_json::Value {
        if self.errors == 0 {
            json!({ "deleted": self.deleted })
        } else {
            json!({ "deleted": self.deleted, "errors": self.errors })
        }
    }
}

impl Sweep {
    fn new(now: i64, scope: Option<&Scope>, args: &Args) -> Result<Self, ArgError> {
        let table = args.ident("table")?;
        let times = TimeFormat::from_args(args)?;
        let retention_days = args.positive("retention_days", MAX_RETENTION_DAYS)?;
        let organization = scope.and_then(Scope::organization_id).map(str::to_string);
        Ok(Self {
            select: sql::expired(&table, times, organization.is_some()),
            delete: sql::delete(&table, times),
            organization,
            retention_days,
            cutoff: now - retention_days * DAY_MS,
            batch_size: args.positive("batch_size", MAX_BATCH)?,
        })
    }

    /// The next batch, as the parameters of the DELETE.
    fn read(&self, job: &Context<'_>, place: &mut Place) -> Result<Vec<Vec<Value>>, HostError> {
        let mut params =
            params![self.cutoff, place.expires_at.clone(), place.id.clone(), self.batch_size];
        params.extend(self.organization.as_deref().map(Value::from));
        let mut batch = Vec::new();
        for row in job.query(&self.select, params)?.rows() {
            let mut row = row?;
            place.expires_at = row.take(2)?;
            batch.push(vec![row.take(0)?, row.take(1)?, Value::from(self.cutoff)]);
        }
        if let Some(last) = batch.last() {
            place.id = last[0].clone();
        }
        Ok(batch)
    }

    fn delete(
        &self,
        job: &Context<'_>,
        batch: &[Vec<Value>],
        tally: &mut Tally,
    ) -> Result<(), HostError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut events = Vec::new();
        let mut deleted: BTreeMap<Option<Cow<'_, str>>, u64> = BTreeMap::new();
        for (invitation, result) in batch.iter().zip(job.execute_many(&self.delete, batch)?) {
            match result {
                Ok(0) => {}
                Ok(_) => *deleted.entry(self.tenant(invitation)).or_default() += 1,
                Err(error) if error.concerns_one_row() => {
                    tally.errors += 1;
                    events.push(self.refused(invitation, &error));
                }
                Err(error) => return Err(error),
            }
        }
        for (tenant, count) in deleted {
            tally.deleted += count;
            events.push(self.done(tenant, count));
        }
        job.audit_batch(&events)
    }

    fn tenant<'a>(&'a self, invitation: &'a [Value]) -> Option<Cow<'a, str>> {
        self.organization.as_deref().map(Cow::Borrowed).or_else(|| invitation[1].as_id())
    }

    fn done(&self, tenant: Option<Cow<'_, str>>, count: u64) -> AuditEvent {
        AuditEvent::success(ACTION).organization(tenant.map(Cow::into_owned)).metadata(json!({
            "deleted": count,
            "retention_days": self.retention_days,
            "cutoff": self.cutoff,
        }))
    }

    fn refused(&self, invitation: &[Value], error: &HostError) -> AuditEvent {
        let id = invitation[0].as_id().unwrap_or_default();
        AuditEvent::error(ACTION)
            .organization(self.tenant(invitation).map(Cow::into_owned))
            .subject("organization_invitation", id)
            .cause(error)
    }
}
