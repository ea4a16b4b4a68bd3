//! Numbers in JSON that would become other numbers when read: whole ones beyond 64 bits, and
//! fractions with more digits than a double holds.

use serde_json::Value as Json;

/// A number that Verger cannot keep as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the number {number} at `{path}` cannot be kept as it is: whole numbers have up to 64 bits, fractions the digits of a double; send it as a string"
)]
pub struct InexactNumber {
    /// Where it is: `$.amounts[2]`.
    pub path: String,
    /// The number, as it was written.
    pub number: String,
}

/// A text that cannot be taken as the args of a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgsTextError {
    /// It is no JSON.
    #[error("it is no JSON: {0}")]
    Syntax(serde_json::Error),
    /// It is no JSON object.
    #[error("it must be a JSON object, such as {{\"organization_id\": null, \"actor_id\": null}}")]
    NoObject,
    /// A number in it would become another number.
    #[error(transparent)]
    Inexact(#[from] InexactNumber),
}

/// Reads the args of a job from a JSON text, every number in it exactly.
///
/// A [`Json`] made by `serde_json` alone may hold another number than the text: a number with more
/// than 64 bits becomes the nearest double.
///
/// ```
/// assert!(verger::parse_args(r#"{"chat": 9007199254740993, "rate": 0.1}"#).is_ok());
/// let error = verger::parse_args(r#"{"chat": 123456789012345678901}"#).unwrap_err();
/// assert!(error.to_string().contains("`$.chat`"));
/// ```
///
/// # Errors
/// [`ArgsTextError`] when the text is no JSON or no object, or has a number that cannot be kept.
pub fn parse_args(text: &str) -> Result<Json, ArgsTextError> {
    match serde_json::from_str(text) {
        Ok(object @ Json::Object(_)) => {
            check_numbers(text)?;
            Ok(object)
        }
        Ok(_) => Err(ArgsTextError::NoObject),
        Err(error) => {
            // To the one who wrote it, a number beyond all bounds is no syntax error.
            check_numbers(text)?;
            Err(ArgsTextError::Syntax(error))
        }
    }
}

/// Where the scan is.
enum Level {
    /// In an object, at this key.
    Key(String),
    /// In an array, at this index.
    Place(usize),
}

/// Finds the first number of a JSON text that a `serde_json` value does not hold exactly.
pub(crate) fn check_numbers(text: &str) -> Result<(), InexactNumber> {
    let mut levels: Vec<Level> = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = end_of_string(bytes, at);
                let is_key = text.get(end..).is_some_and(|rest| rest.trim_start().starts_with(':'));
                if let (true, Some(Level::Key(key))) = (is_key, levels.last_mut()) {
                    *key = serde_json::from_str(text.get(at..end).unwrap_or_default())
                        .unwrap_or_default();
                }
                at = end;
                continue;
            }
            b'{' => levels.push(Level::Key(String::new())),
            b'[' => levels.push(Level::Place(0)),
            b'}' | b']' => drop(levels.pop()),
            b',' => {
                if let Some(Level::Place(place)) = levels.last_mut() {
                    *place += 1;
                }
            }
            b'-' | b'0'..=b'9' => {
                let is_part =
                    |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let length = bytes.iter().skip(at).take_while(|byte| is_part(byte)).count();
                let number = text.get(at..at + length).unwrap_or_default();
                if !is_exact(number) {
                    return Err(InexactNumber { path: path(&levels), number: number.to_string() });
                }
                at += length;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn path(levels: &[Level]) -> String {
    let step = |level: &Level| match level {
        Level::Key(key) => format!(".{key}"),
        Level::Place(place) => format!("[{place}]"),
    };
    std::iter::once("$".to_string()).chain(levels.iter().map(step)).collect()
}

/// Whether 64 bits, or a double, hold the value of the number.
fn is_exact(number: &str) -> bool {
    if !number.contains(['.', 'e', 'E']) {
        return number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    }
    let Ok(double) = number.parse::<f64>() else { return true };
    // Compares the text that is stored with the one that was written. Each is the shortest text
    // that reads as this double. Where there are two of the same length, each library has its own
    // choice.
    let stored = serde_json::Number::from_f64(double).map(|stored| stored.to_string());
    stored.is_some_and(|stored| decimal(&stored) == decimal(number))
}

/// The significant digits, and the power of ten of the last one.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_negative = whole.starts_with('-');
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let significant = digits.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    if trimmed.is_empty() {
        return Some((is_negative, String::new(), 0));
    }
    let exponent: i64 = exponent.parse().ok()?;
    let zeros = i64::try_from(significant.len() - trimmed.len()).ok()?;
    let behind = i64::try_from(fraction.len()).ok()?;
    Some((is_negative, trimmed.to_string(), exponent - behind + zeros))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_exact_when_its_value_is_kept() {
        for number in [
            "0",
            "-0",
            "0.0",
            "-0.0",
            "1.50",
            "0.1",
            "1e3",
            "1E+3",
            "100e-2",
            "9007199254740993",
            "-9223372036854775808",
            "18446744073709551615",
            "1.7976931348623157e308",
            "5e-324",
            "0.30000000000000004",
        ] {
            assert!(is_exact(number), "{number}");
        }
        for number in [
            "18446744073709551616",
            "-9223372036854775809",
            "123456789012345678901",
            "0.1234567890123456789",
            "9007199254740993.0",
            "1e400",
            "1e-400",
            "1.00000000000000000001",
        ] {
            assert!(!is_exact(number), "{number}");
        }
    }

    #[test]
    fn the_number_is_named_with_its_place() {
        let error = check_numbers(r#"{"a\"1e999": [1, {"b": "1e999", "c": -1e999}]}"#).unwrap_err();
        assert_eq!((&*error.path, &*error.number), ("$.a\"1e999[1].c", "-1e999"));
        assert!(check_numbers(r#"{"a": "123456789012345678901", "b": [1.5, true]}"#).is_ok());
        assert!(matches!(parse_args("{\"a\": 1e999}"), Err(ArgsTextError::Inexact(_))));
        assert!(matches!(parse_args("[]"), Err(ArgsTextError::NoObject)));
        assert!(matches!(parse_args("{a}"), Err(ArgsTextError::Syntax(_))));
    }
}
