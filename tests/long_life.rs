//! Years of the built-in workers' suggested schedules, on a file whose rows come and go every day.
//! Neither the file, nor its log, nor the process, nor a day's work grows.
//!
//! By default it lives for two weeks, with the schedules that fire every five minutes made hourly.
//! With `VERGER_LONG=1`, in release, it lives ten years like that, and one year as suggested.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::Suggested;
use verger::{JobFilter, JobState, Retention, Schedule, Verger};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);

/// Days that rows of the audit log and of the fire ledger are kept.
const KEPT: u32 = 30;

/// Days after which everything that comes has begun to go, too.
const SETTLED: u32 = 45;

/// What a statement costs, whatever else the machine does: the steps of SQLite's virtual machine,
/// which grow with every row it looks at.
mod steps {
    #![allow(unsafe_code, reason = "SQLite calls it through pointers")]

    use std::ffi::{c_int, c_uint, c_void};
    use std::ptr::null_mut;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use verger::rusqlite::{Connection, Result, ffi};

    static TAKEN: AtomicU64 = AtomicU64::new(0);

    /// Counts the steps of every statement of this connection.
    pub(super) fn count(connection: &Connection) -> Result<()> {
        // The callback is a plain function and reads nothing of ours.
        unsafe {
            ffi::sqlite3_trace_v2(
                connection.handle(),
                ffi::SQLITE_TRACE_PROFILE as c_uint,
                Some(ended),
                null_mut(),
            )
        };
        Ok(())
    }

    unsafe extern "C" fn ended(
        _: c_uint,
        _: *mut c_void,
        statement: *mut c_void,
        _: *mut c_void,
    ) -> c_int {
        let taken = unsafe {
            ffi::sqlite3_stmt_status(statement.cast(), ffi::SQLITE_STMTSTATUS_VM_STEP, 1)
        };
        TAKEN.fetch_add(u64::from(taken.unsigned_abs()), Relaxed);
        0
    }

    /// Those since the last call.
    pub(super) fn taken() -> u64 {
        TAKEN.swap(0, Relaxed)
    }
}

struct Life {
    _folder: tempfile::TempDir,
    file: PathBuf,
    test: TestVerger,
    days: u32,
}

impl Life {
    /// The reference tables, and every built-in worker on its suggested schedule; `coarse`, at most
    /// once an hour.
    fn begin(coarse: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.db");
        let retention = Retention::new().fires(Some(DAY * KEPT));
        let builder = Verger::builder(&file).retention(retention).connection_setup(steps::count);
        let test = TestVerger::open(builder, &ManualClock::at(TestVerger::START))
            .unwrap()
            .reference_tables();
        let mut scheduled = Vec::new();
        for worker in test.workers() {
            let manifest = test.manifest(&worker).unwrap();
            let schedule = match manifest.schedule {
                Some(Suggested::Cron(expression)) if coarse && expression.starts_with("*/5 ") => {
                    Schedule::cron(&worker, "2 * * * *")
                }
                Some(Suggested::Cron(expression)) => Schedule::cron(&worker, &expression),
                Some(Suggested::EveryMs(interval)) => {
                    let interval = Duration::from_millis(interval);
                    Schedule::every(&worker, if coarse { interval.max(HOUR) } else { interval })
                }
                None => continue,
            };
            let args = match (manifest.tenant_aware, worker.as_str()) {
                (true, _) => json!({"organization_id": null, "actor_id": null}),
                (false, "cleanup-audit") => json!({"retention_days": KEPT}),
                (false, _) => json!({}),
            };
            test.add_schedule(&schedule.unwrap().worker(&worker).args(args)).unwrap();
            scheduled.push(worker);
        }
        for worker in [
            "cleanup-audit",
            "cleanup-expired-invitations",
            "reconcile-memberships",
            "reconcile-webhook-events",
        ] {
            assert!(scheduled.iter().any(|scheduled| scheduled == worker), "{scheduled:?}");
        }
        Self { _folder: folder, file, test, days: 0 }
    }

