//! The books of a SQLite file, moved into a database with their ids.

use serde_json::json;
use verger::postgres::{Move, MoveError};
use verger::verger_worker::prelude::*;
use verger::{
    AuditFilter, JobFilter, JobId, JobState, NewJob, OpenError, Overlap, Schedule, Timestamp,
};

use crate::cluster::{Database, database};
use crate::scripted::{scripted, worker};
use crate::{START, clock};

const MINUTE: i64 = 60_000;

fn keeper() -> crate::scripted::Scripted {
    scripted(Manifest::new("keeper", "1.0.0"), |job, _, args| {
        job.set_state("seen", args.get::<i64>("n")?)?;
        job.set_state("half", 0.5)?;
        job.audit(
            AuditEvent::success("number.kept")
                .subject("n", args.get::<i64>("n")?.to_string())
                .metadata(json!({"list": ["a\u{0}b"]})),
        )?;
        job.log(LogLevel::Info, "kept it");
        Ok(Outcome::DoneWith(json!({"kept": true})))
    })
}

fn failing() -> crate::scripted::Scripted {
    worker("failing", |_, _| Err(WorkerError::new("no mail\0 server")))
}

fn schedule() -> Schedule {
    let every = Schedule::cron("minutely", "* * * * *").unwrap().worker("keeper");
    every.args(json!({"n": -1})).overlap(Overlap::Allow)
}

struct File {
    folder: tempfile::TempDir,
    jobs: Vec<JobId>,
}

impl File {
    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("app.db")
    }

    fn open(&self, clock: &verger::testing::ManualClock) -> Result<verger::Verger, OpenError> {
        let builder = verger::Verger::builder(self.path()).worker(keeper()).worker(failing());
        builder.without_built_ins().schedule(schedule()).clock(clock.clone()).open()
    }
}

/// A file in which something of everything happened.
fn file(clock: &verger::testing::ManualClock) -> File {
    let mut file = File { folder: tempfile::tempdir().unwrap(), jobs: Vec::new() };
    let verger = file.open(clock).unwrap();
    let of = |n: i64| NewJob::new("keeper", json!({"n": n, "digits": 0.1}));
    file.jobs.push(verger.enqueue(of(1)).unwrap().id);
    file.jobs.push(verger.enqueue(NewJob::new("failing", json!({})).max_attempts(9)).unwrap().id);
    for _ in 0..3 {
        clock.advance(std::time::Duration::from_secs(60));
        verger.tick(verger.now()).unwrap();
    }
    let later = Timestamp::from_millis(START + 600 * MINUTE);
    file.jobs.push(verger.enqueue(of(2).at(later).priority(1).queue("later")).unwrap().id);
    file.jobs.push(verger.enqueue(of(3).unique()).unwrap().id);
    verger.pause_queue("later").unwrap();
    drop(verger);
    file
}

fn open(database: &Database, clock: &verger::testing::ManualClock) -> verger::postgres::Verger {
    let builder = verger::postgres::Verger::builder(database.url()).worker(keeper());
    builder.worker(failing()).schedule(schedule()).clock(clock.clone()).open().unwrap()
}

#[test]
fn everything_is_there_afterwards_and_goes_on_where_it_was() {
    let Some(database) = database() else { return };
    let clock = clock();
    let file = file(&clock);
    let sqlite = file.open(&clock).unwrap();
    let before = sqlite.jobs(&JobFilter::new(), u32::MAX).unwrap();
    let ledger = sqlite.fires("minutely", 100).unwrap();
    let trail = sqlite.audit_log(&AuditFilter::default(), u32::MAX).unwrap();
    assert!(ledger.len() >= 3 && trail.len() >= 3, "{} {before:?}", ledger.len());
    // While the app has it open, nothing is moved.
    let refused = Move::new(file.path(), database.url()).run().unwrap_err();
    assert!(matches!(refused, MoveError::InUse { .. }), "{refused}");
    drop(sqlite);

    let dry = Move::new(file.path(), database.url()).dry_run().run().unwrap();
    assert_eq!(database.one::<i64>("SELECT count(*) FROM verger.jobs"), 0);
    let moved = Move::new(file.path(), database.url()).run().unwrap();
    assert_eq!((moved.jobs, moved.fires), (before.len() as u64, ledger.len() as u64));
    assert_eq!(dry, moved);
    assert_eq!(moved.audit_rows, trail.len() as u64);

    let verger = open(&database, &clock);
    let after = verger.jobs(&JobFilter::new(), u32::MAX).unwrap();
    assert_eq!(after.len(), before.len());
    for (after, before) in after.iter().zip(&before) {
        // A character that this store cannot keep in the list of errors is another one.
        let said = before.errors.iter().map(|error| error.message.replace('\0', "\u{fffd}"));
        assert!(after.errors.iter().map(|error| error.message.clone()).eq(said));
        let of = |job: &verger::Job| {
            let mut job = job.clone();
            (job.errors, job.lease_until) = (Vec::new(), None);
            job
        };
        assert_eq!(of(after), of(before));
    }
    assert_eq!(verger.fires("minutely", 100).unwrap(), ledger);
    assert_eq!(verger.verify_audit().unwrap().rows, trail.len() as u64);
    let hashes = |rows: &[verger::AuditRow]| -> Vec<_> {
        rows.iter().map(|row| (row.id, row.action.clone(), row.hash.clone())).collect()
    };
    let there = verger.audit_log(&AuditFilter::default(), u32::MAX).unwrap();
    assert_eq!(hashes(&there), hashes(&trail));
    assert_eq!(verger.job_log(file.jobs[0]).unwrap()[0].lines[0].text, "kept it");

    // It goes on: the waiting job is performed, no slot comes twice, ids go on, the log too.
    clock.advance(std::time::Duration::from_secs(60));
    verger.tick(verger.now()).unwrap();
    assert_eq!(verger.job(file.jobs[3]).unwrap().unwrap().state, JobState::Completed);
    assert_eq!(verger.job(file.jobs[2]).unwrap().unwrap().state, JobState::Scheduled);
    let slots: Vec<_> = verger.fires("minutely", 100).unwrap().iter().map(|row| row.slot).collect();
    assert_eq!(slots.len(), ledger.len() + 1);
    let new = verger.enqueue(NewJob::new("keeper", json!({"n": 9}))).unwrap().id;
    assert!(before.iter().all(|job| job.id.number() < new.number()));
    assert!(verger.verify_audit().unwrap().rows > trail.len() as u64);
    let state =
        "SELECT kind || ':' || convert_from(value, 'UTF8') FROM verger.state WHERE key = 'half'";
    assert_eq!(database.one::<String>(state), "real:0.5");

    // The file says where its rows went, and can be looked at.
    let error = file.open(&clock).unwrap_err();
    assert!(matches!(&error, OpenError::Moved { .. }), "{error}");
    let looking =
        verger::Verger::builder(file.path()).without_built_ins().read_only().open().unwrap();
    assert_eq!(looking.jobs(&JobFilter::new(), u32::MAX).unwrap().len(), before.len());
    drop(looking);
    let again = Move::new(file.path(), database.url()).run().unwrap_err();
    assert!(matches!(again, MoveError::Open(OpenError::Moved { .. })), "{again}");
}

