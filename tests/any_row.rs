//! Whatever someone wrote into any column of any table of the engine's, either a constraint refuses
//! it, or that one row is shown as far as it can be read, and all the rest goes on.
//!
//! The columns are read from the schema, so that a new one is covered too.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::time::Duration;

use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;
use verger::{AuditFilter, ChainError, EventPosition, JobFilter, JobState, NewJob, Schedule};

struct Does;

impl Worker for Does {
    fn manifest(&self) -> Manifest {
        Manifest::new("does", "1.0.0")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        job.audit(AuditEvent::success("thing.done"))?;
        job.log(LogLevel::Info, "done");
        Ok(Outcome::Done)
    }
}

const VALUES: [&str; 15] = [
    "NULL",
    "''",
    "CAST(x'417566747261e4' AS TEXT)",
    "CAST(x'00ff00' AS TEXT)",
    "x'00ff'",
    "'nobody knows this word'",
    "'{\"no\": json'",
    "'[\"boom\"]'",
    "0",
    "-1",
    "3000000000000",
    "9223372036854775807",
    "-9223372036854775808",
    "1.5",
    "'é\u{1b}[31m'",
];

/// A Verger with a row in every table: a schedule, its ledger, jobs in several states, audit.
fn filled() -> TestVerger {
    let schedule = Schedule::cron("hurt", "0 * * * *").unwrap().worker("does");
    let test = TestVerger::with(|builder| {
        let builder = builder.without_built_ins().worker(Does).schedule(schedule.clone());
        builder.schedule(Schedule::cron("good", "0 * * * *").unwrap().worker("does"))
    });
    test.run_for(Duration::from_secs(3_600));
    test.pause_queue("paused").unwrap();
    test.enqueue(NewJob::new("does", json!({})).after(Duration::from_secs(60)).unique()).unwrap();
    test
}

/// The row of a table that is hurt.
fn hurt_row(table: &str) -> &'static str {
    match table {
        "verger_jobs" => "id = (SELECT max(id) FROM verger_jobs)",
        "verger_schedules" => "name = 'hurt'",
        "verger_fires" | "verger_registrations" => "schedule = 'hurt'",
        _ => "true",
    }
}

fn columns(test: &TestVerger) -> Vec<(String, String)> {
    let rows = test.rows(
        "SELECT m.name AS t, c.name AS c FROM sqlite_schema m JOIN pragma_table_info(m.name) c \
         WHERE m.type = 'table' AND m.name LIKE 'verger_%' AND m.name <> 'verger_migrations' ORDER BY 1, 2",
    );
    let text = |row: &Json, key: &str| row[key].as_str().unwrap().to_string();
    rows.iter().map(|row| (text(row, "t"), text(row, "c"))).collect()
}

