//! What people write on the command line, read into values.

use std::io;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::Value as Json;
use verger::{Expression, Timestamp, Zone};

/// A time: RFC 3339. Without an offset it is taken as UTC.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc().into());
    }
    let local =
        ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let local = local.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let midnight = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    match local.or_else(midnight) {
        Some(utc) => Ok(utc.and_utc().into()),
        None => {
            Err("it is no time: write it as RFC 3339, such as 2026-03-29T02:30:00Z or 2026-03-29T04:30:00+02:00, or a date alone"
                .to_string())
        }
    }
}

/// The text of a file, as editors and shells save it: UTF-8 with or without a byte order mark, or
/// UTF-16 with one.
pub(crate) fn file(name: &Path) -> io::Result<String> {
    let bytes = std::fs::read(name)?;
    let utf16 = |unit: fn([u8; 2]) -> u16, bytes: &[u8]| {
        let units: Vec<u16> =
            bytes.chunks(2).map(|two| unit([two[0], two.get(1).copied().unwrap_or(0)])).collect();
        String::from_utf16(&units)
            .map_err(|_| invalid("it begins with a byte order mark of UTF-16, and is no UTF-16"))
    };
    match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, text @ ..] => utf8(text),
        [0xff, 0xfe, text @ ..] => utf16(u16::from_le_bytes, text),
        [0xfe, 0xff, text @ ..] => utf16(u16::from_be_bytes, text),
        text => utf8(text),
    }
}

fn utf8(text: &[u8]) -> io::Result<String> {
    let text = std::str::from_utf8(text).map_err(|error| {
        invalid(&format!("it is no UTF-8 at byte {}: save it as UTF-8", error.valid_up_to()))
    })?;
    match text.contains('\0') {
        true => {
            Err(invalid("it has NUL bytes, as UTF-16 without a byte order mark: save it as UTF-8"))
        }
        false => Ok(text.to_string()),
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The args of a job: a JSON object.
pub(crate) fn args(text: &str) -> Result<Json, String> {
    verger::parse_args(text).map_err(|error| error.to_string())
}

/// A crontab expression.
pub(crate) fn expression(text: &str) -> Result<Expression, String> {
    text.parse().map_err(|error: verger::ExpressionError| error.to_string())
}

/// The name of a time zone.
pub(crate) fn zone(name: &str) -> Result<Zone, String> {
    verger::parse_zone(name).map_err(|error| error.to_string())
}

/// A length of time: a whole number and its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let size = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)]
        .into_iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, size)| size);
    match (number.parse::<u64>().ok(), size) {
        (Some(number), Some(size)) => Ok(Duration::from_secs(number.saturating_mul(size))),
        _ => {
            Err("it is no length of time: write a whole number and s, m, h or d, such as 90s or 2h"
                .to_string())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_a_unit() {
        assert_eq!(
            (duration("90s"), duration("2d")),
            (Ok(Duration::from_secs(90)), Ok(Duration::from_secs(172_800)))
        );
        for text in ["", "90", "s", "1.5h", "-1s", "1h30m"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_without_an_offset_are_utc() {
        let noon = Timestamp::from_millis(1_774_785_600_000);
        for text in [
            "2026-03-29T12:00:00Z",
            "2026-03-29T14:00:00+02:00",
            "2026-03-29T12:00",
            "2026-03-29 12:00:00",
            "2026-03-29 12:00",
        ] {
            assert_eq!(time(text), Ok(noon), "{text}");
        }
        assert_eq!(time("2026-03-29").unwrap().to_string(), "2026-03-29T00:00:00Z");
        for text in ["", "noon", "2026-13-01", "2026-03-29T25:00:00Z", "1774785600000"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
