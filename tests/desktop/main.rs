//! What the built-in workers of a desktop app promise: a cache that does not grow, a file that gives
//! space back, and backups that can be opened.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod backups;
#[path = "../common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use evict_cache::EvictCache;
use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::testing::{ManualClock, TestVerger};
use verger::{Job, JobState, NewJob, PerformError, Verger, assert_audited};

const NOW: i64 = TestVerger::START.as_millis();

#[track_caller]
fn run(test: &TestVerger, worker: &str, args: Json) -> Job {
    let id = test.enqueue(NewJob::new(worker, args).max_attempts(1)).unwrap().id;
    test.drain();
    test.job(id).unwrap().unwrap()
}

#[track_caller]
fn result(test: &TestVerger, worker: &str, args: Json) -> Json {
    let job = run(test, worker, args);
    assert_eq!(job.state, JobState::Completed, "{:?}", job.errors);
    job.result.unwrap()
}

/// The message of the error a job ended with.
#[track_caller]
fn refusal(test: &TestVerger, worker: &str, args: Json) -> String {
    let job = run(test, worker, args);
    assert_eq!(job.state, JobState::Discarded);
    job.errors[0].message.clone()
}

fn failure(error: &PerformError) -> String {
    error.to_string()
}

/// The component and the plain Rust, with a folder of files.
fn caches() -> Vec<(TestVerger, tempfile::TempDir)> {
    [false, true]
        .map(|native| {
            let folder = tempfile::tempdir().unwrap();
            let test = TestVerger::with(|builder| {
                let builder = builder.cache_folder(folder.path());
                match native {
                    true => builder.without_built_ins().worker(EvictCache),
                    false => builder,
                }
            });
            (test.reference_tables(), folder)
        })
        .into()
}

fn keep(test: &TestVerger, folder: &Path, id: &str, path: &str, used_at: i64) {
    if !path.contains("gone") && !path.contains("..") {
        std::fs::write(folder.join(path), "0123456789").unwrap();
    }
    let sql = "INSERT INTO cache_entries (id, path, bytes, created_at, used_at) VALUES (?1, ?2, 10, 0, ?3)";
    test.connection().execute(sql, (id, path, used_at)).unwrap();
}

fn files(folder: &Path) -> String {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.join(" ")
}

#[test]
fn a_cache_loses_what_was_not_used_for_long_and_what_is_too_much_with_its_files() {
    for (test, folder) in caches() {
        for (n, age) in [90, 80, 40, 30, 20, 10].into_iter().enumerate() {
            let file = format!("f{n}");
            keep(&test, folder.path(), &format!("e{n}"), &file, NOW - age * 86_400_000);
        }
        keep(&test, folder.path(), "e6", "gone", 0);
        let args = json!({"path_column": "path", "max_age_seconds": 60 * 86_400, "max_bytes": 25, "batch_size": 2});
        assert_eq!(
            result(&test, "evict-cache", args.clone()),
            json!({"evicted": 5, "bytes": 50, "files": 5}),
            "a file that is not there is no error"
        );
        assert_eq!(files(folder.path()), "f4 f5");
        assert_eq!(test.one::<String>("SELECT group_concat(id) FROM cache_entries"), "e4,e5");
        assert_audited!(test, action: "cache_entry.evicted", outcome: "success", worker: "evict-cache");
        let again = result(&test, "evict-cache", args);
        assert_eq!(again, json!({"evicted": 0, "bytes": 0, "files": 0}));
    }
}

