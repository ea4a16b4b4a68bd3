//! What `reconcile-webhook-events` promises, on the reference schema and beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use reconcile_webhook_events::{ACTION, ReconcileWebhookEvents, TOPIC, sql};
use serde_json::Value as Json;
use verger_worker::prelude::*;
use verger_worker::testing::MemoryHost;

const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z
const MINUTE: i64 = 60_000;
const AGE: i64 = 10_080 * MINUTE;

fn reference() -> MemoryHost {
    let host = MemoryHost::new(include_str!("../../../migrations/reference/0001_init.sql"));
    host.set_now(NOW);
    host
}

/// A sent delivery of a tenant; its message id is its id with an `m` in front.
fn deliver(host: &MemoryHost, id: &str, organization: &str) {
    let sql = "INSERT INTO deliveries (id, organization_id, provider, provider_message_id, status, created_at, updated_at) VALUES (?1, ?2, 'postmark', 'm' || ?1, 'sent', 0, 0)";
    host.connection().execute(sql, (id, organization)).unwrap();
}

/// An orphan for that delivery, inserted at `at` and a second older by the provider's clock.
fn orphan(host: &MemoryHost, id: &str, organization: &str, kind: &str, delivery: &str, at: i64) {
    let metadata =
        json!({"provider": "postmark", "provider_message_id": format!("m{delivery}")}).to_string();
    event(host, id, organization, kind, &metadata, "{}", at);
}

fn event(
    host: &MemoryHost,
    id: &str,
    organization: &str,
    kind: &str,
    metadata: &str,
    payload: &str,
    at: i64,
) {
    let sql = "INSERT INTO webhook_events (id, organization_id, type, provider, metadata, payload, needs_reconciliation, occurred_at, inserted_at)
               VALUES (?1, ?2, ?3, 'postmark', ?4, ?5, 1, ?6 - 1000, ?6)";
    host.connection().execute(sql, (id, organization, kind, metadata, payload, at)).unwrap();
}

/// One delivery `d` of `org_1`, and orphans of it with these types, each a second after the one
/// before.
fn orphans_of_one(kinds: &[&str]) -> MemoryHost {
    let host = reference();
    deliver(&host, "d", "org_1");
    for (i, kind) in kinds.iter().enumerate() {
        orphan(&host, &format!("e{i}"), "org_1", kind, "d", at(i));
    }
    host
}

/// When the nth orphan came in.
fn at(n: usize) -> i64 {
    NOW - 3_600_000 + n as i64 * 1000
}

/// Args for the whole system, and these.
fn all(more: Json) -> Json {
    let mut args = json!({"organization_id": null, "actor_id": null});
    args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    args
}

fn run(host: &MemoryHost, args: Json) -> Result<Json, String> {
    let ended = host.perform(&ReconcileWebhookEvents, args).map(|outcome| match outcome {
        Outcome::DoneWith(result) => result,
        other => panic!("{other:?}"),
    });
    ended.map_err(|error| error.to_string())
}

fn result(scanned: u64, linked: u64) -> Result<Json, String> {
    Ok(json!({"scanned": scanned, "linked": linked}))
}

/// The orphans that were reconciled, sorted.
fn reconciled(host: &MemoryHost) -> String {
    host.one(
        "SELECT coalesce(group_concat(substr(id, 12), ' '), '') FROM (SELECT id FROM webhook_events WHERE type = 'reconciled' ORDER BY id)",
    )
}

