//! What `evict-cache` promises, on the reference table and beside it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::cell::RefCell;
use std::rc::Rc;

use evict_cache::sql::Columns;
use evict_cache::{ACTION, EvictCache, REMOVE_FILE};
use serde_json::Value as Json;
use verger_worker::prelude::*;
use verger_worker::testing::MemoryHost;

const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z
const HOUR: i64 = 3_600_000;

type Removed = Rc<RefCell<Vec<String>>>;

/// The reference table, and the files the app was asked to remove. Those with `stuck` in their path
/// cannot be.
fn reference() -> (MemoryHost, Removed) {
    let removed = Removed::default();
    let files = Rc::clone(&removed);
    let host = MemoryHost::new(include_str!("../../../migrations/reference/0001_init.sql"))
        .capability(REMOVE_FILE, move |request| {
            let path = request["path"].as_str().unwrap();
            if path.contains("stuck") {
                return Err(format!("{path} is in use"));
            }
            files.borrow_mut().push(path.to_string());
            Ok(Json::Null)
        });
    host.set_now(NOW);
    (host, removed)
}

fn keep(host: &MemoryHost, id: &str, bytes: i64, used_at: i64, path: Option<&str>) {
    let sql = "INSERT INTO cache_entries (id, path, bytes, created_at, used_at) VALUES (?1, ?2, ?3, 0, ?4)";
    host.connection().execute(sql, (id, path, bytes, used_at)).unwrap();
}

fn run(host: &MemoryHost, args: Json) -> Result<Json, String> {
    let performed = host.perform(&EvictCache, args).map_err(|error| error.to_string());
    performed.map(|outcome| match outcome {
        Outcome::DoneWith(result) => result,
        other => panic!("{other:?}"),
    })
}

fn left(host: &MemoryHost) -> String {
    host.one("SELECT coalesce(group_concat(id, ' '), '') FROM (SELECT id FROM cache_entries ORDER BY id)")
}

#[test]
fn what_was_not_used_for_the_age_goes_and_the_boundary_is_strict() {
    let (host, _) = reference();
    for (id, used_at) in
        [("at", NOW - HOUR), ("before", NOW - HOUR - 1), ("old", 0), ("young", NOW)]
    {
        keep(&host, id, 10, used_at, None);
    }
    let args = json!({"max_age_seconds": 3600});
    assert_eq!(run(&host, args.clone()), Ok(json!({"evicted": 2, "bytes": 20})));
    assert_eq!(left(&host), "at young");
    let event = &host.audited()[0];
    assert_eq!((event.action.as_str(), host.audited().len()), (ACTION, 1));
    assert_eq!(run(&host, args), Ok(json!({"evicted": 0, "bytes": 0})));
    assert_eq!(host.audited().len(), 1);
}

#[test]
fn the_longest_unused_go_until_the_rest_is_small_enough() {
    let cases =
        [(100, "a b c d"), (99, "b c d"), (90, "b c d"), (89, "c d"), (40, "d"), (39, ""), (0, "")];
    for (most, expected) in cases {
        let (host, _) = reference();
        for (id, bytes, used_at) in [("d", 40, 4), ("a", 10, 1), ("c", 30, 3), ("b", 20, 2)] {
            keep(&host, id, bytes, used_at, None);
        }
        run(&host, json!({"max_bytes": most, "batch_size": 2})).unwrap();
        assert_eq!(left(&host), expected, "{most}");
    }
}

#[test]
fn age_and_size_together_and_nothing_more_than_either_asks_for() {
    let (host, _) = reference();
    keep(&host, "aged", 1, 0, None);
    keep(&host, "large", 50, NOW - 2, None);
    keep(&host, "small", 50, NOW - 1, None);
    let args = json!({"max_age_seconds": 3600, "max_bytes": 60});
    assert_eq!(run(&host, args), Ok(json!({"evicted": 2, "bytes": 51})));
    assert_eq!(left(&host), "small");
}

#[test]
fn a_file_goes_with_the_last_row_that_names_it_and_once() {
    let (host, removed) = reference();
    keep(&host, "a", 1, 1, Some("one"));
    keep(&host, "b", 1, 2, Some("shared"));
    keep(&host, "c", 1, 3, Some("shared"));
    keep(&host, "d", 1, 4, None);
    keep(&host, "e", 1, 5, Some(""));
    keep(&host, "f", 1, NOW, Some("kept"));
    keep(&host, "g", 1, 6, Some("kept"));
    let args = json!({"max_age_seconds": 3600, "path_column": "path", "batch_size": 2});
    assert_eq!(run(&host, args.clone()), Ok(json!({"evicted": 6, "bytes": 6, "files": 2})));
    assert_eq!((left(&host), removed.borrow().join(" ")), ("f".into(), "one shared".into()));
    assert_eq!(run(&host, args), Ok(json!({"evicted": 0, "bytes": 0, "files": 0})));
    assert_eq!(removed.borrow().len(), 2);
}

