//! What becomes of slots: policies for missed ones, overlap, deadlines, clocks set back, schedules
//! that change; and the ledger, which accounts for every slot and says why.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::DateTime;
use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::prelude::*;
use verger::{
    Builder, Error, Expression, FireOutcome, FireRow, Job, JobFilter, JobState, Missed, OpenError,
    Overlap, Schedule, ScheduleError, Timestamp, Verger,
};

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

// --- missed slots
// -------------------------------------------------------------------------------------------------------------------------

#[test]
fn two_weeks_off_become_what_the_policy_says() {
    // From January 1 at midnight to January 15 at noon: fourteen slots at 03:00, the last of them
    // nine hours ago.
    let table: [(&str, Schedule, &[&str]); 8] = [
        ("coalesce", daily("s"), &["14 03:00 coalesced +13"]),
        ("skip", daily("s").missed(Missed::Skip), &["14 03:00 skipped missed +13"]),
        (
            "replay",
            daily("s").missed(Missed::Replay(3)),
            &[
                "11 03:00 skipped missed +10",
                "12 03:00 enqueued",
                "13 03:00 enqueued",
                "14 03:00 enqueued",
            ],
        ),
        ("a deadline it keeps", daily("s").start_deadline(10 * HOUR), &["14 03:00 coalesced +13"]),
        (
            "a deadline that is over",
            daily("s").start_deadline(HOUR),
            &["14 03:00 skipped deadline +13"],
        ),
        (
            "replay and a deadline",
            daily("s").missed(Missed::Replay(3)).start_deadline(30 * HOUR),
            &[
                "11 03:00 skipped missed +10",
                "12 03:00 skipped deadline",
                "13 03:00 skipped deadline",
                "14 03:00 enqueued",
            ],
        ),
        (
            "replay of one",
            daily("s").missed(Missed::Replay(1)),
            &["13 03:00 skipped missed +12", "14 03:00 enqueued"],
        ),
        ("allow", daily("s").overlap(Overlap::Allow), &["14 03:00 coalesced +13"]),
    ];
    for (case, schedule, expected) in table {
        let test = test([schedule]);
        test.sleep_laptop(13 * DAY + 12 * HOUR);
        assert_eq!(ledger(&test, "s"), expected, "{case}");
        // And then on as if nothing had been.
        assert_eq!(next_of(&test, "s"), Some(at("2026-01-15T03:00:00Z")), "{case}");
        test.run_for(DAY);
        assert_eq!(ledger(&test, "s").last().unwrap(), "15 03:00 enqueued", "{case}");
        assert!(jobs(&test, "s").iter().all(|job| job.state == JobState::Completed), "{case}");
    }
}

#[test]
fn skip_takes_a_slot_that_is_less_than_a_minute_late() {
    for (late, expected) in
        [(59, "01 03:00 enqueued"), (60, "01 03:00 enqueued"), (61, "01 03:00 skipped missed")]
    {
        let test = test([daily("s").missed(Missed::Skip)]);
        test.sleep_laptop(3 * HOUR + Duration::from_secs(late));
        assert_eq!(ledger(&test, "s"), [expected], "{late} s late");
    }
    // Of several at once the last; the others have their line too, and the job does not stand for
    // them.
    let test = test([every("s", 5).missed(Missed::Skip)]);
    test.sleep_laptop(HOUR);
    assert_eq!(ledger(&test, "s"), ["01 00:55 skipped missed +10", "01 01:00 enqueued"]);
    assert_eq!(jobs(&test, "s")[0].missed, 0);
}

#[test]
fn a_job_reads_its_slot_and_how_many_were_missed() {
    let test = test([daily("s")]);
    test.sleep_laptop(13 * DAY + 12 * HOUR);
    let slot = at("2026-01-14T03:00:00Z").as_millis();
    assert_eq!(
        jobs(&test, "s")[0].result,
        Some(json!({"schedule": "s", "at": slot, "missed": 13}))
    );
}

#[test]
fn a_year_of_seconds_is_counted_and_replayed_in_no_time() {
    let seconds = |name: &str| {
        Schedule::cron(name, "* * * * * *")
            .unwrap()
            .worker("nothing")
            .time_zone("Europe/Berlin")
            .unwrap()
    };
    let test = test([
        seconds("coalesced"),
        seconds("skipped").missed(Missed::Skip),
        seconds("replayed").missed(Missed::Replay(500)),
    ]);
    test.clock().advance(365 * DAY);
    let begun = Instant::now();
    let report = test.tick(test.now()).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let year = 365 * 86_400;
    assert!(
        matches!(report.fired[0].outcome, FireOutcome::Coalesced(_, missed) if missed == year - 1),
        "{:?}",
        report.fired[0]
    );
    let replayed = test.fires("replayed", 1_000).unwrap();
    assert_eq!((replayed.len(), replayed[500].missed), (501, year - 501));
}

