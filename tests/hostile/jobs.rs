//! How an attempt says that it ended, and what it leaves behind it: jobs and state.

use serde_json::json;

use super::case::{BOUND, Case, case, step};

/// The options of a job that nobody lives to see.
const LATER: &str = "{\"after_ms\": 1000000000}";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case(
            "a result that is no JSON",
            BOUND,
            step(json!(["done-with", "{"])),
            "invalid-result",
            "JSON",
        ),
        case(
            "a result of 1.1 MB",
            BOUND,
            step(json!(["done-with", {"x": 1_100_000}])),
            "invalid-result",
            "1048576",
        ),
        case(
            "jobs for ever",
            BOUND,
            step(json!(["until-refused", ["enqueue", [["puppet", {"do": []}, LATER]]]])),
            "limit",
            "5 jobs",
        ),
        case(
            "10,000 jobs in one call",
            BOUND,
            step(json!(["enqueue", {"times": 10_000, "job": ["puppet", "{}", LATER]}])),
            "limit",
            "5 jobs",
        ),
        case(
            "a job of 1.5 MB",
            BOUND,
            step(json!(["enqueue", [["puppet", {"x": 1_500_000}, LATER]]])),
            "limit",
            "1048576 bytes of jobs",
        ),
        case(
            "a job whose args nest 300 deep",
            BOUND,
            step(json!(["enqueue", [["puppet", format!("{{\"a\":{}", "[".repeat(300)), LATER]]])),
            "invalid",
            "the args are no JSON",
        ),
        case(
            "a job for a worker it was not granted",
            "grant",
            step(json!(["enqueue", [["noop", "{}", LATER]]])),
            "denied",
            "jobs for worker `noop`",
        ),
        case(
            "a job in another's name",
            "scope",
            step(json!(["enqueue", [["puppet", "{\"actor_id\": \"ceo\"}", LATER]]])),
            "denied",
            "`actor_id`",
        ),
        case(
            "state beyond its bytes",
            BOUND,
            step(json!(["set-state", "k", {"x": 2_000}])),
            "limit",
            "1000 bytes of state",
        ),
        case(
            "a key of state of 200 bytes",
            BOUND,
            step(json!(["state", {"x": 200}])),
            "invalid",
            "1 to 128 bytes",
        ),
        case(
            "a failure in the words of a lost lease",
            "the host's own",
            step(json!(["failed", "mine", "lease-lost"])),
            "failed",
            "mine",
        ),
        case(
            "a snooze of no time",
            BOUND,
            step(json!(["snooze", 0])),
            "invalid-result",
            "1 second",
        ),
        case("a snooze for ever", "(its own job)", step(json!(["snooze", u64::MAX])), "ok", ""),
    ]
}
