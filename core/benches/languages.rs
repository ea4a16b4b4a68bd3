//! What a worker costs by the language it is written in. Each does nothing, so what is left is its
//! language's and the engine's. `tests/languages/no_op/build FOLDER` makes the workers, and
//! `cargo bench --bench languages -- FOLDER` measures them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints, and stops at the first surprise"
)]

mod common;

use std::path::{Path, PathBuf};
use std::time::Instant;

use common::{Contender, Goal, Result, interleave, median, ratio, seconds, table};
use serde_json::json;
use tempfile::TempDir;
use verger::{CompileCache, NewJob, Verger};

const ROUNDS: usize = 15;

/// Jobs, or direct calls, of one round.
const JOBS: usize = 400;

/// The goal for a job that does nothing, in microseconds, without its claim and its commit: they are
/// the disk's, and the same in every language.
const GOALS: [(&str, f64); 8] = [
    ("rust", 50.0),
    ("c", 50.0),
    ("cpp", 50.0),
    ("zig", 50.0),
    ("js", 150.0),
    ("ts", 150.0),
    ("go", 700.0),
    ("py", 1_000.0),
];

/// The worker of one language, open and warm.
struct Language {
    name: &'static str,
    goal: f64,
    bytes: usize,
    /// Milliseconds of the open that compiled it, and of one that took it from the cache.
    compiled: f64,
    cached: f64,
    verger: Verger,
    _folder: TempDir,
}

impl Language {
    fn open(name: &'static str, goal: f64, file: &Path) -> Result<Self> {
        let (folder, component) = (tempfile::tempdir()?, std::fs::read(file)?);
        let open = || {
            let cache = CompileCache::Folder(folder.path().join("cache"));
            let builder = Verger::builder(folder.path().join("app.db")).without_built_ins();
            builder.compile_cache(cache).component("no-op.wasm", component.clone()).open()
        };
        let time = || -> Result<(f64, Verger)> {
            let begun = Instant::now();
            let verger = open()?;
            verger.perform_now("no-op", json!({}))?;
            Ok((begun.elapsed().as_secs_f64() * 1e3, verger))
        };
        let (compiled, first) = time()?;
        drop(first);
        let (cached, verger) = time()?;
        let bytes = component.len();
        Ok(Self { name, goal, bytes, compiled, cached, verger, _folder: folder })
    }

    /// Microseconds a job takes, from the first claim to the last commit.
    fn drain(&self) -> Result<f64> {
        self.verger.enqueue_all((0..JOBS).map(|_| NewJob::new("no-op", json!({}))))?;
        let took = seconds(|| {
            let mut performed = 0;
            while performed < JOBS {
                performed += self.verger.tick(self.verger.now())?.attempts.len();
            }
            Ok(())
        })?;
        Ok(took * 1e6 / JOBS as f64)
    }

    /// Microseconds a direct call takes.
    fn call(&self) -> Result<f64> {
        let took = seconds(|| {
            for _ in 0..JOBS {
                self.verger.perform_now("no-op", json!({}))?;
            }
            Ok(())
        })?;
        Ok(took * 1e6 / JOBS as f64)
    }
}

fn main() -> Result<()> {
    // Cargo adds `--bench`.
    let Some(folder) = std::env::args().skip(1).find(|arg| !arg.starts_with("--")) else {
        println!("left out: it needs workers. tests/languages/no_op/build FOLDER makes them.");
        return Ok(());
    };
    let mut languages = Vec::new();
    for (name, goal) in GOALS {
        let file = PathBuf::from(&folder).join(format!("{name}.wasm"));
        match file.is_file() {
            true => languages.push(Language::open(name, goal, &file)?),
            false => println!("{name} is left out: there is no {}", file.display()),
        }
    }
    let mut jobs: Vec<Contender<'_>> = Vec::new();
    let mut calls: Vec<Contender<'_>> = Vec::new();
    for language in &languages {
        jobs.push((language.name, Box::new(|| language.drain())));
        calls.push((language.name, Box::new(|| language.call())));
    }
    let (jobs, calls) = (interleave(ROUNDS, &mut jobs)?, interleave(ROUNDS, &mut calls)?);
    let Some(first) = calls.first() else { return Ok(()) };
    let rows: Vec<Vec<String>> = languages
        .iter()
        .zip(jobs.iter().zip(&calls))
        .map(|(language, (jobs, calls))| {
            let quickest = calls.iter().copied().fold(f64::INFINITY, f64::min);
            let [goal, reached] = Goal::AtMost(language.goal).show(median(calls));
            vec![
                language.name.to_string(),
                format!("{:.0} KB", language.bytes as f64 / 1e3),
                format!("{:.0} ms", language.compiled),
                format!("{:.1} ms", language.cached),
                format!("{:.0} µs", median(calls)),
                format!("{quickest:.0} µs"),
                goal,
                reached,
                format!("{:.2} ×", ratio(calls, first)),
                format!("{:.0} µs", median(jobs)),
            ]
        })
        .collect();
    let header = [
        "language",
        "size",
        "first open",
        "cached",
        "direct call",
        "quickest",
        "goal, µs",
        "reached",
        "of the first",
        "job of a queue",
    ];
    table("A worker that does nothing", &header, &rows);
    Ok(())
}