#[test]
fn every_slot_is_accounted_for_whatever_happens() {
    let mut random = Random(7);
    for policy in [Missed::Coalesce, Missed::Skip, Missed::Replay(4)] {
        for expression in ["*/5 * * * *", "30 * * * *", "0 3 * * *", "@every 7m"] {
            let schedule = Schedule::cron("s", expression)
                .unwrap()
                .worker("nothing")
                .missed(policy)
                .overlap(Overlap::Allow);
            let test = test([schedule]);
            for _ in 0..60 {
                test.sleep_laptop(Duration::from_secs(random.below(4 * 3_600)));
                match random.below(10) {
                    0 => assert!(test.pause_schedule("s").unwrap()),
                    1 => assert!(test.resume_schedule("s").unwrap()),
                    _ => {}
                }
            }
            let (rule, mut slot, mut slots) =
                (Expression::cron(expression).unwrap(), TestVerger::START, Vec::new());
            while let Some(next) = rule
                .next_after(slot, chrono_tz::UTC, TestVerger::START)
                .filter(|next| *next <= test.now())
            {
                slots.push(next);
                slot = next;
            }
            let mut lines = test.fires("s", 100_000).unwrap();
            lines.reverse();
            let mut accounted: Vec<Timestamp> = Vec::new();
            for line in &lines {
                let place = slots.iter().position(|slot| *slot == line.slot).unwrap();
                accounted.extend(&slots[place - line.missed as usize..=place]);
            }
            assert_eq!(accounted, slots, "{expression} {policy}");
            for slot in slots {
                let sentence = test.explain("s", slot).unwrap();
                assert!(!sentence.contains("no line"), "{sentence}");
            }
        }
    }
}

// --- clocks
// -------------------------------------------------------------------------------------------------------------------------------

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
            let by = Duration::from_secs(random.below(6 * 3_600));
            match random.below(3) {
                0 => drop(test.set_clock_back(by)),
                _ => drop(test.sleep_laptop(by)),
            }
            // Registered again and again, now and then with another rule, so that next slots are
            // computed anew, and anchors too.
            if random.below(8) == 0 {
                let minutes = [5, 10][usize::try_from(random.below(2)).unwrap()];
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

// --- schedules that change
// ----------------------------------------------------------------------------------------------------------------

/// Opens the file as an app with these schedules.
fn app(
    file: &std::path::Path,
    clock: &ManualClock,
    schedules: impl IntoIterator<Item = Schedule>,
) -> TestVerger {
    let builder = schedules
        .into_iter()
        .fold(Verger::builder(file).without_built_ins().worker(Nothing), Builder::schedule);
    TestVerger::open(builder, clock).unwrap()
}

#[test]
fn a_new_schedule_never_backfills_and_an_unchanged_one_keeps_its_next_slot() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
    let next = next_of(&app(&file, &clock, [every("s", 5), daily("d")]), "s");
    clock.advance(4 * MINUTE);
    let test =
        app(&file, &clock, [every("s", 5).args(json!({"a": 1})).missed(Missed::Skip), daily("d")]);
    assert_eq!(next_of(&test, "s"), next, "other settings do not move it either");
    drop(test);
    clock.advance(10 * DAY);
    let test = app(&file, &clock, [every("s", 5), daily("d"), every("new", 5)]);
    test.drain();
    assert_eq!(ledger(&test, "d"), ["10 03:00 coalesced +9"], "what was missed while closed");
    assert_eq!(ledger(&test, "s").len(), 1);
    assert!(ledger(&test, "new").is_empty());
}

#[test]
fn a_schedule_changed_while_the_app_was_closed_never_backfills() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
    drop(app(&file, &clock, [daily("s"), daily("zone")]));
    clock.advance(10 * DAY);
    let changed = Schedule::cron("s", "0 4 * * *").unwrap().worker("nothing");
    let test = app(&file, &clock, [changed, daily("zone").time_zone("Asia/Tokyo").unwrap()]);
    assert!(test.drain().fired.is_empty());
    // The old rule's slots have their line.
    assert_eq!(ledger(&test, "s"), ["10 03:00 skipped changed +9"]);
    assert_eq!(ledger(&test, "zone"), ["10 03:00 skipped changed +9"]);
    test.run_for(DAY);
    assert_eq!(ledger(&test, "s").last().unwrap(), "11 04:00 enqueued");
    assert_eq!(ledger(&test, "zone").last().unwrap(), "11 18:00 enqueued");
}

