//! What the author of a worker uses: a project to begin with, a component of whatever their
//! compiler made, and the differences between two versions.

use serde_json::json;

use crate::handmade::Handmade;
use crate::harness::{Folder, command, keys, object, puppet, refusal, repository, said, text};
use crate::puppet::puppet_as;

const LANGUAGES: [&str; 8] = ["rust", "js", "ts", "py", "c", "cpp", "zig", "go"];

/// Runs the command in a folder.
#[track_caller]
fn said_in(folder: &Folder, status: i32, args: &[&str]) -> String {
    let output = command(args).current_dir(folder.path("")).output().unwrap();
    let all = [output.stdout, output.stderr].concat();
    let all = String::from_utf8(all).unwrap();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {all}");
    all
}

#[test]
fn the_interface_is_printed_as_it_is() {
    let wit = std::fs::read_to_string(repository("wit/0.1.0/worker.wit")).unwrap();
    assert_eq!(text(&["plugin", "wit"]), wit);
}

#[test]
fn a_project_is_whole_and_named_throughout() {
    for language in LANGUAGES {
        let folder = Folder::new();
        let told = said_in(&folder, 0, &["plugin", "new", "night-audit-2", "--lang", language]);
        assert!(told.contains("build") && told.contains("test"), "{told}");
        let mut files = Vec::new();
        let mut folders = vec![folder.path("night-audit-2")];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push(path),
                }
            }
        }
        let names: Vec<String> = files
            .iter()
            .map(|file| file.strip_prefix(folder.path("")).unwrap().display().to_string())
            .collect();
        for expected in ["README.md", "setup.sql", ".gitignore", "wit/worker.wit"] {
            assert!(names.iter().any(|name| name.ends_with(expected)), "{language}: {names:?}");
        }
        let mut named = 0;
        for file in &files {
            let text = std::fs::read_to_string(file).unwrap();
            // What is left to fill in stands in two braces, without a blank.
            let left = text.split("{{").skip(1).find(|rest| {
                rest.split("}}").next().is_some_and(|word| {
                    word.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !word.is_empty()
                })
            });
            assert_eq!(left, None, "{language}: {}", file.display());
            named += usize::from(text.contains("night-audit-2"));
        }
        assert!(named >= 2, "{language}: the worker and the README say its name");
        let again = said_in(&folder, 2, &["plugin", "new", "night-audit-2", "--lang", language]);
        assert!(again.contains("is there already"), "{again}");
    }
}

#[test]
fn a_project_needs_a_name_that_a_worker_can_have() {
    let folder = Folder::new();
    for bad in ["Night", "a_b", "", "-a", "a-", "a/b", "../a", &"x".repeat(65)] {
        let told = said_in(&folder, 2, &["plugin", "new", "--lang", "js", "--", bad]);
        assert!(
            told.contains("lower-case letters") || told.contains("begin and end"),
            "{bad}: {told}"
        );
    }
    std::fs::write(folder.path("taken"), "a file").unwrap();
    assert!(said_in(&folder, 2, &["plugin", "new", "taken"]).contains("is there already"));
    let json: serde_json::Value = serde_json::from_str(&said_in(
        &folder,
        0,
        &["plugin", "new", "1st", "--lang", "py", "--json"],
    ))
    .unwrap();
    assert_eq!(keys(&json), ["files", "folder"]);
    assert!(json["files"].as_array().unwrap().contains(&json!("worker_1st.py")), "{json}");
    assert!(
        said_in(&folder, 2, &["plugin", "new", "b", "--lang", "cobol"]).contains("possible values")
    );
    assert!(
        said_in(&folder, 2, &["plugin", "new", "b", "--sdk", "nowhere"]).contains("no checkout")
    );
}

/// A worker as a C compiler makes it: no copy of the interface in it; `with` adds imports and fields,
/// `start` is done by `perform`.
fn core_module(with: &str, start: &str) -> Vec<u8> {
    let manifest = r#"{\22name\22:\22by-hand\22,\22version\22:\221\22}"#;
    let length = manifest.replace("\\22", "\"").len();
    wat::parse_str(format!(
        r#"(module
            {with}
            (memory (export "memory") 32)
            (global $next (mut i32) (i32.const 65536))
            (data (i32.const 8) "\40\00\00\00\{length:02x}\00\00\00")
            (data (i32.const 64) "{manifest}")
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (global.set $next (i32.add (global.get $next) (i32.const 131072)))
                (i32.sub (global.get $next) (i32.const 131072)))
            (func (export "describe") (result i32) (i32.const 8))
            (func (export "perform") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                {start}
                (i32.const 32)))"#
    ))
    .unwrap()
}

