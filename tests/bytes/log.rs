//! What a worker may write to the log.

use serde_json::json;
use verger::Limits;
use verger::testing::{LogLine, capture_logs};

use super::limited;
use crate::common::{BOTH, answers};

pub(super) fn lines_of(lines: Vec<LogLine>, worker: &str) -> Vec<LogLine> {
    let of = |line: &LogLine| line.fields.get("worker").is_some_and(|name| name == worker);
    lines.into_iter().filter(of).collect()
}

#[test]
fn nothing_that_a_worker_does_floods_the_log() {
    let bad = json!({"action": "Bad"});
    for (what, step) in [
        ("audit events that break a rule", json!(["audit-safe", [bad, bad, bad]])),
        ("audit events over the limit", json!(["audit-safe", [{"action": "a.b"}]])),
        ("refused statements", json!(["query", "SELECT secret FROM other", []])),
        ("refused calls", json!(["call", "nobody", "{}"])),
        ("lines", json!(["log", "warn", "x"])),
        ("long lines", json!(["log", "debug", {"x": 60_000}])),
    ] {
        for kind in BOTH {
            let test = kind.open_with(limited(Limits::new().log_lines(10).audit_rows(2)));
            let (_, lines) = capture_logs(|| answers(&test, json!([["repeat", 2_000, step]])));
            let (statements, lines): (Vec<_>, Vec<_>) = lines_of(lines, "puppet")
                .into_iter()
                .partition(|line| line.target == "verger::sql");
            assert!(lines.len() <= 101, "{what}: {} lines", lines.len());
            assert!(statements.len() <= 1_001, "{what}: {} statements", statements.len());
            let bytes: usize = lines.iter().map(|line| line.message.len()).sum();
            assert!(bytes < 128 << 10, "{what}: {bytes} bytes");
            let said = lines.iter().filter(|line| {
                line.message.starts_with("more than ") || line.message.contains("limit is reached")
            });
            assert_eq!(said.count(), 1, "{what}: {:?}", lines.last());
        }
    }
}

#[test]
fn a_worker_that_fills_its_log_cannot_hide_what_it_is_denied() {
    for kind in BOTH {
        let test = kind.open_with(limited(Limits::new().log_bytes(1_000)));
        let steps = json!([
            ["repeat", 100, ["log", "info", {"x": 90}]],
            ["query", "SELECT secret FROM other", []],
        ]);
        let (_, lines) = capture_logs(|| answers(&test, steps));
        let lines = lines_of(lines, "puppet");
        let told = |target: &str| lines.iter().filter(|line| line.target == target).count();
        assert_eq!((told("verger::worker"), told("verger::denied")), (12, 1), "{lines:?}");
    }
}

#[test]
fn no_line_of_the_log_can_be_forged() {
    let forged =
        "done\n2026-11-25T00:00:00Z ERROR the app: \u{1b}[31mhacked\u{1b}[0m\r\u{2028}\u{202e}x";
    for kind in BOTH {
        let test = kind.open();
        let metadata = json!({ "a\nb": { "secret": 1 } }).to_string();
        let steps = json!([
            ["log", "info", forged],
            ["query", format!("SELECT \"{forged}\" FROM withheld"), []],
            ["call", forged, "{}"],
            ["audit-safe", [{"action": "a.b", "metadata": metadata}]],
        ]);
        let (_, lines) = capture_logs(|| answers(&test, steps));
        let lines = lines_of(lines, "puppet");
        let mut shown = 0;
        for line in lines.iter().filter(|line| line.target != "verger::sql") {
            for text in [&line.message, line.fields.get("reason").unwrap_or(&String::new())] {
                shown += usize::from(!text.is_empty());
                assert!(
                    !text.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{202e}'),
                    "{}: {text:?}",
                    line.target
                );
            }
        }
        assert!(shown >= 4, "{lines:?}");
        assert!(lines.iter().any(|line| line.message.contains(r"done\n2026")), "{lines:?}");
    }
}