#[test]
fn a_schedule_removed_and_added_again_makes_no_slot_twice() {
    let test = test([every("other", 60)]);
    let hourly = Schedule::cron("s", "0 * * * *").unwrap().worker("nothing");
    test.add_schedule(&hourly).unwrap();
    test.run_for(3 * HOUR + MINUTE);
    test.set_clock_back(2 * HOUR);
    assert!(test.remove_schedule("s").unwrap());
    assert!(!test.remove_schedule("s").unwrap());
    test.add_schedule(&hourly).unwrap();
    test.run_for(3 * HOUR);
    assert_eq!(
        ledger(&test, "s"),
        ["01 01:00 enqueued", "01 02:00 enqueued", "01 03:00 enqueued", "01 04:00 enqueued"]
    );
    assert_eq!(jobs(&test, "s").len(), 4);
}

#[test]
fn removing_a_schedule_leaves_a_line_for_what_was_due() {
    let test = test([daily("s")]);
    test.clock().advance(3 * DAY);
    test.remove_schedule("s").unwrap();
    assert_eq!(ledger(&test, "s"), ["03 03:00 skipped removed +2"]);
    assert!(test.drain().fired.is_empty());
}

#[test]
fn the_ledger_of_a_removed_schedule_is_pruned_too_and_a_live_one_keeps_its_last_line() {
    let test = test([daily("gone"), daily("yearly"), every("other", 720)]);
    test.run_for(DAY);
    test.remove_schedule("gone").unwrap();
    test.add_schedule(&Schedule::cron("yearly", "@yearly").unwrap().worker("nothing")).unwrap();
    test.run_for(100 * DAY);
    assert!(ledger(&test, "gone").is_empty());
    assert_eq!(ledger(&test, "yearly"), ["01 03:00 enqueued"]);
    assert!(test.fires("other", 1_000).unwrap().len() <= 182);
}

#[test]
fn a_paused_schedule_makes_no_job_and_the_ledger_says_so() {
    let test = test([daily("s")]);
    assert!(test.pause_schedule("s").unwrap() && !test.pause_schedule("unknown").unwrap());
    test.run_for(2 * DAY);
    assert_eq!(ledger(&test, "s"), ["01 03:00 skipped paused", "02 03:00 skipped paused"]);
    // Due while it is paused, resumed before anything ticked: still skipped.
    test.clock().advance(2 * DAY);
    assert!(test.resume_schedule("s").unwrap() && !test.resume_schedule("unknown").unwrap());
    test.drain();
    assert_eq!(ledger(&test, "s")[2..], ["04 03:00 skipped paused +1"]);
    test.run_for(DAY);
    assert_eq!(ledger(&test, "s")[3..], ["05 03:00 enqueued"]);
}

#[test]
fn pausing_survives_a_restart_of_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
    app(&file, &clock, [daily("s")]).pause_schedule("s").unwrap();
    let test = app(&file, &clock, [daily("s").missed(Missed::Skip)]);
    test.run_for(DAY);
    assert_eq!(ledger(&test, "s"), ["01 03:00 skipped paused"]);
}

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

// --- overlap, jitter
// ----------------------------------------------------------------------------------------------------------------------

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

// --- run now
// ------------------------------------------------------------------------------------------------------------------------------

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

// --- what is broken stays alone
// -----------------------------------------------------------------------------------------------------------

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
fn a_schedule_that_was_mended_by_hand_goes_on_when_it_is_registered() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
    let test = app(&file, &clock, [daily("s")]);
    test.sql("UPDATE verger_schedules SET expression = 'never mind'");
    test.run_for(DAY);
    assert_eq!(next_of(&test, "s"), None);
    test.sql("UPDATE verger_schedules SET expression = '0 3 * * *'");
    drop(test);
    let test = app(&file, &clock, [daily("s")]);
    test.run_for(DAY);
    assert_eq!(ledger(&test, "s").last().unwrap(), "02 03:00 enqueued");
}

