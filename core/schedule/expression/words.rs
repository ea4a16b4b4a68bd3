//! An expression in English.

use super::field::Field;
use super::interval::Interval;
use super::rule::Rule;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// "every 5 minutes".
pub(super) fn interval(interval: Interval) -> String {
    match interval.in_words() {
        (1, unit) => format!("every {unit}"),
        (count, unit) => format!("every {count} {unit}s"),
    }
}

/// "at 03:00 every day".
pub(super) fn rule(rule: &Rule) -> String {
    let (time, at_times) = time(rule);
    let days = days(rule);
    let months = if rule.month.is_full() {
        String::new()
    } else {
        joined(rule.month, |month| name(&MONTHS, month.saturating_sub(1)))
    };
    match (days.as_str(), months.as_str()) {
        ("", "") if at_times => format!("{time} every day"),
        ("", "") => time,
        ("", months) if at_times => format!("{time} every day in {months}"),
        ("", months) => format!("{time} in {months}"),
        (days, "") => format!("{time} {days}"),
        (days, months) => format!("{time} {days} in {months}"),
    }
}

/// The time of day, and whether it is one or more particular times.
fn time(rule: &Rule) -> (String, bool) {
    const MOST_TIMES: u32 = 6;
    let (second, minute, hour) = (rule.second, rule.minute, rule.hour);
    if second.count() * minute.count() * hour.count() <= MOST_TIMES {
        let mut times = Vec::new();
        for hour in hour.values() {
            for minute in minute.values() {
                for second in second.values() {
                    times.push(if rule.second.single() == Some(0) {
                        format!("{hour:02}:{minute:02}")
                    } else {
                        format!("{hour:02}:{minute:02}:{second:02}")
                    });
                }
            }
        }
        return (format!("at {}", and(&times)), true);
    }
    if second.single() == Some(0) {
        return (minutes(minute, hour), false);
    }
    let seconds =
        often(second, "second").unwrap_or_else(|| format!("at {}", counted("second", second)));
    let text = match (minute.is_full(), hour.is_full()) {
        (true, true) if second.is_full() || second.even_step().is_some() => seconds,
        (true, true) => format!("{seconds} of every minute"),
        (true, false) => format!("{seconds} {}", hours(hour)),
        (false, _) => format!("{seconds}, {}", minutes(minute, hour)),
    };
    (text, false)
}

/// The minutes of the hours, for seconds that are 0.
fn minutes(minute: Field, hour: Field) -> String {
    if let Some(often) = often(minute, "minute") {
        return if hour.is_full() { often } else { format!("{often} {}", hours(hour)) };
    }
    match (minute.single(), hour.is_full(), hour.even_step()) {
        (Some(0), true, _) => "every hour, on the hour".to_owned(),
        (Some(0), _, Some(step)) => format!("every {step} hours, on the hour"),
        (_, true, _) => format!("at {} of every hour", counted("minute", minute)),
        (_, _, Some(step)) => {
            format!("at {} of every {step}{} hour", counted("minute", minute), ordinal(step))
        }
        _ => format!("at {} {}", counted("minute", minute), hours(hour)),
    }
}

/// "every minute", "every 5 minutes", if that is what the values are.
fn often(field: Field, unit: &str) -> Option<String> {
    if field.is_full() {
        return Some(format!("every {unit}"));
    }
    field.even_step().map(|step| format!("every {step} {unit}s"))
}

fn hours(hour: Field) -> String {
    match (hour.single(), hour.run()) {
        (Some(hour), _) => format!("from {hour:02}:00 to {hour:02}:59"),
        (_, Some((first, last))) => format!("from {first:02}:00 to {last:02}:59"),
        _ => match hour.even_step() {
            Some(step) => format!("in every {step}{} hour", ordinal(step)),
            None => format!("in the hours {}", numbers(hour)),
        },
    }
}

/// Which days; empty for all of them.
fn days(rule: &Rule) -> String {
    let (day, weekday) = (rule.day_of_month, rule.day_of_week);
    let of = if rule.month.is_full() { " of every month" } else { "" };
    let dates = || format!("on {}{of}", counted("day", day));
    let either_is_all = rule.either_day() && (day.is_full() || weekday.is_full());
    match (day.is_full(), weekday.is_full()) {
        _ if either_is_all => String::new(),
        (true, true) => String::new(),
        (true, false) => weekdays(weekday),
        (false, true) => dates(),
        (false, false) if rule.either_day() => {
            format!(
                "{}, and {}{}",
                dates(),
                weekdays(weekday),
                if rule.month.is_full() { "" } else { "," }
            )
        }
        (false, false) => {
            format!(
                "{}, if that is {}",
                dates(),
                joined(weekday, |day| name(&WEEKDAYS, day)).replace(" and ", " or ")
            )
        }
    }
}

fn weekdays(weekday: Field) -> String {
    match (weekday.single(), weekday.run()) {
        (Some(day), _) => format!("every {}", name(&WEEKDAYS, day)),
        (_, Some((first, last))) if last > first + 1 => {
            format!("from {} to {}", name(&WEEKDAYS, first), name(&WEEKDAYS, last))
        }
        _ => format!("every {}", joined(weekday, |day| name(&WEEKDAYS, day))),
    }
}

/// "minute 5", "minutes 0 to 9", "minutes 0, 5 and 7".
fn counted(unit: &str, field: Field) -> String {
    match field.single() {
        Some(value) => format!("{unit} {value}"),
        None => format!("{unit}s {}", numbers(field)),
    }
}

fn numbers(field: Field) -> String {
    joined(field, |value| value.to_string())
}

/// The values as words: "0 to 9" when three or more follow one another, else "0, 5 and 7".
fn joined(field: Field, word: impl Fn(u32) -> String) -> String {
    match field.run() {
        Some((first, last)) if last > first + 1 => format!("{} to {}", word(first), word(last)),
        _ => and(&field.values().map(word).collect::<Vec<_>>()),
    }
}

fn and(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn ordinal(number: u32) -> &'static str {
    match number {
        2 => "nd",
        3 => "rd",
        _ => "th",
    }
}

fn name(names: &[&str], index: u32) -> String {
    usize::try_from(index)
        .ok()
        .and_then(|index| names.get(index))
        .map_or_else(|| index.to_string(), |name| (*name).to_owned())
}
