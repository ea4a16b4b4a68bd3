//! Times, durations and counts for people.

use maud::{Markup, html};
use verger::Timestamp;

/// A time, with how far it is from now. The page's script writes it in the reader's own zone.
pub(crate) fn time(at: Timestamp, now: i64) -> Markup {
    let text = at.to_string();
    html! { time datetime=(text) title=(text) { (relative(at.as_millis(), now)) } }
}

pub(crate) fn opt_time(at: Option<Timestamp>, now: i64) -> Markup {
    match at {
        Some(at) => time(at, now),
        None => html! { span.quiet { "—" } },
    }
}

/// How far a time is from now: `3 min ago`, `in 2 h`.
pub(crate) fn relative(millis: i64, now: i64) -> String {
    let apart = length(millis.abs_diff(now));
    match millis {
        // A job from a plain INSERT has 0, and is due since it was inserted.
        0 => "at once".to_string(),
        _ if millis.abs_diff(now) < 1_000 => "now".to_string(),
        _ if millis <= now => format!("{apart} ago"),
        _ => format!("in {apart}"),
    }
}

/// A duration in its largest unit, or in two units if the first is small.
pub(crate) fn length(millis: u64) -> String {
    const UNITS: [(u64, &str); 5] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
    let Some(place) = UNITS.iter().position(|(size, _)| millis >= *size) else {
        return "0 ms".to_string();
    };
    let (size, unit) = UNITS[place];
    let count = millis / size;
    match UNITS.get(place + 1) {
        Some((smaller, name)) if count < 3 && millis % size >= *smaller => {
            format!("{count} {unit} {} {name}", millis % size / smaller)
        }
        _ => format!("{count} {unit}"),
    }
}

/// A count with its thousands separated. The command `verger` writes its counts with it, too.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_by_their_largest_units() {
        for (millis, words) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_500, "1 s 500 ms"),
            (90_000, "1 min 30 s"),
            (7_200_000, "2 h"),
            (3 * 86_400_000 + 1, "3 d"),
        ] {
            assert_eq!(length(millis), words);
        }
        assert_eq!(relative(60_000, 120_000), "1 min ago");
        assert_eq!(relative(240_000, 120_000), "in 2 min");
        assert_eq!(count(1_234_567), "1,234,567");
    }
}
