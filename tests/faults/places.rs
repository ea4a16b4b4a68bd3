//! Files and folders that can only be read, and files that are removed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use verger::rusqlite::Connection;
use verger::{Durability, Error, JobFilter, JobState, OpenError, StoreErrorKind, Verger};

use super::{Note, Place, kind, note, open, place};
use crate::common::faulty::{Disk, Fault};

#[test]
fn a_file_that_can_only_be_read_is_refused_untouched_and_can_be_looked_at() {
    let place = place();
    place.verger.enqueue(note(1)).unwrap();
    let Place { _folder, file, disk, verger } = place;
    drop(verger);
    let before = std::fs::read(&file).unwrap();
    disk.fails(Fault::ReadOnly);
    let error = open(&file, Durability::Normal).unwrap_err();
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
    assert!(error.to_string().contains("it can only be read"), "{error}");
    let looking =
        Verger::builder(&file).without_built_ins().worker(Note).read_only().open().unwrap();
    assert_eq!(looking.jobs(&JobFilter::default(), 10).unwrap().len(), 1);
    let error = Error::from(looking.enqueue(note(2)).unwrap_err());
    assert_eq!(kind(&error), StoreErrorKind::ReadOnly);
    drop(looking);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    disk.works();
    let verger = open(&file, Durability::Normal).unwrap();
    assert_eq!(verger.tick(verger.now()).unwrap().attempts.len(), 1);
}

#[test]
fn a_copy_on_read_only_media_can_be_looked_at_and_one_with_a_log_beside_it_says_what_it_lacks() {
    let place = place();
    place.verger.enqueue(note(1)).unwrap();
    assert_eq!(place.verger.tick(place.verger.now()).unwrap().attempts.len(), 1);
    let Place { _folder, file, disk, verger } = place;
    let copy = file.with_file_name("with its log.db");
    std::fs::copy(&file, &copy).unwrap();
    let tail = |path: &Path, tail: &str| PathBuf::from(format!("{}{tail}", path.display()));
    std::fs::copy(tail(&file, "-wal"), tail(&copy, "-wal")).unwrap();
    drop(verger);
    let odd = file.with_file_name("100% ä?#.db");
    std::fs::rename(&file, &odd).unwrap();
    disk.fails(Fault::Folder);
    let look =
        |path: &Path| Verger::builder(path).without_built_ins().worker(Note).read_only().open();
    let looking = look(&odd).unwrap();
    assert_eq!(looking.verify_audit().unwrap().rows, 1);
    assert_eq!(looking.jobs(&JobFilter::default(), 10).unwrap().len(), 1);
    let error = Error::from(looking.enqueue(note(2)).unwrap_err());
    assert_eq!(kind(&error), StoreErrorKind::ReadOnly);
    drop(looking);
    // What the log has is a part of it: without it the file would be another.
    let error = look(&copy).unwrap_err();
    assert!(error.to_string().contains("can be written"), "{error}");
}

