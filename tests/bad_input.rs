//! Bad input: a typed error that says what, where and what to do; nothing half-written; and the
//! queue goes on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Kind, PUPPET, TABLES, failure, goes_on, grant, job, last_error, puppet, row};
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::ManifestError;
use verger::{
    AttemptOutcome, EnqueueError, ExpressionError, JobState, Limits, MigrationError, NewJob,
    OpenError, PluginError, Schedule, ScheduleError, StoreErrorKind, Verger,
};

/// That a text has each of these phrases.
#[track_caller]
fn says(error: &dyn std::fmt::Display, phrases: &[&str]) {
    let text = error.to_string();
    for phrase in phrases {
        assert!(text.contains(phrase), "{text:?} does not say {phrase:?}");
    }
}

const SWEEP: &str = "cleanup-expired-invitations";

fn built_ins() -> TestVerger {
    TestVerger::new().reference_tables()
}

fn swept(more: Json) -> Json {
    let mut args = json!({"organization_id": null, "actor_id": null});
    args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    args
}

#[test]
fn missing_tenant_keys_are_all_named_wherever_a_job_comes_from() {
    let test = built_ins();
    let before = test.everything();
    for (args, missing) in [
        (json!({}), &["organization_id", "actor_id"][..]),
        (json!({"organization_id": null}), &["actor_id"]),
        (json!({"actor_id": "u", "organisation_id": "o"}), &["organization_id"]),
    ] {
        let error = test.enqueue(NewJob::new(SWEEP, args.clone())).unwrap_err();
        let EnqueueError::Manifest(ManifestError::MissingKeys { worker, keys }) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(
            (worker.as_str(), keys.iter().map(String::as_str).collect::<Vec<_>>()),
            (SWEEP, missing.to_vec())
        );
        says(&error, missing);
        says(&error, &[SWEEP, "null"]);

        let schedule = Schedule::every("sweep", Duration::from_secs(60))
            .unwrap()
            .worker(SWEEP)
            .args(args.clone());
        let error =
            TestVerger::open(Verger::in_memory().schedule(schedule), test.clock()).unwrap_err();
        assert!(matches!(error, OpenError::Schedule(ScheduleError::Args { .. })), "{error:?}");
        says(&error, missing);
        says(&error, &["schedule `sweep`"]);

        says(&test.perform_now(SWEEP, args.clone()).unwrap_err(), missing);
        says(&test.perform_job(SWEEP, args.clone()).unwrap_err(), missing);
        let error = test
            .enqueue_all([NewJob::new(SWEEP, swept(json!({}))), NewJob::new(SWEEP, args)])
            .unwrap_err();
        says(&error, missing);
    }
    assert_eq!(test.everything(), before, "of many jobs none is enqueued when one is bad");
}

const BY_HAND: &str = "INSERT INTO verger_jobs (worker, queue, priority, state, args, tenant_aware, due_at, max_attempts, created_at) VALUES";

#[test]
fn a_row_made_by_hand_is_checked_by_the_table_and_again_before_it_is_performed() {
    let test = built_ins();
    for args in [
        "{}",
        r#"{"organization_id": null}"#,
        r#"{"actor_id": null}"#,
        "[]",
        "1",
        "null",
        "no json",
        "{a: 1}",
        "{\"a\": 1,}",
        "",
    ] {
        let sql = format!("{BY_HAND} ('{SWEEP}', 'default', 5, 'available', '{args}', 1, 0, 1, 0)");
        assert!(test.connection().execute(&sql, []).is_err(), "{args}");
    }
    test.sql(&format!(
        "{BY_HAND} ('{SWEEP}', 'default', 5, 'available', '{{\"a\": 1}}', 0, 0, 1, 0)"
    ));
    let report = test.drain();
    assert_eq!(report.attempts.len(), 1);
    let jobs = test.jobs(&Default::default(), 9).unwrap();
    let missing = last_error(&jobs[0]);
    assert_eq!((missing.0, jobs[0].state), ("args", JobState::Discarded));
    says(&missing.1, &["organization_id", "actor_id", SWEEP]);
    let next = test.enqueue(NewJob::new(SWEEP, swept(json!({})))).unwrap().id;
    test.drain();
    assert_eq!(row(&test, next).state, JobState::Completed);
}

