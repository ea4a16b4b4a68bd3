//! How an attempt ends well.

use serde_json::Value as Json;

use super::AttemptError;

/// How an attempt ended, as the worker says. The JSON of a result was checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    Done(Option<Json>),
    Snooze(u32),
    Cancel(String),
    /// It failed, and is not to be tried again. What was written is undone.
    Discard(AttemptError),
}

impl Ended {
    /// A snooze of at least a second.
    pub(crate) fn snooze(seconds: u32) -> Result<Self, AttemptError> {
        if seconds == 0 {
            return Err(AttemptError::new(
                "invalid-result",
                "the worker snoozed for 0 seconds: a snooze must be at least 1 second",
            ));
        }
        Ok(Self::Snooze(seconds))
    }
}
