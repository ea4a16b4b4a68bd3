//! What a confined worker changes: rows of its tenant, in the columns that its grant names. What
//! the app's triggers do beside it goes on.

use serde_json::{Value as Json, json};
use verger::Grant;

use super::{as_app, assert_denied, confined, execute, open, query, run};

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

/// SQLite asks a virtual table for a new row where an UPDATE ... FROM has a result that is no row of
/// it: a grant to update is none to insert.
#[test]
fn an_update_that_finds_no_row_adds_none() {
    let grant = ["orders", "lines", "notes"]
        .into_iter()
        .fold(Grant::new(), |grant, table| grant.read(table).update(table));
    let verger = open(grant.tenant_column("organization_id"));
    let app = verger.connect().unwrap();
    let all = "SELECT (SELECT count(*) FROM orders) || (SELECT group_concat(total) FROM orders) || \
               (SELECT count(*) FROM lines) || (SELECT count(*) FROM notes)";
    let rows = || app.query_row(all, [], |row| row.get::<_, String>(0)).unwrap();
    let before = rows();
    for sql in [
        "UPDATE orders SET id = count(*) FROM (SELECT 1 UNION SELECT 2) WHERE state = 'none'",
        "UPDATE orders SET total = max(q.x) FROM (SELECT 1 AS x) AS q WHERE id = 4",
        "UPDATE orders SET total = 9 FROM (SELECT 1 AS x) AS q RIGHT JOIN (SELECT 2 AS y) AS r ON q.x = r.y WHERE orders.id IS NULL",
        "UPDATE OR IGNORE orders SET total = 9 FROM (SELECT 1 AS x) AS q FULL JOIN (SELECT 2 AS y) AS r ON q.x = r.y WHERE orders.id IS NULL",
        "UPDATE lines SET what = count(*) FROM (SELECT 1) WHERE what = 'none'",
        "UPDATE notes SET text = count(*) FROM (SELECT 1) WHERE text = 'none'",
    ] {
        assert_eq!(execute(&verger, sql), Ok(json!(0)), "{sql}");
        assert_eq!(rows(), before, "{sql}");
        let returning = format!("{sql} RETURNING 1");
        // Some are refused: the row that is none has no key by which it could be returned.
        let returned = query(&verger, &returning);
        assert!(returned.is_err() || returned == Ok(json!([])), "{returned:?}: {returning}");
        assert_eq!(rows(), before, "{returning}");
    }
    let sql = "UPDATE orders SET total = count(*) FROM (SELECT 1 UNION SELECT 2) WHERE id = 1";
    assert_eq!(execute(&verger, sql), Ok(json!(1)));
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
        assert_denied(execute(&verger, sql), sql);
    }
    let returning = "UPDATE orders SET state = 'x' RETURNING *";
    assert_denied(query(&verger, returning), returning);
    assert_eq!(execute(&verger, "DELETE FROM orders WHERE state = 'new'"), Ok(json!(1)));
}

/// FTS5 keeps its words in tables of its own and sends its own SQL for them.
#[test]
fn a_full_text_index_that_the_apps_triggers_keep_does_not_stop_a_worker() {
    for (verger, organization) in
        [(open(Grant::new().write("orders")), Json::Null), (confined(), json!("a"))]
    {
        as_app(
            &verger,
            "CREATE VIRTUAL TABLE found USING fts5(state);
             CREATE TRIGGER find AFTER UPDATE ON orders BEGIN INSERT INTO found (rowid, state) VALUES (NEW.id, NEW.state) ; END;",
        );
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
            assert_denied(run(&verger, organization.clone(), sql, false), sql);
        }
    }
}
