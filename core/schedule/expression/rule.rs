//! A crontab rule: six fields, the day-field rule, and the local times that match them.

use std::fmt;
use std::str::FromStr;

use chrono::DateTime;

use super::error::{ExpressionError, FieldName, quoted};
use super::field::Field;

/// 2101-01-01T00:00:00: the `cron` crate knows the years 1970 to 2100 (and panics at the last
/// instants chrono can hold).
const END: i64 = 4_133_980_800;

/// What a crontab line says, without a zone.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) second: Field,
    pub(super) minute: Field,
    pub(super) hour: Field,
    pub(super) day_of_month: Field,
    pub(super) month: Field,
    pub(super) day_of_week: Field,
    /// The same for the `cron` crate, which wants both day fields to match: one schedule, or two of
    /// which either may match.
    schedules: Vec<cron::Schedule>,
}

impl Rule {
    /// Reads five fields, or six with seconds in front.
    pub(super) fn parse(text: &str) -> Result<Self, ExpressionError> {
        let parts = split(text);
        let (second, rest) = match parts[..] {
            [] => return Err(ExpressionError::Empty),
            [a, b, c, d, e] => (Field::only(FieldName::Second, 0), [a, b, c, d, e]),
            [(text, at), a, b, c, d, e] => {
                (Field::parse(FieldName::Second, text, at)?, [a, b, c, d, e])
            }
            _ => return Err(ExpressionError::FieldCount { found: parts.len() }),
        };
        let [minute, hour, day_of_month, month, day_of_week] = rest;
        let mut rule = Self {
            second,
            minute: Field::parse(FieldName::Minute, minute.0, minute.1)?,
            hour: Field::parse(FieldName::Hour, hour.0, hour.1)?,
            day_of_month: Field::parse(FieldName::DayOfMonth, day_of_month.0, day_of_month.1)?,
            month: Field::parse(FieldName::Month, month.0, month.1)?,
            day_of_week: Field::parse(FieldName::DayOfWeek, day_of_week.0, day_of_week.1)?,
            schedules: Vec::new(),
        };
        if !rule.is_possible() {
            return Err(ExpressionError::Never {
                days: quoted(day_of_month.0),
                at: day_of_month.1,
                months: quoted(month.0),
            });
        }
        rule.schedules = rule.translate()?;
        Ok(rule)
    }

    /// Whether it follows elapsed time across clock changes: a field for hour, minute or second
    /// begins with `*`.
    pub(super) fn is_wildcard(&self) -> bool {
        self.hour.begins_with_star()
            || self.minute.begins_with_star()
            || self.second.begins_with_star()
    }

    /// Whether a day has to match one of the day fields only. crontab(5): when neither begins with
    /// `*`.
    pub(super) fn either_day(&self) -> bool {
        !self.day_of_month.begins_with_star() && !self.day_of_week.begins_with_star()
    }

    /// The first local time after `local` that matches, both in seconds of a clock without changes
    /// since 1970; up to the year 2100.
    pub(super) fn next_local(&self, local: i64) -> Option<i64> {
        if local >= END {
            return None;
        }
        let after = DateTime::from_timestamp(local.max(-1), 0)?;
        self.schedules
            .iter()
            .filter_map(|schedule| schedule.after(&after).next())
            .map(|next| next.timestamp())
            .min()
    }

    /// How many slots a matching day (86,400 s), hour or minute has when the clock runs evenly.
    pub(super) fn slots_per(&self, seconds: i64) -> u64 {
        let counts = [(self.hour, 3_600), (self.minute, 60), (self.second, 1)];
        counts
            .into_iter()
            .filter(|(_, unit)| *unit < seconds)
            .map(|(field, _)| u64::from(field.count()))
            .product()
    }

    /// Whether any date matches: each weekday comes to every date in time, so only day and month
    /// can contradict each other.
    fn is_possible(&self) -> bool {
        self.either_day()
            || self.month.values().any(|month| self.day_of_month.first() <= longest(month))
    }

    fn translate(&self) -> Result<Vec<cron::Schedule>, ExpressionError> {
        let all = "*".to_owned();
        let (days, weekdays) = (self.day_of_month.translated(), self.day_of_week.translated());
        let pairs = if self.either_day() {
            vec![(days, all.clone()), (all, weekdays)]
        } else {
            vec![(days, weekdays)]
        };
        let (second, minute, hour) =
            (self.second.translated(), self.minute.translated(), self.hour.translated());
        let month = self.month.translated();
        pairs
            .into_iter()
            .map(|(days, weekdays)| {
                cron::Schedule::from_str(&format!(
                    "{second} {minute} {hour} {days} {month} {weekdays}"
                ))
                .map_err(|error| ExpressionError::Translation { reason: error.to_string() })
            })
            .collect()
    }

    fn fields(&self) -> [Field; 6] {
        [self.second, self.minute, self.hour, self.day_of_month, self.month, self.day_of_week]
    }
}

/// The schedules follow from the fields.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.fields() == other.fields()
    }
}

impl Eq for Rule {}

/// Five fields, six when the seconds are not just 0.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skip = usize::from(self.second == Field::only(FieldName::Second, 0));
        let texts: Vec<String> = self.fields().into_iter().skip(skip).map(Field::text).collect();
        f.write_str(&texts.join(" "))
    }
}

/// The words of `text` and where each begins. Blanks and tabs part them; line ends are tolerated
/// around the whole.
fn split(text: &str) -> Vec<(&str, usize)> {
    let body = text.trim_matches([' ', '\t', '\r', '\n']);
    let mut at = text.len() - text.trim_start_matches([' ', '\t', '\r', '\n']).len();
    let mut parts = Vec::new();
    for part in body.split([' ', '\t']) {
        if !part.is_empty() {
            parts.push((part, at));
        }
        at += part.len() + 1;
    }
    parts
}

/// The most days a month of that number has.
fn longest(month: u32) -> u32 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
