//! `verger plugin inspect` and `verger plugin check`: what a person learns of a `.wasm` before it
//! is dropped in, and the grants of the command line that they speak of.

use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;

use super::handmade::Handmade;
use super::harness::{
    Folder, Site, command, keys, object, prebuilt, puppet, refusal, repository, said, text,
};

fn memberships() -> String {
    prebuilt("reconcile-memberships")
}

/// The findings of a check that are no `ok`: level, what was looked at, and the sentence.
fn findings(checked: &Json) -> Vec<(&str, &str, &str)> {
    let all = checked["findings"].as_array().unwrap().iter();
    let all = all.map(|finding| {
        (
            finding["level"].as_str().unwrap(),
            finding["check"].as_str().unwrap(),
            finding["says"].as_str().unwrap(),
        )
    });
    all.filter(|(level, ..)| *level != "ok").collect()
}

fn has(checked: &Json, level: &str, check: &str, names: &str) -> bool {
    findings(checked)
        .iter()
        .any(|found| found.0 == level && found.1 == check && found.2.contains(names))
}

// --- inspect
// ----------------------------------------------------------------------------------------------------------------------------

#[test]
fn a_component_is_told_of_and_without_a_grant_may_do_nothing() {
    let (text, _) = said(0, &["plugin", "inspect", &memberships()]);
    for line in [
        "reconcile-memberships 0.1.0",
        "  store   reads and writes the database through the host, as far as it is granted",
        "and nothing else: no files, no network, no environment, no clock of its own.",
        "  migrate-args, describe, perform",
        "  table memberships, or what the arg `table` names  update   NOT GRANTED",
        "Without --grant or --trust this is an empty grant, and an empty grant grants nothing.",
        "  organization_id    must be there, and may be null",
        "  table              default \"memberships\". The table or view of the memberships.",
        "  every 5 minutes (@every 5m)",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }

    let told = object(0, &["plugin", "inspect", &memberships()]);
    assert!(text.contains("\nThe limits of an attempt\n  time_ms"), "{text}");
    assert_eq!(told["limits"]["audit_bytes"], 256 << 20);
    let all = [
        "bytes",
        "capabilities",
        "enqueues",
        "exports",
        "file",
        "grant",
        "grant_is_for_this_file",
        "imports",
        "limits",
        "manifest",
        "refused",
        "sha256",
        "tables",
        "unasked",
        "withheld",
    ];
    assert_eq!(keys(&told), all);
    assert_eq!(told["bytes"], std::fs::metadata(memberships()).unwrap().len());
    assert!(text.contains(&format!("SHA-256 {}", told["sha256"].as_str().unwrap())), "{text}");
    assert_eq!(
        (&told["manifest"]["name"], &told["grant"], &told["refused"]),
        (&json!("reconcile-memberships"), &Json::Null, &Json::Null)
    );
    assert_eq!(
        told["tables"][0],
        json!({"table": "memberships", "arg": "table", "verb": "read", "granted": false, "columns": null})
    );
    assert_eq!(
        told["withheld"],
        json!({"tables": {"memberships": ["read", "update"]}, "capabilities": [], "enqueues": [],
            "unconfined": false, "scope_defaults": []})
    );
    assert!(
        told["imports"].as_array().unwrap().iter().all(|import| import["means"].is_string()),
        "{told}"
    );
}

/// A text without what sets its columns apart.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_grant_shows_what_it_gives_and_what_it_leaves_closed() {
    let grant = r#"{"reconcile-memberships": {"read": ["memberships:id,state"], "delete": ["memberships"], "tenant_column": "organization_id"}}"#;
    let inspect = ["plugin", "inspect", &memberships(), "--grant", grant];
    let (text, _) = said(0, &inspect);
    for words in [
        "read     granted on the columns id, state alone",
        "update   NOT GRANTED",
        "asks for what it is not granted: update on table memberships",
        "stays closed: delete on memberships",
        "only the rows that have it in `organization_id`",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let told = object(0, &inspect);
    assert_eq!(told["tables"][0]["columns"], json!(["id", "state"]));
    assert_eq!(told["withheld"]["tables"], json!({"memberships": ["update"]}));
    assert_eq!(told["unasked"], json!(["delete on memberships"]));
    assert_eq!(
        told["grant"],
        serde_json::from_str::<Json>(grant).unwrap()["reconcile-memberships"]
    );

    // Trust, and the line it prints itself, leave nothing closed.
    let (text, _) = said(0, &["plugin", "inspect", &puppet(), "--trust"]);
    assert!(
        !text.contains("NOT GRANTED")
            && words(&text).contains("function echo of the app call granted"),
        "{text}"
    );
    let (text, _) = said(0, &["plugin", "inspect", &puppet()]);
    let all = text.split("--grant '").nth(1).unwrap().split('\'').next().unwrap();
    let told = object(0, &["plugin", "inspect", &puppet(), "--grant", all]);
    assert_eq!(
        (&told["withheld"], &told["unasked"]),
        (
            &json!({"tables": {}, "capabilities": [], "enqueues": [], "unconfined": false, "scope_defaults": []}),
            &json!([])
        )
    );
    assert_eq!(told["grant"]["sha256"], told["sha256"]);
    assert!(
        told["tables"].as_array().unwrap().iter().all(|asked| asked["granted"] == true),
        "{told}"
    );
}

