//! What the walls around a worker's SQL hold back: other tables, other tenants, names that were
//! forged.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

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
    verger.connect().unwrap().execute_batch(SCHEMA).unwrap();
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
        let denied = run(&verger, Json::Null, sql, false).unwrap_err();
        assert!(denied.contains("denied"), "{sql}: {denied}");
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
        let denied = query(&verger, sql).unwrap_err();
        assert!(denied.contains("denied"), "{sql}: {denied}");
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
fn a_confined_worker_changes_its_tenants_rows_and_no_others() {
    let verger = confined();
    let app = verger.connect().unwrap();
    let one = |sql: &str| app.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    for (sql, changed) in [
        ("UPDATE orders SET total = total + 1", 2),
        ("UPDATE orders SET total = 0 WHERE id = 3", 0),
        ("UPDATE orders SET card = NULL WHERE state = 'open'", 1),
        ("UPDATE lines SET what = 'milk'", 1),
        ("INSERT INTO orders (id, state) VALUES (9, 'open')", 1),
        ("INSERT INTO orders (id, organization_id, state) VALUES (10, 'a', 'open')", 1),
        ("INSERT INTO notes (text) SELECT text FROM notes", 1),
        ("DELETE FROM orders WHERE id IN (2, 3, 4)", 1),
        ("DELETE FROM lines", 1),
    ] {
        assert_eq!(execute(&verger, sql), Ok(json!(changed)), "{sql}");
    }
    assert_eq!(
        one(
            "SELECT count(*) FROM orders WHERE organization_id = 'b' AND total IN (30, 40) AND card = 'y'"
        ),
        2
    );
    assert_eq!(
        one(
            "SELECT count(*) FROM orders WHERE id IN (9, 10) AND organization_id = 'a' AND total = 7"
        ),
        2,
        "defaults hold"
    );
    assert_eq!(one("SELECT count(*) FROM lines WHERE organization_id = 'b' AND what = 'gin'"), 1);
    assert_eq!(
        one("SELECT count(*) FROM log"),
        3,
        "the app's triggers fire, and are not counted as the worker's rows"
    );
    for (sql, why) in [
        ("INSERT INTO orders (id, organization_id) VALUES (20, 'b')", "another organization"),
        ("UPDATE orders SET organization_id = 'b'", "another organization"),
        ("UPDATE main.orders SET total = 0", "denied"),
        ("DELETE FROM main.orders", "denied"),
        ("INSERT INTO main.orders (id, organization_id) VALUES (21, 'b')", "denied"),
        ("UPDATE rates SET rate = 1", "denied"),
        ("REPLACE INTO main.lines VALUES (3, 1, 'a', 'mine')", "denied"),
        ("CREATE TEMP VIEW x AS SELECT 1", "denied"),
        ("DROP VIEW temp.orders", "denied"),
    ] {
        let refused = execute(&verger, sql).unwrap_err();
        assert!(refused.contains(why), "{sql}: {refused}");
    }
    // Taking the key of another tenant's row does not take the row.
    for sql in [
        "INSERT OR REPLACE INTO orders (id, total) VALUES (3, 1)",
        "REPLACE INTO orders (id, total) VALUES (3, 1)",
        "UPDATE OR REPLACE orders SET id = 3",
        "INSERT OR/**/REPLACE/*(*/INTO orders (id, total) VALUES (3, 1)",
        "INSERT INTO orders (id, total) VALUES (3, 1)",
        "UPDATE orders SET id = 3",
    ] {
        assert!(execute(&verger, sql).is_err(), "{sql}");
    }
    assert_eq!(
        execute(&verger, "INSERT OR IGNORE INTO orders (id, total) VALUES (3, 1)"),
        Ok(json!(0))
    );
    assert_eq!(
        execute(&verger, "UPDATE orders SET state = replace(state, 'open', 'x') WHERE id = 1"),
        Ok(json!(1))
    );
    assert_eq!(one("SELECT count(*) FROM orders WHERE organization_id = 'b'"), 2);
}

