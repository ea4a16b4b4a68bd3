//! Jobs: enqueued, shown, cancelled and tried again.

use serde_json::json;

use super::{object, objects, site};
use crate::harness::{NULL_TENANT, keys, refusal, stdout, text, verger};

const JOB_COLUMNS: [&str; 27] = [
    "args",
    "args_version",
    "attempt",
    "attempted_at",
    "created_at",
    "due_at",
    "errors",
    "finished_at",
    "id",
    "lease_until",
    "max_attempts",
    "missed",
    "priority",
    "progress_done",
    "progress_total",
    "queue",
    "result",
    "schedule",
    "slot",
    "slot_after",
    "snoozes",
    "state",
    "token",
    "worker",
    "worker_digest",
    "worker_version",
    "zone",
];

#[test]
fn a_job_is_enqueued_ticked_and_shown() {
    let site = site();
    let enqueue = [
        "enqueue",
        "reconcile-memberships",
        "--db",
        site.db(),
        "--args",
        NULL_TENANT,
        "--now",
        "2026-01-01",
    ];
    assert_eq!(object(&[&enqueue[..], &["--json"]].concat()), json!({"id": 1, "existing": false}));
    assert!(
        text(&[&enqueue[..], &["--at", "2026-01-02T12:00:00Z"]].concat())
            .contains("job 2, due 2026-01-02T12:00:00Z")
    );
    assert_eq!(
        object(&[&enqueue[..], &["--at", "2026-01-03", "--unique", "--json"]].concat())["existing"],
        false
    );
    assert_eq!(
        object(&[&enqueue[..], &["--at", "2026-01-04", "--unique", "--json"]].concat()),
        json!({"id": 3, "existing": true})
    );

    let report = object(&["tick", "--db", site.db(), "--now", "2026-01-01T00:00:01Z", "--json"]);
    assert_eq!(keys(&report), ["attempts", "fired", "next_wake_at", "now", "pruned", "rescued"]);
    assert_eq!(report["next_wake_at"], "2026-01-02T12:00:00Z");
    let attempt = &report["attempts"][0];
    assert_eq!(
        keys(attempt),
        [
            "attempt",
            "audited",
            "elapsed_ms",
            "error",
            "job",
            "outcome",
            "result",
            "rows_changed",
            "worker"
        ]
    );
    assert_eq!(
        (&attempt["outcome"], &attempt["rows_changed"], &attempt["audited"]),
        (&json!("completed"), &json!(1), &json!(1))
    );
    assert!(
        text(&["tick", "--db", site.db(), "--now", "2026-01-01T00:00:02Z"])
            .contains("nothing was due")
    );

    let jobs = objects(&["jobs", "list", "--db", site.db(), "--json"]);
    assert_eq!(jobs.iter().map(|job| job["id"].as_i64().unwrap()).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(keys(&jobs[0]), JOB_COLUMNS);
    assert_eq!(jobs[1]["due_at"], "2026-01-02T12:00:00Z");
    assert_eq!(
        objects(&["jobs", "list", "--db", site.db(), "--state", "completed", "--json"]).len(),
        1
    );
    assert!(text(&["jobs", "list", "--db", site.db()]).contains("reconcile-memberships"));

    let job = object(&["jobs", "show", "1", "--db", site.db(), "--json"]);
    assert_eq!(
        (&job["state"], &job["finished_at"]),
        (&json!("completed"), &json!("2026-01-01T00:00:01Z"))
    );
    assert_eq!(job["args"], json!({"organization_id": null, "actor_id": null}));
    assert!(text(&["jobs", "show", "1", "--db", site.db()]).contains("completed"));
    assert!(refusal(&["jobs", "show", "9", "--db", site.db()]).contains("no job 9"));
    assert!(refusal(&["jobs", "list", "--db", site.db(), "--state", "done"]).contains("completed"));
}

#[test]
fn a_job_is_cancelled_and_retried() {
    let site = site();
    text(&[
        "enqueue",
        "reconcile-memberships",
        "--db",
        site.db(),
        "--args",
        NULL_TENANT,
        "--at",
        "2999-01-01",
    ]);
    assert_eq!(object(&["jobs", "cancel", "1", "--db", site.db(), "--json"])["state"], "cancelled");
    assert!(refusal(&["jobs", "cancel", "1", "--db", site.db()]).contains("cancelled already"));
    assert_eq!(object(&["jobs", "retry", "1", "--db", site.db(), "--json"])["state"], "available");
    assert!(refusal(&["jobs", "retry", "9", "--db", site.db()]).contains("no job 9"));
}

#[test]
fn a_failed_attempt_shows_in_the_tick_and_in_the_job() {
    let site = site();
    let bad = r#"{"organization_id": null, "actor_id": null, "table": "no_such_table"}"#;
    text(&[
        "enqueue",
        "reconcile-memberships",
        "--db",
        site.db(),
        "--args",
        bad,
        "--max-attempts",
        "1",
    ]);
    let output = verger(&["tick", "--db", site.db()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("discarded") && stdout(&output).contains("no_such_table"),
        "{}",
        stdout(&output)
    );
    let job = object(&["jobs", "show", "1", "--db", site.db(), "--json"]);
    assert!(job["errors"][0]["at"].as_str().unwrap().ends_with('Z'), "{job}");
    assert!(text(&["jobs", "show", "1", "--db", site.db()]).contains("attempt 1"));
}
