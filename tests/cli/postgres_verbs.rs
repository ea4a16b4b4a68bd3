//! The verbs that work on a PostgreSQL database, and what the others say.

use std::path::Path;

use serde_json::{Value as Json, json};
use verger::postgres::Verger;
use verger::verger_worker::prelude::*;
use verger::{Clock as _, NewJob, Schedule, SystemClock};

use super::cluster::{Database, database};
use super::harness::{object, objects, said, text};

/// A worker that fails if its job says so.
struct Diary;

impl Worker for Diary {
    fn manifest(&self) -> Manifest {
        Manifest::new("diary", "1.0.0").arg("fails", ArgSpec::default_value(json!(false)))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        if args.as_map().get("fails") == Some(&json!(true)) {
            return Err(WorkerError::new("no ink").discard());
        }
        job.audit(AuditEvent::new("diary.written", EventOutcome::Success).subject("page", "7"))?;
        Ok(Outcome::DoneWith(json!({"pages": 1})))
    }
}

fn open(database: &Database) -> Verger {
    let nightly = Schedule::cron("nightly", "0 3 * * *").unwrap().worker("diary");
    Verger::builder(database.address()).worker(Diary).schedule(nightly).open().unwrap()
}

#[test]
fn an_operator_looks_at_the_books_and_changes_them() {
    let Some(database) = database() else { return };
    let app = open(&database);
    for fails in [false, true] {
        app.enqueue(NewJob::new("diary", json!({"fails": fails}))).unwrap();
    }
    app.tick(app.now()).unwrap();
    let db = database.address();
    let db = db.as_str();

    let jobs = objects(&["jobs", "list", "--db", db]);
    let states: Vec<&Json> = jobs.iter().map(|job| &job["state"]).collect();
    assert_eq!(states, ["discarded", "completed"]);
    assert!(text(&["jobs", "list", "--db", db]).contains("no ink"));
    assert!(text(&["jobs", "show", "1", "--db", db]).contains(r#"{"pages":1}"#));
    assert!(text(&["jobs", "retry", "2", "--db", db]).contains("job 2 is due now"));
    assert!(text(&["jobs", "cancel", "2", "--db", db]).contains("job 2 is cancelled"));
    let (_, err) = said(2, &["jobs", "cancel", "2", "--db", db]);
    assert!(err.contains("job 2 is cancelled already"), "{err}");
    let (_, err) = said(2, &["jobs", "show", "99", "--db", db]);
    assert!(err.contains("there is no job 99 in the database"), "{err}");
    // The worker is with the app's nodes, so its job waits for them.
    assert!(text(&["enqueue", "diary", "--db", db]).contains("job 3, due now"));
    let job = object(0, &["jobs", "show", "3", "--db", db]);
    assert_eq!((&job["state"], &job["parked"]), (&json!("available"), &Json::Null), "{job}");
    let (_, err) = said(2, &["enqueue", "dairy", "--db", db]);
    assert!(err.contains("no node has ever had a worker `dairy`: known are diary"), "{err}");

    assert!(text(&["queue", "pause", "default", "--db", db]).contains("is paused; 1 waiting job"));
    assert_eq!(app.tick(app.now()).unwrap().attempts.len(), 0);
    assert!(text(&["queue", "list", "--db", db]).contains("yes"));
    text(&["queue", "resume", "default", "--db", db]);
    let (_, err) = said(2, &["queue", "resume", "default", "--db", db]);
    assert!(err.contains("paused are none"), "{err}");
    assert_eq!(app.tick(app.now()).unwrap().attempts.len(), 1);

    // The command retires none of the app's schedules.
    assert!(text(&["schedule", "list", "--db", db]).contains("at 03:00 every day"));
    assert!(text(&["schedule", "pause", "nightly", "--db", db]).contains("is paused"));
    assert!(app.schedules().unwrap()[0].paused);
    text(&["schedule", "resume", "nightly", "--db", db]);
    assert!(text(&["schedule", "fires", "nightly", "--db", db]).contains("no slot has come yet"));

    let audit = objects(&["audit", "list", "--db", db, "--worker", "diary"]);
    assert_eq!(audit[0]["action"], "diary.written");
    assert!(text(&["audit", "verify", "--db", db]).contains("the hash chain is whole"));
    let events = text(&["events", "--db", db]);
    assert!(events.contains("no ink") && events.contains("queue default"), "{events}");
    assert!(text(&["migrate", "--db", db]).contains("up to date"));
}

#[test]
fn what_works_on_a_file_only_says_so() {
    let Some(database) = database() else { return };
    drop(open(&database));
    let db = database.address();
    let db = db.as_str();
    for verb in [
        &["jobs", "delete", "1"][..],
        &["jobs", "edit", "1", "--priority", "3"],
        &["jobs", "retry", "--filter", "worker=diary"],
        &["schedule", "run-now", "nightly"],
        &["audit", "export"],
        &["tick"],
        &["start"],
        &["doctor"],
        &["run", "diary"],
        &["plugin", "grants"],
        &["ui"],
    ] {
        let (out, err) = said(2, &[verb, &["--db", db]].concat());
        assert!(err.contains("works on a SQLite file"), "{verb:?}: {out}{err}");
    }
    let nightly = ["schedule", "add", "weekly", "@weekly", "--worker", "diary", "--db", db];
    let (_, err) = said(2, &nightly);
    assert!(err.contains("where its worker is"), "{err}");
    let (_, err) = said(2, &["jobs", "list", "--db", db, "--trust"]);
    assert!(err.contains("are for SQLite files"), "{err}");
}

#[test]
fn an_address_that_cannot_be_used_is_told_without_its_password() {
    let Some(database) = database() else { return };
    let db = database.address();
    // Nothing is made in a database that was named by mistake.
    for verb in [&["jobs", "list"][..], &["queue", "pause", "default"], &["enqueue", "diary"]] {
        let (_, err) = said(2, &[verb, &["--db", &db]].concat());
        assert!(err.contains("the engine tables are at version 0"), "{err}");
    }
    assert_eq!(
        database.one::<i64>("SELECT count(*) FROM pg_namespace WHERE nspname = 'verger'"),
        0
    );
    let nobody = "postgres://ann:hunter2@127.0.0.1:1/app";
    let nowhere = database.address().replace(&database.name, "nowhere");
    for (address, why) in [
        (nobody, "onnection refused"),
        (nowhere.as_str(), "database \"nowhere\" does not exist"),
        ("postgres://ann:hunter2@localhost:port/app", "the address is none of PostgreSQL's"),
    ] {
        for verb in [&["jobs", "list"][..], &["jobs", "retry", "1"], &["migrate"]] {
            let (_, err) = said(2, &[verb, &["--db", address]].concat());
            assert!(err.contains(why) && !err.contains("hunter2"), "{err}");
        }
    }
}

#[test]
fn a_file_is_moved_once() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let file = Path::to_str(&file).unwrap();
    let to = database.address();
    let verb = ["move", "--from", file, "--to", &to];
    let (_, err) = said(2, &verb);
    assert!(err.contains("there is no file"), "{err}");
    text(&["migrate", "--db", file]);
    let args = r#"{"organization_id": null, "actor_id": null}"#;
    for _ in 0..2 {
        text(&["enqueue", "reconcile-memberships", "--db", file, "--args", args]);
    }
    let (_, err) = said(2, &["move", "--from", file, "--to", "app.pg"]);
    assert!(err.contains("--to is no address"), "{err}");

    verger::rusqlite::Connection::open(file)
        .unwrap()
        .execute_batch("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT CHECK (text <> '')); INSERT INTO notes VALUES (1, 'a')")
        .unwrap();
    let said_dry = text(&[&verb[..], &["--dry-run", "--all-tables"]].concat());
    assert!(said_dry.starts_with("dry run, nothing is moved: 2 jobs, 0 schedules"), "{said_dry}");
    assert!(said_dry.contains("the table notes: 1 row\n"), "{said_dry}");
    assert!(said_dry.contains("may mean something else there: the CHECKs of notes"), "{said_dry}");
    assert_eq!(database.one::<i64>("SELECT count(*) FROM verger.jobs"), 0);
    let moved = object(0, &[&verb[..], &["--table", "notes"]].concat());
    assert_eq!(moved["tables"], json!([{"table": "notes", "rows": 1}]), "{moved}");
    assert_eq!(database.one::<String>("SELECT text FROM notes"), "a");
    assert_eq!((&moved["jobs"], &moved["was_there"]), (&json!(2), &json!(false)), "{moved}");
    assert_eq!(objects(&["jobs", "list", "--db", &to]).len(), 2);
    let (_, err) = said(2, &verb);
    assert!(err.contains("its rows were moved"), "{err}");
    // It can be read as it was.
    assert_eq!(objects(&["jobs", "list", "--db", file]).len(), 2);
    let now = SystemClock.now().to_string();
    let (_, err) = said(2, &["jobs", "retry", "1", "--db", file, "--now", &now]);
    assert!(err.contains("its rows were moved"), "{err}");
}
