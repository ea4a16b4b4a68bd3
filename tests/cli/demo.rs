//! `verger demo`: the same seed gives the same rows and the same audit log, and a run that was
//! killed goes on without loss.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value as Json;
use verger::rusqlite::{Connection, OpenFlags};

use super::harness::command;

/// A hundredth of everything, over one day: 288 slots.
const SMALL: [&str; 4] = ["--scale", "100", "--days", "1"];

fn demo(db: &Path, args: &[&str]) -> Command {
    command(&[&["demo", "--db", db.to_str().unwrap()], args].concat())
}

fn finish(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// All rows of a query, as text.
fn rows(db: &Path, sql: &str) -> Vec<String> {
    let connection = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        Ok((0..columns).map(|column| format!("{:?}|", row.get_ref(column).unwrap())).collect())
    });
    rows.unwrap().map(Result::unwrap).collect()
}

const DOMAIN: [&str; 6] = [
    "SELECT * FROM organizations ORDER BY id",
    "SELECT * FROM organization_invitations ORDER BY id",
    "SELECT * FROM memberships ORDER BY id",
    "SELECT * FROM deliveries ORDER BY id",
    "SELECT * FROM webhook_events ORDER BY id",
    "SELECT * FROM demo_progress",
];

/// Everything the engine wrote but `claimed_by`, which names the process.
const ENGINE: [&str; 4] = [
    "SELECT * FROM verger_audit ORDER BY id",
    "SELECT * FROM verger_fires ORDER BY schedule, slot",
    "SELECT * FROM verger_schedules ORDER BY name",
    "SELECT id, worker, queue, priority, state, args, tenant_aware, due_at, attempt, max_attempts, snoozes, token, lease_until, cancel_requested, \
     created_at, attempted_at, finished_at, result, errors, schedule, slot, missed, progress_done, progress_total, unique_key FROM verger_jobs ORDER BY id",
];

#[test]
fn the_same_seed_gives_the_same_rows_and_the_same_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, other] = ["one.db", "two.db", "other.db"].map(|name| folder.path().join(name));
    finish(demo(&one, &SMALL));
    finish(demo(&two, &SMALL));
    for sql in DOMAIN.iter().chain(&ENGINE) {
        let (one, two) = (rows(&one, sql), rows(&two, sql));
        assert!(!one.is_empty(), "{sql}: nothing");
        assert!(one == two, "{sql}: the same seed gave other rows");
    }
    finish(demo(&other, &[&SMALL[..], &["--seed", "7"]].concat()));
    assert_ne!(rows(&one, DOMAIN[2]), rows(&other, DOMAIN[2]));
}

#[test]
fn all_three_workers_find_work_and_the_summary_agrees_with_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("demo.db");
    let output = finish(demo(&db, &[&SMALL[..], &["--json"]].concat()));
    let summary: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["slots"], &summary["now"]), (&288.into(), &"2026-01-06T00:00:00Z".into()));
    let runs = [
        ("cleanup-expired-invitations", 1),
        ("reconcile-memberships", 288),
        ("reconcile-webhook-events", 288),
    ];
    for (worker, (name, runs)) in summary["workers"].as_array().unwrap().iter().zip(runs) {
        assert_eq!(
            (&worker["worker"], &worker["runs"], &worker["errors"]),
            (&name.into(), &runs.into(), &0.into()),
            "{worker}"
        );
        assert!(
            worker["rows_changed"].as_u64() > Some(0) && worker["audited"].as_u64() > Some(0),
            "{worker}"
        );
        assert!(worker["median_ms"].as_f64() <= worker["p99_ms"].as_f64(), "{worker}");
    }
    let count = |sql: &str| rows(&db, sql).len() as u64;
    assert_eq!(summary["audit"]["rows"], count("SELECT id FROM verger_audit"));
    assert_eq!(summary["audit"]["verified"], true);
    assert_eq!(rows(&db, "PRAGMA journal_mode"), [format!("Text({:?})|", b"wal")]);
    let left = count("SELECT id FROM organization_invitations");
    assert_eq!(summary["workers"][0]["rows_changed"], 200 - left);
    assert_eq!(
        summary["workers"][2]["rows_changed"],
        2 * count("SELECT id FROM webhook_events WHERE type = 'reconciled'")
    );
    assert_eq!(
        count(
            "SELECT id FROM memberships WHERE state IN ('active', 'suspended') AND expires_at < 1767657600000"
        ),
        0
    );
    assert_eq!(summary["last_events"].as_array().unwrap().len(), 10);

    // Again on the finished file: nothing changes, and it says so; with more days it goes on.
    let audit = rows(&db, ENGINE[0]);
    let said = String::from_utf8(finish(demo(&db, &["--days", "1"])).stdout).unwrap();
    assert!(
        said.contains("has lived through its 1 days already") && said.contains("To start over"),
        "{said}"
    );
    assert_eq!(rows(&db, ENGINE[0]), audit);
    finish(demo(&db, &["--days", "2"]));
    let straight = folder.path().join("straight.db");
    finish(demo(&straight, &["--scale", "100", "--days", "2"]));
    for sql in DOMAIN.iter().chain(&ENGINE) {
        assert!(rows(&db, sql) == rows(&straight, sql), "{sql}: a day and a day are not two days");
    }
}

