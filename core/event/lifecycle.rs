//! What happened, to which job, schedule, queue or plugin.

use serde::{Deserialize, Serialize};

use super::position::EventPosition;
use crate::ids::JobId;
use crate::time::Timestamp;

/// Something that happened, told after its commit.
///
/// As JSON it is one flat object: `position`, `at`, `here`, `kind`, and the fields of that kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LifecycleEvent {
    /// Where [`events_since`](crate::Verger::events_since) goes on after it. For an event that is
    /// not kept, the position of the last kept one before it.
    pub position: EventPosition,
    /// When it happened, by the clock of whoever did it.
    pub at: Timestamp,
    /// Whether this process did it, and not another that has the file open.
    pub here: bool,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The job an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventJob {
    /// Its id.
    pub id: JobId,
    /// Its worker. Empty when the row is gone meanwhile.
    pub worker: String,
    /// Its queue. Empty when the row is gone meanwhile.
    pub queue: String,
    /// Attempts begun.
    pub attempt: u32,
    /// The schedule that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

/// How an attempt went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventFailure {
    /// A stable word: `failed`, `trap`, `deadline`, `memory`, `crashed`, …
    pub code: String,
    /// A sentence for a person, at most 4,000 characters.
    pub message: String,
}

/// What happened. The kinds marked *kept* are also rows of `verger_events`. They are written in the
/// transaction they tell of, and [`events_since`](crate::Verger::events_since) returns them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A job was enqueued. If it was enqueued inside the app's own transaction, it is told of after
    /// that commits, provided that somebody listened when it was enqueued.
    Enqueued {
        /// The job.
        job: EventJob,
        /// Not performed before.
        due_at: Timestamp,
    },
    /// An operator changed when a waiting or finished job is due, by a retry or an edit.
    Rescheduled {
        /// The job.
        job: EventJob,
        /// Not performed before.
        due_at: Timestamp,
    },
    /// An attempt was begun.
    Started {
        /// The job.
        job: EventJob,
        /// How long it had been due, in milliseconds.
        wait_ms: u64,
    },
    /// A worker reported its progress. It is told at once, committed or not.
    Progress {
        /// The job.
        job: EventJob,
        /// How much is done.
        done: u64,
        /// Of how much. 0 when unknown.
        total: u64,
    },
    /// A job is completed. *Kept.*
    Completed {
        /// The job.
        job: EventJob,
    },
    /// A worker put its job off. No attempt was used.
    Snoozed {
        /// The job.
        job: EventJob,
        /// When it is due again.
        due_at: Timestamp,
    },
    /// An attempt failed, and the job is tried again. *Kept.*
    Retried {
        /// The job.
        job: EventJob,
        /// Why it failed.
        error: EventFailure,
        /// When it is tried again.
        due_at: Timestamp,
    },
    /// A job failed for good: its attempts are used up, or its row cannot be read. *Kept.*
    Discarded {
        /// The job.
        job: EventJob,
        /// Why the last attempt failed.
        error: EventFailure,
    },
    /// A job was ended by an operator or by its worker. *Kept.*
    Cancelled {
        /// The job.
        job: EventJob,
        /// Why.
        reason: String,
    },
    /// An attempt was given back unused, and the job waits as before: the loop stopped, or the
    /// worker was not there or was too old for the args.
    Released {
        /// The job.
        job: EventJob,
    },
    /// Jobs wait for a worker that this process does not have. It is told once for each worker and
    /// queue, until the worker is there.
    Parked {
        /// The worker they wait for.
        worker: String,
        /// Their queue.
        queue: String,
    },
    /// A slot of a schedule made a job.
    Fired {
        /// The schedule.
        schedule: String,
        /// When it was due.
        slot: Timestamp,
        /// The job it made.
        job: JobId,
    },
    /// A slot made a job that stands for earlier slots too. *Kept.*
    Coalesced {
        /// The schedule.
        schedule: String,
        /// When it was due.
        slot: Timestamp,
        /// The job it made.
        job: JobId,
        /// How many earlier slots it stands for.
        missed: u32,
    },
    /// A slot made no job. *Kept.*
    Skipped {
        /// The schedule.
        schedule: String,
        /// When it was due.
        slot: Timestamp,
        /// Why, as in the ledger: `overlap`, `deadline`, `paused`, `missed`, `worker: …`, …
        reason: String,
        /// For how many earlier slots the same holds.
        missed: u32,
    },
    /// A plugin was taken in.
    PluginAdded {
        /// The worker.
        worker: String,
        /// Its version.
        version: String,
    },
    /// A plugin was refused.
    PluginRefused {
        /// Its file, or its name.
        plugin: String,
        /// Why.
        reason: String,
    },
    /// A plugin asks for more than it is granted, and waits for someone to decide.
    PluginAwaitsConsent {
        /// The worker.
        worker: String,
        /// The version that asks.
        version: String,
    },
    /// A queue was paused. *Kept.*
    QueuePaused {
        /// The queue.
        queue: String,
    },
    /// A paused queue was resumed. *Kept.*
    QueueResumed {
        /// The queue.
        queue: String,
    },
    /// The engine itself could not go on: a tick failed, a queue's thread failed, or an end could
    /// not be written. It tries again.
    EngineFailed {
        /// What it was about, in words.
        doing: String,
        /// What went wrong, with its causes.
        message: String,
    },
    /// A kind that this version does not know, because another version or someone else wrote it.
    /// *Kept.*
    #[serde(skip_deserializing)]
    Unknown {
        /// The word in the column `kind`.
        word: String,
    },
}

