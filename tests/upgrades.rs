//! Files of every released version open, with everything in them. A file of a newer version is
//! refused and left as it is.
//!
//! `tests/fixtures/VERSION.db` is what that version wrote. Each release makes its own, once, before
//! its schema is final for ever: `cargo test --test upgrades make_the_fixture_of_this_version --
//! --ignored`
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::prelude::*;
use verger::{
    AttemptOutcome, Builder, JobId, JobState, MigrationError, NewJob, OpenError, Schedule,
    SlotOutcome, Verger,
};

/// Every released version, this one included.
const VERSIONS: [&str; 1] = ["0.1.0"];

struct Does;

impl Worker for Does {
    fn manifest(&self) -> Manifest {
        Manifest::new("does", "1.0.0").tenant_aware().arg("how", ArgSpec::default_value("well"))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        job.audit(
            AuditEvent::success("thing.done")
                .subject("thing", "1")
                .metadata(json!({"how": args.get::<String>("how")?})),
        )?;
        Ok(match args.get::<String>("how")?.as_str() {
            "badly" => Outcome::Failed(WorkerError::new("as it was told")),
            "later" => Outcome::Snooze(3_600),
            "never" => Outcome::Cancel("as it was told".into()),
            _ => Outcome::DoneWith(json!({"done": 1})),
        })
    }
}

fn fixture(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format!("{version}.db"))
}

fn builder(file: &Path) -> Builder {
    let hourly = Schedule::cron("hourly", "0 * * * *")
        .unwrap()
        .time_zone("Europe/Berlin")
        .unwrap()
        .worker("does")
        .args(args("well"));
    Verger::builder(file).worker(Does).schedule(hourly)
}

fn args(how: &str) -> Json {
    json!({"organization_id": "acme", "actor_id": "u1", "how": how})
}

fn job(how: &str) -> NewJob {
    NewJob::new("does", args(how)).max_attempts(2)
}

/// In the fixture, by id: four that are over (the last of them the schedule's), one put off, one
/// that failed once, one snoozed, one due, one unique, and one claimed by a process that died.
const JOBS: [(JobState, u32); 10] = [
    (JobState::Completed, 1),
    (JobState::Discarded, 2),
    (JobState::Cancelled, 1),
    (JobState::Completed, 1),
    (JobState::Scheduled, 0),
    (JobState::Retryable, 1),
    (JobState::Scheduled, 0),
    (JobState::Available, 0),
    (JobState::Available, 0),
    (JobState::Executing, 1),
];

#[test]
#[ignore = "writes into tests/fixtures: started by name when the schema changes"]
fn make_the_fixture_of_this_version() {
    let file = fixture(env!("CARGO_PKG_VERSION"));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let _ = std::fs::remove_file(&file);
    let test = TestVerger::open(builder(&file), &ManualClock::at(TestVerger::START))
        .unwrap()
        .reference_tables();
    test.audit(&AuditEvent::success("app.started")).unwrap();
    test.clock().advance(Duration::from_secs(3 * 86_400));
    test.cleanup_audit(Some(1)).unwrap();
    test.enqueue(job("well")).unwrap();
    let badly = test.enqueue(job("badly")).unwrap().id;
    test.enqueue(job("never")).unwrap();
    test.drain();
    test.clock().advance(Duration::from_secs(60));
    test.drain();
    assert_eq!(test.job(badly).unwrap().unwrap().state, JobState::Discarded);
    test.enqueue(job("well").after(Duration::from_secs(86_400)).queue("mail").priority(2)).unwrap();
    test.enqueue(job("badly")).unwrap();
    test.enqueue(job("later")).unwrap();
    test.tick(test.now()).unwrap();
    test.enqueue(job("well").queue("paused")).unwrap();
    test.enqueue(job("unique").queue("paused").unique()).unwrap();
    test.pause_queue("paused").unwrap();
    test.enqueue(job("well")).unwrap();
    let now = test.now().as_millis();
    // As a process that died in the middle of it would leave it.
    test.sql(&format!(
        "UPDATE verger_jobs SET state = 'executing', attempt = 1, token = 1, claimed_by = 'dead', attempted_at = {now}, lease_until = {now} + 120000
         WHERE id = (SELECT max(id) FROM verger_jobs); PRAGMA wal_checkpoint(TRUNCATE); VACUUM; PRAGMA wal_checkpoint(TRUNCATE);"
    ));
    drop(test);
    let _ = std::fs::remove_file(file.with_extension("db-verger"));
}

/// A copy of a fixture in a folder of its own.
fn copy(version: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    std::fs::copy(fixture(version), &file).unwrap();
    (folder, file)
}