/// Killed after the commit there, and before the mark here: the second call only sets the mark.
#[test]
fn a_move_that_was_killed_midway_is_found_out_by_the_next() {
    let Some(database) = database() else { return };
    let clock = clock();
    let file = file(&clock);
    let moved = Move::new(file.path(), database.url()).run().unwrap();
    let unmark = "UPDATE verger_moved SET is_done = 0";
    verger::rusqlite::Connection::open(file.path()).unwrap().execute_batch(unmark).unwrap();
    let jobs = database.one::<i64>("SELECT count(*) FROM verger.jobs");
    // Until it is known what became of it, nobody performs the jobs a second time, here or elsewhere.
    let open = file.open(&clock).unwrap_err();
    assert!(matches!(open, OpenError::Moved { is_done: false, .. }), "{open}");
    let other = database.cluster.database("");
    let elsewhere = Move::new(file.path(), other.url()).run().unwrap_err();
    assert!(matches!(elsewhere, MoveError::Elsewhere { .. }), "{elsewhere}");
    // Where it cannot be found out, the file stays shut.
    database.client().batch_execute("ALTER TABLE verger.moved RENAME TO out_of_sight").unwrap();
    let unknown = Move::new(file.path(), database.url()).run().unwrap_err();
    assert!(matches!(unknown, MoveError::Store(_)), "{unknown}");
    assert!(matches!(file.open(&clock), Err(OpenError::Moved { is_done: false, .. })));
    database.client().batch_execute("ALTER TABLE verger.out_of_sight RENAME TO moved").unwrap();
    let again = Move::new(file.path(), database.url()).run().unwrap();
    assert!(again.was_there && !moved.was_there);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM verger.jobs"), jobs);
    assert!(matches!(file.open(&clock), Err(OpenError::Moved { is_done: true, .. })));
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_moved() {
    let Some(database) = database() else { return };
    let clock = clock();
    let file = file(&clock);
    let sqlite = verger::rusqlite::Connection::open(file.path()).unwrap();
    sqlite
        .execute_batch("UPDATE verger_jobs SET worker = 'a' || char(0) WHERE id = (SELECT max(id) FROM verger_jobs)")
        .unwrap();
    drop(sqlite);
    let error = Move::new(file.path(), database.url()).run().unwrap_err();
    let MoveError::Row { table, row, .. } = &error else { panic!("{error}") };
    assert_eq!(
        (table.as_str(), row.as_str()),
        ("jobs", file.jobs[3].number().to_string().as_str()),
        "{error}"
    );
    assert_eq!(database.one::<i64>("SELECT count(*) FROM verger.jobs"), 0);
    let sqlite = verger::rusqlite::Connection::open(file.path()).unwrap();
    sqlite
        .execute_batch("UPDATE verger_jobs SET worker = 'keeper' WHERE worker <> 'failing'")
        .unwrap();
    drop(sqlite);
    drop(file.open(&clock).unwrap());
    // Into a database that has jobs, nothing is moved either.
    let verger = open(&database, &clock);
    verger.enqueue(NewJob::new("keeper", json!({"n": 1}))).unwrap();
    let error = Move::new(file.path(), database.url()).run().unwrap_err();
    assert!(matches!(error, MoveError::NotEmpty { .. }), "{error}");
    drop(file.open(&clock).unwrap());
    let nowhere = Move::new(file.path(), "postgres://nobody@127.0.0.1:1/none").run().unwrap_err();
    assert!(nowhere.to_string().contains("cannot be reached"), "{nowhere}");
    drop(file.open(&clock).unwrap());
}
