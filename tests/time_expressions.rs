//! When schedules fire: what expressions mean, what is refused, and what clock changes do.
//!
//! The tables hold transitions that happened, worked out by hand from the IANA database. The
//! property compares the library with a reference written here that knows nothing of its workings:
//! it walks every minute, asks the zone for the local time, and applies crontab(5) and cron(8) to
//! the letter. `cargo test --release --test time_expressions -- --ignored --nocapture` runs it
//! over 500 expressions, 20 zones and 20 years, walking minutes by the day.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone};
use chrono_tz::Tz;
use proptest::prelude::*;
use verger::{ClockChange, Expression, ExpressionError, Timestamp, parse_zone, upcoming};

const SECOND: i64 = 1;
const MINUTE: i64 = 60;
const DAY: i64 = 86_400;

fn at(text: &str) -> Timestamp {
    Timestamp::from_millis(
        DateTime::parse_from_rfc3339(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .timestamp_millis(),
    )
}

fn cron(text: &str) -> Expression {
    Expression::cron(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The slots after `from`, as local times with their offsets.
fn slots(text: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let (expression, zone) = (cron(text), parse_zone(zone).unwrap());
    let mut after = at(from);
    let mut found = Vec::new();
    while found.len() < count {
        let Some(next) = expression.next_after(after, zone, at(from)) else { break };
        assert!(next > after, "{text}: {next} does not come after {after}");
        found.push(next.to_utc().unwrap().with_timezone(&zone).to_rfc3339());
        after = next;
    }
    found
}

// --- what fields mean
// -------------------------------------------------------------------------------------------------------------------

#[test]
fn sunday_is_0_and_7_and_every_weekday_is_its_own() {
    // 2026-02-01 is a Sunday.
    let table = [
        ("0", vec![1]),
        ("7", vec![1]),
        ("sun", vec![1]),
        ("1", vec![2]),
        ("Mon", vec![2]),
        ("2", vec![3]),
        ("tue", vec![3]),
        ("3", vec![4]),
        ("WED", vec![4]),
        ("4", vec![5]),
        ("thu", vec![5]),
        ("5", vec![6]),
        ("fri", vec![6]),
        ("6", vec![7]),
        ("sat", vec![7]),
        ("1-5", vec![2, 3, 4, 5, 6]),
        ("mon-fri", vec![2, 3, 4, 5, 6]),
        ("5-7", vec![1, 6, 7]),
        ("fri-sun", vec![1, 6, 7]),
        ("sat-sun", vec![1, 7]),
        ("sun-sat", vec![1, 2, 3, 4, 5, 6, 7]),
        ("sun-tue", vec![1, 2, 3]),
        ("sat,sun", vec![1, 7]),
        ("0-7", vec![1, 2, 3, 4, 5, 6, 7]),
        ("0,7", vec![1]),
        ("6-7", vec![1, 7]),
        ("*", vec![1, 2, 3, 4, 5, 6, 7]),
        ("*/2", vec![1, 3, 5, 7]),
        ("*/3", vec![1, 4, 7]),
        ("*/7", vec![1]),
        ("1-7/2", vec![1, 2, 4, 6]),
        ("1-5/2", vec![2, 4, 6]),
        ("mon,3,fri-sat", vec![2, 4, 6, 7]),
    ];
    for (weekday, days) in table {
        let text = format!("0 12 * * {weekday}");
        let expected: Vec<String> =
            days.iter().map(|day| format!("2026-02-{day:02}T12:00:00+00:00")).collect();
        assert_eq!(slots(&text, "UTC", "2026-02-01T00:00:00Z", days.len()), expected, "{text}");
    }
}

#[test]
fn fields_mean_what_crontab_5_says() {
    let from = "2026-01-01T00:00:00Z";
    let table: &[(&str, &[&str])] = &[
        ("* * * * *", &["2026-01-01T00:01", "2026-01-01T00:02"]),
        ("*/20 * * * *", &["2026-01-01T00:20", "2026-01-01T00:40", "2026-01-01T01:00"]),
        ("*/45 * * * *", &["2026-01-01T00:45", "2026-01-01T01:00", "2026-01-01T01:45"]),
        ("*/90 * * * *", &["2026-01-01T01:00", "2026-01-01T02:00"]),
        (
            "5-30/10 4 * * *",
            &["2026-01-01T04:05", "2026-01-01T04:15", "2026-01-01T04:25", "2026-01-02T04:05"],
        ),
        ("23 0-23/2 * * *", &["2026-01-01T00:23", "2026-01-01T02:23"]),
        ("15 14 1 * *", &["2026-01-01T14:15", "2026-02-01T14:15"]),
        ("0 22 * * 1-5", &["2026-01-01T22:00", "2026-01-02T22:00", "2026-01-05T22:00"]),
        ("5 4 * * sun", &["2026-01-04T04:05", "2026-01-11T04:05"]),
        (
            "1,2,5,9 0 * * *",
            &[
                "2026-01-01T00:01",
                "2026-01-01T00:02",
                "2026-01-01T00:05",
                "2026-01-01T00:09",
                "2026-01-02T00:01",
            ],
        ),
        (
            "0 0-4,8-12 * * *",
            &[
                "2026-01-01T01:00",
                "2026-01-01T02:00",
                "2026-01-01T03:00",
                "2026-01-01T04:00",
                "2026-01-01T08:00",
            ],
        ),
        ("0 0 1 jan,JUL *", &["2026-07-01T00:00", "2027-01-01T00:00"]),
        ("0 0 1 nov-dec *", &["2026-11-01T00:00", "2026-12-01T00:00", "2027-11-01T00:00"]),
        ("  007\t\t09 * *   *  ", &["2026-01-01T09:07", "2026-01-02T09:07"]),
        ("0 0 29 2 *", &["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("0 0 31 * *", &["2026-01-31T00:00", "2026-03-31T00:00", "2026-05-31T00:00"]),
        // Both day fields restricted: either.
        (
            "30 4 1,15 * 5",
            &[
                "2026-01-01T04:30",
                "2026-01-02T04:30",
                "2026-01-09T04:30",
                "2026-01-15T04:30",
                "2026-01-16T04:30",
            ],
        ),
        ("0 0 30 2 1", &["2026-02-02T00:00", "2026-02-09T00:00"]),
        ("0 0 1-31 * 1", &["2026-01-02T00:00", "2026-01-03T00:00"]),
        ("0 0 10,* * 1", &["2026-01-02T00:00", "2026-01-03T00:00"]),
        // One begins with `*`: both.
        ("0 0 */2 * 1", &["2026-01-05T00:00", "2026-01-19T00:00", "2026-02-09T00:00"]),
        ("0 0 1 * */2", &["2026-02-01T00:00", "2026-03-01T00:00", "2026-08-01T00:00"]),
        ("0 0 *,10 * 1", &["2026-01-05T00:00", "2026-01-12T00:00"]),
        ("@yearly", &["2027-01-01T00:00", "2028-01-01T00:00"]),
        ("@annually", &["2027-01-01T00:00"]),
        ("@monthly", &["2026-02-01T00:00", "2026-03-01T00:00"]),
        ("@weekly", &["2026-01-04T00:00", "2026-01-11T00:00"]),
        ("@daily", &["2026-01-02T00:00"]),
        (" @Midnight\n", &["2026-01-02T00:00"]),
        ("@hourly", &["2026-01-01T01:00", "2026-01-01T02:00"]),
    ];
    for (text, expected) in table {
        let found = slots(text, "UTC", from, expected.len());
        let expected: Vec<String> =
            expected.iter().map(|slot| format!("{slot}:00+00:00")).collect();
        assert_eq!(found, expected, "{text}");
    }
    assert_eq!(
        slots("*/25 59 23 31 12 *", "UTC", from, 4),
        [
            "2026-12-31T23:59:00+00:00",
            "2026-12-31T23:59:25+00:00",
            "2026-12-31T23:59:50+00:00",
            "2027-12-31T23:59:00+00:00"
        ]
    );
}

#[test]
fn reboot_has_no_instant() {
    let reboot = cron("@reboot");
    assert!(reboot.is_reboot());
    assert!(!cron("@daily").is_reboot());
    assert_eq!(
        reboot.next_after(at("2026-01-01T00:00:00Z"), Tz::UTC, at("2026-01-01T00:00:00Z")),
        None
    );
}

#[test]
fn a_slot_comes_strictly_after_to_the_millisecond() {
    let daily = cron("@daily");
    let midnight = at("2026-01-02T00:00:00Z");
    let next = |millis| {
        daily
            .next_after(Timestamp::from_millis(midnight.as_millis() + millis), Tz::UTC, midnight)
            .unwrap()
    };
    assert_eq!(next(-1), midnight);
    assert_eq!(next(-999), midnight);
    assert_eq!(next(0), at("2026-01-03T00:00:00Z"));
    assert_eq!(next(1), at("2026-01-03T00:00:00Z"));
    let second = cron("* * * * * *");
    assert_eq!(
        second.next_after(Timestamp::from_millis(500), Tz::UTC, midnight),
        Some(Timestamp::from_millis(1_000))
    );
    assert_eq!(
        second.next_after(Timestamp::from_millis(999), Tz::UTC, midnight),
        Some(Timestamp::from_millis(1_000))
    );
    assert_eq!(
        second.next_after(Timestamp::from_millis(1_000), Tz::UTC, midnight),
        Some(Timestamp::from_millis(2_000))
    );
}

#[test]
fn the_ends_of_time_end_the_schedule() {
    let anchor = Timestamp::from_millis(0);
    for text in ["* * * * *", "0 0 29 2 *", "@yearly", "0 0 29 2 */7", "30 2 * * *"] {
        for zone in ["UTC", "Europe/Berlin", "Pacific/Apia", "America/Havana"] {
            let (expression, zone) = (cron(text), parse_zone(zone).unwrap());
            let next = |millis| expression.next_after(Timestamp::from_millis(millis), zone, anchor);
            assert_eq!(next(i64::MAX), None, "{text}");
            assert_eq!(next(i64::MIN), None, "{text}: chrono cannot hold it");
            assert_eq!(
                next(chrono::DateTime::<chrono::Utc>::MAX_UTC.timestamp_millis()),
                None,
                "{text}"
            );
            let first = next(chrono::DateTime::<chrono::Utc>::MIN_UTC.timestamp_millis()).unwrap();
            assert_eq!(Some(first), next(-2 * DAY * 1_000), "{text}");
            assert!(first.as_millis() > -DAY * 1_000, "{text}: {first}");
            assert_eq!(next(at("2101-01-02T00:00:00Z").as_millis()), None, "{text}");
        }
    }
    let last = at("2100-12-31T23:59:00Z");
    assert_eq!(
        cron("* * * * *").next_after(at("2100-12-31T23:58:30Z"), Tz::UTC, anchor),
        Some(last)
    );
    assert_eq!(cron("* * * * *").next_after(last, Tz::UTC, anchor), None);
}

// --- intervals
// --------------------------------------------------------------------------------------------------------------------------

#[test]
fn an_interval_counts_from_its_anchor_without_drift() {
    let every = Expression::every(Duration::from_millis(90_500)).unwrap();
    let next = |after, anchor| {
        every
            .next_after(
                Timestamp::from_millis(after),
                Tz::Europe__Berlin,
                Timestamp::from_millis(anchor),
            )
            .map(Timestamp::as_millis)
    };
    assert_eq!(next(7, 7), Some(90_507));
    assert_eq!(next(90_506, 7), Some(90_507));
    assert_eq!(next(90_507, 7), Some(181_007));
    assert_eq!(
        next(-5_000_000, 7),
        Some(90_507),
        "the anchor itself is no slot, nor anything before it"
    );
    assert_eq!(next(i64::MIN, 7), Some(90_507));
    assert_eq!(next(i64::MAX, 7), None);
    assert_eq!(
        next(i64::MAX - 1, i64::MIN).map(|slot| (slot as i128 - i64::MIN as i128) % 90_500),
        None
    );
    assert_eq!(next(0, i64::MAX), None);
    let far = next(i64::MAX - 90_500, 7).unwrap();
    assert_eq!((far - 7) % 90_500, 0);
    assert!(far > i64::MAX - 90_500);
    // A million slots later it is still exact, over every change of the clocks.
    assert_eq!(next(7 + 90_500 * 1_000_000, 7), Some(7 + 90_500 * 1_000_001));
}

#[test]
fn an_interval_that_cannot_be_kept_is_refused() {
    let century = Duration::from_secs(36_525 * 86_400);
    for (interval, reason) in [
        (Duration::ZERO, "zero"),
        (Duration::from_nanos(1), "milliseconds"),
        (Duration::from_millis(999), "shorter than 1 second"),
        (Duration::from_micros(1_000_500), "milliseconds"),
        (century + Duration::from_millis(1), "longer than 100 years"),
        (Duration::from_secs(1_000_000_000_000_000_000), "longer than 100 years"),
        (Duration::from_millis(1_000_000_000_000_000_000), "longer than 100 years"),
        (Duration::new(u64::MAX, 999_000_000), "longer than 100 years"),
    ] {
        let error = Expression::every(interval).unwrap_err();
        assert!(matches!(error, ExpressionError::Interval { .. }), "{interval:?}");
        assert!(error.to_string().contains(reason), "{interval:?}: {error}");
    }
    assert!(Expression::every(Duration::from_secs(1)).is_ok());
    assert!(Expression::every(century).is_ok());
    for (text, reason) in [
        ("@every", "missing"),
        ("@every ", "missing"),
        ("@every 5", "unit is missing"),
        ("@every -5m", "negative"),
        ("@every 0s", "zero"),
        ("@every 10ms", "shorter than 1 second"),
        ("@every 5 m", "unit is missing"),
        ("@every 5y", "unit is unknown"),
        ("@every 1.5h", "unit is missing"),
        ("@every m", "number is missing"),
        ("@every ½h", "number is missing"),
        ("@every 1000000000000000000s", "longer than 100 years"),
        ("@every 99999999999999999999999999999999999999999999w", "longer than 100 years"),
    ] {
        let error = Expression::cron(text).unwrap_err();
        assert!(matches!(error, ExpressionError::Interval { .. }), "{text}: {error:?}");
        assert!(error.to_string().contains(reason), "{text}: {error}");
    }
    for (text, same) in [
        ("@every 1h30m", 5_400),
        ("@every 90s", 90),
        ("@EVERY 2w", 1_209_600),
        ("@every 1000ms", 1),
        ("@every 1d", 86_400),
    ] {
        assert_eq!(cron(text), Expression::every(Duration::from_secs(same)).unwrap(), "{text}");
    }
}

// --- bad input
// --------------------------------------------------------------------------------------------------------------------------

#[test]
fn an_error_points_at_the_field_and_says_what_to_write() {
    let table = [
        (
            "60 * * * *",
            "minute field \"60\", at byte 0: 60 is outside 0-59; write a number from 0 to 59, or *",
        ),
        ("0 24 * * *", "hour field \"24\", at byte 2: 24 is outside 0-23"),
        ("0 0 0 * *", "day-of-month field \"0\", at byte 4: 0 is outside 1-31"),
        ("0 0 32 * *", "day-of-month field \"32\", at byte 4: 32 is outside 1-31"),
        (
            "0 0 * 0 *",
            "month field \"0\", at byte 6: 0 is outside 1-12; write a number from 1 to 12, a name from jan to dec, or *",
        ),
        ("0 0 * 13 *", "month field \"13\", at byte 6: 13 is outside 1-12"),
        ("0 0 * * 8", "day-of-week field \"8\", at byte 8: 8 is outside 0-7"),
        ("  0   0 * * 1,2,9", "day-of-week field \"1,2,9\", at byte 16: 9 is outside 0-7"),
        ("60 0 0 * * *", "second field \"60\", at byte 0"),
        (
            "5-1 * * * *",
            "minute field \"5-1\", at byte 0: the range \"5-1\" runs backwards; write \"5-59,0-1\" to go past the end, or \"1-5\"",
        ),
        ("0 22-6 * * *", "write \"22-23,0-6\" to go past the end"),
        ("0 0 * * 7-2", "the range \"7-2\" runs backwards; write \"0-2\", 0 is Sunday as well"),
        ("0 0 * * 5-0", "write \"5-7\", 7 is Sunday as well"),
        ("0 0 * * fri-mon", "write \"5-6,0-1\" to go past the end"),
        (
            "0,15,5/10 * * * *",
            "at byte 5: a step needs a range or * in front of it; write \"5-59/10\" for every 10 from 5 on, or \"5\"",
        ),
        ("*/0 * * * *", "minute field \"*/0\", at byte 2: a step of 0 goes nowhere"),
        ("*/ * * * *", "at byte 2: the step is missing"),
        ("*/-5 * * * *", "at byte 2: the step \"-5\" is not a number"),
        ("*/5/5 * * * *", "at byte 2: the step \"5/5\" is not a number"),
        ("*/99999999999999999999 * * * *", "at byte 2: the step 99999999999999999999 is too large"),
        ("99999999999999999999 * * * *", "at byte 0: 99999999999999999999 is outside 0-59"),
        ("1- * * * *", "at byte 2: a value is missing"),
        ("-1 * * * *", "at byte 0: a value is missing"),
        ("1-2-3 * * * *", "at byte 2: \"2-3\" is not a number"),
        (", * * * *", "minute field \",\", at byte 0: a value is missing"),
        ("1,,2 * * * *", "at byte 2: a value is missing"),
        ("1, * * * *", "at byte 2: a value is missing"),
        ("** * * * *", "minute field \"**\", at byte 0: \"**\" is not a number"),
        ("*5 * * * *", "\"*5\" is not a number"),
        ("1.5 * * * *", "\"1.5\" is not a number"),
        ("+5 * * * *", "\"+5\" is not a number"),
        (
            "0 0 * * monday",
            "\"monday\" is neither a number nor a name; names are their first three letters: write \"mon\"",
        ),
        ("0 0 * sept *", "write \"sep\""),
        ("0 0 * mon *", "\"mon\" is neither a number nor a name"),
        ("jan 0 * * *", "\"jan\" is not a number"),
        ("0 0 ? * *", "\"?\" is not crontab(5), which has no ?, L, W or #"),
        ("0 0 L * *", "is not crontab(5)"),
        ("0 0 * * 5#2", "is not crontab(5)"),
        ("0 0 * * ١", "\"١\" is neither"),
        ("０ 0 * * *", "is not a number"),
        ("\u{0} 0 * * *", "minute field \"\\0\", at byte 0"),
        ("0 \u{1b}[31m * * *", "hour field \"\\u{1b}[31m\", at byte 2"),
        ("0\u{a0}0 * * *", "the expression has 4 fields"),
        ("0 0\n* * *", "the expression has 4 fields"),
        ("* * * *", "the expression has 4 fields: write five"),
        ("*", "the expression has 1 field: write five"),
        ("0 0 0 1 1 * 2026", "the expression has 7 fields"),
        ("0 3 * * * /bin/true", "minute field \"3\""),
        ("", "the expression is empty"),
        (" \t\n", "the expression is empty"),
        ("@fortnightly", "\"@fortnightly\", at byte 0, is not a nickname: use @yearly"),
        ("  @", "\"@\", at byte 2, is not a nickname"),
        ("@everyday", "is not a nickname"),
        ("@daily now", "is not a nickname"),
    ];
    for (text, expected) in table {
        let error = match Expression::cron(text) {
            Ok(expression) => panic!("{text:?} was read as {expression}"),
            Err(error) => error.to_string(),
        };
        // "/bin/true" makes six fields: the seconds are then the first of them.
        if text == "0 3 * * * /bin/true" {
            assert!(error.contains("day-of-week field \"/bin/true\""), "{error}");
        } else {
            assert!(error.contains(expected), "{text:?}: {error}\nexpected: {expected}");
        }
    }
}

#[test]
fn a_schedule_that_could_never_fire_is_refused() {
    for text in [
        "0 0 30 2 *",
        "0 0 31 2,4,6,9,11 *",
        "0 0 31 4,6,9,11 *",
        "0 0 30-31 feb *",
        "0 0 31 4 */2",
        "* * * 31 nov *",
    ] {
        let error = Expression::cron(text).unwrap_err();
        assert!(matches!(error, ExpressionError::Never { .. }), "{text}: {error}");
    }
    let error = Expression::cron("0 0 30 2 *").unwrap_err().to_string();
    assert!(
        error.starts_with("day-of-month field \"30\", at byte 4: the schedule would never fire"),
        "{error}"
    );
    for text in ["0 0 29 2 *", "0 0 31 4,5 *", "0 0 30 2 1", "0 0 28-31 2 *", "0 0 29 2 */7"] {
        assert!(
            cron(text)
                .next_after(at("2026-01-01T00:00:00Z"), Tz::UTC, at("2026-01-01T00:00:00Z"))
                .is_some(),
            "{text}"
        );
    }
}

#[test]
fn absurd_lengths_are_refused_in_no_time() {
    let started = Instant::now();
    for text in [
        "*".repeat(10 << 20),
        "1,".repeat(5 << 20),
        " ".repeat(10 << 20),
        "@".repeat(10 << 20),
        "🦀".repeat(1 << 20),
    ] {
        let error = Expression::cron(&text).unwrap_err();
        assert!(error.to_string().len() < 200, "the message holds the input");
    }
    for text in [
        "1,".repeat(499) + "1 * * * *",
        "9".repeat(990) + " * * * *",
        "* ".repeat(500),
        "@every ".to_owned() + &"1w".repeat(400),
    ] {
        let _ = Expression::cron(&text);
    }
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_unknown_zone_suggests_the_nearest() {
    let table: &[(&str, &[&str])] = &[
        ("Europe/Berlim", &["Europe/Berlin"]),
        ("europe/berlin", &["Europe/Berlin"]),
        ("Berlin", &["Europe/Berlin"]),
        ("New York", &["America/New_York"]),
        ("America/NewYork", &["America/New_York"]),
        ("Lord_How", &["Australia/Lord_Howe"]),
        ("Amerika/Havanna", &["America/Havana"]),
        ("utc", &["Etc/UTC", "UTC"]),
        ("Mars/Olympus_Mons", &[]),
        ("", &[]),
        ("\u{0}\u{7f}🦀", &[]),
    ];
    for (name, expected) in table {
        let error = parse_zone(name).unwrap_err();
        assert_eq!(error.nearest.as_slice(), *expected, "{name:?}: {error}");
    }
    assert_eq!(
        parse_zone("Europe/Berlim").unwrap_err().to_string(),
        "\"Europe/Berlim\" is not an IANA time zone; did you mean Europe/Berlin?"
    );
    assert!(parse_zone(&"x".repeat(10 << 20)).unwrap_err().to_string().len() < 200);
    for zone in chrono_tz::TZ_VARIANTS {
        assert_eq!(parse_zone(zone.name()), Ok(zone));
    }
    assert_eq!(parse_zone(" UTC\n"), Ok(Tz::UTC));
}

// --- clock changes
// ----------------------------------------------------------------------------------------------------------------------

#[test]
fn clock_changes_are_as_cron_8_has_them() {
    // (expression, zone, after, the next slots in local time)
    let table: &[(&str, &str, &str, &[&str])] = &[
        // Berlin: 02:00 → 03:00 on 2026-03-29, 03:00 → 02:00 on 2026-10-25.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T00:00:00Z",
            &[
                "2026-03-28T02:30:00+01:00",
                "2026-03-29T03:00:00+02:00",
                "2026-03-30T02:30:00+02:00",
            ],
        ),
        (
            "0 2,3 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &[
                "2026-03-29T03:00:00+02:00",
                "2026-03-30T02:00:00+02:00",
                "2026-03-30T03:00:00+02:00",
            ],
        ),
        (
            "0,20,40 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"],
        ),
        (
            "30 3 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["2026-03-29T03:30:00+02:00", "2026-03-30T03:30:00+02:00"],
        ),
        (
            "0 30 2 29 3 *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["2026-03-29T03:00:00+02:00", "2027-03-29T02:30:00+02:00"],
        ),
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &[
                "2026-10-25T02:30:00+02:00",
                "2026-10-26T02:30:00+01:00",
                "2026-10-27T02:30:00+01:00",
            ],
        ),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:59:00Z", &["2026-10-26T02:30:00+01:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:00:00Z", &["2026-10-26T02:30:00+01:00"]),
        (
            "0 3 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T03:00:00+01:00", "2026-10-26T03:00:00+01:00"],
        ),
        (
            "0 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T02:00:00+02:00", "2026-10-26T02:00:00+01:00"],
        ),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:29:00Z",
            &[
                "2026-03-29T01:30:00+01:00",
                "2026-03-29T03:00:00+02:00",
                "2026-03-29T03:30:00+02:00",
            ],
        ),
        (
            "30 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:00:00Z",
            &["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"],
        ),
        (
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            &["2026-03-30T02:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        (
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &[
                "2026-10-25T02:00:00+02:00",
                "2026-10-25T02:30:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T02:30:00+01:00",
                "2026-10-26T02:00:00+01:00",
            ],
        ),
        (
            "@hourly",
            "Europe/Berlin",
            "2026-10-24T23:00:00Z",
            &[
                "2026-10-25T02:00:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T03:00:00+01:00",
            ],
        ),
        (
            "30 2-3 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T02:30:00+02:00", "2026-10-25T03:30:00+01:00"],
        ),
        (
            "0-59 2 25 10 *",
            "Europe/Berlin",
            "2026-10-25T00:58:00Z",
            &["2026-10-25T02:59:00+02:00", "2027-10-25T02:00:00+02:00"],
        ),
        (
            "* 30 2 * * *",
            "Europe/Berlin",
            "2026-10-25T00:30:58Z",
            &[
                "2026-10-25T02:30:59+02:00",
                "2026-10-25T02:30:00+01:00",
                "2026-10-25T02:30:01+01:00",
            ],
        ),
        // New York: 02:00 → 03:00 on 2026-03-08, 02:00 → 01:00 on 2026-11-01.
        (
            "15 2 * * *",
            "America/New_York",
            "2026-03-08T00:00:00Z",
            &["2026-03-08T03:00:00-04:00", "2026-03-09T02:15:00-04:00"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-10-31T12:00:00Z",
            &["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"],
        ),
        (
            "30 * * * *",
            "America/New_York",
            "2026-11-01T05:00:00Z",
            &[
                "2026-11-01T01:30:00-04:00",
                "2026-11-01T01:30:00-05:00",
                "2026-11-01T02:30:00-05:00",
            ],
        ),
        // Lord Howe: half an hour. 02:00 → 02:30 on 2024-10-06, 02:00 → 01:30 on 2024-04-07.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2024-10-05T00:00:00Z",
            &["2024-10-06T02:30:00+11:00", "2024-10-07T02:15:00+11:00"],
        ),
        (
            "30 2 * * *",
            "Australia/Lord_Howe",
            "2024-10-05T00:00:00Z",
            &["2024-10-06T02:30:00+11:00", "2024-10-07T02:30:00+11:00"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2024-04-06T00:00:00Z",
            &["2024-04-07T01:45:00+11:00", "2024-04-08T01:45:00+10:30"],
        ),
        (
            "*/15 * * * *",
            "Australia/Lord_Howe",
            "2024-04-06T14:30:00Z",
            &[
                "2024-04-07T01:45:00+11:00",
                "2024-04-07T01:30:00+10:30",
                "2024-04-07T01:45:00+10:30",
                "2024-04-07T02:00:00+10:30",
            ],
        ),
        ("@hourly", "Australia/Lord_Howe", "2024-10-05T14:30:00Z", &["2024-10-06T03:00:00+11:00"]),
        // Havana changes at midnight: 00:00 → 01:00 on 2024-03-10, 01:00 → 00:00 on 2024-11-03.
        (
            "@daily",
            "America/Havana",
            "2024-03-09T12:00:00Z",
            &["2024-03-10T01:00:00-04:00", "2024-03-11T00:00:00-04:00"],
        ),
        (
            "@daily",
            "America/Havana",
            "2024-11-02T12:00:00Z",
            &["2024-11-03T00:00:00-04:00", "2024-11-04T00:00:00-05:00"],
        ),
        (
            "0 0 10 3 *",
            "America/Havana",
            "2024-01-01T00:00:00Z",
            &["2024-03-10T01:00:00-04:00", "2025-03-10T00:00:00-04:00"],
        ),
        (
            "0 0 * * 0",
            "America/Havana",
            "2024-03-08T00:00:00Z",
            &["2024-03-10T01:00:00-04:00", "2024-03-17T00:00:00-04:00"],
        ),
        // Apia crossed the date line: 2011-12-30 did not happen.
        (
            "0 3 * * *",
            "Pacific/Apia",
            "2011-12-29T00:00:00Z",
            &[
                "2011-12-29T03:00:00-10:00",
                "2011-12-31T00:00:00+14:00",
                "2011-12-31T03:00:00+14:00",
            ],
        ),
        (
            "@daily",
            "Pacific/Apia",
            "2011-12-29T00:00:00-10:00",
            &["2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"],
        ),
        (
            "0 12 30 12 *",
            "Pacific/Apia",
            "2011-01-01T00:00:00Z",
            &["2011-12-31T00:00:00+14:00", "2012-12-30T12:00:00+14:00"],
        ),
        (
            "0 12 * * fri",
            "Pacific/Apia",
            "2011-12-24T00:00:00Z",
            &["2011-12-31T00:00:00+14:00", "2012-01-06T12:00:00+14:00"],
        ),
        ("0 * 30 12 *", "Pacific/Apia", "2011-01-01T00:00:00Z", &["2012-12-30T00:00:00+14:00"]),
        (
            "* * * * * *",
            "Pacific/Apia",
            "2011-12-29T23:59:58-10:00",
            &["2011-12-29T23:59:59-10:00", "2011-12-31T00:00:00+14:00"],
        ),
        // Casablanca leaves its summer time for Ramadan: 03:00 → 02:00 on 2024-03-10, 02:00 → 03:00
        // on 2024-04-14.
        (
            "30 2 * * *",
            "Africa/Casablanca",
            "2024-03-09T12:00:00Z",
            &["2024-03-10T02:30:00+01:00", "2024-03-11T02:30:00+00:00"],
        ),
        (
            "30 2 * * *",
            "Africa/Casablanca",
            "2024-04-13T12:00:00Z",
            &["2024-04-14T03:00:00+01:00", "2024-04-15T02:30:00+01:00"],
        ),
        (
            "30 * * * *",
            "Africa/Casablanca",
            "2024-03-10T01:00:00Z",
            &[
                "2024-03-10T02:30:00+01:00",
                "2024-03-10T02:30:00+00:00",
                "2024-03-10T03:30:00+00:00",
            ],
        ),
    ];
    for (text, zone, from, expected) in table {
        assert_eq!(
            slots(text, zone, from, expected.len()),
            *expected,
            "{text} in {zone} after {from}"
        );
    }
}