#[test]
fn what_lies_outside_the_folder_of_the_cache_stays_and_so_does_its_row() {
    for (test, folder) in caches() {
        let outside = folder.path().parent().unwrap().join(format!("out-{}", std::process::id()));
        std::fs::write(&outside, "mine").unwrap();
        keep(&test, folder.path(), "a", "inside", 1);
        keep(&test, folder.path(), "b", "../out", 2);
        let sql = "INSERT INTO cache_entries (id, path, bytes, created_at, used_at) VALUES ('c', ?1, 10, 0, 3)";
        test.connection().execute(sql, [outside.to_str().unwrap()]).unwrap();
        let args = json!({"path_column": "path", "max_bytes": 0});
        assert_eq!(
            result(&test, "evict-cache", args),
            json!({"evicted": 1, "bytes": 10, "files": 1, "errors": 2})
        );
        assert!(outside.exists());
        std::fs::remove_file(&outside).unwrap();
        assert_eq!(test.one::<String>("SELECT group_concat(id) FROM cache_entries"), "b,c");
        assert_audited!(test, outcome: "error", subject: ("cache_entry", "b"));
    }
}

#[test]
fn a_dry_run_shows_what_would_go_and_removes_no_file() {
    for (test, folder) in caches() {
        keep(&test, folder.path(), "a", "f", 1);
        let args = json!({"path_column": "path", "max_bytes": 0});
        let shown = test.dry_run("evict-cache", args).unwrap();
        assert_eq!(shown.result().unwrap()["evicted"], 1);
        assert_eq!((files(folder.path()).as_str(), shown.changes.len()), ("f", 1));
        let evicted = test.evict_cache(json!({"path_column": "path", "max_bytes": 0})).unwrap();
        assert_eq!((evicted.evicted, evicted.bytes, evicted.files, evicted.errors), (1, 10, 1, 0));
        assert_eq!(files(folder.path()), "");
    }
}

#[test]
fn a_function_that_is_registered_as_slow_is_told_apart() {
    let test =
        TestVerger::with(|builder| builder.slow_capability("remove-file", |_| Ok(Json::Null)))
            .reference_tables();
    test.sql("INSERT INTO cache_entries VALUES ('a', 'f', 1, 0, 0)");
    let why = refusal(&test, "evict-cache", json!({"path_column": "path", "max_bytes": 0}));
    assert!(why.contains("register it with Builder::capability"), "{why}");
    assert_eq!(test.one::<i64>("SELECT count(*) FROM cache_entries"), 1);
}

/// A file of the app's own, made before Verger opens it.
fn file_with(set_up: &str) -> (TestVerger, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().canonicalize().unwrap().join("app.db");
    Connection::open(&file).unwrap().execute_batch(set_up).unwrap();
    let clock = ManualClock::at(TestVerger::START);
    let test = TestVerger::open(Verger::builder(&file), &clock).unwrap();
    (test, file, folder)
}

const FILLED: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, kind INTEGER);
    CREATE INDEX notes_kind ON notes (kind);
    WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 2000)
    INSERT INTO notes SELECT n, hex(randomblob(500)), n % 7 FROM n;";

fn pages(test: &TestVerger) -> (i64, i64) {
    (test.one("PRAGMA page_count"), test.one("PRAGMA freelist_count"))
}

#[test]
fn free_pages_are_given_back_in_small_steps_where_the_file_allows_it() {
    let (test, _file, _folder) = file_with(&format!(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; {FILLED} DELETE FROM notes WHERE id > 100;"
    ));
    let (before, free) = pages(&test);
    assert!(free > 200, "{free}");
    let args = json!({"pages_per_step": 50, "max_pages": 120, "optimize": false});
    let done = result(&test, "vacuum-step", args);
    assert_eq!(done["freed_pages"], 120);
    assert_eq!((done["auto_vacuum"].as_str(), done.get("note")), (Some("incremental"), None));
    let all = test.vacuum_step().unwrap();
    assert_eq!((all.free_pages, all.auto_vacuum.as_str()), (0, "incremental"));
    // The jobs' own rows may need a page.
    let (after, left) = pages(&test);
    assert!(left <= 2 && after <= before - free + 4, "{before} {free} {after} {left}");
    assert_audited!(test, action: "database.vacuumed", worker: "vacuum-step");
    assert_eq!(test.one::<String>("PRAGMA integrity_check"), "ok");
    assert_eq!(test.one::<i64>("SELECT count(*) FROM notes"), 100);
}