#[test]
fn an_unknown_worker_is_named_with_those_that_are_known() {
    let test = built_ins();
    let before = test.everything();
    let error = test.enqueue(NewJob::new("cleanup", json!({}))).unwrap_err();
    assert!(matches!(error, EnqueueError::UnknownWorker { .. }));
    says(
        &error,
        &[
            "`cleanup`",
            "`cleanup-expired-invitations`",
            "`reconcile-memberships`",
            "register it",
            "plugins folder",
        ],
    );
    says(&test.perform_now("cleanup", json!({})).unwrap_err(), &["no worker is named `cleanup`"]);
    let schedule = Schedule::cron("s", "@daily").unwrap().worker("cleanup");
    let error = TestVerger::open(Verger::in_memory().schedule(schedule), test.clock()).unwrap_err();
    says(&error, &["schedule `s` wants worker `cleanup`", "reconcile-webhook-events"]);
    assert_eq!(test.everything(), before);
}

#[test]
fn args_that_are_no_object_and_settings_out_of_bounds_are_refused() {
    let test = puppet();
    let before = test.everything();
    for (args, found) in [
        (json!([1]), "an array"),
        (json!("x"), "a string"),
        (json!(null), "null"),
        (json!(7), "a number"),
        (json!(true), "a boolean"),
    ] {
        let error = test.enqueue(NewJob::new("puppet", args.clone())).unwrap_err();
        assert!(matches!(error, EnqueueError::Args { .. }), "{error:?}");
        says(&error, &["worker `puppet`", "must be a JSON object", found]);
        says(&test.perform_now("puppet", args).unwrap_err(), &["must be a JSON object"]);
    }
    let cases: [(NewJob, &str); 5] = [
        (job(json!([])).priority(10), "from 0, first, to 9, last"),
        (job(json!([])).max_attempts(0), "at least 1"),
        (job(json!([])).queue(""), "1 to 128 bytes"),
        (job(json!([])).queue("x".repeat(129)), "1 to 128 bytes"),
        (NewJob::new("puppet", json!({"a": "x".repeat(2 << 20)})), "1 MiB"),
    ];
    for (job, phrase) in cases {
        let error = test.enqueue(job).unwrap_err();
        assert!(matches!(error, EnqueueError::Invalid { .. }), "{error:?}");
        says(&error, &["worker `puppet`", phrase]);
    }
    assert_eq!(test.everything(), before);
    goes_on(&test);
}

#[test]
fn unparsable_cron_text_is_refused_with_the_place_and_the_reason() {
    for (text, phrases) in [
        ("61 * * * *", &["minute", "61", "0", "59"][..]),
        ("* * * *", &["five"]),
        ("0 3 * * mun", &["mun"]),
        ("every night", &["schedule `nightly`"]),
        ("@nightly", &["@nightly"]),
        ("", &["schedule `nightly`"]),
    ] {
        let error = Schedule::cron("nightly", text).unwrap_err();
        let ScheduleError::Expression { source, .. } = &error else { panic!("{error:?}") };
        let _: &ExpressionError = source;
        says(&error, phrases);
        says(&error, &["schedule `nightly`"]);
    }
    says(
        &Schedule::cron("n", "0 3 * * *").unwrap().time_zone("Europe/Berlim").unwrap_err(),
        &["schedule `n`", "Europe/Berlim", "Europe/Berlin"],
    );
    says(&Schedule::every("n", Duration::ZERO).unwrap_err(), &["schedule `n`"]);
    says(&Schedule::cron("", "@daily").unwrap_err(), &["1 to 128 bytes"]);
}

