//! A file is one file, whatever name it is opened by. What is no file is refused. The lock beside
//! it may be lost and is never wrong.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::processes::Process;
use serde_json::json;
use verger::rusqlite::Connection;
use verger::verger_worker::prelude::*;
use verger::{JobId, JobState, NewJob, OpenError, Verger};

const PATIENCE: Duration = Duration::from_secs(30);

/// Says that it began, and ends when it is told.
struct Gate {
    began: Mutex<Sender<()>>,
    end: Arc<Mutex<Receiver<()>>>,
}

impl Worker for Gate {
    fn manifest(&self) -> Manifest {
        Manifest::new("gate", "1.0.0")
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        let _ = self.began.lock().unwrap().send(());
        let _ = self.end.lock().unwrap().recv_timeout(PATIENCE);
        Ok(Outcome::Done)
    }
}

/// A Verger that is in the middle of a job.
struct Busy {
    verger: Verger,
    job: JobId,
    end: Sender<()>,
}

fn busy(file: &Path) -> Busy {
    let ((began, begun), (end, ended)) = (channel(), channel());
    let gate = Gate { began: Mutex::new(began), end: Arc::new(Mutex::new(ended)) };
    let verger = Verger::builder(file).without_built_ins().worker(gate).open().unwrap();
    let job = verger.enqueue(NewJob::new("gate", json!({})).max_attempts(1)).unwrap().id;
    let ticking = verger.clone();
    std::thread::spawn(move || ticking.tick(ticking.now()));
    begun.recv_timeout(PATIENCE).unwrap();
    Busy { verger, job, end }
}

impl Busy {
    /// Lets the job end: it was nobody else's meanwhile.
    fn finish(self) {
        self.end.send(()).unwrap();
        for _ in 0..1_000 {
            if self.verger.job(self.job).unwrap().unwrap().state != JobState::Executing {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let job = self.verger.job(self.job).unwrap().unwrap();
        assert_eq!((job.state, job.errors.len()), (JobState::Completed, 0), "{:?}", job.errors);
    }
}

fn open(file: &Path) -> Result<Verger, OpenError> {
    Verger::builder(file).without_built_ins().open()
}

fn beside(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}-verger", file.display()))
}

/// A job as a process that died left it, its lease running for long.
fn abandon(file: &Path) -> JobId {
    let app = Connection::open(file).unwrap();
    app.execute(
        "INSERT INTO verger_jobs (worker, queue, priority, state, args, tenant_aware, due_at, attempt, max_attempts, token, claimed_by, \
         lease_until, attempted_at, created_at) VALUES ('gate', 'default', 5, 'executing', '{}', 0, 0, 1, 3, 1, 'dead', ?1, 0, 0)",
        [i64::MAX / 2],
    )
    .unwrap();
    JobId::from_number(app.last_insert_rowid())
}

#[test]
fn a_live_job_is_its_own_however_the_file_is_named_and_whatever_becomes_of_the_lock_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("real.db"), folder.path().join("link.db"));
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let replace = |with: &str| {
        std::fs::remove_file(beside(&file)).unwrap();
        std::fs::write(beside(&file), with).unwrap();
    };
    let live = busy(&file);
    let lock = std::fs::read_to_string(beside(&file)).unwrap();
    let names: [(&str, &dyn Fn()); 2] = [
        ("by its own name", &|| drop(open(&file).unwrap())),
        ("by a longer path", &|| drop(open(&elsewhere.join("..").join("real.db")).unwrap())),
    ];
    let losses: [(&str, &dyn Fn()); 3] = [
        ("with the lock file tidied away", &|| {
            std::fs::remove_file(beside(&file)).unwrap();
            drop(open(&file).unwrap());
        }),
        ("with a copy of the lock file in its place", &|| {
            replace(&lock);
            drop(open(&file).unwrap());
        }),
        ("with another one in its place", &|| {
            replace("verger lock 0123456789abcdef\n");
            drop(open(&file).unwrap());
        }),
    ];
    // On Windows the lock file cannot be taken away while it is open.
    let losses = losses.into_iter().filter(|_| !cfg!(windows));
    for (how, way) in names.into_iter().chain(losses) {
        way();
        let state = live.verger.job(live.job).unwrap().unwrap().state;
        assert_eq!(state, JobState::Executing, "opened {how}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&file, &link).unwrap();
        drop(open(&link).unwrap());
        assert_eq!(live.verger.job(live.job).unwrap().unwrap().state, JobState::Executing);
        assert!(!beside(&link).exists(), "one lock for all names");
    }
    let _ = link;
    live.finish();
}

#[cfg(unix)]
#[test]
fn a_file_that_is_open_is_refused_by_a_hard_link_and_opens_by_it_when_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("real.db"), folder.path().join("hard.db"));
    let live = busy(&file);
    std::fs::hard_link(&file, &link).unwrap();
    let error = open(&link).unwrap_err();
    assert!(matches!(error, OpenError::OtherName { .. }), "{error:?}");
    assert!(error.to_string().contains("has another name"), "{error}");
    assert!(!beside(&link).exists());
    drop(open(&file).unwrap());
    live.finish();
    for _ in 0..200 {
        // The thread that ticked lets go of it.
        if open(&link).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody has it open");
}

