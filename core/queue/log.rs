//! What workers logged, an attempt a row of `verger_logs`.

use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::store::{Cells, StoreContext, StoreError, Unreadable};
use crate::time::Timestamp;

/// What a worker logged in one attempt: its last lines, 64 KiB of text at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct JobLog {
    /// Which attempt.
    pub attempt: u32,
    /// When it ended.
    pub at: Timestamp,
    /// How many earlier lines were dropped.
    pub dropped: u32,
    /// The lines, oldest first.
    pub lines: Vec<LoggedLine>,
    /// The columns that someone else wrote and that cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
}

/// One line that a worker logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoggedLine {
    /// When, by the clock the worker reads.
    pub at: Timestamp,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The line. Characters that steer a terminal are escaped.
    pub text: String,
}

impl LoggedLine {
    pub(crate) fn new(at: Timestamp, level: &str, text: String) -> Self {
        Self { at, level: level.to_string(), text }
    }
}

/// The lines of one attempt on their way into its row.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttemptLog {
    pub(crate) dropped: u32,
    pub(crate) lines: Vec<LoggedLine>,
}

/// Keeps what a worker logged, inside the transaction that ends its attempt. After a snooze or a
/// release, the next attempt has the same number, and its lines replace these.
pub(super) fn keep_log(
    connection: &Connection,
    (job, attempt): (JobId, u32),
    now: Timestamp,
    log: &AttemptLog,
) -> rusqlite::Result<()> {
    let lines = serde_json::to_string(&log.lines)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection
        .prepare_cached(
            "INSERT INTO verger_logs (job, attempt, at, dropped, lines) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (job, attempt) DO UPDATE SET at = excluded.at, dropped = excluded.dropped, lines = excluded.lines",
        )?
        .execute((job.number(), attempt, now.as_millis(), log.dropped, lines))
        .map(drop)
}

const COLUMNS: &[&str] = &["attempt", "at", "dropped", "lines"];

/// What was logged of a job, attempt by attempt.
pub(super) fn log_of(connection: &Connection, job: JobId) -> Result<Vec<JobLog>, StoreError> {
    let reading = "read the log of the job";
    let mut statement = connection
        .prepare_cached(
            "SELECT attempt, at, dropped, lines FROM verger_logs WHERE job = ?1 ORDER BY attempt",
        )
        .doing(reading)?;
    let rows = statement.query_map([job.number()], |row| Ok(from_row(row))).doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

fn from_row(row: &Row<'_>) -> JobLog {
    let mut cells = Cells::of(row, COLUMNS);
    JobLog {
        attempt: cells.count("attempt"),
        at: cells.time("at"),
        dropped: cells.count("dropped"),
        lines: cells.opt_shape("lines").unwrap_or_default(),
        unreadable: cells.unreadable(),
    }
}
