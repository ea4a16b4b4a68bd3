//! What the walls around a worker's SQL hold back: other tables, other tenants, names that were
//! forged.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod changes;
mod views;

use serde_json::{Value as Json, json};
use verger::verger_worker::prelude::*;
use verger::{Grant, PerformError, Verger};

/// Sends the SQL of its args and answers with the rows, or with the number of rows changed.
struct Sql;

impl Worker for Sql {
    fn manifest(&self) -> Manifest {
        let all = |table: &str| TableAsk::named(table).read().insert().update().delete();
        Manifest::new("sql", "1.0.0")
            .tenant_aware()
            .table(all("orders"))
            .table(all("lines"))
            .table(all("rates"))
            .table(all("open_orders"))
            .table(all("notes"))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let sql: String = args.get("sql")?;
        if args.opt::<bool>("execute")?.unwrap_or(false) {
            return Ok(Outcome::DoneWith(json!(job.execute(&sql, params![])?)));
        }
        let rows = job.query(&sql, params![])?.rows().collect::<Result<Vec<_>, _>>()?;
        let json = |value: &Value| match value {
            Value::Null => Json::Null,
            Value::Integer(number) => json!(number),
            Value::Real(number) => json!(number),
            Value::Text(text) => json!(text),
            Value::Blob(bytes) => json!(bytes),
        };
        Ok(Outcome::DoneWith(
            rows.iter().map(|row| Json::Array(row.values().iter().map(json).collect())).collect(),
        ))
    }
}

const SCHEMA: &str = "
    CREATE TABLE orders (id INTEGER PRIMARY KEY, organization_id TEXT NOT NULL, total INTEGER NOT NULL DEFAULT 7, state TEXT, card TEXT);
    CREATE INDEX orders_of ON orders (organization_id, state);
    CREATE TABLE lines (order_id INTEGER, place INTEGER, organization_id TEXT, what TEXT, PRIMARY KEY (order_id, place)) WITHOUT ROWID;
    CREATE TABLE notes (organization_id TEXT, text TEXT);
    CREATE TABLE rates (name TEXT PRIMARY KEY, rate REAL);
    CREATE TABLE secrets (id INTEGER PRIMARY KEY, organization_id TEXT, word TEXT);
    CREATE TABLE log (what TEXT);
    CREATE VIEW open_orders AS SELECT id, organization_id, total FROM orders WHERE state = 'open';
    CREATE TRIGGER orders_logged AFTER UPDATE ON orders BEGIN INSERT INTO log VALUES (OLD.id); END;
    INSERT INTO orders (id, organization_id, total, state, card) VALUES (1, 'a', 10, 'open', 'x'), (2, 'a', 20, 'paid', 'x'), (3, 'b', 30, 'open', 'y'), (4, 'b', 40, 'open', 'y');
    INSERT INTO lines VALUES (1, 1, 'a', 'tea'), (3, 1, 'b', 'gin');
    INSERT INTO notes VALUES ('a', 'mine'), ('b', 'theirs');
    INSERT INTO rates VALUES ('std', 0.2);
    INSERT INTO secrets VALUES (1, 'a', 'own'), (2, 'b', 'other');
";

fn open(grant: Grant) -> Verger {
    let verger =
        Verger::in_memory().without_built_ins().worker(Sql).grant("sql", grant).open().unwrap();
    as_app(&verger, SCHEMA);
    verger
}

fn confined() -> Verger {
    let tables =
        ["orders", "lines", "notes", "open_orders"].into_iter().fold(Grant::new(), Grant::write);
    open(tables.read("rates").shared("rates").tenant_column("organization_id"))
}

fn run(verger: &Verger, organization: Json, sql: &str, execute: bool) -> Result<Json, String> {
    let args =
        json!({"organization_id": organization, "actor_id": null, "sql": sql, "execute": execute});
    match verger.perform_now("sql", args) {
        Ok(performed) => Ok(performed.result().cloned().unwrap_or_default()),
        Err(PerformError::Failed { source, .. }) => Err(source.message),
        Err(other) => Err(other.to_string()),
    }
}

fn query(verger: &Verger, sql: &str) -> Result<Json, String> {
    run(verger, json!("a"), sql, false)
}

fn execute(verger: &Verger, sql: &str) -> Result<Json, String> {
    run(verger, json!("a"), sql, true)
}

/// Does something that no worker may do.
fn as_app(verger: &Verger, sql: &str) {
    verger.connect().unwrap().execute_batch(sql).unwrap();
}

#[track_caller]
fn assert_denied(came: Result<Json, String>, sql: &str) {
    assert!(matches!(&came, Err(said) if said.contains("denied")), "{sql}: {came:?}");
}

