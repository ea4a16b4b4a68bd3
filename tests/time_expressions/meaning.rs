//! What expressions mean.

use verger::{Timestamp, Zone, parse_zone};

use super::{DAY, at, cron, slots};

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
        reboot.next_after(at("2026-01-01T00:00:00Z"), Zone::UTC, at("2026-01-01T00:00:00Z")),
        None
    );
}

#[test]
fn a_slot_comes_strictly_after_to_the_millisecond() {
    let daily = cron("@daily");
    let midnight = at("2026-01-02T00:00:00Z");
    let next = |millis| {
        daily
            .next_after(Timestamp::from_millis(midnight.as_millis() + millis), Zone::UTC, midnight)
            .unwrap()
    };
    assert_eq!(next(-1), midnight);
    assert_eq!(next(-999), midnight);
    assert_eq!(next(0), at("2026-01-03T00:00:00Z"));
    assert_eq!(next(1), at("2026-01-03T00:00:00Z"));
    let second = cron("* * * * * *");
    assert_eq!(
        second.next_after(Timestamp::from_millis(500), Zone::UTC, midnight),
        Some(Timestamp::from_millis(1_000))
    );
    assert_eq!(
        second.next_after(Timestamp::from_millis(999), Zone::UTC, midnight),
        Some(Timestamp::from_millis(1_000))
    );
    assert_eq!(
        second.next_after(Timestamp::from_millis(1_000), Zone::UTC, midnight),
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
        cron("* * * * *").next_after(at("2100-12-31T23:58:30Z"), Zone::UTC, anchor),
        Some(last)
    );
    assert_eq!(cron("* * * * *").next_after(last, Zone::UTC, anchor), None);
}

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
