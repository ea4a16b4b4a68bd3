//! Which slots of a stored schedule are due, and which of them get a line of their own. This takes
//! a bounded time, however long the sleep was.

use std::time::Duration;

use super::definition::Missed;
use super::expression::{Expression, Zone, parse_zone};
use super::rows::ScheduleRow;
use crate::time::Timestamp;

/// With [`Missed::Skip`], a slot found due later than this was missed.
const SKIP_GRACE: Duration = Duration::from_secs(60);

const MILLISECOND: Duration = Duration::from_millis(1);

/// When a stored schedule fires.
pub(crate) struct Rule {
    pub(super) expression: Expression,
    pub(super) zone: Zone,
    anchor: Timestamp,
}

/// A slot that gets a line of its own in the ledger, and how many earlier slots that line stands
/// for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chosen {
    /// It makes a job, if nothing prevents that.
    Decide(Timestamp, u32),
    /// It makes no job.
    Missed(Timestamp, u32),
}

impl Rule {
    /// Reads what is stored. The error says why it cannot be followed, because someone edited the
    /// row.
    pub(crate) fn of(row: &ScheduleRow) -> Result<Self, String> {
        let expression = row
            .expression
            .parse()
            .map_err(|error| format!("its stored expression cannot be read: {error}"))?;
        let zone = parse_zone(&row.timezone)
            .map_err(|error| format!("its stored time zone cannot be read: {error}"))?;
        Ok(Self { expression, zone, anchor: row.anchor })
    }

