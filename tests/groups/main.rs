//! Short jobs share a transaction, and each keeps all that a job alone promises.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

mod plays;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::rusqlite::types::Value;
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::prelude::*;
use verger::{Builder, JobId, JobState, NewJob, Verger};

use self::plays::{Own, Plays};

const TABLES: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL CHECK (name <> 'bad'));
    CREATE TABLE parents (id INTEGER PRIMARY KEY);
    CREATE TABLE children (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE doomed (n INTEGER);
    CREATE TRIGGER doomed_takes_all BEFORE INSERT ON doomed BEGIN SELECT RAISE(ROLLBACK, 'no'); END;
    CREATE TABLE orders (name TEXT);
    CREATE TRIGGER orders_enqueue AFTER INSERT ON orders BEGIN
        INSERT INTO verger_jobs (worker, priority, args) VALUES ('plays', 0, json_object('kind', 'plain', 'name', NEW.name));
    END;";

const KINDS: [&str; 18] = [
    "silent",
    "answers",
    "speaks",
    "plain",
    "reads",
    "fails",
    "writes and fails",
    "writes and panics",
    "checkpoints",
    "checkpoints and fails",
    "calls",
    "calls only",
    "snoozes",
    "cancels",
    "goes on after a refusal",
    "owes a key",
    "takes the transaction",
    "has another enqueued",
];

fn job(kind: &str, name: impl ToString) -> NewJob {
    NewJob::new("plays", json!({"kind": kind, "name": name.to_string()}))
}

/// A database on disk, where short jobs share transactions or not.
struct Place {
    _folder: tempfile::TempDir,
    file: PathBuf,
    test: TestVerger,
}

fn builder(file: &Path, own: Own) -> Builder {
    Verger::builder(file)
        .without_built_ins()
        .worker(Plays(own))
        .capability("send", |_| Ok(json!(1)))
}

fn place_with(together: bool, own: Own) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let builder = builder(&file, own);
    let builder =
        if together { builder.group_commit_always() } else { builder.group_commit(false) };
    let test = TestVerger::open(builder, &ManualClock::at(TestVerger::START)).unwrap();
    test.connection().execute_batch(TABLES).unwrap();
    Place { _folder: folder, file, test }
}

fn place(together: bool) -> Place {
    place_with(together, Box::new(|_, name| panic!("{name}")))
}

impl Place {
    fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        let mut select = self.test.connection().prepare(sql).unwrap();
        let columns = select.column_count();
        let rows = select.query_map([], |row| (0..columns).map(|at| row.get(at)).collect());
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn names(&self) -> Vec<String> {
        let mut select =
            self.test.connection().prepare("SELECT name FROM things ORDER BY id").unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn state(&self, id: JobId) -> JobState {
        self.test.job(id).unwrap().unwrap().state
    }

    /// Ticks until nothing is due: what was attempted, and how it ended.
    fn finish(&self) -> Vec<String> {
        let mut attempts = Vec::new();
        loop {
            let report = self.test.tick(self.test.now()).unwrap();
            if report.attempts.is_empty() {
                return attempts;
            }
            attempts.extend(report.attempts.iter().map(|attempt| {
                format!(
                    "{} {} {:?} {} {}",
                    attempt.job,
                    attempt.attempt,
                    attempt.outcome,
                    attempt.rows_changed,
                    attempt.audited
                )
            }));
        }
    }

    /// Everything a run leaves behind.
    fn books(&self) -> Vec<(&'static str, Vec<Vec<Value>>)> {
        [
            "SELECT id, worker, priority, state, args, due_at, attempt, max_attempts, snoozes, token, attempted_at, finished_at, result, \
             errors FROM verger_jobs ORDER BY id",
            "SELECT * FROM things ORDER BY id",
            "SELECT * FROM children",
            "SELECT * FROM verger_audit ORDER BY id",
            "SELECT * FROM verger_audit_head",
        ]
        .map(|sql| (sql, self.rows(sql)))
        .into()
    }
}

/// A sequence of numbers that looks random and is the same each time.
fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |most| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % most
    }
}

#[test]
fn jobs_that_share_a_transaction_leave_what_they_leave_by_themselves() {
    for seed in 0..40 {
        let mut below = dice(seed + 1);
        // Mostly one kind that can share, so that there are groups for the others to fall into.
        let jobs: Vec<NewJob> = (0..24)
            .map(|n| {
                let kind = if below(3) == 0 { KINDS[below(KINDS.len())] } else { KINDS[below(4)] };
                job(kind, n).priority(below(3) as u8 + 4).max_attempts(1 + below(3) as u32)
            })
            .collect();
        let [alone, together] = [false, true].map(|together| {
            let place = place(together);
            let heard = place.test.subscribe();
            place.test.enqueue_all(jobs.clone()).unwrap();
            let attempts = place.finish();
            let heard: Vec<_> = std::iter::from_fn(|| heard.try_next())
                .map(|event| (event.topic, event.payload, event.job))
                .collect();
            place.test.verify_audit().unwrap();
            (attempts, heard, place.books())
        });
        assert_eq!(alone.0, together.0, "seed {seed}: the attempts");
        assert_eq!(alone.1, together.1, "seed {seed}: the events");
        assert_eq!(alone.2, together.2, "seed {seed}: the books");
    }
}