#[test]
fn a_grant_for_another_file_is_looked_at_all_the_same() {
    let grant =
        format!(r#"{{"puppet": {{"write": ["things"], "sha256": "{}"}}}}"#, "ab".repeat(32));
    let (text, _) = said(0, &["plugin", "inspect", &puppet(), "--grant", &grant]);
    assert!(
        text.contains("THE GRANT IS FOR ANOTHER FILE")
            && words(&text).contains("table things delete granted"),
        "{text}"
    );
    assert_eq!(
        object(0, &["plugin", "inspect", &puppet(), "--grant", &grant])["grant_is_for_this_file"],
        false
    );
    let checked = object(1, &["plugin", "check", &puppet(), "--grant", &grant]);
    assert!(has(&checked, "must-fix", "grant", "for another file"), "{checked}");
}

#[test]
fn what_is_no_component_is_refused_with_the_reason() {
    let folder = Folder::new();
    let whole = std::fs::read(puppet()).unwrap();
    let cache = folder.path("cache");
    assert!(
        command(&["plugin", "inspect", &puppet()])
            .env("XDG_CACHE_HOME", &cache)
            .output()
            .unwrap()
            .status
            .success()
    );
    let cached = std::fs::read_dir(cache.join("verger")).unwrap().next().unwrap().unwrap().path();
    // The cache puts a digest before the machine code.
    let machine_code = std::fs::read(cached).unwrap().split_off(32);
    for (file, names) in [
        (folder.file("cut.wasm", &whole[..whole.len() / 2]), "check that the file is complete"),
        (folder.file("core.wasm", b"\0asm\x01\0\0\0"), "plugin pack"),
        (folder.file("machine.wasm", machine_code), "precompiled machine code"),
        (folder.file("letter.wasm", "Dear verger"), "does not begin as WebAssembly does"),
        (folder.file("empty.wasm", ""), "no valid WebAssembly component"),
        (folder.path("").to_str().unwrap().to_string(), "is a folder, not a file"),
        ("no-such.wasm".to_string(), "cannot read the plugin no-such.wasm"),
    ] {
        for verb in ["inspect", "check"] {
            let said = refusal(&["plugin", verb, &file]);
            assert!(said.contains(names), "{verb} {file}: {said}");
        }
    }
    assert!(
        refusal(&["plugin", "pack", &puppet(), "-o", "x.wasm"]).contains("is a component already")
    );
}

#[test]
fn what_verger_refuses_is_told_of_as_far_as_it_can_be() {
    let folder = Folder::new();
    let worker = || Handmade::new("worker");
    let foreign = worker().fields(r#"(import "acme:files/types@1.0.0" (instance))"#).bytes();
    for (file, import, names) in [
        (
            folder.file("foreign.wasm", foreign),
            Some("acme:files/types@1.0.0"),
            "imports `acme:files/types@1.0.0`",
        ),
        (
            folder.file("nothing.wasm", wat::parse_str("(component)").unwrap()),
            None,
            "does not implement the world",
        ),
        (
            folder.file("traps.wasm", worker().describe("unreachable").bytes()),
            None,
            "could not describe itself",
        ),
        (folder.file("other.wasm", Handmade::described("[]").bytes()), None, "manifest"),
    ] {
        let inspect = ["plugin", "inspect", file.as_str()];
        let (text, reason) = said(2, &inspect);
        assert!(reason.contains(names), "{reason}");
        assert_eq!(text.contains("REFUSED"), import.is_some(), "{text}");
        let told = object(2, &inspect);
        assert!(
            told["refused"].as_str().unwrap().contains(names) && told["manifest"].is_null(),
            "{told}"
        );
        let foreign =
            told["imports"].as_array().unwrap().iter().find(|import| import["refused"] == true);
        assert_eq!(foreign.map(|import| import["name"].as_str().unwrap()), import);

        let checked = object(1, &["plugin", "check", &file]);
        let check = if import.is_some() { "imports" } else { "load" };
        assert!(has(&checked, "must-fix", check, import.unwrap_or(names)), "{checked}");
        assert_eq!(
            (&checked["must_fix"], &checked["worker"], &checked["outcome"]),
            (&json!(1), &Json::Null, &Json::Null)
        );
        assert!(said(1, &["plugin", "check", &file]).0.contains("1 thing to fix"));
    }
}

#[test]
fn what_a_component_gets_of_wasi_is_told() {
    let folder = Folder::new();
    let wasi = r#"(import "wasi:cli/environment@0.2.3" (instance)) (import "wasi:sockets/tcp@0.2.3" (instance))"#;
    let file = folder.file("worker.wasm", Handmade::new("worker").fields(wasi).bytes());
    let (text, _) = said(0, &["plugin", "inspect", &file]);
    for line in [
        "  wasi:cli/environment@0.2.3  an empty environment; what it prints goes to its job's log",
        "  wasi:sockets/tcp@0.2.3      nothing: a call traps",
        "and nothing else: no files, no network, no environment, no clock of its own.",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let checked = object(0, &["plugin", "check", &file]);
    let imports = checked["findings"][0]["says"].as_str().unwrap();
    assert!(
        imports.contains("; and WASI, which gives it next to nothing: wasi:cli/environment@0.2.3, wasi:sockets/tcp@0.2.3"),
        "{imports}"
    );
}

#[test]
fn no_word_of_a_stranger_reaches_the_terminal_as_a_command() {
    let manifest = json!({
        "name": "worker",
        "version": "1\u{1b}[2J",
        "description": "Good.\n\nIt asks for\n  nothing\u{202e}",
        "args": {"a\u{7}": {"default": "\u{9b}31m", "description": "\r"}},
        "capabilities": ["x'; touch owned; '\u{1b}"],
        "schedule": {"cron": "\u{1b}"},
    });
    let folder = Folder::new();
    let file = folder.file("worker.wasm", Handmade::described(manifest.to_string()).bytes());
    for (verb, status) in [("inspect", 0), ("check", 1)] {
        let (text, _) = said(status, &["plugin", verb, &file]);
        let hidden = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(hidden, None, "{text}");
        assert!(text.contains("\\u001b"), "{text}");
    }
    let (text, _) = said(0, &["plugin", "inspect", &file]);
    assert!(text.contains("Good. ⏎  ⏎ It asks for"), "{text}");
    assert!(
        text.contains(r#"'{"worker":{"capabilities":["x'\''; touch owned; '\''\u001b"]"#),
        "{text}"
    );
}

// --- grants
// -----------------------------------------------------------------------------------------------------------------------------

#[test]
fn the_same_grant_lets_a_worker_run_as_far_as_it_goes() {
    let folder = Folder::new();
    let db = folder.path("app.db").to_str().unwrap().to_string();
    said(0, &["migrate", "--db", &db]);
    Connection::open(&db)
        .unwrap()
        .execute_batch("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)")
        .unwrap();
    std::fs::create_dir(folder.path("plugins")).unwrap();
    std::fs::copy(puppet(), folder.path("plugins/puppet.wasm")).unwrap();
    let steps = r#"{"do": [["execute", "INSERT INTO things (id) VALUES (1)", []], ["query", "SELECT name FROM things", []], ["execute", "DELETE FROM things", []]]}"#;
    let plugins = folder.path("plugins");
    let run = [
        "run",
        "puppet",
        "--db",
        &db,
        "--args",
        steps,
        "--dry-run",
        "--plugins",
        plugins.to_str().unwrap(),
    ];
    let with = |grant: &str| object(0, &[&run[..], &["--grant", grant]].concat())["result"].clone();

    let grant = r#"{"puppet": {"insert": ["things"], "read": ["things:id"]}}"#;
    let answers = with(grant);
    assert_eq!(answers[0], json!({"ok": 1}));
    assert!(
        answers[1]["message"].as_str().unwrap().contains("read denied: column things.name"),
        "{answers}"
    );
    assert!(
        answers[2]["message"].as_str().unwrap().contains("delete denied: table things"),
        "{answers}"
    );
    assert_eq!(with(&folder.file("grants.json", grant)), answers, "a file says the same");

    // What is granted by name counts before --trust.
    let trusted = object(0, &[&run[..], &["--trust"]].concat());
    assert_eq!(trusted["result"][2], json!({"ok": 1}));
    let narrowed = object(0, &[&run[..], &["--trust", "--grant", grant]].concat());
    assert_eq!(narrowed["result"], answers);

    // For this file alone.
    let sha256 =
        object(0, &["plugin", "inspect", &puppet()])["sha256"].as_str().unwrap().to_string();
    let bound =
        |sha256: &str| format!(r#"{{"puppet": {{"write": ["things"], "sha256": "{sha256}"}}}}"#);
    assert_eq!(with(&bound(&sha256))[2], json!({"ok": 1}));
    let refused = refusal(&[&run[..], &["--grant", &bound(&"0".repeat(64))]].concat());
    assert!(refused.contains("a plugin was refused") && refused.contains(&sha256), "{refused}");

    let (_, warned) = said(0, &[&run[..], &["--grant", r#"{"pupet": {}}"#]].concat());
    assert!(warned.contains("--grant names `pupet`") && warned.contains("puppet"), "{warned}");
    assert!(
        refusal(&[&run[..], &["--grant", r#"{"puppet": {"reed": []}}"#]].concat())
            .contains("unknown field `reed`")
    );
    assert!(
        refusal(&[&run[..], &["--grant", grant, "--grant", grant]].concat())
            .contains("`puppet` twice")
    );
    assert!(refusal(&["tick", "--db", &db, "--trust"]).contains("--plugins"));
}

// --- check
// ------------------------------------------------------------------------------------------------------------------------------

#[test]
fn the_built_in_workers_need_nothing() {
    for entry in std::fs::read_dir(repository("plugins/prebuilt")).unwrap() {
        let file = entry.unwrap().path();
        let checked = object(0, &["plugin", "check", file.to_str().unwrap()]);
        // What the app gives, and what an empty world has no use for, is not the worker's to mend.
        let own: Vec<_> = findings(&checked)
            .into_iter()
            .filter(|(level, check, _)| {
                *level != "advice" || !["functions", "tables"].contains(check)
            })
            .collect();
        assert_eq!(own, [], "{}", file.display());
        assert_eq!((&checked["outcome"], &checked["error"]), (&json!("done"), &Json::Null));
    }
}

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
    let (text, _) = said(0, &check);
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
            "table tokens (worker puppet is granted nothing on it; its manifest does not ask for more): ask for it",
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
            "CREATE, ALTER and DROP denied: workers do not change the schema (worker puppet): do without",
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

#[test]
fn a_name_that_is_taken_is_told() {
    let folder = Folder::new();
    let manifest =
        json!({"name": "reconcile-memberships", "version": "1", "description": "Another."});
    let file = folder.file("mine.wasm", Handmade::described(manifest.to_string()).bytes());
    let checked = object(0, &["plugin", "check", &file]);
    assert!(
        has(&checked, "advice", "name", "name the file reconcile-memberships.wasm"),
        "{checked}"
    );
    assert!(has(&checked, "advice", "name", "a built-in worker has its name"), "{checked}");
}

#[test]
fn the_waiting_jobs_that_a_version_could_not_perform_are_named() {
    let site = Site::new();
    let waiting = |args: &str, version: u32, count: usize| {
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO verger_jobs (worker, args, args_version, queue) SELECT 'report', '{args}', {version}, 'q' FROM n"
        );
        site.open().execute_batch(&sql).unwrap();
    };
    text(&["tick", "--db", site.db()]);
    let file = repository("tests/guests/migrant.wasm");
    let check = ["plugin", "check", &file, "--args", r#"{"minutes": 1}"#, "--db", site.db()];
    waiting(r#"{"days": 1}"#, 1, 700);
    waiting(r#"{"hours": 1}"#, 2, 1);
    let checked = object(0, &check);
    assert!(checked.to_string().contains("its args fit 701 waiting jobs"), "{checked}");
    waiting(r#"{"dayz": 1}"#, 1, 7);
    waiting(r#"{"seconds": 1}"#, 4, 1);
    let checked = object(1, &check);
    let unfit = "7 waiting jobs (702, 703, 704, 705, 706, …) could not be performed";
    assert!(has(&checked, "must-fix", "jobs", unfit), "{checked}");
    assert!(has(&checked, "must-fix", "jobs", "the arg `days` is missing"), "{checked}");
    assert!(has(&checked, "advice", "jobs", "1 waiting job (709) would be parked"), "{checked}");
    let of_all = "SELECT count(*) FROM verger_jobs WHERE attempt = 0 AND state = 'available'";
    let count: i64 = site.open().query_row(of_all, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 709, "nothing of them is changed");
}

// --- forget
// ----------------------------------------------------------------------------------------------------------------------------

#[test]
fn a_name_is_free_once_it_is_forgotten() {
    let site = Site::new();
    let folder = site.folder.path("plugins");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(puppet(), folder.join("p.wasm")).unwrap();
    text(&["tick", "--db", site.db(), "--plugins", folder.to_str().unwrap()]);
    let forget = ["plugin", "forget", "puppet", "--db", site.db()];
    let named = "SELECT count(*) FROM verger_plugins";
    let count = || site.open().query_row(named, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 1);
    assert_eq!(object(0, &forget), json!({"forgotten": "puppet"}));
    assert_eq!(count(), 0);
    assert!(refusal(&forget).contains("no dropped-in worker had the name `puppet`"));
}
