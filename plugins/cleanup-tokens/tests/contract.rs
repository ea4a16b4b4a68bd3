//! What `cleanup-tokens` promises, on the reference schema and beside it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use cleanup_tokens::{ACTION, AGES, CleanupTokens};
use serde_json::Value as Json;
use verger_worker::prelude::*;
use verger_worker::testing::MemoryHost;

const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

fn reference() -> MemoryHost {
    let host = MemoryHost::new(include_str!("../../../migrations/reference/0001_init.sql"));
    host.set_now(NOW);
    host
}

fn issue(host: &MemoryHost, id: &str, context: &str, inserted_at: i64) {
    let sql = "INSERT INTO tokens (id, user_id, context, token_hash, inserted_at) VALUES (?1, 'u', ?2, CAST(?1 AS BLOB), ?3)";
    host.connection().execute(sql, (id, context, inserted_at)).unwrap();
}

fn run(host: &MemoryHost, args: Json) -> Result<Json, String> {
    let performed = host.perform(&CleanupTokens, args).map_err(|error| error.to_string());
    performed.map(|outcome| match outcome {
        Outcome::DoneWith(result) => result,
        other => panic!("{other:?}"),
    })
}

fn left(host: &MemoryHost) -> String {
    host.one("SELECT coalesce(group_concat(id, ' '), '') FROM (SELECT id FROM tokens ORDER BY id)")
}

#[test]
fn each_context_has_its_age_and_the_boundary_is_strict() {
    let hour = 3_600_000;
    let ages = [
        ("confirm", 48 * hour),
        ("reset_password", hour),
        ("magic_link", hour / 4),
        ("session", 60 * 24 * hour),
        ("api_refresh", 30 * 24 * hour),
    ];
    assert_eq!(ages.len(), AGES.len());
    for (context, age) in ages {
        let host = reference();
        issue(&host, "at", context, NOW - age);
        issue(&host, "before", context, NOW - age - 1);
        issue(&host, "old", context, 0);
        issue(&host, "young", context, NOW);
        issue(&host, "future", context, NOW + age);
        assert_eq!(run(&host, json!({})), Ok(json!({"deleted": 2})), "{context}");
        assert_eq!(left(&host), "at future young", "{context}");
        let event = &host.audited()[0];
        assert_eq!((event.action.as_str(), host.audited().len()), (ACTION, 1));
        let told: Json = serde_json::from_str(event.metadata.as_deref().unwrap()).unwrap();
        assert_eq!(
            told,
            json!({"deleted": 2, "context": context, "max_age_seconds": age / 1000, "cutoff": NOW - age})
        );
    }
}

#[test]
fn a_context_without_an_age_is_never_deleted() {
    let host = reference();
    for context in ["invite", "Session", "session ", "", "confirm\u{0}", "'; DROP TABLE tokens"] {
        issue(&host, context, context, 0);
    }
    let before = left(&host);
    assert_eq!(run(&host, json!({})), Ok(json!({"deleted": 0})));
    assert_eq!((left(&host), host.audited().len()), (before, 0));
}

#[test]
fn ages_are_laid_over_those_that_are_there() {
    let minute = 60_000;
    let cases = [
        (json!({"session": 60}), "confirm link odd", 1),
        (json!({"session": null}), "confirm link odd session", 0),
        (json!({"odd": 60}), "confirm link session", 1),
        (json!({"it's": 60, "confirm": 60, "magic_link": 60}), "odd session", 2),
        (json!({}), "confirm link odd session", 0),
        (json!(null), "confirm link odd session", 0),
    ];
    for (ages, expected, deleted) in cases {
        let host = reference();
        for (id, context) in
            [("session", "session"), ("confirm", "confirm"), ("link", "magic_link"), ("odd", "odd")]
        {
            issue(&host, id, context, NOW - 2 * minute);
        }
        let result = run(&host, json!({"max_age_seconds": ages}));
        assert_eq!(result, Ok(json!({"deleted": deleted})), "{ages}");
        assert_eq!(left(&host), expected, "{ages}");
    }
}

#[test]
fn an_unusable_arg_is_refused_by_name_and_nothing_is_deleted() {
    let many: serde_json::Map<_, _> = (0..100).map(|n| (format!("c{n}"), json!(1))).collect();
    let cases = [
        (json!({"max_age_seconds": 60}), "`max_age_seconds` is not usable: must be an object"),
        (json!({"max_age_seconds": {"session": 0}}), "\"session\" must be null or a whole number"),
        (json!({"max_age_seconds": {"session": -1}}), "from 1 to"),
        (json!({"max_age_seconds": {"session": 1.5}}), "from 1 to"),
        (json!({"max_age_seconds": {"session": "60"}}), "from 1 to"),
        (json!({"max_age_seconds": {"session": 9_000_000_000_000_000_i64}}), "from 1 to"),
        (json!({"max_age_seconds": {"": 60}}), "a context has 1 to 128 bytes"),
        (json!({"max_age_seconds": {"a\u{0}": 60}}), "no control characters"),
        (json!({ "max_age_seconds": many }), "more than 100 contexts"),
        (json!({"batch_size": 0}), "`batch_size` is not usable"),
        (json!({"timestamps": "julian"}), "`timestamps` is not usable"),
        (json!({"timestamps": "unix_s"}), "they are milliseconds, not seconds"),
        (json!({"table": "x; DROP TABLE tokens"}), "`table` is not usable"),
        (json!({"table": "nowhere"}), "no such table: nowhere"),
    ];
    for (args, expected) in cases {
        let host = reference();
        issue(&host, "old", "session", NOW - 90 * 86_400_000);
        let error = run(&host, args.clone()).unwrap_err();
        assert!(error.contains(expected), "{args}: {error}");
        assert_eq!(left(&host), "old");
    }
}

