//! What a due slot becomes, whatever store its rows are in: a job, or a line in the ledger that says
//! why not.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::definition::Overlap;
use super::fire::{FireOutcome, Fired, Prepared};
use super::ledger::{Line, Reason, SlotOutcome};
use super::rows::ScheduleRow;
use super::slots::{Chosen, Rule};
use crate::queue::{JobId, Ready, SlotOf};
use crate::time::Timestamp;

/// What deciding a slot asks of a store, inside the transaction that decides.
pub(crate) trait SlotBooks {
    type Error;

    /// Whether a slot has a line of its own.
    fn is_decided(&self, schedule: &str, slot: Timestamp) -> Result<bool, Self::Error>;

    /// An unfinished job of the schedule.
    fn job_under_way(&self, schedule: &str) -> Result<Option<JobId>, Self::Error>;

    /// Makes the job of a slot. `None` when the table refuses its row.
    fn insert_slot_job(&self, job: &Ready, now: Timestamp) -> Result<Option<JobId>, Self::Error>;

    /// Writes a line of the ledger, with its event. A slot that was decided stays as it was.
    fn write_line(
        &self,
        schedule: &str,
        line: &Line,
        outcome: (SlotOutcome, Option<&Reason>),
        job: Option<JobId>,
    ) -> Result<(), Self::Error>;

    /// Moves a schedule on to its next slot.
    fn advance(
        &self,
        schedule: &str,
        last: Timestamp,
        next: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), Self::Error>;
}

/// Decides the slots of a schedule that are due, from `due` on, and moves it to its next slot. The
/// row is as it is in this transaction.
pub(crate) fn decide_due<B: SlotBooks>(
    books: &B,
    row: &ScheduleRow,
    due: Timestamp,
    prepared: &Prepared,
    now: Timestamp,
) -> Result<Vec<Fired>, B::Error> {
    let rule = match row.why_unreadable().map_or_else(|| Rule::of(row), Err) {
        Ok(rule) => rule,
        // It cannot be followed any more.
        Err(reason) => {
            let line = Line { slot: due, missed: 0, now };
            let fired = skip(books, &line, row, Reason::Unreadable(reason))?;
            books.advance(&row.name, due, None, now)?;
            return Ok(vec![fired]);
        }
    };
    // After the clock was set back for a while, slots may come that were decided before.
    let first = match row.last_slot {
        Some(last) if last <= now && due <= last => match rule.next(last) {
            Some(next) if next <= now => next,
            next => {
                books.advance(&row.name, last, next, now)?;
                return Ok(Vec::new());
            }
        },
        _ => due,
    };
    let mut fired = Vec::new();
    let last = if row.paused {
        let (slot, missed) = rule.due(first, now);
        fired.push(skip(books, &Line { slot, missed, now }, row, Reason::Paused)?);
        slot
    } else {
        // The slots of one replay do not stand in each other's way; an older job does.
        let busy = row.overlap == Overlap::Forbid && books.job_under_way(&row.name)?.is_some();
        let mut last = first;
        let mut before = row.last_slot;
        for chosen in rule.choose(row.missed, first, now) {
            let (Chosen::Decide(slot, missed) | Chosen::Missed(slot, missed)) = chosen;
            last = slot;
            let after = before.replace(slot).filter(|after| *after < slot);
            // After the clock was set back, a new or changed schedule may come by slots that were
            // decided before.
            if books.is_decided(&row.name, slot)? {
                continue;
            }
            let line = Line { slot, missed, now };
            fired.push(match chosen {
                Chosen::Decide(..) => decide(books, &line, row, prepared, (busy, after))?,
                Chosen::Missed(..) => skip(books, &line, row, Reason::Missed)?,
            });
        }
        last
    };
    books.advance(&row.name, last, rule.next(last).or_else(|| rule.next(now)), now)?;
    Ok(fired)
}

/// Makes the job of an `@reboot` schedule, once for each start.
pub(crate) fn decide_at_start<B: SlotBooks>(
    books: &B,
    row: &ScheduleRow,
    prepared: &Prepared,
    now: Timestamp,
) -> Result<Fired, B::Error> {
    let line = Line { slot: free_instant(books, &row.name, now, |_| false)?, missed: 0, now };
    let fired = match row.paused {
        true => skip(books, &line, row, Reason::Paused)?,
        false => {
            let busy = row.overlap == Overlap::Forbid && books.job_under_way(&row.name)?.is_some();
            decide(books, &line, row, prepared, (busy, row.last_slot))?
        }
    };
    books.advance(&row.name, line.slot, None, now)?;
    Ok(fired)
}