    /// The first slot after this instant.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.expression.next_after(after, self.zone, self.anchor)
    }

    /// Whether this instant is a slot.
    pub(crate) fn is_slot(&self, at: Timestamp) -> bool {
        self.next(at - MILLISECOND) == Some(at)
    }

    /// The last slot after `from` and up to `until`.
    pub(super) fn last_between(&self, from: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let due = |after: Timestamp| self.next(after).filter(|next| *next <= until);
        let mut last = due(from)?;
        // Slots increase, so bisection finds the last instant with one after it.
        let (mut low, mut high) = (last.as_millis(), until.as_millis());
        while let Some(next) = due(Timestamp::from_millis(low)) {
            last = next;
            low = next.as_millis();
            let middle = i64::midpoint(low, high);
            match due(Timestamp::from_millis(middle)) {
                Some(next) => (last, low) = (next, next.as_millis()),
                None => high = middle,
            }
        }
        Some(last)
    }

    fn count(&self, after: Timestamp, until: Timestamp) -> u32 {
        u32::try_from(self.expression.count_between(after, until, self.zone, self.anchor))
            .unwrap_or(u32::MAX)
    }

    /// The last slot that is due, and how many are due before it. `first` is due, and counts as a
    /// slot even if someone wrote it by hand.
    pub(super) fn due(&self, first: Timestamp, now: Timestamp) -> (Timestamp, u32) {
        let last = self.last_between(first, now).unwrap_or(first);
        (last, self.count(first, last))
    }

    /// The slots from `first` to `now` that get a line of their own, in order.
    pub(super) fn choose(&self, policy: Missed, first: Timestamp, now: Timestamp) -> Vec<Chosen> {
        let (last, before) = self.due(first, now);
        match policy {
            Missed::Coalesce => vec![Chosen::Decide(last, before)],
            Missed::Skip if now.since(last) > SKIP_GRACE => vec![Chosen::Missed(last, before)],
            Missed::Skip => {
                let mut chosen = self.suppressed(first, last, before);
                chosen.push(Chosen::Decide(last, 0));
                chosen
            }
            Missed::Replay(most) => {
                let most = most.clamp(1, Missed::REPLAY_MAX);
                let from = if before < most { first } else { self.first_of_last(last, most) };
                let mut chosen =
                    self.suppressed(first, from, before.saturating_add(1).saturating_sub(most));
                let mut slot = Some(from);
                while let Some(at) = slot.filter(|at| *at <= last) {
                    chosen.push(Chosen::Decide(at, 0));
                    slot = self.next(at);
                }
                chosen
            }
        }
    }

    /// One line for the `count` slots from `first` on, before `end`. It is the line of the last
    /// one.
    fn suppressed(&self, first: Timestamp, end: Timestamp, count: u32) -> Vec<Chosen> {
        match count {
            0 => Vec::new(),
            _ => vec![Chosen::Missed(
                self.last_between(first, end - MILLISECOND).unwrap_or(first),
                count - 1,
            )],
        }
    }

    /// The slot with `count` slots from it to `last`, both included. There are more than that.
    fn first_of_last(&self, last: Timestamp, count: u32) -> Timestamp {
        let holds = |after: Timestamp| self.count(after, last) >= count;
        let mut back = Duration::from_secs(1);
        while !holds(last - back) {
            back *= 2;
        }
        // It holds at `low`, and no longer at `high`.
        let (mut low, mut high) = ((last - back).as_millis(), last.as_millis());
        while high.saturating_sub(low) > 1 {
            let middle = i64::midpoint(low, high);
            if holds(Timestamp::from_millis(middle)) { low = middle } else { high = middle }
        }
        self.next(Timestamp::from_millis(low)).unwrap_or(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(expression: &str) -> Rule {
        Rule {
            expression: expression.parse().unwrap(),
            zone: Zone::UTC,
            anchor: Timestamp::from_millis(0),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn the_chosen_slots_account_for_all_that_are_due() {
        for expression in ["* * * * * *", "@every 7s", "*/3 2 * * * *", "*/5 * * * *", "0 3 * * *"]
        {
            let rule = rule(expression);
            let first = rule.next(at(1_767_225_600)).unwrap();
            for slept in [0, 1, 59, 61, 3_600, 90_000] {
                let now = first + Duration::from_secs(slept);
                let mut all = vec![first];
                while let Some(next) = rule.next(*all.last().unwrap()).filter(|next| *next <= now) {
                    all.push(next);
                }
                let last = *all.last().unwrap();
                for policy in [
                    Missed::Coalesce,
                    Missed::Skip,
                    Missed::Replay(1),
                    Missed::Replay(5),
                    Missed::Replay(50),
                ] {
                    let chosen = rule.choose(policy, first, now);
                    let lines = chosen.iter().map(|chosen| match chosen {
                        Chosen::Decide(slot, before) | Chosen::Missed(slot, before) => {
                            (*slot, *before)
                        }
                    });
                    let mut stood_for: Vec<Timestamp> = Vec::new();
                    for (slot, before) in lines {
                        let place = all.iter().position(|at| *at == slot).unwrap();
                        stood_for.extend(&all[place - before as usize..=place]);
                    }
                    assert_eq!(stood_for, all, "{expression}, {policy}, after {slept} s");
                    let decided: Vec<_> = chosen
                        .iter()
                        .filter_map(|chosen| match chosen {
                            Chosen::Decide(slot, _) => Some(*slot),
                            Chosen::Missed(..) => None,
                        })
                        .collect();
                    let expected = match policy {
                        Missed::Coalesce => vec![last],
                        Missed::Skip => {
                            if now.since(last) > SKIP_GRACE {
                                vec![]
                            } else {
                                vec![last]
                            }
                        }
                        Missed::Replay(most) => {
                            all[all.len().saturating_sub(most as usize)..].to_vec()
                        }
                    };
                    assert_eq!(decided, expected, "{expression}, {policy}, after {slept} s");
                }
            }
        }
    }

    #[test]
    fn a_century_of_seconds_is_chosen_from_at_once() {
        let begun = std::time::Instant::now();
        let rule = rule("* * * * * *");
        let chosen = rule.choose(Missed::Replay(1_000), at(0), at(3_000_000_000));
        assert_eq!(
            chosen.first(),
            Some(&Chosen::Missed(at(3_000_000_000 - 1_000), 3_000_000_000 - 1_000))
        );
        assert_eq!(chosen.len(), 1_001);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
