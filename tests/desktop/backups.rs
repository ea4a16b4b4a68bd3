//! Backups that can be opened.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};
use verger::rusqlite::{Connection, OpenFlags};
use verger::testing::TestVerger;
use verger::{Verger, assert_audited};

use super::{FILLED, failure, file_with, files, refusal, result};
use crate::common;

fn backups(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "db"));
    found.sort();
    found
}

pub(super) fn names(folder: &Path) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
    backups(folder).iter().map(name).collect()
}

fn rows_of(backup: &Path) -> i64 {
    let copy = Connection::open_with_flags(backup, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let whole: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    copy.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_backup_is_a_whole_database_and_the_newest_are_kept() {
    for journal in ["WAL", "DELETE"] {
        let (test, file, _folder) =
            file_with(&format!("PRAGMA journal_mode = {journal}; {FILLED}"));
        let folder = file.parent().unwrap().join("backups");
        let mut made = Vec::new();
        for n in 0..4 {
            test.sql(&format!("INSERT INTO notes (text) VALUES ('{n}')"));
            let done = result(&test, "export-backup", json!({"keep": 2}));
            assert_eq!(done["kept"], (n + 1).min(2), "{done}");
            assert_eq!(rows_of(Path::new(done["file"].as_str().unwrap())), 2001 + n);
            made.push(done["file"].as_str().unwrap().to_string());
            test.clock().advance(Duration::from_secs(1));
        }
        assert_eq!(made[0], folder.join("app-20260101T000000000Z.db").to_str().unwrap());
        assert_eq!(names(&folder), ["app-20260101T000002000Z.db", "app-20260101T000003000Z.db"]);
        assert_audited!(test, action: "database.backed_up", outcome: "success", worker: "export-backup");
        // What a restart finds in it: Verger opens it as any other.
        let copy = Verger::builder(&backups(&folder)[1]).open().unwrap();
        assert_eq!(copy.verify_audit().unwrap().rows, 3);
    }
}

#[test]
fn only_backups_of_this_name_are_counted_and_removed() {
    let (test, file, _folder) = file_with(FILLED);
    let folder = file.parent().unwrap().join("kept");
    std::fs::create_dir(&folder).unwrap();
    for other in [
        "app.db",
        "app-old.db",
        "application-20200101T000000000Z.db",
        "app-20200101T000000000Z.db.txt",
        "app-2020.db",
        "notes.txt",
    ] {
        std::fs::write(folder.join(other), "mine").unwrap();
    }
    std::fs::write(folder.join("app-20200101T000000000Z.db"), "an old one").unwrap();
    std::fs::write(folder.join(".app.partial"), "left by a process that died").unwrap();
    let exported = test.export_backup("kept", 1).unwrap();
    assert_eq!((exported.removed, exported.kept), (1, 1));
    assert!(!folder.join(".app.partial").exists());
    let left = names(&folder).join(" ");
    assert_eq!(
        left,
        "app-2020.db app-20260101T000000000Z.db app-old.db app.db application-20200101T000000000Z.db"
    );
    // Two at the same instant are two, and a clock that goes back does not make the newest the oldest.
    let second = test.export_backup("kept", 5).unwrap();
    assert!(second.file.ends_with("app-20260101T000000000Z-1.db"), "{second:?}");
    test.clock().set(verger::Timestamp::from_millis(0));
    let third = test.export_backup("kept", 1).unwrap();
    assert!(third.file.exists(), "{third:?}");
    let named = result(&test, "export-backup", json!({"folder": "kept", "name": "weekly"}));
    assert!(named["file"].as_str().unwrap().contains("weekly-1970"), "{named}");
}

#[test]
fn a_backup_made_while_others_write_is_of_one_instant() {
    let (test, file, _folder) = file_with(&format!(
        "PRAGMA journal_mode = WAL; {FILLED} CREATE TABLE sums (a INTEGER, b INTEGER); INSERT INTO sums VALUES (0, 0);"
    ));
    let writing = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let other = Connection::open(&file).unwrap();
            other.busy_timeout(Duration::from_secs(20)).unwrap();
            let mut written = 0;
            while writing.load(Ordering::Relaxed) {
                other
                    .execute_batch("BEGIN IMMEDIATE; UPDATE sums SET a = a + 1; UPDATE notes SET kind = kind + 1 WHERE id % 100 = 0; UPDATE sums SET b = b + 1; COMMIT")
                    .unwrap();
                written += 1;
            }
            written
        });
        for n in 0..5 {
            let exported = test.export_backup(&format!("b{n}"), 1).unwrap();
            let copy = Connection::open(&exported.file).unwrap();
            let (a, b): (i64, i64) = copy
                .query_row("SELECT a, b FROM sums", [], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap();
            assert_eq!(a, b);
            assert_eq!(rows_of(&exported.file), 2000);
        }
        writing.store(false, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
    });
}