/// What a folder that is shut, so that nothing can be made in it or deleted from it, makes of a
/// Verger. What is in it can be written.
fn in_a_folder_that_is_shut(folder: &Path, shut: impl Fn(bool)) {
    let (new, own, app) = (folder.join("new.db"), folder.join("own.db"), folder.join("app.db"));
    let rollback_mode = "CREATE TABLE notes (n INTEGER)";
    Connection::open(&app).unwrap().execute_batch(rollback_mode).unwrap();
    shut(true);
    match open(&new, Durability::Normal).unwrap_err() {
        OpenError::Database { source, .. } if source.kind() == StoreErrorKind::CannotOpen => {
            assert!(
                source.to_string().contains("check that its folder exists and can be written"),
                "{source}"
            );
        }
        other => panic!("{other:?}"),
    }
    shut(false);
    drop(open(&own, Durability::Normal).unwrap());
    Connection::open(&own).unwrap().execute_batch("CREATE TABLE notes (n INTEGER)").unwrap();
    shut(true);
    // One of Verger's own, in WAL mode; and one of an app that keeps a rollback journal, without
    // Verger's tables.
    for file in [&own, &app] {
        let before = std::fs::read(file).unwrap();
        let error = open(file, Durability::Normal).unwrap_err();
        assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
        let said = format!(
            "cannot open {}: it can only be read; check the permissions of the file and of its folder",
            file.display()
        );
        assert_eq!(error.to_string(), said);
        assert_eq!(std::fs::read(file).unwrap(), before);
    }
    shut(false);
    for file in [&own, &app] {
        let verger = open(file, Durability::Normal).unwrap();
        verger.enqueue(note(1)).unwrap();
        assert_eq!(verger.tick(verger.now()).unwrap().attempts.len(), 1);
    }
    // A rollback journal is made for every commit: a folder that is shut meanwhile shows at the
    // next one.
    let verger = open(&app, Durability::Normal).unwrap();
    verger.enqueue(note(2)).unwrap();
    shut(true);
    assert_eq!(kind(&Error::from(verger.enqueue(note(3)).unwrap_err())), StoreErrorKind::ReadOnly);
    assert_eq!(kind(&verger.tick(verger.now()).unwrap_err()), StoreErrorKind::ReadOnly);
    shut(false);
    assert_eq!(verger.tick(verger.now()).unwrap().attempts.len(), 1);
    let left = verger.connect().unwrap();
    assert_eq!(
        left.query_row("SELECT group_concat(n) FROM notes", [], |row| row.get::<_, String>(0))
            .unwrap(),
        "1,2"
    );
    // The log of one in WAL mode is there while it is open.
    let verger = open(&own, Durability::Normal).unwrap();
    verger.enqueue(note(2)).unwrap();
    shut(true);
    verger.enqueue(note(3)).unwrap();
    assert_eq!(verger.tick(verger.now()).unwrap().attempts.len(), 2);
    drop(verger);
    shut(false);
    drop(open(&own, Durability::Normal).unwrap());
}

#[test]
fn in_a_folder_that_cannot_be_written_a_file_is_refused_untouched_and_gone_on_with_when_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::at(folder.path());
    let path = folder.path().canonicalize().unwrap();
    in_a_folder_that_is_shut(
        &path,
        |shut| if shut { disk.fails(Fault::Folder) } else { disk.works() },
    );
    assert!(disk.refused() > 0);
}

#[test]
fn a_folder_without_permission_to_write_is_such_a_folder() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let shut = |shut: bool| {
        let mode = if shut { 0o555 } else { 0o755 };
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    shut(true);
    // Permissions bind everyone but the superuser.
    let binding = std::fs::write(folder.path().join("probe"), "").is_err();
    shut(false);
    if binding {
        in_a_folder_that_is_shut(folder.path(), shut);
    }
}

#[test]
fn a_file_that_is_taken_away_or_replaced_is_noticed_and_one_put_back_is_gone_on_with() {
    let place = place();
    let ticking = place.verger.start().unwrap();
    place.verger.enqueue(note(1)).unwrap();
    let away = place.file.with_extension("away");
    let each = |from: &Path, to: &Path| {
        for tail in ["", "-wal", "-shm"] {
            let with = |path: &Path| PathBuf::from(format!("{}{tail}", path.display()));
            let _ = std::fs::rename(with(from), with(to));
        }
    };
    each(&place.file, &away);
    let gone = |error: Error| {
        assert_eq!(kind(&error), StoreErrorKind::Gone, "{error}");
        assert!(error.to_string().contains("deleted, moved or replaced"), "{error}");
    };
    gone(place.verger.enqueue(note(2)).unwrap_err().into());
    gone(place.verger.enqueue_all([note(2)]).unwrap_err().into());
    gone(place.verger.tick(place.verger.now()).unwrap_err());
    std::fs::write(&place.file, "another").unwrap();
    gone(place.verger.enqueue(note(2)).unwrap_err().into());
    each(&away, &place.file);
    assert!(ticking.is_running());
    place.verger.enqueue(note(3)).unwrap();
    let begun = Instant::now();
    while place
        .verger
        .jobs(&JobFilter::default(), 10)
        .unwrap()
        .iter()
        .any(|job| job.state != JobState::Completed)
    {
        assert!(begun.elapsed() < Duration::from_secs(3));
        std::thread::sleep(Duration::from_millis(10));
    }
    ticking.stop(Duration::from_secs(5)).unwrap();
    assert_eq!(place.notes(), [1, 3]);
}