/// Statements that make the engine's tables, without their comments and spaces.
fn schema(file: &Path) -> BTreeMap<String, String> {
    let app = Connection::open(file).unwrap();
    let mut select = app
        .prepare(
            "SELECT name, sql FROM sqlite_schema WHERE name LIKE 'verger_%' AND sql IS NOT NULL",
        )
        .unwrap();
    let rows = select
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .unwrap();
    let plain = |sql: String| {
        let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
        lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
    };
    rows.map(Result::unwrap).map(|(name, sql)| (name, plain(sql))).collect()
}

fn open(file: &Path) -> TestVerger {
    TestVerger::open(
        builder(file),
        &ManualClock::at(TestVerger::START + Duration::from_secs(3 * 86_400 + 600)),
    )
    .unwrap()
}

#[test]
fn a_file_of_every_version_opens_with_everything_in_it_and_goes_on() {
    for version in VERSIONS {
        let (_folder, file) = copy(version);
        let before = Connection::open(&file).unwrap();
        let states: Vec<String> = before
            .prepare("SELECT state || ' ' || attempt FROM verger_jobs ORDER BY id")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            states,
            JOBS.map(|(state, attempt)| format!("{} {attempt}", state.as_str())),
            "{version}"
        );
        drop(before);

        let test = open(&file);
        let job = |id| test.job(JobId::from_number(id)).unwrap().unwrap();
        assert_eq!(job(1).result, Some(json!({"done": 1})));
        assert_eq!(
            job(2).errors.iter().map(|error| error.code.as_str()).collect::<Vec<_>>(),
            ["failed", "failed"]
        );
        assert_eq!((job(5).queue.as_str(), job(5).priority), ("mail", 2));
        assert_eq!(job(7).snoozes, 1);
        assert_eq!(
            (job(10).state, job(10).errors[0].code.as_str()),
            (JobState::Retryable, "crashed"),
            "nobody else has the file open"
        );
        let verified = test.verify_audit().unwrap();
        assert_eq!(verified.pruned, 1);
        assert_eq!(test.schedules().unwrap().len(), 1);
        assert_eq!(test.paused_queues().unwrap(), ["paused"]);

        let report = test.drain();
        assert!(
            report.attempts.iter().any(|attempt| attempt.job == JobId::from_number(10)),
            "{report:?}"
        );
        assert!(
            report
                .attempts
                .iter()
                .all(|attempt| !matches!(attempt.outcome, AttemptOutcome::Lost(_)))
        );
        let unique =
            test.enqueue(NewJob::new("does", args("unique")).queue("paused").unique()).unwrap();
        assert_eq!((unique.id.number(), unique.existing), (9, true));
        test.resume_queue("paused").unwrap();
        test.run_for(Duration::from_secs(86_400));
        assert!((1..=10).all(|id| {
            [JobState::Completed, JobState::Discarded, JobState::Cancelled, JobState::Scheduled]
                .contains(&job(id).state)
        }));
        assert_eq!(
            test.fires("hourly", 100)
                .unwrap()
                .iter()
                .filter(|line| line.outcome == SlotOutcome::Enqueued)
                .count(),
            24
        );
        assert!(test.verify_audit().unwrap().rows > verified.rows);
        assert_eq!(test.one::<String>("PRAGMA integrity_check"), "ok");
    }
}

#[test]
fn after_an_upgrade_the_schema_is_that_of_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new.db");
    drop(open(&new));
    for version in VERSIONS {
        let (_folder, file) = copy(version);
        drop(open(&file));
        assert_eq!(
            schema(&file),
            schema(&new),
            "a migration is missing, or the fixture of an unreleased version is out of date ({version})"
        );
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_not_a_byte_of_it_changes() {
    let (folder, file) = copy(env!("CARGO_PKG_VERSION"));
    let app = Connection::open(&file).unwrap();
    app.execute_batch(
        "INSERT INTO verger_migrations (set_name, version, name, applied_at) VALUES ('engine', 99, 'from the future', 0);
         CREATE TABLE verger_from_the_future (x); PRAGMA wal_checkpoint(TRUNCATE);",
    )
    .unwrap();
    drop(app);
    let before = std::fs::read(&file).unwrap();
    for builder in [builder(&file), builder(&file).read_only()] {
        match builder.open().map(drop).unwrap_err() {
            OpenError::Migration { source: MigrationError::Newer { found: 99, .. }, .. } => {}
            other => panic!("{other:?}"),
        }
        assert!(std::fs::read(&file).unwrap() == before);
        let log = std::fs::metadata(file.with_extension("db-wal")).map_or(0, |log| log.len());
        assert_eq!(log, 0, "nothing waits to be written into it");
        assert!(!folder.path().join("app.db-verger").exists());
    }
}
