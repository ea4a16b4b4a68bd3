//! The built-in sweeps on tables as apps have them: ids of every type, unique only within a tenant
//! or missing, and times in every form. A table in another form than the args say is refused
//! untouched.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use cleanup_expired_invitations::CleanupExpiredInvitations;
use reconcile_memberships::ReconcileMemberships;
use reconcile_webhook_events::ReconcileWebhookEvents;
use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::{AuditFilter, PerformError};

const NOW: i64 = TestVerger::START.as_millis();
const INVITATIONS: &str = "cleanup-expired-invitations";
const MEMBERSHIPS: &str = "reconcile-memberships";
const WEBHOOKS: &str = "reconcile-webhook-events";

/// The components, and the same code as a part of the app.
fn both() -> [TestVerger; 2] {
    let native = TestVerger::with(|builder| {
        builder
            .without_built_ins()
            .worker(CleanupExpiredInvitations)
            .worker(ReconcileMemberships)
            .worker(ReconcileWebhookEvents)
    });
    [TestVerger::new(), native]
}

fn run(test: &TestVerger, worker: &str, more: Json) -> Result<Json, PerformError> {
    let mut args = json!({"organization_id": null, "actor_id": null});
    args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let dry = test.dry_run(worker, args.clone()).map(|dry| dry.result().cloned());
    let done = test.perform_now(worker, args).map(|done| done.result().cloned().unwrap());
    assert_eq!(dry.ok().flatten().as_ref(), done.as_ref().ok(), "the dry run says the same");
    done
}

/// Subjects and organizations of the audit log, in order.
fn audited(test: &TestVerger) -> Vec<(Option<String>, Option<String>)> {
    let mut rows: Vec<_> = test
        .audit_log(&AuditFilter::default(), u32::MAX)
        .unwrap()
        .into_iter()
        .map(|row| (row.subject_id, row.organization_id))
        .collect();
    rows.sort();
    rows
}

/// SQL of an id, how the audit log writes it, and column types that keep it.
const IDS: [(&str, &str, &[&str]); 7] = [
    ("'a''b'", "a'b", &["TEXT", "", "BLOB"]),
    ("7", "7", &["INTEGER", "", "NUMERIC", "BLOB"]),
    ("9007199254740993", "9007199254740993", &["INTEGER", "", "NUMERIC"]),
    ("-9223372036854775808", "-9223372036854775808", &["INTEGER", ""]),
    ("0.1", "0.1", &["REAL", "", "NUMERIC"]),
    ("x'00ff7f'", "x'00ff7f'", &["BLOB", ""]),
    ("'007'", "007", &["TEXT", "", "BLOB"]),
];

#[test]
fn ids_of_every_type_are_swept_for_all_and_for_one_and_stand_in_the_log_as_they_are() {
    for test in both() {
        for (id, written, types) in IDS {
            for of_type in types {
                for (batch, organization) in [(1, None), (1000, Some(written))] {
                    test.sql(&format!(
                        "DROP TABLE IF EXISTS m; DROP TABLE IF EXISTS i;
                         CREATE TABLE m (id {of_type}, organization_id {of_type}, state TEXT, expires_at INTEGER, PRIMARY KEY (organization_id, id));
                         CREATE TABLE i (id {of_type}, organization_id {of_type}, accepted_at INTEGER, expires_at INTEGER, PRIMARY KEY (organization_id, id));
                         CREATE TRIGGER keep BEFORE DELETE ON i BEGIN SELECT RAISE(ABORT, 'kept'); END;
                         INSERT INTO m VALUES ({id}, {id}, 'active', 1);
                         INSERT INTO i VALUES ({id}, {id}, NULL, 1);"
                    ));
                    let what = format!("{id} {of_type} {organization:?}");
                    let more = |table: &str| json!({"table": table, "batch_size": batch, "organization_id": organization});
                    let before = audited(&test).len();
                    let done = run(&test, MEMBERSHIPS, more("m")).unwrap();
                    assert_eq!(done, json!({"scanned": 1, "updated": 1, "errors": 0}), "{what}");
                    let done = run(&test, INVITATIONS, more("i")).unwrap();
                    assert_eq!(done, json!({"deleted": 0, "errors": 1}), "{what}");
                    let rows = test.audit_log(&AuditFilter::default(), 2).unwrap();
                    for row in rows {
                        assert_eq!(row.subject_id.as_deref(), Some(written), "{what}");
                        assert_eq!(row.organization_id.as_deref(), Some(written), "{what}");
                    }
                    assert_eq!(audited(&test).len(), before + 2);
                }
            }
        }
        test.verify_audit().unwrap();
    }
}

