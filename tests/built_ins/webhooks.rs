//! Events whose delivery comes later.

use serde_json::json;
use verger::testing::TestVerger;
use verger::{Event, assert_audited};

use super::{DAY, MINUTE, NOW, WEBHOOKS, args, audited, both, result};

pub(super) fn deliver(test: &TestVerger, id: &str, organization: &str, message: &str) {
    let sql = "INSERT INTO deliveries (id, organization_id, provider, provider_message_id, status, created_at, updated_at) VALUES (?1, ?2, 'p', ?3, 'sent', 0, 0)";
    test.connection().execute(sql, (id, organization, message)).unwrap();
}

pub(super) fn orphan(
    test: &TestVerger,
    id: &str,
    organization: &str,
    kind: &str,
    message: &str,
    inserted_at: i64,
) {
    let sql = "INSERT INTO webhook_events (id, organization_id, type, provider, metadata, needs_reconciliation, occurred_at, inserted_at) \
         VALUES (?1, ?2, ?3, 'p', ?4, 1, ?5, ?5)";
    let metadata = json!({"provider": "p", "provider_message_id": message}).to_string();
    test.connection().execute(sql, (id, organization, kind, metadata, inserted_at)).unwrap();
}

pub(super) fn told(test: &verger::Subscription) -> Vec<Event> {
    std::iter::from_fn(|| test.try_next()).collect()
}

#[test]
fn an_orphan_is_linked_once_its_delivery_is_there_and_the_app_is_told_after_the_commit() {
    for test in both() {
        let events = test.subscribe();
        orphan(&test, "e1", "o1", "delivered", "msg", NOW - 2 * MINUTE);
        orphan(&test, "e2", "o1", "opened", "msg", NOW - 2 * MINUTE + 1);
        let orphans = test.rows("SELECT * FROM webhook_events ORDER BY id");
        assert_eq!(
            result(&test, WEBHOOKS, args(None, json!({}))),
            json!({"scanned": 2, "linked": 0})
        );
        assert_eq!((audited(&test), told(&events)), (0, vec![]));

        deliver(&test, "d1", "o1", "msg");
        assert_eq!(
            result(&test, WEBHOOKS, args(None, json!({}))),
            json!({"scanned": 2, "linked": 2})
        );
        let delivery = &test.rows("SELECT * FROM deliveries")[0];
        assert_eq!(
            (&delivery["status"], &delivery["terminal"], &delivery["lock_version"]),
            (&json!("opened"), &json!(1), &json!(2))
        );
        assert_eq!(
            (&delivery["delivered_at"], &delivery["opened_at"]),
            (&json!(NOW - 2 * MINUTE), &json!(NOW - 2 * MINUTE + 1))
        );
        let made = test.rows("SELECT id, type, delivery_id, organization_id, idempotency_key, needs_reconciliation FROM webhook_events WHERE type = 'reconciled'");
        assert_eq!(made.len(), 2);
        assert_eq!(
            made[0],
            json!({"id": "reconciled:e1", "type": "reconciled", "delivery_id": "d1", "organization_id": "o1", "idempotency_key": "reconciled:e1", "needs_reconciliation": 0})
        );
        assert_eq!(
            test.rows("SELECT * FROM webhook_events WHERE type <> 'reconciled' ORDER BY id"),
            orphans,
            "an orphan is never changed"
        );
        let messages = told(&events);
        assert_eq!(messages.len(), 2);
        assert_eq!(
            (messages[0].topic.as_str(), messages[0].worker.as_str()),
            ("delivery.reconciled", WEBHOOKS)
        );
        assert_eq!(
            messages[0].payload,
            json!({"organization_id": "o1", "delivery_id": "d1", "event_id": "e1", "reconciled_event_id": "reconciled:e1", "type": "delivered"})
        );
        assert_audited!(test, action: "webhook_event.reconciled", organization: "o1", metadata: json!({"linked": 2}));

        assert_eq!(
            result(&test, WEBHOOKS, args(None, json!({}))),
            json!({"scanned": 0, "linked": 0}),
            "not yet reconciled means once"
        );
        assert_eq!((audited(&test), told(&events).len()), (1, 0));
    }
}

#[test]
fn only_orphans_between_the_grace_and_the_greatest_age_are_linked_and_only_within_their_tenant() {
    for test in both() {
        let cases = [
            ("young", "o1", NOW - MINUTE, false),
            ("ripe", "o1", NOW - MINUTE - 1, true),
            ("old", "o1", NOW - 7 * DAY, true),
            ("too-old", "o1", NOW - 7 * DAY - 1, false),
            ("foreign", "o2", NOW - DAY, false),
        ];
        for (id, organization, at, _) in cases {
            orphan(&test, id, organization, "delivered", id, at);
            deliver(&test, id, "o1", id);
        }
        let malformed = "INSERT INTO webhook_events (id, organization_id, type, provider, metadata, payload, needs_reconciliation, occurred_at, inserted_at) \
             VALUES ('malformed', 'o1', 'delivered', 'p', 'no json', '{\"provider\": \"p\"}', 1, 0, ?1)";
        test.connection().execute(malformed, [NOW - DAY]).unwrap();
        assert_eq!(
            result(&test, WEBHOOKS, args(None, json!({}))),
            json!({"scanned": 4, "linked": 2, "malformed": 1})
        );
        for (id, _, _, linked) in cases {
            let status: String =
                test.one(&format!("SELECT status FROM deliveries WHERE id = '{id}'"));
            assert_eq!(status, if linked { "delivered" } else { "sent" }, "{id}");
        }
        assert_eq!(
            test.one::<i64>("SELECT count(*) FROM webhook_events WHERE type = 'reconciled'"),
            2
        );
        let shorter = args(None, json!({"max_age_minutes": 1}));
        assert_eq!(result(&test, WEBHOOKS, shorter)["scanned"], 0);
    }
}

#[test]
fn the_guide_shows_the_query_for_orphans_that_are_too_old() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let guide = words(include_str!("../../core/guide/built_ins.md"));
    assert!(guide.contains(&words(reconcile_webhook_events::sql::UNLIKELY_TO_RECONCILE)));
}
