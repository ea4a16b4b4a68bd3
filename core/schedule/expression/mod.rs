//! When a schedule fires: crontab(5) expressions, fixed intervals, and what clock changes do to
//! them. No clock is read in here.
//!
//! Text → [`rule`] of six [`field`]s → local times (by the `cron` crate) → instants in a zone
//! ([`clock`]). [`interval`] needs no zone. [`words`] and [`preview`] explain an expression to
//! people.

mod clock;
mod count;
mod error;
mod field;
mod interval;
mod preview;
mod rule;
mod words;
mod zone;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use error::{ExpressionError, FieldName};
pub use preview::{ClockChange, Upcoming, upcoming};
pub use zone::{Zone, ZoneError, parse_zone};

use crate::time::Timestamp;
use interval::Interval;
use rule::Rule;

/// The longest text read as an expression, in bytes.
const MAX_TEXT: usize = 1_000;

/// When a schedule fires.
///
/// # Crontab
///
/// [`Expression::cron`] gives every field the meaning of Debian's crontab(5):
///
/// | field | values |
/// | --- | --- |
/// | second | 0-59; only as the first of six fields, otherwise 0 |
/// | minute | 0-59 |
/// | hour | 0-23 |
/// | day of month | 1-31 |
/// | month | 1-12, or jan to dec |
/// | day of week | 0-7, 0 and 7 being Sunday, or sun to sat |
///
/// A field is a list (`1,15`) of `*`, numbers, ranges (`1-5`, inclusive) and steps after `*` or a
/// range (`*/5`, `0-23/2`). A step past the end of the range leaves its first value. Case does not
/// matter. Nicknames: `@yearly` = `@annually` = `0 0 1 1 *`, `@monthly` = `0 0 1 * *`, `@weekly` =
/// `0 0 * * 0`, `@daily` = `@midnight` = `0 0 * * *`, `@hourly` = `0 * * * *`, and `@reboot`.
///
/// **Days.** When neither day field begins with `*`, a day matches if *either* does: `0 0 13 * 5`
/// is every 13th and every Friday. When one of them begins with `*`, *both* must match: `0 0 * * 5`
/// is Fridays, and `0 0 */2 * 5` the Fridays with an odd date.
///
/// Where crontab(5) and Debian's cron leave a choice, names are taken in ranges and lists too (the
/// cron does, its manual says no), and `sat-sun` is the weekend. Some things are refused where the
/// cron silently never fires or guesses: ranges that run backwards (`5-1`, `7-2`), a step without a
/// range (`5/15`), and days that no named month has (`0 0 30 2 *`). There is no `?`, `L`, `W`, `#`
/// and no year.
///
/// # Clock changes
///
/// Clock changes are handled as in cron(8). A rule for particular times fires once for each of
/// them. A time that is skipped when the clocks go forward fires at the first instant after the
/// gap; several such times are one slot. A time that comes twice when they go back fires the first
/// time. A rule whose hour or minute field (or seconds, if it has them) begins with `*` follows
/// elapsed time: it fires in both passes, and a gap has nothing to fire. There is one difference.
/// cron(8) takes changes of more than three hours for corrections of a wrong clock. A zone's own
/// changes are known to be none, so Verger follows the same rules for all of them, including a
/// whole skipped day (Samoa, 2011).
///
/// # Bounds
///
/// Crontab slots lie in the years 1970 to 2100 of the zone's clock. Intervals are from 1 second to
/// 100 years. Text is at most 1,000 bytes.
///
/// # Text
///
/// `Display` writes a canonical text that [`Expression::cron`] (or `FromStr`, which is the same)
/// reads back to an equal expression. Two crontab expressions are equal when their fields match the
/// same values and the same fields begin with `*`. `@daily` and `00 0 */1 jan-dec *` are not equal,
/// because the month begins with `*` in only one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Cron(Box<Rule>),
    Every(Interval),
    Reboot,
}

