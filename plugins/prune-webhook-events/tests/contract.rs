//! What `prune-webhook-events` promises, on the reference schema and beside it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use prune_webhook_events::{ACTION, PruneWebhookEvents};
use serde_json::Value as Json;
use verger_worker::prelude::*;
use verger_worker::testing::MemoryHost;

const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z
const DAY: i64 = 86_400_000;

fn reference() -> MemoryHost {
    let host = MemoryHost::new(include_str!("../../../migrations/reference/0001_init.sql"));
    host.set_now(NOW);
    host
}

fn receive(host: &MemoryHost, id: &str, status: &str, inserted_at: i64) {
    let sql = "INSERT INTO webhook_events (id, organization_id, type, provider, status, occurred_at, inserted_at) VALUES (?1, 'o1', 'delivered', 'p', ?2, 0, ?3)";
    host.connection().execute(sql, (id, status, inserted_at)).unwrap();
}

fn run(host: &MemoryHost, args: Json) -> Result<Json, String> {
    let performed = host.perform(&PruneWebhookEvents, args).map_err(|error| error.to_string());
    performed.map(|outcome| match outcome {
        Outcome::DoneWith(result) => result,
        other => panic!("{other:?}"),
    })
}

fn left(host: &MemoryHost) -> String {
    host.one("SELECT coalesce(group_concat(id, ' '), '') FROM (SELECT id FROM webhook_events ORDER BY id)")
}

fn doors(host: &MemoryHost) -> i64 {
    host.one("SELECT count(*) FROM webhook_events_retention")
}

#[test]
fn succeeded_events_go_after_14_days_dead_ones_after_90_and_failed_ones_never() {
    let host = reference();
    for status in ["succeeded", "dead", "failed"] {
        for (age, at) in [
            ("0", NOW),
            ("14", NOW - 14 * DAY),
            ("14+", NOW - 14 * DAY - 1),
            ("90", NOW - 90 * DAY),
            ("90+", NOW - 90 * DAY - 1),
            ("ever", 0),
        ] {
            receive(&host, &format!("{status}{age}"), status, at);
        }
    }
    assert_eq!(run(&host, json!({})), Ok(json!({"deleted": 6})));
    assert_eq!(
        left(&host),
        "dead0 dead14 dead14+ dead90 failed0 failed14 failed14+ failed90 failed90+ failedever succeeded0 succeeded14"
    );
    let told: Vec<Json> = host
        .audited()
        .into_iter()
        .map(|event| {
            assert_eq!((event.action.as_str(), event.organization_id), (ACTION, None));
            serde_json::from_str(&event.metadata.unwrap()).unwrap()
        })
        .collect();
    assert_eq!(
        told,
        [
            json!({"status": "succeeded", "deleted": 4, "retention_days": 14, "cutoff": NOW - 14 * DAY}),
            json!({"status": "dead", "deleted": 2, "retention_days": 90, "cutoff": NOW - 90 * DAY}),
        ]
    );
    assert_eq!(run(&host, json!({})), Ok(json!({"deleted": 0})));
    assert_eq!(host.audited().len(), 2);
}

#[test]
fn args_say_how_long_each_is_kept_and_null_is_for_ever() {
    let cases = [
        (json!({"succeeded_days": 1}), "dead failed"),
        (json!({"succeeded_days": null}), "dead failed succeeded"),
        (json!({"dead_days": 1}), "failed succeeded"),
        (json!({"failed_days": 1}), "dead succeeded"),
        (json!({"succeeded_days": 2, "dead_days": 2, "failed_days": 2}), "dead failed succeeded"),
        (json!({"succeeded_days": 1, "dead_days": 1, "failed_days": 1}), ""),
    ];
    for (args, expected) in cases {
        let host = reference();
        for status in ["succeeded", "dead", "failed"] {
            receive(&host, status, status, NOW - DAY - 1);
        }
        run(&host, args.clone()).unwrap();
        assert_eq!(left(&host), expected, "{args}");
    }
}

#[test]
fn the_door_is_opened_for_a_batch_and_is_as_it_was_after_it() {
    for (before, after) in [(None, None), (Some(0), Some(0)), (Some(NOW), Some(NOW))] {
        let host = reference();
        for n in 0..5 {
            receive(&host, &format!("e{n}"), "succeeded", n);
        }
        if let Some(keep_from) = before {
            let sql = "INSERT INTO webhook_events_retention VALUES (1, ?1)";
            host.connection().execute(sql, [keep_from]).unwrap();
        }
        assert_eq!(run(&host, json!({"batch_size": 2})), Ok(json!({"deleted": 5})));
        assert_eq!((host.checkpoints(), host.audited().len()), (2, 3));
        assert_eq!(
            host.one::<Option<i64>>("SELECT max(keep_from) FROM webhook_events_retention"),
            after
        );
        assert_eq!(doors(&host), i64::from(before.is_some()));
        receive(&host, "late", "succeeded", 0);
        let deleted = host.connection().execute("DELETE FROM webhook_events", []);
        assert_eq!(deleted.is_ok(), before == Some(NOW), "{deleted:?}");
    }
}

#[test]
fn cancelled_at_a_checkpoint_it_keeps_the_batches_before_and_the_door_is_shut() {
    let host = reference();
    for n in 0..5 {
        receive(&host, &format!("e{n}"), "succeeded", n);
    }
    host.cancel_after(1);
    assert!(run(&host, json!({"batch_size": 2})).unwrap_err().contains("cancelled"));
    assert_eq!((left(&host).as_str(), doors(&host)), ("e2 e3 e4", 0));
}

