//! Disks that are full, fail, lie or can only be read, files that are damaged or taken away: a
//! typed error, nothing half-written, and work goes on when the cause is gone.
//!
//! The faults come from a file system of the test's own in front of SQLite's; see
//! `common/faulty.rs`.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::chronicle::{self, Dice, Groups};
use common::faulty::{Disk, Fault};
use serde_json::json;
use verger::rusqlite::Connection;
use verger::verger_worker::prelude::*;
use verger::{
    Backoff, Durability, EnqueueError, Error, JobFilter, JobState, NewJob, OpenError,
    StoreErrorKind, Verger,
};

/// Writes its number down, twice, with a checkpoint in between when it is asked to.
struct Note;

impl Worker for Note {
    fn manifest(&self) -> Manifest {
        Manifest::new("note", "1.0.0")
            .arg("n", ArgSpec::required())
            .table(TableAsk::named("notes").insert())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let n: i64 = args.get("n")?;
        job.execute("INSERT INTO notes (n) VALUES (?1)", params![n])?;
        job.audit(AuditEvent::success("note.written").subject("note", n.to_string()))?;
        Ok(Outcome::Done)
    }
}

struct Place {
    _folder: tempfile::TempDir,
    file: PathBuf,
    disk: Arc<Disk>,
    verger: Verger,
}

fn open(file: &Path, durability: Durability) -> Result<Verger, OpenError> {
    open_with(file, durability, Groups::On)
}

fn open_with(file: &Path, durability: Durability, groups: Groups) -> Result<Verger, OpenError> {
    groups
        .set(Verger::builder(file))
        .without_built_ins()
        .worker(Note)
        .durability(durability)
        .backoff(Backoff { base: Duration::from_millis(1), max: Duration::from_millis(5) })
        .open()
}

fn place_with(durability: Durability, groups: Groups) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::at(folder.path());
    let file = folder.path().canonicalize().unwrap().join("app.db");
    let verger = open_with(&file, durability, groups).unwrap();
    verger.connect().unwrap().execute_batch("CREATE TABLE notes (n INTEGER)").unwrap();
    Place { _folder: folder, file, disk, verger }
}

fn place() -> Place {
    place_with(Durability::Normal, Groups::On)
}

fn note(n: i64) -> NewJob {
    NewJob::new("note", json!({ "n": n }))
}

