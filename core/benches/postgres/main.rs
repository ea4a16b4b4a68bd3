//! The queue on PostgreSQL: how many jobs are enqueued and drained in a second, and how long one
//! waits, beside the least SQL that does the same on the same tables.
//!
//! The server is one of the bench's own, in a temporary folder, with `fsync` on. The limit is the
//! `postgres` crate: it claims a job and completes it, in one transaction, with prepared statements.
//! It has no attempts, events, results or workers. The program skips where there is no PostgreSQL.
//!
//! Where `GRAPHILE_WORKER` names a folder in which `npm install graphile-worker` was run, the part
//! `drain` runs that too, on the same server.

#[path = "../common/mod.rs"]
mod common;
mod server;
mod sweep;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::{Contender, Result, interleave, median, percentile, ratio, seconds, table, thousands};
use postgres::{Client, NoTls};
use serde_json::json;
use server::Server;
use verger::postgres::Verger;
use verger::verger_worker::prelude::*;
use verger::{JobId, NewJob, Queue};

const ROUNDS: usize = 3;

/// Jobs of one round that are performed.
const DRAINED: usize = 1_000;

/// Jobs of one round where each has a commit of its own, and where a hundred share one.
const SINGLE: usize = 1_000;
const BATCHED: usize = 10_000;
const BATCH: usize = 100;

const BACKLOG: usize = 1_000_000;
const FEW: usize = 20_000;

const EXECUTORS: [usize; 3] = [1, 4, 16];

type Part = (&'static str, fn(&Server) -> Result<()>);

fn main() -> Result<()> {
    let Some(server) = Server::start()? else { return Ok(()) };
    let parts: [Part; 5] = [
        ("enqueue", enqueue),
        ("drain", drain),
        ("wait", wait),
        ("sweep", sweep::sweep),
        ("backlog", backlog),
    ];
    // `cargo bench --bench postgres -- drain`: those that are named, or all.
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, part) in parts {
        if named.is_empty() || named.iter().any(|word| word == name) {
            part(&server)?;
        }
    }
    Ok(())
}

/// Does nothing, and says when it began.
#[derive(Clone, Default)]
struct Noop {
    performed: Arc<AtomicUsize>,
    began: Arc<Mutex<HashMap<u64, Instant>>>,
    notes_when: bool,
}

