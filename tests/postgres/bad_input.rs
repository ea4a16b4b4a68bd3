//! What cannot be opened, or breaks meanwhile: a sentence each, and nothing half-written.

use std::sync::Arc;

use serde_json::json;
use verger::postgres::Verger;
use verger::{JobState, NewJob, StoreErrorKind};

use crate::cluster::{Cluster, database};
use crate::{clock, effect, effects, until};

fn refused(url: &str) -> String {
    Verger::builder(url).worker(effect()).open().unwrap_err().to_string()
}

#[test]
fn what_cannot_be_opened_says_why() {
    let Some(database) = database() else { return };
    let socket = database.cluster.socket();
    for (url, why) in [
        ("nonsense".to_string(), "the address is none of PostgreSQL's"),
        ("postgres://x@127.0.0.1:1/y".to_string(), "the server cannot be reached"),
        (
            format!("host={socket} user=postgres dbname=nothing"),
            "database \"nothing\" does not exist",
        ),
        (
            format!("host={socket} user=nobody dbname={}", database.name),
            "role \"nobody\" does not exist",
        ),
        ("host=/nowhere user=postgres".to_string(), "cannot be reached"),
    ] {
        let said = refused(&url);
        assert!(said.contains(why), "{url}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
    // A password that is wrong is not in the message.
    let said = refused("postgres://x:secret@127.0.0.1:1/y");
    assert!(!said.contains("secret"), "{said}");
    let latin = database.cluster.database("ENCODING 'LATIN1' TEMPLATE template0");
    let said = refused(&latin.url());
    assert!(said.contains("the encoding LATIN1"), "{said}");
    let read_only = format!("{} options='-c default_transaction_read_only=on'", database.url());
    let said = refused(&read_only);
    assert!(said.contains("a standby or read-only"), "{said}");
    // A role that may not make the schema.
    database.client().batch_execute("CREATE ROLE poor LOGIN").unwrap();
    let poor = format!("host={socket} user=poor dbname={}", database.name);
    let said = refused(&poor);
    assert!(said.contains("permission denied"), "{said}");
    assert_eq!(
        database.one::<i64>("SELECT count(*) FROM pg_namespace WHERE nspname = 'verger'"),
        0
    );
    database.client().batch_execute("DROP ROLE poor").unwrap();
}

#[test]
fn tables_of_a_newer_verger_are_left_alone() {
    let Some(database) = database() else { return };
    drop(effects(&database).open().unwrap());
    database
        .client()
        .batch_execute("INSERT INTO verger.migrations VALUES (99, 'later', 0)")
        .unwrap();
    let said = refused(&database.url());
    assert!(said.contains("at version 99"), "{said}");
}

#[test]
fn many_nodes_open_a_fresh_database_at_once() {
    let Some(database) = database() else { return };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| Verger::builder(database.url()).worker(effect()).open().unwrap());
        }
    });
    assert_eq!(database.one::<i64>("SELECT count(*) FROM verger.migrations"), 2);
}

#[test]
fn work_goes_on_when_the_server_is_back() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let cluster = Arc::new(cluster);
    let database = cluster.database("");
    let verger = effects(&database).open().unwrap();
    let working = verger.start().unwrap();
    let enqueue = |n: i64| verger.enqueue(NewJob::new("effect", json!({"n": n})));
    let first = enqueue(1).unwrap().id;
    until("it is done", || verger.job(first).unwrap().unwrap().state == JobState::Completed);
    cluster.stop("immediate");
    let error = enqueue(2).unwrap_err();
    let verger::EnqueueError::Store(error) = error else { panic!("{error}") };
    assert!(matches!(error.kind(), StoreErrorKind::Gone | StoreErrorKind::CannotOpen), "{error}");
    cluster.start_again(&[]);
    until("the app's calls work again", || enqueue(3).is_ok());
    until("all are done", || {
        database.one::<i64>("SELECT count(*) FROM verger.jobs WHERE state <> 'completed'") == 0
    });
    assert!(verger.verify_audit().unwrap().rows >= 2);
    working.stop(std::time::Duration::from_secs(5)).unwrap();
}

#[test]
fn a_connection_that_dies_in_an_attempt_costs_that_attempt_only() {
    let Some(database) = database() else { return };
    let victim = crate::scripted::worker("dies", |job, _| {
        job.execute("INSERT INTO effects (n) VALUES (99)", vec![])?;
        if job.job().attempt == 1 {
            // As if an administrator did it.
            job.query_all("SELECT pg_terminate_backend(pg_backend_pid())", vec![])?;
        }
        Ok(verger::verger_worker::Outcome::Done)
    });
    let clock = clock();
    let verger = effects(&database).worker(victim).clock(clock.clone()).open().unwrap();
    let id = verger.enqueue(NewJob::new("dies", json!({}))).unwrap().id;
    let report = verger.tick(verger.now()).unwrap();
    assert!(
        matches!(report.attempts[0].outcome, verger::AttemptOutcome::Retryable(..)),
        "{report:?}"
    );
    assert_eq!(database.one::<i64>("SELECT count(*) FROM effects"), 0);
    clock.advance(std::time::Duration::from_secs(60));
    verger.tick(verger.now()).unwrap();
    assert_eq!(verger.job(id).unwrap().unwrap().state, JobState::Completed);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM effects"), 1);
}

