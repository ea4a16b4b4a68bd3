//! Two processes tick one file through a simulated year. Every slot is decided once and done once,
//! even when one of them is killed.
//!
//! The processes are this test binary, started again. The test tells both the hour at the same
//! moment, so that they meet at every slot.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::prelude::*;
use verger::{
    Expression, JobFilter, JobState, Retention, Schedule, SlotOutcome, Timestamp, Verger,
    parse_zone,
};

const FILE: &str = "VERGER_TEST_FILE";
const ZONE: &str = "Europe/Berlin";
const RULES: [(&str, &str); 2] = [("hourly", "0 * * * *"), ("nightly", "30 2 * * *")];

/// Writes its slot down. A second row for a slot would be a second time it was done.
struct Note;

impl Worker for Note {
    fn manifest(&self) -> Manifest {
        Manifest::new("note", "1.0.0").table(TableAsk::named("notes").insert())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        if let Some(slot) = job.job().scheduled {
            job.execute(
                "INSERT INTO notes (schedule, slot) VALUES (?1, ?2)",
                params![slot.schedule, slot.at],
            )?;
        }
        Ok(Outcome::Done)
    }
}

fn open(file: &Path, clock: &ManualClock) -> Verger {
    let keep = Retention::for_ever();
    let builder =
        Verger::builder(file).without_built_ins().worker(Note).clock(clock.clone()).retention(keep);
    let schedule =
        |(name, rule)| Schedule::cron(name, rule).unwrap().time_zone(ZONE).unwrap().worker("note");
    RULES.map(schedule).into_iter().fold(builder, verger::Builder::schedule).open().unwrap()
}

/// Not a test of its own: what the second and the third process do.
#[test]
#[ignore = "a process of its own, which the tests here start"]
fn tick_when_told() {
    let file = std::env::var_os(FILE).unwrap();
    let clock = ManualClock::at(TestVerger::START);
    let verger = open(Path::new(&file), &clock);
    println!("\nready");
    for line in std::io::stdin().lines() {
        let now = Timestamp::from_millis(line.unwrap().parse().unwrap());
        clock.set(now);
        let mut fired = 0;
        loop {
            let report = verger.tick(now).unwrap();
            fired += report.fired.len();
            if report.next_wake_at.is_none_or(|next| next > now) {
                break;
            }
        }
        println!("done {fired}");
    }
}

/// A process that ticks when it is told.
struct Ticker {
    child: Child,
    told: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Ticker {
    fn start(file: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tick_when_told", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FILE, file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (told, says) =
            (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut ticker = Self { child, told, says };
        ticker.hear("ready");
        ticker
    }

    fn tell(&mut self, now: Timestamp) {
        writeln!(self.told, "{}", now.as_millis()).unwrap();
    }

    /// What comes after this word.
    fn hear(&mut self, word: &str) -> String {
        let mut line = String::new();
        while !line.starts_with(word) {
            line.clear();
            assert!(self.says.read_line(&mut line).unwrap() > 0, "the process ended");
        }
        line[word.len()..].trim().to_string()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn two_processes_decide_and_do_every_slot_of_a_year_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let clock = ManualClock::at(TestVerger::START);
    let here = open(&file, &clock);
    let app = here.connect().unwrap();
    app.execute_batch(
        "CREATE TABLE notes (schedule TEXT, slot INTEGER, PRIMARY KEY (schedule, slot))",
    )
    .unwrap();

    let end = TestVerger::START + Duration::from_secs(365 * 86_400);
    let mut tickers = [Ticker::start(&file), Ticker::start(&file)];
    let (mut now, mut fired, mut hour) = (TestVerger::START, [0_u32; 2], 0_u64);
    while now < end {
        now = now + Duration::from_secs(1_800);
        tickers.iter_mut().for_each(|ticker| ticker.tell(now));
        // Every 21 days one is killed, at another point of its tick each time, and started again.
        hour += 1;
        if hour.is_multiple_of(1_000) {
            let [first, second] = tickers;
            std::thread::sleep(Duration::from_micros(hour / 20));
            first.kill();
            tickers = [second, Ticker::start(&file)];
            tickers[0].hear("done");
            continue;
        }
        for (ticker, fired) in tickers.iter_mut().zip(&mut fired) {
            *fired += ticker.hear("done").parse::<u32>().unwrap();
        }
    }
    // What a killed process had claimed runs again when its lease is over.
    for _ in 0..3 {
        now = now + Duration::from_secs(600);
        tickers[0].tell(now);
        tickers[0].hear("done");
    }
    drop(tickers);

    let zone = parse_zone(ZONE).unwrap();
    for (name, rule) in RULES {
        let rule = Expression::cron(rule).unwrap();
        let (mut expected, mut slot) = (BTreeSet::new(), TestVerger::START);
        while let Some(next) = rule.next_after(slot, zone, slot).filter(|next| *next <= end) {
            expected.insert(next);
            slot = next;
        }
        let lines = here.fires(name, 100_000).unwrap();
        assert!(
            lines.iter().all(|line| line.outcome == SlotOutcome::Enqueued && line.missed == 0),
            "{:?}",
            lines.iter().find(|line| line.missed > 0)
        );
        assert_eq!(lines.iter().map(|line| line.slot).collect::<BTreeSet<_>>(), expected);
        assert_eq!(
            lines.iter().map(|line| line.job).collect::<BTreeSet<_>>().len(),
            expected.len()
        );
        let jobs = here.jobs(&JobFilter::default(), 100_000).unwrap();
        let jobs: Vec<_> =
            jobs.iter().filter(|job| job.schedule.as_deref() == Some(name)).collect();
        assert_eq!(jobs.len(), expected.len());
        assert!(
            jobs.iter().all(|job| job.state == JobState::Completed),
            "{:?}",
            jobs.iter().find(|job| job.state != JobState::Completed)
        );
        let mut notes = app.prepare("SELECT slot FROM notes WHERE schedule = ?1").unwrap();
        let notes: Vec<i64> =
            notes.query_map([name], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(notes.len(), expected.len());
        let notes: BTreeSet<_> = notes.into_iter().map(Timestamp::from_millis).collect();
        assert_eq!(notes, expected);
    }
    // Both had their share: they did meet.
    assert!(fired.iter().all(|fired| *fired > 100), "{fired:?}");
    println!("slots decided by each process: {fired:?}");
}