#[test]
fn a_schedule_whose_rows_are_refused_by_the_file_does_not_keep_the_others_from_theirs() {
    let test = test([daily("a"), daily("b")]);
    test.sql("CREATE TRIGGER no BEFORE INSERT ON verger_fires WHEN NEW.schedule = 'a' BEGIN SELECT RAISE(ABORT, 'not today'); END");
    test.clock().advance(DAY);
    let error = test.tick(test.now()).unwrap_err();
    assert!(matches!(error, Error::Store(_)), "{error}");
    assert_eq!(ledger(&test, "b"), ["01 03:00 enqueued"]);
    assert_eq!(jobs(&test, "b")[0].state, JobState::Completed);
    assert!(jobs(&test, "a").is_empty(), "half of it was not kept");
    test.sql("DROP TRIGGER no");
    test.drain();
    assert_eq!(ledger(&test, "a"), ["01 03:00 enqueued"]);
}

#[test]
fn schedules_are_registered_all_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let bad = [
        (vec![daily("a"), daily("a")], "another schedule has the same name"),
        (vec![daily("a"), daily("b").worker("gone")], "wants worker `gone`"),
        (vec![daily("a"), daily("b").missed(Missed::Replay(0))], "replay 0 missed slots"),
        (vec![daily("a"), daily("b").missed(Missed::Replay(1_000_000))], "1 to 10000"),
        (vec![daily("a"), daily("b").priority(10)], "priority"),
        (vec![daily("a"), daily("b").args(json!([1]))], "args"),
    ];
    for (schedules, expected) in bad {
        let builder = Verger::builder(&file).without_built_ins().worker(Nothing);
        let error = schedules.into_iter().fold(builder, Builder::schedule).open().unwrap_err();
        assert!(
            matches!(error, OpenError::Schedule(_)) && error.to_string().contains(expected),
            "{error}"
        );
        let verger = Verger::builder(&file).without_built_ins().open().unwrap();
        assert!(verger.schedules().unwrap().is_empty(), "{expected}");
    }
    assert!(matches!(Schedule::cron("", "* * * * *"), Err(ScheduleError::Invalid { .. })));
    assert!(matches!(Schedule::every("s", Duration::ZERO), Err(ScheduleError::Expression { .. })));
    assert!(matches!(Schedule::every("s", Duration::MAX), Err(ScheduleError::Expression { .. })));
    assert!(
        daily("s").time_zone("Europe/Berin").unwrap_err().to_string().contains("Europe/Berlin")
    );
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

// --- why
// ----------------------------------------------------------------------------------------------------------------------------------

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

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[test]
fn a_schedule_that_the_user_changed_is_not_put_back_when_the_app_opens_again() {
    let folder = tempfile::tempdir().unwrap();
    let open = |expression: &str| {
        let ours = Schedule::cron("sweep", expression)
            .unwrap()
            .worker("cleanup-audit")
            .args(json!({"retention_days": null}))
            .queue("quiet")
            .priority(7)
            .max_attempts(3)
            .time_zone("Europe/Berlin")
            .unwrap()
            .missed(Missed::Replay(4))
            .overlap(Overlap::Allow)
            .start_deadline(Duration::from_secs(90))
            .jitter(Duration::from_secs(5))
            .user_may_change();
        Verger::builder(folder.path().join("app.db")).schedule(ours).open().unwrap()
    };
    let stored = |verger: &Verger| verger.schedules().unwrap().remove(0);
    let verger = open("0 3 * * *");
    drop(verger);
    // Until then it is what the code says.
    let verger = open("0 4 * * *");
    assert_eq!(stored(&verger).expression, "0 4 * * *");
    let before = stored(&verger);
    let earlier = before.to_schedule().unwrap().set_cron("30 1 * * *").unwrap();
    verger.add_schedule(&earlier).unwrap();
    drop(verger);
    let verger = open("0 5 * * *");
    let changed = stored(&verger);
    assert_eq!(changed.expression, "30 1 * * *");
    // One field was changed, and whose it is.
    let mut expected = before;
    expected.expression = changed.expression.clone();
    expected.registered_by = None;
    (expected.anchor, expected.next_fire_at) = (changed.anchor, changed.next_fire_at);
    assert_eq!(changed, expected);
    assert_eq!(changed.deadline(), Some(Duration::from_secs(90)));
    assert_eq!(changed.jitter(), Duration::from_secs(5));
    // Taken out, the code's own comes back.
    verger.remove_schedule("sweep").unwrap();
    drop(verger);
    assert_eq!(stored(&open("0 6 * * *")).expression, "0 6 * * *");
}
