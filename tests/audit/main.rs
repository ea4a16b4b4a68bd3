//! The audit log: append-only, stamped by the host, in one transaction with what it describes.
//! Tampering shows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "../common/mod.rs"]
mod common;
mod tampering;

use common::{BOTH, answers, grant, job, puppet, run};
use serde_json::{Value as Json, json};
use verger::testing::{TestVerger, capture_logs};
use verger::verger_worker::prelude::*;
use verger::{AuditError, AuditFilter, JobState, Limits, NewJob, assert_audited, refute_audited};

/// A tenant-aware worker that logs the events of its args.
struct Scribe;

impl Worker for Scribe {
    fn manifest(&self) -> Manifest {
        Manifest::new("scribe", "2.1.0")
            .tenant_aware()
            .arg("organizations", ArgSpec::default_value(json!([null])))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        scope: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        assert!(scope.is_some());
        for organization in args.get::<Vec<Option<String>>>("organizations")? {
            job.audit(AuditEvent::success("page.written").organization(organization))?;
        }
        Ok(Outcome::Done)
    }
}

fn scribe() -> TestVerger {
    TestVerger::with(|builder| builder.worker(Scribe).without_built_ins())
}

#[test]
fn a_row_can_be_neither_changed_nor_deleted_nor_replaced() {
    let test = puppet();
    answers(&test, json!([["audit", [{"action": "thing.made"}, {"action": "thing.made"}]]]));
    let before = test.everything();
    for sql in [
        "UPDATE verger_audit SET action = 'x.y' WHERE id = 1",
        "UPDATE verger_audit SET id = 9 WHERE id = 1",
        "DELETE FROM verger_audit",
        "DELETE FROM verger_audit WHERE id = 2",
        "INSERT OR REPLACE INTO verger_audit (id, occurred_at, action, outcome, hash) VALUES (1, 0, 'a.b', 'success', x'00')",
        "REPLACE INTO verger_audit (id, occurred_at, action, outcome, hash) VALUES (2, 0, 'a.b', 'success', x'00')",
        "INSERT INTO verger_audit (id, occurred_at, action, outcome, hash) VALUES (1, 0, 'a.b', 'success', x'00') \
         ON CONFLICT (id) DO UPDATE SET action = excluded.action",
        "UPDATE verger_audit_head SET id = 1, hash = (SELECT hash FROM verger_audit WHERE id = 1)",
        "UPDATE verger_audit_head SET id = 3, hash = zeroblob(32)",
        "UPDATE verger_audit_head SET hash = zeroblob(32)",
        "DELETE FROM verger_audit_head",
        "INSERT OR REPLACE INTO verger_audit_head (one, id, hash) VALUES (1, 0, zeroblob(32))",
    ] {
        let error = test.connection().execute(sql, []).unwrap_err().to_string();
        assert!(error.contains("verger_audit_append_only"), "{sql}: {error}");
    }
    assert_eq!(test.everything(), before);
    assert_eq!(test.verify_audit().unwrap().rows, 2);
}

#[test]
fn the_scope_is_stamped_with_the_impersonator_as_the_actor() {
    let cases: [(Json, [Option<&str>; 4]); 5] = [
        (
            json!({"organization_id": "o1", "actor_id": "u1"}),
            [Some("o1"), Some("u1"), Some("u1"), None],
        ),
        (
            json!({"organization_id": "o1", "actor_id": "u1", "impersonating_from": "admin"}),
            [Some("o1"), Some("admin"), Some("u1"), Some("admin")],
        ),
        (
            json!({"organization_id": null, "actor_id": "u1", "impersonating_from": null}),
            [None, Some("u1"), Some("u1"), None],
        ),
        (json!({"organization_id": null, "actor_id": null}), [None; 4]),
        (json!({"organization_id": 7, "actor_id": 8}), [Some("7"), Some("8"), Some("8"), None]),
    ];
    for (args, [organization, actor, user, impersonator]) in cases {
        let test = scribe();
        let done = run(&test, NewJob::new("scribe", args.clone()));
        assert_eq!(done.state, JobState::Completed, "{args}");
        let row = assert_audited!(
            test, organization: organization, actor: actor, effective_user: user, impersonating_from: impersonator, worker: "scribe", job: done.id
        );
        assert_eq!(row.worker_version.as_deref(), Some("2.1.0"));
        test.perform_job("scribe", args).unwrap();
        assert_audited!(test, organization: organization, actor: actor, effective_user: user, impersonating_from: impersonator);
        assert_eq!(test.verify_audit().unwrap().rows, 2);
    }
}

