//! A run holds the write lock only while it writes. Reading or computing keeps nobody out, what was
//! read still holds when a write depends on it, and nobody may keep the lock for long.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

#[path = "../common/mod.rs"]
mod common;
mod held;

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Kind, TABLES};
use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::rusqlite::functions::FunctionFlags;
use verger::verger_worker::prelude::*;
use verger::{Builder, Grant, JobState, Limits, NewJob, TickLoop, Verger};

/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(1_000);

/// What someone else does while an attempt is under way.
type Meanwhile = Box<dyn Fn(&Connection) + Send>;

/// A database of the app's, and its own connection, which waits for nothing.
struct Place {
    _folder: tempfile::TempDir,
    verger: Verger,
    app: Connection,
}

impl Place {
    fn with(set_up: impl FnOnce(Builder, &std::path::Path) -> Builder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.db");
        let app = Connection::open(&file).unwrap();
        app.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        app.execute_batch(TABLES).unwrap();
        app.execute_batch(
            "CREATE TABLE counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL);
             INSERT INTO counters VALUES ('a', 1), ('b', 1);
             INSERT INTO things (name, value) SELECT 'n' || value, value FROM json_each('[1,2,3,4,5,6]')",
        )
        .unwrap();
        app.busy_timeout(Duration::ZERO).unwrap();
        let builder = set_up(Verger::builder(&file).without_built_ins(), &file);
        Self { verger: builder.open().unwrap(), app, _folder: folder }
    }

