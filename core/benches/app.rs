//! How long the app's own INSERT of one row waits, and how much of its undisturbed speed Verger's
//! work keeps. The app makes one INSERT every 3 ms, on a plain connection with SQLite's own busy
//! handler, while Verger works on the same file.
//!
//! The machine must be quiet, because waiting for a processor counts here too.
//!
//! `cargo bench --bench app` prints the table; with `-- --svg core/guide/app_waits.svg` it draws the
//! picture of the guide's page on speed as well.
#![allow(clippy::print_stdout, reason = "children speak through their output")]

mod common;
#[path = "common/histogram.rs"]
mod histogram;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Goal, Result, percentile, plain, table};
use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::verger_worker::prelude::*;
use verger::{CompileCache, JobFilter, JobState, NewJob, Verger};

/// Between two INSERTs of the app.
const EVERY: Duration = Duration::from_millis(3);

const ROWS: i64 = 300_000;
const JOBS: usize = 80;

/// Something Verger does meanwhile.
struct Work {
    name: &'static str,
    set_up: &'static str,
    jobs: fn() -> Vec<NewJob>,
    /// By a process of its own, the app being another.
    elsewhere: bool,
    goals: [Goal; 3],
}

const REACHED: [Goal; 3] = [Goal::AtMost(10.0), Goal::AtMost(50.0), Goal::AtLeast(0.5)];
/// One statement of 100 ms holds the lock for 100 ms.
const ONE_STATEMENT: [Goal; 3] = [Goal::None, Goal::AtMost(150.0), Goal::None];

const MEMBERSHIPS: &str = "INSERT INTO memberships (id, organization_id, user_id, role, state, expires_at, created_at, updated_at)
    SELECT 'm' || n, 'o' || n % 200, 'u' || n, 'member', 'active', 1500000000000 + n * 7919 % 1000000, 0, 0 FROM n";
const INVITATIONS: &str =
    "INSERT INTO organization_invitations (id, organization_id, email, created_at, expires_at)
    SELECT 'i' || n, 'o' || n % 200, 'x@example.org', 0, 1500000000000 + n * 7919 % 1000000 FROM n";
const AUDIT: &str = "INSERT INTO verger_audit (occurred_at, action, outcome, hash) SELECT 1500000000000, 'bench.row', 'success', zeroblob(32) FROM n";

fn sweep(worker: &str, args: Json) -> Vec<NewJob> {
    let mut all = json!({"organization_id": null, "actor_id": null});
    if let (Some(all), Some(args)) = (all.as_object_mut(), args.as_object()) {
        all.extend(args.clone());
    }
    vec![NewJob::new(worker, all)]
}

const WORKS: [Work; 7] = [
    Work {
        name: "reconcile-memberships, 300,000 rows",
        set_up: MEMBERSHIPS,
        jobs: || sweep("reconcile-memberships", json!({})),
        elsewhere: false,
        goals: REACHED,
    },
    Work {
        name: "  by another process",
        set_up: MEMBERSHIPS,
        jobs: || sweep("reconcile-memberships", json!({})),
        elsewhere: true,
        goals: REACHED,
    },
    Work {
        name: "cleanup-expired-invitations, 300,000 rows",
        set_up: INVITATIONS,
        jobs: || sweep("cleanup-expired-invitations", json!({})),
        elsewhere: false,
        goals: REACHED,
    },
    Work {
        name: "cleanup-audit, 300,000 rows",
        set_up: AUDIT,
        jobs: || vec![NewJob::new("cleanup-audit", json!({"retention_days": 30}))],
        elsewhere: false,
        goals: [Goal::None, Goal::None, Goal::None],
    },
    Work {
        name: "50,000 jobs that write one row",
        set_up: "SELECT 1",
        jobs: || (0..50_000).map(|_| NewJob::new("computes", json!({"how": "writes"}))).collect(),
        elsewhere: false,
        goals: REACHED,
    },
    Work {
        name: "80 jobs that read, compute for 100 ms, and write",
        set_up: "SELECT 1",
        jobs: || (0..JOBS).map(|_| NewJob::new("computes", json!({}))).collect(),
        elsewhere: false,
        goals: REACHED,
    },
    Work {
        name: "80 jobs with one statement of 100 ms",
        set_up: "SELECT 1",
        jobs: || {
            (0..JOBS).map(|_| NewJob::new("computes", json!({"how": "in one statement"}))).collect()
        },
        elsewhere: false,
        goals: ONE_STATEMENT,
    },
];

