//! Verger's built-in worker `cleanup-expired-invitations`: deletes invitations that nobody
//! accepted, some days after they expired.
//!
//! Accepted invitations are history and stay for ever. One audit event for each batch and tenant
//! says how many were deleted. An invitation that the app's own trigger or constraint keeps is
//! counted, audited as an error, and does not stop the others.

use std::borrow::Cow;
use std::collections::BTreeMap;

use verger_worker::prelude::*;

pub mod sql;

/// The action in the audit log.
pub const ACTION: &str = "organization_invitation.deleted";

const DAY_MS: i64 = 86_400_000;

/// A hundred thousand years: far from any overflow.
const MAX_RETENTION_DAYS: i64 = 36_500_000;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct CleanupExpiredInvitations;

impl Worker for CleanupExpiredInvitations {
    fn manifest(&self) -> Manifest {
        Manifest::new("cleanup-expired-invitations", env!("CARGO_PKG_VERSION"))
            .common_sql()
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
            .arg("timestamps", TimeFormat::arg())
            .arg("batch_size", Walk::batch_size_arg(1000, "Rows deleted"))
            .table(TableAsk::from_arg("table", "organization_invitations").read().delete())
            .schedule(Suggested::Cron("0 3 * * *".into()))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        scope: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let table = args.ident("table")?;
        let times = TimeFormat::from_args(args)?;
        let retention_days = args.positive("retention_days", MAX_RETENTION_DAYS)?;
        let batch_size = Walk::batch_size(args)?;
        let cutoff = job.now() - retention_days * DAY_MS;
        let organization = scope.and_then(Scope::organization_id);
        times.check(job, &table, "expires_at", sql::OPEN, cutoff)?;
        let mut params = params![cutoff];
        params.extend(organization.map(Value::from_id).into_iter().flatten());
        let walk = sql::expired(&table, times, organization.is_some());
        let delete = sql::delete(&table, times);
        let mut sweep =
            Sweep { delete, organization, retention_days, cutoff, tally: AgedTally::default() };
        job.sweep(&walk, &params, batch_size, 0, &mut sweep)?;
        Ok(Outcome::DoneWith(sweep.tally.result()))
    }
}

verger_worker::export!(CleanupExpiredInvitations);

/// The statement of a run, and what it did.
struct Sweep<'a> {
    delete: String,
    organization: Option<&'a str>,
    retention_days: i64,
    cutoff: i64,
    tally: AgedTally,
}

/// How many invitations one DELETE counts for. A view's triggers may change more rows than one;
/// invitations without an id that are alike are deleted at once.
fn once(invitation: &[Value], rows: u64) -> u64 {
    if invitation[0] == Value::Null { rows } else { 1 }
}

impl Sweeper for Sweep<'_> {
    fn batch(&mut self, job: &Context<'_>, rows: Vec<Row>) -> Result<(), HostError> {
        let mut batch = Vec::with_capacity(rows.len());
        for mut row in rows {
            batch.push(vec![row.take(1)?, row.take(2)?, Value::from(self.cutoff)]);
        }
        let (mut events, mut errors) = (Vec::new(), 0);
        let mut deleted: BTreeMap<Option<Cow<'_, str>>, u64> = BTreeMap::new();
        for (invitation, result) in batch.iter().zip(job.execute_many(&self.delete, &batch)?) {
            match result {
                Ok(0) => {}
                Ok(rows) => {
                    *deleted.entry(self.tenant(invitation)).or_default() += once(invitation, rows);
                }
                Err(error) if error.concerns_one_row() => {
                    errors += 1;
                    events.push(self.refused(invitation, &error));
                }
                Err(error) => return Err(error),
            }
        }
        let mut total = 0;
        for (tenant, count) in deleted {
            total += count;
            events.push(self.done(tenant, count));
        }
        self.tally.deleted += total;
        self.tally.errors += errors;
        job.audit_batch(&events)
    }
}

impl Sweep<'_> {
    fn tenant<'a>(&'a self, invitation: &'a [Value]) -> Option<Cow<'a, str>> {
        self.organization.map(Cow::Borrowed).or_else(|| invitation[1].as_id())
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
