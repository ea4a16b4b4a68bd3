//! A Verger for tests.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::FromSql;
use serde::Serialize;
use serde_json::Value as Json;

use super::{ManualClock, rows, stop};
use crate::builder::Builder;
use crate::clock::Clock;
use crate::engine::TickReport;
use crate::error::{OpenError, PerformError};
use crate::queue::NewJob;
use crate::time::Timestamp;
use crate::verger::{Performance, Verger};

/// How many ticks may find work while time stands still, before the kit takes it for an endless
/// loop.
const TICKS_MAX: usize = 100_000;

/// A [`Verger`] in memory whose clock stands still at [`START`](Self::START) until the test moves
/// it. It can do everything a Verger can.
#[derive(Debug)]
pub struct TestVerger {
    verger: Verger,
    clock: ManualClock,
    connection: Connection,
}

impl Deref for TestVerger {
    type Target = Verger;
    fn deref(&self) -> &Verger {
        &self.verger
    }
}

impl Default for TestVerger {
    fn default() -> Self {
        Self::new()
    }
}

impl TestVerger {
    /// 2026-01-01T00:00:00Z, a Thursday.
    pub const START: Timestamp = Timestamp::from_millis(1_767_225_600_000);

    /// A Verger with the built-in workers and nothing else.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    /// A Verger that was set up: workers, grants, schedules.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    #[track_caller]
    pub fn with(set_up: impl FnOnce(Builder) -> Builder) -> Self {
        match Self::open(set_up(Verger::in_memory()), &ManualClock::at(Self::START)) {
            Ok(test) => test,
            Err(error) => stop(&format!("the Verger of this test does not open: {error}")),
        }
    }

    /// Opens what was built, in memory or on a file, under this clock. Compiled components are kept
    /// in a folder under the system's temporary one, shared by all tests of this user.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(builder: Builder, clock: &ManualClock) -> Result<Self, OpenError> {
        super::logs::keep_listening();
        let builder = builder.clock(clock.clone());
        #[cfg(feature = "wasm")]
        let builder = builder.compile_cache(super::harness::shared_cache());
        let verger = builder.open()?;
        let connection = match verger.connect() {
            Ok(connection) => connection,
            Err(error) => stop(&format!("the test has no connection of its own: {error}")),
        };
        Ok(Self { verger, clock: clock.clone(), connection })
    }

    /// Adds the reference tables, empty.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    #[track_caller]
    pub fn reference_tables(self) -> Self {
        match self.verger.migrate_reference() {
            Ok(()) => self,
            Err(error) => stop(&format!("the reference tables cannot be made: {error}")),
        }
    }

    /// The clock, which the test moves.
    #[must_use]
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The app's own connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Runs SQL of the app: tables, rows.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn sql(&self, sql: &str) {
        if let Err(error) = self.connection.execute_batch(sql) {
            stop(&format!("{sql}: {error}"));
        }
    }

    /// The first column of the first row of a query.
    ///
    /// # Panics
    /// When the query fails, has no row, or holds another type.
    #[must_use]
    #[track_caller]
    pub fn one<T: FromSql>(&self, sql: &str) -> T {
        match self.connection.query_row(sql, [], |row| row.get(0)) {
            Ok(value) => value,
            Err(error) => stop(&format!("{sql}: {error}")),
        }
    }

    /// The rows of a query, each an object by column name. A blob is its bytes in hexadecimal.
    ///
    /// # Panics
    /// When the query fails.
    #[must_use]
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Json> {
        match rows::rows(&self.connection, sql) {
            Ok(rows) => rows,
            Err(error) => stop(&format!("{sql}: {error}")),
        }
    }

    /// Every row of every table, the engine's own included. Two results are equal when nothing was
    /// written in between.
    ///
    /// # Panics
    /// When a table cannot be read.
    #[must_use]
    #[track_caller]
    pub fn everything(&self) -> BTreeMap<String, Vec<Json>> {
        let tables = self.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name");
        let names = tables.iter().filter_map(|table| table["name"].as_str());
        let table = |name: &str| {
            let mut rows = self.rows(&format!("SELECT * FROM \"{name}\""));
            rows.sort_by_cached_key(ToString::to_string);
            (name.to_string(), rows)
        };
        names.map(table).collect()
    }

    /// Performs a worker at once, without a queue, after the checks an enqueue makes. The args are
    /// written as JSON text and read back, as those of a job are, so that what does not survive
    /// that shows.
    ///
    /// # Errors
    /// As [`Verger::perform_now`]; an arg that does not become JSON stops the test.
    #[track_caller]
    pub fn perform_job(
        &self,
        worker: &str,
        args: impl Serialize,
    ) -> Result<Performance, PerformError> {
        let text = serde_json::to_string(&args)
            .unwrap_or_else(|error| stop(&format!("the args are no JSON: {error}")));
        let args: Json = serde_json::from_str(&text)
            .unwrap_or_else(|error| stop(&format!("the args are no JSON: {error}")));
        self.verger.inner.registry.ready(NewJob::new(worker, args.clone()))?;
        self.verger.perform_now(worker, args)
    }

    /// Ticks until nothing is due at this instant any more, and returns all that was done as one
    /// report. Time stands still, so what a failure or a snooze put off stays for later.
    ///
    /// # Panics
    /// When a tick fails, or when jobs become due without end.
    #[track_caller]
    pub fn drain(&self) -> TickReport {
        let mut all: Option<TickReport> = None;
        for _ in 0..TICKS_MAX {
            let now = self.clock.now();
            let report = match self.verger.tick(now) {
                Ok(report) => report,
                Err(error) => stop(&format!("a tick failed: {error}")),
            };
            let over = report.next_wake_at.is_none_or(|next| next > now);
            let all = join(&mut all, report);
            if over {
                return all.clone();
            }
        }
        stop(&format!(
            "after {TICKS_MAX} ticks there is still something due: a worker enqueues its own next job, or a job cannot be claimed"
        ))
    }

    /// Lives until this instant. The clock jumps from one due instant to the next, and everything
    /// due on the way is done at its time.
    ///
    /// # Panics
    /// As [`drain`](Self::drain).
    #[track_caller]
    pub fn run_until(&self, end: impl Into<Timestamp>) -> TickReport {
        let end = end.into();
        let mut all: Option<TickReport> = None;
        loop {
            let done = join(&mut all, self.drain());
            let now = self.clock.now();
            match done.next_wake_at.filter(|next| *next <= end) {
                Some(next) => self.clock.set(next),
                None if now < end => self.clock.set(end),
                None => return done.clone(),
            }
        }
    }

    /// Lives for this long: see [`run_until`](Self::run_until).
    ///
    /// # Panics
    /// As [`drain`](Self::drain).
    #[track_caller]
    pub fn run_for(&self, time: Duration) -> TickReport {
        self.run_until(self.clock.now() + time)
    }
}

/// Adds a report to those before it.
fn join(all: &mut Option<TickReport>, report: TickReport) -> &TickReport {
    match all {
        Some(all) => {
            all.now = report.now;
            all.fired.extend(report.fired);
            all.attempts.extend(report.attempts);
            all.rescued += report.rescued;
            all.pruned += report.pruned;
            all.next_wake_at = report.next_wake_at;
            all
        }
        None => all.insert(report),
    }
}
