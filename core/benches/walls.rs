//! What the walls cost. A confined read is compared with the same read filtered by hand, a worker's
//! statements with the same ones on a connection without walls, and a job that does nothing with
//! the same component with nothing around it. `cargo bench --bench walls`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints, and stops at the first surprise"
)]

#[path = "common/bare.rs"]
mod bare;

use std::time::{Duration, Instant};

use bare::{Bare, NOOP};
use serde_json::json;
use verger::rusqlite::Connection;
use verger::verger_worker::prelude::*;
use verger::{Builder, Grant, NewJob, Verger};

const ROUNDS: usize = 9;

/// Runs a query or a statement so many times; answers with the nanoseconds it took.
struct Repeat;

impl Worker for Repeat {
    fn manifest(&self) -> Manifest {
        Manifest::new("repeat", "1.0.0")
            .tenant_aware()
            .table(TableAsk::named("orders").read().insert().update().delete())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let (sql, times): (String, i64) = (args.get("sql")?, args.get("times")?);
        let writes = !sql.starts_with("SELECT");
        // The transaction is begun, the statement is prepared.
        let mut began = None;
        for number in 0..=times {
            if number == 1 {
                began = Some(Instant::now());
            }
            if writes {
                job.execute(&sql, params![number])?;
            } else {
                let mut rows = 0;
                for row in job.query(&sql, params![number])?.rows() {
                    row?;
                    rows += 1;
                }
                std::hint::black_box(rows);
            }
        }
        Ok(Outcome::DoneWith(json!(
            began.map_or(0, |began| u64::try_from(began.elapsed().as_nanos()).unwrap_or(0))
        )))
    }
}

fn as_worker(verger: &Verger, organization: Option<&str>, sql: &str, times: i64) -> Duration {
    let args =
        json!({"organization_id": organization, "actor_id": null, "sql": sql, "times": times});
    Duration::from_nanos(
        verger.dry_run("repeat", args).unwrap().result().unwrap().as_u64().unwrap(),
    )
}

fn plainly(connection: &Connection, sql: &str, times: i64) -> Duration {
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let width = statement.column_count();
    let mut began = Instant::now();
    for number in 0..=times {
        if number == 1 {
            began = Instant::now();
        }
        if width == 0 {
            statement.execute([number]).unwrap();
        } else {
            // As a worker gets them: values of its own.
            let rows: Vec<Vec<verger::rusqlite::types::Value>> = statement
                .query_map([number], |row| (0..width).map(|place| row.get(place)).collect())
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            std::hint::black_box(rows.len());
        }
    }
    let took = began.elapsed();
    drop(statement);
    connection.execute_batch("ROLLBACK").unwrap();
    took
}

/// Jobs of one round.
const JOBS: usize = 2_000;

/// The bare component as a worker: claimed, ended, committed like any other.
struct AsWorker(Bare);

impl Worker for AsWorker {
    fn manifest(&self) -> Manifest {
        Manifest::new("noop", "1.0.0")
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        self.0.perform(&args.to_string());
        Ok(Outcome::Done)
    }
}

/// The time that so many jobs take, from the first claim to the last commit.
fn drained(add: impl FnOnce(Builder) -> Builder) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let verger =
        add(Verger::builder(folder.path().join("app.db")).without_built_ins()).open().unwrap();
    verger.enqueue_all((0..JOBS).map(|_| NewJob::new("noop", json!({})))).unwrap();
    let (began, mut performed) = (Instant::now(), 0);
    while performed < JOBS {
        performed += verger.tick(verger.now()).unwrap().attempts.len();
    }
    began.elapsed()
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let grant = Grant::new().write("orders").tenant_column("organization_id");
    let verger = Verger::builder(folder.path().join("bench.db"))
        .without_built_ins()
        .worker(Repeat)
        .grant("repeat", grant)
        .open()
        .unwrap();
    let app = verger.connect().unwrap();
    app.execute_batch(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, organization_id TEXT NOT NULL, state TEXT, total INTEGER);
         CREATE INDEX orders_of ON orders (organization_id, state);
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 100000)
         INSERT INTO orders SELECT n, 'org-' || (n % 100), CASE (n / 100) % 4 WHEN 0 THEN 'open' ELSE 'paid' END, n % 997 FROM n;",
    )
    .unwrap();
    println!(
        "{:52} {:>10} {:>10} {:>7}",
        "median of 9, side by side, for one", "without", "with", "ratio"
    );
    let reads = [
        (
            "read: 250 rows of a tenant, by index",
            "SELECT id, total FROM orders WHERE state = 'open' AND total >= -?1",
            200,
        ),
        (
            "read: sum over a tenant's 1,000 rows",
            "SELECT sum(total) FROM orders WHERE total >= -?1",
            200,
        ),
        ("read: count of a tenant's 1,000 rows", "SELECT count(*) FROM orders WHERE ?1 >= 0", 500),
        (
            "read: a tenant's row by its key",
            "SELECT total FROM orders WHERE id = 100 + ?1 * 0",
            5_000,
        ),
    ];
    for (what, sql, times) in reads {
        let by_hand = format!("{sql} AND organization_id = 'org-0'");
        compare(
            &format!("confined {what}"),
            times,
            || as_worker(&verger, None, &by_hand, times),
            || as_worker(&verger, Some("org-0"), sql, times),
        );
    }
    let update = "UPDATE orders SET total = total + 1 WHERE state = 'open' AND total >= -?1";
    compare(
        "confined write: 250 rows of a tenant",
        20,
        || as_worker(&verger, None, &format!("{update} AND organization_id = 'org-0'"), 20),
        || as_worker(&verger, Some("org-0"), update, 20),
    );
    let statements = [
        (
            "a sweep's read, 10,000 rows",
            "SELECT id, organization_id, total FROM orders WHERE total >= ?1 * 0 LIMIT 10000",
            20,
        ),
        (
            "a sweep's aggregate over 100,000 rows",
            "SELECT state, count(*), sum(total) FROM orders WHERE total >= -?1 GROUP BY state",
            10,
        ),
        (
            "a sweep's write, 10,000 rows",
            "UPDATE orders SET total = total + 1 WHERE id <= 10000 + ?1 * 0",
            10,
        ),
    ];
    for (what, sql, times) in statements {
        compare(
            &format!("not confined, {what}"),
            times,
            || plainly(&app, sql, times),
            || as_worker(&verger, None, sql, times),
        );
    }
    no_op_jobs();
}

fn no_op_jobs() {
    compare(
        "a job that does nothing, with its own commit",
        JOBS as i64,
        || drained(|builder| builder.worker(AsWorker(Bare::new()))),
        || drained(|builder| builder.component("noop.wasm", NOOP)),
    );
}

fn compare(what: &str, times: i64, without: impl Fn() -> Duration, with: impl Fn() -> Duration) {
    let (mut one, mut other): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|_| (without(), with())).unzip();
    one.sort_unstable();
    other.sort_unstable();
    let each = |taken: &[Duration]| taken[ROUNDS / 2].as_nanos() as f64 / times as f64 / 1e3;
    let (one, other) = (each(&one), each(&other));
    println!("{what:52} {one:8.1}µs {other:8.1}µs {:6.2}x", other / one);
}
