//! Every SQL function that a worker may call ends within the time and the memory that it is
//! granted.
//!
//! The functions are those that SQLite itself lists, so a new one is tried too. Each is called with
//! one to 100 arguments of every kind that could take long: texts, documents, blobs, formats and
//! paths of megabytes. It may answer or be refused, but it may not go on.
#![allow(clippy::print_stdout, reason = "the figures are for people")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![allow(unsafe_code, reason = "rusqlite has no safe form of SQLite's count of memory")]

use std::time::{Duration, Instant};

use serde_json::json;
use verger::rusqlite::ffi;
use verger::verger_worker::prelude::*;
use verger::{Grant, Limits, Verger};

const GRANTED: Duration = Duration::from_millis(250);

/// What a machine that is busy with other things may add. A function without a bound takes seconds.
const SLACK: Duration = Duration::from_millis(500);
const MEMORY: usize = 128 << 20;

/// Binds arguments of the kinds its args name, and sends the SQL.
struct Sql;

const KINDS: [&str; 7] = ["text", "digits", "document", "nested", "blob", "format", "number"];

fn argument(kind: &str) -> Value {
    match kind {
        "text" => Value::from("a".repeat(4_000_000)),
        "digits" => Value::from("0".repeat(4_000_000)),
        "document" => Value::from(format!("[{}1]", "1,".repeat(2_000_000))),
        "nested" => Value::from(format!("{}{}", "[".repeat(900), "]".repeat(900))),
        "blob" => Value::Blob(vec![0xc7; 4_000_000]),
        "format" => Value::from("%9d%s%.9f%q".repeat(300_000)),
        _ => Value::from(1_000_000_000_i64),
    }
}

impl Worker for Sql {
    fn manifest(&self) -> Manifest {
        Manifest::new("sql", "1.0.0")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let (sql, kinds): (String, Vec<String>) = (args.get("sql")?, args.get("kinds")?);
        let params: Vec<Value> = kinds.iter().map(|kind| argument(kind)).collect();
        let began = Instant::now();
        let said = match job.query(&sql, params).and_then(|cursor| cursor.rows().next().transpose())
        {
            Ok(_) => "answered".to_string(),
            Err(error) => error.to_string(),
        };
        let took = u64::try_from(began.elapsed().as_millis()).unwrap();
        Ok(Outcome::DoneWith(json!([took, said])))
    }
}

#[test]
fn every_function_ends_within_its_grant() {
    let limits = Limits::default().time(GRANTED).sql_memory_bytes(MEMORY).chunk_bytes(64 << 20);
    let verger = Verger::in_memory()
        .without_built_ins()
        .worker(Sql)
        .grant("sql", Grant::new().limits(limits))
        .open()
        .unwrap();
    let app = verger.connect().unwrap();
    let functions: Vec<(String, i64)> = app
        .prepare("SELECT DISTINCT lower(name), narg FROM pragma_function_list ORDER BY 1, 2")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(functions.len() > 100);
    let (mut calls, mut refused, mut slowest) = (0, 0, (Duration::ZERO, String::new()));
    for (name, arity) in functions {
        let counts =
            if arity < 0 { vec![1, 2, 3, 100] } else { vec![usize::try_from(arity).unwrap()] };
        for count in counts {
            let mut mixes: Vec<[&str; 2]> = KINDS.iter().map(|kind| [*kind, *kind]).collect();
            mixes.extend([
                ["document", "text"],
                ["text", "format"],
                ["format", "text"],
                ["digits", "text"],
            ]);
            if count == 0 {
                mixes.truncate(1);
            }
            for mix in mixes {
                let places: Vec<String> =
                    (0..count).map(|at| format!("?{}", 1 + at.min(1))).collect();
                let quoted = format!("\"{name}\"({})", places.join(", "));
                let kinds = &mix[..count.min(2)];
                let args = json!({"sql": format!("SELECT length({quoted})"), "kinds": kinds});
                // SAFETY: they read and reset counters.
                let before = unsafe {
                    ffi::sqlite3_memory_highwater(1);
                    ffi::sqlite3_memory_used()
                };
                // Once more, alone, before a slow one is believed: others run beside.
                let mut took = Duration::MAX;
                let mut said = String::new();
                for _ in 0..3 {
                    let began = Instant::now();
                    match verger.perform_now("sql", args.clone()) {
                        Ok(performed) => {
                            let answer = performed.result().unwrap();
                            took = took.min(Duration::from_millis(answer[0].as_u64().unwrap()));
                            said = answer[1].to_string();
                        }
                        Err(error) => {
                            took = took.min(began.elapsed());
                            said = error.to_string();
                        }
                    }
                    if took < GRANTED + SLACK {
                        break;
                    }
                }
                // SAFETY: it reads a counter.
                let most = unsafe { ffi::sqlite3_memory_highwater(0) } - before;
                let about = format!("{name} of {count} of {mix:?}: {took:?}, {most} bytes, {said}");
                assert!(took < GRANTED + SLACK, "{about}");
                assert!(most < i64::try_from(2 * MEMORY).unwrap(), "{about}");
                calls += 1;
                if said.contains("denied") {
                    refused += 1;
                    break;
                }
                if took > slowest.0 {
                    slowest = (took, about);
                }
            }
        }
    }
    println!("{calls} calls, {refused} of them refused by name; the slowest: {}", slowest.1);
    assert!(calls > 500);
}