#[test]
fn a_schedule_that_is_refused_leaves_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let clock = ManualClock::at(TestVerger::START);
    let schedule =
        |name: &str| Schedule::every(name, Duration::from_secs(60)).unwrap().worker("puppet");
    let open = |schedules: Vec<Schedule>| {
        let builder = schedules
            .into_iter()
            .fold(Kind::Component.add(Verger::builder(&file), grant()), |builder, schedule| {
                builder.schedule(schedule)
            });
        TestVerger::open(builder, &clock)
    };
    open(vec![]).unwrap();
    for bad in [
        schedule("b").args(json!([1])),
        schedule("b").priority(77),
        schedule("b").worker("gone"),
        schedule("a"),
    ] {
        let error = open(vec![schedule("a"), bad]).unwrap_err();
        assert!(matches!(error, OpenError::Schedule(_)), "{error:?}");
        let test = open(vec![]).unwrap();
        assert_eq!(test.schedules().unwrap(), [], "{error}");
    }
}

/// A component that imports and exports what these declarations say.
fn component(wat: &str) -> Vec<u8> {
    wat::parse_str(format!("(component {wat})")).unwrap()
}

/// A file, what its refusal must be, and what that must say.
type Refused = (Vec<u8>, fn(&PluginError) -> bool, &'static [&'static str]);

