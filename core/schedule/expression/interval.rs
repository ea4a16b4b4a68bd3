//! A fixed length of time between slots.

use std::fmt;
use std::time::Duration;

use super::error::{ExpressionError, quoted};
use crate::time::Timestamp;

const SHORTEST_MILLIS: i64 = 1_000;
/// 100 years of 365.25 days.
const LONGEST_MILLIS: i64 = 36_525 * 86_400_000;

/// Name and milliseconds of each unit, the longest first.
const UNITS: [(&str, i64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Whole milliseconds, from 1 second to 100 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    millis: i64,
}

impl Interval {
    pub(super) fn new(every: Duration) -> Result<Self, ExpressionError> {
        let given = || format!("{every:?}");
        if !every.subsec_nanos().is_multiple_of(1_000_000) {
            return Err(refused(
                given(),
                "it is not a whole number of milliseconds",
                "round it to milliseconds",
            ));
        }
        Self::bounded(i128::try_from(every.as_millis()).unwrap_or(i128::MAX), given)
    }

    /// Reads numbers with units, `90s`, `1h30m`, which begin `text`; units are w, d, h, m, s and
    /// ms.
    pub(super) fn parse(text: &str) -> Result<Self, ExpressionError> {
        let given = || format!("\"{}\"", quoted(text));
        let malformed = |reason| {
            refused(
                given(),
                reason,
                "write whole numbers with a unit of w, d, h, m, s or ms, such as 90s or 1h30m",
            )
        };
        if text.starts_with('-') {
            return Err(malformed("it is negative"));
        }
        let (mut rest, mut millis) = (text, 0_i128);
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let letters =
                tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, tail) = tail.split_at(letters);
            if number.is_empty() {
                return Err(malformed("a number is missing"));
            }
            let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
                return Err(malformed(if unit.is_empty() {
                    "a unit is missing"
                } else {
                    "a unit is unknown"
                }));
            };
            millis = number
                .parse()
                .unwrap_or(i64::MAX as i128)
                .min(i64::MAX as i128)
                .saturating_mul((*size).into())
                .saturating_add(millis);
            rest = tail;
        }
        if text.is_empty() { Err(malformed("it is missing")) } else { Self::bounded(millis, given) }
    }

    fn bounded(millis: i128, given: impl Fn() -> String) -> Result<Self, ExpressionError> {
        match i64::try_from(millis) {
            Ok(0) => Err(refused(
                given(),
                "it is zero, so it would never end firing",
                "give at least 1 second",
            )),
            Ok(1..SHORTEST_MILLIS) => {
                Err(refused(given(), "it is shorter than 1 second", "give at least 1 second"))
            }
            Ok(millis @ SHORTEST_MILLIS..=LONGEST_MILLIS) => Ok(Self { millis }),
            _ => Err(refused(given(), "it is longer than 100 years", "give at most 36525 days")),
        }
    }

    /// The first of `anchor` + k × interval, k ≥ 1, after `after`; `None` past the last instant 64
    /// bits hold.
    pub(super) fn next_after(self, after: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        let (after, anchor, every) = (
            i128::from(after.as_millis()),
            i128::from(anchor.as_millis()),
            i128::from(self.millis),
        );
        let k = ((after - anchor).div_euclid(every) + 1).max(1);
        i64::try_from(anchor + k * every).ok().map(Timestamp::from_millis)
    }

    /// How many slots lie after `after`, up to and with `until`.
    pub(super) fn count_between(
        self,
        after: Timestamp,
        until: Timestamp,
        anchor: Timestamp,
    ) -> u64 {
        let passed = |at: Timestamp| {
            (i128::from(at.as_millis()) - i128::from(anchor.as_millis()))
                .div_euclid(i128::from(self.millis))
                .max(0)
        };
        u64::try_from(passed(until) - passed(after)).unwrap_or(0)
    }

    /// Number and name of the longest unit, of those in words, that fits a whole number of times.
    pub(super) fn in_words(self) -> (i64, &'static str) {
        const WORDS: [(&str, i64); 5] = [
            ("day", 86_400_000),
            ("hour", 3_600_000),
            ("minute", 60_000),
            ("second", 1_000),
            ("millisecond", 1),
        ];
        let (name, size) = WORDS
            .into_iter()
            .find(|(_, size)| self.millis % size == 0)
            .unwrap_or(("millisecond", 1));
        (self.millis / size, name)
    }
}

/// One number and its unit, days at most.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = UNITS
            .into_iter()
            .skip(1)
            .find(|(_, size)| self.millis % size == 0)
            .unwrap_or(("ms", 1));
        write!(f, "{}{unit}", self.millis / size)
    }
}

fn refused(given: String, reason: &'static str, advice: &'static str) -> ExpressionError {
    ExpressionError::Interval { given, reason, advice }
}
