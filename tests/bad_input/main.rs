//! Bad input gives a typed error that says what, where and what to do. Nothing is half-written, and
//! the queue goes on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "../common/mod.rs"]
mod common;
mod components;
mod files;

use std::time::Duration;

use common::{Kind, goes_on, grant, job, last_error, puppet, row};
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::ManifestError;
use verger::{
    EnqueueError, ExpressionError, JobState, NewJob, OpenError, Schedule, ScheduleError, Verger,
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
