//! A clock that was wrong for a while. What was decided stays decided, what waits waits as if the
//! clock had been right, and nothing is deleted for its age by a reading that is in doubt.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::prelude::*;
use verger::{JobFilter, JobState, NewJob, Reason, Schedule, SlotOutcome, Timestamp, Verger};

const START: Timestamp = TestVerger::START;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

struct Does;

impl Worker for Does {
    fn manifest(&self) -> Manifest {
        Manifest::new("does", "1.0.0").arg("how", ArgSpec::default_value("well"))
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(match args.get::<String>("how")?.as_str() {
            "fails" => Outcome::Failed(WorkerError::new("as told")),
            "snoozes" => Outcome::Snooze(7_200),
            _ => Outcome::Done,
        })
    }
}

/// Readings that are wrong, in any direction.
fn wild() -> [Timestamp; 6] {
    [
        Timestamp::from_millis(4_294_967_295_000), // 2106: all ones
        Timestamp::from_millis(253_402_300_799_000), // the last second of 9999
        START + DAY * 3_650,
        Timestamp::from_millis(0),
        START - DAY * 3_650,
        START - DAY * 100,
    ]
}

/// A process that lives for one tick.
fn tick_once(file: &Path, clock: &ManualClock) -> TestVerger {
    let builder = Verger::builder(file).without_built_ins().keep_schedules().worker(Does);
    let test = TestVerger::open(builder, clock).unwrap();
    test.tick(test.now()).unwrap();
    test
}

fn with_schedules(file: &Path, clock: &ManualClock) {
    let builder = Verger::builder(file)
        .without_built_ins()
        .worker(Does)
        .schedule(Schedule::cron("hourly", "0 * * * *").unwrap().worker("does"))
        .schedule(Schedule::every("often", MINUTE * 30).unwrap().worker("does"));
    drop(TestVerger::open(builder, clock).unwrap());
}

#[test]
fn schedules_go_on_as_if_a_wild_reading_had_not_been() {
    for wrong in wild() {
        let folder = tempfile::tempdir().unwrap();
        let (file, clock) = (folder.path().join("app.db"), ManualClock::at(START));
        with_schedules(&file, &clock);
        clock.advance(HOUR + MINUTE);
        drop(tick_once(&file, &clock));
        clock.set(wrong);
        drop(tick_once(&file, &clock));
        clock.set(START + HOUR + MINUTE * 2);
        drop(tick_once(&file, &clock));
        for minutes in (65..=48 * 60).step_by(5) {
            clock.set(START + MINUTE * minutes);
            drop(tick_once(&file, &clock));
        }
        let test = tick_once(&file, &clock);
        let fired = |name: &str, from: Timestamp| {
            let lines = test.fires(name, 1_000).unwrap();
            lines
                .iter()
                .filter(|line| line.slot > from && line.slot.as_millis() <= clock_millis(&clock))
                .filter(|line| line.outcome != SlotOutcome::Skipped)
                .count()
        };
        let from = START + HOUR + MINUTE * 10;
        let told = || (test.schedules().unwrap(), test.fires("hourly", 5).unwrap());
        assert_eq!(fired("hourly", from), 47, "{wrong}: {:?}", told());
        assert_eq!(fired("often", from), 94, "{wrong}: {:?}", told());
    }
}

fn clock_millis(clock: &ManualClock) -> i64 {
    verger::Clock::now(clock).as_millis()
}

#[test]
fn retries_snoozes_and_jobs_enqueued_meanwhile_wait_as_long_as_they_were_to() {
    for wrong in wild().into_iter().filter(|wrong| *wrong > START) {
        let folder = tempfile::tempdir().unwrap();
        let (file, clock) = (folder.path().join("app.db"), ManualClock::at(START));
        let test = tick_once(&file, &clock);
        let job = |how: &str| NewJob::new("does", json!({ "how": how }));
        let [snoozed, failed] = ["snoozes", "fails"].map(|how| test.enqueue(job(how)).unwrap().id);
        clock.set(wrong);
        test.tick(test.now()).unwrap();
        let later = test.enqueue(job("well").after(HOUR)).unwrap().id;
        let chosen = test.enqueue(job("well").at(START + DAY)).unwrap().id;
        drop(test);
        clock.set(START + MINUTE);
        let test = tick_once(&file, &clock);
        let wait = |id| {
            let job = test.job(id).unwrap().unwrap();
            job.due_at.since(START)
        };
        assert_eq!(test.job(snoozed).unwrap().unwrap().state, JobState::Scheduled);
        assert!(wait(snoozed) <= HOUR * 2 + MINUTE * 2, "{wrong}: {:?}", wait(snoozed));
        assert!(wait(failed) <= MINUTE * 2, "{wrong}: {:?}", wait(failed));
        // A time beyond the year 9999 is its end: what was asked for cannot be told.
        let asked = (wrong + HOUR).since(wrong);
        assert_eq!(wait(later), asked + MINUTE, "{wrong}");
        assert_eq!(wait(chosen), DAY, "a time that somebody chose stays: {wrong}");
    }
}

