//! A worker that uses Rust's standard library as if it were a program of its own. Built for
//! wasm32-wasip2, it imports WASI.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::panic,
    reason = "that is what it is for"
)]

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant, SystemTime};

use verger_worker::prelude::*;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct WasiGuest;

impl Worker for WasiGuest {
    fn manifest(&self) -> Manifest {
        Manifest::new("wasi-guest", env!("CARGO_PKG_VERSION"))
            .description("Tries what a program of its own would have.")
            .arg("do", ArgSpec::default_value("look"))
            .table(TableAsk::named("things").read().insert())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let task: String = args.get("do")?;
        match task.as_str() {
            "look" => Ok(Outcome::DoneWith(look(job)?)),
            "sleep" => {
                std::thread::sleep(Duration::from_secs(1));
                Ok(Outcome::Done)
            }
            "exit" => std::process::exit(0),
            "flood" => loop {
                println!("line after line");
            },
            _ => {
                eprintln!("about to fall");
                panic!("fell over {task}")
            }
        }
    }
}

fn look(job: &Context<'_>) -> Result<verger_worker::serde_json::Value, WorkerError> {
    println!("hello from a program");
    eprint!("an unfinished line");
    let begun = Instant::now();
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seen: HashSet<u64> = (0..100).collect();
    job.execute("INSERT INTO things (name) VALUES (?1)", params!["from wasi"])?;
    Ok(json!({
        "arguments": std::env::args().count(),
        "variables": std::env::vars().count(),
        "clock": clock.as_millis() as u64,
        "host_clock": job.now(),
        "waited": begun.elapsed().as_millis() as u64,
        "seen": seen.len(),
        "chance": RandomState::new().hash_one(1_u8).to_string(),
        "file": std::fs::read("/etc/passwd").err().map(|error| error.to_string()),
        "new_file": std::fs::write("here.txt", "x").err().map(|error| error.to_string()),
        "listing": std::fs::read_dir(".").err().map(|error| error.to_string()),
        "stdin": std::io::read_to_string(std::io::stdin()).map_err(|error| error.to_string()),
    }))
}

verger_worker::export!(WasiGuest);
