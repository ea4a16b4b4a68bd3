//! What a worker sends, keeps and writes is bounded in bytes: in memory, on the disk, in the log of
//! the app.
//!
//! Memory is measured in a child process of its own: the test binary starts itself again with the
//! name of a case.
#![allow(clippy::print_stdout, reason = "the figures are for people")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod handmade;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{BOTH, Kind, TABLES, answers, failure, grant, job, row, run};
use handmade::{EXPORTS, Handmade};
use serde_json::{Value as Json, json};
use verger::testing::{LogLine, TestVerger, capture_logs};
use verger::{CompileCache, Grant, JobState, Limits, NewJob, PerformError, Timestamp, Verger};

/// A debug build holds the lock for long.
fn limited(limits: Limits) -> Grant {
    grant().limits(limits.write_lock(Duration::from_secs(60)))
}

fn lines_of(lines: Vec<LogLine>, worker: &str) -> Vec<LogLine> {
    let of = |line: &LogLine| line.fields.get("worker").is_some_and(|name| name == worker);
    lines.into_iter().filter(of).collect()
}

// ---- the log of the app

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

// ---- memory

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

// ---- the disk

struct File {
    folder: tempfile::TempDir,
    verger: Verger,
}

impl File {
    fn with(kind: Kind, grant: Grant) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let connection = rusqlite(&path);
        connection.execute_batch(&format!("PRAGMA journal_mode = WAL; {TABLES}")).unwrap();
        let verger = kind.add(Verger::builder(&path), grant).open().unwrap();
        Self { folder, verger }
    }

    fn size(&self, name: &str) -> u64 {
        std::fs::metadata(self.folder.path().join(name)).map_or(0, |file| file.len())
    }

    fn perform(&self, steps: Json) -> Result<(), String> {
        match self.verger.perform_now("puppet", json!({ "do": steps })) {
            Ok(_) => Ok(()),
            Err(PerformError::Failed { source, .. }) => Err(source.code),
            Err(other) => panic!("{other}"),
        }
    }
}

fn rusqlite(path: &Path) -> verger::rusqlite::Connection {
    verger::rusqlite::Connection::open(path).unwrap()
}

const FILL: &str = "INSERT INTO things (value) VALUES (zeroblob(4000000))";

#[test]
fn what_a_transaction_writes_is_bounded_and_given_back() {
    for kind in BOTH {
        let file = File::with(kind, limited(Limits::new().transaction_bytes(96 << 20)));
        let ended = file.perform(json!([["until-refused", ["execute", FILL, []]]]));
        assert_eq!(ended, Err("limit".to_string()), "{kind:?}");
        let many = "INSERT INTO things (value) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT zeroblob(3000) FROM n";
        let ended = file.perform(json!([["execute", many, []], ["done"]]));
        assert_eq!(ended, Err("limit".to_string()), "{kind:?}: in one statement");
        assert!(file.size("app.db-wal") <= 16 << 20, "{} MiB", file.size("app.db-wal") >> 20);
        assert!(file.size("app.db") <= 1 << 20, "{} MiB", file.size("app.db") >> 20);
        // What was not too much is there, and the log is short all the same.
        file.perform(json!([["repeat", 10, ["execute", FILL, []]], ["done"]])).unwrap();
        assert!(file.size("app.db-wal") <= 16 << 20, "{} MiB", file.size("app.db-wal") >> 20);
        assert!(file.size("app.db") >= 40_000_000);
    }
}

#[test]
fn the_log_of_a_failed_attempt_is_given_back_though_the_app_reads_meanwhile() {
    let file = File::with(Kind::Component, limited(Limits::new().transaction_bytes(64 << 20)));
    let app = rusqlite(&file.folder.path().join("app.db"));
    app.execute_batch("BEGIN; SELECT count(*) FROM things").unwrap();
    let begun = Instant::now();
    assert!(file.perform(json!([["until-refused", ["execute", FILL, []]]])).is_err());
    assert!(begun.elapsed() < Duration::from_secs(8), "it waited for the reader");
    app.execute_batch("COMMIT").unwrap();
    // The next big run gives back both.
    assert!(file.perform(json!([["until-refused", ["execute", FILL, []]]])).is_err());
    assert!(file.size("app.db-wal") <= 16 << 20, "{} MiB", file.size("app.db-wal") >> 20);
}

