//! `verger plugin check`: a worker at work on a database of its own.

use serde_json::{Value as Json, json};

use super::{findings, has, memberships};
use crate::handmade::Handmade;
use crate::harness::{Folder, keys, object, puppet, refusal, said};

#[test]
fn a_check_tells_programs_what_it_tells_people() {
    let check = ["plugin", "check", &memberships(), "--now", "2026-01-01"];
    let checked = object(0, &check);
    let all = [
        "advice",
        "bytes",
        "calls",
        "compile_ms",
        "describe_ms",
        "error",
        "file",
        "findings",
        "log",
        "machine_code_bytes",
        "memory_bytes",
        "must_fix",
        "outcome",
        "perform_ms",
        "result",
        "sha256",
        "version",
        "worker",
    ];
    assert_eq!(keys(&checked), all);
    assert_eq!(keys(&checked["findings"][0]), ["check", "level", "says"]);
    assert_eq!(checked["result"], json!({"scanned": 0, "updated": 0, "errors": 0}));
    for measured in
        ["compile_ms", "describe_ms", "machine_code_bytes", "memory_bytes", "perform_ms"]
    {
        assert!(
            checked[measured].as_f64().is_some_and(|number| number > 0.0),
            "{measured}: {checked}"
        );
    }
    let (text, beside) = said(0, &check);
    // Jobs with args of the wrong type were tried, and that they failed is no news.
    assert!(text.contains("is discarded at once: `batch_size`"), "{text}");
    assert_eq!(beside, "");
    assert!(text.starts_with("reconcile-memberships 0.1.0 ("), "{text}");
    assert!(
        text.contains(
            "ok        world         `memberships` is the reference table, without rows\n"
        ),
        "{text}"
    );
    assert!(text.ends_with("Nothing must be fixed; no advice.\n"), "{text}");
}

#[test]
fn each_fault_at_work_is_found_and_named() {
    let steps = |steps: Json| json!({ "do": steps }).to_string();
    let query = |sql: &str| steps(json!([["query", sql, []]]));
    for (args, level, check, names) in [
        (
            steps(json!([["trap"]])),
            "must-fix",
            "perform",
            "in an empty world it fails: the worker panicked or aborted",
        ),
        (steps(json!([["failed", "no idea"]])), "must-fix", "perform", "no idea [failed]"),
        (steps(json!([["done-with", "{"]])), "must-fix", "perform", "[invalid-result]"),
        (
            steps(json!([["cancel", "not today"]])),
            "advice",
            "perform",
            "it cancels its job: not today",
        ),
        // Access it does not ask for: to a table that is there, to one that is not, to a function,
        // to the schema, to the engine.
        (
            query("SELECT * FROM tokens"),
            "must-fix",
            "denied",
            "table tokens (worker puppet is granted nothing on it; its manifest does not ask for more)",
        ),
        (
            query("SELECT * FROM users"),
            "must-fix",
            "denied",
            "it uses `users`, which its manifest does not ask for",
        ),
        (
            query("DELETE FROM other RETURNING id"),
            "must-fix",
            "denied",
            "delete denied: table other",
        ),
        (steps(json!([["call", "mailer", "{}"]])), "must-fix", "denied", "capability `mailer`"),
        (
            steps(json!([["execute", "CREATE TABLE x (a)", []]])),
            "must-fix",
            "denied",
            "CREATE, ALTER and DROP denied: workers do not change the schema (worker puppet)",
        ),
        (
            query("SELECT * FROM verger_jobs"),
            "must-fix",
            "denied",
            "verger_jobs belongs to the engine",
        ),
        (query("SELEC 1"), "must-fix", "sql", "syntax error"),
        (
            query("SELECT no_such_function(id) FROM other"),
            "advice",
            "sql",
            "say them with --sql FILE",
        ),
        (steps(json!([["audit-safe", [{"action": "bad"}]]])), "must-fix", "audit", "`action`"),
        (
            steps(json!([["call", "echo", "{\"to\": 1}"], ["failed", "no answer"]])),
            "advice",
            "perform",
            "only answers null here: no answer",
        ),
        (
            steps(json!([["execute", "INSERT INTO things (name) VALUES ('a')", []]])),
            "advice",
            "again",
            "changes 1 row too",
        ),
        (
            steps(json!([
                ["execute", "INSERT INTO things (id) VALUES (1)", []],
                ["must", ["execute", "INSERT INTO things (id) SELECT 2 FROM things", []]]
            ])),
            "must-fix",
            "again",
            "fails: ",
        ),
        (
            query("SELECT id FROM other"),
            "advice",
            "tables",
            "it asks for read on `withheld` and did not touch it",
        ),
    ] {
        let status = i32::from(level == "must-fix");
        let checked = object(status, &["plugin", "check", &puppet(), "--args", &args]);
        assert!(has(&checked, level, check, names), "{args}\n{:#?}", findings(&checked));
    }
}

