//! Closes orders that stayed open for too long, and counts them by day.

use verger_worker::prelude::*;

const DAY: i64 = 86_400_000;

/// The worker.
pub struct CloseStaleOrders;

impl Worker for CloseStaleOrders {
    fn manifest(&self) -> Manifest {
        Manifest::new("{{name}}", env!("CARGO_PKG_VERSION"))
            .description("Closes orders that stayed open for too long, and counts them by day.")
            .tenant_aware()
            .arg("days", ArgSpec::default_value(30).describe("Orders opened longer ago than so many days are closed."))
            .arg("batch_size", ArgSpec::default_value(100).describe("Orders between two commits."))
            .table(TableAsk::named("orders").read().update())
            .table(TableAsk::named("closings").read().insert().update())
    }

    fn perform(&self, job: &Context<'_>, _scope: Option<&Scope>, args: &Args) -> Result<Outcome, WorkerError> {
        let before = job.now() - args.positive("days", 36_500)? * DAY;
        let size = args.positive("batch_size", 10_000)?;
        let (mut closed, mut errors, mut last) = (0_u64, 0_u64, -1_i64);
        loop {
            // Paged by its key: a checkpoint closes what is being read.
            let page = job.query_all(
                "SELECT id, organization_id FROM orders WHERE state = 'open' AND opened_at < ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                params![before, last, size],
            )?;
            let found = page.len() as i64;
            for mut order in page {
                last = order.take(0)?;
                let organization: Option<String> = order.take(1)?;
                match close(job, last, organization.as_deref()) {
                    Ok(()) => closed += 1,
                    // One bad row does not stop the others; anything else ends the attempt.
                    Err(error) if error.concerns_one_row() => {
                        errors += 1;
                        let event = AuditEvent::new("order.not_closed", EventOutcome::Failure).organization(organization);
                        job.audit(event.subject("order", last.to_string()).metadata(json!({ "code": error.code })))?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            job.progress(closed + errors, 0);
            if found < size {
                return Ok(Outcome::DoneWith(json!({ "closed": closed, "errors": errors })));
            }
            job.checkpoint()?;
        }
    }
}

fn close(job: &Context<'_>, order: i64, organization: Option<&str>) -> Result<(), HostError> {
    let day = job.now() / DAY;
    // Dropped at an error, it is rolled back.
    let savepoint = job.savepoint()?;
    job.execute("UPDATE orders SET state = 'closed' WHERE id = ?1 AND state = 'open'", params![order])?;
    // UPDATE, then INSERT: a table confined to one organization takes no UPSERT.
    let known = job.execute(
        "UPDATE closings SET closed = closed + 1 WHERE organization_id IS ?1 AND day = ?2",
        params![organization, day],
    )?;
    if known == 0 {
        job.execute("INSERT INTO closings (organization_id, day, closed) VALUES (?1, ?2, 1)", params![organization, day])?;
    }
    let event = AuditEvent::success("order.closed").organization(organization.map(str::to_string));
    job.audit(event.subject("order", order.to_string()))?;
    savepoint.release()
}

verger_worker::export!(CloseStaleOrders);
