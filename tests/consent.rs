//! What a dropped-in worker may do is decided by a person, once, while the app runs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::path::PathBuf;

use common::{TABLES, puppet_as};
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger, capture_logs};
use verger::{
    AuditFilter, Builder, Consent, ConsentState, Error, Grant, GrantDecision, JobId, JobState,
    NewJob, PerformError, PluginError, Verger,
};

const START: verger::Timestamp = TestVerger::START;

/// A component of this version that asks for these verbs on the table `things`, and for these
/// functions of the app.
fn acme(version: &str, verbs: &[&str], capabilities: &[&str]) -> Vec<u8> {
    let reason = "to count";
    let tables = if verbs.is_empty() {
        json!([])
    } else {
        json!([{"table": "things", "verbs": verbs, "reason": reason}])
    };
    puppet_as(&json!({
        "name": "acme", "version": version, "args": {"do": {"default": []}},
        "tables": tables, "capabilities": capabilities, "reasons": {"echo": "to talk"},
    }))
}

struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(site.path("plugins")).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn drop_in(&self, bytes: &[u8]) {
        std::fs::write(self.path("new"), bytes).unwrap();
        std::fs::rename(self.path("new"), self.path("plugins/acme.wasm")).unwrap();
    }

    fn builder(&self) -> Builder {
        Verger::builder(self.path("app.db"))
            .without_built_ins()
            .plugins(self.path("plugins"))
            .capability("echo", |_| Ok(Json::Null))
    }

    fn open(&self) -> TestVerger {
        TestVerger::open(self.builder(), &ManualClock::at(START)).unwrap()
    }
}

fn insert() -> NewJob {
    let steps =
        json!({"do": [["must", ["execute", "INSERT INTO things (name) VALUES ('a')", []]]]});
    NewJob::new("acme", steps)
}

fn state(test: &TestVerger, id: JobId) -> (JobState, u32, bool) {
    let job = test.job(id).unwrap().unwrap();
    (job.state, job.attempt, job.parked)
}

fn consent(verger: &Verger) -> Consent {
    verger.consent("acme").unwrap().unwrap()
}

fn version(verger: &Verger) -> Option<String> {
    verger.manifest("acme").ok().map(|manifest| manifest.version)
}

const WAITS: (JobState, u32, bool) = (JobState::Available, 0, true);
const DONE: (JobState, u32, bool) = (JobState::Completed, 1, false);

#[test]
fn a_worker_waits_with_its_jobs_until_somebody_lets_it_do_what_it_asks_for() {
    let site = Site::new();
    site.drop_in(&acme("1", &["read", "insert"], &["echo"]));
    let test = site.open();
    test.sql(TABLES);
    let id = test.enqueue(insert().max_attempts(1)).unwrap().id;
    test.drain();
    assert_eq!(state(&test, id), WAITS);
    let refused = test.refused_plugins();
    assert!(matches!(refused[..], [PluginError::Waits { .. }]), "{refused:?}");
    let said = refused[0].to_string();
    for phrase in ["capability echo, insert things, read things", "verger plugin approve acme"] {
        let sorted = "read things, insert things, capability echo";
        assert!(said.contains(phrase) || said.contains(sorted), "{said}");
    }
    // Called directly, it has what it is granted: nothing.
    let error = test.perform_now("acme", insert_args()).unwrap_err();
    assert!(matches!(error, PerformError::Failed { .. }), "{error}");

    let asked = consent(&test);
    assert_eq!((asked.state, asked.asks.len()), (ConsentState::Waiting, 3));
    let text = asked.to_string();
    for line in [
        "It reads rows of the table things: to count. (not decided)",
        "It adds rows to the table things: to count. (not decided)",
        "It calls the function `echo` of the app: to talk. (not decided)",
    ] {
        assert!(text.contains(line), "{text}");
    }

    let approved = test.approve("acme", "ann").unwrap();
    assert_eq!(approved.state, ConsentState::Granted);
    assert!(test.refused_plugins().is_empty());
    test.drain();
    assert_eq!(state(&test, id), DONE);
    let grants = test.grants().unwrap();
    assert_eq!(grants.len(), 3);
    for row in &grants {
        assert_eq!((row.decision, row.decided_by.as_str()), (Some(GrantDecision::Granted), "ann"));
        assert_eq!((&row.digest, row.decided_at), (&asked.digest, START));
    }
    // It holds after a start, and in another process.
    let again = site.open();
    assert_eq!(consent(&again).state, ConsentState::Granted);
    assert!(again.refused_plugins().is_empty());

    test.revoke("acme", "bob").unwrap();
    let id = test.enqueue(insert()).unwrap().id;
    test.drain();
    again.drain();
    assert_eq!((state(&test, id), state(&again, id)), (WAITS, WAITS));
    assert!(matches!(again.refused_plugins()[..], [PluginError::Denied { .. }]));
    test.approve("acme", "ann").unwrap();
    again.drain();
    assert_eq!(state(&again, id), DONE);

    let audited = test.audit_log(&AuditFilter::default(), 10).unwrap();
    let told: Vec<_> =
        audited.iter().map(|row| (row.action.as_str(), row.actor_id.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("plugin.approved", Some("ann")),
            ("plugin.revoked", Some("bob")),
            ("plugin.approved", Some("ann"))
        ]
    );
    test.verify_audit().unwrap();
}

