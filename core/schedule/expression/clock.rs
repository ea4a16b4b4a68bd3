//! When a rule's local times come to pass in a zone whose clocks are put forward and back.
//!
//! Two readings, as cron(8) has them. A rule for a particular time fires the moment the local clock
//! first reaches or passes that time: in a gap that is the first instant after it, in a fold the
//! first pass. A wildcard rule fires whenever the local clock shows a matching time: in a fold both
//! passes, in a gap nothing. Instants and local times are whole seconds since 1970, the latter of a
//! clock without changes.

use super::rule::Rule;
use super::zone::Zone;

/// No offset from UTC reaches this many seconds.
const DAY: i64 = 86_400;

/// When a local time happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Local {
    /// Never: the clock jumps over it at the instant `end`.
    Gap { end: i64 },
    /// Once.
    Once(i64),
    /// Twice: the clock goes back in between.
    Twice { first: i64, second: i64 },
}

/// When `local` happens.
pub(super) fn resolve(zone: Zone, local: i64) -> Local {
    // A zone changes its clocks at most once in the two days around it, so that one of two offsets is
    // in force whenever it is shown.
    let (earlier, later) = (local.saturating_sub(DAY), local.saturating_add(DAY));
    let shown = |offset: i64| {
        let at = local.saturating_sub(offset);
        (zone.offset(at) == offset).then_some(at)
    };
    match (shown(zone.offset(earlier)), shown(zone.offset(later))) {
        (Some(a), Some(b)) if a != b => Local::Twice { first: a.min(b), second: a.max(b) },
        (Some(at), _) | (None, Some(at)) => Local::Once(at),
        // No instant shows this time, so the clock passes it once, jumping.
        (None, None) => {
            Local::Gap { end: first_where(earlier, later, |t| t + zone.offset(t) >= local) }
        }
    }
}

/// The rule's first slot after the instant `after`.
pub(super) fn next_slot(rule: &Rule, zone: Zone, after: i64) -> Option<i64> {
    if rule.is_wildcard() { next_shown(rule, zone, after) } else { next_reached(rule, zone, after) }
}

/// The next instant at which the local clock reaches or passes a matching time it has not reached
/// before.
fn next_reached(rule: &Rule, zone: Zone, after: i64) -> Option<i64> {
    let local = after + zone.offset(after);
    let mut reached = match resolve(zone, local) {
        // In the second pass of a fold the first one has reached all of it already.
        Local::Twice { first, second } if second == after => {
            back(zone, first, second) + zone.offset(first) - 1
        }
        _ => local,
    };
    loop {
        reached = rule.next_local(reached)?;
        let slot = match resolve(zone, reached) {
            Local::Gap { end } => end,
            Local::Once(slot) | Local::Twice { first: slot, .. } => slot,
        };
        if slot > after {
            return Some(slot);
        }
    }
}

/// The next instant at which the local clock shows a matching time.
fn next_shown(rule: &Rule, zone: Zone, after: i64) -> Option<i64> {
    let local = after + zone.offset(after);
    let ahead = shown_ahead(rule, zone, after, local);
    // Still ahead in the first pass through a fold: the second pass shows earlier local times
    // again.
    if let Local::Twice { first, second } = resolve(zone, local)
        && first == after
    {
        let back = back(zone, first, second);
        let again = rule.next_local(back + zone.offset(back) - 1).map(|local| resolve(zone, local));
        if let Some(Local::Twice { second, .. }) = again {
            return Some(ahead.map_or(second, |ahead| ahead.min(second)));
        }
    }
    ahead
}

/// The first instant after `after` that shows a matching time later than `local`.
fn shown_ahead(rule: &Rule, zone: Zone, after: i64, local: i64) -> Option<i64> {
    let mut local = rule.next_local(local)?;
    loop {
        let slot = match resolve(zone, local) {
            Local::Gap { end } => {
                local = rule.next_local(end + zone.offset(end) - 1)?;
                continue;
            }
            Local::Once(slot) => slot,
            Local::Twice { first, second } => {
                if first > after {
                    first
                } else {
                    second
                }
            }
        };
        if slot > after {
            return Some(slot);
        }
        local = rule.next_local(local)?;
    }
}

/// The instant at which the clock goes back, between the two passes of a fold.
fn back(zone: Zone, first: i64, second: i64) -> i64 {
    let later = zone.offset(second);
    first_where(first, second, |t| zone.offset(t) == later)
}

/// The first second after `low`, up to `high`, at which `holds` does; it must hold at `high`, and
/// from the first on.
fn first_where(mut low: i64, mut high: i64, holds: impl Fn(i64) -> bool) -> i64 {
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}
