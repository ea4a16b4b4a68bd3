//! One field of a crontab expression: the values it matches, and whether it begins with `*`.

use super::error::{ExpressionError, FieldName, quoted};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The values a field matches. Sunday is 0; a 7 became one when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    name: FieldName,
    /// Bit `n` is set when the field matches `n`; the largest is 59.
    bits: u64,
    /// The text begins with `*`. cron asks this of the text, not of the values: `*/2` begins with
    /// it, `0-59` does not.
    star: bool,
}

impl Field {
    /// The field that matches this value only.
    pub(super) fn only(name: FieldName, value: u32) -> Self {
        Self { name, bits: 1 << value, star: false }
    }

    /// Reads `text`, which begins `at` bytes into the expression.
    pub(super) fn parse(name: FieldName, text: &str, at: usize) -> Result<Self, ExpressionError> {
        let mut bits = 0;
        let mut position = at;
        for item in text.split(',') {
            bits |= parse_item(name, item).map_err(|(offset, reason, advice)| {
                ExpressionError::Field {
                    field: name,
                    text: quoted(text),
                    at: position + offset,
                    reason,
                    advice,
                }
            })?;
            position += item.len() + 1;
        }
        Ok(Self { name, bits, star: text.starts_with('*') })
    }

    pub(super) fn begins_with_star(self) -> bool {
        self.star
    }

    pub(super) fn is_full(self) -> bool {
        self.bits == span(self.name, name_range(self.name), 1)
    }

    pub(super) fn contains(self, value: u32) -> bool {
        value < 64 && self.bits & (1 << value) != 0
    }

    /// The values, ascending.
    pub(super) fn values(self) -> impl Iterator<Item = u32> {
        (0..60).filter(move |value| self.contains(*value))
    }

    pub(super) fn count(self) -> u32 {
        self.bits.count_ones()
    }

    pub(super) fn first(self) -> u32 {
        self.bits.trailing_zeros()
    }

    /// The one value it matches, if there is only one.
    pub(super) fn single(self) -> Option<u32> {
        (self.count() == 1).then(|| self.first())
    }

    /// First and last value, when it matches all between and there are at least two.
    pub(super) fn run(self) -> Option<(u32, u32)> {
        let (first, last) = (self.first(), 63 - self.bits.leading_zeros().min(63));
        (self.count() > 1 && self.count() == last - first + 1).then_some((first, last))
    }

    /// The step, when the values are all those from the lowest allowed one on, that step apart,
    /// without a shorter stride at the end of the hour or day.
    pub(super) fn even_step(self) -> Option<u32> {
        let (first, last) = name_range(self.name);
        let size = last - first + 1;
        (2..=size / 2)
            .find(|step| size % step == 0 && self.bits == span(self.name, (first, last), *step))
    }

    /// As the `cron` crate writes it: `*` or a list, Sunday being 1.
    pub(super) fn translated(self) -> String {
        if self.is_full() {
            return "*".to_owned();
        }
        let shift = u32::from(self.name == FieldName::DayOfWeek);
        self.values().map(|value| (value + shift).to_string()).collect::<Vec<_>>().join(",")
    }

    /// Crontab text that parses back to this field.
    pub(super) fn text(self) -> String {
        if !self.star {
            return list(self.bits);
        }
        let (first, last) = name_range(self.name);
        // A field that begins with `*` holds `*/n` for some n; n = last + 1 leaves the first value
        // alone.
        for step in 1..=last + 1 {
            let covered = span(self.name, star_range(self.name, (first, last)), step);
            if covered & !self.bits == 0 {
                let star = if step == 1 { "*".to_owned() } else { format!("*/{step}") };
                let rest = self.bits & !covered;
                return if rest == 0 { star } else { format!("{star},{}", list(rest)) };
            }
        }
        list(self.bits)
    }
}

/// The values a field may hold, each once: Sunday as 0 only.
fn name_range(name: FieldName) -> (u32, u32) {
    match name {
        FieldName::Second | FieldName::Minute => (0, 59),
        FieldName::Hour => (0, 23),
        FieldName::DayOfMonth => (1, 31),
        FieldName::Month => (1, 12),
        FieldName::DayOfWeek => (0, 6),
    }
}

/// What `*` stands for, "first-last": 0-7 for days of the week, which `*/7` shows.
fn star_range(name: FieldName, (first, last): (u32, u32)) -> (u32, u32) {
    if name == FieldName::DayOfWeek { (first, 7) } else { (first, last) }
}

fn names(name: FieldName) -> &'static [&'static str] {
    match name {
        FieldName::Month => &MONTHS,
        FieldName::DayOfWeek => &WEEKDAYS,
        _ => &[],
    }
}

/// Every `step`th value of the range, as bits, with 7 folded into 0 for days of the week.
fn span(name: FieldName, (low, high): (u32, u32), step: u32) -> u64 {
    let mut bits = 0;
    let mut value = low;
    while value <= high {
        bits |= 1 << if name == FieldName::DayOfWeek { value % 7 } else { value };
        value = value.saturating_add(step.max(1));
    }
    bits
}

