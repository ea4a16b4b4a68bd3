//! What a worker sends, keeps and writes is bounded in bytes: in memory, on the disk, in the app's
//! log.
//!
//! Memory is measured in a child process of its own: the test binary starts itself again with the
//! name of a case.
#![allow(clippy::print_stdout, reason = "the figures are for people")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "../common/mod.rs"]
mod common;
mod disk;
#[path = "../handmade/mod.rs"]
mod handmade;
mod log;
mod streams;

use std::time::{Duration, Instant};

use common::{BOTH, Kind, answers, failure, grant};
use handmade::Handmade;
use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::{Grant, Limits};

/// A debug build holds the lock for long.
fn limited(limits: Limits) -> Grant {
    grant().limits(limits.write_lock(Duration::from_secs(60)))
}

/// Every case of its own: the steps, and the MiB the process may have had at most. Opening takes
/// some 60.
fn greedy() -> Vec<(&'static str, Json, usize)> {
    let unfolding = format!("[{}]", vec![r#"{"":0}"#; 30_000].join(","));
    let numbers = format!("[{}]", "0,".repeat(60_000).trim_end_matches(','));
    vec![
        ("messages", json!([["until-refused", ["publish", "t", numbers]]]), 200),
        (
            "rows of RETURNING",
            json!([[
                "until-refused",
                [
                    "open",
                    format!(
                        "UPDATE things SET name = name RETURNING {}",
                        ["NULL"; 1_900].join(",")
                    ),
                    []
                ]
            ]]),
            400,
        ),
        (
            "rows of one RETURNING",
            json!([[
                "must",
                [
                    "query",
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000000) INSERT INTO things (name) SELECT 'x' FROM n RETURNING id, name, NULL, NULL, NULL, NULL, NULL, NULL",
                    []
                ]
            ]]),
            500,
        ),
        (
            "sets",
            json!([[
                "execute-many",
                "INSERT INTO things (value) VALUES (1)",
                vec![json!([]); 200_000]
            ]]),
            250,
        ),
        (
            "failing sets",
            json!([[
                "execute-many",
                "INSERT INTO things (name) VALUES ('bad')",
                vec![json!([]); 200_000]
            ]]),
            250,
        ),
        ("requests", json!([["repeat", 50, ["call", "echo", unfolding]]]), 250),
        ("a result", json!([["done-with", unfolding]]), 250),
        ("a reason", json!([["failed", {"x": 20_000_000}]]), 250),
        ("lines", json!([["repeat", 20, ["log", "info", {"x": 10_000_000}]]]), 250),
        ("names of capabilities", json!([["repeat", 20, ["call", {"x": 10_000_000}, "{}"]]]), 250),
        ("statements", json!([["repeat", 20, ["execute", {"x": 10_000_000}, []]]]), 250),
        (
            "audit events",
            json!([[
                "until-refused",
                ["audit", vec![json!({"action": "a.b", "before": numbers}); 1]]
            ]]),
            250,
        ),
    ]
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_bounded_whatever_a_worker_sends() {
    const CASE: &str = "VERGER_BYTES_CASE";
    if let Ok(case) = std::env::var(CASE) {
        let (_, steps, _) = greedy().into_iter().find(|(name, ..)| *name == case).unwrap();
        let test = Kind::Component.open_with(limited(Limits::new()));
        test.sql("WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 540) INSERT INTO things (id) SELECT n FROM n");
        let _events = test.subscribe();
        let before = resident("VmRSS");
        let ended = test.perform_job("puppet", json!({ "do": steps }));
        let ended = match ended {
            Ok(done) => format!("{:?}", done.result()),
            Err(error) => format!("{error:?}"),
        };
        println!("PEAK {} BEFORE {before} ENDED {:.300}", resident("VmHWM"), ended);
        return;
    }
    for (case, _, most) in greedy() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["memory_is_bounded_whatever_a_worker_sends", "--exact", "--nocapture"])
            .env(CASE, case)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        let at = said.find("PEAK ").unwrap_or_else(|| panic!("{case}: {said}"));
        let peak: usize = said[at + 5..].split_whitespace().next().unwrap().parse().unwrap();
        println!("{case}: {}", said[at..].lines().next().unwrap());
        assert!(peak <= most, "{case} took {peak} MiB: {said}");
    }
}

/// Lists as long as a component may send in one call, none of them anything but zeros: the body of
/// its `perform`, and the MiB the process may have had at most, of which opening takes some 60 and the
/// component's own memory 40.
fn lists() -> Vec<(&'static str, String, usize)> {
    let (select, answer) = (handmade::SELECT, handmade::ANSWER);
    let many = |count| {
        format!(
            "(call $many (i32.const {select}) (i32.const 8) (i32.const 65536) (i32.const {count}) (i32.const {answer}))"
        )
    };
    vec![
        ("a million sets", many(1_000_000), 300),
        ("more sets than one call may send", many(2_700_000), 300),
        (
            "a million parameters",
            format!(
                "(call $query (i32.const {select}) (i32.const 8) (i32.const 65536) (i32.const 1000000) (i32.const {answer}))"
            ),
            300,
        ),
        (
            "300,000 audit events",
            "(drop (call $audit (i32.const 65536) (i32.const 300000)))".to_string(),
            350,
        ),
        (
            "a line of 30 MB",
            "(call $log (i32.const 2) (i32.const 65536) (i32.const 30000000))".to_string(),
            300,
        ),
    ]
}

