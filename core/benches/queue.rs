//! The queue: how many jobs are enqueued and drained in a second, compared with the least SQL that
//! does the same and is still correct.
//!
//! The limit is plain rusqlite on a minimal jobs table: WAL, `synchronous=NORMAL`, prepared
//! statements. It has no leases, fencing tokens, attempts, schedules, results or retention, and
//! performs nothing. Its index is the usual one, over state and due time.

#[path = "common/bare.rs"]
mod bare;
mod common;

use std::path::Path;

use bare::{Bare, NOOP};
use common::{
    Contender, Goal, Result, interleave, median, plain, ratio, seconds, table, thousands,
};
use serde_json::json;
use verger::rusqlite::Connection;
use verger::{Builder, CompileCache, NewJob, Verger};

const ROUNDS: usize = 9;

/// Jobs of one round where each has a commit of its own.
const SINGLE: usize = 4_000;

/// Jobs of one round that are performed.
const DRAINED: usize = 20_000;

/// Jobs that wait behind them.
const BACKLOG: usize = 1_000_000;

/// Jobs of one round where a hundred share one.
const BATCHED: usize = 40_000;

const BATCH: usize = 100;

type Part = (&'static str, fn() -> Result<()>);

fn main() -> Result<()> {
    let parts: [Part; 3] = [("enqueue", enqueue), ("drain", drain), ("backlog", backlog)];
    // `cargo bench --bench queue -- drain`: those that are named, or all.
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, part) in parts {
        if named.is_empty() || named.iter().any(|word| word == name) {
            part()?;
        }
    }
    Ok(())
}

fn enqueue() -> Result<()> {
    let mut single: Vec<Contender<'_>> = vec![
        ("limit: plain SQLite", Box::new(|| in_folder(|folder| plain_enqueue(folder, SINGLE, 1)))),
        ("Verger: enqueue", Box::new(|| in_folder(|folder| verger_enqueue(folder, SINGLE)))),
    ];
    report(
        "Enqueue, one transaction each",
        &mut single,
        &[(0, Goal::None), (0, Goal::AtLeast(0.8))],
    )?;
    let mut batched: Vec<Contender<'_>> = vec![
        (
            "limit: plain SQLite",
            Box::new(|| in_folder(|folder| plain_enqueue(folder, BATCHED, BATCH))),
        ),
        (
            "Verger: enqueue_all",
            Box::new(|| in_folder(|folder| verger_enqueue_all(folder, BATCHED))),
        ),
    ];
    report(
        "Enqueue, 100 per transaction",
        &mut batched,
        &[(0, Goal::None), (0, Goal::AtLeast(0.5))],
    )
}

/// What performs the jobs.
fn by_component(cache: &Path) -> impl Fn(Builder) -> Builder {
    let cache = cache.to_path_buf();
    move |builder| {
        builder.component("noop.wasm", NOOP).compile_cache(CompileCache::Folder(cache.clone()))
    }
}

fn natively(builder: Builder) -> Builder {
    builder.worker(noop::Noop)
}

fn drain() -> Result<()> {
    let cache = tempfile::tempdir()?;
    let bare = Bare::new();
    let component = by_component(cache.path());
    let open = |folder: &Path, set: &dyn Fn(Builder) -> Builder, together: bool| {
        let builder = Verger::builder(folder.join("app.db")).without_built_ins();
        verger_drain(&set(builder.group_commit(together)).open()?)
    };
    let mut contenders: Vec<Contender<'_>> = vec![
        (
            "plain: claim 100, done 100 in one transaction",
            Box::new(|| in_folder(|folder| plain_drain(folder, BATCH, true))),
        ),
        (
            "plain: claim 100, done one transaction each",
            Box::new(|| in_folder(|folder| plain_drain(folder, BATCH, false))),
        ),
        (
            "plain: claim 1, done 1, a transaction each",
            Box::new(|| in_folder(|folder| plain_drain(folder, 1, false))),
        ),
        (
            "bare: instantiate, call, drop the component",
            Box::new(|| {
                Ok(DRAINED as f64
                    / seconds(|| {
                        (0..DRAINED).for_each(|_| bare.perform(ARGS));
                        Ok(())
                    })?)
            }),
        ),
        ("Verger: native worker", Box::new(|| in_folder(|folder| open(folder, &natively, true)))),
        ("Verger: component", Box::new(|| in_folder(|folder| open(folder, &component, true)))),
        (
            "Verger: native worker, a commit each",
            Box::new(|| in_folder(|folder| open(folder, &natively, false))),
        ),
        (
            "Verger: component, a commit each",
            Box::new(|| in_folder(|folder| open(folder, &component, false))),
        ),
    ];
    let goals = [
        (0, Goal::None),
        (0, Goal::None),
        (0, Goal::None),
        (0, Goal::None),
        (0, Goal::AtLeast(0.5)),
        (3, Goal::AtLeast(0.8)),
        (1, Goal::AtLeast(0.8)),
        (1, Goal::AtLeast(0.45)),
    ];
    report("Drain no-op jobs", &mut contenders, &goals)
}

/// The same jobs with few waiting and with a million: the claim reads no more for it.
fn backlog() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let open =
        |file: &str| natively(Verger::builder(folder.path().join(file)).without_built_ins()).open();
    let (few, many) = (open("few.db")?, open("many.db")?);
    for _ in 0..BACKLOG / 1_000 {
        many.enqueue_all((0..1_000).map(|_| job()))?;
    }
    let mut contenders: Vec<Contender<'_>> = vec![
        ("20,000 waiting", Box::new(|| verger_drain(&few))),
        ("1,000,000 waiting", Box::new(|| verger_drain(&many))),
    ];
    report("Drain 20,000 no-op jobs", &mut contenders, &[(0, Goal::None), (0, Goal::AtLeast(0.9))])
}

