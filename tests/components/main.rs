//! The host API as a worker meets it: by a component and by plain Rust, with the same answers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "../common/mod.rs"]
mod common;
mod cursors;
mod grants;
mod savepoints;

use std::time::Duration;

use common::{BOTH, Kind, answers, failure, grant, job, last_error, puppet, row, run};
use serde_json::{Value as Json, json};
use verger::testing::{TestVerger, capture_logs};
use verger::verger_worker::Outcome;
use verger::{Grant, JobState, Limits, Schedule, assert_audited};

const NOW: i64 = TestVerger::START.as_millis();

fn limited(change: impl FnOnce(Limits) -> Limits) -> Grant {
    grant().limits(change(Limits::new()))
}

/// Steps and what they are answered; in an error's answer the message stands for all that contain
/// it.
#[track_caller]
fn check(steps: Json, expected: Json) {
    check_with(&grant(), steps, expected);
}

#[track_caller]
fn check_with(grant: &Grant, steps: Json, expected: Json) {
    let mut left = Vec::new();
    for kind in BOTH {
        let test = kind.open_with(grant.clone());
        let answers = answers(&test, steps.clone());
        assert!(
            like(&answers, &expected),
            "{kind:?}: {steps}\nanswered {answers}\nnot      {expected}"
        );
        left.push((answers, test.everything()));
    }
    assert_eq!(left[0], left[1], "a component and plain Rust leave the same behind");
}

fn like(answer: &Json, expected: &Json) -> bool {
    match (answer, expected) {
        (Json::Array(answer), Json::Array(expected)) => {
            answer.len() == expected.len() && answer.iter().zip(expected).all(|(a, e)| like(a, e))
        }
        (Json::Object(answer), Json::Object(expected)) if answer.contains_key("message") => {
            let says = |json: &serde_json::Map<String, Json>| {
                json["message"].as_str().unwrap_or_default().to_string()
            };
            answer["err"] == *expected.get("err").unwrap_or(&Json::Null)
                && (!expected.contains_key("message") || says(answer).contains(&says(expected)))
        }
        (Json::Object(answer), Json::Object(expected)) => {
            answer.len() == expected.len()
                && answer.iter().all(|(key, a)| expected.get(key).is_some_and(|e| like(a, e)))
        }
        _ => answer == expected,
    }
}

#[test]
fn values_of_all_five_classes_come_back_as_they_went() {
    let values = json!([null, 0, i64::MIN, i64::MAX, 1.5, -0.25, 1e300, "", "ä\u{0}b🙂", {"blob": []}, {"blob": [0, 255, 7]}]);
    for value in values.as_array().unwrap() {
        check(
            json!([
                ["execute", "INSERT INTO things (id, value) VALUES (1, ?1)", [value]],
                ["query", "SELECT value FROM things", []]
            ]),
            json!([{"ok": 1}, {"ok": [[value]]}]),
        );
    }
    let test = puppet();
    answers(
        &test,
        json!([["execute", "INSERT INTO things (value) VALUES (?1), (?2), (?3), (?4), (?5)", [null, 1, 1.0, "1", {"blob": [1]}]]]),
    );
    let classes: String = test.one("SELECT group_concat(typeof(value)) FROM things");
    assert_eq!(classes, "null,integer,real,text,blob");
}

#[test]
fn one_bad_row_of_many_does_not_lose_the_others() {
    check(
        json!([
            [
                "execute-many",
                "INSERT INTO things (id, name) VALUES (?1, ?2)",
                [[1, "a"], [2, "bad"], [1, "twice"], [3], [4, "d"]]
            ],
            ["query", "SELECT id FROM things", []],
            ["execute-many", "INSERT INTO nowhere VALUES (?1)", [[1]]],
            ["execute-many", "INSERT INTO things (id) VALUES (?1)", []],
        ]),
        json!([
            {"ok": [{"ok": 1}, {"err": "constraint", "message": "CHECK"}, {"err": "constraint", "message": "things.id"},
                {"err": "sql", "message": "takes 2 parameters, 1 were given"}, {"ok": 1}]},
            {"ok": [[1], [4]]},
            {"err": "sql", "message": "no such table: nowhere"},
            {"ok": []},
        ]),
    );
}

