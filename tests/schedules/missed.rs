//! Slots that were missed, and what the policy does with them.

use std::time::{Duration, Instant};

use serde_json::json;
use verger::testing::TestVerger;
use verger::{Expression, FireOutcome, JobState, Missed, Overlap, Schedule, Timestamp};

use super::{DAY, HOUR, at, daily, every, jobs, ledger, next_of, test};
use crate::random::Random;

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
                test.sleep_laptop(Duration::from_secs(random.below(4 * 3_600) as u64));
                match random.below(10) {
                    0 => assert!(test.pause_schedule("s").unwrap()),
                    1 => assert!(test.resume_schedule("s").unwrap()),
                    _ => {}
                }
            }
            let (rule, mut slot, mut slots) =
                (Expression::cron(expression).unwrap(), TestVerger::START, Vec::new());
            while let Some(next) = rule
                .next_after(slot, verger::Zone::UTC, TestVerger::START)
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
