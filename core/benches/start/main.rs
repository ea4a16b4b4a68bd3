//! Opening, waiting and coming back: what an app pays for having Verger in it.
//!
//! Everything that depends on a fresh process runs in one: this program again with a word as its
//! argument, or the example `minimal`. Memory and CPU time are read from `/proc`, so on other
//! systems than Linux those rows are missing.

#![allow(clippy::print_stdout, reason = "children speak through their output")]

#[path = "../common/mod.rs"]
mod common;
mod process;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{Goal, Result, median, percentile, plain, table};
use serde_json::json;
use verger::verger_worker::prelude::*;
use verger::{CompileCache, NewJob, Schedule, Verger};

use self::process::{Running, idle, minimal};

const COLD_ROUNDS: usize = 5;
const WARM_ROUNDS: usize = 21;
const PLUGINS: usize = 20;
const KILLS: usize = 7;
const LATENCIES: usize = 400;
const IDLE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("open") => open_once(Path::new(&args[2])),
        Some("open-plugins") => open_plugins_once(Path::new(&args[2])),
        Some("hold") => hold_a_job(Path::new(&args[2])),
        _ => measure(),
    }
}

fn measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut rows = Vec::new();
    let mut row = |name: &str, unit: &str, figure: f64, goal: Goal| {
        let [goal, reached] = goal.show(figure);
        rows.push(vec![name.to_string(), format!("{figure:.2}"), unit.to_string(), goal, reached]);
    };
    let (cold, warm) = opening(folder.path())?;
    row("first open: compiles three components", "ms", median(&cold), Goal::AtMost(400.0));
    row("open with three cached components", "ms", median(&warm), Goal::AtMost(5.0));
    let plugins = opening_plugins(&folder.path().join("twenty"))?;
    row("open with twenty cached plugins", "ms", median(&plugins), Goal::AtMost(20.0));
    let latencies = enqueue_to_start(folder.path())?;
    row("enqueue to start, p50", "ms", median(&latencies), Goal::AtMost(1.0));
    row("enqueue to start, p99", "ms", percentile(&latencies, 0.99), Goal::None);
    let limit = wake_a_thread(folder.path())?;
    row("  plain insert, channel, claim, p50", "ms", median(&limit), Goal::None);
    row("  plain insert, channel, claim, p99", "ms", percentile(&limit, 0.99), Goal::None);
    row(
        "after kill -9: open to the job's next start",
        "ms",
        median(&come_back(folder.path())?),
        Goal::AtMost(1000.0),
    );
    let example = minimal()?;
    row(
        "minimal app, stripped release binary",
        "MB",
        std::fs::metadata(&example)?.len() as f64 / 1e6,
        Goal::AtMost(12.0),
    );
    if cfg!(target_os = "linux") {
        let idle = idle(&example, folder.path())?;
        row("idle loop, CPU in 10 s", "ms", idle.cpu_ms, Goal::AtMost(1.0));
        row("idle loop, resident memory", "MB", idle.resident_mb, Goal::AtMost(25.0));
        row("  of it not shared with the file system", "MB", idle.private_mb, Goal::None);
        row("  after a first start, which compiled", "MB", idle.after_compiling_mb, Goal::None);
    }
    table("Opening, waiting, coming back", &["", "median", "", "goal", "reached"], &rows);
    Ok(())
}

fn schedules(builder: verger::Builder) -> Result<verger::Builder> {
    let everyone = json!({"organization_id": null, "actor_id": null});
    Ok(builder
        .schedule(
            Schedule::cron("invitations", "0 3 * * *")?
                .worker("cleanup-expired-invitations")
                .args(everyone.clone()),
        )
        .schedule(
            Schedule::every("memberships", Duration::from_secs(300))?
                .worker("reconcile-memberships")
                .args(everyone.clone()),
        )
        .schedule(
            Schedule::cron("webhooks", "*/5 * * * *")?
                .worker("reconcile-webhook-events")
                .args(everyone),
        ))
}

/// In a process of its own: opens and says how long it took. Schedules make all three components
/// load.
fn open_once(folder: &Path) -> Result<()> {
    let builder = schedules(
        Verger::builder(folder.join("app.db"))
            .compile_cache(CompileCache::Folder(folder.join("cache"))),
    )?;
    let begun = Instant::now();
    let verger = builder.open()?;
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    println!("{took}");
    drop(verger);
    Ok(())
}

/// In a process of its own: opens with the plugins of this folder.
fn open_plugins_once(folder: &Path) -> Result<()> {
    let builder = Verger::builder(folder.join("app.db"))
        .compile_cache(CompileCache::Folder(folder.join("cache")))
        .plugins(folder.join("plugins"));
    let begun = Instant::now();
    let verger = builder.open()?;
    let took = begun.elapsed().as_secs_f64() * 1000.0;
    anyhow::ensure!(verger.plugins().len() == PLUGINS, "{:?}", verger.refused_plugins());
    println!("{took}");
    Ok(())
}

/// How long a process takes to open what was opened before, with so many dropped-in workers.
fn opening_plugins(folder: &Path) -> Result<Vec<f64>> {
    const NAME: &[u8] = b"\"name\": \"puppet\"";
    std::fs::create_dir_all(folder.join("plugins"))?;
    let puppet = include_bytes!("../../../tests/guests/puppet.wasm");
    let at = puppet.windows(NAME.len()).position(|window| window == NAME);
    let at = at.ok_or_else(|| anyhow::anyhow!("the component has no manifest"))?;
    for number in 0..PLUGINS {
        let mut bytes = puppet.to_vec();
        let name = format!("\"name\": \"pup-{number:02}\"");
        bytes.splice(at..at + NAME.len(), name.into_bytes());
        std::fs::write(folder.join(format!("plugins/{number:02}.wasm")), bytes)?;
    }
    in_a_process("open-plugins", folder)?;
    (0..WARM_ROUNDS).map(|_| in_a_process("open-plugins", folder)).collect()
}