#[test]
fn an_interval_does_not_see_clock_changes() {
    let every = Expression::every(Duration::from_secs(3_600)).unwrap();
    let mut after = at("2026-10-24T12:00:00Z");
    for hour in 1..48 {
        let next = every.next_after(after, Tz::Europe__Berlin, at("2026-10-24T12:00:00Z")).unwrap();
        assert_eq!(next, at("2026-10-24T12:00:00Z") + Duration::from_secs(hour * 3_600));
        after = next;
    }
}

#[test]
fn a_preview_marks_what_clock_changes_do() {
    let gap = |wanted: &str| Some(ClockChange::Gap { wanted: wanted.to_owned() });
    let passed = |skipped: &str| Some(ClockChange::GapPassed { skipped: skipped.to_owned() });
    let table = [
        (
            "30 2 * * *",
            "2026-03-28T00:00:00Z",
            vec![
                ("2026-03-28T02:30:00+01:00", None),
                ("2026-03-29T03:00:00+02:00", gap("2026-03-29T02:30:00")),
                ("2026-03-30T02:30:00+02:00", None),
            ],
        ),
        ("0 3 * * *", "2026-03-28T12:00:00Z", vec![("2026-03-29T03:00:00+02:00", None)]),
        (
            "0 2,3 * * *",
            "2026-03-28T12:00:00Z",
            vec![("2026-03-29T03:00:00+02:00", gap("2026-03-29T02:00:00"))],
        ),
        (
            "30 * * * *",
            "2026-03-29T00:00:00Z",
            vec![
                ("2026-03-29T01:30:00+01:00", None),
                ("2026-03-29T03:30:00+02:00", passed("2026-03-29T02:30:00")),
            ],
        ),
        ("0 */4 * * *", "2026-03-28T23:30:00Z", vec![("2026-03-29T04:00:00+02:00", None)]),
        (
            "30 2 * * *",
            "2026-10-24T12:00:00Z",
            vec![
                ("2026-10-25T02:30:00+02:00", Some(ClockChange::FoldOnce)),
                ("2026-10-26T02:30:00+01:00", None),
            ],
        ),
        (
            "30 * * * *",
            "2026-10-25T00:00:00Z",
            vec![
                ("2026-10-25T02:30:00+02:00", Some(ClockChange::FoldFirst)),
                ("2026-10-25T02:30:00+01:00", Some(ClockChange::FoldSecond)),
                ("2026-10-25T03:30:00+01:00", None),
            ],
        ),
        ("@every 1h", "2026-10-25T00:00:00Z", vec![("2026-10-25T02:00:00+01:00", None)]),
        ("@reboot", "2026-10-25T00:00:00Z", vec![]),
    ];
    for (text, from, expected) in table {
        let slots = upcoming(&cron(text), Tz::Europe__Berlin, at(from), expected.len());
        let found: Vec<_> =
            slots.iter().map(|slot| (slot.local.as_str(), slot.note.clone())).collect();
        assert_eq!(found, expected, "{text}");
        assert!(slots.iter().all(|slot| at(&slot.local) == slot.at));
    }
    assert!(upcoming(&cron("@reboot"), Tz::UTC, at("2026-10-25T00:00:00Z"), usize::MAX).is_empty());
    assert!(
        upcoming(&cron("@yearly"), Tz::UTC, at("2026-10-25T00:00:00Z"), 1_000).len() == 74,
        "2027 to 2100"
    );
    assert!(upcoming(&cron("@daily"), Tz::UTC, at("2026-10-25T00:00:00Z"), 0).is_empty());
    let far = upcoming(
        &Expression::every(Duration::from_secs(1)).unwrap(),
        Tz::UTC,
        Timestamp::from_millis(i64::MAX - 2_500),
        9,
    );
    assert_eq!(far.len(), 2, "no panic beyond the years chrono can hold");
    for edge in [chrono::DateTime::<chrono::Utc>::MAX_UTC, chrono::DateTime::<chrono::Utc>::MIN_UTC]
    {
        for zone in ["Pacific/Apia", "America/Havana"] {
            let from = Timestamp::from_millis(edge.timestamp_millis() - 1_500);
            assert_eq!(
                upcoming(&cron("@every 1s"), parse_zone(zone).unwrap(), from, 3).len(),
                3,
                "{zone} at {edge:?}"
            );
        }
    }
    assert_eq!(
        gap("2026-03-29T02:30:00").unwrap().to_string(),
        "2026-03-29T02:30:00 does not exist, the clock is put forward over it: fires right after"
    );
}