#[test]
fn batches_are_bounded_with_a_checkpoint_between_them_and_a_second_run_finds_nothing() {
    let host = reference();
    for n in 0..7 {
        issue(&host, &format!("t{n}"), "session", n % 3);
    }
    assert_eq!(run(&host, json!({"batch_size": 3})), Ok(json!({"deleted": 7})));
    assert_eq!((host.checkpoints(), host.audited().len(), host.last_progress()), (2, 3, (7, 0)));
    assert_eq!(run(&host, json!({})), Ok(json!({"deleted": 0})));
    assert_eq!(host.audited().len(), 3);
}

#[test]
fn a_token_that_the_app_keeps_is_audited_and_the_others_go() {
    let host = reference();
    for id in ["a", "b", "c"] {
        issue(&host, id, "confirm", 0);
    }
    host.connection()
        .execute_batch("CREATE TRIGGER keep BEFORE DELETE ON tokens WHEN OLD.id = 'b' BEGIN SELECT RAISE(ABORT, 'b is evidence'); END;")
        .unwrap();
    assert_eq!(run(&host, json!({"batch_size": 1})), Ok(json!({"deleted": 2, "errors": 1})));
    assert_eq!(left(&host), "b");
    let refused = host.audited().into_iter().find(|event| event.outcome == EventOutcome::Error);
    let refused = refused.unwrap();
    assert_eq!(refused.subject_id.as_deref(), Some("b"));
    assert!(refused.metadata.unwrap().contains("b is evidence"));
}

#[test]
fn a_renewal_in_between_wins() {
    let host = reference();
    issue(&host, "a", "session", 0);
    issue(&host, "b", "session", 1);
    host.connection()
        .execute_batch(&format!("CREATE TRIGGER renew AFTER DELETE ON tokens WHEN OLD.id = 'a' BEGIN UPDATE tokens SET inserted_at = {NOW} WHERE id = 'b'; END;"))
        .unwrap();
    assert_eq!(run(&host, json!({})), Ok(json!({"deleted": 1})));
    assert_eq!(left(&host), "b");
}

#[test]
fn tables_that_keep_seconds_or_text_and_views_are_swept_at_the_same_boundary() {
    let cases = [
        ("unix_s", "INTEGER", "1767221999", "1767222000"),
        ("iso8601", "TEXT", "'2025-12-31T22:59:59.999Z'", "'2025-12-31 23:00:00'"),
    ];
    for (timestamps, class, due, kept) in cases {
        let host = MemoryHost::new(&format!(
            "CREATE TABLE keys (n INTEGER PRIMARY KEY, what TEXT, made {class});
             CREATE VIEW sessions AS SELECT n AS id, what AS context, made AS inserted_at FROM keys;
             CREATE TRIGGER gone INSTEAD OF DELETE ON sessions BEGIN DELETE FROM keys WHERE n = OLD.id; END;
             INSERT INTO keys VALUES (1, 'reset_password', {due}), (2, 'reset_password', {kept}), (3, 'other', {due}), (4, 'reset_password', NULL);"
        ));
        host.set_now(NOW);
        let args = json!({"table": "sessions", "timestamps": timestamps, "batch_size": 1});
        assert_eq!(run(&host, args), Ok(json!({"deleted": 1})), "{timestamps}");
        assert_eq!(host.one::<String>("SELECT group_concat(n) FROM keys"), "2,3,4");
    }
}

#[test]
fn the_index_serves_the_sweep() {
    let host = reference();
    let table = Ident::parse("tokens").unwrap();
    let rows = AgedRows {
        table: &table,
        column: "context",
        kind: "session",
        times: TimeFormat::UnixMillis,
    };
    let walk = rows.walk();
    assert_eq!(
        host.plan(&walk.first_batch()),
        "SEARCH tokens USING COVERING INDEX tokens_age (context=? AND inserted_at<?)"
    );
    assert_eq!(
        host.plan(&walk.batch_after(&params![1, "id"])),
        "SEARCH tokens USING COVERING INDEX tokens_age (context=? AND (inserted_at,id)>(?,?) AND inserted_at<?)"
    );
    assert_eq!(host.plan(&rows.delete()), "SEARCH tokens USING PRIMARY KEY (id=?)");
}

#[test]
fn the_manifest_asks_for_what_it_uses_and_no_more() {
    let manifest = CleanupTokens.manifest();
    manifest.check().unwrap();
    assert!(!manifest.tenant_aware && manifest.capabilities.is_empty());
    assert_eq!(manifest.tables, [TableAsk::from_arg("table", "tokens").read().delete()]);
    assert!(manifest.schedule.is_some());
    assert!(manifest.args.values().all(|arg| !arg.description.is_empty()));
}