/// What another process of this program says it took, in milliseconds.
fn in_a_process(what: &str, folder: &Path) -> Result<f64> {
    let output = Command::new(std::env::current_exe()?)
        .arg(what)
        .arg(folder)
        .stderr(Stdio::inherit())
        .output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn opening(folder: &Path) -> Result<(Vec<f64>, Vec<f64>)> {
    let open = |folder: &Path| in_a_process("open", folder);
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for round in 0..COLD_ROUNDS {
        let folder = folder.join(format!("open-{round}"));
        std::fs::create_dir(&folder)?;
        cold.push(open(&folder)?);
    }
    for _ in 0..WARM_ROUNDS {
        warm.push(open(&folder.join("open-0"))?);
    }
    Ok((cold, warm))
}

/// Says when it is performed.
struct Now(mpsc::Sender<Instant>);

// `Sender` is `Sync`, so the worker is.
impl Worker for Now {
    fn manifest(&self) -> Manifest {
        Manifest::new("now", "1.0.0")
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> std::result::Result<Outcome, WorkerError> {
        // Nobody listens any more when the bench ends.
        let _ = self.0.send(Instant::now());
        Ok(Outcome::Done)
    }
}

/// Milliseconds from before `enqueue` to the start of the worker, the loop asleep.
fn enqueue_to_start(folder: &Path) -> Result<Vec<f64>> {
    let (sender, started) = mpsc::channel();
    let verger = Verger::builder(folder.join("latency.db"))
        .without_built_ins()
        .worker(Now(sender))
        .open()?;
    let ticking = verger.start()?;
    let mut latencies = Vec::new();
    for _ in 0..LATENCIES {
        std::thread::sleep(Duration::from_millis(4));
        let begun = Instant::now();
        verger.enqueue(NewJob::new("now", json!({})))?;
        latencies.push(
            started.recv_timeout(Duration::from_secs(5))?.duration_since(begun).as_secs_f64()
                * 1000.0,
        );
    }
    ticking.stop(Duration::from_secs(5))?;
    Ok(latencies)
}

/// The same with nothing but SQLite, a channel and a thread.
fn wake_a_thread(folder: &Path) -> Result<Vec<f64>> {
    let file = folder.join("plain.db");
    let app = plain(&file)?;
    app.execute_batch(
        "CREATE TABLE jobs (id INTEGER PRIMARY KEY, args TEXT NOT NULL, due_at INTEGER NOT NULL, state INTEGER NOT NULL);
         CREATE INDEX jobs_due ON jobs (state, due_at);",
    )?;
    let (bell, rung) = mpsc::channel::<()>();
    let (sender, started) = mpsc::channel();
    let thread = std::thread::spawn(move || -> Result<()> {
        let worker = plain(&file)?;
        worker.busy_timeout(Duration::from_secs(5))?;
        for () in rung {
            let sql = "UPDATE jobs SET state = 1 WHERE id = (SELECT id FROM jobs WHERE state = 0 AND due_at <= 1 ORDER BY due_at, id LIMIT 1) RETURNING id";
            let id: i64 = worker.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            sender.send(Instant::now())?;
            worker
                .prepare_cached("UPDATE jobs SET state = 2 WHERE id = ?1 AND state = 1")?
                .execute([id])?;
        }
        Ok(())
    });
    let mut latencies = Vec::new();
    for _ in 0..LATENCIES {
        std::thread::sleep(Duration::from_millis(4));
        let begun = Instant::now();
        app.prepare_cached("INSERT INTO jobs (args, due_at, state) VALUES ('{}', 1, 0)")?
            .execute([])?;
        bell.send(())?;
        latencies.push(
            started.recv_timeout(Duration::from_secs(5))?.duration_since(begun).as_secs_f64()
                * 1000.0,
        );
    }
    drop(bell);
    thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    Ok(latencies)
}

/// Begins its job and never ends it.
struct Stuck;

impl Worker for Stuck {
    fn manifest(&self) -> Manifest {
        Manifest::new("now", "1.0.0")
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> std::result::Result<Outcome, WorkerError> {
        println!("begun");
        loop {
            std::thread::park();
        }
    }
}

/// In a process of its own, to be killed: a job under way.
fn hold_a_job(file: &Path) -> Result<()> {
    let verger = Verger::builder(file).without_built_ins().worker(Stuck).open()?;
    verger.enqueue(NewJob::new("now", json!({})))?;
    let _ticking = verger.start()?;
    loop {
        std::thread::park();
    }
}

/// Milliseconds from opening the file of a process that was killed to the second start of the job
/// it was at.
fn come_back(folder: &Path) -> Result<Vec<f64>> {
    let mut figures = Vec::new();
    for round in 0..KILLS {
        let file = folder.join(format!("killed-{round}.db"));
        let mut child =
            Running::start(Command::new(std::env::current_exe()?).arg("hold").arg(&file))?;
        child.read_line()?;
        child.kill()?;
        let (sender, started) = mpsc::channel();
        let begun = Instant::now();
        let verger = Verger::builder(&file).without_built_ins().worker(Now(sender)).open()?;
        let ticking = verger.start()?;
        figures.push(
            started.recv_timeout(Duration::from_secs(60))?.duration_since(begun).as_secs_f64()
                * 1000.0,
        );
        ticking.stop(Duration::from_secs(5))?;
    }
    Ok(figures)
}
