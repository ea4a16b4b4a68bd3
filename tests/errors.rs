//! An error says everything once: its text is complete, and its chain repeats nothing of it. The
//! builder refuses settings that it cannot use.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::error::Error;

use serde_json::json;
use verger::verger_worker::prelude::*;
use verger::{Backoff, Grant, NewJob, OpenError, Queue, Schedule, Verger, parse_args};

/// Needs an arg, and fails.
struct Fails;

impl Worker for Fails {
    fn manifest(&self) -> Manifest {
        Manifest::new("fails", "1.0.0").arg("file", ArgSpec::required())
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        Err(WorkerError::new("the other disk is full"))
    }
}

fn boxed<T>(result: Result<T, impl Error + Send + Sync + 'static>) -> Box<dyn Error> {
    match result {
        Ok(_) => panic!("it is refused"),
        Err(error) => Box::new(error),
    }
}

/// Each with a word that its text must have.
fn errors() -> Vec<(Box<dyn Error>, &'static str)> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(
        path("text.db"),
        "no database at all, but long enough to be looked at\n".repeat(40),
    )
    .unwrap();
    std::fs::create_dir(path("folder.db")).unwrap();
    std::fs::write(path("plugins"), "").unwrap();
    let newer = rusqlite_file(&path("newer.db"));
    newer.execute_batch("UPDATE verger_migrations SET version = version + 1000").unwrap();
    drop(newer);
    let held = rusqlite_file(&path("held.db"));
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::fs::create_dir(path("locked.db-verger")).unwrap();
    let verger = Verger::in_memory().worker(Fails).open().unwrap();
    let args = json!({"file": "a"});
    vec![
        (boxed(Verger::builder(path("text.db")).open()), "no SQLite database"),
        (boxed(Verger::builder(path("folder.db")).open()), "folder.db"),
        (boxed(Verger::builder(path("newer.db")).open()), "newer Verger"),
        (boxed(Verger::builder(path("no/where.db")).open()), "where.db"),
        (boxed(Verger::builder(path("locked.db")).open()), "lock file"),
        (boxed(Verger::in_memory().plugins(path("plugins")).open()), "plugins folder"),
        (boxed(Verger::in_memory().queue(Queue::new("q").concurrency(0)).open()), "q"),
        (boxed(Schedule::cron("s", "61 * * * *")), "61"),
        (boxed(Schedule::cron("s", "1 * * * *").unwrap().time_zone("Mars")), "Mars"),
        (boxed(verger.enqueue(NewJob::new("nobody", json!({})))), "nobody"),
        (boxed(verger.enqueue(NewJob::new("fails", json!([])))), "fails"),
        (boxed(verger.enqueue(NewJob::new("fails", json!({})))), "file"),
        (boxed(verger.enqueue(NewJob::new("fails", args.clone()).priority(77))), "77"),
        (boxed(verger.perform_now("fails", args)), "the other disk is full"),
        (
            boxed(verger.add_schedule(&Schedule::cron("s", "@daily").unwrap().worker("fails"))),
            "file",
        ),
        (boxed(parse_args("{")), "JSON"),
        (boxed(parse_args(r#"{"n": 1e999}"#)), "$.n"),
        (boxed(verger.audit(&AuditEvent::new("", EventOutcome::Success))), "action"),
    ]
}

fn rusqlite_file(path: &std::path::Path) -> verger::rusqlite::Connection {
    drop(Verger::builder(path).open().unwrap());
    verger::rusqlite::Connection::open(path).unwrap()
}

#[test]
fn a_chain_of_causes_says_each_of_them_once() {
    for (error, word) in errors() {
        let text = error.to_string();
        assert!(text.contains(word), "{text}: {word}");
        let mut said = vec![text];
        let mut cause = error.source();
        while let Some(error) = cause {
            let words = error.to_string();
            assert!(!said.iter().any(|before| before.contains(&words)), "{said:?} repeats {words}");
            said.push(words);
            cause = error.source();
        }
    }
}

#[test]
fn a_grant_or_a_backoff_for_a_worker_that_cannot_come_is_refused() {
    let grant = Grant::new;
    let error = Verger::in_memory().worker(Fails).grant("fials", grant()).open().unwrap_err();
    assert!(matches!(error, OpenError::NoSuchWorker { .. }), "{error}");
    assert!(error.to_string().contains("`fials`") && error.to_string().contains("`fails`"));
    let error = Verger::in_memory().backoff_of("fials", Backoff::default()).open().unwrap_err();
    assert!(matches!(error, OpenError::NoSuchWorker { .. }), "{error}");
    // A plugin may still be dropped in.
    let folder = tempfile::tempdir().unwrap();
    Verger::in_memory().plugins(folder.path()).grant("later", grant()).open().unwrap();
    Verger::in_memory().worker(Fails).grant("fails", grant()).open().unwrap();
}

#[test]
fn a_database_in_memory_has_nothing_to_look_at() {
    let error = Verger::in_memory().read_only().open().unwrap_err();
    assert!(matches!(error, OpenError::ReadOnlyMemory), "{error}");
}
