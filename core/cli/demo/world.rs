//! What the demo's world is made of: how much there is, and how its time is counted.

use std::time::Duration;

use verger::Timestamp;

pub(crate) const SECOND: i64 = 1_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Monday, 2026-01-05T00:00:00Z, where simulated time starts, whenever the demo is run.
pub(crate) const START: i64 = 1_767_571_200_000;

/// The length of a slot. At its end the app writes what happened, then Verger ticks.
pub(crate) const SLOT: Duration = Duration::from_secs(300);
const SLOT_MS: i64 = 5 * MINUTE;
const SLOTS_A_DAY: i64 = 288;

/// How much there is of everything, and the seed it is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) seed: u64,
    /// 1 for the whole, 100 for a hundredth of it.
    pub(crate) scale: u64,
}

impl World {
    pub(crate) fn organizations(self) -> u64 {
        (200 / self.scale).max(1)
    }

    pub(crate) fn invitations(self) -> u64 {
        20_000 / self.scale
    }

    pub(crate) fn memberships(self) -> u64 {
        20_000 / self.scale
    }

    /// Webhook events from before the start.
    pub(crate) fn events_before(self) -> u64 {
        10_000 / self.scale
    }

    /// Webhook events that arrive in a week.
    pub(crate) fn events_a_week(self) -> u64 {
        40_000 / self.scale
    }

    /// Webhook events up to the end of this day.
    pub(crate) fn events(self, days: u64) -> u64 {
        self.events_before() + (self.events_a_week() * days).div_ceil(7)
    }
}

pub(crate) fn slots(days: u32) -> i64 {
    i64::from(days) * SLOTS_A_DAY
}

/// The end of a slot: when its rows are written and Verger ticks.
pub(crate) fn end_of_slot(slot: i64) -> Timestamp {
    Timestamp::from_millis(START + slot * SLOT_MS)
}

/// The slot an instant belongs to. 0 for all that was before the start.
pub(crate) fn slot_of(at: i64) -> i64 {
    if at <= START { 0 } else { (at - START + SLOT_MS - 1) / SLOT_MS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_belongs_to_the_slot_at_whose_end_it_is_known() {
        for (at, slot) in [(-DAY, 0), (0, 0), (1, 1), (SLOT_MS, 1), (SLOT_MS + 1, 2), (DAY, 288)] {
            assert_eq!(slot_of(START + at), slot, "{at}");
        }
        assert_eq!(end_of_slot(0).to_string(), "2026-01-05T00:00:00Z");
        assert_eq!(end_of_slot(slots(7)).to_string(), "2026-01-12T00:00:00Z");
    }

    #[test]
    fn a_week_of_the_whole_world_has_the_events_it_promises() {
        let whole = World { seed: 1, scale: 1 };
        assert_eq!(
            (whole.events(7), whole.organizations(), whole.invitations(), whole.memberships()),
            (50_000, 200, 20_000, 20_000)
        );
    }
}
