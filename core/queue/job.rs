//! A job as a row of `verger_jobs`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::ids::{JobId, Token};
use crate::store::Unreadable;
use crate::time::Timestamp;

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waiting for its time.
    Scheduled,
    /// Due, and waiting for its turn.
    Available,
    /// Being performed.
    Executing,
    /// Failed, waiting to be tried again.
    Retryable,
    /// Done.
    Completed,
    /// Failed for good: its attempts are used up, or no further one can help.
    Discarded,
    /// Ended by someone, or by its worker.
    Cancelled,
}

impl JobState {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::Available,
        Self::Executing,
        Self::Retryable,
        Self::Completed,
        Self::Discarded,
        Self::Cancelled,
    ];

    /// The word in the column `state`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Available => "available",
            Self::Executing => "executing",
            Self::Retryable => "retryable",
            Self::Completed => "completed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of a job that is enqueued now and due then.
    pub(crate) fn of_due(due_at: Timestamp, now: Timestamp) -> Self {
        if due_at > now { Self::Scheduled } else { Self::Available }
    }

    /// Whether the job waits: for its time, for its turn, or to be tried again.
    #[must_use]
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Scheduled | Self::Available | Self::Retryable)
    }

    /// Whether the job has come to its end.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Discarded | Self::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == word).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|state| state.as_str()).collect();
            format!("{word:?} is no job state; use one of {}", known.join(", "))
        })
    }
}

/// One row of `verger_jobs`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The worker that performs it.
    pub worker: String,
    /// Its queue.
    pub queue: String,
    /// From 0 (first) to 9 (last).
    pub priority: u8,
    /// Its state.
    pub state: JobState,
    /// Whether it waits for another process, because this one has no worker of that name, or one
    /// that is older than the job's args. Such a job uses no attempt and keeps no other waiting. A
    /// process that has the worker takes it up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub parked: bool,
    /// Why it is parked: a sentence for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked_because: Option<String>,
    /// Its args: a JSON object. If the row was made by hand and nobody can read it, the text.
    pub args: Json,
    /// The version of its worker's args that they were written for:
    /// [`Manifest::args_version`](crate::Manifest::args_version).
    pub args_version: u32,
    /// It is not performed before this time.
    pub due_at: Timestamp,
    /// Attempts begun.
    pub attempt: u32,
    /// Attempts it may have.
    pub max_attempts: u32,
    /// How often it was put off by its worker.
    pub snoozes: u32,
    /// The fencing token of its last claim.
    pub token: Token,
    /// Until when the claim holds, while it is being performed.
    pub lease_until: Option<Timestamp>,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When its last attempt was claimed.
    pub attempted_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What its worker returned.
    pub result: Option<Json>,
    /// How its last attempts went wrong, at most 20.
    pub errors: Vec<Attempted>,
    /// The version of the worker that performed the last attempt that ended.
    pub worker_version: Option<String>,
    /// The SHA-256 of that worker's component, in hexadecimal digits; `None` for a worker that is
    /// part of the app.
    pub worker_digest: Option<String>,
    /// The schedule that made it.
    pub schedule: Option<String>,
    /// The slot of that schedule.
    pub slot: Option<Timestamp>,
    /// How many earlier slots it stands for.
    pub missed: u32,
    /// The slot before those it stands for.
    pub slot_after: Option<Timestamp>,
    /// The time zone of that schedule.
    pub zone: Option<String>,
    /// How much is done.
    pub progress_done: Option<i64>,
    /// Of how much; 0 when unknown.
    pub progress_total: Option<i64>,
    /// The W3C trace context it was enqueued in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Words to find it by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What the app wants to know of it later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<Json>,
    /// The columns that someone else wrote and that cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
}

/// How one attempt went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempted {
    /// Which attempt.
    pub attempt: u32,
    /// When it ended.
    pub at: Timestamp,
    /// A stable word: `failed`, `trap`, `deadline`, `memory`, `crashed`, …
    pub code: String,
    /// A sentence for a person.
    pub message: String,
}