/// Reads, computes for 100 ms, and writes; does all of it in one statement; or writes only.
struct Computes;

impl Worker for Computes {
    fn manifest(&self) -> Manifest {
        Manifest::new("computes", "1.0.0")
            .arg("how", ArgSpec::default_value("in steps"))
            .table(TableAsk::named("results").read().insert())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> std::result::Result<Outcome, WorkerError> {
        let how: String = args.get("how")?;
        if how == "writes" {
            job.execute("INSERT INTO results VALUES (1)", params![])?;
            return Ok(Outcome::Done);
        }
        if how == "in one statement" {
            let sql = "INSERT INTO results SELECT max(n) FROM (WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 500000) SELECT n FROM n)";
            job.execute(sql, params![])?;
            return Ok(Outcome::Done);
        }
        job.query_row("SELECT max(n) FROM results WHERE n < 0", params![])?;
        let until = Instant::now() + Duration::from_millis(100);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        job.execute("INSERT INTO results VALUES (1)", params![])?;
        Ok(Outcome::Done)
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, word, file, cache, place] = args.as_slice()
        && word == "elsewhere"
    {
        let verger = open(Path::new(file), Path::new(cache))?;
        println!("{}", work_off(&verger, &WORKS[place.parse::<usize>()?])?.as_secs_f64());
        return Ok(());
    }
    measure()
}

fn measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cache = folder.path().join("cache");
    let (mut rows, mut pictures) = (Vec::new(), Vec::new());
    let mut row = |name: &str, waits: &[f64], kept: Option<f64>, goals: [Goal; 3]| {
        pictures.push((name.trim_start().to_string(), waits.to_vec()));
        let (p50, p99) = (percentile(waits, 0.5), percentile(waits, 0.99));
        let longest = percentile(waits, 1.0);
        let figures = [Some(p99), Some(longest), kept];
        let reached = figures.iter().zip(goals).all(|(figure, goal)| match (figure, goal) {
            (Some(figure), Goal::AtMost(most)) => *figure <= most,
            (Some(figure), Goal::AtLeast(least)) => *figure >= least,
            _ => true,
        });
        rows.push(vec![
            name.to_string(),
            waits.len().to_string(),
            format!("{p50:.2}"),
            format!("{p99:.1}"),
            format!("{longest:.1}"),
            kept.map_or_else(String::new, |kept| format!("{kept:.2}")),
            if reached { "yes" } else { "no" }.to_string(),
        ]);
    };
    let quiet = prepare(&folder.path().join("quiet"), &cache, None)?;
    row(
        "nothing",
        &insert_while(&quiet, |begun| begun.elapsed() < Duration::from_secs(3))?,
        None,
        [Goal::None; 3],
    );
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    let picture = wanted.iter().position(|arg| arg == "--svg").map(|place| {
        wanted.drain(place..(place + 2).min(wanted.len())).next_back().unwrap_or_default()
    });
    wanted.retain(|arg| !arg.starts_with('-'));
    for (place, work) in WORKS.iter().enumerate() {
        if !wanted.is_empty() && !wanted.iter().any(|word| work.name.contains(word)) {
            continue;
        }
        let place_of = |name: &str| folder.path().join(format!("{name}-{place}"));
        let alone = {
            let file = prepare(&place_of("alone"), &cache, Some(work))?;
            work_off(&open(&file, &cache)?, work)?
        };
        let file = prepare(&place_of("beside"), &cache, Some(work))?;
        let (waits, beside) = beside(&file, &cache, place, work)?;
        row(work.name, &waits, Some(alone.as_secs_f64() / beside.as_secs_f64()), work.goals);
    }
    let header =
        ["while Verger does", "INSERTs", "p50 ms", "p99 ms", "longest ms", "speed kept", "reached"];
    table(
        "An INSERT of the app's, on a plain connection (goals: p99 ≤ 10 ms, longest ≤ 50 ms, ≥ 0.5 of the speed kept)",
        &header,
        &rows,
    );
    if let Some(file) = picture {
        let title = "How long an INSERT of the app's waits while Verger does this";
        let limits = [(10.0, "p99 ≤ 10 ms"), (50.0, "all ≤ 50 ms")];
        std::fs::write(file, histogram::svg(title, &pictures, &limits))?;
    }
    Ok(())
}

