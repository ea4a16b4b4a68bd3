//! What `cleanup-expired-invitations` promises, on the reference schema and beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use cleanup_expired_invitations::{ACTION, CleanupExpiredInvitations, sql};
use serde_json::Value as Json;
use verger_worker::prelude::*;
use verger_worker::testing::MemoryHost;

const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z
const DAY: i64 = 86_400_000;
const CUTOFF: i64 = NOW - 30 * DAY;

fn reference() -> MemoryHost {
    let host = MemoryHost::new(include_str!("../../../migrations/reference/0001_init.sql"));
    host.set_now(NOW);
    host
}

fn invite(
    host: &MemoryHost,
    id: &str,
    organization: &str,
    expires_at: i64,
    accepted_at: Option<i64>,
) {
    let sql = "INSERT INTO organization_invitations (id, organization_id, email, created_at, expires_at, accepted_at) VALUES (?1, ?2, 'a@b.c', 0, ?3, ?4)";
    host.connection().execute(sql, (id, organization, expires_at, accepted_at)).unwrap();
}

/// Invitations of one organization that are due, by their ids.
fn due(ids: &[&str]) -> MemoryHost {
    let host = reference();
    for (i, id) in ids.iter().enumerate() {
        invite(&host, id, "org_1", CUTOFF - 1000 + i as i64, None);
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
    let ended = host.perform(&CleanupExpiredInvitations, args).map(|outcome| match outcome {
        Outcome::DoneWith(result) => result,
        other => panic!("{other:?}"),
    });
    ended.map_err(|error| error.to_string())
}

fn left(host: &MemoryHost) -> String {
    host.one("SELECT coalesce(group_concat(id, ' '), '') FROM (SELECT id FROM organization_invitations ORDER BY id)")
}

/// Outcome, organization and metadata of each audit event.
fn audited(host: &MemoryHost) -> Vec<(&'static str, Option<String>, Json)> {
    let json = |text: Option<String>| serde_json::from_str(&text.unwrap()).unwrap();
    host.audited()
        .into_iter()
        .map(|event| {
            assert_eq!(event.action, ACTION);
            (event.outcome.as_str(), event.organization_id, json(event.metadata))
        })
        .collect()
}

#[test]
fn what_expired_longer_ago_than_the_retention_goes_and_the_boundary_is_strict() {
    let cases = [
        (CUTOFF - 1, None, true),
        (CUTOFF, None, false),
        (CUTOFF + 1, None, false),
        (NOW + DAY, None, false),
        (0, None, true),
        (-1, None, true),
        (CUTOFF - 1, Some(CUTOFF - DAY), false), // accepted: kept for ever
        (0, Some(0), false),
    ];
    for (expires_at, accepted_at, goes) in cases {
        let host = reference();
        invite(&host, "i", "org_1", expires_at, accepted_at);
        assert_eq!(
            run(&host, all(json!({}))),
            Ok(json!({"deleted": u8::from(goes)})),
            "{expires_at} {accepted_at:?}"
        );
        assert_eq!(left(&host), if goes { "" } else { "i" }, "{expires_at} {accepted_at:?}");
    }
}

#[test]
fn the_retention_is_counted_in_days_of_86400_seconds() {
    for days in [1, 7, 36_500_000] {
        let host = reference();
        invite(&host, "due", "org_1", NOW - days * DAY - 1, None);
        invite(&host, "kept", "org_1", NOW - days * DAY, None);
        assert_eq!(
            run(&host, all(json!({"retention_days": days}))),
            Ok(json!({"deleted": 1})),
            "{days}"
        );
        assert_eq!(left(&host), "kept");
    }
}

#[test]
fn an_unusable_arg_is_refused_by_name_and_nothing_is_deleted() {
    let cases = [
        (
            json!({"retention_days": 0}),
            "`retention_days` is not usable: must be a whole number from 1",
        ),
        (json!({"retention_days": -1}), "not -1"),
        (json!({"retention_days": "x"}), "not \"x\""),
        (json!({"retention_days": null}), "not null"),
        (json!({"retention_days": 0.5}), "not 0.5"),
        (json!({"retention_days": 1_000_000_000_000_i64}), "to 36500000, not 1000000000000"),
        (
            json!({"batch_size": 0}),
            "`batch_size` is not usable: must be a whole number from 1 to 10000, not 0",
        ),
        (json!({"batch_size": 10_001}), "not 10001"),
        (json!({"timestamps": "julian"}), "`timestamps` is not usable: \"julian\""),
        (
            json!({"table": "x; DROP TABLE organization_invitations"}),
            "`table` is not usable: \"x; DROP TABLE",
        ),
        (json!({"table": "organization_invitations\" --"}), "`table` is not usable"),
        (json!({"table": "verger_audit"}), "`verger_`"),
        (json!({"table": "sqlite_schema"}), "`sqlite_`"),
        (json!({"table": 7}), "must be a name in a string"),
        (json!({"table": "no_such_table"}), "no such table: no_such_table"),
    ];
    for (more, expected) in cases {
        let host = due(&["a"]);
        let error = run(&host, all(more.clone())).unwrap_err();
        assert!(error.contains(expected), "{more}: {error}");
        assert_eq!(left(&host), "a");
    }
}

#[test]
fn the_tenant_keys_must_be_there() {
    let error = run(&due(&[]), json!({"retention_days": 30})).unwrap_err();
    assert!(error.contains("`organization_id`, `actor_id`"), "{error}");
}

#[test]
fn without_an_organization_all_tenants_are_swept_with_one_they_are_left_alone() {
    let cases = [
        (json!(null), "", 3, vec![("org_1", 2), ("org_2", 1)]),
        (json!("org_1"), "c", 2, vec![("org_1", 2)]),
        (json!("org_3"), "a b c", 0, vec![]),
        (json!("org_1' OR '1'='1"), "a b c", 0, vec![]),
    ];
    for (organization, expected, deleted, events) in cases {
        let host = reference();
        for (id, owner) in [("a", "org_1"), ("b", "org_1"), ("c", "org_2")] {
            invite(&host, id, owner, 0, None);
        }
        let result = run(&host, json!({"organization_id": organization, "actor_id": "user_1"}));
        assert_eq!(result, Ok(json!({"deleted": deleted})), "{organization}");
        assert_eq!(left(&host), expected, "{organization}");
        let events: Vec<_> = events
            .into_iter()
            .map(|(owner, count)| {
                (
                    "success",
                    Some(owner.to_string()),
                    json!({"deleted": count, "retention_days": 30, "cutoff": CUTOFF}),
                )
            })
            .collect();
        assert_eq!(audited(&host), events, "{organization}");
    }
}

#[test]
fn a_second_run_finds_nothing_and_writes_no_audit() {
    let host = due(&["a", "b"]);
    assert_eq!(run(&host, all(json!({}))), Ok(json!({"deleted": 2})));
    assert_eq!(run(&host, all(json!({}))), Ok(json!({"deleted": 0})));
    assert_eq!(audited(&host).len(), 1);
}

#[test]
fn batches_are_bounded_with_a_checkpoint_between_them_and_an_audit_event_each() {
    let cases = [(1, 5, 5), (2, 2, 3), (5, 1, 1), (6, 0, 1)]; // batch size, checkpoints, audit events
    for (size, checkpoints, events) in cases {
        let host = due(&["a", "b", "c", "d", "e"]);
        assert_eq!(run(&host, all(json!({"batch_size": size}))), Ok(json!({"deleted": 5})));
        assert_eq!(
            (host.checkpoints(), audited(&host).len()),
            (checkpoints, events),
            "batches of {size}"
        );
        assert_eq!(host.last_progress(), (5, 0));
    }
}

#[test]
fn ties_at_a_batch_boundary_are_all_swept() {
    let host = reference();
    for i in 0..7 {
        invite(&host, &format!("i{i}"), "org_1", 0, None);
    }
    assert_eq!(run(&host, all(json!({"batch_size": 3}))), Ok(json!({"deleted": 7})));
}

#[test]
fn cancelled_at_a_checkpoint_it_keeps_the_batches_before() {
    let host = due(&["a", "b", "c", "d", "e"]);
    host.cancel_after(1);
    assert!(run(&host, all(json!({"batch_size": 2}))).unwrap_err().contains("cancelled"));
    assert_eq!(left(&host), "c d e");
    assert_eq!(audited(&host).len(), 1);
}

#[test]
fn a_row_that_the_app_keeps_is_audited_and_the_others_go() {
    let host = due(&["a", "b", "c"]);
    host.connection()
        .execute_batch(
            "CREATE TRIGGER keep BEFORE DELETE ON organization_invitations WHEN OLD.id = 'b'
             BEGIN SELECT RAISE(ABORT, 'b is under legal hold'); END;",
        )
        .unwrap();
    for size in [1, 2, 10] {
        let before = audited(&host).len();
        let deleted = if before == 0 { 2 } else { 0 };
        assert_eq!(
            run(&host, all(json!({"batch_size": size}))),
            Ok(json!({"deleted": deleted, "errors": 1}))
        );
        let refused: Vec<_> = host
            .audited()
            .into_iter()
            .skip(before)
            .filter(|event| event.outcome == EventOutcome::Error)
            .collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].subject_id.as_deref(), Some("b"));
        assert_eq!(refused[0].organization_id.as_deref(), Some("org_1"));
        let metadata = refused[0].metadata.clone().unwrap();
        assert!(
            metadata.contains("\"constraint\"") && metadata.contains("b is under legal hold"),
            "{metadata}"
        );
    }
    assert_eq!(left(&host), "b");
}

