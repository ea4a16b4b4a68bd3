//! The library against the reference.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use verger::{Expression, Timestamp, Zone, parse_zone};

use super::model::{Stretch, accepted, by_day, instant, local_of, plain, same, stretches, zones};
use super::{DAY, MINUTE, SECOND};
use crate::random::Random;

#[test]
fn no_slot_is_skipped_or_doubled() {
    const SEED: u64 = 4;
    let mut random = Random(SEED);
    // Two years with the Samoan day in them.
    let (from, to) = (instant("2010-06-01T00:00:00Z"), instant("2012-06-01T00:00:00Z"));
    for zone in zones(&mut random, 12) {
        let (model, expression) = accepted(&mut random, false);
        let expected = plain(&model, zone, from, to, MINUTE);
        same(&model, &expression, zone, from, &expected);
        // Asked at any instant, not only at a slot, the answer is the first one after it.
        for _ in 0..200 {
            let after = random.between(from * 1_000, to * 1_000 - DAY);
            let place = expected.partition_point(|slot| slot * 1_000 <= after);
            if let Some(slot) = expected.get(place) {
                let next = expression.next_after(
                    Timestamp::from_millis(after),
                    zone,
                    Timestamp::from_millis(0),
                );
                assert_eq!(
                    next,
                    Some(Timestamp::from_millis(slot * 1_000)),
                    "{} in {zone} after {after} ms",
                    model.text
                );
            }
        }
        // The faster reference of the long run says the same.
        let mut fast = Vec::new();
        by_day(&model, &stretches(zone, from - 2 * DAY, to), |slot| fast.push(slot));
        fast.retain(|slot| *slot > from);
        assert_eq!(fast, expected, "{} in {zone}", model.text);
    }
}

