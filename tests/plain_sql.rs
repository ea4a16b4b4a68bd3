//! A job can be enqueued by plain SQL, from any language that has a client for SQLite: by one
//! INSERT of documented columns, in a transaction of the app's own. The table's defaults fill in
//! the rest, and its named checks refuse what is wrong.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rusqlite::{Connection, params};
use serde_json::json;
use verger::verger_worker::{Args, Context, Scope, WorkerError};
use verger::{JobFilter, JobState, Manifest, Outcome, Verger, Worker, rusqlite};

const JOBS: i64 = 20;

struct Count;

impl Worker for Count {
    fn manifest(&self) -> Manifest {
        Manifest::new("count", "1")
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(Outcome::Done)
    }
}

fn open(folder: &Path) -> (Verger, Connection) {
    let verger =
        Verger::builder(folder.join("app.db")).without_built_ins().worker(Count).open().unwrap();
    let app = Connection::open(folder.join("app.db")).unwrap();
    app.busy_timeout(Duration::from_secs(10)).unwrap();
    app.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY, client TEXT)").unwrap();
    (verger, app)
}

/// Has a script enqueue inside a transaction of its own, while the loop runs.
fn enqueues_from(program: &str, script: &str, modules: Option<&Path>) {
    let folder = tempfile::tempdir().unwrap();
    let (verger, app) = open(folder.path());
    let ticking = verger.start().unwrap();
    let run = |end: &str| {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/neighbours/plain-sql");
        let mut command = Command::new(program);
        if let Some(modules) = modules {
            command.env("NODE_PATH", modules);
        }
        let done = command
            .arg(scripts.join(script))
            .arg(folder.path().join("app.db"))
            .args([&JOBS.to_string(), end])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().parse::<i64>().unwrap()
    };
    run("rollback");
    let committed = run("commit");
    let (mut finished, mut first) = (0, 0);
    for _ in 0..3_000 {
        (finished, first) = app
            .query_row(
                "SELECT count(*), coalesce(min(attempted_at), 0) FROM verger_jobs WHERE state = 'completed'",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        if finished == JOBS {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    ticking.stop(Duration::from_secs(10)).unwrap();
    assert_eq!(finished, JOBS, "those of the transaction that committed, and no others");
    let orders: i64 = app.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap();
    assert_eq!(orders, JOBS);
    // The loop sleeps up to 30 s when nothing is due.
    let noticed = first - committed;
    println!("{program}: noticed {noticed} ms after the commit");
    assert!(noticed < 10_000, "noticed after {noticed} ms");
    let job = verger.jobs(&JobFilter::new(), 1).unwrap().remove(0);
    assert_eq!((job.queue.as_str(), job.priority, job.max_attempts), ("default", 5, 20));
}

#[test]
fn python_enqueues_with_its_own_sqlite() {
    let found = ["python3", "python"].into_iter().find(|python| {
        let sqlite = "import sqlite3; assert sqlite3.sqlite_version_info >= (3, 38)";
        Command::new(python).args(["-c", sqlite]).output().is_ok_and(|done| done.status.success())
    });
    match found {
        Some(python) => enqueues_from(python, "enqueue.py", None),
        None => eprintln!("SKIPPED: there is no Python whose sqlite3 is 3.38 or newer"),
    }
}

#[test]
#[ignore = "needs better-sqlite3 in the folder VERGER_NODE_MODULES: started by tests/neighbours/run"]
fn node_enqueues_with_better_sqlite3() {
    let modules = std::env::var_os("VERGER_NODE_MODULES").expect("the folder node_modules");
    enqueues_from("node", "enqueue.cjs", Some(Path::new(&modules)));
}

#[test]
fn of_the_columns_only_the_worker_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let (verger, app) = open(folder.path());
    app.execute("INSERT INTO verger_jobs (worker) VALUES ('count')", []).unwrap();
    let later = verger.now().as_millis() + 60_000;
    app.execute(
        "INSERT INTO verger_jobs (worker, args, queue, priority, due_at, max_attempts) VALUES (?, ?, ?, ?, ?, ?)",
        params!["count", r#"{"a": [1]}"#, "mail", 0, later, 3],
    )
    .unwrap();
    let report = verger.tick(verger.now()).unwrap();
    assert_eq!(report.attempts.len(), 1, "the other is not due: {report:?}");
    let next = report.next_wake_at.unwrap();
    assert!(next.as_millis() <= later, "{next:?}");
    let report = verger.tick(verger::Timestamp::from_millis(later)).unwrap();
    assert_eq!(report.attempts.len(), 1, "{report:?}");
    let job = verger.jobs(&JobFilter::new().queue("mail"), 1).unwrap().remove(0);
    assert_eq!((job.priority, job.max_attempts, job.attempt), (0, 3, 1));
    assert_eq!((job.state, job.args), (JobState::Completed, json!({"a": [1]})));
}

#[test]
fn a_key_of_the_apps_own_makes_a_job_unique_while_it_is_unfinished() {
    let folder = tempfile::tempdir().unwrap();
    let (verger, app) = open(folder.path());
    let mut insert = app
        .prepare(
            "INSERT INTO verger_jobs (worker, unique_key) VALUES ('count', ?) ON CONFLICT DO NOTHING",
        )
        .unwrap();
    assert_eq!(insert.execute([b"order 7"]).unwrap(), 1);
    assert_eq!(insert.execute([b"order 7"]).unwrap(), 0);
    assert_eq!(insert.execute([b"order 8"]).unwrap(), 1);
    assert_eq!(verger.tick(verger.now()).unwrap().attempts.len(), 2);
    assert_eq!(insert.execute([b"order 7"]).unwrap(), 1, "that one is finished");
}

#[test]
fn a_row_that_is_no_job_is_refused_by_the_name_of_what_it_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let (verger, app) = open(folder.path());
    let many = "q".repeat(129);
    for (columns, values, names) in [
        ("args", "'{}'", "verger_jobs.worker"),
        ("worker", "NULL", "verger_jobs.worker"),
        ("worker", "''", "worker_must_be_named"),
        ("worker, args", "'count', 'order 7'", "args_must_be_a_json_object"),
        ("worker, args", "'count', ''", "args_must_be_a_json_object"),
        ("worker, args", "'count', '[7]'", "args_must_be_a_json_object"),
        ("worker, args", "'count', 'null'", "args_must_be_a_json_object"),
        ("worker, args", "'count', '{\"a\": 1'", "args_must_be_a_json_object"),
        ("worker, args", "'count', x'7b7d'", "verger_jobs.args"),
        ("worker, args", "'count', NULL", "verger_jobs.args"),
        ("worker, queue", "'count', ''", "queue_must_have_1_to_128_characters"),
        ("worker, queue", &format!("'count', '{many}'"), "queue_must_have_1_to_128_characters"),
        ("worker, priority", "'count', 10", "priority_must_be_0_to_9"),
        ("worker, priority", "'count', -1", "priority_must_be_0_to_9"),
        ("worker, priority", "'count', 'high'", "verger_jobs.priority"),
        ("worker, state", "'count', 'waiting'", "state_must_be_one_of_those_documented"),
        ("worker, state", "'count', 'executing'", "an_executing_job_must_have_a_lease"),
        ("worker, max_attempts", "'count', 0", "max_attempts_must_be_at_least_1"),
        ("worker, due_at", "'count', '2026-11-30'", "verger_jobs.due_at"),
        ("worker, due_at", "'count', 253402300800000", "due_at_must_be_before_the_year_10000"),
        (
            "worker, tenant_aware, args",
            "'count', 1, '{\"actor_id\": null}'",
            "args_must_have_organization_id_and_actor_id",
        ),
    ] {
        let refused = app
            .execute(&format!("INSERT INTO verger_jobs ({columns}) VALUES ({values})"), [])
            .unwrap_err()
            .to_string();
        assert!(refused.contains(names), "({columns}) ({values}): {refused}");
    }
    assert!(verger.jobs(&JobFilter::new(), 1).unwrap().is_empty());
}
