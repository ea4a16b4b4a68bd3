//! What `reconcile-webhook-events` promises, on the reference schema and beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod matching;
mod tables;

use reconcile_webhook_events::ReconcileWebhookEvents;
use serde_json::Value as Json;
use verger_worker::prelude::*;
use verger_worker::testing::MemoryHost;

const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z
const MINUTE: i64 = 60_000;
const AGE: i64 = 10_080 * MINUTE;

fn reference() -> MemoryHost {
    let host = MemoryHost::new(include_str!("../../../../migrations/reference/0001_init.sql"));
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
