//! Readings of the wall clock, as the database remembers them, and whether the present one can be
//! believed.
//!
//! A clock is wrong now and then: an empty battery, a chip that reads all ones for a moment, local
//! time taken for UTC until the network corrects it. What was decided by a wrong reading stays
//! decided. What only waits for a time is set back when the reading turns out to have been wrong.
//! Nothing is deleted for its age while a reading is in doubt.
//!
//! The row of `verger_clock` is written when something is decided, at most once an hour, and when
//! the clock leapt.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use crate::store::{Books, RawText, StoreContext, StoreError};
use crate::time::Timestamp;

/// How finely readings are noted. A clock set back by less than this needs no correction: what
/// waits longer for it waits less than this.
const HOUR: Duration = Duration::from_secs(3_600);

/// A leap forward by more than this is in doubt: a device is rarely off for so long.
const LEAP: Duration = Duration::from_secs(2 * 366 * 86_400);

/// 2025-01-01T00:00:00Z. A clock that shows an earlier time was never set: a device without a
/// battery begins in 1970.
const PLAUSIBLE: Timestamp = Timestamp::from_millis(1_735_689_600_000);

/// What is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noted {
    read_at: Timestamp,
    /// While a leap forward is in doubt: the reading before it, and the first one after it.
    leap: Option<(Timestamp, Timestamp)>,
    /// While a leap backward is in doubt: the first reading after it.
    set_back_at: Option<Timestamp>,
}

/// What the database remembers of a clock that leapt.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Jumps {
    /// The last reading that was noted.
    pub(crate) read_at: Option<Timestamp>,
    /// A leap forward in doubt: the reading before it, and the first one after it.
    pub(crate) leap: Option<(Timestamp, Timestamp)>,
    /// A leap backward in doubt: the first reading after it.
    pub(crate) set_back_at: Option<Timestamp>,
}

/// What a reading says of earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Nothing.
    Plain,
    /// It is earlier than one before, so one of the two is wrong. The next reading decides.
    InDoubt,
    /// Earlier readings were wrong. Time goes on from this instant.
    CorrectedSince(Timestamp),
}

/// What this reading says of earlier ones, and what is to be noted.
fn compare(noted: Option<Noted>, now: Timestamp) -> (Reading, Noted) {
    let fresh = Noted { read_at: now, leap: None, set_back_at: None };
    let Some(noted) = noted else { return (Reading::Plain, fresh) };
    if now + HOUR < noted.read_at {
        if now < PLAUSIBLE {
            return (Reading::Plain, noted);
        }
        return match (noted.leap, noted.set_back_at) {
            // Back where it was before the leap: the leap was wrong.
            (Some((before, _)), _) if now + HOUR >= before => (Reading::CorrectedSince(now), fresh),
            // The second reading that is earlier: the later readings were wrong.
            (_, Some(since)) if since <= now => (Reading::CorrectedSince(since), fresh),
            _ => (Reading::InDoubt, Noted { set_back_at: Some(now), ..noted }),
        };
    }
    let leap = match noted.leap {
        Some((_, after)) if now >= after + HOUR && now <= noted.read_at + LEAP => None,
        Some((before, _)) if now > noted.read_at + LEAP => Some((before, now)),
        None if now > noted.read_at + LEAP => Some((noted.read_at, now)),
        leap => leap,
    };
    let is_newer = now > noted.read_at + HOUR;
    let read_at = if is_newer { now } else { noted.read_at };
    (Reading::Plain, Noted { read_at, leap, set_back_at: None })
}

impl Books<'_> {
    /// What this reading of the clock says, and the change to note, if there is one.
    pub(crate) fn clock_reading(
        &self,
        now: Timestamp,
    ) -> Result<(Reading, Option<Noted>), StoreError> {
        read(self.connection(), now).doing("read what the clock read before")
    }

    /// The instant by which ages are told.
    pub(crate) fn believed_now(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        believed(self.connection(), now).doing("read what the clock read before")
    }

    /// Notes a reading, inside a write transaction or as one of its own.
    pub(crate) fn note_clock(&self, noted: &Noted) -> Result<(), StoreError> {
        note(self.connection(), noted).doing("note what the clock reads")
    }

    /// The start of the machine in which `@reboot` schedules fired last.
    pub(crate) fn boot(&self) -> Result<Option<String>, StoreError> {
        boot(self.connection()).doing("read the schedules")
    }

    /// Remembers that start of the machine, inside a write transaction.
    pub(crate) fn note_boot(&self, now: Timestamp, boot: Option<&str>) -> Result<(), StoreError> {
        note_boot(self.connection(), now, boot).doing("note a start")
    }

    /// Notes this reading when it is news.
    pub(crate) fn note_reading(&self, now: Timestamp) -> Result<(), StoreError> {
        note_reading(self.connection(), now).doing("note what the clock reads")
    }

    /// What is remembered of leaps, for a person to see.
    pub(crate) fn clock_jumps(&self) -> Result<Jumps, StoreError> {
        jumps(self.connection()).doing("read what the clock read before")
    }
}

/// What this reading says, and the change to note, if there is one.
fn read(connection: &Connection, now: Timestamp) -> rusqlite::Result<(Reading, Option<Noted>)> {
    let noted = noted(connection)?;
    let (reading, after) = compare(noted, now);
    Ok((reading, (noted != Some(after)).then_some(after)))
}