#[test]
fn around_a_clock_change_every_second_is_right() {
    let mut random = Random(15);
    let changes = [
        ("Europe/Berlin", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("Australia/Lord_Howe", "2024-10-05T15:30:00Z"),
        ("Australia/Lord_Howe", "2024-04-06T15:00:00Z"),
        ("America/Havana", "2024-03-10T05:00:00Z"),
        ("America/Havana", "2024-11-03T05:00:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z"),
        // Kwajalein lost 1993-08-21; Monrovia went forward by 44 minutes and 30 seconds.
        ("Pacific/Kwajalein", "1993-08-21T12:00:00Z"),
        ("Africa/Monrovia", "1972-01-07T00:44:30Z"),
        // Caracas went back by half an hour at 03:00.
        ("America/Caracas", "2007-12-09T07:00:00Z"),
    ];
    for (zone, change) in changes {
        let (zone, change) = (parse_zone(zone).unwrap(), instant(change));
        assert_ne!(
            local_of(zone, change) - local_of(zone, change - 1),
            1,
            "{zone}: no change at {change}"
        );
        for round in 0..4 {
            // Days and months that match on these days, so that there is something to see.
            let (model, expression) = loop {
                let (model, expression) = accepted(&mut random, round % 2 == 0);
                if (-1..=2).any(|day| model.matches_day(change.div_euclid(DAY) + day)) {
                    break (model, expression);
                }
            };
            let (from, to) = (change - 5 * 3_600, change + 5 * 3_600);
            let expected = plain(&model, zone, from, to, SECOND);
            same(&model, &expression, zone, from, &expected);
            for _ in 0..100 {
                let after = random.between(from * 1_000, to * 1_000);
                let next = expression.next_after(
                    Timestamp::from_millis(after),
                    zone,
                    Timestamp::from_millis(0),
                );
                let place = expected.partition_point(|slot| slot * 1_000 <= after);
                match expected.get(place) {
                    Some(slot) => assert_eq!(
                        next,
                        Some(Timestamp::from_millis(slot * 1_000)),
                        "{} in {zone}",
                        model.text
                    ),
                    None => assert!(
                        next.is_none_or(|next| next.as_millis() > to * 1_000),
                        "{} in {zone}: {next:?}",
                        model.text
                    ),
                }
            }
        }
    }
}

/// The whole of it: 500 random expressions in each of 20 zones over 20 years.
#[test]
#[ignore = "takes minutes: started by name"]
fn no_slot_is_skipped_or_doubled_in_twenty_years() {
    let seed = std::env::var("VERGER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2026);
    let mut random = Random(seed);
    let (from, to) = (instant("2007-01-01T00:00:00Z"), instant("2027-01-01T00:00:00Z"));
    let zones: Vec<(Zone, Vec<Stretch>)> = zones(&mut random, 20)
        .into_iter()
        .map(|zone| (zone, stretches(zone, from - 2 * DAY, to)))
        .collect();
    println!(
        "seed {seed}, zones: {}",
        zones.iter().map(|(zone, _)| zone.name()).collect::<Vec<_>>().join(", ")
    );
    let (started, mut compared, mut wildcards) = (Instant::now(), 0_u64, 0);
    for _ in 0..500 {
        let (model, expression) = accepted(&mut random, false);
        wildcards += u32::from(model.follows_elapsed_time());
        for (zone, stretches) in &zones {
            let mut after = from;
            by_day(&model, stretches, |slot| {
                if slot > from {
                    let next = expression.next_after(
                        Timestamp::from_millis(after * 1_000),
                        *zone,
                        Timestamp::from_millis(0),
                    );
                    assert_eq!(
                        next,
                        Some(Timestamp::from_millis(slot * 1_000)),
                        "{} in {zone} after {after}, seed {seed}",
                        model.text
                    );
                    after = slot;
                    compared += 1;
                }
            });
        }
    }
    let changes: usize = zones.iter().map(|(_, stretches)| stretches.len() - 1).sum();
    println!(
        "500 expressions ({wildcards} with a wildcard hour or minute) x {} zones x 20 years, {changes} clock changes: {compared} slots the same, in {:.0?}",
        zones.len(),
        started.elapsed()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = Expression::cron(&text).map(|expression| expression.describe());
        let _ = parse_zone(&text);
    }

    #[test]
    fn no_crontab_like_text_makes_it_panic(text in "[-*/,0-9@a-zA-Z ?#\t]{0,60}") {
        if let Ok(expression) = Expression::cron(&text) {
            prop_assert_eq!(Expression::cron(&expression.to_string()), Ok(expression));
        }
    }

    #[test]
    fn whatever_is_accepted_reads_back_the_same_and_moves_forward(seed in any::<u64>(), after in any::<i64>(), anchor in any::<i64>()) {
        let mut random = Random(seed);
        let seconds = seed % 2 == 0;
        let (_, expression) = accepted(&mut random, seconds);
        prop_assert!(!expression.describe().is_empty());
        let zone = zones(&mut random, 7)[6];
        for after in [after, after % 10_000_000_000_000, after >> 16] {
            let after = Timestamp::from_millis(after);
            if let Some(next) = expression.next_after(after, zone, Timestamp::from_millis(anchor)) {
                prop_assert!(next > after);
            }
        }
    }

    #[test]
    fn an_interval_never_stands_still(millis in 1_000_u64..4_000_000_000_000, after in any::<i64>(), anchor in any::<i64>()) {
        let Ok(every) = Expression::every(Duration::from_millis(millis)) else { return Ok(()) };
        prop_assert_eq!(&Expression::cron(&every.to_string()).unwrap(), &every);
        if let Some(next) = every.next_after(Timestamp::from_millis(after), Zone::UTC, Timestamp::from_millis(anchor)) {
            prop_assert!(next.as_millis() > after);
            let since = i128::from(next.as_millis()) - i128::from(anchor);
            prop_assert!(since >= i128::from(millis) && since % i128::from(millis) == 0);
            prop_assert!(since == i128::from(millis) || i128::from(next.as_millis()) - i128::from(millis) <= i128::from(after));
        }
    }
}