#[test]
fn without_a_path_column_no_file_is_touched() {
    let (host, removed) = reference();
    keep(&host, "a", 1, 1, Some("one"));
    assert_eq!(run(&host, json!({"max_bytes": 0})), Ok(json!({"evicted": 1, "bytes": 1})));
    assert!(removed.borrow().is_empty());
}

#[test]
fn a_row_whose_file_stays_stays_and_the_others_go() {
    let (host, removed) = reference();
    keep(&host, "a", 1, 1, Some("one"));
    keep(&host, "b", 1, 2, Some("stuck"));
    keep(&host, "c", 1, 3, Some("three"));
    host.connection()
        .execute_batch("CREATE TRIGGER keep BEFORE DELETE ON cache_entries WHEN OLD.id = 'c' BEGIN SELECT RAISE(ABORT, 'c is pinned'); END;")
        .unwrap();
    let args = json!({"max_bytes": 0, "path_column": "path"});
    assert_eq!(run(&host, args), Ok(json!({"evicted": 1, "bytes": 1, "files": 1, "errors": 2})));
    assert_eq!((left(&host), removed.borrow().join(" ")), ("b c".into(), "one".into()));
    let refused: Vec<_> = host
        .audited()
        .into_iter()
        .filter(|event| event.outcome == EventOutcome::Error)
        .map(|event| (event.subject_id.unwrap(), event.metadata.unwrap()))
        .collect();
    assert_eq!(refused.len(), 2);
    assert!(refused[0].0 == "b" && refused[0].1.contains("stuck is in use"), "{refused:?}");
    assert!(refused[1].0 == "c" && refused[1].1.contains("c is pinned"), "{refused:?}");
}

#[test]
fn ten_failures_in_a_row_end_the_attempt() {
    let (host, _) = reference();
    for n in 0..20 {
        keep(&host, &format!("e{n:02}"), 1, n, Some(&format!("stuck{n}")));
    }
    let error = run(&host, json!({"max_bytes": 0, "path_column": "path"})).unwrap_err();
    assert!(error.contains("stuck9 is in use"), "{error}");
    assert_eq!(left(&host).split(' ').count(), 20);
}

#[test]
fn a_use_in_between_wins() {
    let (host, removed) = reference();
    keep(&host, "a", 1, 1, Some("one"));
    keep(&host, "b", 1, 2, Some("two"));
    host.connection()
        .execute_batch(&format!("CREATE TRIGGER used AFTER DELETE ON cache_entries WHEN OLD.id = 'a' BEGIN UPDATE cache_entries SET used_at = {NOW} WHERE id = 'b'; END;"))
        .unwrap();
    let args = json!({"max_age_seconds": 60, "path_column": "path"});
    assert_eq!(run(&host, args), Ok(json!({"evicted": 1, "bytes": 1, "files": 1})));
    assert_eq!((left(&host).as_str(), removed.borrow().len()), ("b", 1));
}

#[test]
fn a_size_that_is_none_counts_for_nothing_and_a_row_without_a_time_is_of_no_age() {
    let host = MemoryHost::new(
        "CREATE TABLE pictures (url TEXT PRIMARY KEY, size, seen);
         INSERT INTO pictures VALUES ('null', NULL, NULL), ('text', 'big', 1), ('less', -5, 2), ('real', 2.5, 3), ('huge', 9223372036854775807, 4), ('more', 9223372036854775807, 1767225600000);",
    );
    host.set_now(NOW);
    let args = |more: Json| {
        let mut args = json!({"table": "pictures", "id_column": "url", "used_at_column": "seen", "bytes_column": "size"});
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        args
    };
    let result = run(&host, args(json!({"max_age_seconds": 60, "batch_size": 1})));
    assert_eq!(result.unwrap()["evicted"], 4);
    assert_eq!(host.one::<String>("SELECT group_concat(url) FROM pictures"), "more,null");
    run(&host, args(json!({"max_bytes": 1}))).unwrap();
    assert_eq!(host.one::<i64>("SELECT count(*) FROM pictures"), 0);
}