// --- words
// ------------------------------------------------------------------------------------------------------------------------------

#[test]
fn an_expression_is_said_in_words() {
    let table = [
        ("0 3 * * *", "at 03:00 every day"),
        ("*/5 * * * *", "every 5 minutes"),
        ("* * * * *", "every minute"),
        ("* * * * * *", "every second"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("@hourly", "every hour, on the hour"),
        ("17 * * * *", "at minute 17 of every hour"),
        ("0 */2 * * *", "every 2 hours, on the hour"),
        ("15 */6 * * *", "at 00:15, 06:15, 12:15 and 18:15 every day"),
        ("15 */3 * * *", "at minute 15 of every 3rd hour"),
        ("*/10 */2 * * *", "every 10 minutes in every 2nd hour"),
        ("0 9-17 * * *", "at minute 0 from 09:00 to 17:59"),
        ("5 1,3,4,7,9,12,20 * * *", "at minute 5 in the hours 1, 3, 4, 7, 9, 12 and 20"),
        ("*/15 30 2-23 * * *", "every 15 seconds, at minute 30 from 02:00 to 23:59"),
        ("10,20 * * * * *", "at seconds 10 and 20 of every minute"),
        ("* * 3 * * *", "every second from 03:00 to 03:59"),
        ("0-29 * * * * *", "at seconds 0 to 29 of every minute"),
        ("*/45 * * * *", "at minutes 0 and 45 of every hour"),
        ("*/15 9-17 * * 1-5", "every 15 minutes from 09:00 to 17:59 from Monday to Friday"),
        ("* 3 * * *", "every minute from 03:00 to 03:59"),
        ("0,30 3,15 * * *", "at 03:00, 03:30, 15:00 and 15:30 every day"),
        ("30 0 3 * * *", "at 03:00:30 every day"),
        ("0 22 * * 1-5", "at 22:00 from Monday to Friday"),
        ("0 3 * * mon,wed", "at 03:00 every Monday and Wednesday"),
        ("0 3 * * sat-sun", "at 03:00 every Sunday and Saturday"),
        ("@weekly", "at 00:00 every Sunday"),
        ("@monthly", "at 00:00 on day 1 of every month"),
        ("@yearly", "at 00:00 on day 1 in January"),
        ("0 0 1,15 * *", "at 00:00 on days 1 and 15 of every month"),
        ("0 0 29 2 *", "at 00:00 on day 29 in February"),
        ("30 4 1,15 * 5", "at 04:30 on days 1 and 15 of every month, and every Friday"),
        (
            "0 0 1-7 */3 1",
            "at 00:00 on days 1 to 7, and every Monday, in January, April, July and October",
        ),
        (
            "0 0 */10 * 1,2",
            "at 00:00 on days 1, 11, 21 and 31 of every month, if that is Monday or Tuesday",
        ),
        ("0 0 1-31 * 1", "at 00:00 every day"),
        ("0 12 * 6-8 *", "at 12:00 every day in June to August"),
        ("@reboot", "once, at startup"),
        ("@every 90s", "every 90 seconds"),
        ("@every 1h", "every hour"),
        ("@every 14d", "every 14 days"),
        ("@every 1500ms", "every 1500 milliseconds"),
    ];
    for (text, words) in table {
        assert_eq!(cron(text).describe(), words, "{text}");
    }
}

#[test]
fn canonical_text_reads_back_to_the_same() {
    for (text, canonical) in [
        ("@hourly", "0 * * * *"),
        ("@WEEKLY", "0 0 * * 0"),
        ("0 0 0 * * *", "0 0 * * *"),
        ("5 0 0 * * *", "5 0 0 * * *"),
        ("00 07 01-31 jan-dec sun-sat", "0 7 1-31 1-12 0-6"),
        ("*/1 * * * *", "* * * * *"),
        ("*/7,3 * * * *", "*/7,3 * * * *"),
        ("*/90 * * * *", "*/60 * * * *"),
        ("0,10,20,30,40,50 * * * *", "0-50/10 * * * *"),
        ("1,2,3,7,9,10 * * * *", "1-3,7,9,10 * * * *"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * */7", "0 0 * * */7"),
        ("@every 90m", "@every 90m"),
        ("@every 1w", "@every 7d"),
        ("@reboot", "@reboot"),
    ] {
        assert_eq!(cron(text).to_string(), canonical, "{text}");
        assert_eq!(cron(canonical), cron(text), "{text}");
    }
}

// --- the reference
// ----------------------------------------------------------------------------------------------------------------------

/// A small generator (splitmix64), so that a failure can be had again from the seed it prints.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: i64) -> i64 {
        (self.next() % limit as u64) as i64
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below(high - low + 1)
    }
}

