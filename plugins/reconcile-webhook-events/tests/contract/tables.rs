//! The app's tables: what they refuse, how they keep time, views and indexes.

use reconcile_webhook_events::{ACTION, sql};
use verger_worker::prelude::*;
use verger_worker::testing::MemoryHost;

use super::{
    AGE, NOW, all, at, deliver, orphan, orphans_of_one, reconciled, reference, result, run,
};

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
