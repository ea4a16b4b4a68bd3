//! Which events and deliveries match, and what a match does to the delivery.

use reconcile_webhook_events::{ACTION, TOPIC};
use serde_json::Value as Json;
use verger_worker::prelude::*;

use super::{NOW, all, at, deliver, event, orphan, orphans_of_one, reference, result, run};

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
