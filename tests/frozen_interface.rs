//! A component that was built once against `verger:worker@0.1.0`, and is never built again, runs on
//! every later host. `tests/guests/frozen-0.1.0.wasm` is the puppet of the day the interface was
//! fixed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use common::{TABLES, answers, failure, grant};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use verger::testing::TestVerger;
use verger::{JobState, NewJob};

const FROZEN: &[u8] = include_bytes!("guests/frozen-0.1.0.wasm");

fn world(component: Vec<u8>) -> TestVerger {
    let test = TestVerger::with(|builder| {
        builder
            .without_built_ins()
            .component("frozen.wasm", component)
            .grant("puppet", grant())
            .capability("echo", |call| Ok(call.request.clone()))
    });
    test.sql(TABLES);
    test
}

/// Every function of every interface once, and what it answers.
#[track_caller]
fn everything_works(test: &TestVerger) {
    let event = json!({"action": "thing.done", "outcome": "success"});
    let steps = [
        (
            json!(["execute", "INSERT INTO things (id, name) VALUES (1, 'a'), (2, 'b')", []]),
            json!({"ok": 2}),
        ),
        (json!(["execute-many", "INSERT INTO things (id) VALUES (?1)", [[3], [3]]]), Json::Null),
        (json!(["query", "SELECT name FROM things WHERE id = ?1", [2]]), json!({"ok": [["b"]]})),
        (
            json!(["query-all", "SELECT id FROM things WHERE id < 2", []]),
            json!({"ok": {"columns": ["id"], "rows": [[1]]}}),
        ),
        (json!(["open", "SELECT id FROM things", []]), json!({"ok": 0})),
        (json!(["columns", 0]), json!({"ok": ["id"]})),
        (json!(["next", 0, 1]), json!({"ok": [[1]]})),
        (json!(["close", 0]), json!({"ok": null})),
        (json!(["savepoint"]), json!({"ok": 0})),
        (json!(["release", 0]), json!({"ok": null})),
        (json!(["savepoint"]), json!({"ok": 1})),
        (json!(["rollback", 1]), json!({"ok": null})),
        (json!(["audit", [event]]), json!({"ok": [1]})),
        (json!(["audit-safe", [event, {"action": "bad"}]]), json!({"ok": 1})),
        (json!(["now"]), json!({"ok": TestVerger::START.as_millis()})),
        (json!(["publish", "topic", "{}"]), json!({"ok": null})),
        (json!(["log", "info", "a line"]), json!({"ok": null})),
        (json!(["progress", 1, 2]), json!({"ok": null})),
        (json!(["is-cancelled"]), json!({"ok": false})),
        (json!(["checkpoint-due"]), Json::Null),
        (json!(["job"]), Json::Null),
        (json!(["scope"]), json!({"ok": null})),
        (json!(["call", "echo", "[1]"]), json!({"ok": "[1]"})),
        (json!(["enqueue", [["puppet", "{}", "{\"after_ms\": 1}"]]]), json!({"ok": [[1, false]]})),
        (json!(["set-state", "key", 7]), json!({"ok": null})),
        (json!(["state", "key"]), json!({"ok": 7})),
        (json!(["checkpoint"]), json!({"ok": null})),
    ];
    let asked: Vec<&Json> = steps.iter().map(|(step, _)| step).collect();
    let answers = answers(test, json!(asked));
    for (place, (step, expected)) in steps.iter().enumerate() {
        let answer = &answers[place];
        assert!(answer["err"].is_null(), "{step}: {answer}");
        assert!(expected.is_null() || answer == expected, "{step}: {answer}");
    }
    let codes = [("denied", "SELECT * FROM withheld"), ("sql", "SELECT nmae FROM things")];
    for (code, sql) in codes {
        assert_eq!(failure(test, json!([["must", ["query", sql, []]]])).0, code);
    }
    for (end, state) in [
        (json!(["done"]), JobState::Completed),
        (json!(["done-with", "[1]"]), JobState::Completed),
        (json!(["failed", "no"]), JobState::Retryable),
        (json!(["discard", "no"]), JobState::Discarded),
        (json!(["snooze", 60]), JobState::Scheduled),
        (json!(["cancel", "no"]), JobState::Cancelled),
    ] {
        let ended = common::run(test, NewJob::new("puppet", json!({ "do": [end] })));
        assert_eq!(ended.state, state, "{end}: {ended:?}");
    }
}

#[test]
fn a_component_built_against_0_1_0_runs_here() {
    everything_works(&world(FROZEN.to_vec()));
}

#[test]
fn a_component_of_a_later_version_that_uses_nothing_new_runs_here_too() {
    let mut later = FROZEN.to_vec();
    let (from, to) = (b"@0.1.0", b"@0.1.9");
    let places: Vec<usize> = later
        .windows(from.len())
        .enumerate()
        .filter(|(_, w)| w == from)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        later[at..at + to.len()].copy_from_slice(to);
    }
    everything_works(&world(later));
}

#[test]
fn the_frozen_component_and_the_released_interface_are_what_they_were() {
    let digest = |bytes: &[u8]| {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    assert_eq!(digest(FROZEN), FROZEN_SHA256, "never build tests/guests/frozen-0.1.0.wasm again");
    for (wit, sha256) in [
        (include_str!("../wit/0.1.0/worker.wit"), WIT_SHA256),
        (include_str!("../wit/0.1.0/migration.wit"), MIGRATION_WIT_SHA256),
    ] {
        let code: String = wit
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(
            digest(code.as_bytes()),
            sha256,
            "wit/0.1.0 is released and never changes: add functions in a folder of their own, see core/guide/interface.md"
        );
    }
}

const FROZEN_SHA256: &str = "5dc0439a76bead76aabc48f7c6cd6e0d8ebe511e245e78e8b419aec2cacabf3d";
const WIT_SHA256: &str = "fd805bd76c00b0a8c0d72bda799b84e57e3501c156bf226f5a4e4411e05c4d8f";
const MIGRATION_WIT_SHA256: &str =
    "ef0c540ea6c49bf18bcaacd97d5658ac5880f6859286dba0ca568ad4b4bb48db";
