//! A schema that the app changes while a run is on its way: between two statements, before a write,
//! and while a cursor is open.

use serde_json::{Value as Json, json};

use super::world::World;

/// Another key, another order of the columns, no rowid.
const MADE_ANEW: &str = "ALTER TABLE orders RENAME TO old; CREATE TABLE orders (total INTEGER, org TEXT, id TEXT, PRIMARY KEY (org, id)) WITHOUT ROWID; INSERT INTO orders SELECT total * 2, org, 'k' || id FROM old";

const ORDERS: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, org TEXT, total INTEGER); CREATE INDEX orders_of ON orders (org);";
const ORDERS_FILL: &str = "INSERT INTO orders VALUES ({n} + 1, '{t}', {n} + 10), ({n} + 2, '{t}', {n} + 20), ({n} + 3, '{t}', {n} + 30);";

fn orders() -> World {
    World::many(ORDERS, ORDERS_FILL)
}

/// What the app changes, and what the run sees of it then.
#[test]
fn an_app_may_change_its_schema_between_two_statements_of_a_run() {
    let sums = json!({"ok": [[60]]});
    let denied = |came: &Json| {
        let told = came["error"].as_str().unwrap_or_default();
        assert!(told.contains("denied") || told.contains("no such"), "{came}");
    };
    let cases: [(&str, &str, Result<Json, ()>); 9] = [
        (
            "ALTER TABLE orders ADD COLUMN weight INTEGER DEFAULT 5",
            "SELECT sum(weight) FROM orders",
            Ok(json!([[15]])),
        ),
        ("DROP INDEX orders_of", "SELECT sum(total) FROM orders", Ok(json!([[60]]))),
        (
            "CREATE INDEX other ON orders (org, total)",
            "SELECT total FROM orders WHERE total > 15 ORDER BY total",
            Ok(json!([[20], [30]])),
        ),
        (
            "ALTER TABLE orders RENAME COLUMN total TO amount",
            "SELECT sum(amount) FROM orders",
            Ok(json!([[60]])),
        ),
        // The tenant's column has another name, or is another one.
        ("ALTER TABLE orders RENAME COLUMN org TO was", "SELECT sum(total) FROM orders", Err(())),
        (
            "ALTER TABLE orders RENAME TO old; CREATE VIEW orders AS SELECT id, total FROM old",
            "SELECT sum(total) FROM orders",
            Err(()),
        ),
        (MADE_ANEW, "SELECT sum(total) FROM orders", Ok(json!([[120]]))),
        (
            "CREATE TABLE lines (id INTEGER PRIMARY KEY, org TEXT); INSERT INTO lines VALUES (1, 'a'), (2, 'b')",
            "SELECT id FROM lines",
            Ok(json!([[1]])),
        ),
        (
            "CREATE TABLE lines (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO lines VALUES (1, 'a'), (2, 'b')",
            "SELECT id FROM lines",
            Err(()),
        ),
    ];
    for (change, then, expected) in cases {
        let app = format!("app: {change}");
        // After a read, and after a write that was kept.
        for before in [
            &["SELECT sum(total) FROM orders"][..],
            &["UPDATE orders SET total = total WHERE id = 1", "checkpoint"],
        ] {
            let world = orders();
            let mut steps = before.to_vec();
            steps.extend([app.as_str(), then, then]);
            let came = world.run(&steps);
            assert_eq!(came.len(), steps.len(), "{change}: {came:?}");
            if before.len() == 1 {
                assert_eq!(came[0], sums);
            }
            assert_eq!(came[before.len()], json!({"ok": null}), "{change}");
            for came in &came[before.len() + 1..] {
                match &expected {
                    Ok(rows) => assert_eq!(came, &json!({ "ok": rows }), "{change}"),
                    Err(()) => denied(came),
                }
            }
        }
    }
}

#[test]
fn what_is_written_after_a_change_of_the_schema_stays_with_the_tenant() {
    for (change, write, changed) in [
        (
            "ALTER TABLE orders ADD COLUMN weight INTEGER DEFAULT 5",
            "UPDATE orders SET weight = 6",
            3,
        ),
        ("DROP INDEX orders_of", "UPDATE orders SET total = 0", 3),
        ("DROP INDEX orders_of", "DELETE FROM orders WHERE total > 15", 2),
        (MADE_ANEW, "UPDATE orders SET total = 1 WHERE id <> 'k1'", 2),
        (
            "ALTER TABLE orders RENAME TO old; CREATE TABLE orders (id INTEGER, org TEXT, total INTEGER); INSERT INTO orders SELECT 1, org, total FROM old",
            "UPDATE orders SET total = 1 WHERE id = 1",
            3,
        ),
    ] {
        let world = orders();
        let came = world.run(&[
            "SELECT count(*) FROM orders",
            &format!("app: {change}"),
            write,
            "checkpoint",
            write,
        ]);
        assert_eq!(came[2], json!({ "ok": changed }), "{change}: {came:?}");
        assert_eq!(came[3], json!({"ok": null}), "{change}");
        let others = world.rows("SELECT count(*), min(total) >= 20 FROM orders WHERE org <> 'a'");
        assert_eq!(others, ["Integer(6) Integer(1) "], "{change}");
    }
}

/// A cursor that is open while the schema changes goes on with its rows or says that it cannot.
#[test]
fn a_cursor_outlives_a_change_of_the_schema_or_says_that_it_does_not() {
    for change in [
        "ALTER TABLE orders ADD COLUMN weight INTEGER DEFAULT 5",
        "DROP INDEX orders_of",
        "ALTER TABLE orders RENAME COLUMN org TO was; ALTER TABLE orders ADD COLUMN org TEXT DEFAULT 'a'",
        "DROP TABLE orders; CREATE TABLE orders (id INTEGER PRIMARY KEY, org TEXT, total INTEGER); INSERT INTO orders VALUES (1, 'b', 1000)",
    ] {
        for write in [false, true] {
            let world = orders();
            let half = format!("half: SELECT total FROM orders ORDER BY id THEN {change}");
            let mut steps = vec!["SELECT 1", half.as_str()];
            if write {
                steps.push("UPDATE orders SET total = total + 1 WHERE id = 1");
            }
            steps.push("SELECT count(*) FROM orders");
            let came = world.run(&steps);
            match came.get(1).and_then(|came| came["ok"].as_array()) {
                Some(rows) => assert_eq!(json!(rows), json!([[10], [20], [30]]), "{change}"),
                None => {
                    assert!(came[1]["error"].as_str().unwrap().contains(": "), "{change}: {came:?}")
                }
            }
            for came in &came {
                assert!(!came.to_string().contains("1000"), "{change}: {came}");
            }
        }
    }
}
