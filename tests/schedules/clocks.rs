//! Clocks that are set, and clocks that are wrong.

use std::time::Duration;

use verger::testing::{ManualClock, TestVerger};
use verger::{Builder, Missed, Schedule, Timestamp, Verger};

use super::registration::app;
use super::{DAY, HOUR, MINUTE, Nothing, at, daily, every, jobs, ledger, next_of, test};
use crate::random::Random;

#[test]
fn a_clock_set_back_fires_no_slot_twice() {
    let test = test([every("s", 5), daily("d")]);
    test.run_for(6 * HOUR);
    let (before, next) = (ledger(&test, "s"), next_of(&test, "s"));
    assert_eq!(before.len(), 72);
    let report = test.set_clock_back(2 * HOUR);
    assert!(report.fired.is_empty());
    assert_eq!(next_of(&test, "s"), next, "an unchanged schedule never moves its next slot");
    test.run_for(2 * HOUR);
    assert_eq!(ledger(&test, "s"), before);
    test.run_for(5 * MINUTE);
    assert_eq!(ledger(&test, "s").last().unwrap(), "01 06:05 enqueued");
    assert_eq!(ledger(&test, "d"), ["01 03:00 enqueued"]);
}

#[test]
fn no_walk_of_the_clock_fires_a_slot_twice() {
    let mut random = Random(11);
    for round in 0..20 {
        let test = test([
            every("s", 5),
            Schedule::cron("c", "*/7 * * * *")
                .unwrap()
                .worker("nothing")
                .missed(Missed::Replay(10)),
        ]);
        for _ in 0..100 {
            let by = Duration::from_secs(random.below(6 * 3_600) as u64);
            match random.below(3) {
                0 => drop(test.set_clock_back(by)),
                _ => drop(test.sleep_laptop(by)),
            }
            // Registered again and again, now and then with another rule, so that next slots are
            // computed anew, and anchors too.
            if random.below(8) == 0 {
                let minutes = [5, 10][random.below(2)];
                test.add_schedule(&every("s", minutes)).unwrap();
                test.add_schedule(
                    &Schedule::cron("c", &format!("*/{minutes} * * * *"))
                        .unwrap()
                        .worker("nothing"),
                )
                .unwrap();
            }
        }
        for name in ["s", "c"] {
            let mut slots: Vec<_> = jobs(&test, name).iter().map(|job| job.slot).collect();
            let made = slots.len();
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(slots.len(), made, "round {round}, {name}");
        }
    }
}

#[test]
fn a_clock_that_was_years_wrong_does_not_silence_a_schedule() {
    let test = test([every("s", 5), daily("d")]);
    test.sleep_laptop(14 * 365 * DAY);
    assert!(next_of(&test, "s").unwrap() > at("2039-01-01T00:00:00Z"));
    assert!(test.set_clock_back(14 * 365 * DAY).fired.is_empty());
    test.run_for(DAY);
    assert_eq!(ledger(&test, "s")[..2], ["01 00:05 enqueued", "01 00:10 enqueued"]);
    assert_eq!(ledger(&test, "d")[0], "01 03:00 enqueued");
}

#[test]
fn a_device_that_starts_in_1970_goes_on_where_it_was_when_its_clock_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
    app(&file, &clock, [every("s", 5), daily("d")]).run_for(DAY);
    clock.set(Timestamp::from_millis(30_000));
    let test = app(&file, &clock, [every("s", 5), daily("d")]);
    assert!(test.run_for(HOUR).fired.is_empty());
    clock.set(TestVerger::START + 2 * DAY + MINUTE);
    test.drain();
    assert_eq!(ledger(&test, "s").last().unwrap(), "03 00:00 coalesced +287");
    assert_eq!(ledger(&test, "d"), ["01 03:00 enqueued", "02 03:00 enqueued"]);
}

#[test]
fn summer_time_makes_and_loses_no_slot() {
    let berlin = |name: &str, expression: &str| {
        Schedule::cron(name, expression)
            .unwrap()
            .worker("nothing")
            .time_zone("Europe/Berlin")
            .unwrap()
    };
    let test = test([berlin("fixed", "30 2 * * *"), berlin("hourly", "0 * * * *")]);
    // 02:30 does not exist on March 29, and comes twice on October 25.
    for (day, fixed, hours) in
        [("2026-03-29", "29 01:00 enqueued", 23), ("2026-10-25", "25 00:30 enqueued", 25)]
    {
        test.clock().set(
            at(&format!("{day}T00:00:00{}", if hours == 23 { "+01:00" } else { "+02:00" }))
                - Duration::from_millis(1),
        );
        test.drain();
        let midnight = test.now();
        test.run_for(hours * HOUR);
        assert_eq!(ledger(&test, "fixed").last().unwrap(), fixed);
        let fired =
            test.fires("hourly", 100).unwrap().iter().filter(|row| row.slot > midnight).count();
        assert_eq!(fired, usize::try_from(hours).unwrap());
    }
}

#[test]
fn instants_at_the_ends_of_time_do_no_harm() {
    for now in [
        i64::MIN,
        i64::MIN + 1,
        -8_334_632_851_200_000 * 1_000,
        0,
        4_133_980_800_000,
        i64::MAX - 1,
        i64::MAX,
    ] {
        let clock = ManualClock::at(Timestamp::from_millis(now));
        let schedules = [
            daily("d"),
            every("e", 5),
            every("r", 5)
                .missed(Missed::Replay(100))
                .jitter(Duration::MAX)
                .start_deadline(Duration::MAX),
        ];
        let builder = schedules
            .into_iter()
            .fold(Verger::in_memory().without_built_ins().worker(Nothing), Builder::schedule);
        let test = TestVerger::open(builder, &clock).unwrap();
        for other in [i64::MIN, 0, TestVerger::START.as_millis(), i64::MAX] {
            clock.set(Timestamp::from_millis(other));
            test.tick(test.now()).unwrap();
            let _ = test.explain("d", Timestamp::from_millis(now)).unwrap();
        }
    }
}
