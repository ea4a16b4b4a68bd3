//! The whole path: a schedule falls due, a job is enqueued, a component performs it, and everything
//! commits together.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use serde_json::json;
use verger::testing::ManualClock;
use verger::{
    AttemptOutcome, AuditFilter, CompileCache, FireOutcome, JobFilter, JobState, Schedule,
    Timestamp, Verger,
};

const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

#[test]
fn a_due_schedule_becomes_rows_audit_and_a_completed_job() {
    let clock = ManualClock::at(NOW);
    let cache = tempfile::tempdir().unwrap();
    let verger = Verger::in_memory()
        .clock(clock.clone())
        .compile_cache(CompileCache::Folder(cache.path().to_path_buf()))
        .schedule(
            Schedule::every("memberships", Duration::from_secs(300))
                .unwrap()
                .worker("reconcile-memberships")
                .args(json!({"organization_id": null, "actor_id": null})),
        )
        .open()
        .unwrap();
    verger.migrate_reference().unwrap();
    let app = verger.connect().unwrap();
    app.execute_batch(
        "INSERT INTO organizations (id, name, created_at) VALUES ('o1', 'One', 0);
         INSERT INTO memberships (id, organization_id, user_id, role, state, expires_at, created_at, updated_at)
         VALUES ('m1', 'o1', 'u1', 'member', 'active', 5, 0, 0), ('m2', 'o1', 'u2', 'member', 'active', NULL, 0, 0);",
    )
    .unwrap();
    let report = verger.tick(verger.now()).unwrap();
    assert!(report.fired.is_empty() && report.attempts.is_empty());
    assert_eq!(report.next_wake_at, Some(NOW + Duration::from_secs(300)));

    clock.advance(Duration::from_secs(300));
    let report = verger.tick(verger.now()).unwrap();
    assert!(matches!(report.fired[0].outcome, FireOutcome::Enqueued(_)), "{report:?}");
    assert_eq!(
        report.attempts[0].outcome,
        AttemptOutcome::Completed(Some(json!({"scanned": 1, "updated": 1, "errors": 0})))
    );
    let state: String = app
        .query_row("SELECT state FROM memberships WHERE id = 'm1'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(state, "expired");
    let log = verger.audit_log(&AuditFilter::default(), 10).unwrap();
    assert_eq!(log[0].action, "membership.updated");
    assert_eq!(log[0].organization_id.as_deref(), Some("o1"));
    assert_eq!(log[0].worker.as_deref(), Some("reconcile-memberships"));
    let jobs = verger.jobs(&JobFilter::default(), 10).unwrap();
    assert_eq!(jobs[0].state, JobState::Completed);
    assert_eq!(verger.verify_audit().unwrap().rows, 1);
}
