//! What workers may ask beside the database: jobs for later, state, whole results; and how they fail:
//! by a component and by plain Rust, with the same answers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::sync::Mutex;
use std::time::Duration;

use common::{BOTH, Kind, TABLES, answers, failure, grant, job, last_error, row, run};
use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;
use verger::verger_worker::{Enqueued, code};
use verger::{Grant, JobState, Limits, NewJob, Schedule, Verger};

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
fn a_job_that_a_worker_enqueues_is_there_when_its_transaction_commits() {
    for kind in BOTH {
        let test = kind.open();
        let two = json!(["enqueue", [["puppet", {"do": []}], ["puppet", {"do": [["done"]]}]]]);
        let done = run(&test, job(json!([two])));
        assert_eq!(done.result, Some(json!([{"ok": [[2, false], [3, false]]}])), "{kind:?}");
        assert_eq!(row(&test, verger::JobId::from_number(3)).state, JobState::Completed, "drained");
        let none = |steps: Json| {
            let before = jobs(&test, "id").len();
            let ended = test.perform_job("puppet", json!({ "do": steps }));
            assert_eq!(jobs(&test, "id").len(), before, "{kind:?}: {steps} ended {ended:?}");
        };
        none(json!([two, ["failed", "no"]]));
        none(json!([two, ["discard", "no"]]));
        none(json!([two, ["trap"]]));
        none(json!([["must", ["savepoint"]], two, ["rollback", 0]]));
        // All or none: the second is refused.
        none(
            json!([["enqueue", [["puppet", {"do": []}], ["puppet", {"do": []}, {"priority": 10}]]]]),
        );
        let kept = json!([two, ["checkpoint"], ["failed", "after it"]]);
        failure(&test, kept);
        assert_eq!(jobs(&test, "id").len(), 5);
    }
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
fn the_options_of_a_job_are_those_of_the_apps_own_and_a_bad_one_is_named() {
    let columns = "queue, priority, max_attempts, due_at, state";
    for kind in BOTH {
        let test = kind.open();
        let enqueue = |options: Json| {
            let args = json!({"do": [["enqueue", [["puppet", {"do": []}, options]]]]});
            refusal(&test, args)
        };
        for (options, expected) in [
            (json!(""), json!(["default", 5, 20, NOW, "available"])),
            (
                json!({"queue": "mail", "priority": 0, "max_attempts": 1}),
                json!(["mail", 0, 1, NOW, "available"]),
            ),
            (json!({"at": NOW + 5}), json!(["default", 5, 20, NOW + 5, "scheduled"])),
            (json!({"at": 0}), json!(["default", 5, 20, 0, "available"])),
            (json!({"after_ms": 70_000}), json!(["default", 5, 20, NOW + 70_000, "scheduled"])),
            (json!({"unique": ["do"], "queue": null}), json!(["default", 5, 20, NOW, "available"])),
        ] {
            if options == json!("") && kind == Kind::Native {
                continue;
            }
            assert_eq!(enqueue(options.clone()), (String::new(), String::new()), "{options}");
            let row = jobs(&test, columns).pop().unwrap();
            let found: Vec<&Json> =
                ["queue", "priority", "max_attempts", "due_at", "state"].map(|c| &row[c]).into();
            assert_eq!(json!(found), expected, "{kind:?}: {options}");
        }
        let before = jobs(&test, "id").len();
        for (options, names) in [
            (json!({"prio": 1}), "no option `prio`"),
            (json!({"priority": 10}), "from 0, first, to 9"),
            (json!({"priority": -1}), "`priority` must be"),
            (json!({"priority": "high"}), "`priority` must be"),
            (json!({"max_attempts": 0}), "at least 1"),
            (json!({"queue": 7}), "`queue` must be a name"),
            (json!({"queue": ""}), "1 to 128 bytes"),
            (json!({"at": "tomorrow"}), "`at` must be"),
            (json!({"at": i64::MAX}), "9999"),
            (json!({"after_ms": -1}), "`after_ms` must be"),
            (json!({"at": 1, "after_ms": 1}), "exclude each other"),
            (json!({"unique": "do"}), "`unique` must be"),
            (json!({"unique": []}), "`unique` must be"),
            (json!({"unique": ["absent"]}), "`absent`"),
            (json!({"unique_for_ms": "long"}), "`unique_for_ms` must be"),
            (json!([1]), "no JSON object"),
            (json!("{"), "no JSON"),
        ] {
            let (code, message) = enqueue(options.clone());
            assert_eq!(code, "invalid", "{kind:?}: {options}: {message}");
            assert!(message.contains(names), "{kind:?}: {options}: {message}");
        }
        assert_eq!(jobs(&test, "id").len(), before);
    }
}

#[test]
fn a_unique_job_is_enqueued_once_and_its_id_comes_back() {
    for kind in BOTH {
        let test = kind.open();
        let unique = json!(["enqueue", [["puppet", {"do": [], "n": 1}, {"unique": true, "after_ms": 1000}]]]);
        assert_eq!(
            answers(&test, json!([unique, unique])),
            json!([{"ok": [[1, false]]}, {"ok": [[1, true]]}]),
            "{kind:?}"
        );
        test.clock().advance(Duration::from_secs(2));
        test.drain();
        let period = json!(["enqueue", [["puppet", {"do": [], "n": 2}, {"unique": ["n"], "unique_for_ms": 60_000}]]]);
        assert_eq!(answers(&test, json!([period])), json!([{"ok": [[2, false]]}]));
        test.drain();
        assert_eq!(answers(&test, json!([period])), json!([{"ok": [[2, true]]}]));
    }
}

struct Other;

impl Worker for Other {
    fn manifest(&self) -> Manifest {
        Manifest::new("other-worker", "1").tenant_aware().arg("month", ArgSpec::required())
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(Outcome::Done)
    }
}

#[test]
fn a_worker_enqueues_for_itself_and_for_those_its_grant_names() {
    for kind in BOTH {
        let test = TestVerger::with(|builder| {
            kind.add(builder.worker(Other), grant().enqueue("other-worker").enqueue("noop"))
        });
        let enqueue = |worker: &str, args: Json| {
            refusal(&test, json!({"do": [["enqueue", [[worker, args]]]]}))
        };
        for (worker, args, code, names) in [
            ("puppet", json!({}), "", ""),
            ("withheld-worker", json!({}), "denied", "jobs for worker `withheld-worker`"),
            ("verger", json!({}), "denied", "`verger`"),
            ("", json!({}), "denied", "``"),
            ("noop", json!({}), "invalid", "no worker is named `noop`"),
            ("other-worker", json!({}), "invalid", "`organization_id`, `actor_id`, `month`"),
            ("other-worker", json!([]), "invalid", "no JSON object"),
            ("other-worker", json!({"organization_id": {}}), "invalid", "organization_id"),
            ("other-worker", json!({"organization_id": "acme", "month": 1}), "", ""),
        ] {
            let (found, message) = enqueue(worker, args);
            assert_eq!(found, code, "{kind:?}, {worker}: {message}");
            let named = names.split(", ").all(|name| message.contains(name.trim_matches('`')));
            assert!(named, "{kind:?}, {worker}: {message}");
        }
        let last = jobs(&test, "worker, args").pop().unwrap();
        assert_eq!(last["worker"], "other-worker");
        let args: Json = serde_json::from_str(last["args"].as_str().unwrap()).unwrap();
        assert_eq!(args, json!({"organization_id": "acme", "actor_id": null, "month": 1}));
    }
    // What the manifest asks for, an app's own worker has without a grant.
    let test = TestVerger::with(|builder| builder.worker(common::Marionette).worker(Other));
    let args = json!({"organization_id": null, "actor_id": null, "do": [["enqueue", [["other-worker", {"month": 1}]]]]});
    assert_eq!(refusal(&test, args).0, "");
}

#[test]
fn the_scope_is_passed_on_and_no_other_can_be_named() {
    for kind in BOTH {
        let test = kind.open();
        let enqueue = |scope: Json, args: Json| {
            let mut own = scope;
            own["do"] = json!([["enqueue", [["puppet", args]]]]);
            let (code, message) = refusal(&test, own);
            let last = jobs(&test, "args").pop().map(|row| row["args"].clone());
            (code, message, last.and_then(|args| serde_json::from_str(args.as_str()?).ok()))
        };
        let acme =
            || json!({"organization_id": "acme", "actor_id": "u1", "impersonating_from": "boss"});
        let (code, message, args) = enqueue(acme(), json!({"n": 1}));
        assert_eq!(code, "", "{message}");
        let expected = json!({"organization_id": "acme", "actor_id": "u1", "impersonating_from": "boss", "n": 1});
        assert_eq!(args, Some(expected), "{kind:?}");
        // Ids stay what they are.
        let numbers = json!({"organization_id": 7, "actor_id": null});
        let passed: (_, _, Option<Json>) = enqueue(numbers.clone(), json!({}));
        assert_eq!(passed.2, Some(numbers.clone()));
        assert_eq!(enqueue(numbers.clone(), json!({"organization_id": 7})).0, "");
        assert_eq!(enqueue(numbers, json!({"organization_id": "7"})).0, "", "the same id");
        for (scope, forged) in [
            (acme(), json!({"organization_id": "other"})),
            (acme(), json!({"actor_id": "u2"})),
            (acme(), json!({"impersonating_from": "u2"})),
            (json!({"organization_id": "acme", "actor_id": null}), json!({"actor_id": "u2"})),
            (json!({"organization_id": null, "actor_id": "u1"}), json!({"actor_id": "u2"})),
            (json!({}), json!({"actor_id": "u2"})),
            (json!({}), json!({"organization_id": "acme", "impersonating_from": "u2"})),
        ] {
            let before = jobs(&test, "id").len();
            let (code, message, _) = enqueue(scope.clone(), forged.clone());
            assert_eq!(code, "denied", "{kind:?}: {scope} {forged}: {message}");
            assert_eq!(jobs(&test, "id").len(), before);
        }
        // A job of no organization does something for each.
        let (code, _, args) = enqueue(
            json!({"organization_id": null, "actor_id": "u1"}),
            json!({"organization_id": "acme"}),
        );
        assert_eq!(
            (code.as_str(), args),
            ("", Some(json!({"organization_id": "acme", "actor_id": "u1"})))
        );
    }
}

#[test]
fn what_a_worker_keeps_commits_with_its_job_and_is_its_own() {
    let seen = |organization: Json, steps: Json| json!({"organization_id": organization, "actor_id": null, "do": steps});
    for kind in BOTH {
        let test = kind.open();
        let perform =
            |args: Json| test.perform_job("puppet", args).map(|done| done.result().cloned());
        let read = |organization: Json| {
            perform(seen(organization, json!([["state", "at"]]))).unwrap().unwrap()[0]["ok"].clone()
        };
        for value in
            [json!(i64::MAX), json!(1.5), json!("ä\u{0}b"), json!(""), json!({"blob": [0, 255]})]
        {
            let steps = json!([["set-state", "at", value], ["state", "at"]]);
            assert_eq!(answers(&test, steps), json!([{"ok": null}, {"ok": value}]), "{kind:?}");
        }
        perform(seen(json!("a"), json!([["set-state", "at", 1]]))).unwrap();
        perform(seen(json!("b"), json!([["set-state", "at", 2]]))).unwrap();
        perform(seen(Json::Null, json!([["set-state", "at", 3]]))).unwrap();
        assert_eq!(
            [read(json!("a")), read(json!("b")), read(Json::Null)],
            [json!(1), json!(2), json!(3)]
        );
        assert_eq!(
            answers(&test, json!([["state", "at"]])),
            json!([{"ok": 3}]),
            "no scope, no organization"
        );
        // Undone with what else it wrote.
        for steps in [
            json!([["set-state", "at", 9], ["failed", "no"]]),
            json!([["set-state", "at", 9], ["set-state", "other", 9], ["trap"]]),
            json!([["must", ["savepoint"]], ["set-state", "at", 9], ["rollback", 0]]),
        ] {
            let _ = perform(seen(json!("a"), steps));
            assert_eq!(read(json!("a")), json!(1), "{kind:?}");
        }
        perform(seen(json!("a"), json!([["set-state", "at", null]]))).unwrap();
        assert_eq!([read(json!("a")), read(json!("b"))], [Json::Null, json!(2)]);
        assert_eq!(test.one::<i64>("SELECT count(*) FROM verger_state"), 2);
        // A worker's SQL does not reach it.
        let (code, message) =
            refusal(&test, json!({"do": [["query", "SELECT * FROM verger_state", []]]}));
        assert_eq!(code, "denied", "{message}");
    }
}

#[test]
fn state_and_jobs_are_bounded_in_number_and_bytes() {
    let flood =
        |count: usize| json!([["enqueue", {"times": count, "job": ["puppet", {"do": []}]}]]);
    for kind in BOTH {
        let test =
            kind.open_with(limited(|limits| limits.jobs(3).job_bytes(1_000).state_bytes(100)));
        for (steps, code, names) in [
            (flood(3), "", ""),
            (flood(4), "limit", "3 jobs"),
            (
                json!([["enqueue", [["puppet", {"do": [], "long": "x".repeat(1_000)}]]]]),
                "limit",
                "1000 bytes of jobs",
            ),
            (json!([["set-state", "k", {"x": 99}]]), "", ""),
            (json!([["set-state", "k", {"x": 100}]]), "limit", "100 bytes of state"),
            (json!([["set-state", "l", 1]]), "limit", "put more into a table"),
            (json!([["set-state", "", 1]]), "invalid", "1 to 128 bytes"),
            (json!([["set-state", {"x": 129}, 1]]), "invalid", "1 to 128 bytes"),
            (json!([["state", {"x": 129}]]), "invalid", "1 to 128 bytes"),
        ] {
            let steps: Json = steps;
            let (found, message) = refusal(&test, json!({ "do": steps }));
            assert_eq!(found, code, "{kind:?}: {steps}: {message}");
            assert!(message.contains(names), "{kind:?}: {message}");
        }
        // All of a run count, committed or not.
        let rest = answers(&test, json!([flood(2)[0], ["checkpoint"], flood(2)[0]]));
        assert_eq!(rest[2]["err"], "limit", "{kind:?}");
        let test = kind.open();
        let fill: Vec<Json> = (0..65).map(|n| json!(["set-state", format!("k{n}"), n])).collect();
        let filled = answers(&test, Json::from(fill));
        assert_eq!((&filled[63], &filled[64]["err"]), (&json!({"ok": null}), &json!("limit")));
        let replaced = answers(&test, json!([["set-state", "k0", "new"], ["set-state", "k64", 1]]));
        assert_eq!((&replaced[0], &replaced[1]["err"]), (&json!({"ok": null}), &json!("limit")));
    }
}

/// Keeps a count of its jobs, and lets someone else in between reading and writing.
struct Counts(Mutex<Option<Connection>>);

impl Worker for Counts {
    fn manifest(&self) -> Manifest {
        Manifest::new("counts", "1")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        let seen = job.state("n")?;
        if let Some(other) = self.0.lock().unwrap().take() {
            other.execute("UPDATE verger_state SET value = 41", [])?;
        }
        let n = match seen {
            Value::Integer(n) => n + 1,
            _ => 1,
        };
        job.set_state("n", n).inspect_err(|error| {
            assert_eq!(error.code, code::CONFLICT, "it is undone and performed again");
        })?;
        Ok(Outcome::DoneWith(json!(n)))
    }
}

#[test]
fn what_was_read_of_the_state_still_holds_when_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let open = |other: Option<Connection>| {
        let worker = Counts(Mutex::new(other));
        Verger::builder(&file).without_built_ins().worker(worker).open().unwrap()
    };
    let count = |verger: &Verger| {
        verger.perform_now("counts", json!({})).unwrap().result().cloned().unwrap()
    };
    assert_eq!(count(&open(None)), 1);
    let other = Connection::open(&file).unwrap();
    assert_eq!(count(&open(Some(other))), 42, "performed again from its start");
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
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let quoted = format!("\"{code}\"");
    let named = format!("code::{}", code.to_uppercase().replace('-', "_"));
    let files = std::fs::read_dir(tests).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|ending| ending == "rs"))
        .map(|file| std::fs::read_to_string(file).unwrap())
        .any(|text| text.contains(&quoted) || text.contains(&named))
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
