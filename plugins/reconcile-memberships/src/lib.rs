//! Verger's built-in worker `reconcile-memberships`: moves active and suspended memberships whose
//! time has run out to `expired`.
//!
//! It keeps the stored state honest; access is decided where the state is read, by a check that
//! looks at the expiry itself. Each change is audited with the state before and after, in the same
//! transaction. A membership that the app's own trigger or constraint holds back is counted,
//! audited as an error, and does not stop the others.

use std::borrow::Cow;

use verger_worker::prelude::*;

pub mod sql;

/// The action in the audit log.
pub const ACTION: &str = "membership.updated";

const MAX_BATCH: i64 = 10_000;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReconcileMemberships;

impl Worker for ReconcileMemberships {
    fn manifest(&self) -> Manifest {
        Manifest::new("reconcile-memberships", env!("CARGO_PKG_VERSION"))
            .description(
                "Moves active and suspended memberships whose time has run out to expired.",
            )
            .tenant_aware()
            .arg(
                "table",
                ArgSpec::default_value("memberships")
                    .describe("The table or view of the memberships."),
            )
            .arg(
                "timestamps",
                ArgSpec::default_value("unix_ms")
                    .describe("How it keeps time: unix_ms, unix_s or iso8601 (UTC text)."),
            )
            .arg(
                "updated_at_column",
                ArgSpec::optional()
                    .describe("A column to set to now with the state; none unless named."),
            )
            .arg(
                "batch_size",
                ArgSpec::default_value(1000)
                    .describe("Rows changed between two commits: 1 to 10000."),
            )
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
        let mut tally = Tally::default();
        for state in sql::STATES {
            Sweep::new(now, state, scope, args)?.run(job, &mut tally)?;
        }
        Ok(Outcome::DoneWith(
            json!({ "scanned": tally.scanned, "updated": tally.updated, "errors": tally.errors }),
        ))
    }
}

verger_worker::export!(ReconcileMemberships);

/// What the args ask for, in one state.
struct Sweep<'a> {
    select: String,
    expire: String,
    organization: Option<&'a str>,
    now: i64,
    batch_size: i64,
    /// The audit event of a change, but for whose it is.
    changed: AuditEvent,
}

/// The last row read, in the order of expiry and id.
struct Place {
    expires_at: Value,
    id: Value,
}

#[derive(Default)]
struct Tally {
    scanned: u64,
    updated: u64,
    errors: u64,
}

impl Place {
    /// Before every row: the smallest integer comes before all numbers, and as text before all
    /// texts that begin with a digit.
    fn start() -> Self {
        Self { expires_at: Value::from(i64::MIN), id: Value::from("") }
    }
}

impl<'a> Sweep<'a> {
    fn new(now: i64, state: &str, scope: Option<&'a Scope>, args: &Args) -> Result<Self, ArgError> {
        let table = args.ident("table")?;
        let times = TimeFormat::from_args(args)?;
        let organization = scope.and_then(Scope::organization_id);
        Ok(Self {
            select: sql::stale(&table, state, times, organization.is_some()),
            expire: sql::expire(
                &table,
                state,
                times,
                args.opt_ident("updated_at_column")?.as_ref(),
            ),
            organization,
            now,
            batch_size: args.positive("batch_size", MAX_BATCH)?,
            changed: AuditEvent::success(ACTION)
                .subject("membership", "")
                .before(json!({ "state": state }))
                .after(json!({ "state": "expired" })),
        })
    }

    fn run(&self, job: &Context<'_>, tally: &mut Tally) -> Result<(), HostError> {
        let mut place = Place::start();
        loop {
            let batch = self.read(job, &mut place)?;
            self.expire(job, &batch, tally)?;
            tally.scanned += batch.len() as u64;
            job.progress(tally.scanned, 0);
            if (batch.len() as i64) < self.batch_size {
                return Ok(());
            }
            job.checkpoint()?;
        }
    }

    /// The next batch, as the parameters of the UPDATE.
    fn read(&self, job: &Context<'_>, place: &mut Place) -> Result<Vec<Vec<Value>>, HostError> {
        let mut params =
            params![self.now, place.expires_at.clone(), place.id.clone(), self.batch_size];
        params.extend(self.organization.map(Value::from));
        let mut batch = Vec::new();
        for row in job.query(&self.select, params)?.rows() {
            let mut row = row?;
            place.expires_at = row.take(2)?;
            batch.push(vec![row.take(0)?, row.take(1)?, Value::from(self.now)]);
        }
        if let Some(last) = batch.last() {
            place.id = last[0].clone();
        }
        Ok(batch)
    }

    fn expire(
        &self,
        job: &Context<'_>,
        batch: &[Vec<Value>],
        tally: &mut Tally,
    ) -> Result<(), HostError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut events = Vec::with_capacity(batch.len());
        for (membership, result) in batch.iter().zip(job.execute_many(&self.expire, batch)?) {
            match result {
                Ok(0) => {} // renewed meanwhile
                Ok(_) => {
                    tally.updated += 1;
                    events.push(self.about(membership, self.changed.clone()));
                }
                Err(error) if error.concerns_one_row() => {
                    tally.errors += 1;
                    let refused = AuditEvent::error(ACTION).subject("membership", "").cause(&error);
                    events.push(self.about(membership, refused));
                }
                Err(error) => return Err(error),
            }
        }
        job.audit_batch(&events)
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