#[test]
fn a_failed_attempt_leaves_nothing_but_its_record() {
    let ends = [json!(["failed", "on purpose"]), json!(["trap"]), json!(["snooze", 0])];
    for (kind, end) in BOTH.iter().flat_map(|kind| ends.iter().map(move |end| (kind, end))) {
        let test = kind.open();
        let events = test.subscribe();
        let id = test
            .enqueue(job(json!([
                ["execute", "INSERT INTO things (id) VALUES (1)", []],
                ["audit", [{"action": "thing.made"}]],
                ["audit-safe", [{"action": "thing.made"}]],
                ["publish", "made", "{}"],
                end,
            ])))
            .unwrap()
            .id;
        let before = test.everything();
        test.drain();
        let mut after = test.everything();
        // Of the attempt itself, what it logged, and that it failed, stays.
        for table in ["verger_jobs", "verger_events", "verger_logs"] {
            after.insert(table.into(), before[table].clone());
        }
        assert_eq!(after, before, "{kind:?} {end}");
        assert_eq!(events.try_next(), None);
        let failed = row(&test, id);
        assert_eq!(
            (failed.state, failed.attempt, failed.errors.len()),
            (JobState::Retryable, 1, 1),
            "{kind:?} {end}"
        );
        assert_eq!((failed.errors[0].attempt, failed.errors[0].at), (1, TestVerger::START));
    }
}

#[test]
fn a_panic_of_a_native_worker_is_a_failed_attempt() {
    let test = Kind::Native.open();
    let failed = run(&test, job(json!([["trap"]])));
    assert_eq!(
        last_error(&failed),
        ("panic", "the worker panicked: the native puppet panics, as the test wants")
    );
    common::goes_on(&test);
    assert_eq!(failure(&test, json!([["trap"]])).0, "panic");
}

#[test]
fn messages_reach_the_app_in_order_and_only_after_the_commit() {
    for kind in BOTH {
        let test = kind.open();
        let events = test.subscribe();
        answers(&test, json!([["publish", "a", "{\"n\": 1}"], ["publish", "b", "[2]"]]));
        let told: Vec<_> = std::iter::from_fn(|| events.try_next())
            .map(|event| (event.topic, event.payload, event.job))
            .collect();
        assert_eq!(told, [("a".into(), json!({"n": 1}), None), ("b".into(), json!([2]), None)]);
    }
    check_with(
        &limited(|limits| limits.events(2)),
        json!([
            ["publish", "", "1"],
            ["publish", {"x": 129}, "1"],
            ["publish", "t", "no json"],
            ["publish", "t", format!("\"{}\"", "x".repeat(300_000))],
            ["repeat", 3, ["publish", "t", "1"]],
            ["checkpoint"],
            ["publish", "t", "1"],
        ]),
        json!([
            {"err": "invalid", "message": "1 to 128 bytes"}, {"err": "invalid", "message": "1 to 128 bytes"},
            {"err": "invalid", "message": "the payload is no JSON"}, {"err": "limit", "message": "256 KiB"},
            {"err": "limit", "message": "more than 2 messages since the last checkpoint"}, {"ok": null}, {"ok": null},
        ]),
    );
}

