//! What workers may use besides the database: jobs for later, state, whole results. And how they
//! fail. A component and plain Rust get the same answers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "../common/mod.rs"]
mod common;
mod jobs;
mod state;

use std::time::Duration;

use common::{BOTH, TABLES, answers, failure, grant, job, last_error, row, run};
use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;
use verger::verger_worker::{Enqueued, code};
use verger::{Grant, JobState, Limits, NewJob, Schedule};

const NOW: i64 = TestVerger::START.as_millis();

fn limited(change: impl FnOnce(Limits) -> Limits) -> Grant {
    grant().limits(change(Limits::new()))
}

/// Code and message of the first answer.
#[track_caller]
fn refusal(test: &TestVerger, args: Json) -> (String, String) {
    let performed = test.perform_job("puppet", args).unwrap();
    let answer = performed.result().unwrap()[0].clone();
    let part = |name: &str| answer[name].as_str().unwrap_or_default().to_string();
    (part("err"), part("message"))
}

fn jobs(test: &TestVerger, columns: &str) -> Vec<Json> {
    test.rows(&format!("SELECT {columns} FROM verger_jobs ORDER BY id"))
}

#[test]
fn a_dry_run_enqueues_and_keeps_nothing_and_says_what_it_would_have() {
    for kind in BOTH {
        let test = kind.open();
        let steps = json!([
            ["enqueue", [["puppet", {"do": []}]]], ["checkpoint"], ["enqueue", [["puppet", {"do": []}]]],
            ["set-state", "seen", 1], ["set-state", "seen", 2], ["state", "seen"],
        ]);
        let before = test.everything();
        let dry = test.dry_run("puppet", json!({ "do": steps })).unwrap();
        assert_eq!(test.everything(), before, "{kind:?}");
        assert_eq!(dry.result().unwrap()[5], json!({"ok": 2}));
        let changes: Vec<_> = dry
            .changes
            .iter()
            .map(|change| (change.table.as_str(), change.inserted, change.updated))
            .collect();
        assert_eq!(changes, [("verger_jobs", 2, 0), ("verger_state", 1, 1)]);
    }
}

#[test]
fn a_whole_result_comes_in_one_call_as_far_as_one_chunk_goes() {
    let many = "SELECT value FROM json_each('[1,2,3,4,5,6,7,8,9,10]')";
    for kind in BOTH {
        let test = kind.open();
        answers(
            &test,
            json!([["execute", "INSERT INTO things (id, name) VALUES (1, 'a'), (2, NULL)", []]]),
        );
        let found = answers(
            &test,
            json!([
                ["query-all", "SELECT id, name AS n FROM things WHERE id < ?1 ORDER BY id", [9]],
                ["query-all", "UPDATE things SET name = 'z' WHERE id = 1 RETURNING name", []],
                ["query-all", "SELECT id FROM things WHERE 0", []],
                ["query-all", "DELETE FROM things WHERE 0", []],
            ]),
        );
        assert_eq!(
            found[0],
            json!({"ok": {"columns": ["id", "n"], "rows": [[1, "a"], [2, null]]}}),
            "{kind:?}"
        );
        assert_eq!(found[1], json!({"ok": {"columns": ["name"], "rows": [["z"]]}}));
        assert_eq!(found[2]["ok"]["rows"], json!([]));
        assert_eq!(found[3]["err"], "invalid");
        let test = kind.open_with(limited(|limits| limits.chunk_bytes(500)));
        let (code, message) = refusal(&test, json!({"do": [["query-all", many, []]]}));
        assert_eq!(code, "limit", "{kind:?}: {message}");
        assert!(message.contains("use query"), "{message}");
        let insert = format!("INSERT INTO things (value) {many} RETURNING id");
        let steps =
            json!([["query-all", insert, []], ["query-all", "SELECT count(*) FROM things", []]]);
        let found = answers(&test, steps);
        assert_eq!(
            (&found[0]["err"], &found[1]["ok"]["rows"]),
            (&json!("limit"), &json!([[0]])),
            "undone"
        );
    }
}

#[test]
fn a_misspelled_column_concerns_the_statement_and_a_bad_value_its_row() {
    for kind in BOTH {
        let test = kind.open();
        for (step, code) in [
            (json!(["execute", "UPDATE things SET nmae = 1", []]), "sql"),
            (json!(["execute-many", "INSERT INTO things (nmae) VALUES (?1)", [[1], [2]]]), "sql"),
            (json!(["query", "SELECT 1 FROM things WHERE nmae = 1", []]), "sql"),
            (json!(["execute", "INSERT INTO things (id) VALUES (?1)", []]), "sql"),
            (json!(["execute", "INSERT INTO things (value) VALUES (abs(?1))", [i64::MIN]]), "row"),
            (json!(["query", "SELECT json_extract(?1, '$.a')", ["{"]]), "row"),
            (json!(["execute", "INSERT INTO things (id) VALUES (?1)", ["one"]]), "type"),
            (json!(["execute", "INSERT INTO things (name) VALUES ('bad')", []]), "constraint"),
        ] {
            let (found, message) = refusal(&test, json!({ "do": [step] }));
            assert_eq!(found, code, "{kind:?}: {step}: {message}");
        }
        let sets = json!([[
            "execute-many",
            "INSERT INTO things (id, value) VALUES (?1, abs(?2))",
            [[1, 1], [2, i64::MIN], ["x", 1], [3, 1]]
        ]]);
        let found = answers(&test, sets);
        let codes: Vec<&Json> =
            found[0]["ok"].as_array().unwrap().iter().map(|set| &set["err"]).collect();
        assert_eq!(json!(codes), json!([null, "row", "type", null]), "{kind:?}: {found}");
    }
}

