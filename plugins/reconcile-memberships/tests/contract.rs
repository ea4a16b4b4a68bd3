//! What `reconcile-memberships` promises, on the reference schema and beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use reconcile_memberships::{ACTION, ReconcileMemberships, sql};
use serde_json::Value as Json;
use verger_worker::prelude::*;
use verger_worker::testing::MemoryHost;

const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

fn reference() -> MemoryHost {
    let host = MemoryHost::new(include_str!("../../../migrations/reference/0001_init.sql"));
    host.set_now(NOW);
    host
}

fn join(host: &MemoryHost, id: &str, organization: &str, state: &str, expires_at: Option<i64>) {
    let sql = "INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at) VALUES (?1, ?2, 'u', ?3, ?4, 0, 0)";
    host.connection().execute(sql, (id, organization, state, expires_at)).unwrap();
}

/// Memberships of one organization that have run out: those with an upper-case id are suspended,
/// the others active.
fn stale(ids: &[&str]) -> MemoryHost {
    let host = reference();
    for (i, id) in ids.iter().enumerate() {
        let state = if id.starts_with(|c: char| c.is_uppercase()) { "suspended" } else { "active" };
        join(&host, id, "org_1", state, Some(NOW - 1000 + i as i64));
    }
    host
}

/// Args for the whole system, and these.
fn all(more: Json) -> Json {
    let mut args = json!({"organization_id": null, "actor_id": null});
    args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    args
}

fn run(host: &MemoryHost, args: Json) -> Result<Json, String> {
    let ended = host.perform(&ReconcileMemberships, args).map(|outcome| match outcome {
        Outcome::DoneWith(result) => result,
        other => panic!("{other:?}"),
    });
    ended.map_err(|error| error.to_string())
}

fn result(scanned: u64, updated: u64, errors: u64) -> Result<Json, String> {
    Ok(json!({"scanned": scanned, "updated": updated, "errors": errors}))
}

/// The ids in a state, sorted.
fn ids_in(host: &MemoryHost, state: &str) -> String {
    host.one(&format!("SELECT coalesce(group_concat(id, ' '), '') FROM (SELECT id FROM memberships WHERE state = '{state}' ORDER BY id)"))
}

#[test]
fn active_and_suspended_run_out_and_nothing_else_is_touched() {
    let cases = [
        ("active", Some(NOW - 1), "expired"),
        ("suspended", Some(NOW - 1), "expired"),
        ("active", Some(0), "expired"),
        ("active", Some(-1), "expired"),
        ("active", Some(NOW), "active"), // strict
        ("suspended", Some(NOW), "suspended"),
        ("active", Some(NOW + 1), "active"),
        ("active", None, "active"),
        ("suspended", None, "suspended"),
        ("invited", Some(NOW - 1), "invited"),
        ("expired", Some(NOW - 1), "expired"),
        ("expired", None, "expired"),
    ];
    for (state, expires_at, expected) in cases {
        let host = reference();
        join(&host, "m", "org_1", state, expires_at);
        let changed = u64::from(state != expected);
        assert_eq!(
            run(&host, all(json!({}))),
            result(changed, changed, 0),
            "{state} {expires_at:?}"
        );
        assert_eq!(
            host.one::<String>("SELECT state FROM memberships"),
            expected,
            "{state} {expires_at:?}"
        );
        assert_eq!(host.audited().len() as u64, changed, "{state} {expires_at:?}");
    }
}