/// The world's exports but one, with bodies that only trap.
const NO_PERFORM: &str = r#"
    (core module $m
        (memory (export "memory") 1)
        (func (export "describe") (result i32) unreachable)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
    (core instance $i (instantiate $m))
    (func (export "describe") (result string)
        (canon lift (core func $i "describe") (memory $i "memory") (realloc (func $i "realloc"))))"#;

#[test]
fn a_wasm_that_is_no_worker_is_refused_by_name_with_the_reason() {
    let core = wat::parse_str("(module)").unwrap();
    let mut flipped = PUPPET.to_vec();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0xff);
    let cases: Vec<Refused> = vec![
        (
            PUPPET[..PUPPET.len() / 2].to_vec(),
            |e| matches!(e, PluginError::NotAComponent { .. }),
            &["is no valid WebAssembly component", "complete"],
        ),
        (PUPPET[..8].to_vec(), |_| true, &["acme.wasm"]),
        (
            PUPPET[..5].to_vec(),
            |e| matches!(e, PluginError::NotAComponent { .. }),
            &["is no valid WebAssembly component"],
        ),
        (
            Vec::new(),
            |e| matches!(e, PluginError::NotAComponent { .. }),
            &["is no valid WebAssembly component"],
        ),
        (
            b"#!/bin/sh\n".to_vec(),
            |e| matches!(e, PluginError::NotAComponent { .. }),
            &["does not begin as WebAssembly does"],
        ),
        (
            flipped,
            |e| matches!(e, PluginError::NotAComponent { .. }),
            &["is no valid WebAssembly component"],
        ),
        (
            core,
            |e| matches!(e, PluginError::CoreModule { .. }),
            &["core WebAssembly module", "verger plugin pack"],
        ),
        (
            component(r#"(import "wasi:filesystem/types@0.1.0" (instance))"#),
            |e| matches!(e, PluginError::UnknownImport { .. }),
            &[
                "imports `wasi:filesystem/types@0.1.0`",
                "the interfaces of verger:worker@0.1.0, and WASI 0.2",
            ],
        ),
        (
            component(r#"(import "verger:worker/secrets@0.1.0" (instance))"#),
            |e| matches!(e, PluginError::UnknownImport { .. }),
            &["imports `verger:worker/secrets@0.1.0`"],
        ),
        (
            component(r#"(import "verger:worker/clock@0.1.0" (instance (export "later" (func))))"#),
            |e| matches!(e, PluginError::Mismatch { .. }),
            &["verger:worker/worker@0.1.0", "later"],
        ),
        (
            component(NO_PERFORM),
            |e| matches!(e, PluginError::Mismatch { .. }),
            &["does not implement", "perform"],
        ),
        (component(""), |e| matches!(e, PluginError::Mismatch { .. }), &["does not implement"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(TestVerger::START);
    for (number, (bytes, is_right, phrases)) in cases.into_iter().enumerate() {
        let error =
            TestVerger::open(Verger::in_memory().component("acme.wasm", bytes.clone()), &clock)
                .unwrap_err();
        let OpenError::Worker(refusal) = &error else { panic!("case {number}: {error:?}") };
        assert!(is_right(refusal), "case {number}: {refusal:?}");
        says(&error, phrases);
        says(&error, &["acme.wasm"]);
        std::fs::write(folder.path().join(format!("{number:02}.wasm")), bytes).unwrap();
    }
    // Dropped into a folder, they do not keep the app, or the good one among them, from starting.
    std::fs::write(folder.path().join("puppet.wasm"), PUPPET).unwrap();
    std::fs::write(folder.path().join("twin.wasm"), PUPPET).unwrap();
    std::fs::write(folder.path().join("README.txt"), "no plugin").unwrap();
    let test = TestVerger::with(|builder| {
        builder
            .plugins(folder.path())
            .plugin(folder.path().join("none.wasm"))
            .without_built_ins()
            .grant("puppet", grant())
    });
    test.sql(TABLES);
    assert_eq!(test.workers(), ["puppet"]);
    let refused: Vec<_> = test.refused_plugins().iter().map(ToString::to_string).collect();
    assert_eq!(refused.len(), 14, "{refused:#?}");
    assert!(
        refused
            .iter()
            .any(|reason| reason.contains("twin.wasm") && reason.contains("is a copy of")),
        "{refused:#?}"
    );
    assert!(refused.iter().any(|reason| reason.contains("cannot read the plugin") && reason.contains("none.wasm")), "{refused:#?}");
    goes_on(&test);
    // The folder of a fresh install is not there yet: it is empty, then.
    let missing = Verger::in_memory().plugins(folder.path().join("none"));
    let empty = TestVerger::open(missing, &clock).unwrap();
    assert_eq!(empty.refused_plugins().len(), 0);
}

/// A whole worker, by hand: its memory, and the bodies of its exports. `describe` returns the text
/// it points to with `ret`.
fn worker(memory: &str, text: &str, describe: &str) -> Vec<u8> {
    let quoted = text.replace('"', "\\\"");
    let length = text.len();
    component(&format!(
        r#"
        (import "verger:worker/types@0.1.0" (instance $types
            (type $s (record (field "organization-id" (option string)) (field "actor-id" (option string)) (field "impersonating-from" (option string))))
            (export "scope" (type (eq $s)))
            (type $e (record (field "code" string) (field "message" string)))
            (export "error" (type $error (eq $e)))
            (type $o (variant (case "done") (case "done-with" string) (case "failed" $error) (case "discard" $error) (case "snooze" u32) (case "cancel" string)))
            (export "outcome" (type (eq $o)))))
        (alias export $types "scope" (type $scope))
        (alias export $types "outcome" (type $outcome))
        (core module $m
            (memory (export "memory") {memory})
            (data (i32.const 1024) "{quoted}")
            (func $ret (result i32) (i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const {length})) (i32.const 16))
            (func (export "describe") (result i32) {describe})
            (func (export "perform") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                (i32.store8 (i32.const 64) (i32.const 0)) (i32.const 64))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32768)))
        (core instance $i (instantiate $m))
        (func (export "describe") (result string) (canon lift (core func $i "describe") (memory $i "memory") (realloc (func $i "realloc"))))
        (func (export "perform") (param "scope" (option $scope)) (param "args" string) (result $outcome)
            (canon lift (core func $i "perform") (memory $i "memory") (realloc (func $i "realloc"))))"#
    ))
}

#[test]
fn a_component_that_cannot_describe_itself_is_refused() {
    let good = r#"{"name": "tiny", "version": "1"}"#;
    let clock = ManualClock::at(TestVerger::START);
    let open = |bytes: Vec<u8>| {
        TestVerger::open(
            Verger::in_memory().without_built_ins().component("tiny.wasm", bytes),
            &clock,
        )
    };
    let tiny = open(worker("1", good, "call $ret")).unwrap();
    tiny.enqueue(NewJob::new("tiny", json!({}))).unwrap();
    assert_eq!(tiny.drain().attempts[0].outcome, AttemptOutcome::Completed(None));

    let grow = "(drop (memory.grow (i32.const 4000))) unreachable";
    let ask = r#"{"name": "tiny", "version": "1", "tables": [{"table": "x; DROP TABLE y", "verbs": ["read"]}]}"#;
    for (bytes, phrases) in [
        (
            worker("1", good, "unreachable"),
            &["could not describe itself", "wasm trap: unreachable"][..],
        ),
        (
            worker("1", good, "(loop (br 0)) unreachable"),
            &["could not describe itself", "did not end within 2 s"],
        ),
        (worker("1", good, grow), &["could not describe itself"]),
        (worker("2000", good, "call $ret"), &["could not describe itself"]),
        (worker("1", good, "i32.const -8"), &["could not describe itself"]),
        (worker("1", "no json", "call $ret"), &["manifest", "line 1 column"]),
        (worker("1", "{}", "call $ret"), &["manifest", "name"]),
        (
            worker("1", r#"{"name": "Tiny!", "version": "1"}"#, "call $ret"),
            &["\"Tiny!\"", "lower-case letters"],
        ),
        (worker("1", r#"{"name": "tiny", "version": ""}"#, "call $ret"), &["version"]),
        (worker("1", ask, "call $ret"), &["not usable as a table name"]),
        (
            worker(
                "1",
                r#"{"name": "tiny", "version": "1", "tables": [{"table": "t", "verbs": ["drop"]}]}"#,
                "call $ret",
            ),
            &["manifest"],
        ),
    ] {
        let error = open(bytes).unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::Worker(PluginError::Describe { .. } | PluginError::Manifest { .. })
            ),
            "{error:?}"
        );
        says(&error, phrases);
        says(&error, &["tiny.wasm"]);
    }
}

#[test]
fn a_worker_that_misbehaves_is_stopped_with_the_reason_and_the_queue_goes_on() {
    let limits = Limits::new().time(Duration::from_millis(250)).memory_bytes(8 << 20);
    let test = Kind::Component.open_with(grant().limits(limits));
    let write = json!(["execute", "INSERT INTO things (name) VALUES ('half')", []]);
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n";
    let cases = [
        (json!(["trap"]), "trap", "the worker panicked or aborted (wasm trap: unreachable)"),
        (json!(["spin"]), "deadline", "the time granted, 250 ms, is over"),
        (json!(["until-refused", ["now"]]), "deadline", "the time granted, 250 ms, is over"),
        (json!(["until-refused", ["checkpoint"]]), "deadline", "the time granted, 250 ms, is over"),
        (json!(["query", endless, []]), "deadline", "the time granted, 250 ms, is over"),
        (json!(["recurse"]), "trap", "the worker used up its stack"),
        (
            json!(["recurse-in-memory"]),
            "trap",
            "the worker trapped (wasm trap: out of bounds memory access)",
        ),
        (json!(["eat"]), "memory", "more than the 8192 KiB of memory it is granted"),
        (json!(["done-with", "{no json"]), "invalid-result", "the result is no valid JSON"),
        (json!(["done-with", ""]), "invalid-result", "the result is no valid JSON"),
        (
            json!(["done-with", {"x": 1_100_000}]),
            "invalid-result",
            "more than the 1048576 a job keeps",
        ),
        (json!(["snooze", 0]), "invalid-result", "a snooze must be at least 1 second"),
        (json!(["next", 7, 1]), "trap", "wasm trap"),
        (json!(["failed", {"x": 10_000}]), "failed", "xxxx"),
    ];
    for (step, code, phrase) in cases {
        // What was kept by the checkpoints of one case is not half of another.
        let first = if step[1] == json!(["checkpoint"]) { json!(["now"]) } else { write.clone() };
        let id = test.enqueue(job(json!([first, step])).max_attempts(1)).unwrap().id;
        let before = test.one::<i64>("SELECT count(*) FROM things");
        test.drain();
        let failed = row(&test, id);
        let error = last_error(&failed);
        assert_eq!((failed.state, error.0), (JobState::Discarded, code), "{step}: {error:?}");
        says(&error.1, &[phrase]);
        assert!(error.1.len() <= 4_000);
        assert_eq!(test.one::<i64>("SELECT count(*) FROM things"), before, "{step}");
        assert_eq!(failed.result, None);
        goes_on(&test);
        assert_eq!(failure(&test, json!([write, step])).0, code, "called directly, {step}");
    }
    // Refused memory is not an error as long as the worker lives with it.
    let grown = common::answers(&test, json!([["grow"]]))[0]["ok"].as_u64().unwrap();
    assert!((1..8).contains(&grown), "{grown}");
}

#[test]
fn a_worker_that_swallows_its_deadline_still_fails() {
    let test = Kind::Component.open_with(grant().time_limit(Duration::from_millis(40)));
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n";
    let (code, _) = failure(
        &test,
        json!([
            ["execute", "INSERT INTO things (id) VALUES (1)", []],
            ["query", endless, []],
            ["done"]
        ]),
    );
    assert_eq!(code, "deadline");
    assert_eq!(test.one::<i64>("SELECT count(*) FROM things"), 0);
}

#[test]
fn a_table_arg_that_is_no_table_or_an_injection_changes_nothing() {
    let test = built_ins();
    test.sql("INSERT INTO organization_invitations (id, organization_id, email, created_at, expires_at) VALUES ('i', 'o', 'e', 0, 0)");
    let before = test.everything();
    for (table, phrases) in [
        (json!("no_such_table"), &["no such table: no_such_table"][..]),
        (
            json!("organization_invitations; DROP TABLE organizations"),
            &["`table`", "not usable as a table name"],
        ),
        (json!("x\" WHERE 1=1 --"), &["`table`", "not usable as a table name"]),
        (json!("(SELECT 1)"), &["not usable as a table name"]),
        (json!("main.organizations"), &["not usable as a table name"]),
        (json!("verger_audit"), &["`table`", "not the app's"]),
        (json!("sqlite_schema"), &["`table`", "not the app's"]),
        (json!(""), &["`table`", "it is empty"]),
        (json!(7), &["`table`", "must be a name in a string, not a number"]),
        (json!(null), &["`table`"]),
        (json!("organizations"), &["no such column"]),
    ] {
        for worker in
            ["cleanup-expired-invitations", "reconcile-memberships", "reconcile-webhook-events"]
        {
            let error = test.perform_job(worker, swept(json!({"table": table}))).unwrap_err();
            says(&error, phrases);
            says(&error, &[worker]);
            let id = test
                .enqueue(NewJob::new(worker, swept(json!({"table": table}))).max_attempts(1))
                .unwrap()
                .id;
            test.drain();
            assert_eq!(row(&test, id).state, JobState::Discarded);
        }
    }
    let mut after = test.everything();
    for table in ["verger_jobs", "verger_events", "verger_logs"] {
        after.insert(table.into(), vec![]);
    }
    assert_eq!(after, before);
    assert_eq!(test.cleanup_expired_invitations("organization_invitations", 30).unwrap(), 1);
}

#[test]
fn retention_days_out_of_bounds_delete_nothing() {
    let test = built_ins();
    test.sql("INSERT INTO organization_invitations (id, organization_id, email, created_at, expires_at) VALUES ('i', 'o', 'e', 0, 0)");
    let before = test.everything();
    for days in [
        json!(0),
        json!(-1),
        json!("x"),
        json!(1_000_000_000_000_i64),
        json!(1.5),
        json!(null),
        json!([30]),
        json!(1e300),
    ] {
        let error = test.perform_job(SWEEP, swept(json!({"retention_days": days}))).unwrap_err();
        says(&error, &[SWEEP, "`retention_days`", "whole number from 1 to 36500000"]);
    }
    says(
        &test.cleanup_expired_invitations("organization_invitations", 0).unwrap_err(),
        &["`retention_days`"],
    );
    assert_eq!(test.everything(), before);
}

#[track_caller]
fn refused(path: &Path) -> OpenError {
    let error = Verger::builder(path).without_built_ins().open().unwrap_err();
    says(&error, &["cannot open", path.to_str().unwrap()]);
    error
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("photo.jpg");
    let content = b"\xff\xd8\xff\xe0 no database at all".repeat(400);
    std::fs::write(&file, &content).unwrap();
    let error = refused(&file);
    let OpenError::Database { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), StoreErrorKind::Corrupt);
    says(&error, &["no SQLite database", "restore it from a backup"]);
    assert_eq!(std::fs::read(&file).unwrap(), content);
}

#[test]
fn a_newer_file_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let test = TestVerger::open(Verger::builder(&file), &ManualClock::at(TestVerger::START))
        .unwrap()
        .reference_tables();
    test.sql("INSERT INTO verger_migrations (set_name, version, name, applied_at) VALUES ('engine', 99, 'later', 0)");
    let before = test.everything();
    let error = refused(&file);
    assert!(
        matches!(
            error,
            OpenError::Migration { source: MigrationError::Newer { found: 99, known: 1, .. }, .. }
        ),
        "{error:?}"
    );
    says(
        &error,
        &["engine tables are at version 99", "up to 1", "open the file with a newer Verger"],
    );
    assert_eq!(test.everything(), before);
    test.sql("UPDATE verger_migrations SET set_name = 'reference' WHERE version = 99");
    let error = test.migrate_reference().unwrap_err();
    says(&error, &["reference tables are at version 99"]);
    Verger::builder(&file).without_built_ins().open().unwrap();
}

#[test]
fn a_folder_or_a_place_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_path_buf(), folder.path().join("none").join("app.db")] {
        let error = refused(&path);
        let OpenError::Database { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.kind(), StoreErrorKind::CannotOpen);
        says(&error, &["check that its folder exists and can be written"]);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(!folder.path().with_extension("-verger").exists());
}

#[cfg(unix)]
#[test]
fn a_file_that_can_only_be_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    drop(Verger::builder(&file).without_built_ins().open().unwrap());
    let set = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap()
    };
    set(&file, 0o444);
    // The superuser may write all the same: for it there is nothing to refuse.
    if std::fs::OpenOptions::new().append(true).open(&file).is_ok() {
        eprintln!("skipped: this user may write a file without write permission");
        return;
    }
    let error = refused(&file);
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
    says(&error, &["it can only be read", "check the permissions"]);
}

#[test]
fn a_file_whose_pages_may_not_grow_is_refused_when_it_is_full_and_goes_on_after() {
    let test = puppet();
    let pages: i64 = test.one("PRAGMA page_count");
    test.sql(&format!("PRAGMA max_page_count = {pages}"));
    let full = (0..1_000).find_map(|_| {
        test.connection().execute("INSERT INTO things (value) VALUES (zeroblob(2000))", []).err()
    });
    assert!(full.is_some(), "the test's own connection meets the limit");
    test.sql("PRAGMA max_page_count = 100000; DELETE FROM things");
    goes_on(&test);
}
