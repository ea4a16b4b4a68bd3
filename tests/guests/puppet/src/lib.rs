//! A component that does what its args tell it, good or bad: the fixture for tests.
//!
//! `{"do": [["execute", "DELETE FROM things", []], ["trap"]]}`: each step is an array, its name
//! first. The answers of the steps are the job's result: `{"ok": …}`, or `{"err": code, "message":
//! …}`. A step that ends the attempt ends it there; with no steps it is `done`.
#![cfg(target_family = "wasm")]

mod misdeeds;
mod steps;
mod values;

wit_bindgen::generate!({ path: "../../../wit/0.1.0", world: "worker" });

use serde_json::Value as Json;

struct Puppet;
export!(Puppet);

/// It asks for more than a test grants by default, so that there is something to deny. As a text it
/// stands in the component byte for byte: a test that wants it tenant-aware writes `true ` over
/// `false`.
const MANIFEST: &str = r#"{
    "name": "puppet",
    "version": "0.1.0",
    "description": "Does what its args tell it.",
    "tenant_aware": false,
    "args": {"do": {"default": []}},
    "tables": [
        {"table": "things", "verbs": ["read", "insert", "update", "delete"]},
        {"table": "other", "verbs": ["read"]},
        {"table": "withheld", "verbs": ["read"]}
    ],
    "enqueues": ["noop", "other-worker", "withheld-worker"],
    "capabilities": ["echo", "broken", "absent"]
}"#;

impl Guest for Puppet {
    fn describe() -> String {
        MANIFEST.to_string()
    }

    fn perform(scope: Option<Scope>, args: String) -> Outcome {
        let args: Json = match serde_json::from_str(&args) {
            Ok(args) => args,
            Err(error) => return steps::failed("args", error.to_string()),
        };
        let Some(todo) = args["do"].as_array().filter(|todo| !todo.is_empty()) else {
            return Outcome::Done;
        };
        let mut hands = steps::Hands::new(scope);
        let mut answers = Vec::new();
        for step in todo {
            match hands.perform(step) {
                Ok(answer) => answers.push(answer),
                Err(outcome) => return outcome,
            }
        }
        Outcome::DoneWith(Json::from(answers).to_string())
    }
}
