//! What a hostile worker tries, the wall that stops it, and the error it sees: a table. `cargo test
//! --test hostile -- --nocapture` prints it, and another of the components that no compiler makes.
//! After each case the app's other rows are as they were, and an honest job is performed.
#![allow(clippy::print_stdout, reason = "the figures are for people")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod calls;
mod case;
#[path = "../common/mod.rs"]
mod common;
mod database;
mod functions;
mod grant;
#[path = "../handmade/mod.rs"]
mod handmade;
mod jobs;
mod machine;
mod size;
mod table;
mod text;

use std::time::Duration;

use case::{Case, DEADLINE};
use common::{Kind, job, run};
use serde_json::{Value as Json, json};
use table::Table;
use verger::testing::{ManualClock, TestVerger};
use verger::{Grant, Limits, OpenError, PerformError};

fn open(time: Duration) -> TestVerger {
    let grant = Grant::new()
        .write("things")
        .read_columns("other", ["id"])
        .capability("echo")
        .capability("broken");
    let test = Kind::Component.open_with(
        grant.limits(
            Limits::new()
                .time(time)
                .write_lock(time)
                .memory_bytes(8 << 20)
                .sql_memory_bytes(64 << 20)
                .chunk_bytes(2 << 20)
                .statements(2_000)
                .audit_rows(100)
                .events(100)
                .jobs(5)
                .job_bytes(1 << 20)
                .state_bytes(1_000),
        ),
    );
    test.sql(
        "CREATE TABLE secrets (id INTEGER PRIMARY KEY, word TEXT); INSERT INTO secrets VALUES (1, 'hidden');
         CREATE VIEW secret_words AS SELECT word FROM secrets;
         CREATE TABLE log (what TEXT);
         CREATE TRIGGER things_logged AFTER INSERT ON things WHEN NEW.name = 'logged' BEGIN INSERT INTO log VALUES ('logged'); END;
         CREATE VIRTUAL TABLE found USING fts5(word);
         CREATE INDEX things_by_name ON things (name);
         CREATE INDEX things_1 ON things (name, value); CREATE INDEX things_2 ON things (value, name);
         CREATE INDEX things_3 ON things (value, id); CREATE INDEX things_4 ON things (name, value, id);
         CREATE INDEX things_5 ON things (value, name, id); CREATE TABLE copied (id INTEGER PRIMARY KEY, word TEXT);",
    );
    test
}

/// By itself, for on a busy machine 250 ms are too short to take so much.
#[test]
fn a_sort_of_everything_is_ended_by_its_memory() {
    let limits = Limits::new().time(Duration::from_secs(60)).sql_memory_bytes(64 << 20);
    let limits = limits.write_lock(Duration::from_secs(60));
    let test = Kind::Component.open_with(Grant::new().limits(limits));
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT hex(zeroblob(500000)) AS b FROM n ORDER BY b";
    let (code, message) = ended(&test, "a sort of everything", &json!([["query", sql, []]]));
    assert_eq!(code, "limit", "{message}");
    assert!(message.contains("MiB of memory"), "{message}");
}

/// The code and the message of a case's last step, or of the attempt.
fn ended(test: &TestVerger, tried: &str, steps: &Json) -> (String, String) {
    match test.perform_job("puppet", json!({ "do": steps })) {
        Ok(performed) => {
            let answers = performed.result().cloned().unwrap_or_default();
            let last =
                answers.as_array().and_then(|answers| answers.last().cloned()).unwrap_or_default();
            match last["err"].as_str() {
                Some(code) => {
                    (code.to_string(), last["message"].as_str().unwrap_or_default().to_string())
                }
                None => ("ok".to_string(), last["ok"].to_string()),
            }
        }
        Err(PerformError::Failed { source, .. }) => (source.code, source.message),
        Err(other) => panic!("{tried}: {other}"),
    }
}

#[test]
fn each_misdeed_is_stopped_by_its_wall_and_named() {
    let (short, long) = (open(Duration::from_millis(250)), open(Duration::from_secs(30)));
    let cases: Vec<Case> = [
        grant::cases(),
        text::cases(),
        database::cases(),
        functions::cases(),
        size::cases(),
        machine::cases(),
        jobs::cases(),
        calls::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(cases.len() >= 60);
    let before = short.rows("SELECT * FROM secrets");
    let mut table = Table::new();
    for Case { tried, wall, steps, code, names } in &cases {
        // On a busy machine another wall may be too far for so little time.
        let test = if *code == DEADLINE { &short } else { &long };
        let (got, message) = ended(test, tried, steps);
        table.row(tried, wall, (code, names), &got, &message);
        assert!(!message.contains("hidden"), "{tried}: {message}");
        assert_eq!(test.rows("SELECT * FROM secrets"), before, "{tried}");
        let honest = run(test, job(json!([["query", "SELECT 1", []]])));
        assert_eq!(honest.result, Some(json!([{"ok": [[1]]}])), "after: {tried}");
    }
    table.close();
}

#[test]
fn each_component_that_breaks_the_rules_is_refused_or_stopped() {
    let mut table = Table::new();
    for handmade::cases::Case { tried, wall, component, code, names } in handmade::cases::all() {
        let limits = Limits::new().time(Duration::from_millis(250)).memory_bytes(8 << 20);
        let builder = verger::Verger::in_memory()
            .component("handmade.wasm", component)
            .grant("handmade", Grant::new().limits(limits));
        let (got, message) = match TestVerger::open(
            Kind::Native.add(builder, common::grant()),
            &ManualClock::at(TestVerger::START),
        ) {
            Err(OpenError::Worker(reason)) => ("refused".to_string(), reason.to_string()),
            Err(other) => panic!("{tried}: {other}"),
            Ok(test) => {
                test.sql(common::TABLES);
                let ended = match test.perform_now("handmade", json!({})) {
                    Ok(_) => ("ok".to_string(), String::new()),
                    Err(PerformError::Failed { source, .. }) => (source.code, source.message),
                    Err(other) => panic!("{tried}: {other}"),
                };
                common::goes_on(&test);
                ended
            }
        };
        table.row(tried, wall, (code, names), &got, &message);
    }
    table.close();
}

#[test]
fn a_grant_for_one_file_is_not_taken_by_another() {
    let test = open(Duration::from_millis(250));
    let digest = test.digest("puppet").unwrap().unwrap();
    assert_eq!(digest.len(), 64);
    let with = |digest: &str, kind: Kind| {
        TestVerger::open(
            kind.add(verger::Verger::in_memory(), common::grant().for_digest(digest)),
            &ManualClock::at(TestVerger::START),
        )
    };
    assert!(with(&digest.to_uppercase(), Kind::Component).is_ok());
    for (other, kind) in [("00".repeat(32), Kind::Component), (digest.clone(), Kind::Native)] {
        let refused = with(&other, kind).unwrap_err().to_string();
        assert!(
            refused.contains("SHA-256") && refused.contains(&other) && refused.contains("puppet"),
            "{refused}"
        );
    }
}

#[test]
fn what_a_worker_wants_more_is_reported_and_not_taken() {
    let test = common::puppet();
    let withheld = test.withheld();
    assert_eq!(withheld.len(), 1);
    assert_eq!(
        withheld[0].to_string(),
        "worker `puppet` asks for what it is not granted: read on table withheld; jobs for worker `noop`; jobs for worker `other-worker`; jobs for worker `withheld-worker`"
    );
    let answer = common::answers(&test, json!([["query", "SELECT * FROM withheld", []]]));
    assert_eq!(answer[0]["err"], "denied");
}
