//! What a component does without asking anybody: it loops, recurses, eats memory and traps.

use serde_json::json;

use super::case::{Case, DEADLINE, case, step};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("an infinite loop", DEADLINE, step(json!(["spin"])), DEADLINE, "250 ms"),
        case(
            "host calls for ever",
            DEADLINE,
            step(json!(["until-refused", ["now"]])),
            DEADLINE,
            "250 ms",
        ),
        case(
            "log lines for ever",
            DEADLINE,
            step(json!(["until-refused", ["log", "info", "x"]])),
            DEADLINE,
            "250 ms",
        ),
        case(
            "checkpoints for ever",
            DEADLINE,
            step(json!(["until-refused", ["checkpoint"]])),
            DEADLINE,
            "250 ms",
        ),
        case(
            "recursion on the machine's stack",
            "wasm stack",
            step(json!(["recurse"])),
            "trap",
            "stack",
        ),
        case(
            "recursion on its own stack",
            "wasm memory",
            step(json!(["recurse-in-memory"])),
            "trap",
            "memory",
        ),
        case("memory until it aborts", "memory limit", step(json!(["eat"])), "memory", "8192 KiB"),
        case("memory.grow until it is refused", "memory limit", step(json!(["grow"])), "ok", ""),
        case("a trap", "instance", step(json!(["trap"])), "trap", "unreachable"),
    ]
}