#[test]
fn a_failure_keeps_its_code_and_discarded_is_not_tried_again() {
    for kind in BOTH {
        let test = kind.open();
        let insert = json!(["execute", "INSERT INTO things (id) VALUES (1)", []]);
        for (end, code, state) in [
            (json!(["failed", "no"]), "failed", JobState::Retryable),
            (json!(["failed", "no", "feed-empty"]), "feed-empty", JobState::Retryable),
            (json!(["failed", "no", "Not A Word"]), "failed", JobState::Retryable),
            (json!(["failed", "no", ""]), "failed", JobState::Retryable),
            // The host alone knows of a lost lease: nobody would record the end of the attempt.
            (json!(["failed", "no", "lease-lost"]), "failed", JobState::Retryable),
            (
                json!(["must", ["query", "SELECT * FROM withheld", []]]),
                "denied",
                JobState::Retryable,
            ),
            (json!(["must", ["query", "SELEC", []]]), "sql", JobState::Retryable),
            (json!(["discard", "no"]), "failed", JobState::Discarded),
            (json!(["discard", "no", "gone"]), "gone", JobState::Discarded),
            (json!(["discard", "no", "lease-lost"]), "failed", JobState::Discarded),
        ] {
            let ended = run(&test, job(json!([insert, end])));
            assert_eq!((ended.state, ended.attempt), (state, 1), "{kind:?}: {end}");
            assert_eq!(last_error(&ended).0, code, "{kind:?}: {end}");
            assert_eq!(test.one::<i64>("SELECT count(*) FROM things"), 0, "{kind:?}: {end}");
        }
        assert_eq!(
            failure(&test, json!([["discard", "no", "gone"]])),
            ("gone".into(), "no".into())
        );
        common::goes_on(&test);
    }
}

struct Picky;

impl Worker for Picky {
    fn manifest(&self) -> Manifest {
        Manifest::new("picky", "1").tenant_aware().arg("days", ArgSpec::required())
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let days: i64 = args.get("days")?;
        let table = args.opt_ident("table")?;
        fetch_arg(args, "wanted")?;
        Ok(Outcome::DoneWith(json!([days, table.map(|table| table.to_string())])))
    }
}

#[test]
fn args_that_cannot_be_right_discard_the_job_at_once_with_the_keys_name() {
    let test = TestVerger::with(|builder| builder.without_built_ins().worker(Picky));
    let by_hand = |args: Json| {
        test.connection()
            .execute(
                "INSERT INTO verger_jobs (worker, args) VALUES ('picky', ?1)",
                [args.to_string()],
            )
            .unwrap();
        test.drain();
        row(&test, verger::JobId::from_number(test.connection().last_insert_rowid()))
    };
    for (args, names) in [
        (json!({"organization_id": null}), "`actor_id`, `days`"),
        (json!({"organization_id": [], "actor_id": null, "days": 1}), "`organization_id`"),
        (json!({"organization_id": null, "actor_id": null, "days": "ten"}), "`days`"),
        (json!({"organization_id": null, "actor_id": null, "days": 1, "table": "x y"}), "`table`"),
        (json!({"organization_id": null, "actor_id": null, "days": 1}), "`wanted`"),
    ] {
        let ended = by_hand(args.clone());
        assert_eq!(
            (ended.state, ended.attempt, ended.errors.len()),
            (JobState::Discarded, 1, 1),
            "{args}"
        );
        let (code, message) = last_error(&ended);
        assert_eq!(code, "args", "{args}: {message}");
        assert!(names.split(", ").all(|name| message.contains(name)), "{args}: {message}");
    }
    let good =
        by_hand(json!({"organization_id": null, "actor_id": null, "days": 1, "wanted": null}));
    assert_eq!(good.state, JobState::Completed, "{good:?}");
}

#[test]
fn a_trap_says_what_was_refused_and_logged_before() {
    let test = common::puppet();
    let (code, message) = failure(
        &test,
        json!([
            ["query", "SELECT * FROM withheld", []],
            ["query", "SELECT nmae FROM things", []],
            ["log", "error", "the first"],
            ["log", "error", "index out of bounds: line 7"],
            ["log", "info", "bye"],
            ["trap"],
        ]),
    );
    assert_eq!(code, "trap");
    for part in
        ["wasm trap: unreachable", "no such column: nmae", "[sql]", "index out of bounds: line 7"]
    {
        assert!(message.contains(part), "{message}");
    }
    assert!(
        !message.contains("withheld") && !message.contains("the first"),
        "the last of each: {message}"
    );
}

