//! Instants, as unix milliseconds.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant: milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted. Every time in
/// Verger's tables is one.
///
/// It serializes as [text](Self#impl-Display-for-Timestamp), RFC 3339 in UTC, and is read from that
/// text or from the number of milliseconds that the tables hold.
///
/// ```
/// use std::time::Duration;
/// use verger::Timestamp;
///
/// let noon = Timestamp::from_millis(1_767_268_800_000);
/// assert_eq!((noon + Duration::from_secs(90)).to_string(), "2026-01-01T12:01:30Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The last millisecond of the year 9999, and the first of the year 0: the bounds of RFC 3339.
const LAST_MILLIS: i64 = 253_402_300_799_999;
const FIRST_MILLIS: i64 = -62_167_219_200_000;

/// The longest wait a monotonic timer is asked for: 100 years.
const WAIT_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Whether `every` has passed, forward or backward, since something was done. If so, it counts as
/// done now. The last time is kept in unix milliseconds.
pub(crate) fn is_due_again(last: &AtomicI64, now: Timestamp, every: Duration) -> bool {
    let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
    let is_due = now.as_millis().abs_diff(last.load(Ordering::Relaxed)) >= every;
    if is_due {
        last.store(now.as_millis(), Ordering::Relaxed);
    }
    is_due
}

/// This long from now, by the monotonic timer; 100 years at most.
pub(crate) fn instant_after(wait: Duration) -> Instant {
    Instant::now() + wait.min(WAIT_MAX)
}

impl Timestamp {
    /// The last instant that RFC 3339 can write: the end of the year 9999. A computed time that
    /// would be later is this one.
    pub const LAST: Self = Self(LAST_MILLIS);

    /// The instant this many milliseconds after 1970-01-01T00:00:00Z, or before it when negative.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The same instant for `chrono`; `None` beyond the years it can hold (±262,000).
    #[must_use]
    pub fn to_utc(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.0)
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(instant: DateTime<Utc>) -> Self {
        Self(instant.timestamp_millis())
    }
}

/// Saturates at the end of the year 9999, the last that RFC 3339 can write.
impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis).min(LAST_MILLIS.max(self.0)))
    }
}

/// Saturates at the beginning of the year 0, the first that RFC 3339 can write.
impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis).max(FIRST_MILLIS.min(self.0)))
    }
}

/// RFC 3339 in UTC, with milliseconds only where there are some. Beyond the years chrono can hold
/// it is the bare number.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_utc() {
            Some(utc) => f.write_str(&utc.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
            None => write!(f, "{} ms", self.0),
        }
    }
}

/// From the text that `Display` writes, or from unix milliseconds.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Millis(i64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Millis(millis) => Ok(Self(millis)),
            Written::Text(text) => {
                let beyond = || text.strip_suffix(" ms")?.parse().ok().map(Self);
                DateTime::parse_from_rfc3339(&text)
                    .map(|at| Self(at.timestamp_millis()))
                    .or_else(|error| beyond().ok_or(error))
                    .map_err(serde::de::Error::custom)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_was_written() {
        for millis in [0, -1, 1_767_225_600_000, 1_767_225_600_123, LAST_MILLIS, i64::MAX] {
            let written = serde_json::to_string(&Timestamp(millis)).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&written).unwrap(), Timestamp(millis));
        }
        assert_eq!(serde_json::to_string(&Timestamp(0)).unwrap(), "\"1970-01-01T00:00:00Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>("5").unwrap(), Timestamp(5));
        assert!(serde_json::from_str::<Timestamp>("\"soon\"").is_err());
    }

    #[test]
    fn a_time_that_is_computed_can_be_written_as_rfc_3339() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        for wait in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_millis(u64::MAX)]
        {
            assert_eq!((now + wait).to_string(), "9999-12-31T23:59:59.999Z");
            assert_eq!(now + wait, Timestamp::LAST);
            assert_eq!((now - wait).to_string(), "0000-01-01T00:00:00Z");
            assert!(instant_after(wait) > Instant::now());
        }
        assert_eq!(Timestamp::LAST + Duration::from_millis(1), Timestamp::LAST);
        // A time that a broken clock gave stays as it is.
        let beyond = Timestamp::from_millis(i64::MAX);
        assert_eq!(beyond + Duration::from_secs(1), beyond);
    }
}
