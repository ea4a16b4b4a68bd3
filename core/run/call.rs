//! What a run sends out of the database: messages, log lines, calls of the app's functions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use verger_worker::{HostError, LogLevel, Verb, code};

use super::Run;
use super::error::from_store;
use super::transaction::State;
use crate::audit;
use crate::capability::CapabilityCall;
use crate::event::Event;
use crate::time::Timestamp;

const TOPIC_MAX_BYTES: usize = 128;
const PAYLOAD_MAX_BYTES: usize = 256 << 10;
/// A call within a write transaction that takes longer is named in the log.
const HELD_LONG: Duration = Duration::from_millis(100);
const LINE_MAX_BYTES: usize = 8 << 10;

impl Run {
    pub(crate) fn publish_event(&self, topic: &str, payload: &str) -> Result<(), HostError> {
        self.alive()?;
        if topic.is_empty() || topic.len() > TOPIC_MAX_BYTES {
            return Err(HostError::new(code::INVALID, "the topic must have 1 to 128 bytes"));
        }
        if payload.len() > PAYLOAD_MAX_BYTES {
            return Err(HostError::new(
                code::LIMIT,
                "the payload has more than 256 KiB: publish the id of a row instead",
            ));
        }
        let payload: Json = serde_json::from_str(payload).map_err(|error| {
            HostError::new(code::INVALID, format!("the payload is no JSON: {error}"))
        })?;
        let mut events = self.events.borrow_mut();
        let most = self.task.grant.limits.events;
        if events.len() >= most {
            return Err(HostError::new(
                code::LIMIT,
                format!("more than {most} messages since the last checkpoint: make one"),
            ));
        }
        let job = self.task.claim.map(|claim| claim.id);
        events.push(Event {
            topic: topic.to_string(),
            payload,
            worker: self.task.worker.clone(),
            job,
        });
        Ok(())
    }

    pub(crate) fn log_line(&self, level: LogLevel, message: &str) {
        let written = self.log_lines.get();
        let most = self.task.grant.limits.log_lines;
        if written > most {
            return;
        }
        self.log_lines.set(written + 1);
        let worker = self.task.worker.as_str();
        let job = self.task.claim.map(|claim| claim.id.number());
        if written == most {
            tracing::warn!(target: "verger::worker", worker, job, "more than {most} lines: the rest is dropped");
            return;
        }
        let line = message.get(..message.floor_char_boundary(LINE_MAX_BYTES)).unwrap_or(message);
        match level {
            LogLevel::Trace => tracing::trace!(target: "verger::worker", worker, job, "{line}"),
            LogLevel::Debug => tracing::debug!(target: "verger::worker", worker, job, "{line}"),
            LogLevel::Info => tracing::info!(target: "verger::worker", worker, job, "{line}"),
            LogLevel::Warn => tracing::warn!(target: "verger::worker", worker, job, "{line}"),
            LogLevel::Error => tracing::error!(target: "verger::worker", worker, job, "{line}"),
        }
    }

    pub(crate) fn call_capability(&self, name: &str, request: &str) -> Result<String, HostError> {
        self.alive()?;
        self.task.grant.check_capability(name).map_err(|reason| self.denied(reason))?;
        if name == audit::PRUNE {
            return self.prune_audit(request);
        }
        let Some((function, is_slow)) = self.services.capabilities.get(name) else {
            return Err(HostError::new(
                code::CAPABILITY,
                format!("capability `{name}` is granted but the app registered no function for it"),
            ));
        };
        let request = serde_json::from_str(request).map_err(|error| {
            HostError::new(
                code::INVALID,
                format!("the request to capability `{name}` is no JSON: {error}"),
            )
        })?;
        let is_writing = matches!(self.transaction.get(), State::Writing(_));
        if is_slow && is_writing {
            return Err(HostError::new(
                code::CHECKPOINT_FIRST,
                format!(
                    "capability `{name}` may take long, and this attempt holds the write lock: make a checkpoint, then call it"
                ),
            ));
        }
        // From here on nothing can be undone, and what was read before may change meanwhile.
        self.has_effects.set(true);
        self.lock_first.set(true);
        if is_slow && self.cursors.borrow().is_empty() && self.savepoints.borrow().is_empty() {
            // An old snapshot keeps the write-ahead log from being folded back.
            self.end_snapshot()?;
        }
        let begun = Instant::now();
        let call = CapabilityCall {
            request: &request,
            worker: &self.task.worker,
            job: self.task.claim.map(|claim| claim.id),
            scope: self.scope(),
            time_left: self.task.stop_signal.deadline.saturating_duration_since(Instant::now()),
        };
        let answer = catch_unwind(AssertUnwindSafe(|| function(&call)));
        let took = begun.elapsed();
        if is_writing && took > HELD_LONG {
            tracing::warn!(target: "verger::lock", worker = %self.task.worker, capability = name, millis = took.as_millis() as u64, "a function of the app was called inside a write transaction and kept every other writer waiting: register it as slow, or have the worker checkpoint before");
        }
        match answer {
            Ok(Ok(reply)) => Ok(reply.to_string()),
            Ok(Err(reason)) => Err(HostError::new(
                code::CAPABILITY,
                format!("capability `{name}` failed: {reason}"),
            )),
            Err(_) => {
                Err(HostError::new(code::CAPABILITY, format!("capability `{name}` panicked")))
            }
        }
    }

    /// The engine's own capability: deletes the oldest rows of the audit log, in this transaction.
    fn prune_audit(&self, request: &str) -> Result<String, HostError> {
        let worker = self.task.worker.as_str();
        if worker != audit::PRUNER {
            return Err(HostError::new(
                code::DENIED,
                format!(
                    "call denied: `{}` is for `{}` alone (worker {worker})",
                    audit::PRUNE,
                    audit::PRUNER
                ),
            ));
        }
        let request: PruneAudit = serde_json::from_str(request)
            .map_err(|error| HostError::new(code::INVALID, error.to_string()))?;
        self.begin()?;
        let now = self.clock.now();
        let before = Timestamp::from_millis(request.before).min(now - self.services.keep_audit);
        let deleted = self
            .connection
            .engine(|connection| audit::prune(connection, before, now, request.limit))
            .map_err(|error| from_store(&error));
        let deleted = deleted.inspect_err(|error| self.notice_lost_transaction(error))?;
        // The end of the log may be the anchor now.
        self.log.borrow_mut().forget();
        self.engine_changed(Verb::Delete, "verger_audit", deleted);
        Ok(json!({ "deleted": deleted }).to_string())
    }
}

#[derive(serde::Deserialize)]
struct PruneAudit {
    /// Rows written before this instant, in unix milliseconds.
    before: i64,
    limit: u32,
}
