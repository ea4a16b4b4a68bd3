//! Several processes on one file, all of them enqueueing and performing, one of them sweeping. The
//! books are right, no job fails for a lock, and no process waits long for its turn to write.
//!
//! The processes are this test binary, started again. With `VERGER_LONG=1` they run for a minute
//! instead of some seconds.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::chronicle::{Dice, Groups, builder, check, enqueue_some, found, settle};
use common::processes::Process;
use serde_json::json;
use verger::rusqlite::Connection;
use verger::verger_worker::prelude::*;
use verger::{NewJob, Verger};

const FILE: &str = "VERGER_TEST_FILE";
const SEED: &str = "VERGER_TEST_SEED";
const TIME: &str = "VERGER_TEST_MILLIS";

/// The longest a process may wait for its turn to write.
const TURN_WITHIN: Duration = Duration::from_secs(2);

/// Changes its rows batch after batch, each holding the write lock for a while, and lets others in
/// between.
struct Sweep;

impl Worker for Sweep {
    fn manifest(&self) -> Manifest {
        Manifest::new("sweep", "1.0.0")
            .arg("millis", ArgSpec::default_value(1_000))
            .table(TableAsk::named("swept").read().update())
            .tenant_aware()
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let (begun, time) = (Instant::now(), Duration::from_millis(args.get("millis")?));
        let mut batches = 0;
        while begun.elapsed() < time {
            let batch = Instant::now();
            while batch.elapsed() < Duration::from_millis(60) {
                job.execute("UPDATE swept SET n = n + 1", params![])?;
            }
            batches += 1;
            job.checkpoint()?;
        }
        Ok(Outcome::DoneWith(json!(batches)))
    }
}

fn open(file: &Path, groups: Groups) -> Verger {
    groups.set(builder(file)).worker(Sweep).open().unwrap()
}

fn sweep(time: Duration) -> NewJob {
    NewJob::new(
        "sweep",
        json!({"organization_id": null, "actor_id": null, "millis": time.as_millis() as u64}),
    )
    .queue("sweeps")
    .priority(9)
}

/// How long its own calls made a process wait.
#[derive(Default)]
struct Waits {
    calls: u32,
    longest: Duration,
}

impl Waits {
    fn over<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = call();
        self.longest = self.longest.max(begun.elapsed());
        self.calls += 1;
        done
    }
}

/// Enqueues for so long while a thread ticks; no call and no tick may fail.
fn live(verger: &Verger, seed: u64, time: Duration, told: &mut impl FnMut(String)) -> Waits {
    let (begun, over) = (Instant::now(), AtomicBool::new(false));
    let mut app = verger.connect().unwrap();
    let (mut dice, mut number, mut waits) = (Dice::new(seed), 0, Waits::default());
    std::thread::scope(|scope| {
        let ticking = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let report = verger.tick(verger.now()).unwrap();
                if report.attempts.is_empty() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        while begun.elapsed() < time {
            assert!(!ticking.is_finished(), "a tick failed");
            waits
                .over(|| enqueue_some(verger, &mut app, &mut dice, seed, &mut number))
                .into_iter()
                .for_each(&mut *told);
            let waiting: i64 = app
                .query_row(
                    "SELECT count(*) FROM verger_jobs WHERE finished_at IS NULL",
                    [],
                    |row| row.get(0),
                )
                .unwrap();
            std::thread::sleep(Duration::from_millis(if waiting > 100 {
                20
            } else {
                dice.below(4)
            }));
        }
        over.store(true, Ordering::Relaxed);
    });
    waits
}

/// Not a test of its own: what the other processes do.
#[test]
#[ignore = "a process of its own, which the tests here start"]
fn live_for_a_while() {
    let file = std::env::var_os(FILE).unwrap();
    let number = |name| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let verger = open(Path::new(&file), Groups::told());
    let mut out = std::io::stdout();
    writeln!(out, "\nready").unwrap();
    let waits = live(&verger, number(SEED), Duration::from_millis(number(TIME)), &mut |tag| {
        writeln!(out, "told {tag}").unwrap()
    });
    writeln!(out, "waited {} {}", waits.calls, waits.longest.as_millis()).unwrap();
}

