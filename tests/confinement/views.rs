//! Views, granted and not. A worker that reads or writes a view of the app's reaches no table
//! beneath it.

use serde_json::{Value as Json, json};
use verger::Grant;

use super::{as_app, assert_denied, confined, execute, open, query, run};

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
        assert_denied(execute(&verger, sql), sql);
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
        assert_denied(query(&verger, sql), sql);
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
    as_app(
        &verger,
        "CREATE TRIGGER open_set INSTEAD OF UPDATE ON open_orders BEGIN UPDATE orders SET total = NEW.total WHERE id = OLD.id; END;
         CREATE VIEW busy AS SELECT organization_id, count(*) AS n FROM orders GROUP BY 1;
         CREATE TRIGGER notes_dated AFTER INSERT ON notes BEGIN INSERT INTO log VALUES (sqlite_source_id()); END;",
    );
    for sql in [
        "UPDATE open_orders SET total = (SELECT word FROM secrets)",
        "UPDATE open_orders SET total = 1 WHERE (SELECT word FROM secrets) = 'own'",
        "UPDATE open_orders SET total = 1 WHERE 3 < (SELECT count(*) FROM orders)",
        "UPDATE open_orders SET total = card FROM orders",
    ] {
        assert_denied(run(&verger, Json::Null, sql, true), sql);
    }
    let oracle = "SELECT * FROM open_orders WHERE total > (SELECT count(*) FROM secrets)";
    assert_denied(run(&verger, Json::Null, oracle, false), oracle);
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
    let forbidden = "SELECT sqlite_source_id()";
    assert_denied(run(&verger, Json::Null, forbidden, false), forbidden);
}

#[test]
fn a_view_that_is_not_granted_is_not_even_counted() {
    let views = "CREATE VIEW words AS SELECT word FROM secrets;
        CREATE VIEW both AS SELECT word FROM secrets UNION ALL SELECT state FROM orders;
        CREATE VIEW over_words AS SELECT 1 AS one FROM words;";
    let free = open(Grant::new().read("orders").read("open_orders"));
    let confined = confined();
    for verger in [&free, &confined] {
        as_app(verger, views);
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
                assert_denied(run(verger, organization, &sql, false), &sql);
            }
        }
    }
    let beneath = "SELECT count(*) FROM main.open_orders";
    assert_denied(query(&confined, beneath), beneath);
    assert_eq!(query(&confined, "SELECT count(*) FROM open_orders"), Ok(json!([[1]])));
    assert_eq!(run(&free, Json::Null, "SELECT count(*) FROM open_orders", false), Ok(json!([[3]])));
    assert_eq!(
        query(&confined, "SELECT 'both', count(*) FROM orders"),
        Ok(json!([["both", 2]])),
        "a word is not a view"
    );
}
