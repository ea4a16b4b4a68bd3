//! What becomes of slots: policies for missed ones, overlap, deadlines, clocks set back, schedules
//! that change. And the ledger, which accounts for every slot and says why.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

mod clocks;
mod jobs_of_slots;
mod missed;
#[path = "../common/random.rs"]
mod random;
mod registration;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::DateTime;
use serde_json::json;
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;
use verger::{Builder, FireRow, Job, JobFilter, Schedule, Timestamp, Verger};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A worker that does nothing, unless its args say something else, and tells what it knows of its
/// slot.
struct Nothing;

impl Worker for Nothing {
    fn manifest(&self) -> Manifest {
        Manifest::new("nothing", "1.0.0")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        if let Some(seconds) = args.as_map().get("snooze").and_then(|seconds| seconds.as_u64()) {
            return Ok(Outcome::Snooze(u32::try_from(seconds)?));
        }
        let slot = job
            .job()
            .scheduled
            .map(|slot| json!({"schedule": slot.schedule, "at": slot.at, "missed": slot.missed}));
        Ok(slot.map_or(Outcome::Done, Outcome::DoneWith))
    }
}

fn at(text: &str) -> Timestamp {
    Timestamp::from_millis(
        DateTime::parse_from_rfc3339(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .timestamp_millis(),
    )
}

fn daily(name: &str) -> Schedule {
    Schedule::cron(name, "0 3 * * *").unwrap().worker("nothing")
}

fn every(name: &str, minutes: u64) -> Schedule {
    Schedule::every(name, Duration::from_secs(60 * minutes)).unwrap().worker("nothing")
}

fn test(schedules: impl IntoIterator<Item = Schedule>) -> TestVerger {
    TestVerger::with(|builder| {
        schedules.into_iter().fold(builder.worker(Nothing), Builder::schedule)
    })
}

/// The ledger, oldest first, as `day hh:mm outcome reason +missed`.
fn ledger(test: &Verger, schedule: &str) -> Vec<String> {
    let mut rows = test.fires(schedule, 100_000).unwrap();
    rows.reverse();
    rows.iter().map(line).collect()
}

fn line(row: &FireRow) -> String {
    let slot = row.slot.to_utc().unwrap().format("%d %H:%M").to_string();
    let missed = if row.missed > 0 { format!("+{}", row.missed) } else { String::new() };
    let reason = row.reason.as_ref().map(ToString::to_string).unwrap_or_default();
    let words = [slot.as_str(), row.outcome.as_str(), &reason, &missed];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The jobs of a schedule, oldest first.
fn jobs(test: &Verger, schedule: &str) -> Vec<Job> {
    let mut jobs = test.jobs(&JobFilter::default(), 100_000).unwrap();
    jobs.retain(|job| job.schedule.as_deref() == Some(schedule));
    jobs.reverse();
    jobs
}

fn next_of(test: &Verger, schedule: &str) -> Option<Timestamp> {
    test.schedules().unwrap().into_iter().find(|row| row.name == schedule).unwrap().next_fire_at
}

#[test]
fn a_broken_schedule_says_so_and_the_others_go_on() {
    let broken: [(&str, &str, &str); 6] = [
        (
            "worker",
            "UPDATE verger_schedules SET worker = 'gone' WHERE name = 'a'",
            "worker: no worker is named `gone`",
        ),
        (
            "expression",
            "UPDATE verger_schedules SET expression = '0 25 * * *' WHERE name = 'a'",
            "unreadable: its stored expression",
        ),
        (
            "zone",
            "UPDATE verger_schedules SET timezone = 'Europe/Berin' WHERE name = 'a'",
            "unreadable: its stored time zone",
        ),
        (
            "priority",
            "UPDATE verger_schedules SET priority = 3000 WHERE name = 'a'",
            "worker: a job for worker `nothing`",
        ),
        (
            "attempts",
            "UPDATE verger_schedules SET max_attempts = -1 WHERE name = 'a'",
            "worker: a job for worker `nothing`",
        ),
        (
            "queue",
            "UPDATE verger_schedules SET queue = '' WHERE name = 'a'",
            "worker: a job for worker `nothing`",
        ),
    ];
    for (case, sql, expected) in broken {
        let test = test([daily("a"), daily("b")]);
        test.sql(sql);
        test.run_for(DAY);
        let reason = test.fires("a", 1).unwrap()[0].reason.as_ref().unwrap().to_string();
        assert!(reason.starts_with(expected), "{case}: {reason}");
        assert_eq!(ledger(&test, "b"), ["01 03:00 enqueued"], "{case}");
        // It was decided once, and is asked again at its next slot, or never: not at once.
        assert_eq!(test.fires("a", 10).unwrap().len(), 1, "{case}");
        assert!(test.tick(test.now()).unwrap().next_wake_at.unwrap() > test.now(), "{case}");
    }
}

#[test]
fn the_ledger_answers_why_it_did_or_did_not_run() {
    let test = test([
        daily("s"),
        every("busy", 720).args(json!({"snooze": 90_000})),
        daily("late").start_deadline(HOUR),
    ]);
    let says = |schedule: &str, instant: &str, expected: &str| {
        let sentence = test.explain(schedule, at(instant)).unwrap();
        assert_eq!(sentence, expected, "{schedule} at {instant}");
    };
    let rule = "`0 3 * * *` (at 03:00 every day, UTC)";
    says(
        "unknown",
        "2026-01-01T03:00:00Z",
        "There is no schedule `unknown`, and there is no line of it in the ledger.",
    );
    says(
        "s",
        "2026-01-01T03:00:00Z",
        &format!("2026-01-01T03:00:00Z is still to come: it is a slot of {rule}."),
    );
    test.run_for(DAY);
    says(
        "s",
        "2026-01-01T03:00:00Z",
        "2026-01-01T03:00:00Z made job 2 on time, which is completed.",
    );
    says(
        "busy",
        "2026-01-02T00:00:00Z",
        "2026-01-02T00:00:00Z made no job: a job of an earlier slot was unfinished, and the schedule forbids overlap.",
    );
    says(
        "s",
        "2026-01-01T04:00:00Z",
        &format!(
            "2026-01-01T04:00:00Z is no slot of {rule}: the one before it is 2026-01-01T03:00:00Z, the next is 2026-01-02T03:00:00Z."
        ),
    );
    says(
        "s",
        "2025-12-24T03:00:00Z",
        &format!(
            "2025-12-24T03:00:00Z made no job: the schedule is {rule} since 2026-01-01T00:00:00Z, and a new or changed schedule does not make up for old slots."
        ),
    );
    test.clock().advance(3 * DAY + 12 * HOUR);
    says(
        "s",
        "2026-01-03T03:00:00Z",
        "2026-01-03T03:00:00Z is due and was not looked at yet: nothing has ticked since.",
    );
    test.drain();
    let job = jobs(&test, "s").last().unwrap().id;
    says(
        "s",
        "2026-01-03T03:00:00Z",
        &format!(
            "2026-01-03T03:00:00Z was missed, and job {job}, which is completed, made for the slot 2026-01-05T03:00:00Z, stands for it."
        ),
    );
    says(
        "s",
        "2026-01-05T03:00:00Z",
        &format!(
            "2026-01-05T03:00:00Z made job {job} 9 h late, which is completed; it stands for the 3 slots before it too, which were missed."
        ),
    );
    says(
        "late",
        "2026-01-05T03:00:00Z",
        "2026-01-05T03:00:00Z made no job: it was found due 9 h late, which is past the start deadline; the same goes for the 3 slots before it.",
    );
    says(
        "late",
        "2026-01-04T03:00:00Z",
        "2026-01-04T03:00:00Z made no job, as the slot 2026-01-05T03:00:00Z after it: it was found due 9 h late, which is past the start deadline.",
    );
    test.pause_schedule("s").unwrap();
    says(
        "s",
        "2026-01-06T03:00:00Z",
        &format!(
            "2026-01-06T03:00:00Z is still to come: it is a slot of {rule}, but the schedule is paused."
        ),
    );
    test.run_for(DAY);
    says("s", "2026-01-06T03:00:00Z", "2026-01-06T03:00:00Z made no job: the schedule was paused.");
    let asked = test.run_schedule_now("s").unwrap().unwrap().id;
    says(
        "s",
        "2026-01-06T12:00:00Z",
        &format!(
            "2026-01-06T12:00:00Z is no slot: someone asked for a run, which made job {asked}, which is available."
        ),
    );
    test.sql("DELETE FROM verger_jobs WHERE id = 2");
    says(
        "s",
        "2026-01-01T03:00:00Z",
        "2026-01-01T03:00:00Z made job 2 on time, which is no longer kept.",
    );
    test.remove_schedule("s").unwrap();
    says("s", "2026-01-06T03:00:00Z", "2026-01-06T03:00:00Z made no job: the schedule was paused.");
    says(
        "s",
        "2026-01-02T04:00:00Z",
        "There is no schedule `s` any more, and the ledger has no line of it for 2026-01-02T04:00:00Z.",
    );
    let line = test.fires("busy", 1).unwrap()[0].explain();
    assert!(line.ends_with("forbids overlap."), "{line}");
}

#[test]
fn schedules_can_be_changed_from_another_thread_while_it_ticks() {
    let test = TestVerger::with(|builder| builder.worker(Nothing));
    let verger = Arc::new(Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let other = (*test).clone();
        let errors = Arc::clone(&verger);
        scope.spawn(move || {
            for n in 0..100 {
                let name = format!("s{}", n % 5);
                let done = other
                    .add_schedule(&every(&name, 5 + n % 3))
                    .and_then(|()| other.pause_schedule(&name))
                    .and_then(|_| {
                        other
                            .resume_schedule(&name)
                            .and_then(|_| other.run_schedule_now(&name))
                            .and_then(|_| other.remove_schedule(&name))
                    });
                if let Err(error) = done {
                    errors.lock().unwrap().push(error.to_string());
                }
            }
        });
        for _ in 0..200 {
            test.clock().advance(5 * MINUTE);
            test.tick(test.now()).unwrap();
        }
    });
    assert_eq!(*verger.lock().unwrap(), Vec::<String>::new());
}

/// `VERGER_LONG=1 cargo test --release --test schedules simulated -- --nocapture` lives through a
/// year and prints how long it took.
#[test]
fn a_simulated_year_of_a_five_minute_schedule_takes_seconds() {
    let long = std::env::var_os("VERGER_LONG").is_some();
    let days: u32 = if long { 365 } else { 7 };
    let test = test([every("s", 5)]);
    let begun = Instant::now();
    let report = test.run_for(days * DAY);
    let took = begun.elapsed();
    let slots = usize::try_from(days * 288).unwrap();
    assert_eq!((report.fired.len(), report.attempts.len()), (slots, slots));
    println!("{days} days, {slots} slots: {took:?}");
    assert!(!long || cfg!(debug_assertions) || took < Duration::from_secs(10), "{took:?}");
}
