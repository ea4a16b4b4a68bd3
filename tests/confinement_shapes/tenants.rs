//! Whose a row is: a tenant that is computed, NULL, a number or a text.

use serde_json::{Value as Json, json};

use super::Expect::{Confined, Fails, Is, Refused};
use super::world::World;
use super::{OTHERS, check};

#[test]
fn a_tenant_may_be_computed_from_other_columns() {
    for kind in ["VIRTUAL", "STORED"] {
        check(
            &format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, path TEXT, org TEXT AS (substr(path, 1, 1)) {kind}, n INTEGER);
                 CREATE INDEX t_org ON t (org, n);"
            ),
            "INSERT INTO t (id, path, n) VALUES ({n} + 1, '{t}/one', 1), ({n} + 2, '{t}/two', 2);",
            OTHERS,
            &[
                ("SELECT path FROM t ORDER BY n", Is(r#"[["a/one"],["a/two"]]"#)),
                ("UPDATE t SET path = path || '!' WHERE n = 1", Is("1")),
                ("UPDATE t SET path = 'b/one' WHERE n = 1", Refused("another organization")),
                ("UPDATE t SET path = CASE n WHEN 2 THEN 'c' ELSE 'a/x' END", Refused("another organization")),
                ("SELECT path FROM t ORDER BY n", Is(r#"[["a/one!"],["a/two"]]"#)),
                ("INSERT INTO t (id, path, n) VALUES (9, 'b/forged', 9)", Refused("another organization")),
                ("INSERT INTO t (id, path, n) SELECT 40 + n, CASE n WHEN 2 THEN 'b' ELSE 'a' END, n FROM t", Refused("another organization")),
                ("INSERT INTO t (id, path, n) VALUES (9, 'a/new', 9)", Is("1")),
                ("UPDATE t SET org = 'a'", Fails("generated column")),
                ("UPDATE t SET path = 'b' WHERE n = 1 RETURNING path", Refused("another organization")),
                ("DELETE FROM t WHERE org = 'a' AND n < 9", Is("2")),
                ("SELECT id FROM t", Is("[[9]]")),
            ],
        );
    }
}

#[test]
fn a_row_without_a_tenant_is_nobodys_and_a_tenant_is_compared_as_text() {
    check(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, org TEXT, n INTEGER); INSERT INTO t VALUES (500, NULL, 9), (501, '', 9), (502, 'A', 9), (503, 'a ', 9);",
        "INSERT INTO t VALUES ({n} + 1, '{t}', 1);",
        OTHERS,
        &[
            ("SELECT id FROM t", Confined("[[1]]")),
            ("UPDATE t SET n = 2 WHERE org IS NULL", Confined("0")),
            ("UPDATE t SET org = NULL", Refused("another organization")),
            ("UPDATE t SET org = 'A'", Refused("another organization")),
            ("DELETE FROM t WHERE id >= 500", Confined("0")),
        ],
    );
    // A number as the tenant, in a column of numbers, of text, and of no type: what is in it as
    // text is found, by the column's own conversion; a number or bytes where nothing converts are
    // nobody's.
    let rows = "INSERT INTO t VALUES (1, 7, 1), (2, '7', 2), (3, x'37', 3), (4, 7.0, 4), (5, '07', 5), (6, 8, 6);";
    for (declared, mine) in [
        ("INTEGER", json!([[1], [2], [4], [5]])),
        ("TEXT", json!([[1], [2]])),
        ("BLOB", json!([[2]])),
        ("", json!([[2]])),
    ] {
        let schema =
            format!("CREATE TABLE t (id INTEGER PRIMARY KEY, org {declared}, n INTEGER); {rows}");
        for organization in [json!(7), json!("7")] {
            let world = World::open(&schema, "", &[], organization);
            let others =
                format!("SELECT * FROM t WHERE id NOT IN (SELECT value FROM json_each('{}'))", {
                    let ids: Vec<&Json> =
                        mine.as_array().unwrap().iter().map(|row| &row[0]).collect();
                    json!(ids)
                });
            let before = world.rows(&others);
            let came = world.run(&[
                "SELECT id FROM t ORDER BY id",
                "UPDATE t SET n = n + 1",
                "INSERT INTO t (id, org) VALUES (20, 7)",
                "INSERT INTO t (id, org) VALUES (21, 8)",
                "INSERT INTO t (id) VALUES (22)",
                "SELECT count(*) FROM t WHERE id >= 20",
                "DELETE FROM t WHERE id >= 20",
            ]);
            let count = mine.as_array().unwrap().len();
            assert_eq!(came[0], json!({ "ok": mine }), "{declared}");
            assert_eq!(came[1], json!({ "ok": count }), "{declared}");
            assert_eq!(came[2], json!({"ok": 1}), "{declared}");
            assert!(came[3]["error"].as_str().unwrap().contains("another organization"));
            assert_eq!(came[5], json!({"ok": [[2]]}), "{declared}: {came:?}");
            assert_eq!(came[6], json!({"ok": 2}), "{declared}");
            assert_eq!(world.rows(&others), before, "{declared}");
        }
    }
}
