//! Queues and the audit log on the command line: what waits where, pausing, and a copy of the log
//! to keep elsewhere.

use std::process::Output;

use serde_json::{Value as Json, json};

use super::harness::{self, NULL_TENANT, Site, said, verger};

/// Verbs on one database, at midnight.
struct AtMidnight(Site);

impl AtMidnight {
    fn new() -> Self {
        Self(Site::new())
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [args, &["--db", self.0.db(), "--now", "2026-01-01T00:00:00Z"]].concat()
    }

    fn verger(&self, args: &[&str]) -> Output {
        verger(&self.args(args))
    }

    #[track_caller]
    fn text(&self, args: &[&str]) -> String {
        harness::text(&self.args(args))
    }

    #[track_caller]
    fn objects(&self, args: &[&str]) -> Vec<Json> {
        harness::objects(&self.args(args))
    }

    /// What a verb says that ends with this status and prints nothing.
    #[track_caller]
    fn refusal(&self, status: i32, args: &[&str]) -> String {
        let (out, err) = said(status, &self.args(args));
        assert_eq!(out, "", "{args:?}");
        err
    }

    fn sql(&self, sql: &str) {
        self.0.sql(sql);
    }
}

#[test]
fn queues_are_listed_with_what_waits_in_them() {
    let site = AtMidnight::new();
    assert_eq!(
        site.text(&["queue", "list"]),
        "no job waits in any queue, and none was ever paused\n"
    );
    let enqueue = |more: &[&str]| {
        site.text(&[&["enqueue", "reconcile-memberships", "--args", NULL_TENANT], more].concat())
    };
    enqueue(&["--queue", "mail"]);
    enqueue(&["--queue", "mail", "--at", "2026-01-02T00:00:00Z"]);
    enqueue(&["--at", "2026-01-03T00:00:00Z"]);
    site.text(&["queue", "pause", "empty"]);
    // After the last verb that opens the file to write: it would take the job back.
    site.sql(
        "UPDATE verger_jobs SET state = 'executing', attempt = 1, token = 1, claimed_by = 'x', lease_until = 1767312000000 WHERE id = 1",
    );
    let waits = |name: &str, paused: bool, waiting: u64, executing: u64, next: Json| json!({"name": name, "paused": paused, "waiting": waiting, "executing": executing, "next_due_at": next});
    let rows = [
        waits("default", false, 1, 0, json!("2026-01-03T00:00:00Z")),
        waits("empty", true, 0, 0, json!(null)),
        waits("mail", false, 1, 1, json!("2026-01-02T00:00:00Z")),
    ];
    assert_eq!(site.objects(&["queue", "list"]), rows);
    let table = site.text(&["queue", "list"]);
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "PAUSED", "WAITING", "EXECUTING", "NEXT", "DUE"]);
    assert_eq!(lines[2], ["empty", "yes", "0", "0", "-"]);
    assert_eq!(lines[3], ["mail", "-", "1", "1", "2026-01-02T00:00:00Z"]);
}

#[test]
fn a_paused_queue_waits_until_it_is_resumed() {
    let site = AtMidnight::new();
    site.text(&["enqueue", "reconcile-memberships", "--args", NULL_TENANT, "--queue", "mail"]);
    assert_eq!(
        site.text(&["queue", "pause", "mail"]),
        "queue mail is paused; 1 waiting job in it\n"
    );
    assert_eq!(
        site.objects(&["queue", "pause", "mail"])[0]["paused"],
        true,
        "paused again, it stays so"
    );
    site.text(&["tick"]);
    assert_eq!(site.objects(&["jobs", "list"])[0]["state"], "available");
    let said = site.refusal(2, &["queue", "resume", "mial"]);
    assert!(said.contains("the queue `mial` is not paused: paused are mail"), "{said}");
    assert_eq!(
        site.text(&["queue", "resume", "mail"]),
        "queue mail is resumed; 1 waiting job in it\n"
    );
    site.text(&["tick"]);
    assert_eq!(site.objects(&["jobs", "list"])[0]["state"], "completed");
    assert!(site.refusal(2, &["queue", "resume", "mail"]).contains("paused are none"));
}

#[test]
fn a_log_that_lost_its_newest_rows_or_its_oldest_says_so() {
    let site = AtMidnight::new();
    site.sql(
        "INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at)
         SELECT 'm' || value, 'o1', 'u1', 'active', 5, 0, 0 FROM json_each('[1,2,3,4]')",
    );
    site.text(&["run", "reconcile-memberships", "--args", NULL_TENANT]);
    let verified =
        json!({"verified": true, "rows": 4, "pruned": 0, "broken_at": null, "missing": null});
    assert_eq!(site.objects(&["audit", "verify"]), [verified]);
    assert_eq!(site.text(&["audit", "verify"]), "4 rows, the hash chain is whole\n");

    let copy = site.objects(&["audit", "export"]);
    assert_eq!(
        copy.iter().map(|row| row["id"].as_i64().unwrap()).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert_eq!(copy[0]["after"], json!({"state": "expired"}));
    assert_eq!(site.objects(&["audit", "export", "--after", "3"]), copy[3..]);
    assert_eq!(
        site.text(&["audit", "export", "--after", "3"]).lines().count(),
        1,
        "one object a line, with --json or without"
    );
    assert_eq!(site.text(&["audit", "export", "--after", "4"]), "");

    // As retention leaves it.
    site.sql(
        "UPDATE verger_audit_anchor SET id = 1, hash = (SELECT hash FROM verger_audit WHERE id = 1); DELETE FROM verger_audit WHERE id = 1",
    );
    assert_eq!(
        site.text(&["audit", "verify"]),
        "3 rows, the hash chain is whole; retention removed 1 row before them\n"
    );
    assert_eq!(site.objects(&["audit", "verify"])[0]["pruned"], 1);

    site.sql("DROP TRIGGER verger_audit_no_delete; DELETE FROM verger_audit WHERE id > 2");
    let output = site.verger(&["audit", "verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let told: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        told,
        json!({"verified": false, "rows": null, "pruned": null, "broken_at": 3, "missing": 2})
    );
    let said = site.refusal(1, &["audit", "verify"]);
    assert!(
        said.contains(
            "the newest 2 rows of the audit log are missing: rows 3 to 4 were written, and removed"
        ),
        "{said}"
    );
    assert_eq!(copy[2]["hash"].as_str().unwrap().len(), 64, "the copy has them, and their hashes");
}
