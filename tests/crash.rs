//! A process is killed at any instant, again and again. Nothing is lost, nothing is done twice, and
//! what was interrupted runs again at once.
//!
//! The processes are this test binary, started again. 30 kills by default; `VERGER_LONG=1 cargo
//! test --release --test crash` makes 2,000.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use common::chronicle::{Dice, Groups, builder, check, enqueue_some, found, open, settle};
use common::processes::Process;
use serde_json::json;
use verger::rusqlite::Connection;
use verger::testing::Failpoint;
use verger::{JobId, JobState, NewJob, Verger};

const FILE: &str = "VERGER_TEST_FILE";
const SEED: &str = "VERGER_TEST_SEED";
const FAILPOINT: &str = "VERGER_TEST_FAILPOINT";

/// Kills on one file before the next is begun: the books are read after each.
const KILLS_A_FILE: u64 = 50;

/// How soon an interrupted job runs again, on however busy a machine; the run says how soon it was.
const AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// Not a test of its own: the life of the process that is killed.
#[test]
#[ignore = "a process of its own, which the tests here start"]
fn live_until_killed() {
    let file = std::env::var_os(FILE).unwrap();
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    if let Ok(place) = std::env::var(FAILPOINT) {
        let (place, nth) = place.split_once(' ').unwrap();
        Failpoint::ALL
            .into_iter()
            .find(|failpoint| format!("{failpoint:?}") == place)
            .unwrap()
            .abort_at(nth.parse().unwrap());
    }
    let verger = Groups::told().set(builder(Path::new(&file))).open().unwrap();
    let mut app = verger.connect().unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\nready").unwrap();
    let _ticking = verger.start().unwrap();
    let (mut dice, mut number) = (Dice::new(seed), 0);
    loop {
        let tags = enqueue_some(&verger, &mut app, &mut dice, seed, &mut number);
        tags.iter().for_each(|tag| writeln!(out, "told {tag}").unwrap());
        let waiting = |what: &str| -> i64 {
            let count =
                format!("SELECT count(*) FROM verger_jobs WHERE finished_at IS NULL AND {what}");
            app.query_row(&count, [], |row| row.get(0)).unwrap()
        };
        std::thread::sleep(Duration::from_micros(if waiting("TRUE") > 40 {
            20_000
        } else {
            dice.below(2_500)
        }));
        // A slow machine does not fall behind without end: each job waits for those before it.
        while waiting(&format!("due_at <= {}", verger.now().as_millis())) > 100 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A file, what was acknowledged on it, and how it went.
struct Life {
    folder: tempfile::TempDir,
    groups: Groups,
    told: BTreeSet<String>,
    dice: Dice,
    interrupted: usize,
    longest: Duration,
}

impl Life {
    fn begin(seed: u64, groups: Groups) -> Self {
        let folder = tempfile::tempdir().unwrap();
        found(&folder.path().join("app.db"));
        Self {
            folder,
            groups,
            told: BTreeSet::new(),
            dice: Dice::new(seed),
            interrupted: 0,
            longest: Duration::ZERO,
        }
    }

    fn start(&self, seed: u64, failpoint: Option<String>) -> Process {
        let file = self.folder.path().join("app.db");
        let mut variables = vec![
            (FILE, file.display().to_string()),
            (SEED, seed.to_string()),
            (Groups::VARIABLE, format!("{:?}", self.groups)),
        ];
        variables.extend(failpoint.map(|place| (FAILPOINT, place)));
        Process::start("live_until_killed", &variables)
    }

    fn heard(&mut self, lines: Vec<String>) {
        self.told
            .extend(lines.iter().filter_map(|line| line.strip_prefix("told ")).map(str::to_string));
    }

    /// Reads the books as the dead process left them, opens the file, and lets what was interrupted
    /// run.
    fn reopen(&mut self) -> (Verger, Connection) {
        let file = self.folder.path().join("app.db");
        let app = open(&file);
        app.busy_timeout(Duration::from_secs(10)).unwrap();
        let migrated: bool = app
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'verger_jobs'", [], |row| {
                row.get(0)
            })
            .unwrap();
        let mut interrupted = Vec::new();
        if migrated {
            check(&app, &self.told);
            let mut select = app
                .prepare(
                    "SELECT id FROM verger_jobs WHERE state = 'executing' AND worker <> 'poison'",
                )
                .unwrap();
            interrupted = select
                .query_map([], |row| row.get(0))
                .unwrap()
                .map(|id| JobId::from_number(id.unwrap()))
                .collect();
        }
        let begun = Instant::now();
        let verger = self.groups.set(builder(&file)).open().unwrap();
        let executing: i64 = app
            .query_row("SELECT count(*) FROM verger_jobs WHERE state = 'executing'", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(executing, 0, "whoever held them is dead");
        verger.verify_audit().unwrap();
        self.interrupted += interrupted.len();
        while !interrupted.is_empty() {
            let report = verger.tick(verger.now()).unwrap();
            interrupted.retain(|id| !report.attempts.iter().any(|attempt| attempt.job == *id));
            // A crash may have been the last attempt there was.
            interrupted.retain(|id| verger.job(*id).unwrap().unwrap().state != JobState::Discarded);
            assert!(
                begun.elapsed() < AGAIN_WITHIN,
                "{interrupted:?} did not run again within {AGAIN_WITHIN:?}"
            );
        }
        self.longest = self.longest.max(begun.elapsed());
        (verger, app)
    }
}

#[test]
fn kills_at_any_instant_lose_nothing_and_double_nothing() {
    kills(Groups::On);
}

#[test]
fn kills_among_jobs_that_share_transactions_lose_nothing_and_double_nothing() {
    kills(Groups::Always);
}

#[test]
fn kills_among_jobs_with_a_commit_each_lose_nothing_and_double_nothing() {
    kills(Groups::Off);
}

fn kills(groups: Groups) {
    let kills = if std::env::var_os("VERGER_LONG").is_some() { 2_000 } else { 30 };
    let begun = Instant::now();
    let (mut interrupted, mut longest, mut jobs, mut effects, mut crashed, mut told) =
        (0, Duration::ZERO, 0, 0, 0, 0);
    for first in (0..kills).step_by(KILLS_A_FILE as usize) {
        let mut life = Life::begin(first + 1, groups);
        for kill in first..first + KILLS_A_FILE.min(kills - first) {
            let process = life.start(kill, None);
            // Some while they open the file, most in the middle of things.
            if life.dice.below(6) > 0 {
                assert!(process.hear("ready", Duration::from_secs(30)).is_some());
            }
            std::thread::sleep(Duration::from_micros(life.dice.below(60_000)));
            let lines = process.kill();
            life.heard(lines);
            drop(life.reopen());
        }
        let (verger, app) = life.reopen();
        let books = settle(&verger, &app, &life.told);
        (interrupted, longest) = (interrupted + life.interrupted, longest.max(life.longest));
        (jobs, effects, crashed, told) = (
            jobs + books.jobs,
            effects + books.effects,
            crashed + books.crashed_attempts,
            told + life.told.len(),
        );
        if kills > KILLS_A_FILE {
            println!("{} kills, {jobs} jobs, {:.0?}", first + KILLS_A_FILE, begun.elapsed());
        }
    }
    println!(
        "groups {groups:?}: {kills} kills in {:.1?}: {jobs} jobs ({told} acknowledged) and {effects} effects, {interrupted} jobs held when their process died, \
         {crashed} attempts counted as crashed; all ran again within {longest:.0?}",
        begun.elapsed()
    );
    assert!(interrupted > 0 && crashed > 0);
}

#[test]
fn a_crash_at_any_step_of_an_attempt_loses_nothing_and_doubles_nothing() {
    for (place, groups) in
        Failpoint::ALL.into_iter().flat_map(|place| Groups::ALL.map(|groups| (place, groups)))
    {
        let mut life = Life::begin(7, groups);
        for (seed, nth) in [(1, 1), (2, 4), (3, 13)] {
            let process = life.start(seed, Some(format!("{place:?} {nth}")));
            let (status, lines) = process.end(Duration::from_secs(30));
            assert!(!status.success());
            life.heard(lines);
            let (verger, _) = life.reopen();
            drop(verger);
        }
        let (verger, app) = life.reopen();
        let books = settle(&verger, &app, &life.told);
        assert!(books.jobs >= 10, "{place:?}, groups {groups:?}: {books:?}");
        match place {
            // It was over and done with.
            Failpoint::AfterCommit => {}
            _ => assert!(books.crashed_attempts >= 3, "{place:?}, groups {groups:?}: {books:?}"),
        }
    }
}

#[test]
fn a_job_that_kills_its_process_ends_discarded_and_the_others_go_on() {
    let mut life = Life::begin(9, Groups::On);
    let (verger, app) = life.reopen();
    let poison = verger.enqueue(NewJob::new("poison", json!({})).max_attempts(3)).unwrap().id;
    drop((verger, app));
    for attempt in 1..=3 {
        let (status, lines) = life.start(attempt, None).end(Duration::from_secs(30));
        assert!(!status.success());
        life.heard(lines);
        let app = open(&life.folder.path().join("app.db"));
        check(&app, &life.told);
        let attempts: i64 = app
            .query_row("SELECT attempt FROM verger_jobs WHERE worker = 'poison'", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(attempts, i64::try_from(attempt).unwrap());
    }
    let (verger, app) = life.reopen();
    let job = verger.job(poison).unwrap().unwrap();
    assert_eq!(job.state, JobState::Discarded);
    assert_eq!(
        job.errors.iter().map(|error| error.code.as_str()).collect::<Vec<_>>(),
        ["crashed"; 3]
    );
    settle(&verger, &app, &life.told);
}

/// Not a test of its own: one tick in which the process ends, unless nothing ends it.
#[test]
#[ignore = "a process of its own, which the tests here start"]
fn tick_once() {
    let file = std::env::var_os(FILE).unwrap();
    let verger = Groups::told().set(builder(Path::new(&file))).open().unwrap();
    verger.tick(verger.now()).unwrap();
}

#[test]
fn of_jobs_that_died_together_the_first_one_counts_the_crash_and_then_whoever_kills_is_found() {
    let mut life = Life::begin(13, Groups::Always);
    let (verger, app) = life.reopen();
    let jobs: Vec<_> = (0..8)
        .map(|n| match n {
            3 => NewJob::new("poison", json!({})).max_attempts(2),
            _ => NewJob::new("chronicler", json!({"tag": format!("plain:{n}")})),
        })
        .collect();
    let jobs = verger.enqueue_all(jobs).unwrap();
    for schedule in ["often", "alone"] {
        verger.pause_schedule(schedule).unwrap();
    }
    drop((verger, app));
    let file = life.folder.path().join("app.db");
    let tick = |groups: Groups| {
        let variables =
            [(FILE, file.display().to_string()), (Groups::VARIABLE, format!("{groups:?}"))];
        Process::start("tick_once", &variables).end(Duration::from_secs(30)).0
    };
    assert!(!tick(Groups::Always).success());
    let app = open(&file);
    let attempts = || {
        let mut select = app
            .prepare("SELECT state, attempt FROM verger_jobs WHERE schedule IS NULL ORDER BY id")
            .unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().collect::<Result<Vec<(String, i64)>, _>>().unwrap()
    };
    let held: Vec<_> = attempts().into_iter().filter(|(state, _)| state == "executing").collect();
    assert_eq!(held.len(), 1, "one claim outlived the process: {:?}", attempts());
    let effects: i64 = app.query_row("SELECT count(*) FROM things", [], |row| row.get(0)).unwrap();
    let completed = attempts().iter().filter(|(state, _)| state == "completed").count();
    assert_eq!(effects, completed as i64, "what was not committed left something");
    // From now on each is by itself, and it is the poison that crashes.
    let mut deaths = 1;
    while !tick(Groups::On).success() {
        deaths += 1;
        assert_eq!(attempts()[3].0, "executing", "{:?}", attempts());
        assert!(deaths <= 3, "{:?}", attempts());
    }
    let (verger, app) = life.reopen();
    assert_eq!(verger.job(jobs[3].id).unwrap().unwrap().state, JobState::Discarded);
    let books = settle(&verger, &app, &life.told);
    // Of the others at most the one that was the first of those that died.
    assert!(books.crashed_attempts <= 1, "{books:?}");
}

#[test]
fn the_books_notice_what_is_lost_doubled_or_half_done() {
    let mut life = Life::begin(11, Groups::On);
    let process = life.start(11, None);
    assert!(process.hear("ready", Duration::from_secs(30)).is_some());
    std::thread::sleep(Duration::from_millis(400));
    // The slot that is to lose its job is there.
    let app = open(&life.folder.path().join("app.db"));
    let slots = "SELECT count(*) FROM verger_fires WHERE job IS NOT NULL";
    let begun = Instant::now();
    while app.query_row(slots, [], |row| row.get::<_, i64>(0)).unwrap() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "no slot has a job");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(app);
    let lines = process.kill();
    life.heard(lines);
    let (verger, app) = life.reopen();
    settle(&verger, &app, &life.told);
    drop(verger);
    let plain = "(SELECT args ->> '$.tag' FROM verger_jobs WHERE state = 'completed' AND args ->> '$.tag' LIKE 'plain:%' LIMIT 1)";
    let unguarded = "DROP TRIGGER verger_audit_no_delete; ";
    for (what, sql) in [
        ("an effect twice", format!("INSERT INTO things (name, value) SELECT {plain}, 0")),
        ("an effect lost", format!("DELETE FROM things WHERE name = {plain}")),
        (
            "an effect of a job that failed",
            "UPDATE verger_jobs SET state = 'discarded' WHERE args ->> '$.tag' LIKE 'plain:%'"
                .into(),
        ),
        (
            "an audit row lost",
            format!("{unguarded}DELETE FROM verger_audit WHERE subject_id = {plain}"),
        ),
        (
            "a job lost with its effect",
            format!(
                "{unguarded}DELETE FROM verger_audit WHERE subject_id = {plain}; DELETE FROM things WHERE name = {plain}; DELETE FROM verger_jobs WHERE args ->> '$.tag' = {plain}"
            ),
        ),
        (
            "a job twice",
            format!(
                "INSERT INTO verger_jobs (worker, queue, priority, state, args, tenant_aware, due_at, max_attempts, created_at) SELECT worker, queue, priority, 'available', args, 0, 0, 1, 0 FROM verger_jobs WHERE args ->> '$.tag' = {plain}"
            ),
        ),
        ("an order without its job", "INSERT INTO orders (tag) VALUES ('ordered-x')".into()),
        (
            "a slot without its job",
            "UPDATE verger_fires SET job = 1000000 WHERE job IS NOT NULL".into(),
        ),
    ] {
        app.execute_batch("SAVEPOINT tampering").unwrap();
        app.execute_batch(&sql).unwrap();
        let noticed = catch_unwind(AssertUnwindSafe(|| check(&app, &life.told))).is_err();
        app.execute_batch("ROLLBACK TO tampering; RELEASE tampering").unwrap();
        assert!(noticed, "{what} was not noticed");
    }
    check(&app, &life.told);
}
