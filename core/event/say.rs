//! Events as lines of the log, for whoever reads `tracing`. By default nobody has to ask for them.

use super::lifecycle::{EventJob, EventKind};
use crate::text::one_line;

/// Logs what happened. A job that failed for good is an error. A failure that is tried again is a
/// warning. What goes as planned is logged at DEBUG.
pub(crate) fn say(kind: &EventKind) {
    match kind {
        EventKind::Discarded { job, error } => {
            let (id, EventJob { worker, queue, attempt, .. }) = (job.id.number(), job);
            tracing::error!(target: "verger::job", job = id, worker, queue, attempt, code = error.code, schedule = job.schedule, "a job failed for good: {}", one_line(&error.message));
        }
        EventKind::Retried { job, error, due_at } => {
            let (id, EventJob { worker, queue, attempt, .. }) = (job.id.number(), job);
            tracing::warn!(target: "verger::job", job = id, worker, queue, attempt, code = error.code, schedule = job.schedule, %due_at, "an attempt failed, the job is tried again: {}", one_line(&error.message));
        }
        EventKind::Cancelled { job, reason } => {
            let (id, EventJob { worker, queue, attempt, .. }) = (job.id.number(), job);
            tracing::info!(target: "verger::job", job = id, worker, queue, attempt, schedule = job.schedule, "a job was cancelled: {}", one_line(reason));
        }
        EventKind::Parked { worker, queue } => {
            tracing::warn!(target: "verger::job", worker, queue, "jobs are parked: no worker of this name is here, or one that knows an older version of their args");
        }
        EventKind::Skipped { schedule, slot, reason, missed } => {
            tracing::info!(target: "verger::schedule", schedule, %slot, missed, "a slot made no job: {}", one_line(reason));
        }
        EventKind::Coalesced { schedule, slot, job, missed } => {
            tracing::info!(target: "verger::schedule", schedule, %slot, missed, job = job.number(), "a slot made a job that stands for earlier ones too");
        }
        EventKind::Fired { schedule, slot, job } => {
            tracing::debug!(target: "verger::schedule", schedule, %slot, job = job.number(), "a slot made a job");
        }
        EventKind::QueuePaused { queue } => {
            tracing::info!(target: "verger::queue", queue, "the queue is paused");
        }
        EventKind::QueueResumed { queue } => {
            tracing::info!(target: "verger::queue", queue, "the queue is resumed");
        }
        EventKind::PluginAdded { worker, version } => {
            tracing::info!(target: "verger::plugin", worker, version, "a plugin was taken in");
        }
        EventKind::PluginRefused { plugin, reason } => {
            tracing::warn!(target: "verger::plugin", plugin, "a plugin was refused: {}", one_line(reason));
        }
        EventKind::PluginAwaitsConsent { worker, version } => {
            tracing::warn!(target: "verger::plugin", worker, version, "a plugin waits for consent");
        }
        EventKind::EngineFailed { doing, message } => {
            tracing::error!(target: "verger::engine", doing, "it could not go on and tries again: {}", one_line(message));
        }
        _ => {
            if let Some(job) = kind.job() {
                let (id, EventJob { worker, queue, attempt, .. }) = (job.id.number(), job);
                tracing::debug!(target: "verger::job", job = id, worker, queue, attempt, "{}", kind.as_str());
            }
        }
    }
}
