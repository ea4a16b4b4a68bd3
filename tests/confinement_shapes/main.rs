//! Tenant confinement on tables of every shape: columns that take the rowid's names, keys that are
//! composite, NULL, typeless or in no rowid, tenants that are computed or numbers, cascades, full
//! text; and a schema that the app changes under a run.
//!
//! Each statement runs confined among three tenants, confined where its tenant is alone, and
//! unconfined there. The rows of the others stay as they are.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod keys;
mod schema_changes;
mod tenants;
mod worker;
mod world;

use serde_json::{Value as Json, json};
use world::World;

/// What comes of a statement.
enum Expect {
    /// This, confined or not.
    Is(&'static str),
    /// This, confined.
    Confined(&'static str),
    /// A refusal that says this, confined.
    Refused(&'static str),
    /// A failure that says this, confined or not.
    Fails(&'static str),
}

use Expect::{Confined, Fails, Is, Refused};

fn check(schema: &str, fill: &str, others: &str, statements: &[(&str, Expect)]) {
    let many = World::many(schema, fill);
    let lone = World::open(schema, fill, &[("a", 0)], json!("a"));
    let alone = World::open(schema, fill, &[("a", 0)], json!(null));
    let before = many.rows(others);
    assert!(!before.is_empty());
    for (sql, expected) in statements {
        let run = |world: &World| world.run(&[sql]).remove(0);
        // Where the answer is another one, what is done would be, too.
        let is_for_all = matches!(expected, Is(_) | Fails(_));
        let came = [run(&many), run(&lone), if is_for_all { run(&alone) } else { Json::Null }];
        let about = || format!("{schema}\n{sql}\n{came:#?}");
        assert_eq!(came[0], came[1], "others show\n{}", about());
        let ok = |text: &str| json!({"ok": serde_json::from_str::<Json>(text).unwrap()});
        let says =
            |came: &Json, text: &str| came["error"].as_str().is_some_and(|e| e.contains(text));
        match expected {
            Is(text) => {
                assert_eq!(came[0], ok(text), "{}", about());
                assert_eq!(came[2], ok(text), "{}", about());
            }
            Confined(text) => assert_eq!(came[0], ok(text), "{}", about()),
            Refused(text) => assert!(says(&came[0], text), "{}", about()),
            Fails(text) => {
                assert!(says(&came[0], text) && says(&came[2], text), "{}", about());
            }
        }
        assert_eq!(many.rows(others), before, "rows of others changed\n{}", about());
    }
}

const OTHERS: &str = "SELECT * FROM t WHERE org IS NOT 'a'";

#[test]
fn cascades_act_as_the_app_wrote_them_and_count_as_the_apps() {
    check(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, org TEXT, n INTEGER);
         CREATE TABLE u (id INTEGER PRIMARY KEY, org TEXT, t_id INTEGER REFERENCES t (id) ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TABLE lines (id INTEGER PRIMARY KEY, org TEXT, t_id INTEGER REFERENCES t (id) ON DELETE SET NULL);
         CREATE TABLE orders (id INTEGER PRIMARY KEY, org TEXT, t_id INTEGER NOT NULL REFERENCES t (id) ON DELETE RESTRICT);",
        "INSERT INTO t VALUES ({n} + 1, '{t}', 1), ({n} + 2, '{t}', 2), ({n} + 3, '{t}', 3);
         INSERT INTO u VALUES ({n} + 1, '{t}', {n} + 1), ({n} + 2, '{t}', {n} + 1), ({n} + 3, '{t}', {n} + 2);
         INSERT INTO lines VALUES ({n} + 1, '{t}', {n} + 1), ({n} + 2, '{t}', {n} + 2);
         INSERT INTO orders VALUES ({n} + 1, '{t}', {n} + 3);",
        "SELECT * FROM t LEFT JOIN u ON u.t_id = t.id LEFT JOIN lines l ON l.t_id = t.id LEFT JOIN orders o ON o.t_id = t.id WHERE t.org <> 'a'",
        &[
            ("DELETE FROM t WHERE id = 1", Is("1")),
            ("SELECT id FROM u", Is("[[3]]")),
            ("SELECT t_id FROM lines ORDER BY id", Is("[[null],[2]]")),
            ("UPDATE t SET id = 40 WHERE id = 2", Fails("FOREIGN KEY")),
            ("DELETE FROM lines WHERE t_id = 2", Is("1")),
            ("UPDATE t SET id = 40 WHERE id = 2", Is("1")),
            ("SELECT t_id FROM u", Is("[[40]]")),
            ("DELETE FROM t WHERE id = 3", Fails("FOREIGN KEY")),
            ("INSERT INTO u (id, org, t_id) VALUES (50, 'a', 999)", Fails("FOREIGN KEY")),
            ("DELETE FROM orders", Is("1")),
            ("DELETE FROM t", Is("2")),
            ("SELECT count(*) FROM u", Is("[[0]]")),
        ],
    );
}

#[test]
fn a_full_text_table_with_a_tenant_is_read_and_written_row_by_row() {
    check(
        "CREATE VIRTUAL TABLE t USING fts5(body, org UNINDEXED);",
        "INSERT INTO t VALUES ('tea of {t}', '{t}'), ('gin', '{t}');",
        OTHERS,
        &[
            ("SELECT body FROM t ORDER BY body", Is(r#"[["gin"],["tea of a"]]"#)),
            ("SELECT count(*) FROM t", Is("[[2]]")),
            ("UPDATE t SET body = 'rum' WHERE body = 'gin'", Is("1")),
            ("INSERT INTO t (body) VALUES ('milk')", Confined("1")),
            ("SELECT body FROM t WHERE body LIKE 'm%'", Confined(r#"[["milk"]]"#)),
            ("SELECT body FROM t WHERE t MATCH 'tea'", Refused("")),
            ("SELECT body FROM t('tea')", Refused("")),
            ("INSERT INTO t (t) VALUES ('delete-all')", Refused("")),
            ("DELETE FROM t WHERE body = 'rum'", Is("1")),
            ("SELECT count(*) FROM t", Confined("[[2]]")),
        ],
    );
}

/// More rows than a count goes through one by one, and than it counts at first.
#[test]
fn rows_are_counted_as_they_are_gone_through() {
    for key in [
        "id INTEGER PRIMARY KEY, org TEXT, n INTEGER",
        "org TEXT, n INTEGER, id, PRIMARY KEY (org, id)",
    ] {
        let schema = format!("CREATE TABLE t ({key}); CREATE INDEX t_org ON t (org, n);");
        let fill = "WITH RECURSIVE k(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM k LIMIT 5000)
            INSERT INTO t (id, org, n) SELECT {n} * 100 + k, '{t}', k % 10 FROM k;";
        check(
            &schema,
            fill,
            "SELECT count(*), sum(n) FROM t WHERE org <> 'a'",
            &[
                ("SELECT count(*) FROM t", Is("[[5000]]")),
                ("SELECT count(*) FROM t WHERE n = 3", Is("[[500]]")),
                ("SELECT count(*) FROM t WHERE n > 5", Is("[[2000]]")),
                ("SELECT count(*) FROM (SELECT 1 FROM t LIMIT 100)", Is("[[100]]")),
                ("SELECT count(*) FROM (SELECT 1 FROM t LIMIT 3 OFFSET 4998)", Is("[[2]]")),
                ("SELECT count(*) FROM t, (SELECT 1 FROM t WHERE n = 1 LIMIT 2)", Is("[[10000]]")),
                (
                    "SELECT EXISTS (SELECT 1 FROM t), EXISTS (SELECT 1 FROM t WHERE n = 77)",
                    Is("[[1,0]]"),
                ),
                ("SELECT count(*), count(rowid) FROM t", Is("[[5000,5000]]")),
                ("SELECT count(*) FROM t WHERE n = '3'", Is("[[500]]")),
                (
                    "SELECT count(*) FROM (SELECT row_number() OVER () AS r FROM t) WHERE r > 4990",
                    Is("[[10]]"),
                ),
                ("DELETE FROM t WHERE n = 3", Is("500")),
                ("SELECT count(*) FROM t", Is("[[4500]]")),
                ("DELETE FROM t", Is("4500")),
                ("SELECT count(*) FROM t", Is("[[0]]")),
            ],
        );
    }
}
