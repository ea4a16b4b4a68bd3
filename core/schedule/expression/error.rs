//! Why an expression was refused.

use std::fmt;

/// Why [`Expression::cron`](super::Expression::cron) or
/// [`Expression::every`](super::Expression::every) refused what it was given.
///
/// Every message is one sentence that says what is wrong, where, and what to write instead. Texts
/// it quotes are escaped and cut to 40 characters, so a message can be logged or shown whatever the
/// input was. Positions are byte offsets into the text as given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpressionError {
    /// Nothing but blanks.
    #[error(
        "the expression is empty: write five fields such as \"0 3 * * *\", six with leading seconds, or a nickname such as @daily"
    )]
    Empty,
    /// Longer than any expression that means something.
    #[error("the expression is {bytes} bytes long: at most {most} are accepted", most = super::MAX_TEXT)]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Neither five nor six fields.
    #[error(
        "the expression has {found} {}: write five (minute, hour, day of month, month, day of week), or six with seconds in front; \
         a year or a command is not part of it",
        if *found == 1 { "field" } else { "fields" }
    )]
    FieldCount {
        /// How many fields it has.
        found: usize,
    },
    /// One field is wrong.
    #[error("{field} field \"{text}\", at byte {at}: {reason}; {advice}")]
    Field {
        /// The field.
        field: FieldName,
        /// The whole text of the field.
        text: String,
        /// Where the wrong part of it begins, in bytes from the start of the expression.
        at: usize,
        /// What is wrong.
        reason: String,
        /// What to do about it.
        advice: String,
    },
    /// An `@word` that is not one of the nicknames.
    #[error(
        "\"{text}\", at byte {at}, is not a nickname: use @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, @reboot, \
         or an interval such as \"@every 5m\""
    )]
    Nickname {
        /// The word.
        text: String,
        /// Where it begins, in bytes.
        at: usize,
    },
    /// Every field is valid, but no date matches them all.
    #[error(
        "day-of-month field \"{days}\", at byte {at}: the schedule would never fire, none of the months \"{months}\" has such a day; \
         change the day or the month"
    )]
    Never {
        /// The text of the day-of-month field.
        days: String,
        /// Where it begins, in bytes.
        at: usize,
        /// The text of the month field.
        months: String,
    },
    /// An interval that cannot be kept.
    #[error("the interval {given} is refused: {reason}; {advice}")]
    Interval {
        /// The interval as given.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// The `cron` crate refused the translation of an expression Verger accepts: a fault in Verger.
    #[error(
        "the expression could not be translated: {reason}; please report this as a bug in Verger"
    )]
    Translation {
        /// What the `cron` crate said.
        reason: String,
    },
}

/// A field of a crontab expression, in the order they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldName {
    /// 0 to 59; only in an expression of six fields.
    Second,
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// 1 to 31.
    DayOfMonth,
    /// 1 to 12, or the first three letters of a month's English name.
    Month,
    /// 0 to 7, both of them Sunday, or the first three letters of a day's English name.
    DayOfWeek,
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day-of-month",
            Self::Month => "month",
            Self::DayOfWeek => "day-of-week",
        })
    }
}

/// `text` fit for a message: escaped, at most 40 characters.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 40;
    let mut shown: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}
