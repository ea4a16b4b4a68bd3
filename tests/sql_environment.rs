//! What a worker's SQL uses besides tables. The time is that of the clock Verger was given,
//! temporary space is counted, and the app's functions are open if they only compute.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::time::Duration;

use common::{BOTH, Kind, TABLES, answers, failure, grant};
use serde_json::{Value as Json, json};
use verger::rusqlite::functions::FunctionFlags;
use verger::testing::TestVerger;
use verger::{Grant, Limits};

/// However slow the machine is: how long a run may hold the write lock is not the question here.
fn unhurried() -> Limits {
    Limits::new().write_lock(Duration::from_secs(60)).time(Duration::from_secs(60))
}

fn query(sql: &str) -> Json {
    json!([["query", sql, []]])
}

#[test]
fn sql_reads_the_clock_that_verger_was_given() {
    for kind in BOTH {
        let test = kind.open();
        test.sql("CREATE TABLE dated (at TEXT DEFAULT CURRENT_TIMESTAMP, n); CREATE TRIGGER stamp AFTER INSERT ON things BEGIN INSERT INTO dated (n) VALUES (unixepoch()); END;");
        for then in ["2031-02-03T04:05:06Z", "1999-12-31T23:59:59Z"] {
            test.clock().set(then.parse::<chrono::DateTime<chrono::Utc>>().unwrap());
            let wall = then.replace('T', " ").replace('Z', "");
            let seconds = test.now().as_millis() / 1_000;
            let sql = "SELECT CURRENT_TIMESTAMP, datetime('now'), datetime(), unixepoch('now'), strftime('%s'), date('now', '+1 day') > CURRENT_DATE";
            assert_eq!(
                answers(&test, query(sql)),
                json!([{"ok": [[wall, wall, wall, seconds, seconds.to_string(), 1]]}]),
                "{kind:?}"
            );
            // The app's own defaults and triggers, too, when a worker sets them off.
            answers(&test, json!([["execute", "INSERT INTO things (name) VALUES ('x')", []]]));
            let row = test.rows("SELECT at, n FROM dated ORDER BY rowid DESC LIMIT 1").remove(0);
            assert_eq!(json!(row), json!({"at": wall, "n": seconds}), "{kind:?}");
        }
    }
}

#[test]
fn the_app_keeps_its_own_time() {
    let test = Kind::Component.open();
    test.clock().set(verger::Timestamp::from_millis(946_684_799_000));
    answers(&test, query("SELECT datetime('now')"));
    let year: i64 = test
        .connect()
        .unwrap()
        .query_row("SELECT strftime('%Y') + 0", [], |row| row.get(0))
        .unwrap();
    assert!(year > 2020, "{year}");
}

#[test]
fn what_sorts_in_pieces_sorts_right() {
    let test = Kind::Component.open_with(grant().limits(unhurried()));
    test.sql("WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 60000) INSERT INTO things (name, value) SELECT 'n' || n * 7919 % 60000 || hex(zeroblob(40)), n FROM n");
    // Some 8 MB, four times what is sorted at once; then a sort of what came out, and the sum of
    // neighbours in the wrong order.
    let sql = "SELECT count(*), sum(name < before) FROM (SELECT name, lag(name) OVER (ORDER BY name) AS before FROM things)";
    assert_eq!(answers(&test, query(sql)), json!([{"ok": [[60_000, 0]]}]));
    let sql = "SELECT count(*), sum(n) FROM (SELECT count(*) AS n FROM things GROUP BY substr(name, 1, 4))";
    let groups = test.rows("SELECT count(DISTINCT substr(name, 1, 4)) AS n FROM things").remove(0);
    assert_eq!(answers(&test, query(sql)), json!([{"ok": [[groups["n"].clone(), 60_000]]}]));
}

#[test]
fn temporary_space_is_counted_to_the_run_that_takes_it() {
    let limits = unhurried().sql_memory_bytes(16 << 20);
    let test = Kind::Component.open_with(grant().limits(limits));
    test.sql("WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 1000) INSERT INTO things (id) SELECT n FROM n");
    for sql in [
        "SELECT a.id FROM things a, things b ORDER BY a.id * b.id % 1009, hex(zeroblob(50))",
        "SELECT count(*) FROM (SELECT DISTINCT (a.id * 1000 + b.id) || hex(zeroblob(50)) FROM things a, things b)",
        "WITH RECURSIVE n(n, x) AS (SELECT 1, '' UNION SELECT n + 1, hex(zeroblob(50)) FROM n) SELECT count(*) FROM n",
    ] {
        let answer = answers(
            &test,
            json!([["query", sql, []], ["query", "SELECT count(*) FROM things", []]]),
        );
        assert_eq!(answer[0]["err"], "limit", "{sql}: {answer}");
        // What it held is free again, in the same run.
        assert_eq!(answer[1], json!({"ok": [[1_000]]}), "{sql}");
    }
}

#[test]
fn functions_of_the_app_are_open_when_they_only_compute() {
    let compute = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    let test = TestVerger::with(|builder| {
        Kind::Component.add(builder, Grant::new().write("things")).connection_setup(
            move |connection| {
                connection.create_scalar_function("twice", 1, compute, |call| {
                    call.get::<i64>(0).map(|number| number * 2)
                })?;
                connection.create_scalar_function(
                    "launch",
                    0,
                    FunctionFlags::SQLITE_UTF8,
                    |_| -> verger::rusqlite::Result<i64> { panic!("a worker got through") },
                )
            },
        )
    });
    test.sql(TABLES);
    assert_eq!(answers(&test, query("SELECT twice(21)")), json!([{"ok": [[42]]}]));
    for sql in ["SELECT launch()", "SELECT LAUNCH() FROM things", "SELECT 1 ORDER BY Launch()"] {
        let (_, message) = failure(&test, json!([["must", ["query", sql, []]]]));
        assert!(
            message.contains("call denied")
                && message.contains("the app registered it without SQLITE_INNOCUOUS"),
            "{message}"
        );
    }
}