#[test]
fn an_acceptance_in_between_wins() {
    let host = due(&["a", "b"]);
    // Deleting one accepts the other: what the batch read of it is no longer true.
    host.connection()
        .execute_batch(
            "CREATE TRIGGER accept AFTER DELETE ON organization_invitations WHEN OLD.id = 'a'
             BEGIN UPDATE organization_invitations SET accepted_at = 1 WHERE id = 'b'; END;",
        )
        .unwrap();
    assert_eq!(run(&host, all(json!({}))), Ok(json!({"deleted": 1})));
    assert_eq!(left(&host), "b");
}

#[test]
fn tables_that_keep_seconds_or_text_are_swept_at_the_same_boundary() {
    let cases = [
        ("unix_s", "INTEGER", "1764633599", "1764633600", "1764633601"),
        (
            "iso8601",
            "TEXT",
            "'2025-12-01T23:59:59.999Z'",
            "'2025-12-02T00:00:00Z'",
            "'2025-12-02 00:00:01'",
        ),
        ("iso8601", "TEXT", "'2025-12-01 23:59'", "'2025-12-02'", "'soon'"),
    ];
    for (timestamps, class, due, kept, later) in cases {
        let host = MemoryHost::new(&format!(
            "CREATE TABLE invites (id INTEGER PRIMARY KEY, organization_id INTEGER, expires_at {class}, accepted_at {class});
             INSERT INTO invites VALUES (1, 7, {due}, NULL), (2, 7, {kept}, NULL), (3, 7, {later}, NULL), (4, 7, NULL, NULL), (5, 7, {due}, {due});"
        ));
        host.set_now(NOW);
        let args = json!({"organization_id": 7, "actor_id": null, "table": "invites", "timestamps": timestamps, "batch_size": 1});
        assert_eq!(run(&host, args), Ok(json!({"deleted": 1})), "{timestamps} {due}");
        assert_eq!(host.one::<String>("SELECT group_concat(id) FROM invites"), "2,3,4,5");
        assert_eq!(host.audited()[0].organization_id.as_deref(), Some("7"));
    }
}

