//! What each verb prints, the exit status it has, and what it says of bad input.

use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;

use super::harness::{
    NULL_TENANT, Site, command, keys, prebuilt, puppet, refusal, stderr, stdout, text, verger,
};

/// What a verb prints: one object.
#[track_caller]
fn object(args: &[&str]) -> Json {
    serde_json::from_str(&text(args)).unwrap()
}

/// One object a line.
#[track_caller]
fn objects(args: &[&str]) -> Vec<Json> {
    text(args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One membership that ran out, and one that does not.
fn site() -> Site {
    let site = Site::new();
    site.sql(
        "INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at)
         VALUES ('m1', 'o1', 'u1', 'active', 5, 0, 0), ('m2', 'o1', 'u2', 'active', NULL, 0, 0);",
    );
    site
}

// --- previews, without a database
// ------------------------------------------------------------------------------------------------------

#[test]
fn an_expression_is_previewed_in_utc_and_local_time_with_its_clock_changes() {
    let slots = object(&[
        "schedule",
        "next",
        "30 2 * * *",
        "--tz",
        "Europe/Berlin",
        "--from",
        "2026-03-28",
        "-n",
        "2",
        "--json",
    ]);
    assert_eq!(
        slots[0],
        json!({"utc": "2026-03-28T01:30:00Z", "local": "2026-03-28T02:30:00+01:00"})
    );
    assert_eq!(
        (&slots[1]["utc"], &slots[1]["local"]),
        (&json!("2026-03-29T01:00:00Z"), &json!("2026-03-29T03:00:00+02:00"))
    );
    assert!(slots[1]["note"].as_str().unwrap().contains("does not exist"));
    let said = text(&["schedule", "next", "0 3 * * mon-fri", "--now", "2026-01-01T00:00:00Z"]);
    assert!(said.contains("at 03:00 from Monday to Friday, UTC"), "{said}");
    assert!(said.contains("2026-01-01T03:00:00Z"), "{said}");
    assert_eq!(text(&["schedule", "next", "@reboot", "--json"]), "[]\n");
}

#[test]
fn a_bad_preview_names_the_place_and_the_reason() {
    for (args, names) in [
        (&["schedule", "next", "0 25 * * *"][..], "hour field \"25\", at byte 2"),
        (&["schedule", "next", "0 3 * *"], "fields"),
        (&["schedule", "next", "0 3 * * *", "--tz", "Europe/Berlim"], "Europe/Berlin"),
        (&["schedule", "next", "0 3 * * *", "--from", "yesterday"], "RFC 3339"),
        (&["schedule", "next", "0 3 * * *", "--now", "2026-02-30"], "--now"),
    ] {
        let said = refusal(args);
        assert!(said.contains(names), "{args:?}: {said}");
    }
}

// --- the queue
// --------------------------------------------------------------------------------------------------------------------------

#[test]
fn a_worker_is_performed_once_and_a_dry_run_changes_nothing() {
    let site = site();
    let run = ["run", "reconcile-memberships", "--db", site.db(), "--args", NULL_TENANT];
    let dry = object(&[&run[..], &["--dry-run", "--json"]].concat());
    assert_eq!(dry["result"], json!({"scanned": 1, "updated": 1, "errors": 0}));
    assert_eq!(
        dry["changes"],
        json!([{"table": "memberships", "inserted": 0, "updated": 1, "deleted": 0}])
    );
    assert!(text(&[&run[..], &["--dry-run"]].concat()).contains("memberships"));
    let expected = json!({"outcome": "done", "result": {"scanned": 1, "updated": 1, "errors": 0}, "error": null});
    assert_eq!(object(&[&run[..], &["--json"]].concat()), expected);
    assert_eq!(object(&[&run[..], &["--json"]].concat())["result"]["updated"], 0);
}

#[test]
fn the_clock_of_a_worker_is_the_one_of_now() {
    let site = site();
    let run = [
        "run",
        "reconcile-memberships",
        "--db",
        site.db(),
        "--args",
        NULL_TENANT,
        "--json",
        "--now",
    ];
    assert_eq!(object(&[&run[..], &["1970-01-01"]].concat())["result"]["updated"], 0);
    assert_eq!(object(&[&run[..], &["1970-01-01T00:00:01Z"]].concat())["result"]["updated"], 1);
}

#[test]
fn a_failed_performance_has_exit_status_1_and_a_refused_one_2() {
    let site = site();
    let bad = r#"{"organization_id": null, "actor_id": null, "retention_days": 0}"#;
    let output =
        verger(&["run", "cleanup-expired-invitations", "--db", site.db(), "--args", bad, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let answer: Json = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&answer["outcome"], &answer["result"]), (&json!("failed"), &Json::Null));
    assert!(answer["error"]["message"].as_str().unwrap().contains("retention_days"), "{answer}");
    assert!(stderr(&output).contains("retention_days"));

    let unknown = refusal(&["run", "no-such-worker", "--db", site.db()]);
    assert!(unknown.contains("`cleanup-expired-invitations`, `cleanup-tokens`"), "{unknown}");
    let missing = refusal(&["run", "reconcile-memberships", "--db", site.db()]);
    assert!(missing.contains("organization_id") && missing.contains("actor_id"), "{missing}");
    let place =
        refusal(&["run", "reconcile-memberships", "--db", site.db(), "--args", "{\"a\": }"]);
    assert!(place.contains("line 1 column 7"), "{place}");
    assert!(
        refusal(&["run", "reconcile-memberships", "--db", site.db(), "--args", "[1]"])
            .contains("must be a JSON object")
    );
}

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

// --- schedules and the audit log
// --------------------------------------------------------------------------------------------------------

#[test]
fn a_schedule_is_added_fires_is_paused_and_removed() {
    let site = site();
    let db = ["--db", site.db()];
    let add = [
        "schedule",
        "add",
        "nightly",
        "0 3 * * *",
        "--worker",
        "reconcile-memberships",
        "--args",
        NULL_TENANT,
        "--now",
        "2026-01-01",
    ];
    let row = object(&[&add[..], &db, &["--json"]].concat());
    assert_eq!(row["next_fire_at"], "2026-01-01T03:00:00Z");
    let columns = [
        "anchor",
        "args",
        "args_version",
        "deadline_ms",
        "expression",
        "jitter_ms",
        "last_slot",
        "max_attempts",
        "missed",
        "name",
        "next_fire_at",
        "overlap",
        "paused",
        "priority",
        "queue",
        "timezone",
        "worker",
    ];
    let listed = objects(&[&["schedule", "list", "--json"][..], &db].concat());
    assert_eq!(keys(&listed[0]), columns);
    assert!(text(&[&["schedule", "list"][..], &db].concat()).contains("at 03:00 every day"));
    assert!(
        text(&[&["schedule", "fires", "nightly"][..], &db].concat())
            .contains("no slot has come yet")
    );

    // Three slots late: one job that stands for all.
    text(&[&["tick", "--now", "2026-01-03T04:00:00Z"][..], &db].concat());
    let fires = objects(&[&["schedule", "fires", "nightly", "--json"][..], &db].concat());
    let slot = json!({"schedule": "nightly", "slot": "2026-01-03T03:00:00Z", "fired_at": "2026-01-03T04:00:00Z", "outcome": "coalesced",
        "reason": null, "missed": 2, "job": 1});
    assert_eq!(fires, [slot]);

    text(&[&["schedule", "pause", "nightly", "--now", "2026-01-03T05:00:00Z"][..], &db].concat());
    text(&[&["tick", "--now", "2026-01-04T04:00:00Z"][..], &db].concat());
    assert_eq!(
        objects(&[&["schedule", "fires", "nightly", "--json"][..], &db].concat())[0]["reason"],
        "paused"
    );
    assert!(
        text(
            &[&["schedule", "resume", "nightly", "--now", "2026-01-04T05:00:00Z"][..], &db]
                .concat()
        )
        .contains("resumed")
    );
    // Why?
    let why = |at: &str| {
        text(
            &[
                &["schedule", "fires", "nightly", "--at", at, "--now", "2026-01-04T05:00:00Z"][..],
                &db,
            ]
            .concat(),
        )
    };
    assert!(
        why("2026-01-02T03:00:00Z").contains("was missed, and job 1"),
        "{}",
        why("2026-01-02T03:00:00Z")
    );
    assert_eq!(
        why("2026-01-04T03:00:00Z"),
        "2026-01-04T03:00:00Z made no job: the schedule was paused.\n"
    );
    assert!(why("2026-01-04T04:00:00Z").contains("is no slot of `0 3 * * *`"));
    let lines = text(&[&["schedule", "fires", "nightly"][..], &db].concat());
    assert!(
        lines.contains(
            "2026-01-03T03:00:00Z made job 1 1 h late; it stands for the 2 slots before it too"
        ),
        "{lines}"
    );
    let made = object(
        &[&["schedule", "run-now", "nightly", "--now", "2026-01-04T05:30:00Z", "--json"][..], &db]
            .concat(),
    );
    assert_eq!(made, json!({"schedule": "nightly", "job": 2, "existing": false}));
    let changed = [
        "schedule",
        "add",
        "nightly",
        "0 3 * * *",
        "--worker",
        "reconcile-memberships",
        "--args",
        NULL_TENANT,
    ];
    let policies = [
        "--missed",
        "replay 3",
        "--allow-overlap",
        "--start-deadline",
        "2h",
        "--jitter",
        "90s",
        "--now",
        "2026-01-04T05:45:00Z",
    ];
    let row = object(&[&changed[..], &policies, &db, &["--json"]].concat());
    assert_eq!(
        (&row["missed"], &row["overlap"], &row["deadline_ms"], &row["jitter_ms"]),
        (&json!("replay 3"), &json!("allow"), &json!(7_200_000), &json!(90_000))
    );
    assert_eq!(row["next_fire_at"], "2026-01-05T03:00:00Z");
    assert!(
        refusal(&[&changed[..], &["--missed", "sometimes"], &db].concat())
            .contains("use coalesce, skip or `replay N`")
    );

    text(&[&["schedule", "remove", "nightly", "--now", "2026-01-04T06:00:00Z"][..], &db].concat());
    assert_eq!(text(&[&["schedule", "list"][..], &db].concat()), "no schedules\n");
    assert_eq!(
        objects(&[&["schedule", "fires", "nightly", "--json"][..], &db].concat()).len(),
        3,
        "the ledger stays"
    );
    assert!(
        refusal(&[&["schedule", "fires", "weekly"][..], &db].concat())
            .contains("no schedule `weekly`: known are none")
    );
    let bad = refusal(
        &[&["schedule", "add", "x", "61 * * * *", "--worker", "reconcile-memberships"][..], &db]
            .concat(),
    );
    assert!(bad.contains("minute field \"61\""), "{bad}");
}

#[test]
fn the_audit_log_is_listed_and_a_change_to_it_shows() {
    let site = site();
    let db = ["--db", site.db()];
    text(
        &[&["run", "reconcile-memberships", "--args", NULL_TENANT, "--now", "2026-01-01"][..], &db]
            .concat(),
    );
    let events = objects(&[&["audit", "list", "--json"][..], &db].concat());
    let columns = [
        "action",
        "actor_id",
        "after",
        "attempt",
        "before",
        "effective_user_id",
        "hash",
        "id",
        "impersonating_from",
        "job",
        "metadata",
        "occurred_at",
        "organization_id",
        "outcome",
        "subject_id",
        "subject_type",
        "worker",
        "worker_version",
    ];
    assert_eq!(keys(&events[0]), columns);
    assert_eq!(
        (&events[0]["occurred_at"], &events[0]["after"]),
        (&json!("2026-01-01T00:00:00Z"), &json!({"state": "expired"}))
    );
    assert!(text(&[&["audit", "list"][..], &db].concat()).contains("state active → expired"));
    assert_eq!(text(&[&["audit", "list", "--organization", "o2", "--json"][..], &db].concat()), "");
    assert_eq!(
        object(&[&["audit", "verify", "--json"][..], &db].concat()),
        json!({"verified": true, "rows": 1, "pruned": 0, "broken_at": null, "missing": null})
    );

    site.open()
        .execute_batch(
            "DROP TRIGGER verger_audit_no_update; UPDATE verger_audit SET subject_id = 'm2'",
        )
        .unwrap();
    let output = verger(&[&["audit", "verify"][..], &db].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("from row 1 on"), "{}", stderr(&output));
    let output = verger(&[&["audit", "verify", "--json"][..], &db].concat());
    assert_eq!(serde_json::from_str::<Json>(&stdout(&output)).unwrap()["broken_at"], 1);
}

// --- files
// ------------------------------------------------------------------------------------------------------------------------------

#[test]
fn a_file_that_is_not_there_is_refused_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("typo.db");
    for args in [
        &["jobs", "list"][..],
        &["jobs", "show", "1"],
        &["schedule", "list"],
        &["schedule", "fires", "x"],
        &["audit", "list"],
        &["audit", "verify"],
        &["run", "reconcile-memberships"],
        &["enqueue", "reconcile-memberships"],
        &["tick"],
        &["start"],
    ] {
        let said = refusal(&[args, &["--db", db.to_str().unwrap()]].concat());
        assert!(
            said.contains("there is no file") && said.contains("verger migrate"),
            "{args:?}: {said}"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(
        refusal(&["jobs", "list", "--db", folder.path().to_str().unwrap()]).contains("is a folder")
    );
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("letter.txt");
    let letter = "Dear verger, ".repeat(100);
    std::fs::write(&db, &letter).unwrap();
    for args in [&["jobs", "list"][..], &["tick"], &["migrate"], &["demo"]] {
        let said = refusal(&[args, &["--db", db.to_str().unwrap()]].concat());
        assert!(
            said.contains("no SQLite database") && said.contains("letter.txt"),
            "{args:?}: {said}"
        );
    }
    assert_eq!(std::fs::read_to_string(&db).unwrap(), letter);
}

#[test]
fn looking_changes_nothing() {
    let site = site();
    // A job that a process held when it died: who opens the file to work takes it back, who looks
    // does not.
    text(&["enqueue", "reconcile-memberships", "--db", site.db(), "--args", NULL_TENANT]);
    site.open()
        .execute(
            "UPDATE verger_jobs SET state = 'executing', attempt = 1, token = 1, lease_until = 1",
            [],
        )
        .unwrap();
    for args in [
        &["jobs", "list"][..],
        &["jobs", "show", "1"],
        &["schedule", "list"],
        &["audit", "list"],
        &["audit", "verify"],
    ] {
        text(&[args, &["--db", site.db()]].concat());
    }
    assert_eq!(object(&["jobs", "show", "1", "--db", site.db(), "--json"])["state"], "executing");

    // An app's own file, where Verger never was, gets no tables by being looked at.
    let plain = site.db.with_file_name("plain.db");
    Connection::open(&plain).unwrap().execute_batch("CREATE TABLE mine (id INTEGER)").unwrap();
    let said = refusal(&["jobs", "list", "--db", plain.to_str().unwrap()]);
    assert!(said.contains("version 0"), "{said}");
    let tables: i64 = Connection::open(&plain)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);
}

// --- plugins
// ----------------------------------------------------------------------------------------------------------------------------

#[test]
fn a_dropped_in_plugin_may_touch_nothing_until_it_is_trusted() {
    let site = site();
    site.open().execute_batch("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)").unwrap();
    let plugins = site.folder.path("plugins");
    std::fs::create_dir(&plugins).unwrap();
    std::fs::copy(puppet(), plugins.join("puppet.wasm")).unwrap();
    let args = r#"{"do": [["execute", "INSERT INTO things (id) VALUES (1)", []]]}"#;
    let run = [
        "run",
        "puppet",
        "--db",
        site.db(),
        "--args",
        args,
        "--plugins",
        plugins.to_str().unwrap(),
        "--json",
    ];
    let denied = text(&run);
    assert!(denied.contains("insert denied: table things"), "{denied}");
    let trusted = object(&[&run[..], &["--trust"]].concat());
    assert_eq!(trusted["result"], json!([{"ok": 1}]));
    assert!(refusal(&["tick", "--db", site.db(), "--trust"]).contains("--plugins"));
}

#[test]
fn a_refused_plugin_is_told_and_keeps_no_other_from_working() {
    let site = site();
    let plugins = site.folder.path("plugins");
    std::fs::create_dir(&plugins).unwrap();
    std::fs::copy(prebuilt("reconcile-memberships"), plugins.join("again.wasm")).unwrap();
    let output = verger(&[
        "run",
        "reconcile-memberships",
        "--db",
        site.db(),
        "--args",
        NULL_TENANT,
        "--plugins",
        plugins.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("so is a worker the app has already"), "{}", stderr(&output));
}

// --- the loop
// ---------------------------------------------------------------------------------------------------------------------------

#[cfg(unix)]
#[test]
fn the_loop_performs_what_is_due_and_stops_at_a_signal() {
    let site = site();
    let child = command(&["start", "--db", site.db()]).stderr(Stdio::piped()).spawn().unwrap();
    text(&["enqueue", "reconcile-memberships", "--db", site.db(), "--args", NULL_TENANT]);
    let begun = std::time::Instant::now();
    while object(&["jobs", "show", "1", "--db", site.db(), "--json"])["state"] != "completed" {
        assert!(begun.elapsed().as_secs() < 20, "the loop did not perform the job");
    }
    assert!(
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(refusal(&["start", "--db", site.db(), "--now", "2026-01-01"]).contains("--now"));
}

#[test]
fn usage_is_told_with_exit_status_2() {
    for args in [
        &[][..],
        &["no-such-verb"],
        &["jobs", "list"],
        &["demo", "--days", "0"],
        &["demo", "--now", "2026-01-01"],
    ] {
        refusal(args);
    }
    assert!(text(&["--help"]).contains("Exit status"));
    assert!(text(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
}
