//! The queue: jobs enqueued and jobs drained, a second, beside the least SQL that does the same and
//! is still correct.
//!
//! The limit is plain rusqlite on a minimal jobs table: WAL, `synchronous=NORMAL`, prepared
//! statements. It has no leases, fencing tokens, attempts, schedules, results or retention, and
//! performs nothing. Its index is the usual one, over state and due time.

mod common;

use std::path::Path;

use common::{
    Contender, Goal, Result, interleave, median, plain, ratio, seconds, table, thousands,
};
use serde_json::json;
use verger::rusqlite::Connection;
use verger::{CompileCache, NewJob, Verger};

const ROUNDS: usize = 9;

/// Jobs of one round where each has a commit of its own.
const SINGLE: usize = 4_000;

/// Jobs of one round where a hundred share one.
const BATCHED: usize = 40_000;

const BATCH: usize = 100;

fn main() -> Result<()> {
    enqueue()?;
    drain()
}

fn enqueue() -> Result<()> {
    let mut single: Vec<Contender<'_>> = vec![
        ("limit: plain SQLite", Box::new(|| in_folder(|folder| plain_enqueue(folder, SINGLE, 1)))),
        ("Verger: enqueue", Box::new(|| in_folder(|folder| verger_enqueue(folder, SINGLE)))),
    ];
    report("Enqueue, one transaction each", &mut single, &[Goal::None, Goal::AtLeast(0.8)])?;
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
    report("Enqueue, 100 per transaction", &mut batched, &[Goal::None, Goal::AtLeast(0.5)])
}

fn drain() -> Result<()> {
    let component = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/noop.wasm"))?;
    let cache = tempfile::tempdir()?;
    let by_component = |folder: &Path| {
        let builder = Verger::builder(folder.join("app.db"))
            .without_built_ins()
            .component("noop.wasm", component.clone());
        verger_drain(
            builder.compile_cache(CompileCache::Folder(cache.path().to_path_buf())).open()?,
        )
    };
    let natively = |folder: &Path| {
        verger_drain(
            Verger::builder(folder.join("app.db")).without_built_ins().worker(noop::Noop).open()?,
        )
    };
    let mut contenders: Vec<Contender<'_>> = vec![
        (
            "limit: claim 100, done one transaction each",
            Box::new(|| in_folder(|folder| plain_drain(folder, BATCH, false))),
        ),
        (
            "plain: claim 100, done 100 in one transaction",
            Box::new(|| in_folder(|folder| plain_drain(folder, BATCH, true))),
        ),
        (
            "plain: claim 1, done 1, a transaction each",
            Box::new(|| in_folder(|folder| plain_drain(folder, 1, false))),
        ),
        (
            "plain: as the limit, done jobs in no index",
            Box::new(|| in_folder(plain_drain_unindexed)),
        ),
        ("Verger: native worker", Box::new(|| in_folder(natively))),
        ("Verger: component", Box::new(|| in_folder(by_component))),
    ];
    let goals =
        [Goal::None, Goal::None, Goal::None, Goal::None, Goal::AtLeast(0.8), Goal::AtLeast(0.45)];
    report(
        "Drain no-op jobs, each with its own commit unless it says otherwise",
        &mut contenders,
        &goals,
    )
}

/// Runs the contenders and prints their medians, each beside the first.
fn report(title: &str, contenders: &mut [Contender<'_>], goals: &[Goal]) -> Result<()> {
    let figures = interleave(ROUNDS, contenders)?;
    let rows = contenders.iter().zip(&figures).zip(goals).map(|(((name, _), own), goal)| {
        let ratio = ratio(own, &figures[0]);
        let [goal, reached] = goal.show(ratio);
        vec![name.to_string(), thousands(median(own)), format!("{ratio:.2}"), goal, reached]
    });
    table(title, &["", "jobs/s", "× limit", "goal", "reached"], &rows.collect::<Vec<_>>());
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
    plain_insert(&connection, SINGLE, BATCH)?;
    plain_perform(&connection, batch, together)
}

/// The least that is possible at all: marking a job done moves it in no index.
fn plain_drain_unindexed(folder: &Path) -> Result<f64> {
    let connection = plain_queue(folder)?;
    connection.execute_batch(
        "DROP INDEX jobs_due; CREATE INDEX jobs_due ON jobs (due_at) WHERE state = 0",
    )?;
    plain_insert(&connection, SINGLE, BATCH)?;
    plain_perform(&connection, BATCH, false)
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
        for _ in 0..SINGLE / batch {
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
    Ok(SINGLE as f64 / took)
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

fn verger_drain(verger: Verger) -> Result<f64> {
    for _ in 0..SINGLE / BATCH {
        verger.enqueue_all((0..BATCH).map(|_| job()))?;
    }
    let mut performed = 0;
    let took = seconds(|| {
        while performed < SINGLE {
            let report = verger.tick(verger.now())?;
            anyhow::ensure!(
                !report.attempts.is_empty(),
                "the queue ran dry after {performed} jobs"
            );
            performed += report.attempts.len();
        }
        Ok(())
    })?;
    Ok(SINGLE as f64 / took)
}
