//! `verger plugin inspect`: what a person learns of a `.wasm` before it is dropped in.

use serde_json::{Value as Json, json};

use super::{has, memberships};
use crate::handmade::Handmade;
use crate::harness::{Folder, command, keys, object, puppet, refusal, said};

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
        "database",
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