#[test]
fn a_database_that_is_damaged_makes_no_backup_and_the_good_one_stays() {
    let (test, file, _folder) = file_with(FILLED);
    let folder = file.parent().unwrap().join("backups");
    let good = test.export_backup("backups", 1).unwrap();
    // An index that does not fit its table.
    test.sql(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE INDEX notes_kind ON notes (text)' WHERE name = 'notes_kind';
         PRAGMA writable_schema = RESET;",
    );
    test.clock().advance(Duration::from_secs(1));
    let why = refusal(&test, "export-backup", json!({"keep": 1}));
    assert!(why.contains("the copy is not whole, and those before it stay"), "{why}");
    assert_eq!(backups(&folder), std::slice::from_ref(&good.file));
    assert_eq!(rows_of(&good.file), 2000);
    assert_eq!(files(&folder), format!(".app.backup-lock {}", names(&folder)[0]));
}

#[cfg(unix)]
#[test]
fn a_full_disk_makes_no_backup_and_those_before_stay() {
    use common::faulty::{Disk, Fault};
    let (test, file, _folder) = file_with(FILLED);
    let folder = file.parent().unwrap().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let disk = Disk::at(&folder);
    let good = test.export_backup("backups", 1).unwrap();
    test.clock().advance(Duration::from_secs(1));
    for writes in [0, 1, 100] {
        disk.fails_after(Fault::Full, writes);
        let why = failure(&test.export_backup("backups", 1).unwrap_err());
        assert!(why.contains("no backup was made") && why.contains("the disk is full"), "{why}");
        assert_eq!(backups(&folder), std::slice::from_ref(&good.file));
        assert_eq!(files(&folder), format!(".app.backup-lock {}", names(&folder)[0]));
    }
    disk.works();
    let next = test.export_backup("backups", 1).unwrap();
    assert_eq!((next.removed, rows_of(&next.file)), (1, 2000));
}

#[test]
fn what_cannot_be_a_backup_is_refused_in_a_sentence() {
    let (test, file, _folder) = file_with(FILLED);
    std::fs::write(file.parent().unwrap().join("taken"), "a file").unwrap();
    for (args, expected) in [
        (json!({"folder": ""}), "`folder` is not usable"),
        (json!({"folder": 7}), "`folder` is not usable"),
        (json!({"keep": 0}), "`keep` is not usable"),
        (json!({"name": "../app"}), "`name` is not usable"),
        (json!({"name": ".app"}), "`name` is not usable"),
        (json!({"folder": "taken"}), "no backup was made in"),
        (json!({"folder": "taken/below"}), "could not make the folder"),
    ] {
        let why = refusal(&test, "export-backup", args.clone());
        assert!(why.contains(expected), "{args}: {why}");
    }
    // Another backup into the folder is under way.
    let folder = file.parent().unwrap().join("busy");
    std::fs::create_dir(&folder).unwrap();
    let lock = std::fs::File::create(folder.join(".app.backup-lock")).unwrap();
    lock.lock().unwrap();
    let why = failure(&test.export_backup("busy", 1).unwrap_err());
    assert!(why.contains("another backup into"), "{why}");
    drop(lock);
    test.export_backup("busy", 1).unwrap();

    let memory = TestVerger::new();
    memory.sql("CREATE TABLE notes (id INTEGER)");
    let why = failure(&memory.export_backup("backups", 1).unwrap_err());
    assert!(why.contains("a database in memory has no folder"), "{why}");
    let absolute = file.parent().unwrap().join("memory");
    let exported = memory.export_backup(absolute.to_str().unwrap(), 1).unwrap();
    assert_eq!(rows_of(&exported.file), 0);
}

#[cfg(unix)]
#[test]
fn a_backup_is_no_more_readable_than_the_database() {
    use std::os::unix::fs::PermissionsExt;
    let (test, file, _folder) = file_with(FILLED);
    for mode in [0o600, 0o640, 0o644] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let exported = test.export_backup("backups", 9).unwrap();
        let found = std::fs::metadata(&exported.file).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{found:o}");
    }
}

#[test]
fn a_dry_run_makes_no_backup() {
    let (test, file, _folder) = file_with(FILLED);
    let shown = test.dry_run("export-backup", json!({})).unwrap();
    assert_eq!(shown.result().unwrap()["file"], Json::Null);
    assert!(!file.parent().unwrap().join("backups").exists());
}