#[test]
fn short_jobs_of_a_known_worker_share_a_commit_and_are_told_of_after_it() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (noted, other) = (Arc::clone(&seen), Arc::new(Mutex::new(None::<Connection>)));
    let elsewhere = Arc::clone(&other);
    let place = place_with(
        true,
        Box::new(move |job, name| {
            // What someone else sees of the jobs before.
            let other = elsewhere.lock().unwrap();
            let count = "SELECT count(*) FROM things";
            let things: i64 =
                other.as_ref().unwrap().query_row(count, [], |row| row.get(0)).unwrap();
            noted.lock().unwrap().push(things);
            job.execute("INSERT INTO things (name) VALUES (?1)", params![name])?;
            job.publish("written", &json!(name))?;
            Ok(Outcome::Done)
        }),
    );
    // Opened before the jobs run: a group ends when it has held the lock for 50 ms, and opening a
    // file may take that long.
    *other.lock().unwrap() = Some(Connection::open(&place.file).unwrap());
    let heard = place.test.subscribe();
    place.test.enqueue_all((0..5).map(|n| job("own", n))).unwrap();
    place.finish();
    let seen = seen.lock().unwrap().clone();
    println!("seen of those before: {seen:?}");
    // A machine under load may end a group early; then what is committed is whole jobs.
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().enumerate().all(|(before, things)| *things <= before as i64));
    assert!(seen.windows(2).any(|two| two[0] == two[1]), "no two of them shared a commit");
    assert_eq!(std::iter::from_fn(|| heard.try_next()).count(), 5);
    assert_eq!(place.names(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn one_that_takes_long_gives_the_lock_back_and_what_was_done_before_it_is_there() {
    let (written, waited) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (has_written, has_waited) = (Arc::clone(&written), Arc::clone(&waited));
    let place = place_with(
        true,
        Box::new(move |job, name| {
            let begun = Instant::now();
            has_waited.store(1, SeqCst);
            while has_written.load(SeqCst) == 0 {
                assert!(begun.elapsed() < Duration::from_secs(60), "the app could not write");
                std::thread::sleep(Duration::from_millis(1));
            }
            job.execute("INSERT INTO things (name) VALUES (?1)", params![name])?;
            Ok(Outcome::Done)
        }),
    );
    let jobs = [job("plain", "before"), job("own", "long"), job("plain", "after")];
    let jobs = place.test.enqueue_all(jobs).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let app = Connection::open(&place.file).unwrap();
            app.busy_timeout(Duration::from_secs(30)).unwrap();
            while waited.load(SeqCst) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            // It waits for the lock, which the job before the long one has taken.
            app.execute("INSERT INTO things (name) VALUES ('app')", []).unwrap();
            let state = |id: JobId| {
                let sql = "SELECT state, attempt FROM verger_jobs WHERE id = ?1";
                app.query_row(sql, [id.number()], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
                })
                .unwrap()
            };
            assert_eq!(state(jobs[0].id), ("completed".into(), 1));
            assert_eq!(state(jobs[1].id), ("executing".into(), 1));
            assert_eq!(state(jobs[2].id), ("available".into(), 0));
            written.store(1, SeqCst);
        });
        place.finish();
    });
    assert_eq!(place.names(), ["before", "app", "long", "after"]);
    assert!(jobs.iter().all(|job| place.state(job.id) == JobState::Completed));
    place.test.verify_audit().unwrap();
}

#[test]
fn until_a_job_begins_it_can_be_cancelled_its_queue_paused_and_another_put_before_it() {
    type Place = Option<(Verger, Vec<JobId>)>;
    let verger: Arc<Mutex<Place>> = Arc::default();
    let shared = Arc::clone(&verger);
    let place = place_with(
        true,
        Box::new(move |job, name| {
            let (verger, ids) = shared.lock().unwrap().clone().unwrap();
            match name {
                "cancels" => assert!(verger.cancel(ids[2]).unwrap()),
                "enqueues" => drop(verger.enqueue(super_job()).unwrap()),
                "pauses" => verger.pause_queue("default").unwrap(),
                _ => {}
            }
            job.execute("INSERT INTO things (name) VALUES (?1)", params![name])?;
            Ok(Outcome::Done)
        }),
    );
    let jobs = ["first", "cancels", "cancelled", "enqueues", "last but one", "pauses", "never"];
    let jobs = place.test.enqueue_all(jobs.map(|name| job("own", name))).unwrap();
    let ids = jobs.iter().map(|job| job.id).collect();
    *verger.lock().unwrap() = Some(((*place.test).clone(), ids));
    place.finish();
    assert_eq!(place.names(), ["first", "cancels", "enqueues", "urgent", "last but one", "pauses"]);
    assert_eq!(place.state(jobs[2].id), JobState::Cancelled);
    assert_eq!(place.state(jobs[6].id), JobState::Available);
}

fn super_job() -> NewJob {
    job("own", "urgent").priority(0)
}

#[test]
fn a_worker_is_by_itself_until_it_was_short_and_after_it_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let order: Arc<Mutex<Vec<Json>>> = Arc::default();
    let (noted, path) = (Arc::clone(&order), file.clone());
    let own: Own = Box::new(move |_, name| {
        let other = Connection::open(&path).unwrap();
        let sql = "SELECT count(*) FROM verger_jobs WHERE state = 'executing'";
        let executing: i64 = other.query_row(sql, [], |row| row.get(0)).unwrap();
        noted.lock().unwrap().push(json!(executing));
        if name == "long" {
            std::thread::sleep(Duration::from_millis(30));
        }
        Ok(Outcome::Done)
    });
    let verger = builder(&file, own).open().unwrap();
    verger.connect().unwrap().execute_batch(TABLES).unwrap();
    // The first is claimed where everyone sees it, and so is the one after the long one.
    verger.enqueue_all([job("own", "long"), job("own", "a")]).unwrap();
    while !verger.tick(verger.now()).unwrap().attempts.is_empty() {}
    assert_eq!(*order.lock().unwrap(), [json!(1), json!(1)]);
}
