//! What each verb prints, the exit status it has, and what it says of bad input.

mod jobs;
mod schedule;

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