fn insert_args() -> Json {
    json!({"do": [["must", ["execute", "INSERT INTO things (name) VALUES ('a')", []]]]})
}

#[test]
fn a_new_version_that_asks_for_no_more_keeps_its_grant_and_one_that_asks_for_more_waits() {
    let site = Site::new();
    site.drop_in(&acme("1", &["read", "insert"], &[]));
    let test = site.open();
    test.sql(TABLES);
    test.approve("acme", "ann").unwrap();
    site.drop_in(&acme("2", &["insert"], &[]));
    test.tick(START).unwrap();
    assert_eq!((version(&test).as_deref(), test.refused_plugins().len()), (Some("2"), 0));
    site.drop_in(&acme("3", &["read", "insert", "delete"], &[]));
    test.tick(START).unwrap();
    assert_eq!(version(&test).as_deref(), Some("2"));
    assert!(matches!(test.refused_plugins()[..], [PluginError::Waits { .. }]));
    let asked = consent(&test);
    assert_eq!((asked.version.as_str(), asked.state), ("3", ConsentState::Waiting));
    assert_eq!(asked.missing().map(|ask| ask.what.as_str()).collect::<Vec<_>>(), ["delete things"]);
    let id = test.enqueue(insert()).unwrap().id;
    test.drain();
    assert_eq!(state(&test, id), DONE);
    assert_eq!(test.job(id).unwrap().unwrap().worker_version.as_deref(), Some("2"));
    drop(test);
    // The version that runs is there after a start too, although its file is gone.
    let test = site.open();
    assert_eq!((version(&test).as_deref(), consent(&test).version.as_str()), (Some("2"), "3"));
    let id = test.enqueue(insert()).unwrap().id;
    test.drain();
    assert_eq!(test.job(id).unwrap().unwrap().worker_version.as_deref(), Some("2"));

    let denied = test.deny("acme", "bob").unwrap();
    assert_eq!((denied.version.as_str(), denied.state), ("3", ConsentState::Denied));
    assert_eq!(version(&test).as_deref(), Some("2"));
    let said = test.refused_plugins()[0].to_string();
    assert!(said.contains("delete things (denied by bob)"), "{said}");
    assert!(matches!(test.deny("nobody", "bob"), Err(Error::Consent { .. })));
    // What a person was shown is what they approve.
    let shown = consent(&test).digest;
    site.drop_in(&acme("4", &["read", "insert", "delete", "update"], &[]));
    test.tick(START).unwrap();
    let error = test.approve_digest("acme", &shown, "ann").unwrap_err();
    assert!(error.to_string().contains("it is version 4 now"), "{error}");
    test.approve_digest("acme", &consent(&test).digest, "ann").unwrap();
    assert_eq!((version(&test).as_deref(), test.refused_plugins().len()), (Some("4"), 0));
}

#[test]
fn what_the_apps_code_grants_holds() {
    let site = Site::new();
    site.drop_in(&acme("1", &["insert"], &[]));
    let by_name = site.builder().grant("acme", Grant::new().insert("things"));
    let for_all = site.builder().grant_plugins(Grant::as_declared());
    for builder in [by_name, for_all] {
        let test = TestVerger::open(builder, &ManualClock::at(START)).unwrap();
        let _ = test.connection().execute_batch(TABLES);
        let id = test.enqueue(insert()).unwrap().id;
        test.drain();
        assert_eq!(state(&test, id), DONE);
        assert_eq!(consent(&test).state, ConsentState::ByTheApp);
        let error = test.approve("acme", "ann").unwrap_err();
        assert!(error.to_string().contains("the app's code grants it"), "{error}");
    }
    let test = site.open();
    assert!(matches!(test.approve("acme", " "), Err(Error::Consent { .. })));
    assert!(matches!(test.revoke("acme", "ann"), Err(Error::Consent { .. })));
    assert_eq!(test.consent("nobody").unwrap(), None);
}

