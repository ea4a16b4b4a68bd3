//! Verger's built-in worker `reconcile-memberships`: sets active and suspended memberships whose
//! time has run out to `expired`.
//!
//! It keeps the stored state up to date. Access is decided where the state is read, by a check that
//! looks at the expiry itself. Each change is audited with the state before and after, in the same
//! transaction. A membership that the app's own trigger or constraint refuses is counted, audited
//! as an error, and does not stop the others.

use std::borrow::Cow;

use verger_worker::prelude::*;

pub mod sql;

/// The action in the audit log.
pub const ACTION: &str = "membership.updated";

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReconcileMemberships;

impl Worker for ReconcileMemberships {
    fn manifest(&self) -> Manifest {
        Manifest::new("reconcile-memberships", env!("CARGO_PKG_VERSION"))
            .common_sql()
            .description(
                "Moves active and suspended memberships whose time has run out to expired.",
            )
            .tenant_aware()
            .arg(
                "table",
                ArgSpec::default_value("memberships")
                    .describe("The table or view of the memberships."),
            )
            .arg("timestamps", TimeFormat::arg())
            .arg(
                "updated_at_column",
                ArgSpec::optional()
                    .describe("A column to set to now with the state; none unless named."),
            )
            .arg("batch_size", Walk::batch_size_arg(1000, "Rows changed"))
            .table(TableAsk::from_arg("table", "memberships").read().update())
            .schedule(Suggested::EveryMs(300_000))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        scope: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let now = job.now();
        let table = args.ident("table")?;
        let times = TimeFormat::from_args(args)?;
        let updated_at = args.opt_ident("updated_at_column")?;
        let batch_size = Walk::batch_size(args)?;
        let organization = scope.and_then(Scope::organization_id);
        let mut params = params![now];
        params.extend(organization.map(Value::from_id).into_iter().flatten());
        for state in sql::STATES {
            times.check(job, &table, "expires_at", &sql::in_state(state), now)?;
        }
        let (mut scanned, mut tally) = (0, Tally::default());
        for state in sql::STATES {
            let walk = sql::stale(&table, state, times, organization.is_some());
            let expire = sql::expire(&table, state, times, updated_at.as_ref());
            let mut sweep = Sweep::new(expire, state, organization, now, &mut tally);
            scanned += job.sweep(&walk, &params, batch_size, scanned, &mut sweep)?;
        }
        Ok(Outcome::DoneWith(
            json!({ "scanned": scanned, "updated": tally.updated, "errors": tally.errors }),
        ))
    }
}

verger_worker::export!(ReconcileMemberships);

/// The sweep of one state.
struct Sweep<'a> {
    expire: String,
    organization: Option<&'a str>,
    now: i64,
    /// The audit event of a change, without whose it is.
    changed: AuditEvent,
    tally: &'a mut Tally,
}

#[derive(Default)]
struct Tally {
    updated: u64,
    errors: u64,
}

impl Sweeper for Sweep<'_> {
    fn batch(&mut self, job: &Context<'_>, rows: Vec<Row>) -> Result<(), HostError> {
        let mut batch = Vec::with_capacity(rows.len());
        for mut row in rows {
            batch.push(vec![row.take(1)?, row.take(2)?, Value::from(self.now)]);
        }
        let mut events = Vec::with_capacity(batch.len());
        for (membership, result) in batch.iter().zip(job.execute_many(&self.expire, &batch)?) {
            match result {
                Ok(0) => {} // renewed meanwhile
                Ok(rows) => {
                    // Alike ones without an id change at once. A view's triggers change more.
                    self.tally.updated += if membership[0] == Value::Null { rows } else { 1 };
                    events.push(self.about(membership, self.changed.clone()));
                }
                Err(error) if error.concerns_one_row() => {
                    self.tally.errors += 1;
                    let refused = AuditEvent::error(ACTION).subject("membership", "").cause(&error);
                    events.push(self.about(membership, refused));
                }
                Err(error) => return Err(error),
            }
        }
        job.audit_batch(&events)
    }
}

impl<'a> Sweep<'a> {
    fn new(
        expire: String,
        state: &str,
        organization: Option<&'a str>,
        now: i64,
        tally: &'a mut Tally,
    ) -> Self {
        let changed = AuditEvent::success(ACTION)
            .subject("membership", "")
            .before(json!({ "state": state }))
            .after(json!({ "state": "expired" }));
        Self { expire, organization, now, changed, tally }
    }

    /// The event, with the membership's id and tenant.
    fn about(&self, membership: &[Value], mut event: AuditEvent) -> AuditEvent {
        event.subject_id = membership[0].as_id().map(Cow::into_owned);
        event.organization_id = self
            .organization
            .map(str::to_string)
            .or_else(|| membership[1].as_id().map(Cow::into_owned));
        event
    }
}
