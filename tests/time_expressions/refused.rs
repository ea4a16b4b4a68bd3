//! What is refused, and how an error points at it.

use std::time::{Duration, Instant};

use verger::{Expression, ExpressionError, Zone, parse_zone};

use super::{at, cron};

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
                .next_after(at("2026-01-01T00:00:00Z"), Zone::UTC, at("2026-01-01T00:00:00Z"))
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
    // 597 names in 2025: what an app has stored is still known.
    assert!(Zone::all().count() >= 597);
    for zone in Zone::all() {
        assert_eq!(parse_zone(zone.name()), Ok(zone));
    }
    assert_eq!(parse_zone(" UTC\n"), Ok(Zone::UTC));
}