#[test]
fn the_clock_of_a_worker_is_the_one_verger_was_given() {
    for kind in BOTH {
        let test = kind.open();
        assert_eq!(answers(&test, json!([["now"]])), json!([{"ok": NOW}]));
        test.clock().advance(Duration::from_millis(86_400_001));
        assert_eq!(answers(&test, json!([["now"]])), json!([{"ok": NOW + 86_400_001}]));
        let later = test.enqueue(job(json!([["now"]]))).unwrap().id;
        test.tick(TestVerger::START + Duration::from_secs(86_400 * 9)).unwrap();
        assert_eq!(
            row(&test, later).result,
            Some(json!([{"ok": NOW + 9 * 86_400_000}])),
            "a tick for an instant is that instant"
        );
    }
}

#[test]
fn a_worker_knows_its_job() {
    for kind in BOTH {
        let slots = Schedule::every("often", Duration::from_secs(60))
            .unwrap()
            .worker("puppet")
            .args(json!({"do": [["job"], ["scope"]]}));
        let test = TestVerger::with(|builder| {
            kind.add(builder, grant().time_limit(Duration::from_secs(30)))
                .schedule(slots.max_attempts(7))
        });
        test.clock().advance(Duration::from_secs(150));
        test.drain();
        let made = verger::assert_enqueued!(test, schedule: "often", state: JobState::Completed);
        let slot = json!({"schedule": "often", "at": NOW + 120_000, "missed": 1, "after": null, "zone": "UTC"});
        let told = json!({"id": made.id, "attempt": 1, "max_attempts": 7, "deadline": NOW + 180_000, "scheduled": slot});
        assert_eq!(made.result, Some(json!([{"ok": told}, {"ok": null}])), "{kind:?}");
        let direct = json!({"id": null, "attempt": 1, "max_attempts": 1, "deadline": NOW + 180_000, "scheduled": null});
        assert_eq!(answers(&test, json!([["job"]])), json!([{"ok": direct}]));
    }
}

#[test]
fn lines_of_a_worker_land_in_the_log_with_worker_and_job() {
    for kind in BOTH {
        let test = kind.open_with(limited(|limits| limits.log_lines(6)));
        let steps = json!([
            ["log", "trace", "t"], ["log", "debug", "d"], ["log", "info", "i"], ["log", "warn", "w"], ["log", "error", "e"],
            ["log", "info", {"x": 9_000}], ["log", "info", "too many"], ["log", "info", "too many"],
        ]);
        let (done, lines) = capture_logs(|| run(&test, job(steps)));
        let lines: Vec<_> =
            lines.into_iter().filter(|line| line.target == "verger::worker").collect();
        let told: Vec<_> =
            lines.iter().map(|line| format!("{} {}", line.level, &line.message[..1])).collect();
        assert_eq!(
            told,
            ["TRACE t", "DEBUG d", "INFO i", "WARN w", "ERROR e", "INFO x", "WARN m"],
            "{kind:?}"
        );
        assert_eq!(lines[5].message.len(), 8 << 10);
        assert_eq!(lines[6].message, "more than 6 lines or 1048576 bytes: the rest is dropped");
        for line in &lines {
            assert_eq!(
                (line.fields["worker"].as_str(), line.fields["job"].as_str()),
                ("puppet", done.id.to_string().as_str())
            );
        }
    }
}

#[test]
fn audit_rows_carry_the_job_and_the_worker_by_the_hosts_word() {
    for kind in BOTH {
        let test = kind.open();
        let event = json!({
            "action": "thing.updated", "outcome": "failure", "organization_id": "o1", "subject_type": "thing", "subject_id": "7",
            "before": "{\"a\":1}", "after": "[2]", "metadata": "{\"why\":\"x\",\"worker\":\"forged\",\"job\":9}",
        });
        test.enqueue(job(json!([["failed", "first"]]))).unwrap();
        test.drain();
        let done = run(&test, job(json!([["must", ["audit", [event]]]])));
        let row = assert_audited!(
            test, action: "thing.updated", outcome: "failure", organization: "o1", actor: None, effective_user: None,
            worker: "puppet", job: done.id, subject: ("thing", "7"), before: json!({"a": 1}), after: json!([2]), metadata: json!({"why": "x"}),
        );
        assert_eq!(
            (row.id, row.attempt, row.worker_version.as_deref(), row.occurred_at),
            (1, Some(1), Some("0.1.0"), TestVerger::START),
            "{kind:?}"
        );
        answers(&test, json!([["audit", [{"action": "thing.direct"}]]]));
        let direct = assert_audited!(test, action: "thing.direct");
        assert_eq!((direct.job, direct.attempt), (None, None));
    }
}