/// A field as the reference knows it: its text, its values, whether it begins with `*`.
struct Part {
    text: String,
    values: [bool; 60],
    star: bool,
}

impl Part {
    /// One of the shapes a field can have; `wide` of 100 times `*` or a step after it.
    fn random(random: &mut Random, low: i64, high: i64, wide: i64, names: &[&str]) -> Self {
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
struct Model {
    second: Part,
    minute: Part,
    hour: Part,
    day_of_month: Part,
    month: Part,
    day_of_week: Part,
    text: String,
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

    fn follows_elapsed_time(&self) -> bool {
        self.second.star || self.minute.star || self.hour.star
    }

    /// Days since 1970.
    fn matches_day(&self, day: i64) -> bool {
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

fn local_of(zone: Tz, instant: i64) -> i64 {
    let utc = DateTime::from_timestamp(instant, 0).unwrap().naive_utc();
    instant + i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
}

/// The plain reference: every instant from `from` on, `unit` seconds apart. A wildcard rule fires
/// when the clock shows a matching time; another one when the clock reaches or passes a matching
/// time it never reached before.
fn plain(model: &Model, zone: Tz, from: i64, to: i64, unit: i64) -> Vec<i64> {
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
type Stretch = (i64, i64, i64);

/// All of them, found by walking every minute.
fn stretches(zone: Tz, from: i64, to: i64) -> Vec<Stretch> {
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
fn by_day(model: &Model, stretches: &[Stretch], mut each: impl FnMut(i64)) {
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

fn instant(text: &str) -> i64 {
    at(text).as_millis() / 1_000
}

/// Zones with the changes of the tables, and random others.
fn zones(random: &mut Random, count: usize) -> Vec<Tz> {
    let mut zones: Vec<Tz> = [
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
    while zones.len() < count {
        let zone =
            chrono_tz::TZ_VARIANTS[random.below(chrono_tz::TZ_VARIANTS.len() as i64) as usize];
        if !zones.contains(&zone) {
            zones.push(zone);
        }
    }
    zones.truncate(count);
    zones
}

/// A random rule the library accepts; those it refuses must be impossible.
fn accepted(random: &mut Random, seconds: bool) -> (Model, Expression) {
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

fn same(model: &Model, expression: &Expression, zone: Tz, from: i64, expected: &[i64]) {
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
    let zones: Vec<(Tz, Vec<Stretch>)> = zones(&mut random, 20)
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

// --- properties
// -------------------------------------------------------------------------------------------------------------------------

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
        if let Some(next) = every.next_after(Timestamp::from_millis(after), Tz::UTC, Timestamp::from_millis(anchor)) {
            prop_assert!(next.as_millis() > after);
            let since = i128::from(next.as_millis()) - i128::from(anchor);
            prop_assert!(since >= i128::from(millis) && since % i128::from(millis) == 0);
            prop_assert!(since == i128::from(millis) || i128::from(next.as_millis()) - i128::from(millis) <= i128::from(after));
        }
    }
}
