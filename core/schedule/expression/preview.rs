//! The next slots of an expression, with what clock changes do to them.

use std::fmt;

use chrono::{DateTime, Days, FixedOffset, SecondsFormat};

use super::clock::{self, Local};
use super::rule::Rule;
use super::zone::Zone;
use super::{Expression, Kind};
use crate::time::Timestamp;

/// The most slots [`upcoming`] lists, whatever it is asked for.
const MOST: usize = 10_000;

/// A slot to come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upcoming {
    /// The slot.
    pub at: Timestamp,
    /// The slot in the zone, as RFC 3339 with the offset in force: `2026-03-29T03:00:00+02:00`.
    pub local: String,
    /// What a change of the zone's clocks does to this slot, if anything.
    pub note: Option<ClockChange>,
}

/// What a change of the local clock does to a slot. `Display` says it in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockChange {
    /// The rule's local time does not exist that day, the clock jumps over it; it fires at the
    /// first instant after the jump. Several times that fall into one gap are one slot.
    Gap {
        /// The first local time of the rule that the clock jumps over, without an offset:
        /// `2026-03-29T02:30:00`.
        wanted: String,
    },
    /// The rule follows elapsed time, and the clock jumped over at least one local time of the rule
    /// just before this slot: nothing fires for it.
    GapPassed {
        /// The first local time of the rule that the clock jumped over, without an offset.
        skipped: String,
    },
    /// This local time comes twice; the rule fires the first time only.
    FoldOnce,
    /// This local time comes twice and the rule follows elapsed time; this is the first of two
    /// slots.
    FoldFirst,
    /// This local time comes twice and the rule follows elapsed time; this is the second of two
    /// slots.
    FoldSecond,
}

impl fmt::Display for ClockChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { wanted } => write!(
                f,
                "{wanted} does not exist, the clock is put forward over it: fires right after"
            ),
            Self::GapPassed { skipped } => write!(
                f,
                "{skipped} does not exist, the clock is put forward over it: nothing fires for it"
            ),
            Self::FoldOnce => {
                f.write_str("comes twice, the clock is put back: fires the first time only")
            }
            Self::FoldFirst => f.write_str(
                "comes twice, the clock is put back: fires both times, this is the first",
            ),
            Self::FoldSecond => f.write_str(
                "comes twice, the clock is put back: fires both times, this is the second",
            ),
        }
    }
}

/// The first `count` slots of `expression` after `from`, at most 10,000; fewer when it has no more
/// (none for `@reboot`).
///
/// An interval is counted from `from`. Its slots carry no note: clock changes do not touch it.
///
/// # Example
///
/// ```
/// use verger::{Expression, Timestamp, parse_zone, upcoming};
///
/// let expression = Expression::cron("30 2 * * *")?;
/// let from = Timestamp::from_millis(1_774_700_000_000); // 2026-03-28, the night before summer time
/// let next = &upcoming(&expression, parse_zone("Europe/Berlin")?, from, 1)[0];
/// assert_eq!(next.local, "2026-03-29T03:00:00+02:00");
/// assert!(next.note.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn upcoming(
    expression: &Expression,
    zone: Zone,
    from: Timestamp,
    count: usize,
) -> Vec<Upcoming> {
    let mut slots = Vec::new();
    let mut after = from;
    while slots.len() < count.min(MOST) {
        let Some(at) = expression.next_after(after, zone, from) else { break };
        let note = match &expression.kind {
            Kind::Cron(rule) => note(rule, zone, seconds(after), seconds(at)),
            Kind::Every(_) | Kind::Reboot => None,
        };
        let local = in_zone(at, zone);
        slots.push(Upcoming { at, local, note });
        after = at;
    }
    slots
}

fn note(rule: &Rule, zone: Zone, after: i64, slot: i64) -> Option<ClockChange> {
    let shown = slot + zone.offset(slot);
    if rule.is_wildcard() {
        return match clock::resolve(zone, shown) {
            Local::Twice { first, .. } => {
                Some(if first == slot { ClockChange::FoldFirst } else { ClockChange::FoldSecond })
            }
            _ => {
                let due = rule.next_local(after + zone.offset(after))?;
                let jumped = due < shown
                    && matches!(clock::resolve(zone, due), Local::Gap { end } if end <= slot);
                jumped.then(|| ClockChange::GapPassed { skipped: naive(due) })
            }
        };
    }
    let before = slot + zone.offset(slot - 1);
    if before < shown {
        // The clock jumps from `before` to `shown` at this very instant.
        return rule
            .next_local(before - 1)
            .filter(|wanted| *wanted < shown)
            .map(|wanted| ClockChange::Gap { wanted: naive(wanted) });
    }
    matches!(clock::resolve(zone, shown), Local::Twice { .. }).then_some(ClockChange::FoldOnce)
}

/// RFC 3339 on the clock of the zone; as the timestamp itself is written where chrono cannot hold
/// that, a quarter of a million years away.
fn in_zone(at: Timestamp, zone: Zone) -> String {
    let local = || {
        let utc = at.to_utc()?;
        (utc.checked_add_days(Days::new(1)).is_some()
            && utc.checked_sub_days(Days::new(1)).is_some())
        .then_some(())?;
        let offset = FixedOffset::east_opt(zone.offset(seconds(at)).try_into().ok()?)?;
        Some(utc.with_timezone(&offset).to_rfc3339_opts(SecondsFormat::AutoSi, false))
    };
    local().unwrap_or_else(|| at.to_string())
}

fn seconds(instant: Timestamp) -> i64 {
    instant.as_millis().div_euclid(1_000)
}

fn naive(local: i64) -> String {
    DateTime::from_timestamp(local, 0)
        .map_or_else(String::new, |local| local.format("%Y-%m-%dT%H:%M:%S").to_string())
}