/// The instant by which ages are told: this reading, or an earlier one while this one is in doubt.
fn believed(connection: &Connection, now: Timestamp) -> rusqlite::Result<Timestamp> {
    let (_, noted) = compare(noted(connection)?, now);
    Ok(noted.leap.map_or(now, |(before, _)| before.min(now)))
}

/// Notes a reading, inside a write transaction or as one of its own.
fn note(connection: &Connection, noted: &Noted) -> rusqlite::Result<()> {
    let (before, after) = noted.leap.unzip();
    connection
        .prepare_cached(
            "INSERT INTO verger_clock (one, read_at, before_jump, jumped_at, set_back_at) VALUES (1, ?1, ?2, ?3, ?4) \
             ON CONFLICT (one) DO UPDATE SET read_at = ?1, before_jump = ?2, jumped_at = ?3, set_back_at = ?4",
        )?
        .execute((
            noted.read_at.as_millis(),
            before.map(Timestamp::as_millis),
            after.map(Timestamp::as_millis),
            noted.set_back_at.map(Timestamp::as_millis),
        ))
        .map(drop)
}

/// The start of the machine in which `@reboot` schedules fired last.
fn boot(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let boot = connection
        .prepare_cached("SELECT boot FROM verger_clock")?
        .query_row([], |row| Ok(RawText::of(row, 0)?.as_str().map(str::to_string)))
        .optional()?;
    Ok(boot.flatten().filter(|boot| !boot.is_empty()))
}

/// Remembers that start of the machine, inside a write transaction.
fn note_boot(connection: &Connection, now: Timestamp, boot: Option<&str>) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO verger_clock (one, read_at, boot) VALUES (1, ?1, ?2) ON CONFLICT (one) DO UPDATE SET boot = ?2",
        )?
        .execute((now.as_millis(), boot.unwrap_or("unknown")))
        .map(drop)
}

/// Notes this reading when it is news.
fn note_reading(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    match read(connection, now)? {
        // The next tick corrects.
        (Reading::CorrectedSince(_), _) | (_, None) => Ok(()),
        (_, Some(noted)) => note(connection, &noted),
    }
}

fn noted(connection: &Connection) -> rusqlite::Result<Option<Noted>> {
    connection
        .prepare_cached("SELECT read_at, before_jump, jumped_at, set_back_at FROM verger_clock")?
        .query_row([], |row| {
            // Whatever someone wrote there: a value that is no number counts as absent.
            let at = |column| row.get(column).ok().flatten().map(Timestamp::from_millis);
            let leap = at(1).zip(at(2));
            Ok(at(0).map(|read_at| Noted { read_at, leap, set_back_at: at(3) }))
        })
        .optional()
        .map(Option::flatten)
}

/// What is remembered of leaps, for a person to see.
fn jumps(connection: &Connection) -> rusqlite::Result<Jumps> {
    let jumps = |noted: Noted| Jumps {
        read_at: Some(noted.read_at),
        leap: noted.leap,
        set_back_at: noted.set_back_at,
    };
    Ok(noted(connection)?.map(jumps).unwrap_or_default())
}

/// The instant beyond which a time must have come from a wrong clock.
pub(crate) fn beyond(since: Timestamp) -> Timestamp {
    since + HOUR
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    const RIGHT: Timestamp = Timestamp::from_millis(1_767_225_600_000);
    const YEAR: Duration = Duration::from_secs(366 * 86_400);

    fn walk(readings: &[Timestamp]) -> (Vec<Reading>, Noted) {
        let mut noted = None;
        let judged = readings.iter().map(|now| {
            let (reading, after) = compare(noted, *now);
            noted = Some(after);
            reading
        });
        (judged.collect(), noted.unwrap())
    }

    #[test]
    fn a_leap_forward_is_believed_after_an_hour_and_undone_at_once() {
        let wild = RIGHT + YEAR * 10;
        let (_, noted) = walk(&[RIGHT, wild, wild + HOUR / 2]);
        assert_eq!(noted.leap, Some((RIGHT, wild)));
        assert_eq!(walk(&[RIGHT, wild, wild + HOUR]).1.leap, None);
        let back = RIGHT + HOUR;
        let (judged, noted) = walk(&[RIGHT, wild, back]);
        assert_eq!((judged[2], noted.leap), (Reading::CorrectedSince(back), None));
        assert_eq!(walk(&[RIGHT, RIGHT + YEAR]).1.leap, None, "a year off is no leap");
    }

    #[test]
    fn a_single_reading_that_is_too_early_changes_nothing() {
        for early in [RIGHT - YEAR / 2, Timestamp::from_millis(0), Timestamp::from_millis(i64::MIN)]
        {
            let (judged, noted) = walk(&[RIGHT, early, RIGHT + HOUR * 2]);
            assert!(judged.iter().all(|reading| !matches!(reading, Reading::CorrectedSince(_))));
            assert_eq!(noted, walk(&[RIGHT + HOUR * 2]).1);
        }
        let early = RIGHT - YEAR / 2;
        let (judged, _) = walk(&[RIGHT, early, early + HOUR]);
        assert_eq!(judged[1..], [Reading::InDoubt, Reading::CorrectedSince(early)]);
    }
}