#[test]
fn nothing_is_deleted_for_its_age_by_a_single_wild_reading() {
    for wrong in wild() {
        let clock = ManualClock::at(START);
        let builder = Verger::in_memory()
            .worker(Does)
            .schedule(Schedule::cron("hourly", "0 * * * *").unwrap().worker("does"));
        let test = TestVerger::open(builder, &clock).unwrap();
        test.audit(&AuditEvent::success("thing.done")).unwrap();
        test.enqueue(NewJob::new("does", json!({}))).unwrap();
        test.run_for(DAY * 2);
        let count = |what: &str| test.one::<i64>(&format!("SELECT count(*) FROM {what}"));
        let before = (count("verger_jobs"), count("verger_fires"), count("verger_audit"));
        let right = test.now();
        clock.set(wrong);
        test.tick(test.now()).unwrap();
        test.cleanup_audit(Some(1)).unwrap();
        let after = (count("verger_jobs"), count("verger_fires"), count("verger_audit"));
        assert!(after.0 >= before.0 && after.1 >= before.1 && after.2 >= before.2 - 1, "{wrong}");
        clock.set(right + MINUTE);
        test.drain();
        assert!(count("verger_jobs") >= before.0, "{wrong}");
        // With the clock right again, what is past its time goes.
        test.run_for(DAY * 30);
        assert!(count("verger_jobs") < 24 * 9, "{wrong}: {}", count("verger_jobs"));
    }
}

#[test]
fn a_process_that_lives_for_one_tick_prunes() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(START));
    for _ in 0..3 {
        let test = tick_once(&file, &clock);
        test.enqueue(NewJob::new("does", json!({}))).unwrap();
        test.tick(test.now()).unwrap();
        clock.advance(DAY);
    }
    clock.advance(DAY * 30);
    let test = tick_once(&file, &clock);
    assert_eq!(test.jobs(&JobFilter::new(), 10).unwrap().len(), 1, "the newest row stays");
}

#[test]
fn a_schedule_the_app_registers_no_more_is_retired_and_one_added_by_hand_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(START));
    let hourly = |name: &str| Schedule::cron(name, "0 * * * *").unwrap().worker("does");
    let open = |set: &str, names: &[&str]| {
        let builder = Verger::builder(&file).without_built_ins().worker(Does).schedule_set(set);
        let builder = names.iter().fold(builder, |builder, name| builder.schedule(hourly(name)));
        TestVerger::open(builder, &clock).unwrap()
    };
    drop(open("", &["kept", "dropped"]));
    let test = open("other", &["others"]);
    test.add_schedule(&hourly("by-hand")).unwrap();
    drop(test);
    // A program that knows nothing of the app's schedules.
    drop(tick_once(&file, &clock));
    let test = open("", &["kept"]);
    let rows = test.schedules().unwrap();
    let sets: Vec<_> =
        rows.iter().map(|row| (row.name.as_str(), row.registered_by.as_deref())).collect();
    assert_eq!(sets, [("by-hand", None), ("kept", Some("")), ("others", Some("other"))]);
    let line = test.fires("dropped", 9).unwrap().remove(0);
    assert_eq!(
        (line.outcome, line.reason.as_ref()),
        (SlotOutcome::Skipped, Some(&Reason::Retired))
    );
    assert!(line.explain().contains("does not register"), "{}", line.explain());
    clock.advance(HOUR * 2);
    test.drain();
    assert!(
        test.jobs(&JobFilter::new(), 99)
            .unwrap()
            .iter()
            .all(|job| job.schedule.as_deref() != Some("dropped"))
    );
    // Registered again, it begins anew.
    drop(test);
    let test = open("", &["kept", "dropped"]);
    clock.advance(HOUR);
    test.drain();
    assert_eq!(test.fires("dropped", 9).unwrap()[0].outcome, SlotOutcome::Enqueued);
}