#[test]
fn an_app_may_call_from_async_code() {
    let Some(database) = database() else { return };
    let runtime = tokio_like();
    let verger = effects(&database).open().unwrap();
    runtime(Box::new(move || {
        verger.enqueue(NewJob::new("effect", json!({"n": 1}))).unwrap();
        let working = verger.start().unwrap();
        until("it is done", || {
            verger.jobs(&verger::JobFilter::new().state(JobState::Completed), 1).unwrap().len() == 1
        });
        working.stop(std::time::Duration::from_secs(5)).unwrap();
    }));
}

/// Runs a closure where async code runs.
fn tokio_like() -> impl FnOnce(Box<dyn FnOnce() + Send>) {
    |work| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { work() });
    }
}

#[test]
fn a_node_that_ticks_goes_on_after_the_server_was_away() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let cluster = Arc::new(cluster);
    let database = cluster.database("");
    let verger = effects(&database).open().unwrap();
    let enqueue = || verger.enqueue(NewJob::new("effect", json!({"n": 1})));
    enqueue().unwrap();
    assert_eq!(verger.tick(verger.now()).unwrap().attempts.len(), 1);
    cluster.stop("immediate");
    assert!(verger.tick(verger.now()).is_err());
    cluster.start_again(&[]);
    until("the app's calls work again", || enqueue().is_ok());
    until("it is performed", || {
        verger.tick(verger.now()).is_ok_and(|report| !report.attempts.is_empty())
    });
    // Under the number of a session that lives: nobody takes its jobs back.
    let other = effects(&database).open().unwrap();
    assert_eq!(other.tick(other.now()).unwrap().rescued, 0);
    let dead = "SELECT count(*) FROM verger.jobs WHERE state <> 'completed'";
    assert_eq!(database.one::<i64>(dead), 0);
}

#[test]
fn a_server_that_is_away_holds_up_no_stop() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let cluster = Arc::new(cluster);
    let database = cluster.database("");
    let verger = effects(&database).open().unwrap();
    let working = verger.start().unwrap();
    assert!(verger.start().is_err(), "it runs already");
    std::thread::sleep(std::time::Duration::from_millis(100));
    cluster.stop("immediate");
    let begun = std::time::Instant::now();
    working.stop(std::time::Duration::from_secs(5)).unwrap();
    assert!(begun.elapsed() < std::time::Duration::from_secs(3), "{:?}", begun.elapsed());
    let again = verger.start().unwrap();
    drop(again);
}

#[test]
fn one_bad_row_stops_no_other() {
    let Some(database) = database() else { return };
    let clock = clock();
    let minutely = |name: &str| {
        verger::Schedule::cron(name, "* * * * *").unwrap().worker("effect").args(json!({"n": 1}))
    };
    let verger = effects(&database)
        .schedule(minutely("bad"))
        .schedule(minutely("good"))
        .clock(clock.clone())
        .open()
        .unwrap();
    let odd = verger.enqueue(NewJob::new("effect", json!({"n": 7, "odd": "\0"}))).unwrap().id;
    let mut client = database.client();
    client
        .batch_execute(
            "UPDATE verger.schedules SET missed = 'nonsense', priority = 300, overlap = 'allow' WHERE name = 'bad'",
        )
        .unwrap();
    clock.advance(std::time::Duration::from_secs(60));
    let report = verger.tick(verger.now()).unwrap();
    assert_eq!(report.fired.len(), 2);
    assert_eq!(report.attempts.len(), 2, "{report:?}");
    assert_eq!(verger.job(odd).unwrap().unwrap().state, JobState::Completed);
    let found = verger.jobs(&verger::JobFilter::new().arg("n", 1), 10).unwrap();
    assert_eq!(found.len(), 1, "a row that the server cannot read hides no other");
    // A line of the log for each kind of text that no column takes, and the books go on.
    for sql in [
        "UPDATE verger.jobs SET errors = '{}'",
        "UPDATE verger.jobs SET state = 'nonsense'",
        "UPDATE verger.jobs SET args = '[]'",
        "UPDATE verger.jobs SET token = -1",
    ] {
        assert!(client.batch_execute(sql).is_err(), "{sql}");
    }
}