#[test]
fn an_events_own_organization_wins_unless_the_job_has_another() {
    let test = scribe();
    let write = |organization: Json, named: Json| {
        run(
            &test,
            NewJob::new(
                "scribe",
                json!({"organization_id": organization, "actor_id": null, "organizations": named}),
            )
            .max_attempts(1),
        )
    };
    write(json!(null), json!(["o1", null, "o2"]));
    for organization in [Some("o1"), None, Some("o2")] {
        assert_audited!(test, organization: organization);
    }
    assert_eq!(write(json!("o3"), json!([null, "o3"])).state, JobState::Completed);
    assert_audited!(test, organization: "o3");
    let denied = write(json!("o4"), json!([null, "o5"]));
    assert_eq!(denied.state, JobState::Discarded);
    assert!(
        denied.errors[0].message.contains("names another organization than the job's"),
        "{denied:?}"
    );
    refute_audited!(test, organization: "o5");
    refute_audited!(test, organization: "o4");
    let filter = AuditFilter { organization_id: Some("o3".into()), ..AuditFilter::default() };
    assert_eq!(test.audit_log(&filter, 10).unwrap().len(), 2);
}

/// Bad events, the field each is refused for, and a value that must not be repeated.
fn bad_events() -> Vec<(Json, &'static str, &'static str)> {
    let secret = |metadata: &str| json!({"action": "a.b", "metadata": metadata});
    vec![
        (json!({"action": "Nonsense"}), "`action`", "Nonsense"),
        (json!({"action": "nonsense"}), "`action`", "nonsense"),
        (json!({"action": {"x": 300}}), "`action`", "xxx"),
        (secret("no json: hunter2"), "`metadata`", "hunter2"),
        (secret("[\"hunter2\"]"), "`metadata`", "hunter2"),
        (secret("{\"a\":[{\"resetToken\":\"hunter2\"}]}"), "`metadata.a.0.resetToken`", "hunter2"),
        (secret("{\"password\":\"hunter2\"}"), "`metadata.password`", "hunter2"),
        (json!({"action": "a.b", "metadata": {"x": 9_000}}), "`metadata`", "xxx"),
        (
            json!({"action": "a.b", "before": "{\"api_key\":\"hunter2\"}"}),
            "`before.api_key`",
            "hunter2",
        ),
        (json!({"action": "a.b", "after": "hunter2"}), "`after`", "hunter2"),
        (json!({"action": "a.b", "after": {"x": 70_000}}), "`after`", "xxx"),
        (json!({"action": "a.b", "subject_id": {"x": 300}}), "`subject_id`", "xxx"),
        (json!({"action": "a.b", "organization_id": {"x": 300}}), "`organization_id`", "xxx"),
    ]
}

#[test]
fn log_writes_all_or_none_and_names_the_field_that_is_wrong() {
    for (bad, field, value) in bad_events() {
        for kind in BOTH {
            let test = kind.open();
            let answers = answers(
                &test,
                json!([["audit", [{"action": "good.one"}, bad, {"action": "good.two"}]], ["audit", [{"action": "good.three"}]]]),
            );
            let message = answers[0]["message"].as_str().unwrap();
            assert_eq!(answers[0]["err"], "invalid", "{bad}");
            assert!(
                message.contains(field)
                    && message.contains("event 1")
                    && message.contains("none of the 3"),
                "{bad}: {message}"
            );
            assert!(!message.contains(value), "{message}");
            assert_eq!(answers[1], json!({"ok": [1]}), "the attempt goes on, and no id is lost");
            refute_audited!(test, action: "good.one");
        }
    }
}

#[test]
fn log_safe_drops_bad_events_counts_them_and_reports_fields_only() {
    for kind in BOTH {
        let test = kind.open();
        let bad = bad_events();
        let mut events: Vec<Json> = bad.iter().map(|(event, ..)| event.clone()).collect();
        events.insert(3, json!({"action": "good.one"}));
        events.push(json!({"action": "good.two"}));
        let (answers, lines) =
            capture_logs(|| answers(&test, json!([["audit-safe", events], ["audit-safe", []]])));
        assert_eq!(answers, json!([{"ok": 2}, {"ok": 0}]), "{kind:?}");
        assert_audited!(test, action: "good.one", worker: "puppet");
        assert_audited!(test, action: "good.two");
        assert_eq!(test.verify_audit().unwrap().rows, 2);
        let dropped: Vec<_> =
            lines.iter().filter(|line| line.message == "audit event dropped").collect();
        assert_eq!(dropped.len(), bad.len());
        for (line, (event, field, value)) in dropped.iter().zip(&bad) {
            assert_eq!(line.fields["worker"], "puppet");
            assert!(line.fields["reason"].contains(field), "{event}: {:?}", line.fields);
            assert!(!line.fields.values().any(|text| text.contains(value)), "{:?}", line.fields);
        }
    }
}

#[test]
fn log_safe_never_fails_the_worker_even_over_its_limit() {
    let limits = Limits::new().audit_rows(3);
    for kind in BOTH {
        let test = kind.open_with(grant().limits(limits.clone()));
        let event = json!({"action": "thing.made"});
        let steps = json!([
            ["audit", [event, event]],
            ["audit", [event, event]],
            ["audit-safe", [event, event]],
            ["audit-safe", [event]],
            ["checkpoint"],
            ["audit", [event]],
        ]);
        let answers = answers(&test, steps);
        assert_eq!(
            (&answers[1]["err"], &answers[5]["err"]),
            (&json!("limit"), &json!("limit")),
            "{answers}"
        );
        assert_eq!((&answers[2], &answers[3]), (&json!({"ok": 1}), &json!({"ok": 0})), "{kind:?}");
        assert_eq!(test.verify_audit().unwrap().rows, 3);
    }
}