#[test]
fn a_run_cannot_grow_the_file_without_end_by_checkpoints() {
    for kind in BOTH {
        let file = File::with(kind, limited(Limits::new().growth_bytes(60 << 20)));
        let steps = json!([
            ["repeat", 5, ["execute", FILL, []]],
            ["checkpoint"],
            ["repeat", 5, ["execute", FILL, []]],
            ["checkpoint"],
            ["repeat", 5, ["execute", FILL, []]],
            ["checkpoint"],
            ["repeat", 5, ["execute", FILL, []]],
            ["checkpoint"],
            ["done"],
        ]);
        assert_eq!(file.perform(steps), Err("limit".to_string()), "{kind:?}");
        let megabytes = file.size("app.db") >> 20;
        assert!((19..=61).contains(&megabytes), "{kind:?}: {megabytes} MiB");
        // What is replaced does not grow it.
        let replace = "UPDATE things SET value = zeroblob(4000000 - length(value) % 2)";
        file.perform(json!([
            ["execute", replace, []],
            ["checkpoint"],
            ["execute", replace, []],
            ["checkpoint"],
            ["execute", replace, []],
            ["checkpoint"],
            ["execute", replace, []],
            ["done"]
        ]))
        .unwrap();
    }
}

#[test]
fn the_settings_of_the_app_stay_its_own() {
    let file = File::with(Kind::Component, grant());
    let app = rusqlite(&file.folder.path().join("app.db"));
    let limit: i64 = app.query_row("PRAGMA journal_size_limit", [], |row| row.get(0)).unwrap();
    assert_eq!(limit, -1);
}

// ---- the standard streams

