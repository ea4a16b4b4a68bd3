//! A sweep by a component, beside the same statements sent by a plain client.

use postgres::{Client, NoTls};
use serde_json::json;
use verger::NewJob;
use verger::postgres::{REFERENCE_TABLES, Verger};

use crate::common::{Contender, Result, seconds};
use crate::report;
use crate::server::Server;

/// Rows of one round, and how many between two commits.
const ROWS: usize = 20_000;
const BATCH: i64 = 1_000;

const NOW: i64 = 1_767_571_200_000;

const FILL: &str = "TRUNCATE memberships; INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at) \
     SELECT 'm' || n, 'org' || n % 200, 'u', 'active', n, 1, 1 FROM generate_series(1, 20000) AS n; ANALYZE memberships";

const READ: &str = "SELECT expires_at, id, organization_id FROM memberships WHERE state = 'active' AND state IN ('active', 'suspended') \
     AND expires_at < $1 AND (expires_at, id, organization_id) > ($2, $3, $4) \
     ORDER BY expires_at NULLS FIRST, id NULLS FIRST, organization_id NULLS FIRST LIMIT $5";

const EXPIRE: &str = "UPDATE memberships SET state = 'expired' WHERE id = $1 AND organization_id = $2 \
     AND state = 'active' AND expires_at < $3";

const AUDIT: &str = "INSERT INTO plain_audit (at, action, outcome, organization_id, actor_id, worker, worker_version, subject_type, subject_id, \
     before, after, hash) VALUES ($1, 'membership.updated', 'success', $2, 'sweeper', 'reconcile-memberships', '0.1.0', 'membership', $3, \
     '{\"state\":\"active\"}', '{\"state\":\"expired\"}', $4) RETURNING id";

const PLAIN_AUDIT: &str = "CREATE TABLE plain_audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at bigint, action text, outcome text, \
     organization_id text, actor_id text, worker text, worker_version text, subject_type text, subject_id text, before text, after text, hash bytea)";

pub(crate) fn sweep(server: &Server) -> Result<()> {
    let url = server.database()?;
    let mut client = Client::connect(&url, NoTls)?;
    client.batch_execute(REFERENCE_TABLES)?;
    client.batch_execute(PLAIN_AUDIT)?;
    let builder = Verger::builder(&url).built_in("reconcile-memberships");
    client.batch_execute(&builder.role_grants()?)?;
    let verger = builder.open()?;
    let url = &url;
    let mut contenders: Vec<Contender<'_>> = vec![
        ("a plain client: read, update, note each", Box::new(move || plain(url))),
        ("the component reconcile-memberships", Box::new(move || component(url, &verger))),
    ];
    report("Sweep 20,000 rows, rows/s", &mut contenders, &[None, Some(0)])
}

fn plain(url: &str) -> Result<f64> {
    let mut client = Client::connect(url, NoTls)?;
    client.batch_execute(FILL)?;
    let (read, expire, audit) =
        (client.prepare(READ)?, client.prepare(EXPIRE)?, client.prepare(AUDIT)?);
    let mut last = (i64::MIN, String::new(), String::new());
    let mut done = 0;
    let took = seconds(|| {
        loop {
            let mut batch = client.transaction()?;
            let rows = batch.query(&read, &[&NOW, &last.0, &last.1, &last.2, &BATCH])?;
            let Some(end) = rows.last() else { return Ok(()) };
            last = (end.get(0), end.get(1), end.get(2));
            for row in &rows {
                let (id, organization): (&str, &str) = (row.get(1), row.get(2));
                done += batch.execute(&expire, &[&id, &organization, &NOW])?;
            }
            for row in &rows {
                let (id, organization): (&str, &str) = (row.get(1), row.get(2));
                batch.query_one(&audit, &[&NOW, &organization, &id, &[0_u8; 32].as_slice()])?;
            }
            batch.commit()?;
        }
    })?;
    anyhow::ensure!(done == ROWS as u64, "{done} rows were swept");
    Ok(ROWS as f64 / took)
}

fn component(url: &str, verger: &Verger) -> Result<f64> {
    Client::connect(url, NoTls)?.batch_execute(FILL)?;
    let args = json!({"organization_id": null, "actor_id": "sweeper", "batch_size": BATCH});
    let id = verger.enqueue(NewJob::new("reconcile-memberships", args))?.id;
    let took = seconds(|| {
        verger.tick(verger.now())?;
        Ok(())
    })?;
    let result = verger.job(id)?.and_then(|job| job.result).unwrap_or_default();
    anyhow::ensure!(result["updated"] == ROWS, "{result}");
    Ok(ROWS as f64 / took)
}
