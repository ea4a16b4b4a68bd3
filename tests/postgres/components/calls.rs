//! What a component calls does here what it does on SQLite.

use serde_json::json;
use verger::verger_worker::prelude::*;
use verger::{AttemptOutcome, AuditFilter, JobState, Limits};

use super::{answer, answers, attempt, puppet, usual};
use crate::scripted::worker;

#[test]
fn effects_audit_and_end_commit_together() {
    let Some((database, verger)) = puppet(usual()) else { return };
    let event = json!({"action": "thing.made", "outcome": "success", "subject_id": "1"});
    let (id, outcome) = attempt(
        &verger,
        json!({}),
        json!([
            ["execute", "INSERT INTO things (name, n) VALUES (?1, ?2)", ["a", 1]],
            ["audit", [event]],
            ["set-state", "cursor", 7],
            ["log", "info", "made"],
        ]),
    );
    assert!(matches!(outcome, AttemptOutcome::Completed(Some(_))), "{outcome:?}");
    assert_eq!(database.one::<String>("SELECT name FROM things"), "a");
    let rows = verger.audit_log(&AuditFilter::default(), 10).unwrap();
    assert_eq!((rows.len(), rows[0].job, rows[0].worker.as_deref()), (1, Some(id), Some("puppet")));
    assert_eq!(verger.verify_audit().unwrap().rows, 1);
    assert_eq!(verger.job_log(id).unwrap()[0].lines[0].text, "made");
    let job = verger.job(id).unwrap().unwrap();
    assert_eq!(job.state, JobState::Completed);
    assert!(job.worker_digest.is_some());
    assert_eq!(answer(&verger, json!(["state", "cursor"])), json!({"ok": 7}));

    // The same, and then it fails: nothing of it stays but its error.
    let (id, outcome) = attempt(
        &verger,
        json!({}),
        json!([
            ["execute", "INSERT INTO things (name) VALUES ('b')", []],
            ["audit", [{"action": "thing.made", "outcome": "success"}]],
            ["set-state", "cursor", 8],
            ["trap"],
        ]),
    );
    assert!(matches!(outcome, AttemptOutcome::Retryable(..)), "{outcome:?}");
    assert_eq!(verger.job(id).unwrap().unwrap().errors[0].code, "trap");
    assert_eq!(database.one::<i64>("SELECT count(*) FROM things"), 1);
    assert_eq!(verger.verify_audit().unwrap().rows, 1);
    assert_eq!(answer(&verger, json!(["state", "cursor"])), json!({"ok": 7}));
}

#[test]
fn cursors_savepoints_and_checkpoints() {
    let Some((database, verger)) = puppet(usual()) else { return };
    let sets: Vec<_> = (0..1_000).map(|n| json!([format!("thing {n}"), n])).collect();
    let answers = answers(
        &verger,
        json!({}),
        json!([
            ["execute-many", "INSERT INTO things (name, n) VALUES (?1, ?2)", sets],
            ["open", "SELECT id, name FROM things ORDER BY id", []],
            ["next", 0, 2],
            ["savepoint"],
            ["execute", "DELETE FROM things", []],
            ["execute", "SELECT nothing", []],
            ["execute", "UPDATE things SET n = -1 WHERE id = 1", []],
            ["rollback", 0],
            ["next", 0, 1],
            ["execute-many", "UPDATE things SET n = ?2 WHERE id = ?1", [[1, 5], [2, -1], [3, 6]]],
            ["checkpoint"],
            ["next", 0, 1],
            ["query-all", "SELECT n FROM things WHERE id <= ?1 ORDER BY id", [3]],
        ]),
    );
    assert_eq!(answers[2]["ok"], json!([[1, "thing 0"], [2, "thing 1"]]));
    assert_eq!(answers[4]["ok"], 1_000);
    assert_eq!(answers[5]["err"], "sql");
    assert_eq!(answers[8]["ok"], json!([[3, "thing 2"]]), "the cursor is older than the savepoint");
    let sets = answers[9]["ok"].as_array().unwrap();
    assert_eq!(
        (&sets[0]["ok"], &sets[1]["err"], &sets[2]["ok"]),
        (&json!(1), &json!("constraint"), &json!(1))
    );
    assert_eq!(answers[11]["err"], "closed");
    assert_eq!(answers[12]["ok"]["rows"], json!([[5], [1], [6]]));
    assert_eq!(database.one::<i64>("SELECT count(*) FROM things"), 1_000);
}

#[test]
fn what_it_enqueues_and_calls() {
    let Some(database) = super::with_tables() else { return };
    let grant = usual().capability("echo");
    let builder = super::builder(&database, grant)
        .worker(worker("noop", |_, _| Ok(Outcome::Done)))
        .capability("echo", |call| Ok(json!({"heard": call.request.clone()})));
    let verger = super::open(&database, builder);
    let answers = answers(
        &verger,
        json!({}),
        json!([
            ["enqueue", [["noop", "{}", ""], ["noop", "{}", "{\"unique\": true}"]]],
            ["enqueue", [["other-worker", "{}", ""]]],
            ["enqueue", [["noop", "{", ""]]],
            ["call", "echo", "{\"n\": 1}"],
            ["call", "broken", "{}"],
        ]),
    );
    assert_eq!(answers[0]["ok"].as_array().unwrap().len(), 2, "{answers:?}");
    assert_eq!(answers[1]["err"], "denied");
    assert_eq!(answers[2]["err"], "invalid");
    assert!(answers[3]["ok"].as_str().unwrap().contains("heard"), "{answers:?}");
    assert_eq!(answers[4]["err"], "denied");
    let noops = "SELECT count(*) FROM verger.jobs WHERE worker = 'noop'";
    assert_eq!(database.one::<i64>(noops), 2);
}

#[test]
fn the_time_granted_ends_sql_and_code() {
    let time = std::time::Duration::from_millis(700);
    let Some((_database, verger)) = puppet(usual().limits(Limits::new().time(time))) else {
        return;
    };
    for step in [
        json!(["spin"]),
        json!(["query", "SELECT count(*) FROM generate_series(1, 100000000000)", []]),
        json!(["until-refused", ["execute", "UPDATE things SET n = 1", []]]),
    ] {
        let begun = std::time::Instant::now();
        let (id, outcome) = attempt(&verger, json!({}), json!([step]));
        assert!(matches!(outcome, AttemptOutcome::Retryable(..)), "{outcome:?}");
        assert_eq!(verger.job(id).unwrap().unwrap().errors[0].code, "deadline", "{step}");
        assert!(begun.elapsed() < time * 5, "{step} took {:?}", begun.elapsed());
    }
}
