//! The queue, the schedules and the audit log on PostgreSQL.
//!
//! Each run has a server of its own, from the programs that Debian's `postgresql-15` installs.
//! Where there are none the tests say that they were skipped.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

mod cluster;
#[allow(dead_code, reason = "these tests use a part of it")]
#[path = "../common/processes.rs"]
mod process;
mod scripted;

#[path = "../common/puppet.rs"]
mod puppet;
#[path = "../common/random.rs"]
mod random;

mod bad_input;
mod components;
mod cuts;
mod main_path;
mod moving;
mod moving_tables;
mod nodes;
mod operating;
mod pooler;
mod processes;
mod schedules;
mod statements;
#[cfg(feature = "postgres-tls")]
mod tls;

use std::time::{Duration, Instant};

use verger::postgres::{Builder, Verger};
use verger::testing::ManualClock;
use verger::verger_worker::prelude::*;
use verger::{EventPosition, LifecycleEvent, Timestamp};

/// Where the clock of a test begins: Monday, 2026-01-05, 00:00 UTC.
pub(crate) const START: i64 = 1_767_571_200_000;

pub(crate) fn start() -> Timestamp {
    Timestamp::from_millis(START)
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::at(start())
}

/// A worker that writes its args' `n` into the table `effects`.
pub(crate) fn effect() -> scripted::Scripted {
    scripted::worker("effect", |job, args| {
        let n: i64 = args.get("n")?;
        job.execute("INSERT INTO effects (n) VALUES (?1)", vec![n.into()])?;
        job.audit(AuditEvent::success("effect.made").subject("effect", n.to_string()))?;
        Ok(Outcome::Done)
    })
}

pub(crate) fn effects(database: &cluster::Database) -> Builder {
    database.client().batch_execute("CREATE TABLE IF NOT EXISTS effects (n bigint)").unwrap();
    Verger::builder(database.url()).worker(effect())
}

/// The words of the events that are kept. A transaction anywhere on the server holds later ones
/// back, so they are waited for.
pub(crate) fn events(verger: &Verger, count: usize) -> Vec<LifecycleEvent> {
    let read = || verger.events_since(EventPosition::START, 100).unwrap();
    until("the events", || read().len() >= count);
    read()
}

/// Waits until this holds.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same as a component, of this name and for this table: its args say what it does.
pub(crate) fn sandboxed(name: &str, table: &str) -> (Vec<u8>, verger::Grant) {
    let manifest = serde_json::json!({
        "name": name, "version": "1.0.0", "args": {"do": {"default": []}, "n": {"default": 0}},
        "tables": [{"table": table, "verbs": ["insert"]}],
    });
    (puppet::puppet_as(&manifest), verger::Grant::new().insert(table))
}

/// Args with which it writes `n` into the table and the audit log.
pub(crate) fn sandboxed_args(table: &str, n: i64) -> serde_json::Value {
    let sql = format!("INSERT INTO {table} (n) VALUES (?1)");
    let event = serde_json::json!({"action": format!("{table}.made"), "outcome": "success", "subject_id": n.to_string()});
    serde_json::json!({"n": n, "do": [["must", ["execute", sql, [n]]], ["must", ["audit", [event]]]]})
}