    /// One day: rows come, the workers find them over the hours, and what is old goes.
    fn day(&mut self) {
        let (day, now, ms) = (self.days, self.test.now().as_millis(), DAY.as_millis() as i64);
        let numbers =
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 39)";
        self.test.sql(&format!(
            "BEGIN IMMEDIATE;
             {numbers} INSERT INTO organization_invitations (id, organization_id, email, created_at, expires_at, accepted_at)
                SELECT 'i{day}.' || i, 'o' || i % 7, 'someone@example.org', {now}, {now} + 7 * {ms}, iif(i % 4 = 0, {now}, NULL) FROM n;
             {numbers} INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at)
                SELECT 'm{day}.' || i, 'o' || i % 7, 'u' || i, iif(i % 3, 'active', 'suspended'), {now} + i * 3600000, {now}, {now} FROM n;
             {numbers} INSERT INTO deliveries (id, organization_id, provider, provider_message_id, status, created_at, updated_at)
                SELECT 'd{day}.' || i, 'o' || i % 7, 'postmark', 'p{day}.' || i, 'sent', {now}, {now} FROM n;
             {numbers} INSERT INTO webhook_events
                (id, organization_id, type, provider, metadata, needs_reconciliation, occurred_at, inserted_at)
                SELECT 'e{day}.' || i, 'o' || i % 7, 'delivered', 'postmark',
                json_object('provider', 'postmark', 'provider_message_id', iif(i % 10, 'p', 'unknown') || '{day}.' || i), 1, {now}, {now} FROM n;
             DELETE FROM organization_invitations WHERE accepted_at < {now} - 30 * {ms};
             DELETE FROM memberships WHERE updated_at < {now} - 30 * {ms};
             DELETE FROM deliveries WHERE created_at < {now} - 20 * {ms};
             INSERT INTO webhook_events_retention (id, keep_from) VALUES (1, {now} - 20 * {ms})
                ON CONFLICT (id) DO UPDATE SET keep_from = excluded.keep_from;
             DELETE FROM webhook_events WHERE inserted_at < {now} - 20 * {ms};
             COMMIT;",
        ));
        self.test.run_for(DAY);
        self.days += 1;
    }

    /// Lives for so many days: the median of what a day took.
    fn days(&mut self, days: u32) -> Period {
        let mut of_days: Vec<(u64, Duration)> = Vec::new();
        let mut log_bytes = 0;
        for _ in 0..days {
            steps::taken();
            let begun = Instant::now();
            self.day();
            of_days.push((steps::taken(), begun.elapsed()));
            log_bytes = log_bytes.max(size(&self.file.with_extension("db-wal")));
        }
        let middle = |values: Vec<u64>| {
            let mut values = values;
            values.sort_unstable();
            values[values.len() / 2]
        };
        let count = |table: &str| {
            self.test.one::<i64>(&format!("SELECT count(*) FROM {table}")).unsigned_abs()
        };
        let verified = self.test.verify_audit().unwrap();
        Period {
            days: self.days,
            steps: middle(of_days.iter().map(|(steps, _)| *steps).collect()),
            micros: middle(of_days.iter().map(|(_, took)| took.as_micros() as u64).collect()),
            file_bytes: size(&self.file),
            free_pages: self.test.one::<i64>("PRAGMA freelist_count").unsigned_abs(),
            log_bytes,
            resident: resident(),
            jobs: count("verger_jobs"),
            fires: count("verger_fires"),
            audit: verified.rows,
            audit_pruned: verified.pruned,
        }
    }
}

fn size(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |file| file.len())
}

/// Bytes of memory the process has.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// How things stand after some time, and what a day of it took.
#[derive(Debug, Clone, Copy)]
struct Period {
    days: u32,
    steps: u64,
    micros: u64,
    file_bytes: u64,
    free_pages: u64,
    log_bytes: u64,
    resident: u64,
    jobs: u64,
    fires: u64,
    audit: u64,
    audit_pruned: u64,
}

impl Period {
    fn print(&self) {
        println!(
            "day {:5}: a day {:8} steps {:6.1} ms; file {:5} KiB ({:4} pages free), log at most {:6} KiB; resident {:3} MiB; jobs {:5}, ledger {:5}, audit {:5} (+ {} pruned)",
            self.days,
            self.steps,
            self.micros as f64 / 1_000.0,
            self.file_bytes >> 10,
            self.free_pages,
            self.log_bytes >> 10,
            self.resident >> 20,
            self.jobs,
            self.fires,
            self.audit,
            self.audit_pruned,
        );
    }

    /// That nothing grew since then.
    fn is_no_more_than(&self, then: &Self) {
        let bounded = |now: u64, then: u64, factor: f64, slack: u64| {
            assert!(now as f64 <= then as f64 * factor + slack as f64, "{self:?}\n{then:?}")
        };
        bounded(self.steps, then.steps, 1.05, 0);
        bounded(self.file_bytes, then.file_bytes, 1.05, 64 << 10);
        bounded(self.jobs, then.jobs, 1.02, 5);
        bounded(self.fires, then.fires, 1.02, 5);
        bounded(self.audit, then.audit, 1.02, 50);
        bounded(self.resident, then.resident, 1.0, 16 << 20);
        // SQLite's own bound, 4,000 pages by the engine's setting, and what one transaction may add
        // to it.
        bounded(self.log_bytes, 4_000 * 4_120, 1.0, 4 << 20);
        assert!(self.audit_pruned > then.audit_pruned, "retention goes on: {self:?}");
    }
}

/// Lives for so many periods of so many days, after the first of them settled.
fn live(coarse: bool, periods: u32, days: u32) {
    let begun = Instant::now();
    let mut life = Life::begin(coarse);
    life.days(SETTLED).print();
    let first = life.days(days);
    first.print();
    for _ in 1..periods {
        let period = life.days(days);
        period.print();
        period.is_no_more_than(&first);
    }
    let unfinished = life
        .test
        .jobs(&JobFilter::default(), u32::MAX)
        .unwrap()
        .into_iter()
        .find(|job| job.state != JobState::Completed);
    assert_eq!(unfinished, None);
    assert_eq!(life.test.one::<String>("PRAGMA integrity_check"), "ok");
    println!(
        "{} days, {} jobs: {:?}",
        life.days,
        life.test.one::<i64>("SELECT max(id) FROM verger_jobs"),
        begun.elapsed()
    );
}

#[test]
fn nothing_grows_over_a_long_life() {
    if std::env::var_os("VERGER_LONG").is_some() {
        live(true, 10, 365);
        live(false, 4, 73);
    } else {
        live(true, 2, 7);
    }
}