/// Decides that the due slots of a schedule make no job, for this reason. Call it before the
/// schedule is changed, removed or resumed. Returns whether anything was due.
pub(crate) fn decide_missed<B: SlotBooks>(
    books: &B,
    row: &ScheduleRow,
    reason: &Reason,
    now: Timestamp,
) -> Result<bool, B::Error> {
    let first = row.next_fire_at.filter(|first| *first <= now);
    let (Some(first), Ok(rule)) = (first, Rule::of(row)) else { return Ok(false) };
    let (slot, missed) = rule.due(first, now);
    let line = Line { slot, missed, now };
    books.write_line(&row.name, &line, (SlotOutcome::Skipped, Some(reason)), None)?;
    books.advance(&row.name, slot, rule.next(slot), now)?;
    Ok(true)
}

/// The first instant from now on that has no line in the ledger and is not taken in another way.
pub(crate) fn free_instant<B: SlotBooks>(
    books: &B,
    schedule: &str,
    now: Timestamp,
    is_taken: impl Fn(Timestamp) -> bool,
) -> Result<Timestamp, B::Error> {
    let mut at = now;
    while is_taken(at) || books.is_decided(schedule, at)? {
        at = at + Duration::from_millis(1);
    }
    Ok(at)
}

/// Makes the job of a slot, if nothing prevents it.
fn decide<B: SlotBooks>(
    books: &B,
    line: &Line,
    row: &ScheduleRow,
    prepared: &Prepared,
    (busy, after): (bool, Option<Timestamp>),
) -> Result<Fired, B::Error> {
    let late = line.now.since(line.slot);
    if row
        .deadline_ms
        .is_some_and(|deadline| late.as_millis() > u128::try_from(deadline).unwrap_or(0))
    {
        return skip(books, line, row, Reason::Deadline);
    }
    if busy {
        return skip(books, line, row, Reason::Overlap);
    }
    let mut ready = match prepared {
        Ok(ready) => ready.clone(),
        Err(reason) => return skip(books, line, row, Reason::Worker(reason.clone())),
    };
    ready.of_slot(slot_of(row, line.slot, line.missed, after), line.slot + jitter(row));
    let Some(job) = books.insert_slot_job(&ready, line.now)? else {
        let reason = Reason::Worker("its args are refused by the table".to_string());
        return skip(books, line, row, reason);
    };
    let (word, outcome) = match line.missed {
        0 => (SlotOutcome::Enqueued, FireOutcome::Enqueued(job)),
        missed => (SlotOutcome::Coalesced, FireOutcome::Coalesced(job, missed)),
    };
    books.write_line(&row.name, line, (word, None), Some(job))?;
    Ok(Fired { schedule: row.name.clone(), slot: line.slot, outcome })
}

/// Writes that a slot made no job, and reports it.
fn skip<B: SlotBooks>(
    books: &B,
    line: &Line,
    row: &ScheduleRow,
    reason: Reason,
) -> Result<Fired, B::Error> {
    books.write_line(&row.name, line, (SlotOutcome::Skipped, Some(&reason)), None)?;
    Ok(Fired { schedule: row.name.clone(), slot: line.slot, outcome: FireOutcome::Skipped(reason) })
}

/// The slot that a job is made for, as its row has it.
pub(crate) fn slot_of(
    row: &ScheduleRow,
    slot: Timestamp,
    missed: u32,
    after: Option<Timestamp>,
) -> SlotOf {
    let (schedule, zone) = (row.name.clone(), row.timezone.clone());
    SlotOf { schedule, slot, missed, after: after.filter(|after| *after < slot), zone }
}

/// How long this schedule's jobs are put off: by its name, within its bound.
fn jitter(row: &ScheduleRow) -> Duration {
    let most = u64::try_from(row.jitter_ms).unwrap_or(0);
    if most == 0 {
        return Duration::ZERO;
    }
    let digest: [u8; 32] = Sha256::digest(row.name.as_bytes()).into();
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Duration::from_millis(number % (most + 1))
}