/// Values as crontab text: `1-9/2` when they are evenly apart, else numbers and ranges.
fn list(bits: u64) -> String {
    let values: Vec<u32> = (0..64).filter(|value| bits & (1 << value) != 0).collect();
    if let [first, second, .., last] = values[..] {
        let step = second - first;
        if step > 1 && values.windows(2).all(|pair| pair[1] - pair[0] == step) {
            return format!("{first}-{last}/{step}");
        }
    }
    let mut parts = Vec::new();
    for run in values.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [first, _, .., last] => parts.push(format!("{first}-{last}")),
            _ => parts.extend(run.iter().map(u32::to_string)),
        }
    }
    parts.join(",")
}

/// Where in the item, what is wrong, what to do.
type Fault = (usize, String, String);

/// item = ( `*` | value | value `-` value ) [ `/` step ], as Debian's cron reads it: a step needs a
/// `*` or a range in front.
fn parse_item(name: FieldName, item: &str) -> Result<u64, Fault> {
    let (first, last) = name_range(name);
    let allowed = star_range(name, (first, last));
    let (head, step) = match item.split_once('/') {
        Some((head, step)) => (
            head,
            Some(parse_step(step).map_err(|(reason, advice)| (head.len() + 1, reason, advice))?),
        ),
        None => (item, None),
    };
    if head == "*" {
        return Ok(span(name, allowed, step.unwrap_or(1)));
    }
    let Some((low, high)) = head.split_once('-') else {
        let value =
            parse_value(name, head, allowed).map_err(|(reason, advice)| (0, reason, advice))?;
        return match step {
            None => Ok(span(name, (value, value), 1)),
            Some(step) => Err((
                0,
                "a step needs a range or * in front of it".to_owned(),
                format!(
                    "write \"{value}-{last}/{step}\" for every {step} from {value} on, or \"{value}\" for that value alone"
                ),
            )),
        };
    };
    let low_value =
        parse_value(name, low, allowed).map_err(|(reason, advice)| (0, reason, advice))?;
    let mut high_value = parse_value(name, high, allowed)
        .map_err(|(reason, advice)| (low.len() + 1, reason, advice))?;
    if name == FieldName::DayOfWeek && high.eq_ignore_ascii_case("sun") && low_value > 0 {
        high_value = 7; // "sat-sun" can only mean the weekend
    }
    if low_value > high_value {
        return Err((
            0,
            format!("the range \"{}\" runs backwards", quoted(head)),
            if name == FieldName::DayOfWeek && high_value == 0 {
                format!("write \"{low_value}-7\", 7 is Sunday as well")
            } else if name == FieldName::DayOfWeek && low_value == 7 {
                format!("write \"0-{high_value}\", 0 is Sunday as well")
            } else {
                format!(
                    "write \"{low_value}-{last},{first}-{high_value}\" to go past the end, or \"{high_value}-{low_value}\""
                )
            },
        ));
    }
    Ok(span(name, (low_value, high_value), step.unwrap_or(1)))
}

/// A number or a name. Names are the first three letters; Debian's crontab(5) keeps them out of
/// ranges and lists, but its cron takes them.
fn parse_value(
    name: FieldName,
    text: &str,
    (first, last): (u32, u32),
) -> Result<u32, (String, String)> {
    let range = || match names(name) {
        [] => format!("write a number from {first} to {last}, or *"),
        [jan, .., dec] => {
            format!("write a number from {first} to {last}, a name from {jan} to {dec}, or *")
        }
        [_] => String::new(),
    };
    if text.is_empty() {
        return Err(("a value is missing".to_owned(), range()));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse::<u32>() {
            Ok(value) if (first..=last).contains(&value) => Ok(value),
            _ => Err((format!("{} is outside {first}-{last}", quoted(text)), range())),
        };
    }
    if let Some(index) = names(name).iter().position(|known| text.eq_ignore_ascii_case(known)) {
        return u32::try_from(index)
            .map(|index| index + first)
            .map_err(|_| (String::new(), range()));
    }
    let advice = match names(name)
        .iter()
        .find(|known| text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(known)))
    {
        Some(known) => format!("names are their first three letters: write \"{known}\""),
        None => range(),
    };
    let reason = if text.chars().all(|c| matches!(c, '?' | '#' | 'L' | 'W' | 'l' | 'w' | '0'..='9'))
    {
        format!("\"{}\" is not crontab(5), which has no ?, L, W or #", quoted(text))
    } else if names(name).is_empty() {
        format!("\"{}\" is not a number", quoted(text))
    } else {
        format!("\"{}\" is neither a number nor a name", quoted(text))
    };
    Err((reason, advice))
}

/// At least 1; one beyond the range leaves the first value alone, as in Debian's cron.
fn parse_step(text: &str) -> Result<u32, (String, String)> {
    let advice = || "write a whole number from 1, such as */5".to_owned();
    if text.is_empty() {
        return Err(("the step is missing".to_owned(), advice()));
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err((format!("the step \"{}\" is not a number", quoted(text)), advice()));
    }
    match text.parse::<u32>() {
        Ok(0) => Err(("a step of 0 goes nowhere".to_owned(), advice())),
        Ok(step) => Ok(step),
        Err(_) => Err((format!("the step {} is too large", quoted(text)), advice())),
    }
}