/// The last slot the app has written, as far as one can look.
fn slot(db: &Path) -> i64 {
    let look = || {
        let connection = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.query_row("SELECT slot FROM demo_progress", [], |row| row.get(0))
    };
    look().unwrap_or(-2)
}

/// The job a kill interrupts counts an attempt more and notes a crash, and its audit rows name that
/// attempt. Apart from that (and so from the hashes) nothing may differ from a run that nobody
/// touched.
#[test]
fn a_demo_that_is_killed_again_and_again_goes_on_without_loss() {
    let folder = tempfile::tempdir().unwrap();
    let [killed, whole] = ["killed.db", "whole.db"].map(|name| folder.path().join(name));
    let start =
        || demo(&killed, &SMALL).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // While the file is made.
    for wait in [0, 5, 10] {
        let mut child = start();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // Somewhere in a slot, each further than the last.
    let mut kills = 0;
    for until in [1, 30, 60, 90, 120, 150, 180, 210, 240, 270] {
        let mut child = start();
        while slot(&killed) < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(500));
        }
        child.kill().unwrap();
        kills += u32::from(!child.wait().unwrap().success());
    }
    assert!(kills >= 3, "the demo was over before it could be killed");
    finish(demo(&killed, &SMALL));
    finish(demo(&whole, &SMALL));
    for sql in DOMAIN {
        assert!(rows(&killed, sql) == rows(&whole, sql), "{sql}: a killed run gave other rows");
    }
    let audit = "SELECT id, occurred_at, action, outcome, organization_id, worker, job, subject_id, before, after, metadata FROM verger_audit ORDER BY id";
    assert!(rows(&killed, audit) == rows(&whole, audit), "a killed run gave another audit log");
    let jobs = "SELECT id, worker, state, args, result, schedule, slot, missed FROM verger_jobs ORDER BY id";
    assert!(rows(&killed, jobs) == rows(&whole, jobs), "a killed run gave other jobs");
    assert!(
        rows(&killed, ENGINE[1]) == rows(&whole, ENGINE[1]),
        "a killed run gave another ledger"
    );
}

#[test]
fn a_file_that_is_no_demo_or_another_one_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("mine.db");
    Connection::open(&db).unwrap().execute_batch("CREATE TABLE mine (id INTEGER)").unwrap();
    let refused = demo(&db, &SMALL).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is no demo"));
    assert_eq!(rows(&db, "SELECT * FROM sqlite_schema").len(), 1);

    let begun = folder.path().join("begun.db");
    finish(demo(&begun, &["--scale", "1000", "--days", "1"]));
    let refused = demo(&begun, &["--seed", "7"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("go on with that seed"));
}