/// While SQLite works on an UPDATE or DELETE of a view, it gives the view's name as the accessor of
/// what the statement itself reads: what tells an access of the app's view from one of the worker's
/// is that the worker has to name the table.
#[test]
fn a_write_to_a_view_opens_no_table_that_is_not_granted() {
    let verger = confined();
    for sql in [
        "UPDATE orders SET total = 1 WHERE EXISTS (SELECT 1 FROM main.orders o WHERE o.organization_id = 'b' AND o.total = 30)",
        "UPDATE orders SET total = (SELECT max(total) FROM main.orders)",
        "UPDATE orders SET state = x.word FROM (SELECT word FROM secrets) x",
        "UPDATE orders SET state = secrets.word FROM secrets",
        "UPDATE orders SET state = 'x' WHERE id IN main.orders",
        "UPDATE orders SET state = 'x' WHERE 2 < (SELECT count(*) FROM main.orders)",
        "DELETE FROM orders WHERE (SELECT word FROM secrets WHERE id = 2) = 'other'",
        "DELETE FROM orders WHERE EXISTS (SELECT 1 FROM main.\"ORDERS\" WHERE organization_id = 'b')",
        "DELETE FROM orders WHERE 2 < (SELECT count(*) FROM[main].orders)",
        "INSERT INTO orders (id, state) SELECT id + 50, word FROM secrets",
        "INSERT INTO orders (id, state) VALUES (50, (SELECT word FROM secrets))",
        "UPDATE orders SET total = 1 WHERE id IN (SELECT 1 FROM verger_jobs)",
    ] {
        let denied = execute(&verger, sql).unwrap_err();
        assert!(denied.contains("denied"), "{sql}: {denied}");
    }
    for sql in [
        "UPDATE orders SET total = 1 RETURNING (SELECT word FROM secrets WHERE id = 2)",
        "UPDATE orders SET total = 1 RETURNING (SELECT count(*) FROM main.orders)",
        "DELETE FROM orders RETURNING (SELECT group_concat(word) FROM secrets)",
        "INSERT INTO orders (id) VALUES (60) RETURNING (SELECT max(total) FROM main.orders)",
        "INSERT INTO orders (id) VALUES (60) RETURNING id",
        "UPDATE OR IGNORE orders SET id = 3 WHERE id = 1 RETURNING id",
        "SELECT total FROM open_orders WHERE total > (SELECT count(*) FROM main.orders)",
        "SELECT n FROM (SELECT count(*) AS n FROM open_orders GROUP BY organization_id) WHERE n < (SELECT count(*) FROM main.orders)",
        "SELECT * FROM open_orders WHERE total IN main.orders",
    ] {
        let denied = query(&verger, sql).unwrap_err();
        assert!(denied.contains("denied"), "{sql}: {denied}");
    }
    let app = verger.connect().unwrap();
    let left: String = app
        .query_row(
            "SELECT group_concat(id || organization_id || total || state || card, ' ') FROM orders",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(left, "1a10openx 2a20paidx 3b30openy 4b40openy");
    for (sql, rows) in [
        ("SELECT o.id, v.total FROM orders o JOIN open_orders v ON v.id = o.id", json!([[1, 10]])),
        ("UPDATE orders SET total = total + 1 WHERE id = 1 RETURNING total", json!([[11]])),
        (
            "WITH big AS (SELECT id FROM orders WHERE total < 15) SELECT v.id FROM (SELECT id FROM orders) v WHERE v.id NOT IN (SELECT id FROM big)",
            json!([[2]]),
        ),
    ] {
        assert_eq!(query(&verger, sql), Ok(rows), "{sql}");
    }
}

/// The same without a tenant: a granted view with INSTEAD OF triggers of the app's.
#[test]
fn a_write_to_a_view_of_the_app_opens_no_table_beneath_it() {
    let verger = open(Grant::new().write("notes").write("open_orders"));
    verger
        .connect()
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER open_set INSTEAD OF UPDATE ON open_orders BEGIN UPDATE orders SET total = NEW.total WHERE id = OLD.id; END;
             CREATE VIEW busy AS SELECT organization_id, count(*) AS n FROM orders GROUP BY 1;
             CREATE TRIGGER notes_dated AFTER INSERT ON notes BEGIN INSERT INTO log VALUES (sqlite_source_id()); END;",
        )
        .unwrap();
    for sql in [
        "UPDATE open_orders SET total = (SELECT word FROM secrets)",
        "UPDATE open_orders SET total = 1 WHERE (SELECT word FROM secrets) = 'own'",
        "UPDATE open_orders SET total = 1 WHERE 3 < (SELECT count(*) FROM orders)",
        "UPDATE open_orders SET total = card FROM orders",
    ] {
        let denied = run(&verger, Json::Null, sql, true).unwrap_err();
        assert!(denied.contains("denied"), "{sql}: {denied}");
    }
    let oracle = "SELECT * FROM open_orders WHERE total > (SELECT count(*) FROM secrets)";
    assert!(run(&verger, Json::Null, oracle, false).unwrap_err().contains("denied"));
    assert_eq!(
        run(&verger, Json::Null, "UPDATE open_orders SET total = total + 1 WHERE id = 3", true),
        Ok(json!(2)),
        "with the trigger's own row"
    );
    // A trigger of the app's may call what its worker may not.
    assert_eq!(
        run(&verger, Json::Null, "INSERT INTO notes (text) VALUES ('x')", true),
        Ok(json!(1))
    );
    assert!(
        run(&verger, Json::Null, "SELECT sqlite_source_id()", false)
            .unwrap_err()
            .contains("denied")
    );
}

