//! A component that imports WASI gets an interface that gives nothing, and a clear message if it
//! asks for more.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::time::Duration;

use common::TABLES;
use serde_json::{Value as Json, json};
use verger::testing::{TestVerger, capture_logs};
use verger::{AttemptError, Grant, PerformError, Timestamp};

const GUEST: &[u8] = include_bytes!("guests/wasi.wasm");

fn open() -> TestVerger {
    let test = TestVerger::with(|builder| {
        let grant = Grant::new().write("things").time_limit(Duration::from_secs(5));
        builder.component("wasi-guest.wasm", GUEST).grant("wasi-guest", grant).without_built_ins()
    });
    test.sql(TABLES);
    test
}

fn failure(test: &TestVerger, task: &str) -> AttemptError {
    match test.perform_job("wasi-guest", json!({ "do": task })) {
        Err(PerformError::Failed { source, .. }) => source,
        other => panic!("{task} did not fail: {other:?}"),
    }
}

#[test]
fn a_program_of_its_own_finds_nothing_but_the_host() {
    let test = open();
    test.clock().set(Timestamp::from_millis(1_900_000_000_123));
    let found = test.perform_job("wasi-guest", json!({})).unwrap().result().cloned().unwrap();
    let nothing = |found: &Json| found.as_str().is_some_and(|error| !error.is_empty());
    assert_eq!(
        (&found["arguments"], &found["variables"], &found["stdin"]),
        (&json!(0), &json!(0), &json!({"Ok": ""})),
        "{found}"
    );
    assert_eq!(
        (&found["clock"], &found["host_clock"]),
        (&json!(1_900_000_000_123_u64), &json!(1_900_000_000_123_u64)),
        "{found}"
    );
    assert_eq!((&found["seen"], &found["waited"]), (&json!(100), &json!(0)), "{found}");
    assert!(
        ["file", "new_file", "listing"].into_iter().all(|what| nothing(&found[what])),
        "{found}"
    );
    assert_eq!(test.one::<i64>("SELECT count(*) FROM things WHERE name = 'from wasi'"), 1);
}

#[test]
fn chance_is_the_same_for_the_same_attempt() {
    let chance =
        || open().perform_job("wasi-guest", json!({})).unwrap().result().unwrap()["chance"].clone();
    assert_eq!(chance(), chance());
}

#[test]
fn what_it_prints_lands_in_the_log() {
    let test = open();
    let (_, lines) = capture_logs(|| test.perform_job("wasi-guest", json!({})).unwrap());
    let said = |level: &str, message: &str| {
        lines.iter().any(|line| line.level.to_string() == level && line.message == message)
    };
    assert!(
        said("INFO", "hello from a program") && said("WARN", "an unfinished line"),
        "{lines:?}"
    );
}

#[test]
fn a_call_that_needs_more_traps_with_its_name() {
    let test = open();
    let error = failure(&test, "sleep");
    assert_eq!(error.code, "trap");
    assert!(
        error.message.contains("wasi:clocks/monotonic-clock")
            || error.message.contains("wasi:io/poll"),
        "{error}"
    );
    let error = failure(&test, "exit");
    assert!(error.message.contains("ended its process"), "{error}");
}

#[test]
fn a_panic_keeps_its_words() {
    let error = failure(&open(), "anything else");
    assert_eq!(error.code, "trap");
    assert!(
        error.message.contains("about to fall")
            && error.message.contains("fell over anything else"),
        "{error}"
    );
}

#[test]
fn lines_without_end_end_with_the_time() {
    let test = TestVerger::with(|builder| {
        let grant = Grant::new().time_limit(Duration::from_millis(200));
        builder.component("wasi-guest.wasm", GUEST).grant("wasi-guest", grant).without_built_ins()
    });
    assert_eq!(failure(&test, "flood").code, "deadline");
}