#[test]
fn a_match_appends_an_event_projects_the_delivery_and_publishes() {
    let host = orphans_of_one(&["delivered"]);
    assert_eq!(run(&host, all(json!({}))), result(1, 1));

    let appended: Json = serde_json::from_str(&host.one::<String>(
        "SELECT json_array(id, organization_id, delivery_id, provider, needs_reconciliation, idempotency_key, status, occurred_at, inserted_at, json(metadata), json(payload))
         FROM webhook_events WHERE type = 'reconciled'",
    ))
    .unwrap();
    let metadata = json!({"orphan_id": "e0", "type": "delivered", "provider": "postmark", "provider_message_id": "md"});
    assert_eq!(
        appended,
        json!([
            "reconciled:e0",
            "org_1",
            "d",
            "postmark",
            0,
            "reconciled:e0",
            "succeeded",
            NOW,
            NOW,
            metadata,
            {}
        ])
    );

    let delivery: Json = serde_json::from_str(&host.one::<String>(
        "SELECT json_array(status, terminal, sent_at, delivered_at, opened_at, lock_version, updated_at, created_at) FROM deliveries",
    ))
    .unwrap();
    assert_eq!(delivery, json!(["delivered", 1, null, at(0) - 1000, null, 1, NOW, 0]));

    let message = json!({"organization_id": "org_1", "delivery_id": "d", "event_id": "e0", "reconciled_event_id": "reconciled:e0", "type": "delivered"});
    assert_eq!(host.published(), [(TOPIC.to_string(), message)]);
    let audited = host.audited();
    assert_eq!(
        audited,
        [AuditEvent::success(ACTION)
            .organization("org_1".to_string())
            .metadata(json!({"linked": 1}))]
    );
}

#[test]
fn the_orphan_is_never_changed_and_a_second_run_does_not_link_again() {
    let host = orphans_of_one(&["delivered", "opened"]);
    let orphans = "SELECT group_concat(id || type || needs_reconciliation || coalesce(delivery_id, 'none') || metadata || inserted_at)
                   FROM webhook_events WHERE type <> 'reconciled'";
    let before: String = host.one(orphans);
    assert_eq!(run(&host, all(json!({}))), result(2, 2));
    assert_eq!(run(&host, all(json!({}))), result(0, 0));
    assert_eq!(host.one::<String>(orphans), before);
    assert_eq!(host.one::<i64>("SELECT lock_version FROM deliveries"), 2);
    assert_eq!(host.published().len(), 2);
}

#[test]
fn only_orphans_between_the_grace_and_the_greatest_age_are_looked_at() {
    let cases = [
        (NOW - MINUTE - 1, json!({}), true),
        (NOW - MINUTE, json!({}), false), // not yet older than the grace
        (NOW - 1, json!({}), false),
        (NOW + MINUTE, json!({}), false),
        (NOW - AGE, json!({}), true),
        (NOW - AGE - 1, json!({}), false),
        (NOW - 10 * MINUTE, json!({"max_age_minutes": 10}), true),
        (NOW - 10 * MINUTE - 1, json!({"max_age_minutes": 10}), false),
        (0, json!({"max_age_minutes": 52_560_000}), true),
    ];
    for (inserted_at, more, linked) in cases {
        let host = reference();
        deliver(&host, "d", "org_1");
        orphan(&host, "e", "org_1", "delivered", "d", inserted_at);
        assert_eq!(
            run(&host, all(more.clone())),
            result(linked.into(), linked.into()),
            "{} {more}",
            inserted_at - NOW
        );
    }
}

#[test]
fn events_that_are_no_orphans_are_left_alone() {
    let host = reference();
    deliver(&host, "d", "org_1");
    for (id, delivery, needs) in
        [("linked", Some("d"), 1), ("plain", None, 0), ("both", Some("d"), 0)]
    {
        let sql = "INSERT INTO webhook_events (id, organization_id, delivery_id, type, provider, metadata, needs_reconciliation, occurred_at, inserted_at)
                   VALUES (?1, 'org_1', ?2, 'opened', 'postmark', '{\"provider\":\"postmark\",\"provider_message_id\":\"md\"}', ?3, 0, ?4)";
        host.connection().execute(sql, (id, delivery, needs, at(0))).unwrap();
    }
    assert_eq!(run(&host, all(json!({}))), result(0, 0));
}

