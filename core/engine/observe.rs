//! What the engine logs and tells of what it did.
//!
//! All of it happens after the commit. If nobody listens, it costs a look at a number.

use super::executor::Executor;
use super::report::{AttemptOutcome, AttemptReport};
use super::shared::Engine;
use crate::event::{self, EventFailure, EventJob, EventKind};
use crate::metrics::{AttemptEnd, Counters};
use crate::queue::Claimed;
use crate::run::AttemptError;
use crate::schedule::{FireOutcome, Fired};
use crate::store::{StoreContext, StoreError};
use crate::text::one_line;
use crate::time::Timestamp;

impl Engine {
    /// Tells whoever listens what was committed since the last time, by any process. Call it after
    /// each commit or each group of commits, on a connection that is in no transaction.
    pub(crate) fn deliver(&self, executor: &mut Executor) {
        let hub = &self.services.hub;
        if !hub.is_heard() {
            return;
        }
        let handed_on = executor.books(|books| hub.hand_on(books).doing("read the events"));
        // Nothing is lost: what could not be read is read the next time.
        if let Err(error) = handed_on {
            tracing::debug!(%error, "events are told later");
        }
        hub.call_back();
    }

    /// Logs and tells what is in no table.
    pub(crate) fn tell(&self, now: Timestamp, kind: EventKind) {
        event::say(&kind);
        self.services.hub.tell(now, || kind);
    }
}

/// The job of a claim, as events have it.
fn job_of(claimed: &Claimed) -> EventJob {
    EventJob {
        id: claimed.id,
        worker: claimed.worker.clone(),
        queue: claimed.queue.clone(),
        attempt: claimed.attempt,
        schedule: claimed.schedule.clone(),
    }
}

fn reported_job(report: &AttemptReport) -> EventJob {
    EventJob {
        id: report.job,
        worker: report.worker.clone(),
        queue: report.queue.clone(),
        attempt: report.attempt,
        schedule: report.schedule.clone(),
    }
}

fn failure(error: &AttemptError) -> EventFailure {
    EventFailure { code: error.code.clone(), message: error.message.clone() }
}

/// A claimed job is about to be performed.
pub(super) fn started(inner: &Engine, now: Timestamp, claimed: &Claimed) {
    inner.services.counters.started(&claimed.worker, claimed.wait);
    inner.services.hub.tell(now, || EventKind::Started {
        job: job_of(claimed),
        wait_ms: u64::try_from(claimed.wait.as_millis()).unwrap_or(u64::MAX),
    });
}

/// Performs a claimed job in its [`span`], which says at the end how that went.
pub(crate) fn in_span<E>(
    span: &tracing::Span,
    perform: impl FnOnce() -> Result<AttemptReport, E>,
) -> Result<AttemptReport, E> {
    let performed = span.in_scope(perform);
    if let Ok(report) = &performed
        && !span.is_disabled()
    {
        span.record("outcome", report.outcome.word());
        if let Some(error) = report.outcome.error() {
            span.record("error", one_line(&error.message).as_ref());
        }
    }
    performed
}

/// The span in which a claimed job is performed.
pub(crate) fn span(claimed: &Claimed) -> tracing::Span {
    tracing::info_span!(
        target: "verger::job",
        "attempt",
        worker = claimed.worker,
        job = claimed.id.number(),
        queue = claimed.queue,
        attempt = claimed.attempt,
        schedule = claimed.schedule,
        wait_ms = claimed.wait.as_millis() as u64,
        traceparent = claimed.traceparent,
        outcome = tracing::field::Empty,
        error = tracing::field::Empty,
    )
}

/// Counts how an attempt ended.
pub(crate) fn count(counters: &Counters, report: &AttemptReport) {
    let end = match &report.outcome {
        AttemptOutcome::Completed(_) => AttemptEnd::Completed,
        AttemptOutcome::Snoozed(_) => AttemptEnd::Snoozed,
        AttemptOutcome::Cancelled(_) => AttemptEnd::Cancelled,
        AttemptOutcome::Retryable(..) => AttemptEnd::Retried,
        AttemptOutcome::Discarded(_) => AttemptEnd::Discarded,
        AttemptOutcome::Released => AttemptEnd::Released,
        AttemptOutcome::Lost(_) => AttemptEnd::Lost,
    };
    let wrote = (report.rows_changed, report.audited);
    counters.ended(&report.worker, end, report.elapsed, wrote);
}

/// Counts and logs how an attempt ended, and tells it if that is in no table.
pub(super) fn ended(inner: &Engine, now: Timestamp, report: &AttemptReport) {
    count(&inner.services.counters, report);
    if let Some((kind, is_kept)) = say_ended(report)
        && !is_kept
    {
        inner.services.hub.tell(now, || kind);
    }
}

/// Logs how an attempt ended. Returns the event to tell, and whether it is kept, but for a
/// completed job.
pub(crate) fn say_ended(report: &AttemptReport) -> Option<(EventKind, bool)> {
    let job = || reported_job(report);
    let (kind, is_kept) = match &report.outcome {
        AttemptOutcome::Completed(_) => {
            tracing::debug!(
                target: "verger::job",
                job = report.job.number(),
                worker = report.worker,
                attempt = report.attempt,
                elapsed_us = report.elapsed.as_micros() as u64,
                rows_changed = report.rows_changed,
                "completed"
            );
            return None;
        }
        AttemptOutcome::Snoozed(due_at) => {
            (EventKind::Snoozed { job: job(), due_at: *due_at }, false)
        }
        AttemptOutcome::Released => (EventKind::Released { job: job() }, false),
        AttemptOutcome::Cancelled(reason) => {
            (EventKind::Cancelled { job: job(), reason: reason.clone() }, true)
        }
        AttemptOutcome::Retryable(error, due_at) => {
            (EventKind::Retried { job: job(), error: failure(error), due_at: *due_at }, true)
        }
        AttemptOutcome::Discarded(error) => {
            (EventKind::Discarded { job: job(), error: failure(error) }, true)
        }
        AttemptOutcome::Lost(error) => {
            let doing = format!("an attempt at job {} of worker `{}`", report.job, report.worker);
            (EventKind::EngineFailed { doing, message: error.to_string() }, false)
        }
    };
    event::say(&kind);
    Some((kind, is_kept))
}

/// Logs what became of slots, and tells it if that is only in the ledger.
pub(super) fn fired(inner: &Engine, now: Timestamp, slots: &[Fired]) {
    for kind in slots.iter().map(event_of_slot) {
        match kind {
            kind @ EventKind::Fired { .. } => inner.tell(now, kind),
            kind => event::say(&kind),
        }
    }
}

/// What became of a slot, as an event.
pub(crate) fn event_of_slot(Fired { schedule, slot, outcome }: &Fired) -> EventKind {
    let (schedule, slot) = (schedule.clone(), *slot);
    match outcome {
        FireOutcome::Enqueued(job) => EventKind::Fired { schedule, slot, job: *job },
        FireOutcome::Coalesced(job, missed) => {
            EventKind::Coalesced { schedule, slot, job: *job, missed: *missed }
        }
        FireOutcome::Skipped(reason) => {
            EventKind::Skipped { schedule, slot, reason: reason.to_string(), missed: 0 }
        }
    }
}

/// Logs and tells that the engine could not go on.
pub(super) fn failed(inner: &Engine, doing: impl Into<String>, error: &StoreError) {
    let (doing, message) = (doing.into(), error.to_string());
    inner.tell(inner.clock.now(), EventKind::EngineFailed { doing, message });
}
