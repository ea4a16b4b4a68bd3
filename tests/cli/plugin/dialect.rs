//! `verger plugin check --dialect postgres`: which statements PostgreSQL does not take.

use serde_json::{Value as Json, json};

use super::{findings, has};
use crate::cluster::{database, programs};
use crate::harness::{Folder, object, prebuilt, puppet, said};
use crate::puppet::puppet_as;

const TABLES: &str = "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL, n INTEGER, seen BOOLEAN, UNIQUE (name, n)); \
     CREATE UNIQUE INDEX by_n ON things (n) WHERE n > 0; CREATE TABLE other (id INTEGER PRIMARY KEY); CREATE TABLE withheld (id TEXT)";

fn steps(statements: &[&str]) -> String {
    let steps = statements.iter().map(|sql| match sql.starts_with("SELECT") {
        true => json!(["query", sql, []]),
        false => json!(["execute", sql, []]),
    });
    json!({"do": steps.collect::<Vec<Json>>()}).to_string()
}

/// The SQL of the tables, in a file.
fn tables(folder: &Folder) -> String {
    let file = folder.path("tables.sql");
    std::fs::write(&file, TABLES).unwrap();
    file.to_str().unwrap().to_string()
}

#[test]
fn each_statement_that_postgres_refuses_is_named_with_its_reason() {
    if programs().is_none() {
        return;
    }
    let folder = Folder::new();
    let refused = [
        (
            "INSERT OR IGNORE INTO things (id, name) VALUES (1, 'a')",
            "syntax error at or near \"OR\"",
        ),
        ("SELECT id FROM things WHERE name GLOB 'a*'", "syntax error at or near \"GLOB\""),
        ("SELECT rowid FROM things", "column \"rowid\" does not exist"),
        ("SELECT id FROM things WHERE name = \"a\"", "column \"a\" does not exist"),
        ("SELECT name, count(*) FROM things", "must appear in the GROUP BY clause"),
        ("SELECT id FROM things WHERE n", "argument of WHERE must be type boolean"),
        ("SELECT id FROM things WHERE name LIKE 'a%'", "LIKE ignores case on SQLite"),
        ("SELECT name || n, printf('%d', n) FROM things", "function printf"),
    ];
    let taken = [
        "SELECT id, ifnull(name, '-') FROM things WHERE id IS ?1 ORDER BY id LIMIT 5",
        "INSERT INTO things (id, name, n) VALUES (2, 'b', 3) ON CONFLICT (name, n) DO UPDATE SET n = things.n + 1",
        "INSERT INTO things (id, name, n) VALUES (3, 'b', 4) ON CONFLICT (n) WHERE n > 0 DO NOTHING",
        "UPDATE things SET n = n + 1 WHERE id = 2 RETURNING id",
    ];
    let all: Vec<&str> = refused.iter().map(|(sql, _)| *sql).chain(taken).collect();
    let (args, tables) = (steps(&all), tables(&folder));
    let puppet = puppet();
    let check =
        ["plugin", "check", &puppet, "--args", &args, "--sql", &tables, "--dialect", "postgres"];
    let checked = object(1, &check);
    for (sql, why) in refused {
        let found = findings(&checked).into_iter().any(|(level, what, says)| {
            (level, what) == ("must-fix", "postgres") && says.contains(sql) && says.contains(why)
        });
        assert!(found, "{sql}: {:#?}", findings(&checked));
    }
    let postgres = findings(&checked).into_iter().filter(|found| found.1 == "postgres");
    assert_eq!(postgres.count(), refused.len(), "{:#?}", findings(&checked));
    // Without the option, nothing of this is said.
    assert!(!said(0, &check[..7]).0.contains("PostgreSQL"));
}

#[test]
fn a_worker_whose_statements_are_taken_is_told_what_it_may_declare() {
    if programs().is_none() {
        return;
    }
    let folder = Folder::new();
    let (args, tables) = (steps(&["SELECT id FROM things WHERE name = 'a'"]), tables(&folder));
    let checked = |file: &str, status, args: &str| {
        let words = ["plugin", "check", file, "--args", args, "--sql", &tables];
        object(status, &[&words[..], &["--dialect", "postgres"]].concat())
    };
    let fine = checked(&puppet(), 0, &args);
    assert!(has(&fine, "advice", "postgres", "takes all it sent, 1 statement"), "{fine:#}");
    let asks = json!([{"table": "things", "verbs": ["read"]}]);
    let manifest = json!({"name": "puppet", "version": "1", "sql": ["common"], "args": {"do": {"default": []}}, "tables": asks});
    let file = folder.path("common.wasm");
    std::fs::write(&file, puppet_as(&manifest)).unwrap();
    let file = file.to_str().unwrap();
    // One that says so may use LIKE.
    let args = steps(&["SELECT id FROM things WHERE name LIKE 'a%'"]);
    assert!(findings(&checked(file, 0, &args)).iter().all(|found| found.1 != "postgres"));
    let none = checked(file, 0, "{}");
    assert!(has(&none, "advice", "postgres", "it sent no statement here"), "{none:#}");
}

#[test]
fn a_statement_on_tables_nobody_said_is_no_fault() {
    if programs().is_none() {
        return;
    }
    let args = steps(&[
        "SELECT id FROM things WHERE n + 1 > 7",
        "SELECT id FROM things WHERE id GLOB 'a'",
    ]);
    let checked =
        object(1, &["plugin", "check", &puppet(), "--args", &args, "--dialect", "postgres"]);
    assert!(has(&checked, "advice", "postgres", "for want of the real tables"), "{checked:#}");
    assert!(has(&checked, "must-fix", "postgres", "near \"GLOB\""), "{checked:#}");
}

#[test]
fn the_tables_of_an_app_are_looked_at_and_not_touched() {
    let Some(database) = database() else { return };
    let address = database.address();
    let args = steps(&[
        "SELECT id FROM things WHERE seen",
        "INSERT INTO things (id, name) VALUES (1, 'a')",
    ]);
    let (puppet, folder) = (puppet(), Folder::new());
    let tables = tables(&folder);
    let words = ["plugin", "check", &puppet, "--args", &args, "--sql", &tables];
    let check = [&words[..], &["--dialect", "postgres", "--db", &address]].concat();
    let (_, err) = said(2, &check);
    assert!(err.contains("the engine tables are at version 0"), "{err}");

    let sql = "CREATE TABLE things (id bigint PRIMARY KEY, name text, seen boolean)";
    database.client().batch_execute(sql).unwrap();
    said(0, &["migrate", "--db", &address]);
    let before: i64 = database.one("SELECT count(*) FROM pg_class");
    let checked = object(0, &check);
    assert!(has(&checked, "advice", "postgres", "takes all it sent, 2 statements"), "{checked:#}");
    assert_eq!(database.one::<i64>("SELECT count(*) FROM pg_class"), before);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM things"), 0);
}

#[test]
fn the_built_in_sweeps_are_for_both_stores() {
    if programs().is_none() {
        return;
    }
    for (worker, args) in [
        ("cleanup-expired-invitations", "{}"),
        ("cleanup-tokens", "{}"),
        ("deliver-email", "{}"),
        ("evict-cache", r#"{"max_bytes": 1}"#),
        ("prune-webhook-events", "{}"),
        ("reconcile-memberships", "{}"),
        ("reconcile-webhook-events", "{}"),
    ] {
        let words = ["plugin", "check", &prebuilt(worker), "--args", args];
        let (text, _) = said(0, &[&words[..], &["--dialect", "postgres"]].concat());
        assert!(text.contains("ok        postgres      PostgreSQL takes all it sent"), "{text}");
    }
}