fn meet(processes: u64, groups: Groups) {
    let time = Duration::from_secs(if std::env::var_os("VERGER_LONG").is_some() { 60 } else { 4 });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    found(&file);
    let app = Connection::open(&file).unwrap();
    app.busy_timeout(Duration::from_secs(10)).unwrap();
    app.execute_batch("CREATE TABLE swept (n INTEGER); INSERT INTO swept SELECT value FROM json_each('[1,2,3,4,5,6,7,8,9]')").unwrap();
    let verger = open(&file, groups);
    // One after the other, each well within the time a worker is granted.
    let sweeps = verger
        .enqueue_all((0..time.as_secs() / 4).map(|_| sweep(Duration::from_millis(3_600))))
        .unwrap();
    let variables = |seed: u64| {
        [
            (FILE, file.display().to_string()),
            (SEED, seed.to_string()),
            (TIME, time.as_millis().to_string()),
            (Groups::VARIABLE, format!("{groups:?}")),
        ]
    };
    let others: Vec<_> =
        (1..processes).map(|seed| Process::start("live_for_a_while", &variables(seed))).collect();
    let mut told = BTreeSet::new();
    let mut waits = vec![live(&verger, 0, time, &mut |tag| told.extend([tag]))];
    for process in others {
        let (status, lines) = process.end(time + Duration::from_secs(30));
        told.extend(lines.iter().filter_map(|line| line.strip_prefix("told ")).map(str::to_string));
        assert!(status.success(), "{:?}", lines.last());
        let (calls, longest) = lines
            .iter()
            .find_map(|line| line.strip_prefix("waited "))
            .unwrap()
            .split_once(' ')
            .unwrap();
        waits.push(Waits {
            calls: calls.parse().unwrap(),
            longest: Duration::from_millis(longest.parse().unwrap()),
        });
    }
    let performed: i64 = app
        .query_row("SELECT count(*) FROM verger_jobs WHERE state = 'completed'", [], |row| {
            row.get(0)
        })
        .unwrap();
    check_all(&verger, &app, &told);
    let longest = waits.iter().map(|waits| waits.longest).max().unwrap();
    let waits: Vec<_> = waits
        .iter()
        .map(|waits| format!("{} calls, longest {:.0?}", waits.calls, waits.longest))
        .collect();
    println!(
        "{processes} processes, groups {groups:?}, for {time:?}: {performed} jobs; {waits:?}; sweeps: {:?}",
        sweeps
            .iter()
            .map(|sweep| verger.job(sweep.id).unwrap().unwrap().result)
            .collect::<Vec<_>>()
    );
    assert!(longest < TURN_WITHIN, "a process waited {longest:?} for its turn to write");
}

/// The books, and that nothing failed for a lock.
fn check_all(verger: &Verger, app: &Connection, told: &BTreeSet<String>) {
    settle(verger, app, told);
    check(app, told);
    let failed: i64 = app
        .query_row(
            "SELECT count(*) FROM verger_jobs, json_each(errors) e WHERE e.value ->> '$.code' NOT IN ('failed', 'trap', 'cancelled')",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(failed, 0);
}

#[test]
fn two_processes_on_one_file_keep_the_books_and_wait_little() {
    meet(2, Groups::On);
}

#[test]
fn four_processes_on_one_file_keep_the_books_and_wait_little() {
    meet(4, Groups::On);
}

#[test]
fn two_processes_whose_jobs_all_share_transactions_keep_the_books_and_wait_little() {
    meet(2, Groups::Always);
}

#[test]
fn two_processes_whose_jobs_have_a_commit_each_keep_the_books_and_wait_little() {
    meet(2, Groups::Off);
}

#[test]
fn an_app_that_waits_as_sqlite_does_gets_its_turn_in_the_middle_of_a_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    found(&file);
    let app = Connection::open(&file).unwrap();
    app.busy_timeout(Duration::from_secs(10)).unwrap();
    app.execute_batch("CREATE TABLE swept (n INTEGER); INSERT INTO swept SELECT value FROM json_each('[1,2,3,4,5,6,7,8,9]')").unwrap();
    let verger = open(&file, Groups::On);
    verger.enqueue(sweep(Duration::from_secs(5))).unwrap();
    let mut waits = Waits::default();
    std::thread::scope(|scope| {
        let ticking = scope.spawn(|| verger.tick(verger.now()).unwrap());
        while !ticking.is_finished() {
            waits.over(|| app.execute("INSERT INTO orders (tag) VALUES ('x')", []).unwrap());
            std::thread::sleep(Duration::from_millis(3));
        }
    });
    println!("SQLite's own busy handler: {} calls, longest {:.0?}", waits.calls, waits.longest);
    assert!(
        waits.longest < TURN_WITHIN,
        "the app waited {:?} for its turn to write",
        waits.longest
    );
}