#[test]
fn an_event_that_the_app_keeps_is_audited_and_the_others_go() {
    let host = reference();
    for id in ["a", "b", "c"] {
        receive(&host, id, "dead", 0);
    }
    host.connection()
        .execute_batch("CREATE TRIGGER keep BEFORE DELETE ON webhook_events WHEN OLD.id = 'b' BEGIN SELECT RAISE(ABORT, 'b is evidence'); END;")
        .unwrap();
    assert_eq!(run(&host, json!({"batch_size": 2})), Ok(json!({"deleted": 2, "errors": 1})));
    assert_eq!((left(&host).as_str(), doors(&host)), ("b", 0));
    let refused = host.audited().into_iter().find(|event| event.outcome == EventOutcome::Error);
    let refused = refused.unwrap();
    assert_eq!(refused.subject_type.as_deref(), Some("webhook_event"));
    assert_eq!(refused.subject_id.as_deref(), Some("b"));
}

#[test]
fn an_unusable_arg_is_refused_by_name_and_nothing_is_deleted() {
    let cases = [
        (json!({"succeeded_days": 0}), "`succeeded_days` is not usable: must be a whole number"),
        (json!({"dead_days": -1}), "`dead_days` is not usable"),
        (json!({"failed_days": "7"}), "`failed_days` is not usable"),
        (json!({"succeeded_days": 0.5}), "not 0.5"),
        (json!({"batch_size": 10_001}), "`batch_size` is not usable"),
        (json!({"timestamps": "unix_s"}), "they are milliseconds, not seconds"),
        (json!({"table": "sqlite_schema"}), "`sqlite_`"),
        (json!({"retention_table": "a b"}), "`retention_table` is not usable"),
        (json!({"table": "nowhere"}), "no such table: nowhere"),
        (json!({"retention_table": "nowhere"}), "no such table: nowhere"),
    ];
    for (args, expected) in cases {
        let host = reference();
        receive(&host, "old", "succeeded", NOW - 400 * DAY);
        let error = run(&host, args.clone()).unwrap_err();
        assert!(error.contains(expected), "{args}: {error}");
        assert_eq!(left(&host), "old");
    }
    // Without the door, the table of the reference schema keeps everything.
    let host = reference();
    receive(&host, "old", "succeeded", 0);
    assert_eq!(
        run(&host, json!({"retention_table": null})),
        Ok(json!({"deleted": 0, "errors": 1}))
    );
}

#[test]
fn the_apps_own_table_or_view_serves_in_every_form_of_time() {
    let cases = [
        ("unix_s", "INTEGER", "1766015999", "1766016000"),
        ("iso8601", "TEXT", "'2025-12-17T23:59:59.999Z'", "'2025-12-18 00:00:00'"),
    ];
    for (timestamps, class, due, kept) in cases {
        for door in [true, false] {
            let host = MemoryHost::new(&format!(
                "CREATE TABLE calls (n INTEGER PRIMARY KEY, status TEXT, at {class});
                 CREATE VIEW events AS SELECT n AS id, status, at AS inserted_at FROM calls;
                 CREATE TRIGGER gone INSTEAD OF DELETE ON events BEGIN DELETE FROM calls WHERE n = OLD.id; END;
                 CREATE TABLE keep (id INTEGER PRIMARY KEY, keep_from {class});
                 INSERT INTO calls VALUES (1, 'succeeded', {due}), (2, 'succeeded', {kept}), (3, 'odd', {due}), (4, 'succeeded', NULL);"
            ));
            if door {
                host.connection()
                    .execute_batch("CREATE TRIGGER kept BEFORE DELETE ON calls WHEN NOT EXISTS (SELECT 1 FROM keep WHERE OLD.at < keep_from) BEGIN SELECT RAISE(ABORT, 'kept'); END;")
                    .unwrap();
            }
            host.set_now(NOW);
            let keep = if door { json!("keep") } else { Json::Null };
            let args = json!({"table": "events", "retention_table": keep, "timestamps": timestamps, "batch_size": 1});
            assert_eq!(run(&host, args), Ok(json!({"deleted": 1})), "{timestamps}");
            assert_eq!(host.one::<String>("SELECT group_concat(n) FROM calls"), "2,3,4");
            assert_eq!(host.one::<i64>("SELECT count(*) FROM keep"), 0);
        }
    }
}

#[test]
fn the_index_serves_the_sweep() {
    let host = reference();
    let table = Ident::parse("webhook_events").unwrap();
    let rows =
        AgedRows { table: &table, column: "status", kind: "dead", times: TimeFormat::UnixMillis };
    let index = "SEARCH webhook_events USING COVERING INDEX webhook_events_age";
    assert_eq!(
        host.plan(&rows.walk().first_batch()),
        format!("{index} (status=? AND inserted_at<?)")
    );
    assert_eq!(
        host.plan(&rows.walk().batch_after(&params![1, "id"])),
        format!("{index} (status=? AND (inserted_at,id)>(?,?) AND inserted_at<?)")
    );
}

#[test]
fn the_manifest_asks_for_what_it_uses_and_no_more() {
    let manifest = PruneWebhookEvents.manifest();
    manifest.check().unwrap();
    assert!(!manifest.tenant_aware && manifest.capabilities.is_empty());
    assert_eq!(manifest.tables.len(), 2);
    assert_eq!(manifest.args["succeeded_days"].default, Some(json!(14)));
    assert_eq!(manifest.args["dead_days"].default, Some(json!(90)));
    assert!(manifest.args.values().all(|arg| !arg.description.is_empty()));
}
