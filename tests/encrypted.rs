//! An encrypted file is opened with its key, on every connection. Without the key, or with another
//! one, nothing is read and nothing written. This needs SQLCipher: `cargo test --features sqlcipher
//! --test encrypted`. With that feature the crash tests run on encrypted files, too.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::PUPPET;
use serde_json::json;
use verger::rusqlite::Connection;
use verger::{Builder, Grant, JobFilter, JobState, Key, NewJob, OpenError, Verger};

const PASSPHRASE: &str = "it's a \"secret\" of sorts";

fn key() -> Key {
    Key::raw([0x2a; 32])
}

fn at(file: &Path, key: Key) -> Builder {
    let grant = Grant::new().write("things");
    Verger::builder(file)
        .without_built_ins()
        .component("puppet.wasm", PUPPET)
        .grant("puppet", grant)
        .key(key)
}

fn refusal(builder: Builder) -> String {
    match builder.open() {
        Err(error @ (OpenError::Key { .. } | OpenError::Database { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Every file beside it, and what is in it.
fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut content: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        })
        .collect();
    content.sort();
    content
}

#[test]
fn jobs_run_on_an_encrypted_file_and_nothing_of_it_is_in_plain_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let verger = at(&file, key()).open().unwrap();
    let app = verger.connect().unwrap();
    app.execute_batch("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, value)").unwrap();
    let ticking = verger.start().unwrap();
    let insert = "INSERT INTO things (name) VALUES ('plainly-readable')";
    let sort = "SELECT name FROM things ORDER BY name DESC";
    let job = NewJob::new(
        "puppet",
        json!({ "do": [["execute", insert, []], ["checkpoint"], ["query", sort, [], 10]] }),
    );
    let id = verger.enqueue(job).unwrap().id;
    for _ in 0..2_000 {
        if verger.job(id).unwrap().unwrap().state.is_final() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // While the log is there, too.
    let look = || {
        for (name, bytes) in content(folder.path()) {
            for plain in ["plainly-readable", "SQLite format 3", "puppet"] {
                let is_there = bytes.windows(plain.len()).any(|part| part == plain.as_bytes());
                assert!(!is_there, "{name} has {plain:?}");
            }
        }
    };
    look();
    ticking.stop(Duration::from_secs(10)).unwrap();
    let job = verger.job(id).unwrap().unwrap();
    assert_eq!(job.state, JobState::Completed, "{job:?}");
    verger.verify_audit().unwrap();
    drop((verger, app));
    look();
    // To be looked at only, too.
    let looking = at(&file, key()).read_only().open().unwrap();
    assert_eq!(looking.jobs(&JobFilter::new(), 9).unwrap().len(), 1);
}

#[test]
fn another_key_or_none_is_refused_with_a_sentence_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    at(&file, Key::passphrase(PASSPHRASE)).open().unwrap();
    let before = content(folder.path());
    for (wrong, says) in [
        (at(&file, Key::passphrase("another")), "the key does not open it"),
        (at(&file, key()), "the key does not open it"),
        (at(&file, key()).read_only(), "the key does not open it"),
        (at(&file, Key::passphrase("")), "the passphrase is empty"),
        (at(&file, Key::passphrase("a\0b")), "NUL"),
        (Verger::builder(&file), "encrypted"),
        (Verger::builder(&file).read_only(), "encrypted"),
    ] {
        let refused = refusal(wrong);
        assert!(refused.contains(says) && refused.contains("app.db"), "{refused}");
        assert_eq!(content(folder.path()), before, "{says}");
    }
    at(&file, Key::passphrase(PASSPHRASE)).open().unwrap();
}

#[test]
fn a_key_for_a_plain_file_is_refused_and_the_file_stays_as_it_is() {
    for mode in ["wal", "delete"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.db");
        let app = Connection::open(&file).unwrap();
        app.pragma_update(None, "journal_mode", mode).unwrap();
        app.execute_batch("CREATE TABLE notes (n)").unwrap();
        drop(app);
        let before = content(folder.path());
        for builder in [at(&file, key()), at(&file, key()).read_only()] {
            let refused = refusal(builder);
            assert!(refused.contains("the file is not encrypted"), "{refused}");
            assert_eq!(content(folder.path()), before);
        }
    }
    let in_memory = refusal(Verger::in_memory().key(key()));
    assert!(in_memory.contains("in memory"), "{in_memory}");
}

#[test]
fn a_hook_comes_first_on_every_connection() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    // A setting of SQLCipher's that has to come before the first page is read.
    let hook = || {
        Key::with(|connection| {
            connection.execute_batch("PRAGMA key = 'abc'; PRAGMA cipher_page_size = 8192")
        })
    };
    let verger = at(&file, hook()).open().unwrap();
    let app = verger.connect().unwrap();
    app.execute_batch("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, value)").unwrap();
    let insert = "INSERT INTO things (name) VALUES ('a')";
    verger.perform_now("puppet", json!({ "do": [["execute", insert, []]] })).unwrap();
    let size: String = app.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    assert_eq!(size, "8192");
    drop((verger, app));
    assert!(refusal(at(&file, Key::passphrase("abc"))).contains("other settings"));
    at(&file, hook()).open().unwrap();
}

#[test]
fn a_backup_is_encrypted_with_the_same_key() {
    let wide = || {
        Key::with(|connection| {
            connection.execute_batch("PRAGMA key = 'abc'; PRAGMA cipher_page_size = 8192")
        })
    };
    let keys: [&dyn Fn() -> Key; 3] = [&key, &|| Key::passphrase(PASSPHRASE), &wide];
    for key in keys {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.db");
        let verger = Verger::builder(&file).key(key()).open().unwrap();
        let app = verger.connect().unwrap();
        app.execute_batch(
            "CREATE TABLE things (name TEXT); INSERT INTO things VALUES ('plainly-readable')",
        )
        .unwrap();
        let done = verger.perform_now("export-backup", json!({})).unwrap();
        let copies = content(&folder.path().join("backups"));
        let name = copies.iter().map(|(name, _)| name).find(|name| name.ends_with(".db"));
        let copy = folder.path().join("backups").join(name.unwrap());
        for (name, bytes) in &copies {
            for plain in ["plainly-readable", "SQLite format 3"] {
                let is_there = bytes.windows(plain.len()).any(|part| part == plain.as_bytes());
                assert!(!is_there, "{name} has {plain:?}: {done:?}");
            }
        }
        let refused = refusal(Verger::builder(&copy));
        assert!(refused.contains("encrypted"), "{refused}");
        let opened = Verger::builder(&copy).key(key()).open().unwrap();
        let things: String = opened
            .connect()
            .unwrap()
            .query_row("SELECT name FROM things", [], |row| row.get(0))
            .unwrap();
        assert_eq!(things, "plainly-readable");
        opened.verify_audit().unwrap();
    }
}

#[test]
fn a_key_shows_in_no_debug_and_no_error() {
    let debug = format!("{:?} {:?}", Key::passphrase(PASSPHRASE), Key::raw([0x2a; 32]));
    assert_eq!(debug, "Key(…) Key(…)");
    let folder = tempfile::tempdir().unwrap();
    let verger = at(&folder.path().join("app.db"), Key::passphrase(PASSPHRASE)).open().unwrap();
    let debug = format!("{verger:?}");
    assert!(!debug.contains("secret"), "{debug}");
}
