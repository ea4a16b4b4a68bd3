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

mod clock_changes;
mod meaning;
mod model;
mod property;
#[path = "../common/random.rs"]
mod random;
mod refused;

use std::time::Duration;

use chrono::DateTime;
use verger::{Expression, Timestamp, Zone, parse_zone};

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

fn berlin() -> Zone {
    parse_zone("Europe/Berlin").unwrap()
}

/// The slots after `from`, as local times with their offsets.
fn slots(text: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let (expression, zone) = (cron(text), parse_zone(zone).unwrap());
    let mut after = at(from);
    let mut found = Vec::new();
    while found.len() < count {
        let Some(next) = expression.next_after(after, zone, at(from)) else { break };
        assert!(next > after, "{text}: {next} does not come after {after}");
        found.push(next.to_utc().unwrap().with_timezone(&model::clock(zone, next)).to_rfc3339());
        after = next;
    }
    found
}

#[test]
fn an_interval_counts_from_its_anchor_without_drift() {
    let every = Expression::every(Duration::from_millis(90_500)).unwrap();
    let next = |after, anchor| {
        every
            .next_after(Timestamp::from_millis(after), berlin(), Timestamp::from_millis(anchor))
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
