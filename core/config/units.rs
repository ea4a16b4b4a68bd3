//! Lengths of time and sizes, as people write them.

use std::time::Duration;

/// A length of time: a whole number and its unit, `90s`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?))
}

/// A size: a whole number of bytes, or with a unit, `16MiB`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_needs_its_unit_where_it_is_a_time() {
        for (text, millis) in [("90s", 90_000), ("2 h", 7_200_000), ("1d", 86_400_000), ("5ms", 5)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "90", "s", "-1s", "1.5h", "1 week", "99999999999999999999s"] {
            assert_eq!(duration(text), None, "{text}");
        }
        for (text, bytes) in [("0", 0), ("16MiB", 16 << 20), ("1 KiB", 1_024)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        assert_eq!((size("1MB"), size("99999999999GiB")), (None, None));
    }
}
