//! What happens when: every act of the app, in the slot at whose end it is written to the file.

use super::mail;
use super::people;
use super::world::{World, slot_of, slots};

/// One thing the app does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    /// A delivery is committed, known by its message. It comes before a report of the same
    /// millisecond.
    Commit(u64),
    /// A webhook event comes in.
    Report(u64),
    /// A membership is renewed.
    Renew(u64),
    /// An invitation is accepted.
    Accept(u64),
}

/// The acts of each slot, in the order of their instants. Slot 0 has the mail from before the
/// start.
pub(crate) struct Diary {
    slots: Vec<Vec<(i64, Act)>>,
}

impl Diary {
    /// The diary of this many days. More days add slots and change none.
    pub(crate) fn of(world: World, days: u32) -> Self {
        let count = usize::try_from(slots(days)).unwrap_or(0) + 1;
        let mut diary = Self { slots: vec![Vec::new(); count] };
        for event in 0..world.events(u64::from(days)) {
            diary.note(mail::reported_at(world, event), Act::Report(event));
            if mail::message_of(world, event) == event
                && let Some(at) = mail::message(world, event).committed_at
            {
                diary.note(at, Act::Commit(event));
            }
        }
        for index in 0..world.memberships() {
            if let Some((at, _)) = people::membership(world, index).will_renew {
                diary.note(at, Act::Renew(index));
            }
        }
        for index in 0..world.invitations() {
            if let Some(at) = people::invitation(world, index).will_accept {
                diary.note(at, Act::Accept(index));
            }
        }
        for slot in &mut diary.slots {
            slot.sort_unstable();
        }
        diary
    }

    /// Notes an act. What lies beyond the last day is left for a longer run.
    fn note(&mut self, at: i64, act: Act) {
        let slot = usize::try_from(slot_of(at)).ok();
        if let Some(slot) = slot.and_then(|slot| self.slots.get_mut(slot)) {
            slot.push((at, act));
        }
    }

    pub(crate) fn acts(&self, slot: i64) -> &[(i64, Act)] {
        usize::try_from(slot).ok().and_then(|slot| self.slots.get(slot)).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_days_change_nothing_in_the_days_before() {
        let world = World { seed: 3, scale: 100 };
        let (short, long) = (Diary::of(world, 2), Diary::of(world, 5));
        assert!((0..=slots(2)).all(|slot| short.acts(slot) == long.acts(slot)));
        assert!((slots(2) + 1..=slots(5)).any(|slot| !long.acts(slot).is_empty()));
    }
}
