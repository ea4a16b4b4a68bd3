//! The jobs that slots make: overlap, jitter, and jobs outside the slots.

use std::time::Duration;

use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::{Missed, Overlap, Schedule, Verger};

use super::registration::app;
use super::{DAY, HOUR, MINUTE, Nothing, at, daily, every, jobs, ledger, line, next_of, test};

#[test]
fn at_each_start_a_schedule_for_the_start_runs_once() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
    let reboot = || Schedule::cron("s", "@reboot").unwrap().worker("nothing");
    let test = app(&file, &clock, [reboot()]);
    assert_eq!(test.drain().fired.len(), 1);
    assert!(test.run_for(DAY).fired.is_empty());
    drop(test);
    // Twice within a millisecond, once with the schedule only stored.
    assert_eq!(app(&file, &clock, [reboot()]).drain().fired.len(), 1);
    let keeping = || {
        let builder = Verger::builder(&file).without_built_ins().worker(Nothing);
        TestVerger::open(builder.keep_schedules(), &clock).unwrap()
    };
    // A program that is not the app starts nothing: the machine is the same.
    assert_eq!(keeping().drain().fired.len(), 0);
    let test = app(&file, &clock, [reboot()]);
    test.pause_schedule("s").unwrap();
    test.drain();
    assert_eq!(
        ledger(&test, "s"),
        ["01 00:00 enqueued", "02 00:00 enqueued", "02 00:00 skipped paused"]
    );
}

#[test]
fn a_slot_that_falls_into_an_unfinished_job_is_suppressed_or_not() {
    let snoozing = || every("s", 5).args(json!({"snooze": 720}));
    let test = test([snoozing()]);
    test.run_for(15 * MINUTE);
    assert_eq!(
        ledger(&test, "s"),
        ["01 00:05 enqueued", "01 00:10 skipped overlap", "01 00:15 skipped overlap"]
    );

    let test = TestVerger::with(|builder| {
        builder.worker(Nothing).schedule(snoozing().overlap(Overlap::Allow))
    });
    test.run_for(15 * MINUTE);
    assert_eq!(ledger(&test, "s"), ["01 00:05 enqueued", "01 00:10 enqueued", "01 00:15 enqueued"]);
}

#[test]
fn the_jobs_of_one_replay_do_not_suppress_each_other_but_an_older_one_does() {
    let replay = |name: &str| every(name, 5).missed(Missed::Replay(3));
    let test = test([replay("s"), replay("busy").args(json!({"snooze": 36_000}))]);
    test.run_for(5 * MINUTE);
    test.sleep_laptop(15 * MINUTE);
    assert_eq!(
        ledger(&test, "s")[1..],
        ["01 00:10 enqueued", "01 00:15 enqueued", "01 00:20 enqueued"]
    );
    assert_eq!(
        ledger(&test, "busy")[1..],
        ["01 00:10 skipped overlap", "01 00:15 skipped overlap", "01 00:20 skipped overlap"]
    );
}

#[test]
fn jitter_is_stable_for_a_name_within_its_bound_and_differs_between_names() {
    let offsets = |days: u32| -> Vec<Duration> {
        let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
        let test = test(names.iter().map(|name| daily(name).jitter(HOUR)));
        test.run_for(days * DAY);
        names
            .iter()
            .map(|name| jobs(&test, name).pop().unwrap())
            .map(|job| job.due_at.since(job.slot.unwrap()))
            .collect()
    };
    let (one, two) = (offsets(1), offsets(2));
    assert_eq!(one, two);
    assert!(one.iter().all(|offset| (Duration::ZERO..=HOUR).contains(offset)), "{one:?}");
    let mut different = one;
    different.sort_unstable();
    different.dedup();
    assert!(different.len() > 15);
}

#[test]
fn run_now_makes_a_job_outside_the_slots_and_never_moves_the_next() {
    let test = test([daily("s"), daily("busy").args(json!({"snooze": 7_200}))]);
    assert!(test.run_schedule_now("unknown").unwrap().is_none());
    // At the very instant of a slot: the slot has its own job all the same.
    test.clock().set(at("2026-01-01T03:00:00Z"));
    let next = next_of(&test, "s");
    assert!(!test.run_schedule_now("s").unwrap().unwrap().existing);
    assert_eq!(next_of(&test, "s"), next);
    test.drain();
    let [slot, asked] = &test.fires("s", 10).unwrap()[..] else {
        panic!("{:?}", ledger(&test, "s"))
    };
    // The job someone asked for was unfinished when the slot fell due.
    assert_eq!(
        (line(slot), line(asked)),
        ("01 03:00 enqueued run-now".into(), "01 03:00 skipped overlap".into())
    );
    test.clock().advance(HOUR);
    test.pause_schedule("s").unwrap();
    assert!(!test.run_schedule_now("s").unwrap().unwrap().existing, "paused or not");
    test.drain();
    assert_eq!(jobs(&test, "s").len(), 2);
    // With a job that is not finished it is that one.
    let busy = test.run_schedule_now("busy").unwrap().unwrap();
    assert!(busy.existing);
    assert_eq!(busy.id, jobs(&test, "busy")[0].id);
}