#[test]
fn each_change_is_audited_with_the_state_before_and_after() {
    let host = stale(&["a", "B"]);
    join(&host, "c", "org_2", "active", Some(0));
    assert_eq!(run(&host, all(json!({}))), result(3, 3, 0));
    let events: Vec<_> = host
        .audited()
        .into_iter()
        .map(|event| {
            assert_eq!((event.action.as_str(), event.outcome), (ACTION, EventOutcome::Success));
            assert_eq!(event.subject_type.as_deref(), Some("membership"));
            assert_eq!(event.after.as_deref(), Some(r#"{"state":"expired"}"#));
            (event.subject_id.unwrap(), event.organization_id.unwrap(), event.before.unwrap())
        })
        .collect();
    let event = |id: &str, organization: &str, state: &str| {
        (id.to_string(), organization.to_string(), json!({"state": state}).to_string())
    };
    assert_eq!(
        events,
        [
            event("c", "org_2", "active"),
            event("a", "org_1", "active"),
            event("B", "org_1", "suspended")
        ]
    );
}

#[test]
fn a_second_pass_is_a_no_op() {
    let host = stale(&["a", "B", "c"]);
    assert_eq!(run(&host, all(json!({}))), result(3, 3, 0));
    assert_eq!(run(&host, all(json!({}))), result(0, 0, 0));
    assert_eq!(host.audited().len(), 3);
}

#[test]
fn without_an_organization_all_tenants_are_swept_with_one_they_are_left_alone() {
    let cases = [
        (json!(null), "a b c", 3),
        (json!("org_1"), "a b", 2),
        (json!("org_3"), "", 0),
        (json!("' OR 1=1 --"), "", 0),
    ];
    for (organization, expired, count) in cases {
        let host = stale(&["a", "b"]);
        join(&host, "c", "org_2", "suspended", Some(0));
        let args = json!({"organization_id": organization, "actor_id": "user_1"});
        assert_eq!(run(&host, args), result(count, count, 0), "{organization}");
        assert_eq!(ids_in(&host, "expired"), expired, "{organization}");
        for event in host.audited() {
            let expected = if event.subject_id.as_deref() == Some("c") { "org_2" } else { "org_1" };
            assert_eq!(event.organization_id.as_deref(), Some(expected));
        }
    }
}

#[test]
fn a_renewal_in_between_wins() {
    let changes = [
        format!("UPDATE memberships SET expires_at = {} WHERE id = 'b'", NOW + 1),
        "UPDATE memberships SET expires_at = NULL WHERE id = 'b'".to_string(),
        "UPDATE memberships SET state = 'invited' WHERE id = 'b'".to_string(),
        "DELETE FROM memberships WHERE id = 'b'".to_string(),
    ];
    for change in changes {
        let host = stale(&["a", "b"]);
        // Expiring one changes the other: what the batch read of it is no longer true.
        host.connection()
            .execute_batch(&format!("CREATE TRIGGER renew AFTER UPDATE OF state ON memberships WHEN OLD.id = 'a' BEGIN {change}; END;"))
            .unwrap();
        assert_eq!(run(&host, all(json!({}))), result(2, 1, 0), "{change}");
        assert_eq!(ids_in(&host, "expired"), "a", "{change}");
        assert_eq!(host.audited().len(), 1, "{change}");
    }
}

#[test]
fn a_row_that_the_app_holds_back_is_counted_and_audited_and_the_others_go_through() {
    let host = stale(&["a", "b", "C", "D"]);
    host.connection()
        .execute_batch(
            "CREATE TRIGGER hold BEFORE UPDATE ON memberships WHEN OLD.id IN ('a', 'D')
             BEGIN SELECT RAISE(ABORT, 'this member stays'); END;",
        )
        .unwrap();
    for (size, expected) in [(1, result(4, 2, 2)), (2, result(2, 0, 2)), (1000, result(2, 0, 2))] {
        let before = host.audited().len();
        assert_eq!(run(&host, all(json!({"batch_size": size}))), expected, "batches of {size}");
        let refused: Vec<_> = host
            .audited()
            .into_iter()
            .skip(before)
            .filter(|event| event.outcome == EventOutcome::Error)
            .collect();
        let ids: Vec<_> = refused.iter().filter_map(|event| event.subject_id.as_deref()).collect();
        assert_eq!(ids, ["a", "D"]);
        for event in refused {
            assert_eq!(
                (event.action.as_str(), event.organization_id.as_deref()),
                (ACTION, Some("org_1"))
            );
            let metadata: Json = serde_json::from_str(&event.metadata.unwrap()).unwrap();
            assert_eq!(metadata["code"], "constraint");
            assert!(metadata["message"].as_str().unwrap().contains("this member stays"));
        }
    }
    assert_eq!(ids_in(&host, "expired"), "C b");
}

#[test]
fn batches_are_bounded_with_a_checkpoint_between_them() {
    // Four active, two suspended. Batch size, checkpoints: one after every full batch.
    let cases = [(1, 6), (2, 3), (3, 1), (4, 1), (6, 0)];
    for (size, checkpoints) in cases {
        let host = stale(&["a", "b", "c", "d", "E", "F"]);
        assert_eq!(run(&host, all(json!({"batch_size": size}))), result(6, 6, 0));
        assert_eq!(host.checkpoints(), checkpoints, "batches of {size}");
        assert_eq!(host.last_progress(), (6, 0));
    }
}

#[test]
fn ties_at_a_batch_boundary_are_all_swept() {
    let host = reference();
    for i in 0..7 {
        join(&host, &format!("m{i}"), "org_1", "active", Some(5));
    }
    assert_eq!(run(&host, all(json!({"batch_size": 3}))), result(7, 7, 0));
}

#[test]
fn cancelled_at_a_checkpoint_it_keeps_the_batches_before_with_their_audit() {
    let host = stale(&["a", "b", "c", "D"]);
    host.cancel_after(1);
    assert!(run(&host, all(json!({"batch_size": 1}))).unwrap_err().contains("cancelled"));
    assert_eq!(ids_in(&host, "expired"), "a");
    assert_eq!(host.audited().len(), 1);
}

#[test]
fn an_unusable_arg_is_refused_by_name_and_nothing_is_changed() {
    let cases = [
        (json!({"batch_size": 0}), "`batch_size` is not usable"),
        (json!({"batch_size": "many"}), "not \"many\""),
        (json!({"timestamps": "julian"}), "`timestamps` is not usable"),
        (json!({"table": "memberships SET state = 'active' --"}), "`table` is not usable"),
        (json!({"table": "verger_jobs"}), "`verger_`"),
        (json!({"updated_at_column": "a, b"}), "`updated_at_column` is not usable"),
        (json!({"updated_at_column": "no_such"}), "no such column: no_such"),
        (json!({"table": "no_such_table"}), "no such table: no_such_table"),
    ];
    for (more, expected) in cases {
        let host = stale(&["a"]);
        let error = run(&host, all(more.clone())).unwrap_err();
        assert!(error.contains(expected), "{more}: {error}");
        assert_eq!(ids_in(&host, "expired"), "");
    }
    let error = run(&stale(&[]), json!({"organization_id": null})).unwrap_err();
    assert!(error.contains("`actor_id`"), "{error}");
}

#[test]
fn updated_at_is_touched_only_when_named() {
    let host = stale(&["a"]);
    assert_eq!(run(&host, all(json!({}))), result(1, 1, 0));
    assert_eq!(host.one::<i64>("SELECT updated_at FROM memberships"), 0);
    let host = stale(&["a"]);
    assert_eq!(run(&host, all(json!({"updated_at_column": "updated_at"}))), result(1, 1, 0));
    assert_eq!(host.one::<i64>("SELECT updated_at FROM memberships"), NOW);
}

#[test]
fn tables_that_keep_seconds_or_text_are_swept_at_the_same_boundary() {
    let cases = [
        ("unix_s", "INTEGER", "1767225599", "1767225600", "1767225601", "1767225600"),
        (
            "iso8601",
            "TEXT",
            "'2025-12-31T23:59:59.999Z'",
            "'2026-01-01T00:00:00Z'",
            "'2026-01-01 00:00:01'",
            "2026-01-01T00:00:00.000Z",
        ),
        ("iso8601", "TEXT", "'2025-12-31'", "'2026-01-01'", "'never'", "2026-01-01T00:00:00.000Z"),
    ];
    for (timestamps, class, stale, kept, later, stamp) in cases {
        let host = MemoryHost::new(&format!(
            "CREATE TABLE members (id INTEGER PRIMARY KEY, organization_id TEXT, state TEXT, expires_at {class}, changed {class});
             INSERT INTO members VALUES (1, 'o', 'active', {stale}, NULL), (2, 'o', 'active', {kept}, NULL),
               (3, 'o', 'suspended', {later}, NULL), (4, NULL, 'suspended', {stale}, NULL), (5, 'o', 'active', NULL, NULL);"
        ));
        host.set_now(NOW);
        let args = all(
            json!({"table": "members", "timestamps": timestamps, "updated_at_column": "changed", "batch_size": 1}),
        );
        assert_eq!(run(&host, args), result(2, 2, 0), "{timestamps} {stale}");
        assert_eq!(
            host.one::<String>(
                "SELECT group_concat(id || '@' || changed) FROM members WHERE state = 'expired'"
            ),
            format!("1@{stamp},4@{stamp}")
        );
        let owners: Vec<_> = host
            .audited()
            .into_iter()
            .map(|event| (event.subject_id.unwrap(), event.organization_id))
            .collect();
        assert_eq!(owners, [("1".to_string(), Some("o".to_string())), ("4".to_string(), None)]);
    }
}

#[test]
fn a_view_with_instead_of_triggers_serves_as_the_table() {
    let host = MemoryHost::new(
        "CREATE TABLE people (uuid TEXT PRIMARY KEY, team TEXT, standing TEXT, until INTEGER);
         CREATE TABLE history (uuid TEXT, was TEXT);
         CREATE VIEW members AS SELECT uuid AS id, team AS organization_id, standing AS state, until AS expires_at FROM people;
         CREATE TRIGGER move INSTEAD OF UPDATE ON members
         BEGIN INSERT INTO history VALUES (OLD.id, OLD.state); UPDATE people SET standing = NEW.state WHERE uuid = OLD.id; END;
         INSERT INTO people VALUES ('a', 't1', 'active', 0), ('b', 't2', 'suspended', 0), ('c', 't1', 'invited', 0);",
    );
    assert_eq!(run(&host, all(json!({"table": "members", "batch_size": 1}))), result(2, 2, 0));
    assert_eq!(
        host.one::<String>("SELECT group_concat(uuid || standing, ' ') FROM people"),
        "aexpired bexpired cinvited"
    );
    assert_eq!(host.one::<i64>("SELECT count(*) FROM history"), 2);
}

#[test]
fn the_index_serves_both_sweeps() {
    let table = Ident::parse("memberships").unwrap();
    let plain = "CREATE TABLE memberships (id TEXT PRIMARY KEY, organization_id TEXT, state TEXT, expires_at INTEGER);
                 CREATE INDEX memberships_expiry ON memberships (state, expires_at);";
    let cases = [
        (
            reference(),
            "SEARCH memberships USING COVERING INDEX memberships_expiry (state=? AND (expires_at,id,organization_id)>(?,?,?) AND expires_at<?)",
        ),
        // An app's own table with the bare index: no scan, and only ties are sorted.
        (
            MemoryHost::new(plain),
            "SEARCH memberships USING INDEX memberships_expiry (state=? AND expires_at>? AND expires_at<?); USE TEMP B-TREE FOR LAST 2 TERMS OF ORDER BY",
        ),
    ];
    for (host, expected) in cases {
        for state in sql::STATES {
            for one_organization in [false, true] {
                assert_eq!(
                    host.plan(
                        &sql::stale(&table, state, TimeFormat::UnixMillis, one_organization)
                            .batch_after(&params![1, "id", "organization"])
                    ),
                    expected
                );
            }
            let update = host.plan(&sql::expire(&table, state, TimeFormat::UnixMillis, None));
            assert!(
                update.starts_with("SEARCH memberships USING ") && update.ends_with("(id=?)"),
                "{update}"
            );
        }
    }
}

#[test]
fn the_manifest_asks_for_what_it_uses_and_no_more() {
    let manifest = ReconcileMemberships.manifest();
    manifest.check().unwrap();
    assert!(manifest.tenant_aware && manifest.capabilities.is_empty());
    assert_eq!(manifest.schedule, Some(Suggested::EveryMs(300_000)));
    assert_eq!(manifest.tables, [TableAsk::from_arg("table", "memberships").read().update()]);
    assert!(manifest.args.values().all(|arg| !arg.description.is_empty()));
}