#[test]
fn a_common_table_expression_opens_no_table_that_is_not_granted() {
    let verger = open(Grant::new().read("orders").read("open_orders"));
    for sql in [
        "SELECT word FROM secrets",
        "WITH x AS (SELECT word FROM secrets) SELECT * FROM x",
        "WITH open_orders AS (SELECT word FROM secrets) SELECT * FROM open_orders",
        "WITH RECURSIVE r(n) AS (SELECT word FROM secrets UNION ALL SELECT n FROM r LIMIT 2) SELECT * FROM r",
        "WITH \"orders_logged\" AS MATERIALIZED (SELECT word FROM secrets) SELECT * FROM orders_logged",
        "wItH [open_orders](a) AS (SELECT word FROM secrets) SELECT * FROM open_orders",
        "SELECT (SELECT word FROM secrets) FROM orders",
        "SELECT count(*) FROM secrets",
        "SELECT total FROM orders UNION ALL SELECT word FROM secrets",
        "SELECT * FROM sqlite_schema",
        "WITH sqlite_schema AS (SELECT 1) SELECT * FROM main.sqlite_schema",
        "WITH v AS (SELECT * FROM verger_jobs) SELECT * FROM v",
        "SELECT * FROM pragma_table_info('orders')",
        "WITH x AS (SELECT 1) SELECT count(*) FROM pragma_table_info('orders')",
        "WITH x AS (SELECT 1) SELECT count(*) FROM dbstat",
        "WITH x AS (SELECT 1) SELECT count(*) FROM secrets",
        "WITH secrets AS MATERIALIZED (SELECT 1) SELECT count(*) FROM secrets, main.secrets",
        "EXPLAIN QUERY PLAN SELECT * FROM orders",
    ] {
        assert_denied(run(&verger, Json::Null, sql, false), sql);
    }
    for (sql, rows) in [
        ("SELECT id FROM open_orders ORDER BY id", json!([[1], [3], [4]])),
        (
            "WITH mine AS (SELECT id FROM orders WHERE total > 15) SELECT count(id) FROM mine",
            json!([[3]]),
        ),
        ("SELECT value FROM json_each('[1,2]')", json!([[1], [2]])),
        (
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 9) SELECT count(*) FROM n",
            json!([[9]]),
        ),
        ("WITH m AS MATERIALIZED (SELECT id FROM orders) SELECT count(*) FROM m", json!([[4]])),
    ] {
        assert_eq!(run(&verger, Json::Null, sql, false).unwrap(), rows, "{sql}");
    }
}

#[test]
fn a_confined_worker_reads_its_tenants_rows_and_no_others() {
    let verger = confined();
    for (sql, rows) in [
        ("SELECT id FROM orders ORDER BY id", json!([[1], [2]])),
        ("SELECT count(*) FROM orders", json!([[2]])),
        ("SELECT 1 FROM orders", json!([[1], [1]])),
        ("SELECT sum(total) FROM temp.orders", json!([[30]])),
        ("WITH mine AS (SELECT id FROM orders) SELECT * FROM mine", json!([[1], [2]])),
        ("SELECT replace(state, 'open', 'new') FROM orders WHERE id = 1", json!([["new"]])),
        (
            "SELECT o.id, l.what FROM orders o JOIN lines l ON l.order_id = o.id",
            json!([[1, "tea"]]),
        ),
        ("SELECT id FROM orders WHERE id IN (SELECT order_id FROM lines)", json!([[1]])),
        (
            "SELECT id, row_number() OVER (ORDER BY id DESC) FROM orders ORDER BY id",
            json!([[1, 2], [2, 1]]),
        ),
        ("SELECT id FROM open_orders", json!([[1]])),
        ("SELECT text FROM notes", json!([["mine"]])),
        ("SELECT rate FROM rates", json!([[0.2]])),
        ("SELECT rate FROM main.rates", json!([[0.2]])),
    ] {
        assert_eq!(query(&verger, sql), Ok(rows), "{sql}");
    }
    for sql in [
        "SELECT id FROM main.orders",
        "SELECT count(*) FROM main.orders",
        "WITH orders AS (SELECT * FROM main.orders) SELECT * FROM orders",
        "WITH open_orders AS (SELECT * FROM main.orders) SELECT * FROM open_orders",
        "SELECT id FROM orders UNION SELECT id FROM main.orders",
        "SELECT id FROM main.open_orders",
        "SELECT word FROM secrets",
        "SELECT name FROM sqlite_temp_schema",
        "SELECT name FROM temp.sqlite_master",
    ] {
        assert_denied(query(&verger, sql), sql);
    }
    // The same worker, for the whole system, is not confined; and another tenant's run sees its
    // own.
    assert_eq!(run(&verger, Json::Null, "SELECT count(*) FROM orders", false), Ok(json!([[4]])));
    assert_eq!(run(&verger, json!("b"), "SELECT count(*) FROM orders", false), Ok(json!([[2]])));
    assert_eq!(
        run(&verger, json!("nobody"), "SELECT count(*) FROM orders", false),
        Ok(json!([[0]]))
    );
}

#[test]
fn a_change_of_the_schema_reaches_the_next_confined_run() {
    let verger = confined();
    assert_eq!(query(&verger, "SELECT count(*) FROM orders"), Ok(json!([[2]])));
    as_app(&verger, "ALTER TABLE orders ADD COLUMN weight INTEGER DEFAULT 5");
    assert_eq!(query(&verger, "SELECT weight FROM orders"), Ok(json!([[5], [5]])));
}

#[test]
fn no_error_tells_a_confined_worker_the_names_of_its_walls() {
    let verger = confined();
    for sql in [
        "SELECT nothing FROM orders",
        "INSERT INTO orders (id, total, organization_id) VALUES (1, NULL, 'a')",
        "SELECT * FROM orders, orders o WHERE id = 1",
    ] {
        let said = query(&verger, sql).and_then(|_| execute(&verger, sql)).unwrap_err();
        assert!(!said.contains("verger_"), "{sql}: {said}");
    }
}
