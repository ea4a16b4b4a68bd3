//! Savepoints and checkpoints.

use serde_json::{Value as Json, json};
use verger::{JobState, assert_audited, refute_audited};

use super::check;
use crate::common::{BOTH, answers, job, last_error, run};

#[test]
fn a_rolled_back_savepoint_takes_rows_audit_and_events_with_it() {
    for kind in BOTH {
        let test = kind.open();
        let events = test.subscribe();
        let steps = json!([
            ["execute", "INSERT INTO things (id, name) VALUES (1, 'kept')", []],
            ["audit", [{"action": "thing.kept"}]],
            ["publish", "kept", "1"],
            ["savepoint"],
            ["execute", "INSERT INTO things (id, name) VALUES (2, 'lost')", []],
            ["audit", [{"action": "thing.lost"}, {"action": "thing.lost"}]],
            ["publish", "lost", "2"],
            ["rollback", 0],
            ["audit", [{"action": "thing.kept"}]],
            ["savepoint"],
            ["execute", "INSERT INTO things (id, name) VALUES (3, 'kept')", []],
            ["publish", "kept", "3"],
            ["release", 1],
        ]);
        let answers = answers(&test, steps);
        assert_eq!(answers[5], json!({"ok": [2, 3]}));
        assert_eq!(answers[8], json!({"ok": [2]}), "ids have no gap");
        assert_eq!(
            test.rows("SELECT id, name FROM things"),
            [json!({"id": 1, "name": "kept"}), json!({"id": 3, "name": "kept"})]
        );
        refute_audited!(test, action: "thing.lost");
        assert_eq!(test.verify_audit().unwrap().rows, 2);
        let payloads: Vec<Json> =
            std::iter::from_fn(|| events.try_next()).map(|event| event.payload).collect();
        assert_eq!(payloads, [json!(1), json!(3)], "{kind:?}");
    }
}

#[test]
fn a_savepoint_ends_with_the_one_around_it_and_only_once() {
    check(
        json!([
            ["savepoint"],
            ["execute", "INSERT INTO things (id) VALUES (1)", []],
            ["savepoint"],
            ["execute", "INSERT INTO things (id) VALUES (2)", []],
            ["savepoint"],
            ["rollback", 1],
            ["release", 2],
            ["query", "SELECT id FROM things", []],
            ["release", 0],
            ["release", 0],
            ["savepoint"],
            ["checkpoint"],
            ["rollback", 3],
        ]),
        json!([
            {"ok": 0}, {"ok": 1}, {"ok": 1}, {"ok": 1}, {"ok": 2}, {"ok": null}, {"err": "closed"}, {"ok": [[1]]}, {"ok": null},
            {"err": "closed"}, {"ok": 3}, {"ok": null}, {"err": "closed", "message": "the savepoint is closed"},
        ]),
    );
    check(
        json!([["repeat", 33, ["savepoint"]]]),
        json!([{"err": "limit", "message": "32 savepoints are open"}]),
    );
    check(
        json!([["repeat", 65, ["open", "SELECT 1", []]]]),
        json!([{"err": "limit", "message": "64 cursors are open"}]),
    );
}

#[test]
fn what_was_read_inside_a_savepoint_that_is_undone_is_closed() {
    check(
        json!([
            ["execute", "INSERT INTO things (id) VALUES (1), (2)", []],
            ["open", "SELECT id FROM things", []],
            ["next", 0, 1],
            ["savepoint"],
            ["open", "SELECT id FROM things", []],
            ["rollback", 0],
            ["next", 1, 1],
            ["next", 0, 9],
        ]),
        json!([
            {"ok": 2}, {"ok": 0}, {"ok": [[1]]}, {"ok": 0}, {"ok": 1}, {"ok": null}, {"err": "closed", "message": "query again"}, {"ok": [[2]]},
        ]),
    );
}

#[test]
fn a_checkpoint_keeps_what_was_before_it_whatever_comes_after() {
    for kind in BOTH {
        let test = kind.open();
        let events = test.subscribe();
        let done = run(
            &test,
            job(json!([
                ["execute", "INSERT INTO things (id) VALUES (1)", []],
                ["audit", [{"action": "thing.kept"}]],
                ["publish", "kept", "1"],
                ["progress", 1, 2],
                ["open", "SELECT 1", []],
                ["must", ["checkpoint"]],
                ["execute", "INSERT INTO things (id) VALUES (2)", []],
                ["audit", [{"action": "thing.lost"}]],
                ["publish", "lost", "2"],
                ["progress", 2, 2],
                ["must", ["next", 0, 1]],
            ])),
        );
        assert_eq!(done.state, JobState::Retryable);
        let (code, message) = last_error(&done);
        assert_eq!(code, "closed", "the host's own code");
        assert!(message.contains("the cursor is closed"), "{kind:?}: {message}");
        assert_eq!(test.rows("SELECT id FROM things"), [json!({"id": 1})]);
        assert_audited!(test, action: "thing.kept", job: done.id);
        refute_audited!(test, action: "thing.lost");
        assert_eq!(
            events.try_next().map(|event| (event.topic, event.worker, event.job)),
            Some(("kept".into(), "puppet".into(), Some(done.id)))
        );
        assert_eq!(events.try_next(), None);
        assert_eq!((done.progress_done, done.progress_total), (Some(1), Some(2)));
        assert_eq!(test.verify_audit().unwrap().rows, 1);
    }
}
