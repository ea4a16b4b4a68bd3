//! The fire ledger, `verger_fires`: what became of each slot.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Serialize, Serializer};

use crate::event::{self, EventKind};
use crate::queue::JobId;
use crate::store::{Cells, StoreContext, StoreError, Unreadable};
use crate::time::Timestamp;

/// One row of the fire ledger: what became of a slot. Times are unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FireRow {
    /// The schedule.
    pub schedule: String,
    /// The instant it was due.
    pub slot: Timestamp,
    /// When that was decided.
    pub fired_at: Timestamp,
    /// What became of it.
    pub outcome: SlotOutcome,
    /// Why it made no job. For a line that belongs to no slot: why the line is there.
    pub reason: Option<Reason>,
    /// How many earlier slots the row stands for.
    pub missed: u32,
    /// The job it made.
    pub job: Option<JobId>,
    /// The columns that someone else wrote and that cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
}

/// What became of a slot, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotOutcome {
    /// It made a job.
    Enqueued,
    /// It made a job, which stands for earlier slots too.
    Coalesced,
    /// It made none.
    Skipped,
}

impl SlotOutcome {
    /// The word in the column `outcome`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Coalesced => "coalesced",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for SlotOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SlotOutcome {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Enqueued, Self::Coalesced, Self::Skipped]
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
            .ok_or_else(|| format!("{word:?} is no outcome of a slot"))
    }
}

/// Why a slot made no job. For a line that belongs to no slot: why the line is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A job of an earlier slot was unfinished, and the schedule forbids overlap.
    Overlap,
    /// It was found due past the start deadline.
    Deadline,
    /// The schedule was paused.
    Paused,
    /// It was missed, and the schedule does not make up for it.
    Missed,
    /// The schedule was changed before it was found due.
    Changed,
    /// The schedule was removed before it was found due.
    Removed,
    /// The app's code does not register the schedule any more.
    Retired,
    /// Its worker or its args are not usable.
    Worker(String),
    /// What is stored cannot be read.
    Unreadable(String),
    /// The line is for no slot: someone asked for a job.
    RunNow,
    /// A word that Verger did not write.
    Other(String),
}

const WORKER: &str = "worker: ";
const UNREADABLE: &str = "unreadable: ";

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap => f.write_str("overlap"),
            Self::Deadline => f.write_str("deadline"),
            Self::Paused => f.write_str("paused"),
            Self::Missed => f.write_str("missed"),
            Self::Changed => f.write_str("changed"),
            Self::Removed => f.write_str("removed"),
            Self::Retired => f.write_str("retired"),
            Self::Worker(why) => write!(f, "{WORKER}{why}"),
            Self::Unreadable(why) => write!(f, "{UNREADABLE}{why}"),
            Self::RunNow => f.write_str("run-now"),
            Self::Other(word) => f.write_str(word),
        }
    }
}

impl FromStr for Reason {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [
            Self::Overlap,
            Self::Deadline,
            Self::Paused,
            Self::Missed,
            Self::Changed,
            Self::Removed,
            Self::Retired,
            Self::RunNow,
        ];
        if let Some(reason) = known.into_iter().find(|reason| reason.to_string() == text) {
            return Ok(reason);
        }
        Ok(match (text.strip_prefix(WORKER), text.strip_prefix(UNREADABLE)) {
            (Some(why), _) => Self::Worker(why.to_string()),
            (_, Some(why)) => Self::Unreadable(why.to_string()),
            _ => Self::Other(text.to_string()),
        })
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const COLUMNS: &[&str] = &["schedule", "slot", "fired_at", "outcome", "reason", "missed", "job"];

fn from_row(row: &Row<'_>) -> FireRow {
    let mut cells = Cells::of(row, COLUMNS);
    FireRow {
        schedule: cells.text("schedule"),
        slot: cells.time("slot"),
        fired_at: cells.time("fired_at"),
        outcome: cells.word("outcome", SlotOutcome::Skipped),
        reason: cells.opt_text("reason").and_then(|text| text.parse().ok()),
        missed: cells.count("missed"),
        job: cells.opt_integer("job").map(JobId),
        unreadable: cells.unreadable(),
    }
}

fn select(rest: &str) -> String {
    format!("SELECT {} FROM verger_fires WHERE schedule = ?1 {rest}", COLUMNS.join(", "))
}

/// The ledger of a schedule, newest slot first.
pub(super) fn fires(
    connection: &Connection,
    schedule: &str,
    limit: u32,
) -> Result<Vec<FireRow>, StoreError> {
    let reading = "read the fire ledger";
    let sql = select("ORDER BY slot DESC LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql).doing(reading)?;
    let rows = statement.query_map((schedule, limit), |row| Ok(from_row(row))).doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

/// The first row of the ledger at or after this slot.
pub(super) fn fire_at_or_after(
    connection: &Connection,
    schedule: &str,
    slot: Timestamp,
) -> rusqlite::Result<Option<FireRow>> {
    connection
        .prepare_cached(&select("AND slot >= ?2 ORDER BY slot LIMIT 1"))?
        .query_row((schedule, slot.as_millis()), |row| Ok(from_row(row)))
        .optional()
}

/// Whether a slot has a line of its own.
pub(super) fn is_decided(
    connection: &Connection,
    name: &str,
    slot: Timestamp,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM verger_fires WHERE schedule = ?1 AND slot = ?2)",
        )?
        .query_row((name, slot.as_millis()), |row| row.get(0))
}

/// A line of the ledger to be written now, for a slot and this many before it.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    pub(crate) slot: Timestamp,
    pub(crate) missed: u32,
    pub(crate) now: Timestamp,
}

/// Writes a line, with its event. A slot that was decided stays as it was.
pub(super) fn write(
    connection: &Connection,
    schedule: &str,
    line: &Line,
    (outcome, reason): (SlotOutcome, Option<&Reason>),
    job: Option<JobId>,
) -> rusqlite::Result<()> {
    let written = connection
        .prepare_cached(
            "INSERT INTO verger_fires (schedule, slot, fired_at, outcome, reason, missed, job) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT (schedule, slot) DO NOTHING",
        )?
        .execute((
            schedule,
            line.slot.as_millis(),
            line.now.as_millis(),
            outcome.as_str(),
            reason.map(ToString::to_string),
            line.missed,
            job.map(JobId::number),
        ))?;
    match line.event(schedule, outcome, reason, job).filter(|_| written > 0) {
        Some(event) => event::record(connection, line.now, &event),
        None => Ok(()),
    }
}

impl Line {
    /// The event to tell of a slot that did not simply make its job.
    pub(crate) fn event(
        &self,
        name: &str,
        outcome: SlotOutcome,
        reason: Option<&Reason>,
        job: Option<JobId>,
    ) -> Option<EventKind> {
        let (schedule, Self { slot, missed, .. }) = (name.to_string(), *self);
        match (outcome, job) {
            (SlotOutcome::Coalesced, Some(job)) => {
                Some(EventKind::Coalesced { schedule, slot, job, missed })
            }
            (SlotOutcome::Skipped, _) => {
                let reason = reason.map(ToString::to_string).unwrap_or_default();
                Some(EventKind::Skipped { schedule, slot, reason, missed })
            }
            _ => None,
        }
    }
}