#[test]
fn each_step_is_a_commit_so_that_others_can_write_between_two() {
    let (test, file, _folder) = file_with(&format!(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; {FILLED} DELETE FROM notes WHERE id > 100;"
    ));
    let free = pages(&test).1;
    let looking = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let sizes = scope.spawn(|| {
            let other = Connection::open(&file).unwrap();
            let mut seen = std::collections::BTreeSet::new();
            while looking.load(Ordering::Relaxed) {
                let pages: i64 =
                    other.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
                seen.insert(pages);
            }
            seen
        });
        let args = json!({"pages_per_step": 1, "optimize": false});
        assert!(test.perform_now("vacuum-step", args).is_ok());
        looking.store(false, Ordering::Relaxed);
        let seen = sizes.join().unwrap();
        assert!(seen.len() > 3, "of {free} steps another process saw {seen:?}");
    });
}

#[test]
fn a_file_without_auto_vacuum_is_left_as_it_is_and_the_result_says_so() {
    for mode in ["NONE", "FULL"] {
        let (test, _file, _folder) = file_with(&format!(
            "PRAGMA auto_vacuum = {mode}; {FILLED} DELETE FROM notes WHERE id > 100;"
        ));
        let before = pages(&test);
        let done = result(&test, "vacuum-step", json!({"optimize": false}));
        assert_eq!((done["freed_pages"].as_u64(), done["analyzed"].as_u64()), (Some(0), Some(0)));
        assert_eq!(done["auto_vacuum"], mode.to_lowercase());
        let note = done.get("note").and_then(Json::as_str);
        assert_eq!(
            note.is_some_and(|note| note.contains("PRAGMA auto_vacuum = INCREMENTAL")),
            mode == "NONE"
        );
        let after = pages(&test);
        assert!(after.0 >= before.0 - 2, "{before:?} {after:?}");
        assert_eq!(test.one::<i64>("SELECT count(*) FROM verger_audit"), 0);
    }
}

#[test]
fn what_plans_rest_on_is_counted_for_the_apps_tables_alone() {
    let (test, _file, _folder) = file_with(&format!("PRAGMA journal_mode = WAL; {FILLED}"));
    let done = result(&test, "vacuum-step", json!({}));
    assert_eq!(done["analyzed"], 1, "{done}");
    assert_eq!(test.one::<String>("SELECT group_concat(DISTINCT tbl) FROM sqlite_stat1"), "notes");
    assert_eq!(result(&test, "vacuum-step", json!({}))["analyzed"], 0, "once is enough");
    for bad in [json!({"pages_per_step": 0}), json!({"max_pages": -1}), json!({"optimize": 1})] {
        let why = refusal(&test, "vacuum-step", bad.clone());
        assert!(why.contains("is not usable"), "{bad}: {why}");
    }
}

#[test]
fn nobody_else_may_ask_the_engine_for_these() {
    use verger::verger_worker::prelude::*;
    struct Other;
    impl Worker for Other {
        fn manifest(&self) -> Manifest {
            let manifest = Manifest::new("other", "1").arg("name", ArgSpec::required());
            ["verger.backup", "verger.vacuum", "verger.analyze", "verger.prune-audit"]
                .into_iter()
                .fold(manifest, Manifest::capability)
        }
        fn perform(
            &self,
            job: &Context<'_>,
            _: Option<&Scope>,
            args: &Args,
        ) -> Result<Outcome, WorkerError> {
            let request =
                json!({"folder": "x", "keep": 1, "pages": 1, "done": [], "before": 0, "limit": 1});
            Ok(Outcome::DoneWith(job.call(&args.get::<String>("name")?, &request)?))
        }
    }
    let test = TestVerger::with(|builder| builder.worker(Other));
    for name in ["verger.backup", "verger.vacuum", "verger.analyze", "verger.prune-audit"] {
        let why = refusal(&test, "other", json!({ "name": name }));
        assert!(why.contains("call denied") && why.contains("alone"), "{why}");
    }
}
