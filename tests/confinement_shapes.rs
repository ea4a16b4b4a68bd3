//! Tenant confinement on tables of every shape: columns that take the rowid's names, keys that are
//! composite, NULL, typeless or in no rowid, tenants that are computed or numbers, cascades, full
//! text; and a schema that the app changes under a run.
//!
//! Each statement runs confined among three tenants, confined where its tenant is alone, and
//! unconfined there. The rows of the others stay as they are.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::path::Path;

use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::verger_worker::prelude::*;
use verger::{Grant, PerformError, Verger};

/// Does what its args list: a statement, `checkpoint`, or `app: …` for SQL that the app runs then.
/// Answers with what came of each.
struct Steps;

const TABLES: [&str; 4] = ["t", "u", "orders", "lines"];

impl Worker for Steps {
    fn manifest(&self) -> Manifest {
        let all = |table: &str| TableAsk::named(table).read().insert().update().delete();
        let manifest = Manifest::new("steps", "1.0.0").tenant_aware().capability("app");
        TABLES.into_iter().map(all).fold(manifest, Manifest::table)
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let steps: Vec<String> = args.get("steps")?;
        let mut came = Vec::new();
        for step in &steps {
            let done = if step == "checkpoint" {
                job.checkpoint().map(|()| json!(null))
            } else if let Some(sql) = step.strip_prefix("app: ") {
                job.call("app", &json!(sql))
            } else if let Some(sql) = step.strip_prefix("half: ") {
                half(job, sql)
            } else {
                one(job, step)
            };
            came.push(match done {
                Ok(done) => json!({ "ok": done }),
                Err(error) => json!({ "error": format!("{}: {}", error.code, error.message) }),
            });
        }
        Ok(Outcome::DoneWith(json!(came)))
    }
}

fn one(job: &Context<'_>, sql: &str) -> Result<Json, HostError> {
    if !sql.starts_with("SELECT") && !sql.contains("RETURNING") {
        return job.execute(sql, params![]).map(|changed| json!(changed));
    }
    let rows = job.query(sql, params![])?.rows().collect::<Result<Vec<_>, _>>()?;
    Ok(shown(&rows))
}

/// A query, of which one row is read, then something the app does, then the rest.
fn half(job: &Context<'_>, sql: &str) -> Result<Json, HostError> {
    let (query, change) = sql.split_once(" THEN ").unwrap();
    let mut cursor = job.query(query, params![])?;
    let mut rows = cursor.next_chunk(1)?;
    job.call("app", &json!(change))?;
    rows.extend(cursor.next_chunk(100)?);
    Ok(shown(&rows))
}

fn shown(rows: &[Row]) -> Json {
    let json = |value: &Value| match value {
        Value::Null => Json::Null,
        Value::Integer(number) => json!(number),
        Value::Real(number) => json!(format!("{number:?}")),
        Value::Text(text) => json!(text),
        Value::Blob(bytes) => json!(bytes),
    };
    rows.iter().map(|row| Json::Array(row.values().iter().map(json).collect())).collect()
}

struct World {
    verger: Verger,
    app: Connection,
    organization: Json,
    _folder: tempfile::TempDir,
}

