//! Workers that take all the memory they can get leave the process as large as it was. 150 runs;
//! `VERGER_LONG=1` makes it 10,000.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "the figures are for people")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod handmade;

use std::time::Duration;

use common::{Kind, job, row};
use serde_json::{Value as Json, json};
use verger::{CompileCache, Grant, JobState, Limits, Verger};

/// Bytes of memory the process has. What the allocator keeps for its next large piece is given back first:
/// it would be counted or not by which run came last.
fn resident() -> usize {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code, reason = "the allocator's own call, which takes no pointer")]
    unsafe {
        libc::malloc_trim(0);
    }
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Each ends within milliseconds, most at a limit.
fn misdeeds() -> Vec<(Json, &'static str)> {
    vec![
        (json!([["eat"]]), "memory"),
        (json!([["grow"], ["trap"]]), "memory"),
        (json!([["recurse"]]), "trap"),
        (json!([["recurse-in-memory"]]), "trap"),
        (json!([["until-refused", ["publish", "t", {"x": 0}]], ["failed", "x"]]), "failed"),
        (json!([["until-refused", ["publish", "t", "[1]"]], ["failed", "x"]]), "failed"),
        (json!([["until-refused", ["audit", [{"action": "thing.done"}]]], ["trap"]]), "trap"),
        (
            json!([
                ["until-refused", ["open", "SELECT hex(zeroblob(200000))", []]],
                ["failed", "x"]
            ]),
            "failed",
        ),
        (json!([["until-refused", ["savepoint"]], ["failed", "x"]]), "failed"),
        (json!([["done-with", {"x": 1_500_000}]]), "invalid-result"),
        (json!([["must", ["publish", "t", {"x": 3_000_000}]]]), "limit"),
        (json!([["must", ["execute", {"x": 2_000_000}, []]]]), "limit"),
        (
            json!([["must", ["query", "SELECT randomblob(3000000), randomblob(3000000)", []]]]),
            "limit",
        ),
        (
            json!([
                [
                    "must",
                    [
                        "query",
                        "SELECT hex(randomblob(500000)) FROM json_each('[1,2,3,4,5,6,7,8,9,10]')",
                        []
                    ]
                ],
                ["failed", "x"]
            ]),
            "memory",
        ),
        (
            json!([[
                "must",
                [
                    "query",
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT hex(zeroblob(500000)) AS b FROM n ORDER BY b",
                    []
                ]
            ]]),
            "limit",
        ),
        (
            json!([
                [
                    "execute",
                    "INSERT INTO things (value) SELECT zeroblob(100000) FROM json_each('[1,2,3,4,5,6,7,8,9,10]')",
                    []
                ],
                ["trap"]
            ]),
            "trap",
        ),
        (json!([["log", "info", {"x": 100_000}], ["failed", {"x": 1_000_000}]]), "failed"),
    ]
}

/// What is written by hand and gets past the compiler, without what takes all its time.
fn handmade() -> Vec<Vec<u8>> {
    let cases = handmade::cases::all().into_iter();
    cases
        .filter(|case| !["deadline", "validation", "pool"].contains(&case.wall))
        .map(|case| case.component)
        .collect()
}

/// Opens it, and performs it if it is a worker.
fn open_and_perform(component: &[u8]) {
    let limits = Limits::new().memory_bytes(8 << 20);
    let builder = Verger::in_memory()
        .without_built_ins()
        .component("handmade.wasm", component)
        .grant("handmade", Grant::new().limits(limits));
    if let Ok(verger) = builder.compile_cache(CompileCache::Off).open() {
        let _ = verger.perform_now("handmade", json!({}));
    }
}

#[test]
fn the_process_does_not_grow_over_hostile_runs() {
    let runs = if std::env::var_os("VERGER_LONG").is_some() { 10_000 } else { 150 };
    let limits = Limits::new()
        .time(Duration::from_secs(5))
        .memory_bytes(8 << 20)
        .sql_memory_bytes(32 << 20)
        .chunk_bytes(4 << 20)
        .audit_rows(50)
        .events(50);
    let test = Kind::Component.open_with(Grant::new().write("things").limits(limits));
    let misdeeds = misdeeds();
    let handmade = handmade();
    let (mut settled, mut most) = (0, 0);
    for number in 0..runs {
        let (steps, code) = &misdeeds[number % misdeeds.len()];
        let id = test.enqueue(job(steps.clone()).max_attempts(1)).unwrap().id;
        test.drain();
        if number < misdeeds.len() {
            let job = row(&test, id);
            assert_eq!(
                (job.state, job.errors[0].code.as_str()),
                (JobState::Discarded, *code),
                "{steps}: {:?}",
                job.errors
            );
        }
        open_and_perform(&handmade[number % handmade.len()]);
        // The job rows of the test itself live in memory too.
        test.sql("DELETE FROM verger_jobs");
        let now = resident();
        if number == runs / 3 {
            settled = now;
        }
        most = most.max(now);
        if number % (runs / 10) == 0 {
            println!("{number:6} runs: {} MiB", now >> 20);
        }
    }
    let grown = resident().saturating_sub(settled);
    println!(
        "{runs} runs: {} MiB, at most {} MiB; {} KiB more than after a third of them",
        resident() >> 20,
        most >> 20,
        grown >> 10
    );
    assert!(grown < 16 << 20, "it grew by {} KiB", grown >> 10);
    assert!(most < 256 << 20, "at most {} MiB", most >> 20);
}