    /// With a worker that is part of the app; someone else does `meanwhile` when it says so, at its
    /// first attempt.
    fn with_worker(
        meanwhile: impl Fn(&Connection) + Send + 'static,
        work: impl Fn(&Context<'_>, &dyn Fn()) -> Result<Json, WorkerError> + Send + Sync + 'static,
    ) -> (Self, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let place = Self::with(|builder, file| {
            let other = Connection::open(file).unwrap();
            let meanwhile: Mutex<Option<(Connection, Meanwhile)>> =
                Mutex::new(Some((other, Box::new(meanwhile))));
            builder
                .worker(Works { meanwhile, calls: counted, work: Box::new(work) })
                .capability("send", |_| Ok(json!("sent")))
                .slow_capability("wait", |_| Ok(json!("waited")))
        });
        (place, calls)
    }

    fn counter(&self, name: &str) -> i64 {
        let sql = "SELECT n FROM counters WHERE name = ?1";
        self.app.query_row(sql, [name], |row| row.get(0)).unwrap()
    }

    fn result(&self) -> Json {
        self.verger.perform_now("works", json!({})).unwrap().result().unwrap().clone()
    }
}

type Work = Box<dyn Fn(&Context<'_>, &dyn Fn()) -> Result<Json, WorkerError> + Send + Sync>;

struct Works {
    meanwhile: Mutex<Option<(Connection, Meanwhile)>>,
    calls: Arc<AtomicUsize>,
    work: Work,
}

impl Worker for Works {
    fn manifest(&self) -> Manifest {
        Manifest::new("works", "1.0.0")
            .table(TableAsk::named("counters").read().insert().update())
            .table(TableAsk::named("things").read().insert())
            .capability("send")
            .capability("wait")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        self.calls.fetch_add(1, SeqCst);
        let meanwhile = || {
            if let Some((other, meanwhile)) = self.meanwhile.lock().unwrap().take() {
                meanwhile(&other);
            }
        };
        (self.work)(job, &meanwhile).map(Outcome::DoneWith)
    }
}

fn read(job: &Context<'_>, name: &str) -> Result<i64, WorkerError> {
    let rows = job.query("SELECT n FROM counters WHERE name = ?1", params![name])?;
    Ok(rows.rows().next().unwrap()?.take(0)?)
}

fn write(job: &Context<'_>, name: &str, n: i64) -> Result<u64, HostError> {
    job.execute("UPDATE counters SET n = ?2 WHERE name = ?1", params![name, n])
}

fn set(name: &'static str, n: i64) -> impl Fn(&Connection) + Send + 'static {
    move |other| {
        other.execute("UPDATE counters SET n = ?2 WHERE name = ?1", (name, n)).unwrap();
    }
}

#[test]
fn an_app_writes_without_waiting_while_a_worker_reads_and_computes() {
    let (place, calls) = Place::with_worker(set("b", 5), |job, meanwhile| {
        let n = read(job, "a")?;
        // Not held up: the other connection waits for nothing, and would fail.
        meanwhile();
        Ok(json!([n, read(job, "b")?]))
    });
    assert_eq!(place.result(), json!([1, 1]), "it goes on reading what was there when it began");
    assert_eq!((place.counter("b"), calls.load(SeqCst)), (5, 1));
}

#[test]
fn a_run_whose_reads_still_hold_goes_on_and_one_whose_reads_were_changed_is_repeated() {
    for (changed, expected, performed) in [("b", 11, 1), ("a", 17, 2)] {
        let (place, calls) = Place::with_worker(set(changed, 7), |job, meanwhile| {
            let n = read(job, "a")?;
            meanwhile();
            write(job, "a", n + 10)?;
            job.audit(AuditEvent::success("counter.moved"))?;
            Ok(json!(n))
        });
        let id = place.verger.enqueue(NewJob::new("works", json!({}))).unwrap().id;
        let report = place.verger.tick(place.verger.now()).unwrap();
        assert_eq!((report.attempts.len(), report.attempts[0].audited), (1, 1));
        assert_eq!(place.counter("a"), expected, "nobody's write is lost");
        assert_eq!(calls.load(SeqCst), performed, "{changed}");
        let job = place.verger.job(id).unwrap().unwrap();
        assert_eq!((job.state, job.attempt, job.errors.len()), (JobState::Completed, 1, 0));
    }
}

#[test]
fn what_was_not_found_is_read_again_too() {
    let insert = |other: &Connection| {
        other.execute("INSERT INTO counters VALUES ('new', 1)", []).unwrap();
    };
    let (place, calls) = Place::with_worker(insert, |job, meanwhile| {
        let found =
            job.query("SELECT n FROM counters WHERE name = 'new'", params![])?.rows().count();
        meanwhile();
        if found == 0 {
            job.execute("INSERT INTO counters VALUES ('new', 2)", params![])?;
        }
        Ok(json!(found))
    });
    assert_eq!(place.result(), json!(1));
    assert_eq!((place.counter("new"), calls.load(SeqCst)), (1, 2));
}

#[test]
fn more_than_is_worth_reading_twice_makes_the_run_repeat() {
    let (place, calls) = Place::with_worker(set("b", 2), |job, meanwhile| {
        let sql = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 3000) SELECT n FROM n";
        let rows = job.query(sql, params![])?.rows().count();
        meanwhile();
        write(job, "a", 3)?;
        Ok(json!(rows))
    });
    assert_eq!(place.result(), json!(3_000));
    assert_eq!((place.counter("a"), place.counter("b"), calls.load(SeqCst)), (3, 2, 2));
}

#[test]
fn cursors_and_savepoints_go_on_where_they_were_when_the_lock_is_taken() {
    let (place, calls) = Place::with_worker(set("b", 2), |job, meanwhile| {
        let things = job.query("SELECT value FROM things ORDER BY id", params![])?;
        let savepoint = job.savepoint()?;
        let mut rows = things.rows();
        let mut sum: i64 = rows.next().unwrap()?.take(0)?;
        meanwhile();
        write(job, "a", 100)?;
        for row in rows {
            sum += row?.take::<i64>(0)?;
        }
        savepoint.rollback()?;
        write(job, "b", sum)?;
        Ok(json!(null))
    });
    place.result();
    assert_eq!((place.counter("a"), place.counter("b"), calls.load(SeqCst)), (1, 21, 1));
}

#[test]
fn a_run_that_called_a_function_of_the_app_is_not_repeated_and_takes_the_lock_first() {
    let (place, calls) = Place::with_worker(set("a", 7), |job, meanwhile| {
        read(job, "a")?;
        let sent = job.call("send", &json!({}))?;
        meanwhile();
        write(job, "a", 50)?;
        Ok(json!([sent, read(job, "a")?]))
    });
    assert_eq!(place.result(), json!(["sent", 50]));
    assert_eq!((place.counter("a"), calls.load(SeqCst)), (50, 1));
    let (place, _) = Place::with_worker(
        |other| {
            other.busy_timeout(Duration::ZERO).unwrap();
            other.execute("UPDATE counters SET n = 7", []).unwrap_err();
        },
        |job, meanwhile| {
            let _ = job.call("send", &json!({}))?;
            let n = read(job, "a")?;
            meanwhile();
            write(job, "a", n + 1)?;
            Ok(json!(n))
        },
    );
    assert_eq!(place.result(), json!(1));
    assert_eq!(place.counter("a"), 2);
}

#[test]
fn after_a_checkpoint_that_kept_something_the_lock_is_taken_first() {
    let (place, calls) = Place::with_worker(
        |other| {
            other.busy_timeout(Duration::ZERO).unwrap();
            other.execute("UPDATE counters SET n = 7", []).unwrap_err();
        },
        |job, meanwhile| {
            write(job, "b", 3)?;
            job.checkpoint()?;
            let n = read(job, "a")?;
            meanwhile();
            write(job, "a", n + 1)?;
            Ok(json!(n))
        },
    );
    assert_eq!(place.result(), json!(1));
    assert_eq!((place.counter("a"), place.counter("b"), calls.load(SeqCst)), (2, 3, 1));
}

#[test]
fn a_slow_function_is_refused_while_the_lock_is_held_and_called_after_a_checkpoint() {
    let (place, _) = Place::with_worker(
        |_| {},
        |job, _| {
            read(job, "a")?;
            let before = job.call("wait", &json!({}))?;
            write(job, "a", 2)?;
            let refused = job.call("wait", &json!({})).unwrap_err();
            job.checkpoint()?;
            let after = job.call("wait", &json!({}))?;
            Ok(json!([before, refused.code, refused.message.contains("checkpoint"), after]))
        },
    );
    assert_eq!(place.result(), json!(["waited", "checkpoint-first", true, "waited"]));
}

#[test]
fn a_dry_run_is_repeated_as_well() {
    let (place, calls) = Place::with_worker(set("a", 7), |job, meanwhile| {
        let n = read(job, "a")?;
        meanwhile();
        write(job, "a", n + 1)?;
        Ok(json!(n))
    });
    let dry = place.verger.dry_run("works", json!({})).unwrap();
    assert_eq!((dry.result(), dry.rows_changed), (Some(&json!(7)), 1));
    assert_eq!((place.counter("a"), calls.load(SeqCst)), (7, 2));
}

/// A place where the puppet works, as a component or native. Its SQL may call `meddle`, with which
/// someone else writes.
fn puppets(kind: Kind, limits: Limits) -> Place {
    Place::with(|builder, file| {
        let other = Arc::new(Mutex::new(Connection::open(file).unwrap()));
        let grant = Grant::new().write("things").capability("echo").limits(limits);
        kind.add(builder, grant).connection_setup(move |connection| {
            let other = Arc::clone(&other);
            let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
            connection.create_scalar_function("meddle", 1, flags, move |context| {
                let other = other.lock().unwrap();
                other.busy_timeout(Duration::ZERO).unwrap();
                // Refused while the worker holds the lock.
                let _ = other
                    .execute("UPDATE things SET value = ?1 WHERE id = 1", [context.get::<i64>(0)?]);
                Ok(0)
            })
        })
    })
}

fn value_of_the_first(place: &Place) -> i64 {
    place.app.query_row("SELECT value FROM things WHERE id = 1", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_component_is_repeated_by_a_fresh_instance() {
    for kind in common::BOTH {
        let place = puppets(kind, Limits::new());
        let steps = json!([
            ["query", "SELECT value FROM things WHERE id = 1", []],
            ["query", "SELECT meddle(70)", []],
            ["execute", "UPDATE things SET value = value + 1 WHERE id = 1", []],
            ["query", "SELECT value FROM things WHERE id = 1", []],
        ]);
        let performed = place.verger.perform_now("puppet", json!({ "do": steps })).unwrap();
        let answers = performed.result().unwrap();
        assert_eq!(answers[0], json!({"ok": [[70]]}), "{kind:?}: what it first read is gone");
        assert_eq!((answers[3].clone(), value_of_the_first(&place)), (json!({"ok": [[71]]}), 71));
    }
}

#[test]
fn in_a_database_without_a_log_a_run_takes_the_lock_first() {
    let test = Kind::Component.open();
    let performed = common::answers(
        &test,
        json!([
            ["query", "SELECT count(*) FROM things", []],
            ["execute", "INSERT INTO things (name) VALUES ('x')", []],
        ]),
    );
    assert_eq!(performed, json!([{"ok": [[0]]}, {"ok": 1}]));
}

#[test]
fn many_that_read_and_write_the_same_row_lose_no_write() {
    let place = Place::with(|builder, _| {
        builder.worker(Adds).queue(verger::Queue::new("default").concurrency(4))
    });
    place.verger.enqueue_all((0..60).map(|_| NewJob::new("adds", json!({})))).unwrap();
    let ticking: TickLoop = place.verger.start().unwrap();
    let begun = Instant::now();
    let done = "SELECT count(*) FROM verger_jobs WHERE state = 'completed' AND attempt = 1";
    while place.app.query_row(done, [], |row| row.get::<_, i64>(0)).unwrap() < 60 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    ticking.stop(Duration::from_secs(5)).unwrap();
    assert_eq!(place.counter("a"), 61);
}

/// Adds one, having thought about it.
struct Adds;

impl Worker for Adds {
    fn manifest(&self) -> Manifest {
        Manifest::new("adds", "1.0.0").table(TableAsk::named("counters").read().update())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        let n = read(job, "a")?;
        std::thread::sleep(Duration::from_millis(3));
        write(job, "a", n + 1)?;
        Ok(Outcome::Done)
    }
}