#[test]
fn a_job_of_a_schedule_knows_the_time_it_stands_for_and_the_zone() {
    for kind in BOTH {
        let nightly = Schedule::cron("nightly", "0 3 * * *").unwrap();
        let nightly = nightly
            .time_zone("Europe/Berlin")
            .unwrap()
            .worker("puppet")
            .args(json!({"do": [["job"]]}));
        let test = TestVerger::with(|builder| kind.add(builder, grant()).schedule(nightly));
        let day = 86_400_000;
        let first = NOW + 2 * 3_600_000;
        let slot = |at: i64| {
            let job =
                test.rows("SELECT result FROM verger_jobs ORDER BY id DESC LIMIT 1").pop().unwrap();
            let result: Json = serde_json::from_str(job["result"].as_str().unwrap()).unwrap();
            let scheduled = result[0]["ok"]["scheduled"].clone();
            assert_eq!(
                (&scheduled["at"], &scheduled["zone"]),
                (&json!(at), &json!("Europe/Berlin")),
                "{kind:?}"
            );
            (scheduled["missed"].clone(), scheduled["after"].clone())
        };
        test.run_until(verger::Timestamp::from_millis(first));
        assert_eq!(slot(first), (json!(0), Json::Null), "the first");
        test.run_until(verger::Timestamp::from_millis(first + day));
        assert_eq!(slot(first + day), (json!(0), json!(first)));
        // Asleep for three nights.
        test.clock().advance(Duration::from_secs(3 * 86_400));
        test.drain();
        assert_eq!(slot(first + 4 * day), (json!(2), json!(first + day)));
        // Out of its turn: since the last slot.
        test.clock().advance(Duration::from_secs(60));
        test.run_schedule_now("nightly").unwrap();
        test.drain();
        assert_eq!(slot(first + 4 * day + 60_000), (json!(0), json!(first + 4 * day)));
        let row = test.rows("SELECT zone, slot_after FROM verger_jobs ORDER BY id DESC LIMIT 1");
        assert_eq!(row, [json!({"zone": "Europe/Berlin", "slot_after": first + 4 * day})]);
    }
}

/// Where a test makes the host give this code.
fn is_tried(code: &str) -> bool {
    let quoted = format!("\"{code}\"");
    let named = format!("code::{}", code.to_uppercase().replace('-', "_"));
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(path).unwrap();
                if text.contains(&quoted) || text.contains(&named) {
                    return true;
                }
            }
        }
    }
    false
}

#[test]
fn every_code_is_in_the_interface_in_its_kind_and_tried() {
    let wit = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/wit/0.1.0/worker.wit"))
        .unwrap();
    let listed: Vec<&str> = wit
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix("/// - `")?.split_once("`: ").map(|(code, _)| code)
        })
        .take_while(|code| *code != "name")
        .collect();
    let known: Vec<&str> = code::ALL.iter().map(|(code, _)| *code).collect();
    assert_eq!(listed, known, "the WIT and the SDK list the same codes, in the same order");
    for code in known {
        assert!(is_tried(code), "no test in tests/ expects the code {code}");
    }
}

#[test]
fn an_apps_own_worker_uses_the_same_words() {
    struct FansOut;
    impl Worker for FansOut {
        fn manifest(&self) -> Manifest {
            Manifest::new("fans-out", "1")
        }

        fn perform(
            &self,
            job: &Context<'_>,
            _: Option<&Scope>,
            _: &Args,
        ) -> Result<Outcome, WorkerError> {
            use verger::verger_worker::NewJob;
            let later =
                || NewJob::new("fans-out", json!({})).queue("later").after(Duration::from_secs(9));
            let first = job.enqueue(later().unique())?;
            let same = job.enqueue(later().unique())?;
            let more = job.enqueue_all(&[later().priority(1).max_attempts(2), later().at(0)])?;
            assert_eq!(same, Enqueued { existing: true, ..first });
            job.set_state("first", i64::try_from(first.id)?)?;
            Ok(Outcome::DoneWith(json!(more.len())))
        }
    }
    let test = TestVerger::with(|builder| builder.without_built_ins().worker(FansOut));
    test.sql(TABLES);
    let done = test.perform_job("fans-out", json!({})).unwrap();
    assert_eq!(done.result(), Some(&json!(2)));
    assert_eq!(
        jobs(&test, "queue, priority, max_attempts, due_at"),
        [
            json!({"queue": "later", "priority": 5, "max_attempts": 20, "due_at": NOW + 9_000}),
            json!({"queue": "later", "priority": 1, "max_attempts": 2, "due_at": NOW + 9_000}),
            json!({"queue": "later", "priority": 5, "max_attempts": 20, "due_at": 0}),
        ]
    );
    let _: NewJob = NewJob::new("fans-out", json!({}));
}