#[cfg(target_os = "linux")]
#[test]
fn memory_is_bounded_however_long_the_lists_of_a_component_are() {
    const CASE: &str = "VERGER_LISTS_CASE";
    if let Ok(case) = std::env::var(CASE) {
        let (_, body, _) = lists().into_iter().find(|(name, ..)| *name == case).unwrap();
        let memory = r#"(memory (export "memory") 620)"#;
        let component = Handmade::new("long").memory(memory).perform(body).bytes();
        let test = TestVerger::with(|builder| {
            builder.without_built_ins().component("long.wasm", component.clone())
        });
        // Compiled before it is measured.
        test.manifest("long").unwrap();
        let before = resident("VmHWM");
        let began = Instant::now();
        let ended = test.perform_job("long", json!({}));
        let took = began.elapsed();
        println!("PEAK {} BEFORE {before} in {took:?} ENDED {ended:.200?}", resident("VmHWM"));
        return;
    }
    for (case, _, most) in lists() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "memory_is_bounded_however_long_the_lists_of_a_component_are",
                "--exact",
                "--nocapture",
            ])
            .env(CASE, case)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        let at = said.find("PEAK ").unwrap_or_else(|| panic!("{case}: {said}"));
        let peak: usize = said[at + 5..].split_whitespace().next().unwrap().parse().unwrap();
        println!("{case}: {}", said[at..].lines().next().unwrap());
        assert!(peak <= most, "{case} took {peak} MiB: {said}");
    }
}

/// MiB, by the kernel's word.
#[cfg(target_os = "linux")]
fn resident(what: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[test]
fn what_is_too_much_is_refused_with_a_code_and_the_worker_goes_on() {
    let limits = Limits::new().event_bytes(1_000).call_bytes(1_000).sql_memory_bytes(48 << 20);
    let unfolding = format!("[{}]", vec![r#"{"":0}"#; 120].join(","));
    for kind in BOTH {
        let test = kind.open_with(limited(limits.clone()));
        let done = answers(
            &test,
            json!([
                ["publish", "t", format!("\"{}\"", "x".repeat(600))],
                ["publish", "t", format!("\"{}\"", "x".repeat(600))],
                ["checkpoint"],
                ["publish", "t", format!("\"{}\"", "x".repeat(600))],
                ["call", "echo", format!("\"{}\"", "x".repeat(1_000))],
                ["call", "echo", unfolding],
                ["call", "echo", format!("\"{}\"", "x".repeat(980))],
                ["call", "echo", "[1]"],
            ]),
        );
        let codes: Vec<_> = done
            .as_array()
            .unwrap()
            .iter()
            .map(|answer| answer["err"].as_str().unwrap_or("ok"))
            .collect();
        assert_eq!(
            codes,
            ["ok", "limit", "ok", "ok", "limit", "limit", "limit", "ok"],
            "{kind:?}: {done}"
        );
    }
}

#[test]
fn a_statement_that_returns_too_much_is_undone() {
    let statement = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 900000) \
                     INSERT INTO things (name) SELECT 'x' FROM n RETURNING id, name, name, name, name";
    for kind in BOTH {
        let test = kind.open_with(limited(Limits::new().sql_memory_bytes(64 << 20)));
        let ended = test.perform_job(
            "puppet",
            json!({"do": [["execute", "INSERT INTO things (name) VALUES ('kept')", []], ["open", statement, []], ["done"]]}),
        );
        let names =
            test.one::<String>("SELECT coalesce(group_concat(DISTINCT name), '') FROM things");
        match ended {
            // The rows were too much for the host.
            Ok(_) => assert_eq!(names, "kept", "{kind:?}"),
            // They were too much for SQLite itself: that takes the transaction with it.
            Err(error) => {
                assert_eq!(names, "", "{kind:?}");
                assert!(format!("{error:?}").contains("limit"), "{error:?}");
            }
        }
    }
}

#[test]
fn a_write_that_is_ended_for_its_memory_takes_the_attempt_with_it() {
    let sorting = "INSERT INTO things (name) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000) \
                   SELECT hex(zeroblob(20000)) AS b FROM n ORDER BY b, i";
    for kind in BOTH {
        let test = kind.open_with(limited(Limits::new().sql_memory_bytes(16 << 20)));
        let steps = json!([
            ["execute", "INSERT INTO things (name) VALUES ('first')", []],
            ["execute", sorting, []],
            // Outside any transaction it would stay.
            ["execute", "INSERT INTO things (name) VALUES ('second')", []],
            ["done"],
        ]);
        let (code, message) = failure(&test, steps);
        assert_eq!(code, "limit", "{kind:?}: {message}");
        assert_eq!(test.one::<i64>("SELECT count(*) FROM things"), 0, "{kind:?}");
    }
}