#[test]
fn without_a_match_the_orphan_is_tried_again_by_the_next_run() {
    let host = reference();
    orphan(&host, "e", "org_1", "delivered", "d", at(0));
    for _ in 0..2 {
        assert_eq!(run(&host, all(json!({}))), result(1, 0));
    }
    assert!(host.audited().is_empty() && host.published().is_empty());
    deliver(&host, "d", "org_1");
    assert_eq!(run(&host, all(json!({}))), result(1, 1));
}

#[test]
fn a_match_is_made_within_the_tenant_only() {
    let host = reference();
    deliver(&host, "d", "org_2");
    orphan(&host, "e", "org_1", "bounced", "d", at(0));
    assert_eq!(run(&host, all(json!({}))), result(1, 0));
    assert_eq!(host.one::<String>("SELECT status FROM deliveries"), "sent");
}

#[test]
fn without_an_organization_all_tenants_are_swept_with_one_they_are_left_alone() {
    let cases = [
        (json!(null), "a b c", 3),
        (json!("org_1"), "a b", 2),
        (json!("org_3"), "", 0),
        (json!("org_1' --"), "", 0),
    ];
    for (organization, expected, count) in cases {
        let host = reference();
        for (id, owner) in [("a", "org_1"), ("b", "org_1"), ("c", "org_2")] {
            deliver(&host, id, owner);
            orphan(&host, id, owner, "opened", id, at(0));
        }
        let args = json!({"organization_id": organization, "actor_id": "user_1"});
        assert_eq!(run(&host, args), result(count, count), "{organization}");
        assert_eq!(reconciled(&host), expected, "{organization}");
        let audited: Vec<_> = host
            .audited()
            .into_iter()
            .map(|event| (event.organization_id.unwrap(), event.metadata.unwrap()))
            .collect();
        let expected: Vec<_> = [("org_1", r#"{"linked":2}"#), ("org_2", r#"{"linked":1}"#)]
            .into_iter()
            .filter(|(owner, _)| organization.is_null() || organization == *owner)
            .map(|(owner, linked)| (owner.to_string(), linked.to_string()))
            .collect();
        assert_eq!(audited, expected, "{organization}");
    }
}

#[test]
fn the_match_is_read_from_the_metadata_else_the_payload_key_by_key() {
    let full = r#"{"provider":"postmark","provider_message_id":"md"}"#;
    let other = r#"{"provider":"postmark","provider_message_id":"other"}"#;
    let cases = [
        (full, "{}", "linked"),
        ("{}", full, "linked"),
        (full, other, "linked"),
        (other, full, "no match"),
        (r#"{"provider":"postmark"}"#, r#"{"provider_message_id":"md"}"#, "linked"),
        (
            r#"{"provider":"postmark","provider_message_id":""}"#,
            r#"{"provider_message_id":"md"}"#,
            "linked",
        ),
        (r#"{"provider":"ses","provider_message_id":"md"}"#, "{}", "no match"),
        ("{}", "{}", "malformed"),
        ("", "", "malformed"),
        ("not json", full, "linked"),
        (full, "{broken", "linked"),
        ("not json", "{broken", "malformed"),
        (r#"{"provider":"postmark"}"#, "{}", "malformed"),
        (r#"{"provider_message_id":"md"}"#, "null", "malformed"), // the column `provider` says nothing about the match
        (r#"{"provider":1,"provider_message_id":2}"#, "[]", "malformed"),
        (r#"{"provider":null,"provider_message_id":["md"]}"#, r#""text""#, "malformed"),
        (r#"[{"provider":"postmark","provider_message_id":"md"}]"#, "{}", "malformed"),
    ];
    for (metadata, payload, expected) in cases {
        let host = reference();
        deliver(&host, "d", "org_1");
        event(&host, "e", "org_1", "delivered", metadata, payload, at(0));
        let expected = match expected {
            "linked" => json!({"scanned": 1, "linked": 1}),
            "no match" => json!({"scanned": 1, "linked": 0}),
            _ => json!({"scanned": 1, "linked": 0, "malformed": 1}),
        };
        assert_eq!(run(&host, all(json!({}))), Ok(expected.clone()), "{metadata} {payload}");
        assert_eq!(host.logged().len(), usize::from(expected.get("malformed").is_some()));
    }
}

#[test]
fn the_status_moves_forward_only_terminal_latches_and_times_are_set_once() {
    // Status, terminal and the nth orphan whose time each column has, after these orphans of one
    // sent delivery.
    type Case = (&'static [&'static str], &'static str, i64, &'static [(&'static str, usize)]);
    let cases: [Case; 12] = [
        (&["opened"], "opened", 0, &[("opened_at", 0)]),
        (&["opened", "delivered"], "opened", 1, &[("opened_at", 0), ("delivered_at", 1)]),
        (
            &["clicked", "opened", "delivered"],
            "clicked",
            1,
            &[("clicked_at", 0), ("opened_at", 1), ("delivered_at", 2)],
        ),
        (&["delivered", "delivered"], "delivered", 1, &[("delivered_at", 0)]),
        (&["opened", "opened", "opened"], "opened", 0, &[("opened_at", 0)]),
        (
            &["bounced", "delivered", "opened"],
            "bounced",
            1,
            &[("bounced_at", 0), ("delivered_at", 1), ("opened_at", 2)],
        ),
        (&["delivered", "bounced"], "bounced", 1, &[("delivered_at", 0), ("bounced_at", 1)]),
        (&["clicked", "complained"], "complained", 1, &[("clicked_at", 0), ("complained_at", 1)]),
        (&["bounced", "complained"], "bounced", 1, &[("bounced_at", 0), ("complained_at", 1)]),
        (&["rejected", "failed"], "rejected", 1, &[("failed_at", 0)]),
        (&["suppressed", "sent"], "suppressed", 1, &[("failed_at", 0), ("sent_at", 1)]),
        (&["unsubscribed", "queued"], "sent", 0, &[]),
    ];
    for size in [1, 1000] {
        for (kinds, status, terminal, times) in cases {
            let host = orphans_of_one(kinds);
            let count = kinds.len() as u64;
            assert_eq!(
                run(&host, all(json!({"batch_size": size}))),
                result(count, count),
                "{kinds:?}"
            );
            let found: (String, i64) = (
                host.one("SELECT status FROM deliveries"),
                host.one("SELECT terminal FROM deliveries"),
            );
            assert_eq!(found, (status.to_string(), terminal), "{kinds:?}");
            for column in [
                "sent_at",
                "delivered_at",
                "opened_at",
                "clicked_at",
                "bounced_at",
                "complained_at",
                "failed_at",
            ] {
                let expected =
                    times.iter().find(|(name, _)| *name == column).map(|(_, n)| at(*n) - 1000);
                assert_eq!(
                    host.one::<Option<i64>>(&format!("SELECT {column} FROM deliveries")),
                    expected,
                    "{kinds:?} {column}"
                );
            }
            assert_eq!(
                host.one::<i64>("SELECT lock_version FROM deliveries") as u64,
                count,
                "{kinds:?}"
            );
        }
    }
}

#[test]
fn what_a_delivery_has_already_is_kept() {
    let host = orphans_of_one(&["delivered", "opened"]);
    host.connection().execute("UPDATE deliveries SET status = 'complained', terminal = 1, delivered_at = 5, lock_version = 7", ()).unwrap();
    assert_eq!(run(&host, all(json!({}))), result(2, 2));
    let delivery: String = host.one("SELECT json_array(status, terminal, delivered_at, opened_at, lock_version) FROM deliveries");
    assert_eq!(delivery, format!("[\"complained\",1,5,{},9]", at(1) - 1000));
}

#[test]
fn old_orphans_do_not_starve_new_ones() {
    let host = reference();
    for i in 0..20 {
        orphan(&host, &format!("lost{i:02}"), "org_1", "opened", "nowhere", at(i)); // nothing matches
        event(&host, &format!("bad{i:02}"), "org_1", "opened", "{}", "{}", at(i)); // malformed
    }
    deliver(&host, "d", "org_1");
    orphan(&host, "done", "org_1", "opened", "d", at(0));
    assert_eq!(
        run(&host, all(json!({"batch_size": 4}))),
        Ok(json!({"scanned": 41, "linked": 1, "malformed": 20}))
    );
    orphan(&host, "new", "org_1", "delivered", "d", at(50));
    assert_eq!(
        run(&host, all(json!({"batch_size": 4}))),
        Ok(json!({"scanned": 41, "linked": 1, "malformed": 20}))
    );
    assert_eq!(reconciled(&host), "done new");
}

#[test]
fn ties_at_a_batch_boundary_are_all_swept() {
    let host = reference();
    for i in 0..7 {
        deliver(&host, &format!("d{i}"), "org_1");
        orphan(&host, &format!("e{i}"), "org_1", "opened", &format!("d{i}"), at(0));
    }
    assert_eq!(run(&host, all(json!({"batch_size": 3}))), result(7, 7));
}

#[test]
fn batches_are_bounded_with_a_checkpoint_between_them_and_an_audit_event_each() {
    for (size, checkpoints, events) in [(1, 5, 5), (2, 2, 3), (5, 1, 1), (6, 0, 1)] {
        let host = orphans_of_one(&["opened"; 5]);
        assert_eq!(run(&host, all(json!({"batch_size": size}))), result(5, 5));
        assert_eq!(
            (host.checkpoints(), host.audited().len()),
            (checkpoints, events),
            "batches of {size}"
        );
        assert_eq!(host.last_progress(), (5, 0));
    }
}

#[test]
fn cancelled_at_a_checkpoint_it_keeps_the_batches_before_with_their_messages() {
    let host = orphans_of_one(&["opened"; 5]);
    host.cancel_after(1);
    assert!(run(&host, all(json!({"batch_size": 2}))).unwrap_err().contains("cancelled"));
    assert_eq!(reconciled(&host), "e0 e1");
    assert_eq!((host.published().len(), host.audited().len()), (2, 1));
    assert_eq!(host.one::<i64>("SELECT lock_version FROM deliveries"), 2);
}

#[test]
fn a_row_that_the_app_refuses_is_audited_leaves_nothing_behind_and_the_others_go_through() {
    let refusals = [
        // the delivery refuses, after its event was appended
        "CREATE TRIGGER refuse BEFORE UPDATE ON deliveries WHEN OLD.id = 'd1' BEGIN SELECT RAISE(ABORT, 'frozen'); END;",
        "CREATE TRIGGER refuse BEFORE UPDATE ON deliveries WHEN OLD.id = 'd1' BEGIN SELECT RAISE(IGNORE); END;",
        // the event is refused
        "CREATE TRIGGER refuse BEFORE INSERT ON webhook_events WHEN NEW.delivery_id = 'd1' BEGIN SELECT RAISE(ABORT, 'frozen'); END;",
        "INSERT INTO webhook_events (id, organization_id, type, provider, occurred_at, inserted_at) VALUES ('reconciled:e1', 'org_1', 'x', 'y', 0, 0);",
    ];
    for refusal in refusals {
        let host = reference();
        for i in 0..3 {
            deliver(&host, &format!("d{i}"), "org_1");
            orphan(&host, &format!("e{i}"), "org_1", "opened", &format!("d{i}"), at(i));
        }
        host.connection().execute_batch(refusal).unwrap();
        assert_eq!(
            run(&host, all(json!({}))),
            Ok(json!({"scanned": 3, "linked": 2, "errors": 1})),
            "{refusal}"
        );
        assert_eq!(reconciled(&host), "e0 e2", "{refusal}");
        assert_eq!(
            host.one::<String>("SELECT group_concat(status || lock_version) FROM (SELECT * FROM deliveries ORDER BY id)"),
            "opened1,sent0,opened1"
        );
        assert_eq!(host.published().len(), 2, "{refusal}");
        let (refused, linked): (Vec<_>, Vec<_>) =
            host.audited().into_iter().partition(|event| event.outcome == EventOutcome::Error);
        assert_eq!(refused.len(), 1, "{refusal}");
        assert_eq!(
            (refused[0].subject_id.as_deref(), refused[0].organization_id.as_deref()),
            (Some("e1"), Some("org_1"))
        );
        assert!(refused[0].metadata.as_deref().unwrap().contains("\"constraint\""), "{refusal}");
        assert_eq!(
            linked,
            [AuditEvent::success(ACTION)
                .organization("org_1".to_string())
                .metadata(json!({"linked": 2}))]
        );
        // It is tried again, and does not stop what comes later.
        assert_eq!(
            run(&host, all(json!({}))),
            Ok(json!({"scanned": 1, "linked": 0, "errors": 1})),
            "{refusal}"
        );
    }
}

#[test]
fn an_orphan_past_the_age_shows_as_unlikely_to_reconcile() {
    let host = reference();
    deliver(&host, "d", "org_1");
    for (id, inserted_at) in
        [("older", NOW - AGE - 2), ("old", NOW - AGE - 1), ("young", NOW - AGE)]
    {
        orphan(&host, id, "org_1", "opened", "d", inserted_at);
    }
    host.connection()
        .execute_batch(
            "INSERT INTO webhook_events (id, organization_id, delivery_id, type, provider, idempotency_key, occurred_at, inserted_at)
             VALUES ('reconciled:older', 'org_1', 'd', 'reconciled', 'postmark', 'reconciled:older', 0, 0)",
        )
        .unwrap();
    let mut statement = host.connection().prepare(sql::UNLIKELY_TO_RECONCILE).unwrap();
    let ids: Vec<String> =
        statement.query_map([NOW - AGE], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(ids, ["old"]);
    assert!(
        host.plan(sql::UNLIKELY_TO_RECONCILE)
            .starts_with("SEARCH e USING INDEX webhook_events_orphans (inserted_at<?)")
    );
}

#[test]
fn the_events_table_refuses_change_and_opens_one_door_for_retention() {
    let host = orphans_of_one(&["opened", "opened"]);
    let refused = |sql: &str| host.connection().execute_batch(sql).unwrap_err().to_string();
    assert!(
        refused("UPDATE webhook_events SET type = 'x'").contains("webhook_events_append_only: ")
    );
    assert!(refused("DELETE FROM webhook_events").contains("webhook_events_append_only: "));
    host.connection()
        .execute("INSERT INTO webhook_events_retention (id, keep_from) VALUES (1, ?1)", [at(1)])
        .unwrap();
    assert!(
        refused("DELETE FROM webhook_events WHERE id = 'e1'")
            .contains("webhook_events_append_only: ")
    );
    assert_eq!(
        host.connection().execute("DELETE FROM webhook_events WHERE id = 'e0'", ()).unwrap(),
        1
    );
    assert!(
        refused("UPDATE webhook_events SET type = 'x'").contains("webhook_events_append_only: ")
    );
}

#[test]
fn an_unusable_arg_is_refused_by_name_and_nothing_is_linked() {
    let cases = [
        (
            json!({"max_age_minutes": 0}),
            "`max_age_minutes` is not usable: must be a whole number from 1",
        ),
        (json!({"max_age_minutes": -5}), "not -5"),
        (json!({"max_age_minutes": 1_000_000_000_000_i64}), "to 52560000"),
        (json!({"batch_size": "x"}), "`batch_size` is not usable"),
        (json!({"timestamps": "julian"}), "`timestamps` is not usable"),
        (json!({"table": "webhook_events; --"}), "`table` is not usable"),
        (
            json!({"deliveries_table": "deliveries\" SET status = 'x' --"}),
            "`deliveries_table` is not usable",
        ),
        (json!({"deliveries_table": "VERGER_jobs"}), "`verger_`"),
        (json!({"table": "no_such_table"}), "no such table: no_such_table"),
    ];
    for (more, expected) in cases {
        let host = orphans_of_one(&["opened"]);
        let error = run(&host, all(more.clone())).unwrap_err();
        assert!(error.contains(expected), "{more}: {error}");
        assert_eq!(reconciled(&host), "");
    }
    let error = run(&reference(), json!({})).unwrap_err();
    assert!(error.contains("`organization_id`, `actor_id`"), "{error}");
}

/// The reference tables' columns with times of another class, and no index at all.
fn other_times(class: &str) -> MemoryHost {
    let host = MemoryHost::new(&format!(
        "CREATE TABLE hooks (id TEXT, organization_id TEXT, delivery_id TEXT, type TEXT, provider TEXT, payload TEXT, metadata TEXT,
           needs_reconciliation INTEGER, idempotency_key TEXT UNIQUE, occurred_at {class}, inserted_at {class});
         CREATE TABLE mails (id TEXT, organization_id TEXT, provider TEXT, provider_message_id TEXT, status TEXT, terminal INTEGER,
           sent_at {class}, delivered_at {class}, opened_at {class}, clicked_at {class}, bounced_at {class}, complained_at {class},
           failed_at {class}, lock_version INTEGER, updated_at {class});
         INSERT INTO mails (id, organization_id, provider, provider_message_id, status, terminal, lock_version)
           VALUES ('d', 'o', 'p', 'm', 'posted by hand', 0, 0);"
    ));
    host.set_now(NOW);
    host
}

#[test]
fn tables_that_keep_seconds_or_text_are_swept_at_the_same_boundaries() {
    let seconds = ["1767225540", "1767225539", "1766620800", "1766620799"];
    let text = [
        "'2025-12-31T23:59:00Z'",
        "'2025-12-31 23:58:59.999'",
        "'2025-12-25T00:00:00Z'",
        "'2025-12-24T23:59:59.999Z'",
    ];
    let mixed =
        ["'2025-12-31T23:59:00.000Z'", "'2025-12-31T23:58Z'", "'2025-12-25'", "'2025-12-24 23:59'"];
    let cases = [
        ("unix_s", "INTEGER", seconds, "1767225600"),
        ("iso8601", "TEXT", text, "2026-01-01T00:00:00.000Z"),
        ("iso8601", "TEXT", mixed, "2026-01-01T00:00:00.000Z"),
    ];
    for (timestamps, class, [in_grace, past_grace, young, old], now) in cases {
        for size in [1, 10] {
            let host = other_times(class);
            for (id, inserted_at) in
                [("grace", in_grace), ("late", past_grace), ("early", young), ("old", old)]
            {
                host.connection()
                    .execute_batch(&format!(
                        "INSERT INTO hooks VALUES ('{id}', 'o', NULL, 'opened', 'p', '{{}}', '{{\"provider\":\"p\",\"provider_message_id\":\"m\"}}', 1, NULL,
                         {inserted_at}, {inserted_at})"
                    ))
                    .unwrap();
            }
            let args = all(
                json!({"table": "hooks", "deliveries_table": "mails", "timestamps": timestamps, "batch_size": size}),
            );
            assert_eq!(run(&host, args), result(2, 2), "{timestamps}");
            let found: String = host.one("SELECT status || ' ' || lock_version || ' ' || updated_at || ' ' || opened_at FROM mails");
            assert_eq!(
                found,
                format!("opened 2 {now} {}", young.trim_matches('\'')),
                "{timestamps}"
            );
            assert_eq!(
                host.one::<String>(
                    "SELECT group_concat(idempotency_key || inserted_at) FROM (SELECT * FROM hooks WHERE type = 'reconciled' ORDER BY id)"
                ),
                format!("reconciled:early{now},reconciled:late{now}")
            );
        }
    }
}

#[test]
fn views_with_instead_of_triggers_serve_as_the_tables() {
    let host = other_times("INTEGER");
    host.connection()
        .execute_batch(&format!(
            "INSERT INTO hooks VALUES ('e', 'o', NULL, 'bounced', 'p', '{{}}', '{{\"provider\":\"p\",\"provider_message_id\":\"m\"}}', 1, NULL, 5, {});
             CREATE VIEW events AS SELECT * FROM hooks;
             CREATE TRIGGER append INSTEAD OF INSERT ON events BEGIN INSERT INTO hooks SELECT NEW.id, NEW.organization_id, NEW.delivery_id, NEW.type,
               NEW.provider, NEW.payload, NEW.metadata, NEW.needs_reconciliation, NEW.idempotency_key, NEW.occurred_at, NEW.inserted_at; END;
             CREATE VIEW sent AS SELECT * FROM mails;
             CREATE TRIGGER project INSTEAD OF UPDATE ON sent BEGIN UPDATE mails SET status = NEW.status, terminal = NEW.terminal,
               bounced_at = NEW.bounced_at, lock_version = NEW.lock_version WHERE id = OLD.id; END;",
            at(0)
        ))
        .unwrap();
    assert_eq!(
        run(&host, all(json!({"table": "events", "deliveries_table": "sent"}))),
        result(1, 1)
    );
    assert_eq!(
        host.one::<String>(
            "SELECT json_array(status, terminal, bounced_at, lock_version) FROM mails"
        ),
        r#"["bounced",1,5,1]"#
    );
}

#[test]
fn the_indexes_serve_the_sweep() {
    let host = reference();
    let (events, deliveries) =
        (Ident::parse("webhook_events").unwrap(), Ident::parse("deliveries").unwrap());
    for one_organization in [false, true] {
        let walk = sql::orphans(&events, &deliveries, TimeFormat::UnixMillis, one_organization);
        let place = params![1, "id", "organization"];
        for (sql, range) in [
            (walk.first_batch(), "inserted_at>? AND inserted_at<?"),
            (
                walk.batch_after(&place),
                "(inserted_at,id,organization_id)>(?,?,?) AND inserted_at<?",
            ),
        ] {
            let expected = format!(
                "SEARCH e USING INDEX webhook_events_orphans ({range}); \
                 CORRELATED SCALAR SUBQUERY 2; \
                 SEARCH r USING INDEX webhook_events_idempotency (idempotency_key=?); \
                 CORRELATED SCALAR SUBQUERY 1; \
                 SEARCH d USING COVERING INDEX deliveries_message (organization_id=? AND provider=? AND provider_message_id=?)"
            );
            assert_eq!(host.plan(&sql), expected);
        }
    }
    assert_eq!(
        host.plan(&sql::project(&deliveries, TimeFormat::UnixMillis)),
        "SEARCH deliveries USING PRIMARY KEY (id=?)"
    );
}

#[test]
fn the_manifest_asks_for_what_it_uses_and_no_more() {
    let manifest = ReconcileWebhookEvents.manifest();
    manifest.check().unwrap();
    assert!(manifest.tenant_aware && manifest.capabilities.is_empty());
    assert_eq!(manifest.schedule, Some(Suggested::Cron("*/5 * * * *".into())));
    let asks = [
        TableAsk::from_arg("table", "webhook_events").read().insert(),
        TableAsk::from_arg("deliveries_table", "deliveries").read().update(),
    ];
    assert_eq!(manifest.tables, asks);
    assert!(manifest.args.values().all(|arg| !arg.description.is_empty()));
    assert_eq!(manifest.args["max_age_minutes"].default, Some(json!(10_080)));
}