#[test]
fn called_directly_a_worker_keeps_the_same_rules() {
    for kind in BOTH {
        let test = kind.open();
        let perform = |steps: Json| test.perform_job("puppet", json!({ "do": steps }));
        let insert = |id: i64| json!(["execute", "INSERT INTO things (id) VALUES (?1)", [id]]);
        for (id, end, outcome) in [
            (1, json!(["done"]), Outcome::Done),
            (2, json!(["done-with", "{\"a\":1}"]), Outcome::DoneWith(json!({"a": 1}))),
            (3, json!(["snooze", 9]), Outcome::Snooze(9)),
            (4, json!(["cancel", "why"]), Outcome::Cancel("why".into())),
        ] {
            let performed = perform(json!([insert(id), end])).unwrap();
            assert_eq!((performed.outcome, performed.rows_changed), (outcome, 1), "{kind:?}");
        }
        let failed = perform(json!([insert(5), ["checkpoint"], insert(6), ["failed", "because"]]))
            .unwrap_err();
        assert_eq!(failed.to_string(), "worker `puppet` failed: because [failed]");
        assert_eq!(test.one::<String>("SELECT group_concat(id) FROM things"), "1,2,3,4,5");
        assert_eq!(test.one::<i64>("SELECT count(*) FROM verger_jobs"), 0);
        assert_eq!(test.perform_job("puppet", json!({})).unwrap().outcome, Outcome::Done);
    }
}

#[test]
fn a_write_through_a_view_counts_the_rows_its_triggers_changed() {
    for kind in BOTH {
        let test = TestVerger::with(|builder| kind.add(builder, grant()));
        test.sql(
            "CREATE TABLE hidden (id INTEGER PRIMARY KEY, name TEXT);
             CREATE VIEW things AS SELECT id, name FROM hidden;
             CREATE TRIGGER things_insert INSTEAD OF INSERT ON things BEGIN INSERT INTO hidden (id, name) VALUES (NEW.id, NEW.name); END;",
        );
        let answers = answers(
            &test,
            json!([
                ["execute", "INSERT INTO things VALUES (1, 'a'), (2, 'b')", []],
                ["query", "SELECT name FROM things", []]
            ]),
        );
        assert_eq!(answers, json!([{"ok": 2}, {"ok": [["a"], ["b"]]}]), "{kind:?}");
        assert_eq!(
            common::failure_or_answers(&test, json!([["query", "SELECT * FROM hidden", []]]))[0]["err"],
            "denied"
        );
    }
}

#[test]
fn a_trigger_that_rolls_back_ends_the_attempt() {
    for kind in BOTH {
        let test = kind.open();
        test.sql("CREATE TRIGGER no_nine BEFORE INSERT ON things WHEN NEW.id = 9 BEGIN SELECT RAISE(ROLLBACK, 'no nine'); END;");
        let failed = run(
            &test,
            job(json!([
                ["execute", "INSERT INTO things (id) VALUES (1)", []],
                ["execute", "INSERT INTO things (id) VALUES (9)", []],
                ["execute", "INSERT INTO things (id) VALUES (2)", []],
                ["done"],
            ])),
        );
        assert_eq!(failed.state, JobState::Retryable, "{kind:?}");
        assert!(last_error(&failed).1.contains("no nine"), "{kind:?} {failed:?}");
        assert_eq!(test.one::<i64>("SELECT count(*) FROM things"), 0);
        common::goes_on(&test);
    }
}