impl Expression {
    /// Reads a crontab expression, five fields, six with leading seconds, or a nickname; or
    /// `@every` and an interval such as `90s` or `1h30m` (units w, d, h, m, s, ms), which is how
    /// [`Expression::every`] is written down.
    ///
    /// # Errors
    ///
    /// [`ExpressionError`], which points at the field. No input makes it panic.
    ///
    /// # Example
    ///
    /// ```
    /// use verger::Expression;
    ///
    /// assert_eq!(Expression::cron("0 3 * * mon-fri")?.describe(), "at 03:00 from Monday to Friday");
    /// assert!(Expression::cron("0 25 * * *").unwrap_err().to_string().starts_with("hour field \"25\", at byte 2: 25 is outside 0-23"));
    /// # Ok::<(), verger::ExpressionError>(())
    /// ```
    pub fn cron(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > MAX_TEXT {
            return Err(ExpressionError::TooLong { bytes: text.len() });
        }
        let word = text.trim();
        if !word.starts_with('@') {
            return Rule::parse(text).map(Self::from_rule);
        }
        let nickname = || word.to_ascii_lowercase();
        Ok(match nickname().as_str() {
            "@yearly" | "@annually" => Self::from_rule(Rule::parse("0 0 1 1 *")?),
            "@monthly" => Self::from_rule(Rule::parse("0 0 1 * *")?),
            "@weekly" => Self::from_rule(Rule::parse("0 0 * * 0")?),
            "@daily" | "@midnight" => Self::from_rule(Rule::parse("0 0 * * *")?),
            "@hourly" => Self::from_rule(Rule::parse("0 * * * *")?),
            "@reboot" => Self { kind: Kind::Reboot },
            other => match other.strip_prefix("@every") {
                Some(rest) if rest.is_empty() || rest.starts_with([' ', '\t']) => {
                    Self { kind: Kind::Every(Interval::parse(rest.trim())?) }
                }
                _ => {
                    let at = text.len() - text.trim_start().len();
                    return Err(ExpressionError::Nickname { text: error::quoted(word), at });
                }
            },
        })
    }

    /// Fires at every multiple of `interval` after an anchor: by elapsed time, without drift,
    /// whatever clocks and zones do.
    ///
    /// # Errors
    ///
    /// [`ExpressionError::Interval`] unless it is a whole number of milliseconds from 1 second to
    /// 100 years (36,525 days).
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    /// use verger::{Expression, Timestamp, Zone};
    ///
    /// let every = Expression::every(Duration::from_secs(300))?;
    /// let (anchor, after) = (Timestamp::from_millis(0), Timestamp::from_millis(300_000));
    /// assert_eq!(every.next_after(after, Zone::UTC, anchor), Some(Timestamp::from_millis(600_000)));
    /// assert!(Expression::every(Duration::ZERO).is_err());
    /// # Ok::<(), verger::ExpressionError>(())
    /// ```
    pub fn every(interval: Duration) -> Result<Self, ExpressionError> {
        Interval::new(interval).map(|interval| Self { kind: Kind::Every(interval) })
    }

    fn from_rule(rule: Rule) -> Self {
        Self { kind: Kind::Cron(Box::new(rule)) }
    }

    /// Whether this is `@reboot`: once at startup, at no instant that could be computed.
    #[must_use]
    pub fn is_reboot(&self) -> bool {
        self.kind == Kind::Reboot
    }

    /// The first slot strictly after `after`, on the clock of `zone`. Slots strictly increase.
    ///
    /// An interval ignores the zone: its slots are `anchor` + k × interval, k ≥ 1. Crontab
    /// expressions ignore the anchor.
    ///
    /// `None` for `@reboot`, past the last slot (see [Bounds](Expression#bounds)), for a crontab
    /// expression when `after` is an instant chrono cannot hold, and where an interval leaves what
    /// 64 bits hold. Takes microseconds, however rare the slots.
    ///
    /// # Example
    ///
    /// ```
    /// use verger::{Expression, Timestamp, Zone};
    ///
    /// let leap_day = Expression::cron("0 0 29 2 *")?;
    /// let now = Timestamp::from_millis(1_767_225_600_000); // 2026-01-01T00:00:00Z
    /// let next = leap_day.next_after(now, Zone::UTC, now).ok_or("no more leap days")?;
    /// assert_eq!(next.to_string(), "2028-02-29T00:00:00Z");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn next_after(&self, after: Timestamp, zone: Zone, anchor: Timestamp) -> Option<Timestamp> {
        match &self.kind {
            Kind::Cron(rule) => {
                after.to_utc()?;
                // Nothing matches before 1970 on any local clock, which begins less than a day from
                // 0.
                let after = after.as_millis().div_euclid(1_000).max(-86_400);
                clock::next_slot(rule, zone, after)?.checked_mul(1_000).map(Timestamp::from_millis)
            }
            Kind::Every(interval) => interval.next_after(after, anchor),
            Kind::Reboot => None,
        }
    }

    /// The expression in English: "at 03:00 every day", "every 5 minutes".
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Cron(rule) => words::rule(rule),
            Kind::Every(interval) => words::interval(*interval),
            Kind::Reboot => "once, at startup".to_owned(),
        }
    }
}

/// Canonical text; see [Text](Expression#text).
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Cron(rule) => rule.fmt(f),
            Kind::Every(interval) => write!(f, "@every {interval}"),
            Kind::Reboot => f.write_str("@reboot"),
        }
    }
}

/// The same as [`Expression::cron`].
impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::cron(text)
    }
}
