//! The test kit is a feature of the product. This is what it promises to those who test with it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::{Marionette, PUPPET, TABLES, job};
use serde::Serialize;
use serde_json::json;
use verger::testing::{ManualClock, TestVerger, WorkerTest};
use verger::verger_worker::Outcome;
use verger::{
    Clock as _, Grant, JobState, OpenError, PerformError, PluginError, Schedule, Verger,
    assert_audited, assert_enqueued, refute_audited, refute_enqueued,
};

const START: verger::Timestamp = TestVerger::START;

/// The words with which the kit stops a test.
#[track_caller]
fn stopped(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).unwrap_err();
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn an_assertion_that_fails_lists_what_there_is() {
    let test = common::puppet();
    assert_eq!(
        stopped(|| drop(assert_enqueued!(test))).lines().last(),
        Some("there are: no jobs at all")
    );
    test.enqueue(job(json!([["now"]])).queue("slow").after(Duration::from_secs(60))).unwrap();
    let text =
        stopped(|| drop(assert_enqueued!(test, worker: "puppet", args: json!({"do": [["trap"]]}))));
    for phrase in [
        "no job is JobMatch",
        "trap",
        "scheduled puppet in queue slow with priority 5, due 2026-01-01T00:01:00Z",
        r#"args {"do":[["now"]]}"#,
    ] {
        assert!(text.contains(phrase), "{text}");
    }
    assert!(stopped(|| refute_enqueued!(test, queue: "slow")).contains("a job is JobMatch"));
    assert!(
        stopped(|| drop(assert_audited!(test, action: "a.b"))).contains("no audit rows at all")
    );
    common::answers(&test, json!([["audit", [{"action": "thing.made", "metadata": "{\"n\":1}"}]]]));
    let text =
        stopped(|| drop(assert_audited!(test, action: "thing.made", metadata: json!({"n": 2}))));
    assert!(text.contains(r#""action":"thing.made""#) && text.contains(r#"{\"n\":1}"#), "{text}");
    assert!(
        stopped(|| refute_audited!(test, worker: "puppet")).contains("an audit row is AuditMatch")
    );
    refute_audited!(test, organization: "o1");
}

#[test]
fn a_job_matches_by_any_of_its_fields_while_it_is_unfinished() {
    let test = common::puppet();
    let enqueued = test
        .enqueue(job(json!([])).queue("slow").priority(2).at(START + Duration::from_secs(9)))
        .unwrap();
    let found = assert_enqueued!(
        test, worker: "puppet", args: json!({}), queue: "slow", priority: 2, at: START + Duration::from_secs(9), state: JobState::Scheduled,
    );
    assert_eq!(found.id, enqueued.id);
    refute_enqueued!(test, args: json!({"do": [1]}));
    refute_enqueued!(test, at: START);
    refute_enqueued!(test, schedule: "nightly");
    test.run_for(Duration::from_secs(10));
    refute_enqueued!(test);
    assert_enqueued!(test, state: JobState::Completed);
}

#[test]
fn args_make_the_journey_through_json() {
    #[derive(Serialize)]
    struct Todo {
        r#do: Vec<(&'static str, f32)>,
    }
    let test = common::puppet();
    let performed = test.perform_job("puppet", Todo { r#do: vec![("now", 0.5)] }).unwrap();
    assert_eq!(performed.outcome, Outcome::DoneWith(json!([{"ok": START.as_millis()}])));
    assert!(matches!(test.perform_job("puppet", [1]), Err(PerformError::Refused(_))));
    let keys = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(stopped(|| drop(test.perform_job("puppet", keys))).contains("the args are no JSON"));
    assert_eq!(test.one::<i64>("SELECT count(*) FROM verger_jobs"), 0, "there is no job");
}

#[test]
fn time_jumps_from_due_instant_to_due_instant() {
    let schedule = Schedule::every("hourly", Duration::from_secs(3_600))
        .unwrap()
        .worker("puppet")
        .args(json!({"do": [["now"]]}));
    let test = TestVerger::with(|builder| {
        common::Kind::Component.add(builder, common::grant()).schedule(schedule)
    });
    let report = test.run_for(Duration::from_secs(86_400));
    assert_eq!((report.fired.len(), report.attempts.len()), (24, 24));
    assert_eq!(report.next_wake_at, Some(START + Duration::from_secs(25 * 3_600)));
    assert_eq!(test.now(), START + Duration::from_secs(86_400));
    let seen: i64 = test.one("SELECT max(result ->> '$[0].ok') FROM verger_jobs");
    assert_eq!(seen, test.now().as_millis(), "each ran at its own instant");
    let clock = test.clock().clone();
    clock.set(START);
    assert!(test.run_until(START).attempts.is_empty());
    assert_eq!(clock.now(), START, "it never moves the clock back or past the end");
}

#[test]
fn two_vergers_share_a_file_and_a_clock() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(START));
    let open = || {
        TestVerger::open(common::Kind::Native.add(Verger::builder(&file), common::grant()), &clock)
            .unwrap()
    };
    let (one, two) = (open(), open());
    let before = one.everything();
    two.enqueue(job(json!([])).after(Duration::from_secs(5))).unwrap();
    assert_ne!(one.everything(), before);
    one.clock().advance(Duration::from_secs(5));
    assert_eq!(two.drain().attempts.len(), 1);
}

#[test]
fn a_failing_statement_of_the_test_says_which() {
    let test = TestVerger::new();
    assert!(
        stopped(|| test.sql("CREATE TABEL x (id)")).contains("CREATE TABEL x (id): near \"TABEL\"")
    );
    assert!(
        stopped(|| drop(test.rows("SELECT * FROM nowhere"))).contains("no such table: nowhere")
    );
    assert!(stopped(|| drop(test.one::<String>("SELECT 1"))).starts_with("SELECT 1: "));
    assert!(
        stopped(|| drop(TestVerger::with(|builder| builder.component("x.wasm", vec![0]))))
            .contains("x.wasm is no valid WebAssembly component")
    );
    assert_eq!(
        test.rows("SELECT 1 AS a, 'x' AS b, x'00ff' AS c, NULL AS d, 0.5 AS e"),
        [json!({"a": 1, "b": "x", "c": "00ff", "d": null, "e": 0.5})]
    );
}

fn steps() -> serde_json::Value {
    json!({"do": [
        ["execute", "INSERT INTO things (id, name) VALUES (1, 'a'), (2, 'b')", []],
        ["audit", [{"action": "thing.made"}, {"action": "thing.seen"}]],
        ["publish", "made", "{\"n\": 2}"],
        ["log", "warn", "two of them"],
        ["call", "echo", "{}"],
        ["now"],
    ]})
}

#[test]
fn a_worker_is_tested_with_no_app_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("puppet.wasm");
    std::fs::write(&file, PUPPET).unwrap();
    for worker in [
        WorkerTest::file(&file),
        WorkerTest::component("puppet.wasm", PUPPET),
        WorkerTest::native(Marionette),
    ] {
        let worker = worker
            .sql(TABLES)
            .capability("echo", |_| Ok(json!("echo")))
            .at(START + Duration::from_secs(1))
            .open()
            .unwrap();
        assert_eq!((worker.name(), worker.workers()), ("puppet", vec!["puppet".to_string()]));
        let performed = worker.perform(steps());
        assert_eq!(performed.result()[4], json!({"ok": "\"echo\""}));
        assert_eq!(performed.result()[5], json!({"ok": START.as_millis() + 1_000}));
        assert_eq!(performed.rows_changed, 2);
        assert_eq!(
            worker.rows("SELECT name FROM things"),
            [json!({"name": "a"}), json!({"name": "b"})]
        );
        assert_eq!(
            performed.audit.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(),
            ["thing.made", "thing.seen"]
        );
        assert_eq!(
            (performed.events[0].topic.as_str(), &performed.events[0].payload),
            ("made", &json!({"n": 2}))
        );
        let lines: Vec<_> =
            performed.logs.iter().filter(|line| line.target == "verger::worker").collect();
        assert_eq!(
            (lines[0].message.as_str(), lines[0].fields["worker"].as_str()),
            ("two of them", "puppet")
        );

        // The rows are there already: it fails, and shows nothing of what it tried.
        let failed = worker.perform(
            json!({"do": [["audit", [{"action": "thing.made"}]], ["must", ["execute", "INSERT INTO things (id) VALUES (1)", []]]]}),
        );
        assert!(
            failed.error().contains("UNIQUE constraint failed: things.id"),
            "{}",
            failed.error()
        );
        assert!(failed.audit.is_empty() && failed.events.is_empty());
        assert!(
            stopped(|| drop(failed.result().clone()))
                .contains("the attempt failed: worker `puppet` failed")
        );
        assert!(stopped(|| drop(performed.error())).contains("did not fail"));

        // It is a Verger too.
        let id = worker.enqueue(job(json!([["failed", "x"]])).max_attempts(2)).unwrap().id;
        worker.run_for(Duration::from_secs(60));
        assert_eq!(worker.job(id).unwrap().unwrap().state, JobState::Discarded);
    }
}

#[test]
fn a_worker_under_test_has_the_grant_it_is_given() {
    let read_only = WorkerTest::component("puppet.wasm", PUPPET)
        .grant(Grant::new().read("things"))
        .sql(TABLES)
        .open()
        .unwrap();
    let performed = read_only.perform(json!({"do": [["query", "SELECT count(*) FROM things", []], ["execute", "DELETE FROM things", []]]}));
    assert_eq!(
        (&performed.result()[0], &performed.result()[1]["err"]),
        (&json!({"ok": [[0]]}), &json!("denied"))
    );
    let declared = WorkerTest::component("puppet.wasm", PUPPET).sql(TABLES).open().unwrap();
    assert_eq!(
        declared.perform(json!({"do": [["query", "SELECT count(*) FROM withheld", []]]})).result()
            [0],
        json!({"ok": [[0]]})
    );
}

#[test]
fn a_component_that_is_no_worker_is_refused_by_the_harness_too() {
    let error = WorkerTest::component("x.wasm", *b"\0asm\x01\0\0\0").open().unwrap_err();
    assert!(matches!(error, OpenError::Worker(PluginError::CoreModule { .. })), "{error:?}");
    let error = WorkerTest::file("no/such/worker.wasm").open().unwrap_err();
    assert!(error.to_string().contains("no/such/worker.wasm"), "{error}");
    assert!(
        stopped(|| drop(WorkerTest::native(Marionette).sql("CREATE").open())).contains("CREATE: ")
    );
}