#[test]
fn a_job_of_a_dead_process_is_taken_back_at_once_where_nobody_has_the_file_open() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let state = |verger: &Verger, job| verger.job(job).unwrap().unwrap().state;
    drop(open(&file).unwrap());
    let job = abandon(&file);
    std::fs::remove_file(beside(&file)).unwrap();
    let app = Connection::open(&file).unwrap();
    app.query_row("SELECT count(*) FROM verger_jobs", [], |_| Ok(())).unwrap();
    let verger = open(&file).unwrap();
    assert_eq!(state(&verger, job), JobState::Executing, "who has it open may be performing it");
    drop((verger, app));
    let verger = open(&file).unwrap();
    assert_eq!(state(&verger, job), JobState::Retryable);
    drop(verger);
    // With a rollback journal nothing shows who has the file open: the lease decides.
    let app = Connection::open(&file).unwrap();
    app.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).unwrap();
    drop(app);
    let job = abandon(&file);
    assert_eq!(state(&open(&file).unwrap(), job), JobState::Executing);
}

#[cfg(not(windows))]
#[test]
fn a_lock_file_that_was_tidied_away_is_made_again_by_the_process_that_lives() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let verger = open(&file).unwrap();
    let tag = || std::fs::read_to_string(beside(&file)).unwrap();
    let first = tag();
    std::fs::remove_file(beside(&file)).unwrap();
    verger.tick(verger.now()).unwrap();
    assert_ne!(tag(), first);
    let again = tag();
    verger.tick(verger.now()).unwrap();
    drop(open(&file).unwrap());
    assert_eq!(tag(), again, "and stays");
}

/// On Windows nothing has to be looked for that cannot happen.
#[cfg(windows)]
#[test]
fn nobody_can_take_the_database_or_its_lock_file_away_while_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let other = folder.path().join("other");
    std::fs::write(&other, "other").unwrap();
    let live = busy(&file);
    for held in [&file, &beside(&file)] {
        std::fs::remove_file(held).unwrap_err();
        std::fs::rename(held, folder.path().join("elsewhere")).unwrap_err();
        std::fs::rename(&other, held).unwrap_err();
        std::fs::File::open(held).unwrap();
    }
    live.finish();
}

#[test]
fn what_is_no_file_is_refused_with_what_to_do() {
    let in_memory = "Verger::in_memory()";
    let cases: &[(&str, &str)] = &[
        ("", in_memory),
        (":memory:", in_memory),
        ("file:app.db?mode=ro", "read_only()"),
        ("file::memory:?cache=shared", "it is a URI"),
        #[cfg(unix)]
        ("/dev/null", "a device or a pipe"),
        #[cfg(unix)]
        ("/dev/zero", in_memory),
    ];
    for (path, says) in cases {
        for builder in [Verger::builder(path), Verger::builder(path).read_only()] {
            let error = builder.open().unwrap_err();
            assert!(matches!(error, OpenError::NotAFile { .. }), "{path}: {error:?}");
            assert!(error.to_string().contains(says), "{path}: {error}");
        }
    }
}

/// Not a test of its own: the life of a process that changes its working directory.
#[test]
#[ignore = "a process of its own, which the tests here start"]
fn change_directory() {
    let folder = std::env::var_os("VERGER_TEST_FOLDER").unwrap();
    std::env::set_current_dir(&folder).unwrap();
    std::fs::create_dir("elsewhere").unwrap();
    // A name that would be a URI, and one that would be memory, were they not made absolute.
    for name in ["app.db", "./file:app.db", "./:memory:"] {
        let verger = open(Path::new(name)).unwrap();
        std::env::set_current_dir(Path::new(&folder).join("elsewhere")).unwrap();
        verger.pause_queue("mail").unwrap();
        verger.tick(verger.now()).unwrap();
        let queues: i64 = verger
            .connect()
            .unwrap()
            .query_row("SELECT count(*) FROM verger_queues", [], |row| row.get(0))
            .unwrap();
        assert_eq!(queues, 1);
        drop(verger);
        std::env::set_current_dir(&folder).unwrap();
        assert!(Path::new(name).is_file(), "{name}");
    }
    assert_eq!(std::fs::read_dir("elsewhere").unwrap().count(), 0);
    println!("\nstayed");
}

#[test]
fn a_relative_path_is_the_same_file_after_the_process_went_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().display().to_string();
    let process = Process::start("change_directory", &[("VERGER_TEST_FOLDER", folder)]);
    assert!(process.hear("stayed", PATIENCE).is_some());
}

#[cfg(unix)]
#[test]
fn the_lock_file_is_for_whoever_the_database_is_for_and_no_other_file_is_touched() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    for mode in [0o600, 0o640, 0o666] {
        drop(open(&file).unwrap());
        std::fs::remove_file(beside(&file)).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        // Who may not give a file away has no other's to care for.
        let _ = chown(&file, Some(65_534), Some(65_534));
        drop(open(&file).unwrap());
        let [database, lock] = [&file, &beside(&file)].map(|path| {
            let found = std::fs::metadata(path).unwrap();
            (found.mode() & 0o777, found.uid(), found.gid())
        });
        assert_eq!(lock, database);
    }
    // A link is not followed, there or not.
    let target = folder.path().join("target");
    for there in [false, true] {
        let _ = std::fs::remove_file(beside(&file));
        symlink(&target, beside(&file)).unwrap();
        if there {
            std::fs::write(&target, "").unwrap();
        }
        let error = open(&file).unwrap_err();
        assert!(matches!(error, OpenError::Lock { .. }), "{error:?}");
        assert!(error.to_string().contains("remove it"), "{error}");
        assert_eq!(std::fs::read(&target).ok(), there.then(Vec::new));
    }
    // What is not ours is locked, and never written; nor is a file that has another name.
    std::fs::remove_file(beside(&file)).unwrap();
    std::fs::write(beside(&file), "a letter").unwrap();
    drop(open(&file).unwrap());
    assert_eq!(std::fs::read_to_string(beside(&file)).unwrap(), "a letter");
    std::fs::remove_file(beside(&file)).unwrap();
    std::fs::hard_link(&target, beside(&file)).unwrap();
    drop(open(&file).unwrap());
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "");
}