#[test]
fn a_view_that_is_not_granted_is_not_even_counted() {
    let views = "CREATE VIEW words AS SELECT word FROM secrets;
        CREATE VIEW both AS SELECT word FROM secrets UNION ALL SELECT state FROM orders;
        CREATE VIEW over_words AS SELECT 1 AS one FROM words;";
    let free = open(Grant::new().read("orders").read("open_orders"));
    let confined = confined();
    for verger in [&free, &confined] {
        verger.connect().unwrap().execute_batch(views).unwrap();
    }
    for view in ["words", "main.words", "both", "main.both", "over_words", "[BOTH]"] {
        for sql in [
            "SELECT count(*) FROM v",
            "SELECT 1 FROM v",
            "SELECT id FROM orders WHERE EXISTS (SELECT 1 FROM v)",
            "SELECT count(*) FROM orders, v",
        ] {
            let sql = sql.replace('v', view);
            for (verger, organization) in [(&free, Json::Null), (&confined, json!("a"))] {
                let denied = run(verger, organization, &sql, false).unwrap_err();
                assert!(denied.contains("denied"), "{sql}: {denied}");
            }
        }
    }
    let denied = query(&confined, "SELECT count(*) FROM main.open_orders").unwrap_err();
    assert!(denied.contains("denied"), "{denied}");
    assert_eq!(query(&confined, "SELECT count(*) FROM open_orders"), Ok(json!([[1]])));
    assert_eq!(run(&free, Json::Null, "SELECT count(*) FROM open_orders", false), Ok(json!([[3]])));
    assert_eq!(
        query(&confined, "SELECT 'both', count(*) FROM orders"),
        Ok(json!([["both", 2]])),
        "a word is not a view"
    );
}

#[test]
fn columns_that_are_not_granted_stay_closed_in_a_confined_write() {
    let verger = open(
        Grant::new()
            .read_columns("orders", ["id", "state"])
            .update_columns("orders", ["state"])
            .delete("orders")
            .tenant_column("organization_id"),
    );
    assert_eq!(execute(&verger, "UPDATE orders SET state = 'new' WHERE id = 1"), Ok(json!(1)));
    for sql in [
        "UPDATE orders SET state = 'x' WHERE card = 'x'",
        "UPDATE orders SET state = card",
        "UPDATE orders SET card = 'x'",
        "DELETE FROM orders WHERE card = 'x'",
        "UPDATE orders SET state = 'x' WHERE (1, 'a', 10, 'new', 'x') IN orders",
        "UPDATE orders SET state = 'x' WHERE (1, 'a', 10, 'new', 'x') IN (SELECT * FROM orders)",
    ] {
        let denied = execute(&verger, sql).unwrap_err();
        assert!(denied.contains("denied"), "{sql}: {denied}");
    }
    assert!(
        query(&verger, "UPDATE orders SET state = 'x' RETURNING *").unwrap_err().contains("denied")
    );
    assert_eq!(execute(&verger, "DELETE FROM orders WHERE state = 'new'"), Ok(json!(1)));
}

/// FTS5 keeps its words in tables of its own and sends its own SQL for them.
#[test]
fn a_full_text_index_that_the_apps_triggers_keep_does_not_stop_a_worker() {
    for (verger, organization) in
        [(open(Grant::new().write("orders")), Json::Null), (confined(), json!("a"))]
    {
        verger
            .connect()
            .unwrap()
            .execute_batch(
                "CREATE VIRTUAL TABLE found USING fts5(state);
                 CREATE TRIGGER find AFTER UPDATE ON orders BEGIN INSERT INTO found (rowid, state) VALUES (NEW.id, NEW.state) ; END;",
            )
            .unwrap();
        assert_eq!(
            run(
                &verger,
                organization.clone(),
                "UPDATE orders SET state = 'sent' WHERE id = 1",
                true
            ),
            Ok(json!(1))
        );
        let count: i64 = verger
            .connect()
            .unwrap()
            .query_row("SELECT count(*) FROM found WHERE found MATCH 'sent'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, 1);
        for sql in [
            "SELECT c0 FROM found_content",
            "SELECT count(*) FROM found_content",
            "SELECT state FROM found",
            "SELECT count(*) FROM found",
        ] {
            assert!(
                run(&verger, organization.clone(), sql, false).unwrap_err().contains("denied"),
                "{sql}"
            );
        }
    }
}

#[test]
fn a_change_of_the_schema_reaches_the_next_confined_run() {
    let verger = confined();
    assert_eq!(query(&verger, "SELECT count(*) FROM orders"), Ok(json!([[2]])));
    verger
        .connect()
        .unwrap()
        .execute_batch("ALTER TABLE orders ADD COLUMN weight INTEGER DEFAULT 5")
        .unwrap();
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