impl World {
    /// `{t}` in `fill` stands for the tenant, `{n}` for a number that is another for each.
    fn open(schema: &str, fill: &str, tenants: &[(&str, i64)], organization: Json) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let grant = TABLES.into_iter().fold(Grant::new(), Grant::write);
        let grant = grant.tenant_column("org").capability("app");
        let file = path.clone();
        let verger = Verger::builder(&path)
            .without_built_ins()
            .worker(Steps)
            .grant("steps", grant)
            .slow_capability("app", move |call| {
                let sql = call.request.as_str().unwrap_or_default();
                run_as_app(&file, sql).map(|()| json!(null)).map_err(|error| error.to_string())
            })
            .open()
            .unwrap();
        let app = verger.connect().unwrap();
        app.execute_batch(schema).unwrap();
        for (tenant, number) in tenants {
            let sql = fill.replace("{t}", tenant).replace("{n}", &number.to_string());
            app.execute_batch(&sql).unwrap();
        }
        Self { verger, app, organization, _folder: folder }
    }

    fn many(schema: &str, fill: &str) -> Self {
        Self::open(schema, fill, &[("b", 100), ("a", 0), ("c", 200)], json!("a"))
    }

    fn run(&self, steps: &[&str]) -> Vec<Json> {
        let args = json!({"organization_id": self.organization, "actor_id": null, "steps": steps});
        match self.verger.perform_now("steps", args) {
            Ok(performed) => performed.result().unwrap().as_array().unwrap().clone(),
            Err(PerformError::Failed { source, .. }) => {
                vec![json!({ "error": format!("{}: {}", source.code, source.message) })]
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn rows(&self, sql: &str) -> Vec<String> {
        let mut statement = self.app.prepare(sql).unwrap();
        let width = statement.column_count();
        let row = |row: &verger::rusqlite::Row<'_>| {
            Ok((0..width).map(|at| format!("{:?} ", row.get_ref(at).unwrap())).collect())
        };
        statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
    }
}

fn run_as_app(path: &Path, sql: &str) -> verger::rusqlite::Result<()> {
    Connection::open(path)?.execute_batch(sql)
}

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
fn columns_may_take_the_names_of_the_rowid() {
    check(
        "CREATE TABLE t (rowid TEXT, org TEXT, n INTEGER);",
        "INSERT INTO t VALUES ('r1', '{t}', 1), ('r2', '{t}', 2);",
        OTHERS,
        &[
            ("SELECT rowid, n FROM t ORDER BY n", Is(r#"[["r1",1],["r2",2]]"#)),
            ("SELECT n FROM t WHERE rowid = 'r2'", Is("[[2]]")),
            ("UPDATE t SET n = n + 10 WHERE rowid = 'r1'", Is("1")),
            ("UPDATE t SET rowid = 'x' WHERE n = 2", Is("1")),
            ("INSERT INTO t (rowid, n) VALUES ('r3', 3)", Confined("1")),
            ("DELETE FROM t WHERE rowid = 'x'", Is("1")),
            ("SELECT rowid, n FROM t ORDER BY n", Confined(r#"[["r3",3],["r1",11]]"#)),
            ("SELECT count(*) FROM t", Confined("[[2]]")),
            ("UPDATE t SET n = 0 WHERE rowid = 'r1' RETURNING n", Refused("primary key")),
        ],
    );
    check(
        "CREATE TABLE t (rowid TEXT, _rowid_ TEXT, oid TEXT, org TEXT, n INTEGER);",
        "INSERT INTO t VALUES ('r', 's', 'o', '{t}', 1), ('r', 's', 'o', '{t}', 2);",
        OTHERS,
        &[
            (
                "SELECT rowid, _rowid_, oid, n FROM t ORDER BY n",
                Is(r#"[["r","s","o",1],["r","s","o",2]]"#),
            ),
            ("SELECT count(*) FROM t WHERE oid = 'o'", Is("[[2]]")),
            ("UPDATE t SET n = 3", Refused("no key of their own")),
            ("DELETE FROM t WHERE n = 1", Refused("no key of their own")),
            ("INSERT INTO t (rowid, n) VALUES ('new', 3)", Confined("1")),
            ("SELECT count(*) FROM t", Confined("[[3]]")),
        ],
    );
    check(
        "CREATE TABLE t (oid INTEGER PRIMARY KEY, rowid TEXT, _rowid_ TEXT, org TEXT, n INTEGER);",
        "INSERT INTO t VALUES ({n} + 1, 'r', 's', '{t}', 1), ({n} + 2, 'r', 's', '{t}', 2);",
        OTHERS,
        &[
            ("SELECT oid, rowid FROM t ORDER BY oid", Is(r#"[[1,"r"],[2,"r"]]"#)),
            ("UPDATE t SET oid = oid + 50 WHERE oid = 2", Is("1")),
            ("UPDATE t SET n = 7 WHERE oid = 101", Is("0")),
            ("DELETE FROM t WHERE oid >= 52", Is("1")),
            ("UPDATE t SET n = 8 WHERE rowid = 'r' RETURNING oid, n", Is("[[1,8]]")),
        ],
    );
}

#[test]
fn keys_may_be_composite_and_null() {
    let fill = "INSERT INTO t VALUES (NULL, 1, '{t}', 1), (NULL, 1, '{t}', 2), ('{t}x', NULL, '{t}', 3), ('{t}x', 1, '{t}', 4);";
    check(
        "CREATE TABLE t (a TEXT, b INTEGER, org TEXT, n INTEGER, PRIMARY KEY (a, b));",
        fill,
        OTHERS,
        &[
            ("UPDATE t SET n = n + 10 WHERE a IS NULL", Is("2")),
            ("SELECT n FROM t WHERE a IS NULL AND b = 1 ORDER BY n", Is("[[11],[12]]")),
            ("SELECT n FROM t WHERE a = 'ax' AND b IS NULL", Is("[[3]]")),
            ("SELECT n FROM t WHERE (a, b) = ('ax', 1)", Is("[[4]]")),
            ("SELECT n FROM t WHERE (a, b) = ('bx', 1)", Is("[]")),
            ("UPDATE t SET n = 0 WHERE a IS NULL RETURNING n", Refused("primary key")),
            ("UPDATE t SET n = 5 WHERE a = 'ax' AND b = 1 RETURNING n", Is("[[5]]")),
            ("UPDATE t SET b = 1 WHERE b IS NULL", Fails("UNIQUE")),
            ("DELETE FROM t WHERE a IS NULL AND n = 11", Is("1")),
            ("SELECT count(*) FROM t", Is("[[3]]")),
            ("DELETE FROM t", Is("3")),
        ],
    );
    check(
        "CREATE TABLE t (org TEXT, id INTEGER, n INTEGER, PRIMARY KEY (org, id)) WITHOUT ROWID;
         CREATE INDEX t_n ON t (n);",
        "INSERT INTO t VALUES ('{t}', 1, 1), ('{t}', 2, 2), ('{t}', 3, 3);",
        OTHERS,
        &[
            ("SELECT id FROM t WHERE id > 1 ORDER BY id DESC", Is("[[3],[2]]")),
            ("UPDATE t SET id = id + 10 WHERE n >= 2", Is("2")),
            ("SELECT id FROM t ORDER BY n", Is("[[1],[12],[13]]")),
            ("UPDATE t SET id = 1 WHERE id = 12", Fails("UNIQUE")),
            ("INSERT INTO t (id, n) VALUES (1, 9)", Refused("UNIQUE")),
            ("INSERT INTO t (id, n) VALUES (100, 9)", Confined("1")),
            ("DELETE FROM t WHERE n = 1 RETURNING id", Is("[[1]]")),
        ],
    );
    check(
        "CREATE TABLE t (name TEXT COLLATE NOCASE, id INTEGER, org TEXT, n INTEGER, PRIMARY KEY (name, id DESC)) WITHOUT ROWID;",
        "INSERT INTO t VALUES ('Tea', {n} + 1, '{t}', 1), ('tea', {n} + 2, '{t}', 2), ('GIN', {n} + 1, '{t}', 3);",
        OTHERS,
        &[
            ("SELECT id FROM t WHERE name = 'TEA' ORDER BY id DESC", Is("[[2],[1]]")),
            ("UPDATE t SET n = n + 10 WHERE name = 'tEa'", Is("2")),
            ("SELECT name FROM t WHERE name > 'h' COLLATE BINARY ORDER BY n", Is(r#"[["tea"]]"#)),
            ("DELETE FROM t WHERE name = 'gin'", Is("1")),
        ],
    );
}

#[test]
fn keys_may_have_no_type() {
    for rowid in ["", " WITHOUT ROWID"] {
        check(
            &format!("CREATE TABLE t (k PRIMARY KEY, org TEXT, n INTEGER){rowid};"),
            "INSERT INTO t VALUES ({n} + 1, '{t}', 1), ('{n}', '{t}', 2), ({n} + 1.5, '{t}', 3), (CAST('{n}' AS BLOB), '{t}', 4), \
             ('x' || char(0) || '{t}', '{t}', 5), (9007199254740993 + {n}, '{t}', 6), ('e{t}', '{t}', 7), (CAST('{t}' AS BLOB), '{t}', 8);",
            OTHERS,
            &[
                ("UPDATE t SET n = n + 10", Is("8")),
                ("SELECT n FROM t WHERE k = 1", Is("[[11]]")),
                ("SELECT n FROM t WHERE k = '0'", Is("[[12]]")),
                ("SELECT n FROM t WHERE k = 1.5", Is("[[13]]")),
                ("SELECT n FROM t WHERE k = x'30'", Is("[[14]]")),
                ("SELECT n FROM t WHERE k = 9007199254740993", Is("[[16]]")),
                ("SELECT n FROM t WHERE k = 9007199254740992.0", Is("[]")),
                ("SELECT count(*) FROM t WHERE k > 0", Is("[[8]]")),
                ("UPDATE t SET k = k || 'y' WHERE k = 'x' || char(0) || 'a'", Is("1")),
                ("SELECT hex(k) FROM t WHERE n = 15", Is(r#"[["78006179"]]"#)),
                ("DELETE FROM t WHERE k IN (1, '0', x'30')", Is("3")),
                ("SELECT n FROM t ORDER BY n", Is("[[13],[15],[16],[17],[18]]")),
                ("UPDATE t SET n = 0 WHERE k = 1.5 RETURNING n", Is("[[0]]")),
            ],
        );
    }
}

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

const ORDERS: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, org TEXT, total INTEGER); CREATE INDEX orders_of ON orders (org);";
const ORDERS_FILL: &str = "INSERT INTO orders VALUES ({n} + 1, '{t}', {n} + 10), ({n} + 2, '{t}', {n} + 20), ({n} + 3, '{t}', {n} + 30);";

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
        (
            "ALTER TABLE orders RENAME TO old; CREATE TABLE orders (total INTEGER, org TEXT, id TEXT, PRIMARY KEY (org, id)) WITHOUT ROWID; INSERT INTO orders SELECT total * 2, org, 'k' || id FROM old",
            "SELECT sum(total) FROM orders",
            Ok(json!([[120]])),
        ),
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
            let world = World::many(ORDERS, ORDERS_FILL);
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
        (
            "ALTER TABLE orders RENAME TO old; CREATE TABLE orders (total INTEGER, org TEXT, id TEXT, PRIMARY KEY (org, id)) WITHOUT ROWID; INSERT INTO orders SELECT total * 2, org, 'k' || id FROM old",
            "UPDATE orders SET total = 1 WHERE id <> 'k1'",
            2,
        ),
        (
            "ALTER TABLE orders RENAME TO old; CREATE TABLE orders (id INTEGER, org TEXT, total INTEGER); INSERT INTO orders SELECT 1, org, total FROM old",
            "UPDATE orders SET total = 1 WHERE id = 1",
            3,
        ),
    ] {
        let world = World::many(ORDERS, ORDERS_FILL);
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
            let world = World::many(ORDERS, ORDERS_FILL);
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
