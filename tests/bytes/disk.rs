//! What a worker may write to the disk.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use verger::{Grant, Limits, PerformError, Verger};

use super::limited;
use crate::common::{BOTH, Kind, TABLES, grant};

struct File {
    folder: tempfile::TempDir,
    verger: Verger,
}

impl File {
    pub(super) fn with(kind: Kind, grant: Grant) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let connection = rusqlite(&path);
        connection.execute_batch(&format!("PRAGMA journal_mode = WAL; {TABLES}")).unwrap();
        let verger = kind.add(Verger::builder(&path), grant).open().unwrap();
        Self { folder, verger }
    }

    fn size(&self, name: &str) -> u64 {
        std::fs::metadata(self.folder.path().join(name)).map_or(0, |file| file.len())
    }

    pub(super) fn perform(&self, steps: Json) -> Result<(), String> {
        match self.verger.perform_now("puppet", json!({ "do": steps })) {
            Ok(_) => Ok(()),
            Err(PerformError::Failed { source, .. }) => Err(source.code),
            Err(other) => panic!("{other}"),
        }
    }
}

fn rusqlite(path: &Path) -> verger::rusqlite::Connection {
    verger::rusqlite::Connection::open(path).unwrap()
}

const FILL: &str = "INSERT INTO things (value) VALUES (zeroblob(4000000))";

#[test]
fn what_a_transaction_writes_is_bounded_and_given_back() {
    for kind in BOTH {
        let file = File::with(kind, limited(Limits::new().transaction_bytes(96 << 20)));
        let ended = file.perform(json!([["until-refused", ["execute", FILL, []]]]));
        assert_eq!(ended, Err("limit".to_string()), "{kind:?}");
        let many = "INSERT INTO things (value) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT zeroblob(3000) FROM n";
        let ended = file.perform(json!([["execute", many, []], ["done"]]));
        assert_eq!(ended, Err("limit".to_string()), "{kind:?}: in one statement");
        assert!(file.size("app.db-wal") <= 16 << 20, "{} MiB", file.size("app.db-wal") >> 20);
        assert!(file.size("app.db") <= 1 << 20, "{} MiB", file.size("app.db") >> 20);
        // What was not too much is there, and the log is short all the same.
        file.perform(json!([["repeat", 10, ["execute", FILL, []]], ["done"]])).unwrap();
        assert!(file.size("app.db-wal") <= 16 << 20, "{} MiB", file.size("app.db-wal") >> 20);
        assert!(file.size("app.db") >= 40_000_000);
    }
}

#[test]
fn a_long_log_is_cut_when_the_app_writes_no_more() {
    let file = File::with(Kind::Component, limited(Limits::new().transaction_bytes(96 << 20)));
    let app = rusqlite(&file.folder.path().join("app.db"));
    app.busy_timeout(Duration::from_secs(5)).unwrap();
    app.execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let is_over = &is_over;
        let writer = scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                app.execute("INSERT INTO notes VALUES ('one')", []).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        file.perform(json!([["repeat", 10, ["execute", FILL, []]], ["done"]])).unwrap();
        // Cutting it would keep the app waiting for the disk.
        let size = file.size("app.db-wal") >> 20;
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        assert!(size > 30, "{size} MiB");
    });
    let begun = Instant::now();
    while file.size("app.db-wal") > 16 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it was never cut");
        std::thread::sleep(Duration::from_millis(300));
        file.perform(json!([["done"]])).unwrap();
    }
}

#[test]
fn the_log_of_a_failed_attempt_is_given_back_though_the_app_reads_meanwhile() {
    let file = File::with(Kind::Component, limited(Limits::new().transaction_bytes(64 << 20)));
    let app = rusqlite(&file.folder.path().join("app.db"));
    app.execute_batch("BEGIN; SELECT count(*) FROM things").unwrap();
    let begun = Instant::now();
    assert!(file.perform(json!([["until-refused", ["execute", FILL, []]]])).is_err());
    assert!(begun.elapsed() < Duration::from_secs(8), "it waited for the reader");
    app.execute_batch("COMMIT").unwrap();
    // The next big run gives back both.
    assert!(file.perform(json!([["until-refused", ["execute", FILL, []]]])).is_err());
    assert!(file.size("app.db-wal") <= 16 << 20, "{} MiB", file.size("app.db-wal") >> 20);
}

#[test]
fn a_run_cannot_grow_the_file_without_end_by_checkpoints() {
    for kind in BOTH {
        let file = File::with(kind, limited(Limits::new().growth_bytes(60 << 20)));
        let steps = json!([
            ["repeat", 5, ["execute", FILL, []]],
            ["checkpoint"],
            ["repeat", 5, ["execute", FILL, []]],
            ["checkpoint"],
            ["repeat", 5, ["execute", FILL, []]],
            ["checkpoint"],
            ["repeat", 5, ["execute", FILL, []]],
            ["checkpoint"],
            ["done"],
        ]);
        assert_eq!(file.perform(steps), Err("limit".to_string()), "{kind:?}");
        let megabytes = file.size("app.db") >> 20;
        assert!((19..=61).contains(&megabytes), "{kind:?}: {megabytes} MiB");
        // What is replaced does not grow it.
        let replace = "UPDATE things SET value = zeroblob(4000000 - length(value) % 2)";
        file.perform(json!([
            ["execute", replace, []],
            ["checkpoint"],
            ["execute", replace, []],
            ["checkpoint"],
            ["execute", replace, []],
            ["checkpoint"],
            ["execute", replace, []],
            ["done"]
        ]))
        .unwrap();
    }
}

#[test]
fn the_settings_of_the_app_stay_its_own() {
    let file = File::with(Kind::Component, grant());
    let app = rusqlite(&file.folder.path().join("app.db"));
    let limit: i64 = app.query_row("PRAGMA journal_size_limit", [], |row| row.get(0)).unwrap();
    assert_eq!(limit, -1);
}