#[test]
fn rows_alike_but_for_their_tenant_or_without_an_id_are_swept_wherever_a_batch_ends() {
    for test in both() {
        for rowid in ["", "WITHOUT ROWID"] {
            for batch in [1, 2, 3, 1000] {
                // Only a table with a rowid has NULL in its key.
                let missing = if rowid.is_empty() {
                    ", (NULL, 'a'), (NULL, 'a'), (NULL, NULL), (1, NULL)"
                } else {
                    ""
                };
                let count = if rowid.is_empty() { 10 } else { 6 };
                test.sql(&format!(
                    "DROP TABLE IF EXISTS m; DROP TABLE IF EXISTS i;
                     CREATE TABLE keys (id, organization_id); INSERT INTO keys VALUES (1, 'a'), (1, 'b'), (1, 'c'), (2, 'a'), (x'01', 'a'), ('1', 'a'){missing};
                     CREATE TABLE m (id, organization_id, state TEXT, expires_at INTEGER, PRIMARY KEY (organization_id, id)) {rowid};
                     CREATE TABLE i (id, organization_id, accepted_at INTEGER, expires_at INTEGER, PRIMARY KEY (organization_id, id)) {rowid};
                     INSERT INTO m SELECT id, organization_id, 'active', 5 FROM keys;
                     INSERT INTO i SELECT id, organization_id, NULL, 5 FROM keys;
                     DROP TABLE keys;"
                ));
                let what = format!("{rowid} {batch}");
                let done =
                    run(&test, MEMBERSHIPS, json!({"table": "m", "batch_size": batch})).unwrap();
                assert_eq!(
                    (&done["updated"], &done["errors"]),
                    (&json!(count), &json!(0)),
                    "{what}"
                );
                assert_eq!(test.one::<i64>("SELECT count(*) FROM m WHERE state = 'active'"), 0);
                let done =
                    run(&test, INVITATIONS, json!({"table": "i", "batch_size": batch})).unwrap();
                assert_eq!(done, json!({"deleted": count}), "{what}");
                assert_eq!(test.one::<i64>("SELECT count(*) FROM i"), 0, "{what}");
            }
        }
    }
}

