//! Messages of a run, held as text until its transaction commits.

use std::sync::Arc;

use verger_worker::{HostError, code};

use super::Run;
use crate::event::Message;
use crate::ids::JobId;
use crate::json;
use crate::limits::Limits;

const TOPIC_MAX_BYTES: usize = 128;
const PAYLOAD_MAX_BYTES: usize = 256 << 10;

/// Messages since the last commit, and the bytes of their texts.
#[derive(Default)]
pub(crate) struct Messages {
    waiting: Vec<Message>,
    bytes: usize,
}

impl Messages {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Drops all but the first `count`.
    pub(crate) fn truncate(&mut self, count: usize) {
        let dropped = self.waiting.split_off(count.min(self.waiting.len()));
        self.bytes -= dropped.iter().map(Message::bytes).sum::<usize>();
    }

    pub(crate) fn take(&mut self) -> Vec<Message> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }
}

impl Run {
    pub(crate) fn publish_event(&self, topic: &str, payload: &str) -> Result<(), HostError> {
        self.alive()?;
        let job = self.task.claim.map(|claim| claim.id);
        let limits = &self.task.grant.limits;
        self.messages.borrow_mut().add(limits, (topic, payload), (&self.worker_name, job))
    }
}

impl Messages {
    /// Adds a message of this worker and job.
    pub(crate) fn add(
        &mut self,
        limits: &Limits,
        (topic, payload): (&str, &str),
        (worker, job): (&Arc<str>, Option<JobId>),
    ) -> Result<(), HostError> {
        if topic.is_empty() || topic.len() > TOPIC_MAX_BYTES {
            return Err(HostError::new(code::INVALID, "the topic must have 1 to 128 bytes"));
        }
        if payload.len() > PAYLOAD_MAX_BYTES {
            return Err(HostError::new(
                code::LIMIT,
                "the payload has more than 256 KiB: publish the id of a row instead",
            ));
        }
        let (count, bytes) =
            (self.len() + 1, self.bytes.saturating_add(topic.len() + payload.len()));
        for (number, most, what) in
            [(count, limits.events, "messages"), (bytes, limits.event_bytes, "bytes of messages")]
        {
            if number > most {
                return Err(HostError::new(
                    code::LIMIT,
                    format!("more than {most} {what} since the last checkpoint: make one"),
                ));
            }
        }
        json::check(payload).map_err(|error| {
            HostError::new(code::INVALID, format!("the payload is no JSON: {error}"))
        })?;
        self.bytes = bytes;
        self.waiting.push(Message {
            topic: topic.to_string(),
            payload: payload.to_string(),
            worker: Arc::clone(worker),
            job,
        });
        Ok(())
    }
}