/// Everything that reads, and that jobs and schedules go on.
fn goes_on(test: &TestVerger, what: &str) {
    let now = test.now();
    test.tick(now).unwrap_or_else(|error| panic!("{what}: {error}"));
    test.clock().advance(Duration::from_secs(3_600));
    let before = test.fires("good", 1_000).unwrap().len();
    let id = test.enqueue(NewJob::new("does", json!({})).queue("mine")).unwrap().id;
    for _ in 0..20 {
        test.tick(test.now()).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    assert_eq!(test.job(id).unwrap().unwrap().state, JobState::Completed, "{what}");
    assert!(test.fires("good", 1_000).unwrap().len() > before, "{what}");
    for id in 1..9 {
        test.job(verger::JobId::from_number(id)).unwrap();
        test.job_log(verger::JobId::from_number(id)).unwrap();
    }
    assert!(!test.events_since(EventPosition::START, 1_000).unwrap().is_empty(), "{what}");
    for filter in ["tag=a", "organization=a", "args.a.b=1", "error~x", "state=discarded"] {
        test.jobs(&filter.parse().unwrap(), 10).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    assert!(test.jobs(&JobFilter::new(), 1_000).unwrap().len() > 2, "{what}");
    assert_eq!(test.schedules().unwrap().len(), 2, "{what}");
    assert!(!test.queues().unwrap().is_empty(), "{what}");
    test.paused_queues().unwrap();
    test.fires("hurt", 1_000).unwrap();
    test.explain("hurt", now).unwrap();
    assert!(!test.audit_log(&AuditFilter::default(), 1_000).unwrap().is_empty(), "{what}");
    match test.verify_audit() {
        Ok(_) | Err(ChainError::Broken { .. } | ChainError::Missing { .. }) => {}
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn a_bad_value_in_any_column_stops_nothing_else() {
    let all = columns(&filled());
    assert!(all.len() > 70, "{all:?}");
    for (table, column) in &all {
        // The memory of the audit log's ends is the log's own business: see tests/audit/.
        if table.starts_with("verger_audit") {
            continue;
        }
        for value in VALUES {
            let test = filled();
            let what = format!("{table}.{column} = {value}");
            let sql = format!("UPDATE {table} SET {column} = {value} WHERE {}", hurt_row(table));
            match test.connection().execute_batch(&sql) {
                Ok(()) => {}
                Err(error) => {
                    let text = error.to_string();
                    let is_clear = ["constraint", "cannot store", "malformed JSON", "mismatch"]
                        .iter()
                        .any(|word| text.contains(word));
                    assert!(is_clear, "{what}: {text}");
                    continue;
                }
            }
            if (table, column) == (&"verger_schedules".to_string(), &"name".to_string()) {
                test.sql("DELETE FROM verger_registrations WHERE schedule = 'hurt'");
            }
            goes_on(&test, &what);
        }
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_column_and_the_reason() {
    let test = filled();
    let latin = "CAST(x'417566747261e4' AS TEXT)";
    test.sql(&format!(
        "UPDATE verger_jobs SET schedule = {latin} WHERE id = 1;
         UPDATE verger_fires SET reason = {latin} WHERE schedule = 'hurt';
         UPDATE verger_schedules SET args = '{{\"a\": \"' || {latin} || '\"}}' WHERE name = 'hurt';
         UPDATE verger_queues SET name = {latin}"
    ));
    let named = |unreadable: &[verger::Unreadable], column: &str| {
        assert_eq!(unreadable.len(), 1, "{unreadable:?}");
        assert_eq!((unreadable[0].column, unreadable[0].why.as_str()), (column, "it is no UTF-8"));
    };
    named(&test.job(verger::JobId::from_number(1)).unwrap().unwrap().unreadable, "schedule");
    named(&test.fires("hurt", 1).unwrap()[0].unreadable, "reason");
    named(&test.schedules().unwrap()[1].unreadable, "args");
    let queues = test.queues().unwrap();
    named(&queues.iter().find(|queue| queue.paused).unwrap().unreadable, "name");
    test.run_for(Duration::from_secs(3_600));
    let line = test.fires("hurt", 1).unwrap().remove(0);
    assert!(line.reason.unwrap().to_string().contains("its column args cannot be read"));
}

#[test]
fn a_waiting_job_whose_queue_or_worker_is_no_text_is_set_aside_with_the_reason() {
    for column in ["queue", "worker"] {
        let test = filled();
        test.sql(&format!(
            "UPDATE verger_jobs SET {column} = CAST(x'41e4' AS TEXT) WHERE finished_at IS NULL"
        ));
        test.tick(test.now()).unwrap();
        let job = test.jobs(&JobFilter::new(), 1).unwrap().remove(0);
        assert_eq!((job.state, job.errors[0].code.as_str()), (JobState::Discarded, "unreadable"));
        assert!(job.errors[0].message.contains(column), "{:?}", job.errors);
        assert_eq!(job.attempt, 0);
    }
}

#[test]
fn a_row_that_cannot_be_deleted_keeps_no_other_from_going() {
    let test = filled();
    test.sql(
        "PRAGMA foreign_keys = ON;
         CREATE TABLE mine (job INTEGER REFERENCES verger_jobs (id) DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO mine VALUES (1)",
    );
    test.run_for(Duration::from_secs(40 * 86_400));
    let first = test.one::<i64>("SELECT min(id) FROM verger_jobs WHERE id > 1");
    assert!(first > 2, "the others went: {first}");
    assert_eq!(test.one::<i64>("SELECT count(*) FROM verger_jobs WHERE id = 1"), 1);
}