#[test]
fn a_failed_attempt_cannot_fill_the_audit_log_by_checkpoints() {
    for limits in [Limits::new().audit_rows(40), Limits::new().audit_bytes(40 * 1_300)] {
        for kind in BOTH {
            let test = kind.open_with(grant().limits(limits.clone()));
            let metadata = format!("{{\"x\":\"{}\"}}", "x".repeat(1_000));
            let event = json!({"action": "thing.made", "metadata": metadata});
            let steps = json!([
                ["repeat", 30, ["audit", [event]]],
                ["checkpoint"],
                ["repeat", 30, ["audit-safe", [event]]],
                ["checkpoint"],
                ["repeat", 30, ["audit", [event]]],
                ["checkpoint"],
                ["failed", "on purpose"],
            ]);
            run(&test, job(steps).max_attempts(1));
            let rows = test.verify_audit().unwrap().rows;
            assert!((38..=40).contains(&rows), "{kind:?}, {limits:?}: {rows} rows");
        }
    }
}

#[test]
fn audit_rows_of_a_savepoint_that_was_rolled_back_count_no_more() {
    for kind in BOTH {
        let test = kind.open_with(grant().limits(Limits::new().audit_rows(3)));
        let event = json!({"action": "thing.made"});
        let done = answers(
            &test,
            json!([
                ["savepoint"],
                ["must", ["audit", [event, event, event]]],
                ["rollback", 0],
                ["must", ["audit", [event, event, event]]],
                ["audit", [event]],
            ]),
        );
        assert_eq!(done[4]["err"], "limit", "{kind:?}: {done}");
        assert_eq!(test.verify_audit().unwrap().rows, 3);
    }
}

#[test]
fn audit_rows_and_what_they_describe_stay_or_go_together() {
    for kind in BOTH {
        let test = kind.open();
        let write = |end: Json| {
            run(
                &test,
                job(json!([["execute", "INSERT INTO things (name) VALUES ('x')", []], ["audit", [{"action": "thing.made"}]], end]))
                    .max_attempts(1),
            )
        };
        for (end, rows) in [
            (json!(["failed", "x"]), 0),
            (json!(["trap"]), 0),
            (json!(["done"]), 1),
            (json!(["snooze", 86_400]), 2),
            (json!(["cancel", "x"]), 3),
        ] {
            write(end);
            let counts = (
                test.one::<i64>("SELECT count(*) FROM things"),
                test.one::<i64>("SELECT count(*) FROM verger_audit"),
            );
            assert_eq!(counts, (rows, rows), "{kind:?}");
        }
        assert_eq!(test.one::<i64>("SELECT max(id) FROM verger_audit"), 3, "numbered without gaps");
    }
}

#[test]
fn the_app_writes_its_own_events_to_the_same_chain() {
    let test = puppet();
    answers(&test, json!([["audit", [{"action": "thing.made"}]]]));
    let id = test
        .audit(
            &AuditEvent::success("user.logged_in")
                .organization("o1".to_string())
                .subject("user", "u1"),
        )
        .unwrap();
    assert_eq!(id, 2);
    answers(&test, json!([["audit", [{"action": "thing.made"}]]]));
    let row = assert_audited!(test, action: "user.logged_in", organization: "o1", actor: None, subject: ("user", "u1"));
    assert_eq!((row.worker, row.job, row.occurred_at), (None, None, TestVerger::START));
    let error = test
        .audit(&AuditEvent::success("user.updated").metadata(json!({"password": "hunter2"})))
        .unwrap_err();
    assert!(matches!(error, AuditError::Event(_)));
    assert!(
        error.to_string().contains("`metadata.password`") && !error.to_string().contains("hunter2"),
        "{error}"
    );
    assert_eq!(test.verify_audit().unwrap().rows, 3);
}

#[test]
fn the_log_is_read_newest_first_by_filter_and_page() {
    let test = puppet();
    for n in 0..5 {
        answers(
            &test,
            json!([["audit", [{"action": format!("thing.made_{n}")}, {"action": "thing.seen"}]]]),
        );
    }
    let all = AuditFilter::default();
    let ids = |filter: &AuditFilter, limit| {
        test.audit_log(filter, limit).unwrap().iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&all, 3), [10, 9, 8]);
    assert_eq!(ids(&AuditFilter { before_id: Some(8), ..all.clone() }, 2), [7, 6]);
    assert_eq!(
        ids(&AuditFilter { action: Some("thing.seen".into()), ..all.clone() }, 9),
        [10, 8, 6, 4, 2]
    );
    assert_eq!(ids(&AuditFilter { worker: Some("nobody".into()), ..all.clone() }, 9), [0; 0]);
    assert_eq!(ids(&AuditFilter { job: Some(1), ..all }, 9), [0; 0]);
}