#[test]
fn a_view_with_instead_of_triggers_serves_as_the_table() {
    let host = MemoryHost::new(
        "CREATE TABLE invites (uuid TEXT PRIMARY KEY, team TEXT, until INTEGER, used INTEGER);
         CREATE TABLE graves (uuid TEXT);
         CREATE VIEW invitations AS SELECT uuid AS id, team AS organization_id, until AS expires_at, used AS accepted_at FROM invites;
         CREATE TRIGGER bury INSTEAD OF DELETE ON invitations
         BEGIN INSERT INTO graves VALUES (OLD.id); DELETE FROM invites WHERE uuid = OLD.id; END;
         INSERT INTO invites VALUES ('a', 't1', 0, NULL), ('b', 't2', 0, NULL), ('c', 't1', 0, 1);",
    );
    assert_eq!(
        run(&host, all(json!({"table": "invitations", "batch_size": 1}))),
        Ok(json!({"deleted": 2}))
    );
    assert_eq!(host.one::<String>("SELECT group_concat(uuid) FROM invites"), "c");
    assert_eq!(host.one::<i64>("SELECT count(*) FROM graves"), 2);
}

#[test]
fn ids_that_are_unique_within_a_tenant_only_are_deleted_within_it_only() {
    let host = MemoryHost::new(
        "CREATE TABLE invites (id INTEGER, organization_id TEXT, expires_at INTEGER, accepted_at INTEGER, PRIMARY KEY (organization_id, id));
         INSERT INTO invites VALUES (1, 'org_1', 0, NULL), (1, 'org_2', 0, NULL);",
    );
    let args = json!({"organization_id": "org_1", "actor_id": null, "table": "invites"});
    assert_eq!(run(&host, args), Ok(json!({"deleted": 1})));
    assert_eq!(host.one::<String>("SELECT group_concat(organization_id) FROM invites"), "org_2");
}

#[test]
fn the_index_serves_both_sweeps() {
    let host = reference();
    let table = Ident::parse("organization_invitations").unwrap();
    for one_organization in [false, true] {
        let walk = sql::expired(&table, TimeFormat::UnixMillis, one_organization);
        let index =
            "SEARCH organization_invitations USING COVERING INDEX organization_invitations_open";
        let place = params![1, "id", "organization"];
        for (sql, range) in [
            (walk.first_batch(), "(expires_at<?)"),
            (
                walk.batch_after(&place),
                "((expires_at,id,organization_id)>(?,?,?) AND expires_at<?)",
            ),
        ] {
            assert_eq!(host.plan(&sql), format!("{index} {range}"), "{sql}");
        }
    }
    let plan = host.plan(&sql::delete(&table, TimeFormat::UnixMillis));
    assert_eq!(plan, "SEARCH organization_invitations USING PRIMARY KEY (id=?)");
}

#[test]
fn the_manifest_asks_for_what_it_uses_and_no_more() {
    let manifest = CleanupExpiredInvitations.manifest();
    manifest.check().unwrap();
    assert!(manifest.tenant_aware && manifest.capabilities.is_empty());
    assert_eq!(manifest.schedule, Some(Suggested::Cron("0 3 * * *".into())));
    assert_eq!(
        manifest.tables,
        [TableAsk::from_arg("table", "organization_invitations").read().delete()]
    );
    assert!(manifest.args.values().all(|arg| !arg.description.is_empty()));
    assert_eq!(manifest.args["retention_days"].default, Some(json!(30)));
}