const STREAMS: &str = r#"
    (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
    (alias export $errors "error" (type $io-error))
    (import "wasi:io/streams@0.2.0" (instance $streams
        (alias outer 1 $io-error (type $io-error'))
        (export "output-stream" (type $stream (sub resource)))
        (type $failure (variant (case "last-operation-failed" (own $io-error')) (case "closed")))
        (export "stream-error" (type $failure' (eq $failure)))
        (export "[method]output-stream.write" (func (param "self" (borrow $stream))
            (param "contents" (list u8)) (result (result (error $failure')))))))
    (alias export $streams "output-stream" (type $stream))
    (import "wasi:cli/stdout@0.2.0" (instance $stdout
        (alias outer 1 $stream (type $stream'))
        (export "get-stdout" (func (result (own $stream'))))))"#;

/// Fills its memory with short lines and writes them all at once.
const FLOOD: &str = r#"
    (core func $stdout (canon lower (func $stdout "get-stdout")))
    (core func $write (canon lower (func $streams "[method]output-stream.write")
        (memory $libc "memory") (realloc (func $libc "realloc"))))
    (core module $flood
        (import "libc" "memory" (memory 0))
        (import "io" "stdout" (func $stdout (result i32)))
        (import "io" "write" (func $write (param i32 i32 i32 i32)))
        (func (export "perform") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
            (local $at i32)
            (local.set $at (i32.const 65536))
            (loop $on
                (i32.store (local.get $at) (i32.const 0x0a610a61))
                (local.set $at (i32.add (local.get $at) (i32.const 4)))
                (br_if $on (i32.lt_u (local.get $at) (i32.const 64000000))))
            (loop $on
                (call $write (call $stdout) (i32.const 65536) (i32.const 63900000) (i32.const 96))
                (br $on))
            i32.const 16))
    (core instance $flood (instantiate $flood (with "libc" (instance $libc))
        (with "io" (instance (export "stdout" (func $stdout)) (export "write" (func $write))))))"#;

#[cfg(target_os = "linux")]
#[test]
fn a_flood_on_the_standard_streams_ends_with_the_time_granted_and_takes_no_memory() {
    let wasm = Handmade::new("handmade")
        .memory(r#"(memory (export "memory") 1000)"#)
        .fields(STREAMS)
        .exports(format!("{FLOOD}{}", EXPORTS.replace("$main \"perform\"", "$flood \"perform\"")))
        .bytes();
    let limits = Limits::new().time(Duration::from_millis(300)).log_lines(20);
    let test = TestVerger::with(|builder| {
        builder
            .component("lines.wasm", wasm)
            .grant("handmade", Grant::new().limits(limits))
            .without_built_ins()
    });
    test.perform_job("handmade", json!({})).unwrap_err();
    let (begun, before) = (Instant::now(), resident("VmRSS"));
    let (ended, lines) = capture_logs(|| test.perform_job("handmade", json!({})));
    match ended {
        Err(PerformError::Failed { source, .. }) => assert_eq!(source.code, "deadline"),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(lines_of(lines, "handmade").len(), 21);
    assert!(resident("VmRSS") < before + 128, "it grew from {before} MiB");
}

// ---- the pool

#[test]
fn no_workers_instances_make_anothers_fail() {
    let memories = "(core module $mm (memory 1)) (core instance (instantiate $mm)) (core instance (instantiate $mm)) (core instance (instantiate $mm))";
    let greedy = Handmade::new("greedy")
        .fields(memories)
        .perform("(loop $on (br_if $on (i64.gt_s (call $now) (i64.const 0))))")
        .bytes();
    let limits = Limits::new().time(Duration::from_millis(2_500));
    let verger = Verger::in_memory()
        .without_built_ins()
        .component("greedy.wasm", greedy)
        .component("honest.wasm", Handmade::new("honest").bytes())
        .component("puppet.wasm", common::PUPPET)
        .grant("greedy", Grant::new().limits(limits))
        .compile_cache(CompileCache::Off)
        .open()
        .unwrap();
    let greedy: Vec<_> = (0..40)
        .map(|_| {
            let verger = verger.clone();
            std::thread::spawn(move || verger.perform_now("greedy", json!({})))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(1_000));
    let begun = Instant::now();
    for worker in ["honest", "puppet"] {
        verger.perform_now(worker, json!({})).unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    for ended in greedy {
        match ended.join().unwrap() {
            Err(PerformError::Failed { source, .. }) => assert_eq!(source.code, "deadline"),
            other => panic!("{other:?}"),
        }
    }
}

// ---- times

#[test]
fn no_time_a_worker_or_an_app_gives_is_beyond_what_can_be_written() {
    for kind in BOTH {
        let test = TestVerger::with(|builder| {
            let longest = Duration::MAX;
            let builder = kind.add(builder, limited(Limits::new().time(longest)));
            builder
                .backoff(verger::Backoff { base: longest, max: longest })
                .lease(longest)
                .keep_audit(longest)
                .retention(
                    verger::Retention::new()
                        .completed(longest)
                        .cancelled(longest)
                        .discarded(longest)
                        .fires(longest),
                )
        });
        test.sql(TABLES);
        let snoozed = run(&test, job(json!([["snooze", u32::MAX]])));
        let due = test.now() + Duration::from_secs(u32::MAX.into());
        assert_eq!((snoozed.state, snoozed.due_at), (JobState::Scheduled, due));
        let failed = run(&test, job(json!([["failed", "x"]])));
        assert_eq!((failed.state, failed.due_at), (JobState::Retryable, Timestamp::LAST));
        let later =
            test.enqueue(job(json!([])).after(Duration::MAX).unique_for(Duration::MAX)).unwrap();
        assert_eq!(row(&test, later.id).due_at, Timestamp::LAST);
        let checked = run(&test, job(json!([["checkpoint"], ["done"]])));
        assert_eq!(checked.state, JobState::Completed, "{kind:?}: {:?}", checked.errors);
        let refused =
            test.enqueue(NewJob::new("puppet", json!({})).at(Timestamp::from_millis(i64::MAX)));
        assert!(refused.unwrap_err().to_string().contains("year 9999"));
        let schedule = |schedule: verger::Schedule| {
            schedule.worker("puppet").jitter(Duration::MAX).start_deadline(Duration::MAX)
        };
        let often = verger::Schedule::every("often", Duration::from_secs(60)).unwrap();
        test.add_schedule(&schedule(often)).unwrap();
        test.run_until(TestVerger::START + Duration::from_secs(200));
        assert!(verger::Schedule::every("never", Duration::MAX).is_err());
        assert!(
            test.jobs(&verger::JobFilter::default(), 100)
                .unwrap()
                .iter()
                .all(|job| job.due_at <= Timestamp::LAST)
        );
    }
}