impl Place {
    fn notes(&self) -> Vec<i64> {
        let app = self.verger.connect().unwrap();
        let mut select = app.prepare("SELECT n FROM notes ORDER BY n").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// Ticks until all jobs are completed.
    fn finish(&self, within: Duration) {
        let begun = Instant::now();
        while self
            .verger
            .jobs(&JobFilter::default(), 1_000)
            .unwrap()
            .iter()
            .any(|job| job.state != JobState::Completed)
        {
            self.verger.tick(self.verger.now()).unwrap();
            assert!(begun.elapsed() < within, "{:?}", self.verger.jobs(&JobFilter::default(), 3));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn sound(&self) {
        let app = self.verger.connect().unwrap();
        assert_eq!(
            app.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(),
            "ok"
        );
        self.verger.verify_audit().unwrap();
    }
}

fn kind(error: &Error) -> StoreErrorKind {
    match error {
        Error::Store(error) | Error::Enqueue(EnqueueError::Store(error)) => error.kind(),
        other => panic!("{other:?}"),
    }
}

const EACH: [(Fault, StoreErrorKind); 4] = [
    (Fault::Full, StoreErrorKind::Full),
    (Fault::Write, StoreErrorKind::Io),
    (Fault::Sync, StoreErrorKind::Io),
    (Fault::Read, StoreErrorKind::Io),
];

#[test]
fn a_call_on_a_disk_that_fails_gets_a_typed_error_and_writes_nothing() {
    for (fault, expected) in EACH {
        if fault == Fault::Read {
            continue; // What is in the page cache is not read again.
        }
        let place = place_with(Durability::Full, Groups::On);
        place.verger.enqueue(note(1)).unwrap();
        place.disk.fails(fault);
        let error = Error::from(place.verger.enqueue(note(2)).unwrap_err());
        assert_eq!(kind(&error), expected, "{fault:?}");
        assert!(error.to_string().starts_with("could not enqueue the job: "), "{error}");
        let error = place
            .verger
            .enqueue_all([note(3), note(4)])
            .map(drop)
            .map_err(Error::from)
            .unwrap_err();
        assert_eq!(kind(&error), expected, "{fault:?}");
        let error = place.verger.audit(&AuditEvent::success("a.b")).unwrap_err();
        assert!(error.to_string().starts_with("could not write to the audit log: "), "{error}");
        assert_eq!(
            kind(&place.verger.tick(place.verger.now()).unwrap_err()),
            expected,
            "{fault:?}"
        );
        place.disk.works();
        assert_eq!(place.verger.jobs(&JobFilter::default(), 10).unwrap().len(), 1, "{fault:?}");
        place.verger.enqueue(note(5)).unwrap();
        place.finish(Duration::from_secs(5));
        assert_eq!(place.notes(), [1, 5], "{fault:?}");
        place.sound();
    }
}

#[test]
fn wherever_in_a_tick_the_disk_fails_each_job_takes_effect_once_and_soon_after_it_works_again() {
    for (durability, groups) in [
        (Durability::Normal, Groups::Off),
        (Durability::Normal, Groups::Always),
        (Durability::Full, Groups::Always),
    ] {
        for (fault, _) in EACH {
            let place = place_with(durability, groups);
            for writes in 0..40 {
                let n = writes * 10;
                place.verger.enqueue_all((n..n + 4).map(note)).unwrap();
                place.disk.fails_after(fault, writes);
                for _ in 0..3 {
                    if let Err(error) = place.verger.tick(place.verger.now()) {
                        assert!(
                            matches!(kind(&error), StoreErrorKind::Full | StoreErrorKind::Io),
                            "{error:?}"
                        );
                    }
                }
                place.disk.works();
                // Not after their leases, which are two minutes long.
                place.finish(Duration::from_secs(5));
            }
            let expected: Vec<i64> =
                (0..40).flat_map(|writes| writes * 10..writes * 10 + 4).collect();
            assert_eq!(place.notes(), expected, "{fault:?}, groups {groups:?}");
            assert_eq!(place.verger.verify_audit().unwrap().rows, 160);
            place.sound();
        }
    }
}

/// Checkpoints without having written anything, on a disk that fills up meanwhile.
struct Pulse(Arc<Disk>);

impl Worker for Pulse {
    fn manifest(&self) -> Manifest {
        Manifest::new("pulse", "1.0.0")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        self.0.fails(Fault::Full);
        let checkpoint = job.checkpoint();
        self.0.works();
        checkpoint?;
        Ok(Outcome::Done)
    }
}

#[test]
fn a_lease_that_could_not_be_renewed_is_no_checkpoint() {
    let Place { _folder, file, disk, verger } = place();
    drop(verger);
    let verger = Verger::builder(&file).without_built_ins().worker(Pulse(disk)).open().unwrap();
    verger.enqueue(NewJob::new("pulse", json!({}))).unwrap();
    let report = verger.tick(verger.now()).unwrap();
    assert!(
        report.attempts[0]
            .outcome
            .error()
            .is_some_and(|error| error.message.contains("the disk is full")),
        "{report:?}"
    );
}

#[test]
fn a_loop_on_a_full_disk_does_not_spin_and_goes_on_when_there_is_room() {
    for writes_left in [0, 2, 5] {
        let place = place();
        place.verger.enqueue_all((0..50).map(note)).unwrap();
        place.disk.fails_after(Fault::Full, writes_left);
        let ticking = place.verger.start().unwrap();
        std::thread::sleep(Duration::from_secs(2));
        let refused = place.disk.refused();
        assert!((1..=20).contains(&refused), "{refused} writes were tried in 2 s");
        place.disk.works();
        let begun = Instant::now();
        while place.notes().len() < 50 {
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", place.notes());
            std::thread::sleep(Duration::from_millis(10));
        }
        ticking.stop(Duration::from_secs(5)).unwrap();
        place.finish(Duration::from_secs(1));
        assert_eq!(place.notes(), (0..50).collect::<Vec<_>>());
        place.sound();
    }
}

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

/// Lives on a disk whose unsynced writes may be lost, and looks at what a power cut would have
/// left.
fn power_cuts(durability: Durability) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::with_memory(folder.path());
    let file = folder.path().canonicalize().unwrap().join("app.db");
    chronicle::found(&file);
    let verger = chronicle::builder(&file).durability(durability).open().unwrap();
    let mut app = verger.connect().unwrap();
    // So that the log is folded into the file, and begun anew, many times.
    app.pragma_update(None, "wal_autocheckpoint", 50).unwrap();
    let cuts = if std::env::var_os("VERGER_LONG").is_some() { 400 } else { 25 };
    let (mut dice, mut number, mut told, over) =
        (Dice::new(3), 0, BTreeSet::new(), AtomicBool::new(false));
    let mut lost = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                verger.tick(verger.now()).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for _ in 0..cuts {
            for _ in 0..dice.below(12) {
                told.extend(chronicle::enqueue_some(&verger, &mut app, &mut dice, 0, &mut number));
            }
            std::thread::sleep(Duration::from_millis(dice.below(20)));
            let after = tempfile::tempdir().unwrap();
            disk.cut(&mut dice, after.path());
            let left = chronicle::open(&after.path().join("app.db"));
            let migrated: bool = left
                .query_row(
                    "SELECT count(*) FROM sqlite_schema WHERE name = 'verger_jobs'",
                    [],
                    |row| row.get(0),
                )
                .unwrap();
            if !migrated {
                assert_eq!(durability, Durability::Normal);
                lost.push(told.len());
                continue;
            }
            let promised =
                if durability == Durability::Full { told.clone() } else { BTreeSet::new() };
            chronicle::check(&left, &promised);
            let mut select = left
                .prepare("SELECT args ->> '$.tag' FROM verger_jobs WHERE schedule IS NULL")
                .unwrap();
            let there: BTreeSet<String> =
                select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
            lost.push(told.difference(&there).count());
            drop(select);
            drop(left);
            let reopened = chronicle::builder(&after.path().join("app.db")).open().unwrap();
            reopened.verify_audit().unwrap();
            reopened.tick(reopened.now()).unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    println!(
        "{cuts} power cuts with {durability:?}, {} jobs acknowledged: {} cuts lost some, {} jobs in all, at most {} at once",
        told.len(),
        lost.iter().filter(|lost| **lost > 0).count(),
        lost.iter().sum::<usize>(),
        lost.iter().max().unwrap(),
    );
    assert!(durability == Durability::Normal || lost.iter().all(|lost| *lost == 0));
}

#[test]
fn a_power_cut_with_full_durability_loses_no_commit() {
    power_cuts(Durability::Full);
}

#[test]
fn a_power_cut_with_normal_durability_may_lose_the_last_commits_and_leaves_the_file_whole() {
    power_cuts(Durability::Normal);
}