/// A file with the rows of some work, its jobs enqueued, and a table of the app's.
fn prepare(folder: &Path, cache: &Path, work: Option<&Work>) -> Result<PathBuf> {
    std::fs::create_dir(folder)?;
    let file = folder.join("app.db");
    let verger = open(&file, cache)?;
    verger.migrate_reference()?;
    let app = verger.connect()?;
    app.execute_batch("CREATE TABLE notes (text TEXT NOT NULL); CREATE TABLE results (n INTEGER)")?;
    let numbers =
        format!("WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT {ROWS})");
    let set_up = work.map_or("", |work| work.set_up);
    match set_up.split_once("SELECT") {
        Some((insert, select)) if set_up.starts_with("INSERT") => {
            app.execute_batch(&format!("{insert} {numbers} SELECT {select}"))?;
            app.execute_batch("UPDATE verger_audit_head SET id = coalesce((SELECT max(id) FROM verger_audit), 0), hash = zeroblob(32) WHERE EXISTS (SELECT 1 FROM verger_audit)")?;
        }
        _ => {}
    }
    if let Some(work) = work {
        verger.enqueue_all((work.jobs)())?;
    }
    app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(file)
}

fn open(file: &Path, cache: &Path) -> Result<Verger> {
    Ok(Verger::builder(file)
        .worker(Computes)
        .keep_audit(Duration::ZERO)
        .compile_cache(CompileCache::Folder(cache.to_path_buf()))
        .open()?)
}

/// Has the loop do the work: how long it took.
fn work_off(verger: &Verger, work: &Work) -> Result<Duration> {
    let newest = verger.jobs(&JobFilter::new(), 1)?;
    let last = newest.first().ok_or_else(|| anyhow::anyhow!("no jobs"))?.id;
    let ticking = verger.start()?;
    let begun = Instant::now();
    loop {
        let job = verger.job(last)?.ok_or_else(|| anyhow::anyhow!("the job is gone"))?;
        match job.state {
            JobState::Completed => break,
            JobState::Discarded | JobState::Cancelled | JobState::Retryable => {
                anyhow::bail!("{}: {:?}", work.name, job.errors)
            }
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    let took = begun.elapsed();
    ticking.stop(Duration::from_secs(5))?;
    Ok(took)
}

/// The waits of the app in milliseconds while the work is done, and how long that takes.
fn beside(file: &Path, cache: &Path, place: usize, work: &Work) -> Result<(Vec<f64>, Duration)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let working = scope.spawn(|| -> Result<Duration> {
            std::thread::sleep(Duration::from_millis(100));
            let took = if work.elsewhere {
                let mut child = Command::new(std::env::current_exe()?)
                    .arg("elsewhere")
                    .args([file, cache])
                    .arg(place.to_string())
                    .stdout(Stdio::piped())
                    .spawn()?;
                let mut line = String::new();
                if let Some(out) = child.stdout.take() {
                    BufReader::new(out).read_line(&mut line)?;
                }
                child.wait()?;
                Ok(Duration::from_secs_f64(line.trim().parse()?))
            } else {
                open(file, cache).and_then(|verger| work_off(&verger, work))
            };
            over.store(true, Ordering::Relaxed);
            took
        });
        let waits = insert_while(file, |_| !over.load(Ordering::Relaxed))?;
        let took = working.join().map_err(|_| anyhow::anyhow!("the work panicked"))??;
        Ok((waits, took))
    })
}

fn insert_while(file: &Path, goes_on: impl Fn(Instant) -> bool) -> Result<Vec<f64>> {
    let app: Connection = plain(file)?;
    app.busy_timeout(Duration::from_secs(5))?;
    let mut insert = app.prepare("INSERT INTO notes VALUES ('one row')")?;
    let (begun, mut waits) = (Instant::now(), Vec::new());
    while goes_on(begun) {
        let asked = Instant::now();
        insert.execute([])?;
        waits.push(asked.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(EVERY);
    }
    Ok(waits)
}