const WEBHOOK_TABLES: &str = "
    DROP TABLE IF EXISTS webhook_events; DROP TABLE IF EXISTS deliveries;
    CREATE TABLE webhook_events (id $ID, organization_id TEXT NOT NULL, delivery_id $TYPE, type TEXT, provider TEXT, payload TEXT DEFAULT '{}',
        metadata TEXT DEFAULT '{}', needs_reconciliation INTEGER DEFAULT 0, idempotency_key TEXT, occurred_at INTEGER, inserted_at INTEGER $KEY);
    CREATE UNIQUE INDEX once ON webhook_events (organization_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
    CREATE TABLE deliveries (id $TYPE, organization_id TEXT, provider TEXT, provider_message_id TEXT, status TEXT DEFAULT 'sent',
        terminal INTEGER DEFAULT 0, sent_at, delivered_at, opened_at, clicked_at, bounced_at, complained_at, failed_at,
        lock_version INTEGER DEFAULT 0, updated_at INTEGER, PRIMARY KEY (organization_id, id));";

#[test]
fn webhook_events_of_two_tenants_with_one_id_are_each_reconciled_once_whatever_the_type_of_ids() {
    let cases = [
        ("TEXT", "TEXT", ", PRIMARY KEY (organization_id, id)", ["'e'", "'e'"]),
        ("BLOB", "BLOB", ", PRIMARY KEY (organization_id, id)", ["x'00e1'", "x'00e1'"]),
        ("INTEGER PRIMARY KEY", "INTEGER", "", ["9007199254740993", "9007199254740994"]),
        ("REAL", "REAL", "", ["0.1", "0.1"]),
    ];
    for test in both() {
        for (id, of_type, key, ids) in cases {
            test.sql(
                &WEBHOOK_TABLES.replace("$ID", id).replace("$TYPE", of_type).replace("$KEY", key),
            );
            for (organization, id) in ["a", "b"].into_iter().zip(ids) {
                test.sql(&format!(
                    "INSERT INTO webhook_events (id, organization_id, type, metadata, needs_reconciliation, occurred_at, inserted_at)
                     VALUES ({id}, '{organization}', 'delivered', '{{\"provider\":\"p\",\"provider_message_id\":\"m\"}}', 1, 1, {NOW} - 100000);
                     INSERT INTO deliveries (id, organization_id, provider, provider_message_id) VALUES ({id}, '{organization}', 'p', 'm');"
                ));
            }
            for _ in 0..2 {
                for organization in ["a", "b"] {
                    run(&test, WEBHOOKS, json!({"organization_id": organization, "batch_size": 1}))
                        .unwrap();
                }
                run(&test, WEBHOOKS, json!({"batch_size": 1})).unwrap();
                let delivered = "SELECT group_concat(status || lock_version) FROM deliveries";
                assert_eq!(test.one::<String>(delivered), "delivered1,delivered1", "{of_type}");
                let events = "SELECT count(*) || ' ' || count(DISTINCT organization_id) FROM webhook_events WHERE type = 'reconciled'";
                assert_eq!(test.one::<String>(events), "2 2", "{of_type}");
            }
            let other_type = format!(
                "SELECT count(*) FROM webhook_events WHERE typeof(id) <> (SELECT typeof({}))",
                ids[0]
            );
            let expected = if of_type == "REAL" { 2 } else { 0 };
            assert_eq!(
                test.one::<i64>(&other_type),
                expected,
                "{of_type}: what is appended has ids like the others"
            );
        }
    }
}

const YEAR: i64 = 365 * 86_400;

/// A column type, times as SQL, `timestamps`, and what to set instead, if it is refused.
fn forms() -> Vec<(&'static str, [String; 2], &'static str, Option<&'static str>)> {
    let seconds = |at: i64| (NOW / 1000 + at).to_string();
    let past = -YEAR;
    vec![
        ("INTEGER", [seconds(past), seconds(YEAR)], "unix_ms", Some("unix_s")),
        ("INTEGER", [seconds(past), seconds(past)], "unix_ms", Some("unix_s")),
        ("", [format!("{}.5", seconds(past)), seconds(YEAR)], "unix_ms", Some("unix_s")),
        (
            "INTEGER",
            [format!("{}000", seconds(past)), format!("{}000", seconds(YEAR))],
            "unix_s",
            Some("unix_ms"),
        ),
        ("TEXT", ["'2024-01-01'".into(), "'2027-01-01'".into()], "unix_ms", Some("iso8601")),
        ("TEXT", ["'2024-01-01'".into(), "'2027-01-01'".into()], "unix_s", Some("iso8601")),
        ("INTEGER", [seconds(past), seconds(YEAR)], "iso8601", Some("unix_s")),
        ("INTEGER", [seconds(past), seconds(YEAR)], "unix_s", None),
        ("", [format!("{}.5", seconds(past)), format!("{}.25", seconds(YEAR))], "unix_s", None),
        (
            "INTEGER",
            [format!("{}000", seconds(past)), format!("{}000", seconds(YEAR))],
            "unix_ms",
            None,
        ),
        ("INTEGER", [format!("{}000", seconds(past)), i64::MAX.to_string()], "unix_ms", None),
        ("INTEGER", [seconds(past), i64::MAX.to_string()], "unix_s", None),
        ("TEXT", ["'2024-01-01T00:00:00Z'".into(), "'2027-01-01'".into()], "iso8601", None),
    ]
}

#[test]
fn a_table_that_keeps_time_in_another_form_is_refused_by_name_and_nothing_in_it_changes() {
    for test in both() {
        for (of_type, [past, future], form, instead) in forms() {
            test.sql(&format!(
                "DROP TABLE IF EXISTS m; DROP TABLE IF EXISTS i;
                 CREATE TABLE m (id TEXT, organization_id TEXT, state TEXT, expires_at {of_type});
                 CREATE TABLE i (id TEXT, organization_id TEXT, accepted_at INTEGER, expires_at {of_type});
                 {}{}",
                WEBHOOK_TABLES.replace("$ID", "TEXT").replace("$TYPE", "TEXT").replace("$KEY", "").replace("inserted_at INTEGER", &format!("inserted_at {of_type}")),
                "",
            ));
            let what = format!("{of_type} {past} {future} as {form}");
            let more = |table: &str| json!({"table": table, "timestamps": form});
            // Without rows any form will do.
            for (worker, table) in
                [(MEMBERSHIPS, "m"), (INVITATIONS, "i"), (WEBHOOKS, "webhook_events")]
            {
                run(&test, worker, more(table)).unwrap();
            }
            test.sql(&format!(
                "INSERT INTO m VALUES ('old', 'o', 'active', {past}), ('new', 'o', 'active', {future}), ('never', 'o', 'active', NULL);
                 INSERT INTO i VALUES ('old', 'o', NULL, {past}), ('new', 'o', NULL, {future}), ('never', 'o', NULL, NULL);
                 INSERT INTO webhook_events (id, organization_id, needs_reconciliation, inserted_at) VALUES ('old', 'o', 1, {past}), ('new', 'o', 1, {future});"
            ));
            let before = test.everything();
            for (worker, table, column) in [
                (MEMBERSHIPS, "m", "expires_at"),
                (INVITATIONS, "i", "expires_at"),
                (WEBHOOKS, "webhook_events", "inserted_at"),
            ] {
                let done = run(&test, worker, more(table));
                match (instead, done) {
                    (Some(instead), Err(error)) => {
                        let error = error.to_string();
                        for part in ["`timestamps`", table, column, instead, "Nothing was changed"]
                        {
                            assert!(error.contains(part), "{what}: {error}");
                        }
                    }
                    (None, Ok(_)) => {}
                    (_, done) => panic!("{worker}, {what}: {done:?}"),
                }
            }
            if instead.is_some() {
                assert_eq!(test.everything(), before, "{what}");
            } else {
                assert_eq!(
                    test.one::<String>("SELECT group_concat(id) FROM m WHERE state = 'active'"),
                    "new,never",
                    "{what}"
                );
                assert_eq!(
                    test.one::<String>("SELECT group_concat(id) FROM i"),
                    "new,never",
                    "{what}"
                );
            }
        }
    }
}
