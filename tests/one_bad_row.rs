//! One row that cannot be changed does not keep a sweep from the others, in whatever way the app's
//! own schema refuses it. A dry run reports what the run would.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use cleanup_expired_invitations::CleanupExpiredInvitations;
use reconcile_memberships::ReconcileMemberships;
use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;
use verger::{AuditFilter, PerformError, assert_audited};

const INVITATIONS: &str = "cleanup-expired-invitations";
const MEMBERSHIPS: &str = "reconcile-memberships";

/// The components, and the same code as a part of the app.
fn both() -> [TestVerger; 2] {
    let native = TestVerger::with(|builder| {
        builder.without_built_ins().worker(CleanupExpiredInvitations).worker(ReconcileMemberships)
    });
    [TestVerger::new().reference_tables(), native.reference_tables()]
}

/// Ways to refuse the rows whose id begins with `bad`, when they are deleted or updated.
fn ways() -> Vec<(&'static str, String)> {
    let trigger = |when: &str, how: &str| {
        let of = |name: &str, event: &str, table: &str| {
            format!(
                "CREATE TRIGGER {name} {when} {event} ON {table} WHEN OLD.id LIKE 'bad%' BEGIN SELECT RAISE({how}, 'kept by the app'); END;"
            )
        };
        of("keep_i", "DELETE", "organization_invitations") + &of("keep_m", "UPDATE", "memberships")
    };
    let mut ways = vec![(
        "a foreign key that is checked at the commit",
        "CREATE TABLE notes (invitation TEXT REFERENCES organization_invitations (id) DEFERRABLE INITIALLY DEFERRED,
            state TEXT, member TEXT, FOREIGN KEY (member, state) REFERENCES memberships (id, state) DEFERRABLE INITIALLY DEFERRED);
         CREATE UNIQUE INDEX memberships_state ON memberships (id, state);
         INSERT INTO notes SELECT id, NULL, NULL FROM organization_invitations WHERE id LIKE 'bad%';
         INSERT INTO notes SELECT NULL, state, id FROM memberships WHERE id LIKE 'bad%';"
            .to_string(),
    )];
    for how in ["ABORT", "FAIL", "ROLLBACK"] {
        ways.push(("a trigger before it", trigger("BEFORE", how)));
        ways.push(("a trigger after it", trigger("AFTER", how)));
    }
    ways
}

const IDS: [&str; 7] = ["bad1", "a", "b", "bad2", "bad3", "c", "d"];

fn fill(test: &TestVerger) {
    for (place, id) in IDS.iter().enumerate() {
        test.sql(&format!(
            "INSERT INTO organization_invitations (id, organization_id, email, created_at, expires_at) VALUES ('{id}', 'o', 'e', 0, {place});
             INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at) VALUES ('{id}', 'o', 'u', 'active', {place}, 0, 0);"
        ));
    }
}

fn ids(test: &TestVerger, rest: &str) -> String {
    test.one(&format!(
        "SELECT coalesce(group_concat(id, ' '), '') FROM (SELECT id FROM {rest} ORDER BY id)"
    ))
}

#[test]
fn a_row_that_is_refused_in_any_way_is_counted_and_audited_and_the_others_go_through() {
    for (what, sql) in ways() {
        for batch in [1, 2, 3, 1000] {
            for test in both() {
                fill(&test);
                test.sql(&sql);
                let what = format!("{what}, batches of {batch}: {sql}");
                let args = json!({"organization_id": null, "actor_id": null, "batch_size": batch});
                let invitations = json!({"deleted": 4, "errors": 3});
                let memberships = json!({"scanned": 7, "updated": 4, "errors": 3});
                for (worker, expected, changed) in
                    [(INVITATIONS, invitations, 4), (MEMBERSHIPS, memberships, 4)]
                {
                    let dry = test.dry_run(worker, args.clone()).unwrap();
                    assert_eq!(dry.result(), Some(&expected), "dry, {what}");
                    assert_eq!(dry.rows_changed, changed, "dry, {what}");
                    let done = test.perform_now(worker, args.clone()).unwrap();
                    assert_eq!(done.result(), Some(&expected), "{what}");
                    assert_eq!(done.rows_changed, changed, "{what}");
                    if worker == INVITATIONS {
                        assert_eq!(
                            ids(&test, "organization_invitations"),
                            "bad1 bad2 bad3",
                            "{what}"
                        );
                    } else {
                        assert_eq!(
                            ids(&test, "memberships WHERE state = 'active'"),
                            "bad1 bad2 bad3",
                            "{what}"
                        );
                    }
                }
                for kind in ["organization_invitation", "membership"] {
                    for id in ["bad1", "bad2", "bad3"] {
                        assert_audited!(test, outcome: "error", organization: "o", subject: (kind, id));
                    }
                }
                let errors = test.audit_log(&AuditFilter::default(), u32::MAX).unwrap();
                assert_eq!(errors.iter().filter(|row| row.outcome == "error").count(), 6, "{what}");
                test.verify_audit().unwrap();
            }
        }
    }
}