impl Worker for Noop {
    fn manifest(&self) -> Manifest {
        Manifest::new("noop", "1.0.0")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> std::result::Result<Outcome, WorkerError> {
        if let (true, Some(id)) = (self.notes_when, job.job().id) {
            let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
            began.insert(id, Instant::now());
        }
        self.performed.fetch_add(1, Ordering::Relaxed);
        Ok(Outcome::Done)
    }
}

fn open(url: &str, worker: Noop, executors: usize) -> Result<Verger> {
    let queue = Queue::new("default").concurrency(executors);
    Ok(Verger::builder(url).worker(worker).queue(queue).threads(executors).open()?)
}

fn job() -> NewJob {
    NewJob::new("noop", json!({"customer": 4711, "month": "2026-01"}))
}

/// Prints the medians of the contenders, each beside the one before it where `beside` says so.
fn report(title: &str, contenders: &mut [Contender<'_>], beside: &[Option<usize>]) -> Result<()> {
    let figures = interleave(ROUNDS, contenders)?;
    let rows = contenders.iter().zip(&figures).zip(beside).map(|(((name, _), own), beside)| {
        let beside = beside
            .map_or(String::new(), |to| format!("{:.2} of {}", ratio(own, &figures[to]), to + 1));
        vec![name.to_string(), thousands(median(own)), beside]
    });
    table(title, &["", "jobs/s", "× row"], &rows.collect::<Vec<_>>());
    Ok(())
}

fn enqueue(server: &Server) -> Result<()> {
    let url = server.database()?;
    let verger = open(&url, Noop::default(), 1)?;
    let mut client = Client::connect(&url, NoTls)?;
    let plain = std::cell::RefCell::new(&mut client);
    let mut contenders: Vec<Contender<'_>> = vec![
        ("plain: one each", Box::new(|| plain_enqueue(&mut plain.borrow_mut(), SINGLE, 1))),
        (
            "Verger: enqueue",
            Box::new(|| {
                let took = seconds(|| {
                    (0..SINGLE).try_for_each(|_| verger.enqueue(job()).map(drop))?;
                    Ok(())
                })?;
                Ok(SINGLE as f64 / took)
            }),
        ),
        (
            "plain: a hundred in a transaction",
            Box::new(|| plain_enqueue(&mut plain.borrow_mut(), BATCHED, BATCH)),
        ),
        (
            "Verger: enqueue_all, a hundred",
            Box::new(|| {
                let took = seconds(|| {
                    (0..BATCHED / BATCH).try_for_each(|_| {
                        verger.enqueue_all((0..BATCH).map(|_| job())).map(drop)
                    })?;
                    Ok(())
                })?;
                Ok(BATCHED as f64 / took)
            }),
        ),
    ];
    report("Enqueue", &mut contenders, &[None, Some(0), None, Some(2)])
}

const PLAIN_INSERT: &str = "INSERT INTO verger.jobs (worker, queue, priority, state, args, due_at, max_attempts, created_at) \
     VALUES ('noop', 'default', 5, 'available', $1::text::json, $2, 20, $2)";

const ARGS: &str = r#"{"customer":4711,"month":"2026-01"}"#;

fn plain_enqueue(client: &mut Client, jobs: usize, batch: usize) -> Result<f64> {
    let insert = client.prepare(PLAIN_INSERT)?;
    let took = seconds(|| {
        for _ in 0..jobs / batch {
            if batch == 1 {
                client.execute(&insert, &[&ARGS, &1_i64])?;
                continue;
            }
            let mut transaction = client.transaction()?;
            for _ in 0..batch {
                transaction.execute(&insert, &[&ARGS, &1_i64])?;
            }
            transaction.commit()?;
        }
        Ok(())
    })?;
    Ok(jobs as f64 / took)
}

fn drain(server: &Server) -> Result<()> {
    let (plain_url, url) = (server.database()?, server.database()?);
    // It makes the tables.
    drop(open(&plain_url, Noop::default(), 1)?);
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (place, executors) in EXECUTORS.into_iter().enumerate() {
        let (plain_url, url) = (&plain_url, &url);
        let names = [
            ["plain client, 1", "plain clients, 4", "plain clients, 16"],
            ["Verger, 1 thread", "Verger, 4 threads", "Verger, 16 threads"],
        ];
        contenders.push((names[0][place], Box::new(move || plain_drain(plain_url, executors))));
        contenders.push((names[1][place], Box::new(move || verger_drain(url, executors, DRAINED))));
    }
    let beside = [None, Some(0), None, Some(2), None, Some(4)];
    report("Drain no-op jobs", &mut contenders, &beside)?;
    server::graphile(server, DRAINED)
}

const PLAIN_CLAIM: &str = "UPDATE verger.jobs SET state = 'executing', attempt = attempt + 1, token = token + 1, lease_until = $1, attempted_at = $1 \
     WHERE id = (SELECT id FROM verger.jobs WHERE state = 'available' AND queue = 'default' AND worker = 'noop' AND due_at <= $1 \
     ORDER BY priority, due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, args::text";

const PLAIN_COMPLETE: &str = "UPDATE verger.jobs SET state = 'completed', finished_at = $2, lease_until = NULL WHERE id = $1";

/// Claims a job and completes it, in one transaction, by so many clients.
fn plain_drain(url: &str, clients: usize) -> Result<f64> {
    clear(&mut Client::connect(url, NoTls)?, "true")?;
    plain_enqueue(&mut Client::connect(url, NoTls)?, DRAINED, BATCH)?;
    let work = || -> Result<()> {
        let mut client = Client::connect(url, NoTls)?;
        let (claim, complete) = (client.prepare(PLAIN_CLAIM)?, client.prepare(PLAIN_COMPLETE)?);
        loop {
            let mut transaction = client.transaction()?;
            let Some(row) = transaction.query_opt(&claim, &[&2_i64])? else { return Ok(()) };
            let id: i64 = row.get(0);
            transaction.execute(&complete, &[&id, &3_i64])?;
            transaction.commit()?;
        }
    };
    let took = seconds(|| {
        std::thread::scope(|scope| {
            let working: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
            working.into_iter().try_for_each(|client| match client.join() {
                Ok(done) => done,
                Err(_) => anyhow::bail!("a client panicked"),
            })
        })
    })?;
    Ok(DRAINED as f64 / took)
}

/// Takes out the jobs of a round, with all that they leave behind in the table.
fn clear(client: &mut Client, which: &str) -> Result<()> {
    client.batch_execute(&format!("DELETE FROM verger.jobs WHERE {which}"))?;
    Ok(client.batch_execute("VACUUM verger.jobs")?)
}

/// Enqueues so many jobs, and has the loop perform them.
fn verger_drain(url: &str, executors: usize, jobs: usize) -> Result<f64> {
    let worker = Noop::default();
    let performed = Arc::clone(&worker.performed);
    let verger = open(url, worker, executors)?;
    for _ in 0..jobs / BATCH {
        verger.enqueue_all((0..BATCH).map(|_| job().priority(0)))?;
    }
    let begun = Instant::now();
    let working = verger.start()?;
    while performed.load(Ordering::Relaxed) < jobs {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(120), "the queue ran dry");
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = begun.elapsed().as_secs_f64();
    working.stop(Duration::from_secs(5))?;
    let mut client = Client::connect(url, NoTls)?;
    let left = "SELECT count(*) FROM verger.jobs WHERE priority = 0 AND state <> 'completed'";
    let left: i64 = client.query_one(left, &[])?.get(0);
    anyhow::ensure!(left == 0, "{left} jobs are left");
    clear(&mut client, "priority = 0")?;
    Ok(jobs as f64 / took)
}

/// From when an enqueue returned to when the worker began: on the same node, and on another.
fn wait(server: &Server) -> Result<()> {
    const JOBS: usize = 1_000;
    let url = server.database()?;
    let worker = Noop { notes_when: true, ..Noop::default() };
    let began = Arc::clone(&worker.began);
    let (here, elsewhere) = (open(&url, worker, 4)?, open(&url, Noop::default(), 1)?);
    let working = here.start()?;
    std::thread::sleep(Duration::from_millis(500));
    let mut rows = Vec::new();
    for (name, node) in [("the same node", &here), ("another node", &elsewhere)] {
        let mut enqueued: Vec<(JobId, Instant)> = Vec::with_capacity(JOBS);
        for _ in 0..JOBS {
            enqueued.push((node.enqueue(job())?.id, Instant::now()));
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(1_500));
        let began = began.lock().unwrap_or_else(PoisonError::into_inner);
        let waits: Vec<f64> = enqueued
            .iter()
            .filter_map(|(id, at)| Some((began.get(&id.number().unsigned_abs())?, at)))
            .map(|(began, at)| began.saturating_duration_since(*at).as_secs_f64() * 1_000.0)
            .collect();
        anyhow::ensure!(waits.len() == JOBS, "{} of {JOBS} jobs began", waits.len());
        let shares = [0.5, 0.9, 0.99, 1.0].map(|share| format!("{:.2}", percentile(&waits, share)));
        rows.push(std::iter::once(name.to_string()).chain(shares).collect());
    }
    working.stop(Duration::from_secs(5))?;
    table("Enqueue to start, ms", &["enqueued on", "p50", "p90", "p99", "most"], &rows);
    Ok(())
}

/// The same jobs with few waiting and with a million.
fn backlog(server: &Server) -> Result<()> {
    let (few, many) = (server.database()?, server.database()?);
    drop(open(&many, Noop::default(), 1)?);
    Client::connect(&many, NoTls)?.batch_execute(&format!(
        "INSERT INTO verger.jobs (worker, queue, priority, state, args, due_at, max_attempts, created_at) \
         SELECT 'noop', 'default', 5, 'available', '{ARGS}', 1, 20, 1 FROM generate_series(1, {BACKLOG}); ANALYZE verger.jobs"
    ))?;
    let drain = |url: &str| verger_drain_of_backlog(url, FEW);
    let mut contenders: Vec<Contender<'_>> = vec![
        ("20,000 waiting", Box::new(|| drain(&few))),
        ("1,000,000 waiting", Box::new(|| drain(&many))),
    ];
    report("Drain 20,000 no-op jobs, 4 threads", &mut contenders, &[None, Some(0)])
}

fn verger_drain_of_backlog(url: &str, jobs: usize) -> Result<f64> {
    let worker = Noop::default();
    let performed = Arc::clone(&worker.performed);
    let verger = open(url, worker, 4)?;
    // As many come as go, so that there are as many the next time.
    for _ in 0..jobs / BATCH {
        verger.enqueue_all((0..BATCH).map(|_| job()))?;
    }
    let begun = Instant::now();
    let working = verger.start()?;
    while performed.load(Ordering::Relaxed) < jobs {
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(120), "the queue ran dry");
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = begun.elapsed().as_secs_f64();
    working.stop(Duration::from_secs(5))?;
    clear(&mut Client::connect(url, NoTls)?, "state = 'completed'")?;
    Ok(jobs as f64 / took)
}