#[test]
fn a_module_without_the_interface_and_one_that_speaks_wasi_become_components() {
    let folder = Folder::new();
    let wasi = r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))"#;
    let clock = r#"(import "verger:worker/clock@0.1.0" "now" (func $now (result i64)))"#;
    for (name, module, imports) in [
        ("plain", core_module("", ""), vec![]),
        ("clock", core_module(clock, "(drop (call $now))"), vec!["verger:worker/clock@0.1.0"]),
        (
            "wasi",
            core_module(wasi, "(drop (call $random (i32.const 2048) (i32.const 8)))"),
            vec!["wasi:random/random"],
        ),
    ] {
        let module = folder.file(&format!("{name}.core"), module);
        let out = folder.path("by-hand.wasm");
        let out = out.to_str().unwrap();
        text(&["plugin", "pack", &module, "-o", out]);
        let told = object(0, &["plugin", "check", out]);
        assert_eq!(
            (&told["worker"], &told["outcome"]),
            (&json!("by-hand"), &json!("done")),
            "{name}: {told}"
        );
        let seen = object(0, &["plugin", "inspect", out]);
        let seen: Vec<&str> = seen["imports"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|import| import["name"].as_str())
            .collect();
        for import in imports {
            assert!(seen.iter().any(|name| name.starts_with(import)), "{name}: {seen:?}");
        }
    }
}

#[test]
fn what_cannot_be_packed_is_told_with_the_cause() {
    let folder = Folder::new();
    let program = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
    let stranger = wat::parse_str(
        r#"(module (import "env" "puts" (func (param i32))) (memory (export "memory") 1))"#,
    )
    .unwrap();
    let out = folder.path("out.wasm");
    for (file, names) in [
        (folder.file("program.core", program), "build it as a reactor"),
        (folder.file("stranger.core", stranger), "exports `describe` and `perform`"),
        (folder.file("letter.core", "Dear verger"), "no whole WebAssembly module"),
        (folder.file("cut.core", &core_module("", "")[..40]), "no whole WebAssembly module"),
        ("no-such.core".to_string(), "cannot read"),
    ] {
        let told = refusal(&["plugin", "pack", &file, "-o", out.to_str().unwrap()]);
        assert!(told.contains(names), "{file}: {told}");
        assert!(!out.exists());
    }
}

#[test]
fn what_a_new_version_asks_for_more_is_told() {
    let folder = Folder::new();
    let version = |name: &str, manifest: serde_json::Value| {
        folder.file(name, Handmade::described(manifest.to_string()).bytes())
    };
    let old = version(
        "old.wasm",
        json!({"name": "w", "version": "1", "tenant_aware": true, "args": {"days": {"default": 30}},
        "tables": [{"table": "orders", "verbs": ["read", "delete"]}], "capabilities": ["printer"]}),
    );
    let new = version(
        "new.wasm",
        json!({"name": "w", "version": "2", "args": {"days": {"default": 7}, "month": {"required": true}},
        "tables": [{"table": "orders", "verbs": ["read", "update"]}], "capabilities": ["mailer"], "enqueues": ["other"],
        "schedule": {"cron": "0 3 * * *"}}),
    );
    let told = object(0, &["plugin", "diff", &old, &new]);
    assert_eq!(
        told["asks_for_more"],
        json!([
            "call the function mailer",
            "enqueue jobs for the worker other",
            "run for all organizations at once",
            "update on table orders"
        ])
    );
    assert_eq!(
        told["asks_for_less"],
        json!(["call the function printer", "delete on table orders"])
    );
    let changed = told["changed"].to_string();
    for part in [
        "version: 1 → 2",
        "`month` is new and required",
        "default 30 → default 7",
        "suggested schedule",
    ] {
        assert!(changed.contains(part), "{part}: {changed}");
    }
    let (people, _) = said(0, &["plugin", "diff", &old, &new]);
    assert!(people.contains("It asks for more\n  call the function mailer"), "{people}");
    let (people, _) = said(0, &["plugin", "diff", &puppet(), &puppet()]);
    assert!(people.contains("the same file"), "{people}");
    assert!(refusal(&["plugin", "diff", &old, "no-such.wasm"]).contains("cannot read"));
}

#[test]
fn a_check_finds_what_only_confinement_and_the_queue_show() {
    let folder = Folder::new();
    let sql = folder.file("setup.sql", "CREATE TABLE things (id INTEGER PRIMARY KEY, organization_id TEXT, name TEXT); INSERT INTO things VALUES (1, 'acme', 'a');");
    let upsert =
        "INSERT INTO things (id, name) VALUES (1, 'b') ON CONFLICT (id) DO UPDATE SET name = 'b'";
    let args = json!({"organization_id": null, "actor_id": null, "do": [["must", ["execute", upsert, []]]]}).to_string();
    let manifest = json!({"name": "puppet", "version": "1", "tenantAware": true, "tenant_aware": true, "args": {"do": {"default": []}},
        "tables": [{"table": "things", "verbs": ["read", "insert", "update"]}]});
    let file = folder.file("puppet.wasm", puppet_as(&manifest));
    let told = object(1, &["plugin", "check", &file, "--sql", &sql, "--args", &args]);
    let found = told["findings"].to_string();
    for part in
        ["UPDATE, and INSERT what was not there", "write `tenant_aware`", "its job is completed"]
    {
        assert!(found.contains(part), "{part}: {found}");
    }
}