/// The words of all kinds that are kept: what the column `kind` may hold.
pub(super) const KEPT: [&str; 8] = [
    "completed",
    "retried",
    "discarded",
    "cancelled",
    "coalesced",
    "skipped",
    "queue_paused",
    "queue_resumed",
];

impl EventKind {
    /// The kind as one word, as in the JSON field `kind`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Enqueued { .. } => "enqueued",
            Self::Rescheduled { .. } => "rescheduled",
            Self::Started { .. } => "started",
            Self::Progress { .. } => "progress",
            Self::Completed { .. } => "completed",
            Self::Snoozed { .. } => "snoozed",
            Self::Retried { .. } => "retried",
            Self::Discarded { .. } => "discarded",
            Self::Cancelled { .. } => "cancelled",
            Self::Released { .. } => "released",
            Self::Parked { .. } => "parked",
            Self::Fired { .. } => "fired",
            Self::Coalesced { .. } => "coalesced",
            Self::Skipped { .. } => "skipped",
            Self::PluginAdded { .. } => "plugin_added",
            Self::PluginRefused { .. } => "plugin_refused",
            Self::PluginAwaitsConsent { .. } => "plugin_awaits_consent",
            Self::QueuePaused { .. } => "queue_paused",
            Self::QueueResumed { .. } => "queue_resumed",
            Self::EngineFailed { .. } => "engine_failed",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// The job it is about, unless only the job's id is known.
    #[must_use]
    pub const fn job(&self) -> Option<&EventJob> {
        match self {
            Self::Enqueued { job, .. }
            | Self::Rescheduled { job, .. }
            | Self::Started { job, .. }
            | Self::Progress { job, .. }
            | Self::Completed { job }
            | Self::Snoozed { job, .. }
            | Self::Retried { job, .. }
            | Self::Discarded { job, .. }
            | Self::Cancelled { job, .. }
            | Self::Released { job } => Some(job),
            _ => None,
        }
    }

    /// Why an attempt failed, whether the job is tried again or has failed for good.
    #[must_use]
    pub const fn error(&self) -> Option<&EventFailure> {
        match self {
            Self::Retried { error, .. } | Self::Discarded { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Whether it is a row of `verger_events` too.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        matches!(self, Self::Unknown { .. }) || KEPT.contains(&self.as_str())
    }
}