#[test]
fn seconds_text_and_views_are_swept_at_the_same_boundary() {
    let cases = [
        ("unix_s", "INTEGER", "1767221999", "1767222000"),
        ("iso8601", "TEXT", "'2025-12-31T22:59:59.999Z'", "'2025-12-31 23:00:00'"),
    ];
    for (timestamps, class, due, kept) in cases {
        let host = MemoryHost::new(&format!(
            "CREATE TABLE base (n INTEGER PRIMARY KEY, at {class}, pinned);
             CREATE VIEW cache AS SELECT n AS id, at AS used_at, 1 AS bytes FROM base WHERE NOT pinned;
             CREATE TRIGGER gone INSTEAD OF DELETE ON cache BEGIN DELETE FROM base WHERE n = OLD.id; END;
             INSERT INTO base VALUES (1, {due}, 0), (2, {kept}, 0), (3, {due}, 1);"
        ));
        host.set_now(NOW);
        let args = json!({"table": "cache", "timestamps": timestamps, "max_age_seconds": 3600});
        assert_eq!(run(&host, args), Ok(json!({"evicted": 1, "bytes": 1})), "{timestamps}");
        assert_eq!(host.one::<String>("SELECT group_concat(n) FROM base"), "2,3");
    }
}

#[test]
fn an_unusable_arg_is_refused_by_name_and_nothing_goes() {
    let cases = [
        (json!({"max_age_seconds": 0}), "`max_age_seconds` is not usable"),
        (json!({"max_age_seconds": "1"}), "`max_age_seconds` is not usable"),
        (json!({"max_bytes": -1}), "`max_bytes` is not usable"),
        (json!({"max_bytes": 1.5}), "`max_bytes` is not usable"),
        (json!({"max_bytes": 1, "batch_size": 0}), "`batch_size` is not usable"),
        (json!({"max_bytes": 1, "id_column": "a b"}), "`id_column` is not usable"),
        (json!({"max_bytes": 1, "path_column": "x; --"}), "`path_column` is not usable"),
        (json!({"max_bytes": 1, "used_at_column": "nope"}), "no such column: t.nope"),
        (json!({"max_bytes": 1, "table": "verger_jobs"}), "`verger_`"),
        (json!({"max_age_seconds": 1, "timestamps": "unix_s"}), "they are milliseconds"),
    ];
    for (args, expected) in cases {
        let (host, _) = reference();
        keep(&host, "old", 9, NOW - 90 * 24 * HOUR, None);
        let error = run(&host, args.clone()).unwrap_err();
        assert!(error.contains(expected), "{args}: {error}");
        assert_eq!(left(&host), "old");
    }
}

#[test]
fn a_job_that_bounds_nothing_keeps_everything_and_says_so() {
    let (host, _) = reference();
    keep(&host, "old", 9, 0, None);
    let result = run(&host, json!({})).unwrap();
    assert_eq!((&result["evicted"], left(&host).as_str()), (&json!(0), "old"));
    assert!(result["note"].as_str().unwrap().contains("set one of them"), "{result}");
}

#[test]
fn the_indexes_serve_the_sweep() {
    let (host, _) = reference();
    let args = Args::from_json(
        json!({"table": "cache_entries", "id_column": "id", "used_at_column": "used_at", "bytes_column": "bytes", "path_column": "path"}),
    );
    let columns = Columns::from_args(&args.unwrap()).unwrap();
    let (all, aged) = (columns.all(), columns.aged(TimeFormat::UnixMillis));
    let index = "t USING COVERING INDEX cache_entries_use";
    let place = params![1, "id"];
    for (sql, plan) in [
        (all.first_batch(), format!("SCAN {index}")),
        (all.batch_after(&place), format!("SEARCH {index} ((used_at,id)>(?,?))")),
        (aged.first_batch(), format!("SEARCH {index} (used_at<?)")),
        (aged.batch_after(&place), format!("SEARCH {index} ((used_at,id)>(?,?) AND used_at<?)")),
    ] {
        assert_eq!(host.plan(&sql), plan, "{sql}");
    }
    assert_eq!(host.plan(&columns.delete()), "SEARCH cache_entries USING PRIMARY KEY (id=?)");
    assert_eq!(
        host.plan(&columns.still_named()),
        "SEARCH t USING COVERING INDEX cache_entries_path (path=?)"
    );
}

#[test]
fn the_manifest_asks_for_what_it_uses_and_no_more() {
    let manifest = EvictCache.manifest();
    manifest.check().unwrap();
    assert!(!manifest.tenant_aware);
    assert_eq!(manifest.capabilities, [REMOVE_FILE]);
    assert_eq!(manifest.tables, [TableAsk::from_arg("table", "cache_entries").read().delete()]);
    assert!(manifest.args.values().all(|arg| !arg.description.is_empty()));
}
