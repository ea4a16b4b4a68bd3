//! Components that are no workers, and workers that misbehave.

use std::time::Duration;

use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::{AttemptOutcome, JobState, Limits, NewJob, OpenError, PluginError, Verger};

use super::says;
use crate::common;
use crate::common::{Kind, PUPPET, TABLES, failure, goes_on, grant, job, last_error, row};

/// A component that imports and exports what these declarations say.
fn component(wat: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {wat})")).unwrap()
}

/// A file, what its refusal must be, and what that must say.
type Refused = (Vec<u8>, fn(&PluginError) -> bool, &'static [&'static str]);

/// The world's exports but one, with bodies that only trap.
const NO_PERFORM: &str = r#"
    (core module $m
        (memory (export "memory") 1)
        (func (export "describe") (result i32) unreachable)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
    (core instance $i (instantiate $m))
    (func (export "describe") (result string)
        (canon lift (core func $i "describe") (memory $i "memory") (realloc (func $i "realloc"))))"#;

#[test]
fn a_wasm_that_is_no_worker_is_refused_by_name_with_the_reason() {
    let core = wat::parse_str("(module)").unwrap();
    let mut flipped = PUPPET.to_vec();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0xff);
    let cases: Vec<Refused> = vec![
        (
            PUPPET[..PUPPET.len() / 2].to_vec(),
            |e| matches!(e, PluginError::NotAComponent { .. }),
            &["is no valid WebAssembly component", "complete"],
        ),
        (PUPPET[..8].to_vec(), |_| true, &["acme.wasm"]),
        (
            PUPPET[..5].to_vec(),
            |e| matches!(e, PluginError::NotAComponent { .. }),
            &["is no valid WebAssembly component"],
        ),
        (
            Vec::new(),
            |e| matches!(e, PluginError::NotAComponent { .. }),
            &["is no valid WebAssembly component"],
        ),
        (
            b"#!/bin/sh\n".to_vec(),
            |e| matches!(e, PluginError::NotAComponent { .. }),
            &["does not begin as WebAssembly does"],
        ),
        (
            flipped,
            |e| matches!(e, PluginError::NotAComponent { .. }),
            &["is no valid WebAssembly component"],
        ),
        (
            core,
            |e| matches!(e, PluginError::CoreModule { .. }),
            &["core WebAssembly module", "verger plugin pack"],
        ),
        (
            component(r#"(import "wasi:filesystem/types@0.1.0" (instance))"#),
            |e| matches!(e, PluginError::UnknownImport { .. }),
            &[
                "imports `wasi:filesystem/types@0.1.0`",
                "the interfaces of verger:worker@0.1.0, and WASI 0.2",
            ],
        ),
        (
            component(r#"(import "verger:worker/secrets@0.1.0" (instance))"#),
            |e| matches!(e, PluginError::UnknownImport { .. }),
            &["imports `verger:worker/secrets@0.1.0`"],
        ),
        (
            component(r#"(import "verger:worker/clock@0.1.0" (instance (export "later" (func))))"#),
            |e| matches!(e, PluginError::Mismatch { .. }),
            &["verger:worker/worker@0.1.0", "later"],
        ),
        (
            component(NO_PERFORM),
            |e| matches!(e, PluginError::Mismatch { .. }),
            &["does not implement", "perform"],
        ),
        (component(""), |e| matches!(e, PluginError::Mismatch { .. }), &["does not implement"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(TestVerger::START);
    for (number, (bytes, is_right, phrases)) in cases.into_iter().enumerate() {
        let error =
            TestVerger::open(Verger::in_memory().component("acme.wasm", bytes.clone()), &clock)
                .unwrap_err();
        let OpenError::Worker(refusal) = &error else { panic!("case {number}: {error:?}") };
        assert!(is_right(refusal), "case {number}: {refusal:?}");
        says(&error, phrases);
        says(&error, &["acme.wasm"]);
        std::fs::write(folder.path().join(format!("{number:02}.wasm")), bytes).unwrap();
    }
    // Dropped into a folder, they do not keep the app, or the good one among them, from starting.
    std::fs::write(folder.path().join("puppet.wasm"), PUPPET).unwrap();
    std::fs::write(folder.path().join("twin.wasm"), PUPPET).unwrap();
    std::fs::write(folder.path().join("README.txt"), "no plugin").unwrap();
    let test = TestVerger::with(|builder| {
        builder
            .plugins(folder.path())
            .plugin(folder.path().join("none.wasm"))
            .without_built_ins()
            .grant("puppet", grant())
    });
    test.sql(TABLES);
    assert_eq!(test.workers(), ["puppet"]);
    let refused: Vec<_> = test.refused_plugins().iter().map(ToString::to_string).collect();
    assert_eq!(refused.len(), 14, "{refused:#?}");
    assert!(
        refused
            .iter()
            .any(|reason| reason.contains("twin.wasm") && reason.contains("is a copy of")),
        "{refused:#?}"
    );
    assert!(refused.iter().any(|reason| reason.contains("cannot read the plugin") && reason.contains("none.wasm")), "{refused:#?}");
    goes_on(&test);
    // The folder of a fresh install is not there yet: it is empty, then.
    let missing = Verger::in_memory().plugins(folder.path().join("none"));
    let empty = TestVerger::open(missing, &clock).unwrap();
    assert_eq!(empty.refused_plugins().len(), 0);
}

/// A whole worker, by hand: its memory, and the bodies of its exports. `describe` returns the text
/// it points to with `ret`.
pub(super) fn worker(memory: &str, text: &str, describe: &str) -> Vec<u8> {
    let quoted = text.replace('"', "\\\"");
    let length = text.len();
    component(&format!(
        r#"
        (import "verger:worker/types@0.1.0" (instance $types
            (type $s (record (field "organization-id" (option string)) (field "actor-id" (option string)) (field "impersonating-from" (option string))))
            (export "scope" (type (eq $s)))
            (type $e (record (field "code" string) (field "message" string)))
            (export "error" (type $error (eq $e)))
            (type $o (variant (case "done") (case "done-with" string) (case "failed" $error) (case "discard" $error) (case "snooze" u32) (case "cancel" string)))
            (export "outcome" (type (eq $o)))))
        (alias export $types "scope" (type $scope))
        (alias export $types "outcome" (type $outcome))
        (core module $m
            (memory (export "memory") {memory})
            (data (i32.const 1024) "{quoted}")
            (func $ret (result i32) (i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const {length})) (i32.const 16))
            (func (export "describe") (result i32) {describe})
            (func (export "perform") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                (i32.store8 (i32.const 64) (i32.const 0)) (i32.const 64))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32768)))
        (core instance $i (instantiate $m))
        (func (export "describe") (result string) (canon lift (core func $i "describe") (memory $i "memory") (realloc (func $i "realloc"))))
        (func (export "perform") (param "scope" (option $scope)) (param "args" string) (result $outcome)
            (canon lift (core func $i "perform") (memory $i "memory") (realloc (func $i "realloc"))))"#
    ))
}

#[test]
fn a_component_that_cannot_describe_itself_is_refused() {
    let good = r#"{"name": "tiny", "version": "1"}"#;
    let clock = ManualClock::at(TestVerger::START);
    let open = |bytes: Vec<u8>| {
        TestVerger::open(
            Verger::in_memory().without_built_ins().component("tiny.wasm", bytes),
            &clock,
        )
    };
    let tiny = open(worker("1", good, "call $ret")).unwrap();
    tiny.enqueue(NewJob::new("tiny", json!({}))).unwrap();
    assert_eq!(tiny.drain().attempts[0].outcome, AttemptOutcome::Completed(None));

    let grow = "(drop (memory.grow (i32.const 4000))) unreachable";
    let ask = r#"{"name": "tiny", "version": "1", "tables": [{"table": "x; DROP TABLE y", "verbs": ["read"]}]}"#;
    for (bytes, phrases) in [
        (
            worker("1", good, "unreachable"),
            &["could not describe itself", "wasm trap: unreachable"][..],
        ),
        (
            worker("1", good, "(loop (br 0)) unreachable"),
            &["could not describe itself", "did not end within 2 s"],
        ),
        (worker("1", good, grow), &["could not describe itself"]),
        (worker("2000", good, "call $ret"), &["could not describe itself"]),
        (worker("1", good, "i32.const -8"), &["could not describe itself"]),
        (worker("1", "no json", "call $ret"), &["manifest", "line 1 column"]),
        (worker("1", "{}", "call $ret"), &["manifest", "name"]),
        (
            worker("1", r#"{"name": "Tiny!", "version": "1"}"#, "call $ret"),
            &["\"Tiny!\"", "lower-case letters"],
        ),
        (worker("1", r#"{"name": "tiny", "version": ""}"#, "call $ret"), &["version"]),
        (worker("1", ask, "call $ret"), &["not usable as a table name"]),
        (
            worker(
                "1",
                r#"{"name": "tiny", "version": "1", "tables": [{"table": "t", "verbs": ["drop"]}]}"#,
                "call $ret",
            ),
            &["manifest"],
        ),
    ] {
        let error = open(bytes).unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::Worker(PluginError::Describe { .. } | PluginError::Manifest { .. })
            ),
            "{error:?}"
        );
        says(&error, phrases);
        says(&error, &["tiny.wasm"]);
    }
}

#[test]
fn a_worker_that_misbehaves_is_stopped_with_the_reason_and_the_queue_goes_on() {
    let limits = Limits::new().time(Duration::from_millis(250)).memory_bytes(8 << 20);
    let test = Kind::Component.open_with(grant().limits(limits));
    let write = json!(["execute", "INSERT INTO things (name) VALUES ('half')", []]);
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n";
    let cases = [
        (json!(["trap"]), "trap", "the worker panicked or aborted (wasm trap: unreachable)"),
        (json!(["spin"]), "deadline", "the time granted, 250 ms, is over"),
        (json!(["until-refused", ["now"]]), "deadline", "the time granted, 250 ms, is over"),
        (json!(["until-refused", ["checkpoint"]]), "deadline", "the time granted, 250 ms, is over"),
        (json!(["query", endless, []]), "deadline", "the time granted, 250 ms, is over"),
        (json!(["recurse"]), "trap", "the worker used up its stack"),
        (
            json!(["recurse-in-memory"]),
            "trap",
            "the worker trapped (wasm trap: out of bounds memory access)",
        ),
        (json!(["eat"]), "memory", "more than the 8192 KiB of memory it is granted"),
        (json!(["done-with", "{no json"]), "invalid-result", "the result is no valid JSON"),
        (json!(["done-with", ""]), "invalid-result", "the result is no valid JSON"),
        (
            json!(["done-with", {"x": 1_100_000}]),
            "invalid-result",
            "more than the 1048576 a job keeps",
        ),
        (json!(["snooze", 0]), "invalid-result", "a snooze must be at least 1 second"),
        (json!(["next", 7, 1]), "trap", "wasm trap"),
        (json!(["failed", {"x": 10_000}]), "failed", "xxxx"),
    ];
    for (step, code, phrase) in cases {
        // What was kept by the checkpoints of one case is not half of another.
        let first = if step[1] == json!(["checkpoint"]) { json!(["now"]) } else { write.clone() };
        let id = test.enqueue(job(json!([first, step])).max_attempts(1)).unwrap().id;
        let before = test.one::<i64>("SELECT count(*) FROM things");
        test.drain();
        let failed = row(&test, id);
        let error = last_error(&failed);
        assert_eq!((failed.state, error.0), (JobState::Discarded, code), "{step}: {error:?}");
        says(&error.1, &[phrase]);
        assert!(error.1.len() <= 4_000);
        assert_eq!(test.one::<i64>("SELECT count(*) FROM things"), before, "{step}");
        assert_eq!(failed.result, None);
        goes_on(&test);
        assert_eq!(failure(&test, json!([write, step])).0, code, "called directly, {step}");
    }
    // Refused memory is not an error as long as the worker lives with it.
    let grown = common::answers(&test, json!([["grow"]]))[0]["ok"].as_u64().unwrap();
    assert!((1..8).contains(&grown), "{grown}");
}

#[test]
fn a_worker_that_swallows_its_deadline_still_fails() {
    let test = Kind::Component.open_with(grant().time_limit(Duration::from_millis(40)));
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n";
    let (code, _) = failure(
        &test,
        json!([
            ["execute", "INSERT INTO things (id) VALUES (1)", []],
            ["query", endless, []],
            ["done"]
        ]),
    );
    assert_eq!(code, "deadline");
    assert_eq!(test.one::<i64>("SELECT count(*) FROM things"), 0);
}