#[test]
fn the_columns_of_unknown_tables_are_learned_from_the_statements() {
    let args = json!({"do": [
        ["execute", "INSERT INTO things (name, value) VALUES (?1, 3)", ["a"]],
        ["query", "SELECT t.name, o.secret FROM things t LEFT JOIN other o ON o.owner = t.id ORDER BY t.made_at", []],
    ]});
    let checked = object(0, &["plugin", "check", &puppet(), "--args", &args.to_string()]);
    assert_eq!(checked["result"], json!([{"ok": 1}, {"ok": [["a", null]]}]), "{checked}");
    let world: Vec<&str> = checked["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["check"] == "world")
        .map(|finding| finding["says"].as_str().unwrap())
        .collect();
    assert_eq!(
        world,
        [
            "`other` has no rows, and the columns its statements name: owner, secret",
            "`things` has no rows, and the columns its statements name: made_at, name, value",
            "`withheld` has no rows and no known columns but `id`: --sql FILE can say them",
        ]
    );
}

#[test]
fn functions_answer_null_and_their_calls_are_noted() {
    let args =
        json!({"do": [["call", "echo", "{\"to\": 1}"], ["log", "warn", "no answer"], ["now"]]})
            .to_string();
    let check = ["plugin", "check", &puppet(), "--args", &args, "--now", "1970-01-01T00:00:05Z"];
    let checked = object(0, &check);
    assert_eq!(checked["calls"], json!([{"capability": "echo", "request": {"to": 1}}]));
    assert!(
        has(
            &checked,
            "advice",
            "functions",
            "register the function `echo` and grant it; here 1 call got null"
        ),
        "{checked}"
    );
    assert!(
        has(&checked, "advice", "functions", "`broken` and grant it; it did not call it here"),
        "{checked}"
    );
    assert_eq!(checked["log"], json!([{"level": "warn", "message": "no answer"}]));
    assert_eq!(
        checked["result"],
        json!([{"ok": "null"}, {"ok": null}, {"ok": 5_000}]),
        "the clock is the one of --now"
    );
    assert!(said(0, &check).0.contains("\nIt logged\n  warn   no answer\n"));
}

#[test]
fn a_world_of_ones_own_has_tables_and_rows() {
    let folder = Folder::new();
    let sql = "CREATE TABLE memberships (id TEXT PRIMARY KEY, organization_id TEXT, state TEXT, expires_at INTEGER);
        INSERT INTO memberships VALUES ('a', 'o1', 'active', 5), ('b', 'o2', 'active', 5);";
    let world = folder.file("world.sql", sql);
    let check = ["plugin", "check", &memberships(), "--sql", &world];
    let checked = object(0, &check);
    assert_eq!(
        (&checked["result"]["updated"], &checked["findings"].as_array().unwrap().len()),
        (&json!(2), &14)
    );
    assert_eq!(findings(&checked), []);

    // Under a grant of one's own: of one organization's rows, then without a verb it asks for.
    let confined = r#"{"reconcile-memberships": {"read": ["memberships"], "update": ["memberships:state"], "tenant_column": "organization_id"}}"#;
    let checked = object(
        0,
        &[&check[..], &["--args", r#"{"organization_id": "o1"}"#, "--grant", confined]].concat(),
    );
    assert_eq!(checked["result"]["updated"], 1, "{checked}");
    let checked = object(
        1,
        &[&check[..], &["--grant", r#"{"reconcile-memberships": {"read": ["memberships"]}}"#]]
            .concat(),
    );
    assert!(
        has(&checked, "advice", "denied", "under this grant it is refused: update denied"),
        "{checked}"
    );
    assert!(has(&checked, "must-fix", "perform", "under this grant it fails"), "{checked}");
    assert_eq!(checked["error"]["code"], "denied");

    let other = folder.file("other.sql", "CREATE TABLE memberships (id)");
    let checked = object(1, &["plugin", "check", &memberships(), "--sql", &other]);
    assert!(
        has(&checked, "must-fix", "sql", "in the tables of --sql: no such column"),
        "{checked}"
    );
    let none = folder.file("none.sql", "CREATE TABLE users (id)");
    assert!(has(
        &object(0, &["plugin", "check", &memberships(), "--sql", &none]),
        "advice",
        "world",
        "--sql does not make"
    ));
    let bad = folder.file("bad.sql", "CREATE TABEL memberships");
    assert!(
        refusal(&["plugin", "check", &memberships(), "--sql", &bad])
            .contains("the SQL of --sql fails")
    );
    assert!(
        refusal(&["plugin", "check", &memberships(), "--sql", "no-such.sql"])
            .contains("cannot read no-such.sql")
    );
}

#[test]
fn args_that_have_no_default_are_asked_for() {
    let folder = Folder::new();
    let manifest = json!({"name": "worker", "version": "1", "description": "Works.", "tenant_aware": true,
        "args": {"since": {"required": true, "description": "From when on."}}});
    let file = folder.file("worker.wasm", Handmade::described(manifest.to_string()).bytes());
    let said = refusal(&["plugin", "check", &file]);
    assert!(
        said.contains("requires the args `since`") && said.contains(r#"--args '{"since":"…"}'"#),
        "{said}"
    );
    let checked = object(0, &["plugin", "check", &file, "--args", r#"{"since": 1}"#]);
    assert_eq!((findings(&checked), &checked["outcome"]), (vec![], &json!("done")));
}