#[test]
fn an_approved_worker_is_confined_as_the_app_says() {
    let site = Site::new();
    site.drop_in(&acme("1", &["read"], &[]));
    let base = Grant::new().tenant_column("organization_id");
    let builder = site.builder().approved_plugins(base);
    let test = TestVerger::open(builder, &ManualClock::at(START)).unwrap();
    test.sql("CREATE TABLE things (id INTEGER, organization_id TEXT); INSERT INTO things VALUES (1, 'a'), (2, 'b')");
    test.approve("acme", "ann").unwrap();
    let steps = json!([["query", "SELECT id FROM things", []]]);
    let args = json!({"organization_id": "b", "actor_id": null, "do": steps});
    let id = test.enqueue(NewJob::new("acme", args)).unwrap().id;
    test.drain();
    let job = test.job(id).unwrap().unwrap();
    assert_eq!(job.state, JobState::Completed, "{job:?}");
    let found = job.result.unwrap().to_string();
    assert!(found.contains('2') && !found.contains('1'), "{found}");
}

#[test]
fn no_worker_writes_its_own_grant() {
    let site = Site::new();
    let asks = puppet_as(&json!({
        "name": "acme", "version": "1", "args": {"do": {"default": []}},
        "tables": [{"table": "verger_grants", "verbs": ["read", "insert", "update", "delete"]},
                   {"table": "verger_plugins", "verbs": ["read", "update"]}],
    }));
    // It may not even ask.
    site.drop_in(&asks);
    let test = site.open();
    assert!(matches!(test.refused_plugins()[..], [PluginError::Manifest { .. }]));
    site.drop_in(&acme("1", &["read", "insert", "update", "delete"], &[]));
    test.refresh_plugins().unwrap();
    test.approve("acme", "ann").unwrap();
    let before = test.grants().unwrap();
    for sql in [
        "INSERT INTO verger_grants VALUES ('acme', 'read users', '', 'granted', 'me', 0)",
        "INSERT OR REPLACE INTO main.verger_grants VALUES ('acme', 'read users', '', 'granted', 'me', 0)",
        "UPDATE verger_grants SET decision = 'granted'",
        "DELETE FROM verger_grants",
        "UPDATE verger_plugins SET withdrawn = NULL",
        "SELECT * FROM verger_grants",
        "SELECT bytes FROM verger_plugin_code",
        "UPDATE verger_plugin_versions SET manifest = '{}'",
        "CREATE TRIGGER t AFTER INSERT ON verger_grants BEGIN SELECT 1; END",
    ] {
        let answer = test.perform_now("acme", json!({"do": [["execute", sql, []]]})).unwrap();
        let said = answer.result().unwrap().to_string();
        assert!(said.contains("denied"), "{sql}: {said}");
    }
    assert_eq!(test.grants().unwrap(), before);
}

#[test]
fn a_row_written_by_hand_that_says_nothing_usable_is_told_of_and_the_others_hold() {
    let site = Site::new();
    site.drop_in(&acme("1", &["insert"], &[]));
    let test = site.open();
    test.sql(TABLES);
    test.approve("acme", "ann").unwrap();
    let (_, lines) = capture_logs(|| {
        test.sql(
            "INSERT INTO verger_grants VALUES ('acme', 'everything', '', 'granted', 'x', 0), ('acme', CAST(X'ff20ff' AS TEXT), '', 'granted', 'x', 0);
             PRAGMA ignore_check_constraints = ON;
             INSERT INTO verger_grants VALUES ('acme', 'read things', '', 'sure', 'x', 0)",
        );
        test.tick(START).unwrap();
    });
    let told = lines.iter().filter(|line| line.message.contains("verger_grants grants nothing"));
    assert_eq!(told.count(), 3, "{lines:#?}");
    let grants = test.grants().unwrap();
    assert_eq!(grants.iter().filter(|row| row.problem.is_some()).count(), 3, "{grants:#?}");
    let id = test.enqueue(insert()).unwrap().id;
    test.drain();
    assert_eq!(state(&test, id), DONE);
}

#[test]
fn a_version_that_was_rolled_back_runs_again_when_it_is_approved() {
    let site = Site::new();
    site.drop_in(&acme("1", &["insert"], &[]));
    let test = site.open();
    test.sql(TABLES);
    test.approve("acme", "ann").unwrap();
    site.drop_in(&acme("2", &["insert"], &[]));
    test.tick(START).unwrap();
    test.rollback_plugin("acme").unwrap();
    let asked = consent(&test);
    assert_eq!((asked.version.as_str(), asked.state), ("2", ConsentState::RolledBack));
    assert_eq!(version(&test).as_deref(), Some("1"));
    test.approve("acme", "ann").unwrap();
    assert_eq!((version(&test).as_deref(), test.refused_plugins().len()), (Some("2"), 0));
    // A name that is freed takes no grant along.
    test.forget_plugin("acme").unwrap();
    assert!(test.grants().unwrap().is_empty());
}
