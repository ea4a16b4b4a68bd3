//! Files that are damaged.

use std::collections::BTreeSet;
use std::time::Duration;

use verger::{Durability, JobFilter, JobState, OpenError, StoreErrorKind};

use super::{Place, kind, note, open, place};

#[test]
fn wherever_a_file_is_damaged_the_error_is_typed_and_the_loop_stays_alive() {
    let place = place();
    place.verger.enqueue_all((0..200).map(note)).unwrap();
    place.finish(Duration::from_secs(20));
    place.verger.enqueue_all((200..300).map(note)).unwrap();
    let Place { _folder: folder, file, verger, .. } = place;
    drop(verger);
    let whole = std::fs::read(&file).unwrap();
    let (mut refused, mut failed) = (0, 0);
    for page in 0..whole.len() / 4096 {
        for (at, length) in [(0, 4096), (0, 64), (2_000, 200)] {
            let damaged = folder.path().join(format!("{page}-{at}-{length}.db"));
            let mut bytes = whole.clone();
            bytes[page * 4096 + at..page * 4096 + at + length].fill(0xA5);
            std::fs::write(&damaged, bytes).unwrap();
            let verger = match open(&damaged, Durability::Normal) {
                Ok(verger) => verger,
                Err(OpenError::Database { .. } | OpenError::Migration { .. }) => {
                    refused += 1;
                    continue;
                }
                Err(other) => panic!("{other:?}"),
            };
            for _ in 0..3 {
                match verger.tick(verger.now()) {
                    Ok(report) => drop(report),
                    Err(error) => {
                        assert!(
                            matches!(
                                kind(&error),
                                StoreErrorKind::Corrupt
                                    | StoreErrorKind::Other
                                    | StoreErrorKind::Constraint
                            ),
                            "{error:?}"
                        );
                        failed += 1;
                    }
                }
            }
            // Whatever they say, they say it in words.
            let _ = (
                verger.verify_audit(),
                verger.jobs(&JobFilter::default(), 1_000),
                verger.enqueue(note(1_000)),
            );
        }
    }
    println!(
        "{} pages damaged in 3 ways: {refused} refused at open, {failed} ticks failed",
        whole.len() / 4096
    );
    assert!(refused > 0 && failed > 0);
}

#[test]
fn a_write_ahead_log_that_was_cut_short_leaves_the_commits_before_the_cut() {
    let place = place();
    for n in 0..30 {
        place.verger.enqueue(note(n)).unwrap();
        place.verger.tick(place.verger.now()).unwrap();
    }
    // Without the loop's connections closing, which would fold the log into the file.
    let base = std::fs::read(&place.file).unwrap();
    let wal = std::fs::read(place.file.with_extension("db-wal")).unwrap();
    let mut seen = BTreeSet::new();
    for cut in (0..=60).map(|part| wal.len() * part / 60) {
        let copy = tempfile::tempdir().unwrap();
        let file = copy.path().join("app.db");
        std::fs::write(&file, &base).unwrap();
        std::fs::write(file.with_extension("db-wal"), &wal[..cut]).unwrap();
        let verger = open(&file, Durability::Normal).unwrap();
        let app = verger.connect().unwrap();
        assert_eq!(
            app.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(),
            "ok"
        );
        let rows = verger.verify_audit().unwrap().rows;
        if rows > 0 {
            verger.tick(verger.now()).unwrap();
            let notes: u64 = app
                .query_row("SELECT count(*) FROM notes", [], |row| row.get(0))
                .map(i64::unsigned_abs)
                .unwrap();
            let done = verger.jobs(&JobFilter::default(), 100).unwrap();
            assert!(done.iter().all(|job| job.state == JobState::Completed));
            assert_eq!(notes, done.len() as u64);
        }
        seen.insert(rows);
    }
    assert!(seen.len() > 20 && seen.contains(&30), "{seen:?}");
}
