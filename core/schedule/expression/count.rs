//! How many slots lie between two instants: exact, and without visiting them one by one.
//!
//! A rule for every second has 31 million slots a year. Where the clock of the zone runs evenly,
//! every matching day, hour and minute has as many slots as any other, so they are counted by the
//! day, and by the hour and minute at the edges and around clock changes.

use super::clock;
use super::rule::Rule;
use super::zone::Zone;
use super::{Expression, Kind};
use crate::time::Timestamp;

/// After a change of the clock by so much at most, a rule for particular times may have reached
/// some of them already.
const FOLD_MAX: i64 = 6 * 3_600;

impl Expression {
    /// The number of slots after `after`, up to and with `until`.
    pub(crate) fn count_between(
        &self,
        after: Timestamp,
        until: Timestamp,
        zone: Zone,
        anchor: Timestamp,
    ) -> u64 {
        match &self.kind {
            Kind::Cron(rule) => {
                let seconds = |at: Timestamp| at.as_millis().div_euclid(1_000).max(-86_400);
                count(rule, zone, seconds(after), seconds(until))
            }
            Kind::Every(interval) => interval.count_between(after, until, anchor),
            Kind::Reboot => 0,
        }
    }
}

fn count(rule: &Rule, zone: Zone, mut after: i64, until: i64) -> u64 {
    let levels = [86_400, 3_600, 60].map(|length| (length, rule.slots_per(length)));
    let mut count = 0;
    while let Some(slot) = clock::next_slot(rule, zone, after).filter(|slot| *slot <= until) {
        let whole = levels.iter().find_map(|(length, slots)| {
            let end = even_block(rule, zone, slot, *length, after)?;
            (end - 1 <= until).then_some((end, *slots))
        });
        match whole {
            Some((end, slots)) => {
                count += slots;
                after = end - 1;
            }
            None => {
                count += 1;
                after = slot;
            }
        }
    }
    count
}

/// The end of the local day, hour or minute that `slot` is in, when all of it lies after `after`
/// and the clock runs evenly through it.
fn even_block(rule: &Rule, zone: Zone, slot: i64, length: i64, after: i64) -> Option<i64> {
    let even = zone.offset(slot);
    let start = slot - (slot + even).rem_euclid(length);
    let end = start + length;
    let from = if rule.is_wildcard() { start } else { start - FOLD_MAX };
    // Clocks are not changed twice within six hours.
    let looks = (from..end).step_by(6 * 3_600).chain([end - 1]);
    (after < start && looks.into_iter().all(|at| zone.offset(at) == even)).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::parse_zone;

    fn one_by_one(
        expression: &Expression,
        mut after: Timestamp,
        until: Timestamp,
        zone: Zone,
        anchor: Timestamp,
    ) -> u64 {
        let mut count = 0;
        while let Some(next) =
            expression.next_after(after, zone, anchor).filter(|next| *next <= until)
        {
            count += 1;
            after = next;
        }
        count
    }

    #[test]
    fn slots_are_counted_as_if_one_by_one() {
        // Odd edges, and every kind of clock change in between.
        let anchor = Timestamp::from_millis(1_700_000_000_123);
        let spans = [
            ("Europe/Berlin", 1_774_659_000_001, 3 * 86_400_000),
            ("Europe/Berlin", 1_792_800_000_999, 3 * 86_400_000),
            ("America/Havana", 1_772_900_000_000, 3 * 86_400_000),
            ("America/Havana", 1_793_400_000_000, 3 * 86_400_000),
            ("Australia/Lord_Howe", 1_775_200_000_000, 3 * 86_400_000),
            ("Pacific/Apia", 1_325_000_000_000, 4 * 86_400_000),
            ("Africa/Casablanca", 1_771_000_000_000, 3 * 86_400_000),
            ("UTC", 1_772_900_000_000, 40 * 86_400_000),
        ];
        let rules = [
            "* * * * *",
            "*/5 * * * *",
            "30 2 * * *",
            "0 0 * * *",
            "15,45 0-3 * * *",
            "0 0-23/2 13 * 5",
            "7 * * * mon-fri",
            "*/7 1-4 * * *",
            "30 */10 * * * *",
            "@every 7m",
            "@every 1001ms",
            "0 0 29 2 *",
        ];
        for (zone, after, length) in spans {
            let zone = parse_zone(zone).unwrap();
            for rule in rules {
                let expression = Expression::cron(rule).unwrap();
                let after = Timestamp::from_millis(after);
                let until = after + std::time::Duration::from_millis(length);
                let counted = expression.count_between(after, until, zone, anchor);
                assert_eq!(
                    counted,
                    one_by_one(&expression, after, until, zone, anchor),
                    "{rule} in {zone} after {after}"
                );
            }
        }
    }

    #[test]
    fn a_year_of_seconds_is_counted_in_milliseconds() {
        let begun = std::time::Instant::now();
        let (zone, every_second) =
            (parse_zone("Europe/Berlin").unwrap(), Expression::cron("* * * * * *").unwrap());
        let after = Timestamp::from_millis(1_767_225_600_500);
        let until = after + std::time::Duration::from_secs(365 * 86_400);
        assert_eq!(every_second.count_between(after, until, zone, after), 365 * 86_400);
        assert!(begun.elapsed().as_millis() < 1_000, "{:?}", begun.elapsed());
    }
}