/// Runs the contenders and prints their medians, each beside the one its goal names by its place.
fn report(title: &str, contenders: &mut [Contender<'_>], goals: &[(usize, Goal)]) -> Result<()> {
    let figures = interleave(ROUNDS, contenders)?;
    let rows = contenders.iter().zip(&figures).zip(goals).map(|(((name, _), own), (to, goal))| {
        let ratio = ratio(own, &figures[*to]);
        let [goal, reached] = goal.show(ratio);
        let beside = format!("{ratio:.2} of {}", to + 1);
        vec![name.to_string(), thousands(median(own)), beside, goal, reached]
    });
    table(title, &["", "jobs/s", "× row", "goal", "reached"], &rows.collect::<Vec<_>>());
    Ok(())
}

fn in_folder(work: impl FnOnce(&Path) -> Result<f64>) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    work(folder.path())
}

const ARGS: &str = r#"{"customer":4711,"month":"2026-01"}"#;

fn plain_queue(folder: &Path) -> Result<Connection> {
    let connection = plain(&folder.join("plain.db"))?;
    connection.execute_batch(
        "CREATE TABLE jobs (id INTEGER PRIMARY KEY, worker TEXT NOT NULL, args TEXT NOT NULL, due_at INTEGER NOT NULL, state INTEGER NOT NULL);
         CREATE INDEX jobs_due ON jobs (state, due_at);",
    )?;
    Ok(connection)
}

fn plain_insert(connection: &Connection, jobs: usize, batch: usize) -> Result<()> {
    let mut insert = connection
        .prepare_cached("INSERT INTO jobs (worker, args, due_at, state) VALUES (?1, ?2, ?3, 0)")?;
    for _ in 0..jobs / batch {
        if batch > 1 {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        }
        for _ in 0..batch {
            insert.execute(("noop", ARGS, 1_767_225_600_000_i64))?;
        }
        if batch > 1 {
            connection.prepare_cached("COMMIT")?.execute([])?;
        }
    }
    Ok(())
}

fn plain_enqueue(folder: &Path, jobs: usize, batch: usize) -> Result<f64> {
    let connection = plain_queue(folder)?;
    Ok(jobs as f64 / seconds(|| plain_insert(&connection, jobs, batch))?)
}

fn plain_drain(folder: &Path, batch: usize, together: bool) -> Result<f64> {
    let connection = plain_queue(folder)?;
    plain_insert(&connection, DRAINED, BATCH)?;
    plain_perform(&connection, batch, together)
}

/// Claims so many at once, then marks each done: all together, or each in a transaction of its own.
fn plain_perform(connection: &Connection, batch: usize, together: bool) -> Result<f64> {
    let took = seconds(|| {
        let mut claim = connection.prepare(
            "UPDATE jobs SET state = 1 WHERE id IN (SELECT id FROM jobs WHERE state = 0 AND due_at <= ?1 ORDER BY due_at, id LIMIT ?2) \
             RETURNING id, args",
        )?;
        let mut done =
            connection.prepare("UPDATE jobs SET state = 2 WHERE id = ?1 AND state = 1")?;
        let (mut begin, mut commit) =
            (connection.prepare("BEGIN IMMEDIATE")?, connection.prepare("COMMIT")?);
        for _ in 0..DRAINED / batch {
            let rows = claim.query_map((1_767_225_600_001_i64, i64::try_from(batch)?), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            let claimed: Vec<(i64, String)> = rows.collect::<verger::rusqlite::Result<_>>()?;
            if together {
                begin.execute([])?;
            }
            for (id, _) in &claimed {
                anyhow::ensure!(done.execute([id])? == 1, "a job was lost");
            }
            if together {
                commit.execute([])?;
            }
        }
        Ok(())
    })?;
    Ok(DRAINED as f64 / took)
}

fn job() -> NewJob {
    NewJob::new("noop", json!({"customer": 4711, "month": "2026-01"}))
}

fn verger_enqueue(folder: &Path, jobs: usize) -> Result<f64> {
    let verger =
        Verger::builder(folder.join("app.db")).without_built_ins().worker(noop::Noop).open()?;
    let took = seconds(|| {
        for _ in 0..jobs {
            verger.enqueue(job())?;
        }
        Ok(())
    })?;
    Ok(jobs as f64 / took)
}

fn verger_enqueue_all(folder: &Path, jobs: usize) -> Result<f64> {
    let verger =
        Verger::builder(folder.join("app.db")).without_built_ins().worker(noop::Noop).open()?;
    let took = seconds(|| {
        for _ in 0..jobs / BATCH {
            verger.enqueue_all((0..BATCH).map(|_| job()))?;
        }
        Ok(())
    })?;
    Ok(jobs as f64 / took)
}

fn verger_drain(verger: &Verger) -> Result<f64> {
    for _ in 0..DRAINED / BATCH {
        verger.enqueue_all((0..BATCH).map(|_| job()))?;
    }
    let mut performed = 0;
    let took = seconds(|| {
        while performed < DRAINED {
            let report = verger.tick(verger.now())?;
            anyhow::ensure!(
                !report.attempts.is_empty(),
                "the queue ran dry after {performed} jobs"
            );
            performed += report.attempts.len();
        }
        Ok(())
    })?;
    Ok(DRAINED as f64 / took)
}
