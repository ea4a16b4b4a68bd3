//! Jobs beside Litestream: what it has copied opens elsewhere and goes on, and neither disturbs the
//! other.
//!
//! `tests/litestream/install` fetches Litestream. Where it is not there, the tests say that they
//! were skipped, unless `VERGER_LITESTREAM=require`.
//! It cannot read a file that SQLCipher encrypts.
#![cfg(all(unix, not(feature = "sqlcipher")))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and says what it skips"
)]

#[path = "../common/mod.rs"]
mod common;
mod streaming;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::chronicle::{Dice, check, enqueue_some, open, settle};
use streaming::{FILE, PATIENCE, SEED, Site, builder, litestream, nap};
use verger::rusqlite::Connection;
use verger::{Clock, Doctor, SystemClock, Timestamp, Verger};

const EXECUTING: &str = "SELECT count(*) FROM verger_jobs WHERE state = 'executing'";

/// A machine on which it is an hour later.
struct Later;

impl Clock for Later {
    fn now(&self) -> Timestamp {
        SystemClock.now() + Duration::from_secs(3_600)
    }
}

/// Not a test of its own: the life of the process that is killed.
#[test]
#[ignore = "a process of its own, which the tests here start"]
fn live_until_killed() {
    let file = PathBuf::from(std::env::var_os(FILE).unwrap());
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let verger = builder(&file, false).open().unwrap();
    let mut app = verger.connect().unwrap();
    let _ticking = verger.start().unwrap();
    verger.enqueue(nap()).unwrap();
    // A job is under way and a slot is decided, whenever the end comes.
    let sleeping =
        "SELECT count(*) FROM verger_jobs WHERE worker = 'sleeper' AND state = 'executing'";
    while one(&app, sleeping) == 0
        || one(&app, "SELECT count(*) FROM verger_fires WHERE schedule = 'often'") == 0
    {
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut out = std::io::stdout();
    writeln!(out, "\nready").unwrap();
    let (mut dice, mut number) = (Dice::new(seed), 0);
    loop {
        let tags = enqueue_some(&verger, &mut app, &mut dice, seed, &mut number);
        tags.iter().for_each(|tag| writeln!(out, "told {tag}").unwrap());
        std::thread::sleep(Duration::from_millis(3 + dice.below(10)));
    }
}

fn one(app: &Connection, sql: &str) -> i64 {
    app.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn told(lines: &[String]) -> BTreeSet<String> {
    lines.iter().filter_map(|line| line.strip_prefix("told ")).map(str::to_string).collect()
}

/// The one job that was executing when its process died runs again, and has its effect once.
fn wakes(verger: &Verger, app: &Connection, naps: i64) {
    let begun = Instant::now();
    while one(
        app,
        "SELECT count(*) FROM verger_jobs WHERE worker = 'sleeper' AND finished_at IS NULL",
    ) > 0
    {
        verger.tick(verger.now()).unwrap();
        assert!(begun.elapsed() < PATIENCE, "it does not run again");
    }
    let crashed = "SELECT count(*) FROM verger_jobs WHERE worker = 'sleeper' AND state = 'completed' \
                   AND errors ->> '$[0].code' = 'crashed' AND json_array_length(errors) = 1";
    assert_eq!(one(app, crashed), naps);
    assert_eq!(one(app, "SELECT count(DISTINCT job) FROM naps"), naps);
    assert_eq!(one(app, "SELECT count(*) FROM naps"), naps);
}

/// A machine that is lost in the middle of things, and what arrived elsewhere.
fn lost(litestream: PathBuf, seed: u64, pieces: usize) -> (Site, PathBuf, BTreeSet<String>) {
    let site = Site::new(litestream);
    let process = site.live(seed);
    let streaming = site.stream("app.db", "replica");
    site.arrived("replica", pieces);
    let told = told(&process.kill());
    drop(streaming);
    let copy = site.restore("replica", "copy.db");
    (site, copy, told)
}

#[test]
fn what_litestream_restores_verifies_to_its_end_and_goes_on() {
    let Some(litestream) = litestream() else { return };
    let (site, copy, told) = lost(litestream, 1, 8);

    // The copy is whole, and each job in it has exactly the effects of its state.
    let app = open(&copy);
    app.busy_timeout(PATIENCE).unwrap();
    let books = check(&app, &BTreeSet::new());
    assert!(books.jobs > 20 && books.effects > 20, "{books:?}");
    // It is an earlier instant of the file: the same audit rows up to its end, and no others.
    app.execute("ATTACH ?1 AS lost", [site.path("app.db").to_str().unwrap()]).unwrap();
    let strange = "SELECT count(*) FROM (SELECT * FROM main.verger_audit EXCEPT SELECT * FROM lost.verger_audit)";
    assert_eq!(one(&app, strange), 0);
    let behind = one(&app, "SELECT count(*) FROM lost.verger_audit")
        - one(&app, "SELECT count(*) FROM main.verger_audit");
    let completed = one(&app, "SELECT count(*) FROM verger_jobs WHERE state = 'completed'");
    app.execute_batch("DETACH lost").unwrap();
    let last_slot = one(&app, "SELECT max(slot) FROM verger_fires WHERE schedule = 'often'");
    println!(
        "{} jobs were enqueued; the copy has {}, {completed} of them completed, and lacks the last {behind} rows of the audit log",
        told.len(),
        books.jobs
    );

    let doctor = Doctor::new(&copy).compile_cache(verger::CompileCache::Off).examine();
    let said = doctor.findings.iter().find(|finding| finding.code == "litestream").unwrap();
    assert!(said.message.contains("a copy that was restored"), "{said:?}");

    assert_eq!(
        one(&app, "SELECT state = 'executing' FROM verger_jobs WHERE worker = 'sleeper'"),
        1
    );
    // Nobody has the copy open, so whoever held its jobs is dead.
    drop(app);
    let verger = builder(&copy, true).clock(Later).open().unwrap();
    let app = open(&copy);
    app.busy_timeout(PATIENCE).unwrap();
    assert_eq!(one(&app, EXECUTING), 0);
    let rows = one(&app, "SELECT count(*) FROM verger_audit");
    assert_eq!(verger.verify_audit().unwrap().rows, rows.unsigned_abs());
    verger.tick(verger.now()).unwrap();
    slots_are_made_up_for(&app, last_slot);
    wakes(&verger, &app, 1);
    let settled = settle(&verger, &app, &BTreeSet::new());
    assert!(settled.jobs >= books.jobs + 3, "{settled:?}");
}

/// Of the hour that nobody was there, three slots made jobs, one line stands for the others, and
/// none was decided twice.
fn slots_are_made_up_for(app: &Connection, last: i64) {
    let after = format!("FROM verger_fires WHERE schedule = 'often' AND slot > {last}");
    let newest = one(app, &format!("SELECT max(slot) {after}"));
    assert!(newest - last > 3_500_000);
    assert_eq!(one(app, &format!("SELECT sum(1 + missed) {after}")), (newest - last) / 1_000);
    let first = format!("{after} AND fired_at = (SELECT min(fired_at) {after})");
    assert_eq!(one(app, &format!("SELECT count(*) {first} AND outcome = 'enqueued'")), 3);
    assert_eq!(one(app, &format!("SELECT count(*) {first} AND reason = 'missed'")), 1);
}

#[test]
fn litestream_keeps_its_place_when_verger_dies_and_is_caught_up_with_when_it_was_away() {
    let Some(litestream) = litestream() else { return };
    let site = Site::new(litestream);
    let file = site.path("app.db");
    let mut process = site.live(1);
    let streaming = site.stream("app.db", "replica");
    site.arrived("replica", 4);
    let mut all_told = told(&process.kill());
    let app = open(&file);
    app.busy_timeout(PATIENCE).unwrap();
    // That Litestream has the file open keeps nobody from knowing that the process is dead.
    assert_eq!(
        one(&app, "SELECT state = 'executing' FROM verger_jobs WHERE worker = 'sleeper'"),
        1
    );
    let verger = builder(&file, true).open().unwrap();
    assert_eq!(one(&app, EXECUTING), 0);
    wakes(&verger, &app, 1);
    drop(verger);
    process = site.live(2);
    site.arrived("replica", 4);
    let copied = site.read("litestream.log").matches("snap=true").count();
    assert_eq!(copied, 1, "the whole file was copied again: {}", site.read("litestream.log"));

    // Now it is away. The app goes on, and folds the log back when it closes.
    drop(streaming);
    all_told.extend(told(&process.kill()));
    let verger = builder(&file, true).open().unwrap();
    wakes(&verger, &app, 2);
    let books = settle(&verger, &app, &all_told);
    drop(verger);
    app.close().unwrap();
    assert!(!site.path("app.db-wal").exists());
    site.stream_once("app.db", "replica");
    let copy = open(&site.restore("replica", "copy.db"));
    let again = check(&copy, &all_told);
    assert_eq!((again.jobs, again.effects), (books.jobs, books.effects));
    assert_eq!(again.unfinished, 0);
}

#[test]
fn jobs_of_a_copy_that_litestream_opened_first_wait_for_their_lease() {
    let Some(litestream) = litestream() else { return };
    let (site, copy, _) = lost(litestream, 3, 2);
    let _streaming = site.stream("copy.db", "elsewhere");
    site.arrived("elsewhere", 1);
    let held = one(&open(&copy), EXECUTING);
    assert!(held > 0);
    // As far as can be told, Litestream could be somebody who performs them.
    let verger = builder(&copy, true).open().unwrap();
    let app = open(&copy);
    app.busy_timeout(PATIENCE).unwrap();
    assert_eq!(one(&app, EXECUTING), held);
    verger.tick(verger.now()).unwrap();
    assert!(one(&app, EXECUTING) > 0);
    verger.tick(verger.now() + Duration::from_secs(121)).unwrap();
    assert_eq!(one(&app, EXECUTING), 0);
    wakes(&verger, &app, 1);
    verger.verify_audit().unwrap();
}
