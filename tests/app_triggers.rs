//! The app's own triggers may enqueue by an INSERT into the documented table, whoever fires them. A
//! worker's own statement never can.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use common::{BOTH, Kind, failure, grant};
use serde_json::json;
use verger::testing::TestVerger;
use verger::{JobFilter, JobState, NewJob};

#[test]
fn a_trigger_of_the_apps_enqueues_while_a_workers_statement_fires_it() {
    for kind in BOTH {
        let test = kind.open();
        // Of the columns only the worker is required.
        test.sql(
            "CREATE TRIGGER tell AFTER INSERT ON things BEGIN
                 INSERT INTO verger_jobs (worker, args, queue)
                 VALUES ('puppet', json_object('do', json_array(), 'thing', NEW.id), 'told'); END",
        );
        let insert = json!([["execute", "INSERT INTO things (name) VALUES ('a')", []]]);
        test.enqueue(NewJob::new("puppet", json!({ "do": insert }))).unwrap();
        let report = test.drain();
        assert_eq!(report.attempts.len(), 2, "{kind:?}: {report:?}");
        let told = test.jobs(&JobFilter::new().queue("told"), 9).unwrap().remove(0);
        assert_eq!((told.state, &told.args["thing"]), (JobState::Completed, &json!(1)));
        assert_eq!((told.priority, told.max_attempts), (5, 20));
        // What a run takes back, its trigger's jobs go with.
        let undone =
            json!([["execute", "INSERT INTO things (name) VALUES ('b')", []], ["failed", "x"]]);
        let failing = NewJob::new("puppet", json!({ "do": undone })).max_attempts(1);
        test.enqueue(failing).unwrap();
        assert_eq!(test.drain().attempts.len(), 1, "{kind:?}");
        assert_eq!(test.jobs(&JobFilter::new().queue("told"), 9).unwrap().len(), 1);
    }
}

#[test]
fn a_workers_own_statement_enqueues_nothing_by_whatever_name() {
    let test = Kind::Component.open_with(grant());
    test.sql("CREATE TRIGGER tell AFTER INSERT ON things BEGIN INSERT INTO verger_jobs (worker) VALUES ('puppet'); END");
    for sql in [
        "INSERT INTO verger_jobs (worker) VALUES ('puppet')",
        "INSERT INTO main.verger_jobs (worker) SELECT 'puppet' FROM things",
        "WITH tell AS (SELECT 'puppet' AS worker) INSERT INTO verger_jobs (worker) SELECT worker FROM tell",
        "REPLACE INTO Verger_Jobs (id, worker) VALUES (1, 'puppet')",
        "UPDATE verger_jobs SET worker = 'puppet'",
        "DELETE FROM verger_jobs",
        "SELECT worker FROM verger_jobs",
    ] {
        let (code, message) = failure(&test, json!([["must", ["execute", sql, []]]]));
        assert!(code == "denied" || message.contains("denied"), "{sql}: {code} {message}");
    }
    assert!(test.jobs(&JobFilter::new(), 1).unwrap().is_empty());
    let _: TestVerger = test;
}
