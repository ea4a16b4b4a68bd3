//! Disks that are full, fail, lie or can only be read, and files that are damaged or removed. Each
//! gives a typed error, nothing is half-written, and work goes on when the cause is gone.
//!
//! The faults come from a file system of the test's own in front of SQLite's; see `common/faulty/`.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod places;
mod power;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::chronicle::Groups;
use common::faulty::{Disk, Fault};
use serde_json::json;
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
