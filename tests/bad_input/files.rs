//! Files and folders that cannot be used.

use std::path::Path;

use verger::testing::{ManualClock, TestVerger};
use verger::{MigrationError, OpenError, StoreErrorKind, Verger};

use super::says;
use crate::common::{goes_on, puppet};

#[track_caller]
pub(super) fn refused(path: &Path) -> OpenError {
    let error = Verger::builder(path).without_built_ins().open().unwrap_err();
    says(&error, &["cannot open", path.to_str().unwrap()]);
    error
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("photo.jpg");
    let content = b"\xff\xd8\xff\xe0 no database at all".repeat(400);
    std::fs::write(&file, &content).unwrap();
    let error = refused(&file);
    let OpenError::Database { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), StoreErrorKind::Corrupt);
    says(&error, &["no SQLite database", "restore it from a backup"]);
    assert_eq!(std::fs::read(&file).unwrap(), content);
}

#[test]
fn a_newer_file_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let test = TestVerger::open(Verger::builder(&file), &ManualClock::at(TestVerger::START))
        .unwrap()
        .reference_tables();
    test.sql("INSERT INTO verger_migrations (set_name, version, name, applied_at) VALUES ('engine', 99, 'later', 0)");
    let before = test.everything();
    let error = refused(&file);
    assert!(
        matches!(
            error,
            OpenError::Migration { source: MigrationError::Newer { found: 99, known: 1, .. }, .. }
        ),
        "{error:?}"
    );
    says(
        &error,
        &["engine tables are at version 99", "up to 1", "open the file with a newer Verger"],
    );
    assert_eq!(test.everything(), before);
    test.sql("UPDATE verger_migrations SET set_name = 'reference' WHERE version = 99");
    let error = test.migrate_reference().unwrap_err();
    says(&error, &["reference tables are at version 99"]);
    Verger::builder(&file).without_built_ins().open().unwrap();
}

#[test]
fn a_folder_or_a_place_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_path_buf(), folder.path().join("none").join("app.db")] {
        let error = refused(&path);
        let OpenError::Database { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.kind(), StoreErrorKind::CannotOpen);
        says(&error, &["check that its folder exists and can be written"]);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(!folder.path().with_extension("-verger").exists());
}

#[cfg(unix)]
#[test]
fn a_file_that_can_only_be_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    drop(Verger::builder(&file).without_built_ins().open().unwrap());
    let set = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap()
    };
    set(&file, 0o444);
    // The superuser may write all the same: for it there is nothing to refuse.
    if std::fs::OpenOptions::new().append(true).open(&file).is_ok() {
        eprintln!("skipped: this user may write a file without write permission");
        return;
    }
    let error = refused(&file);
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
    says(&error, &["it can only be read", "check the permissions"]);
}

#[test]
fn a_file_whose_pages_may_not_grow_is_refused_when_it_is_full_and_goes_on_after() {
    let test = puppet();
    let pages: i64 = test.one("PRAGMA page_count");
    test.sql(&format!("PRAGMA max_page_count = {pages}"));
    let full = (0..1_000).find_map(|_| {
        test.connection().execute("INSERT INTO things (value) VALUES (zeroblob(2000))", []).err()
    });
    assert!(full.is_some(), "the test's own connection meets the limit");
    test.sql("PRAGMA max_page_count = 100000; DELETE FROM things");
    goes_on(&test);
}
