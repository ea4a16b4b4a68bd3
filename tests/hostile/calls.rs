//! Calls of the host: too many, too large, out of order, or not granted.

use serde_json::{Value as Json, json};

use super::case::{BOUND, Case, LIMIT, case, step};

pub(super) fn cases() -> Vec<Case> {
    let event = |fields: Json| {
        let mut event = json!({"action": "thing.done"});
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!([["audit", [event]]])
    };
    let sets = vec![json!([1]); 100];
    vec![
        case(
            "SQL of 3 MB",
            LIMIT,
            step(json!(["execute", {"x": 3_000_000}, []])),
            "limit",
            "too long",
        ),
        case(
            "a message of 9 MB",
            "hostcall fuel",
            step(json!(["publish", "t", {"x": 5_000_000}])),
            "limit",
            "",
        ),
        case(
            "parameters of 3 MB",
            BOUND,
            step(json!(["execute", "INSERT INTO things (value) VALUES (?1)", [{"x": 3_000_000}]])),
            "limit",
            "parameters",
        ),
        case(
            "parameter sets without end",
            BOUND,
            step(json!([
                "until-refused",
                ["execute-many", "INSERT INTO things (value) VALUES (?1)", sets]
            ])),
            "limit",
            "2000 statements",
        ),
        case(
            "one parameter too many",
            BOUND,
            step(json!(["execute", "SELECT ?1", [1, 2]])),
            "sql",
            "parameters",
        ),
        case(
            "more statements than granted",
            BOUND,
            step(json!(["until-refused", ["execute", "DELETE FROM things WHERE id = 0", []]])),
            "limit",
            "2000 statements",
        ),
        case(
            "a cursor after its checkpoint",
            "handles",
            json!([["open", "SELECT 1", []], ["checkpoint"], ["next", 0, 1]]),
            "closed",
            "closed",
        ),
        case(
            "a cursor after its rollback",
            "handles",
            json!([["savepoint"], ["open", "SELECT 1", []], ["rollback", 0], ["next", 0, 1]]),
            "closed",
            "closed",
        ),
        case("a cursor that is not there", "handles", step(json!(["next", 7, 1])), "trap", "trap"),
        case(
            "a chunk of no rows",
            BOUND,
            json!([["open", "SELECT 1", []], ["next", 0, 0]]),
            "invalid",
            "at least 1",
        ),
        case(
            "cursors without end",
            BOUND,
            step(json!(["until-refused", ["open", "SELECT 1", []]])),
            "limit",
            "64 cursors",
        ),
        case(
            "savepoints without end",
            BOUND,
            step(json!(["until-refused", ["savepoint"]])),
            "limit",
            "32 savepoints",
        ),
        case(
            "a savepoint released twice",
            "handles",
            json!([["savepoint"], ["release", 0], ["release", 0]]),
            "closed",
            "closed",
        ),
        case(
            "messages without end",
            BOUND,
            step(json!(["until-refused", ["publish", "t", "1"]])),
            "limit",
            "100 messages",
        ),
        case(
            "a message of 300 KB",
            BOUND,
            step(json!(["publish", "t", {"x": 300_000}])),
            "limit",
            "256 KiB",
        ),
        case(
            "a message that is no JSON",
            BOUND,
            step(json!(["publish", "t", "{"])),
            "invalid",
            "JSON",
        ),
        case(
            "a topic of 1 KB",
            BOUND,
            step(json!(["publish", {"x": 1_000}, "1"])),
            "invalid",
            "topic",
        ),
        case(
            "audit rows without end",
            BOUND,
            step(json!(["until-refused", ["audit", [{"action": "thing.done"}]]])),
            "limit",
            "100 audit rows",
        ),
        case(
            "an audit action with a line break",
            "audit rules",
            event(json!({"action": "thing.done\nadmin.made"})),
            "invalid",
            "action",
        ),
        case(
            "audit metadata of 9 KB",
            "audit rules",
            event(json!({"metadata": {"x": 9_000}})),
            "invalid",
            "metadata",
        ),
        case(
            "a secret in audit metadata",
            "audit rules",
            event(json!({"metadata": "{\"a\":{\"password\":\"x\"}}"})),
            "invalid",
            "password",
        ),
        case(
            "a capability that is not granted",
            "grant",
            step(json!(["call", "mailer", "{}"])),
            "denied",
            "mailer",
        ),
        case(
            "a capability with no JSON",
            BOUND,
            step(json!(["call", "echo", "{"])),
            "invalid",
            "JSON",
        ),
        case(
            "a capability that panics",
            "catch_unwind",
            step(json!(["call", "broken", "{\"how\": \"panics\"}"])),
            "capability",
            "panicked",
        ),
    ]
}