#[test]
fn rows_that_refer_to_each_other_go_together() {
    for test in both() {
        test.sql(
            "CREATE TABLE chained (id TEXT PRIMARY KEY, organization_id TEXT, accepted_at INTEGER, expires_at INTEGER,
                 parent TEXT REFERENCES chained (id) DEFERRABLE INITIALLY DEFERRED);
             INSERT INTO chained VALUES ('a', 'o', NULL, 1, NULL), ('b', 'o', NULL, 2, 'a'), ('c', 'o', NULL, 3, 'b'), ('kept', 'o', 1, 3, 'x1'),
                 ('x1', 'o', NULL, 4, NULL);",
        );
        let args = json!({"organization_id": null, "actor_id": null, "table": "chained"});
        let done = test.perform_now(INVITATIONS, args).unwrap();
        assert_eq!(done.result(), Some(&json!({"deleted": 3, "errors": 1})));
        assert_eq!(ids(&test, "chained"), "kept x1");
    }
}

/// Runs the statements of its args, one after the other.
struct Script;

impl Worker for Script {
    fn manifest(&self) -> Manifest {
        Manifest::new("script", "1.0.0")
            .arg("sql", ArgSpec::required())
            .table(TableAsk::named("parents").read().insert().update().delete())
            .table(TableAsk::named("children").read().insert().update().delete())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let mut said = Vec::new();
        for sql in args.get::<Vec<String>>("sql")? {
            match job.execute(&sql, params![]) {
                Ok(changed) => said.push(json!(changed)),
                Err(error) if error.concerns_one_row() => said.push(json!(error.code)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Outcome::DoneWith(json!(said)))
    }
}

fn families() -> TestVerger {
    let test = TestVerger::with(|builder| builder.without_built_ins().worker(Script));
    test.sql(
        "CREATE TABLE parents (id INTEGER PRIMARY KEY);
         CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED);
         CREATE TRIGGER seven AFTER INSERT ON parents WHEN NEW.id = 7 BEGIN SELECT RAISE(FAIL, 'no seven'); END;",
    );
    test
}

fn script(test: &TestVerger, sql: &[&str]) -> [Result<Json, PerformError>; 2] {
    let args = json!({ "sql": sql });
    [test.dry_run("script", args.clone()), test.perform_now("script", args)]
        .map(|done| done.map(|done| done.result().cloned().unwrap_or_default()))
}

#[test]
fn a_worker_may_write_children_before_parents_and_is_told_what_its_commit_would_be_refused_for() {
    let test = families();
    let told =
        script(&test, &["INSERT INTO children VALUES (1, 1)", "INSERT INTO parents VALUES (1)"]);
    told.into_iter().for_each(|said| assert_eq!(said.unwrap(), json!([1, 1])));
    for said in script(&test, &["INSERT INTO children VALUES (2, 99)"]) {
        let error = said.unwrap_err().to_string();
        assert!(error.contains("FOREIGN KEY constraint failed"), "{error}");
    }
    assert_eq!(test.one::<i64>("SELECT count(*) FROM children"), 1);
}

#[test]
fn nothing_of_a_statement_that_failed_stays() {
    let test = families();
    for said in script(
        &test,
        &["INSERT INTO parents VALUES (5), (6), (7), (8)", "INSERT INTO parents VALUES (9)"],
    ) {
        assert_eq!(said.unwrap(), json!(["constraint", 1]));
    }
    assert_eq!(ids(&test, "parents"), "9");
}
