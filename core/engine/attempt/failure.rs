//! What becomes of the job of a failed attempt.

use std::time::Duration;

use verger_worker::{Manifest, code};

use crate::engine::report::AttemptOutcome;
use crate::queue::{Backoff, Claimed, ON_REQUEST, Transition};
use crate::run::{AttemptError, Ended, Interrupted};
use crate::time::Timestamp;

/// Why an attempt failed, and what becomes of its job.
pub(crate) struct Failure {
    pub(crate) error: AttemptError,
    pub(crate) next: Next,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another attempt, if there is one left.
    Retry,
    /// No further attempt.
    Discard,
    /// The job waits for another version of its worker, and the attempt does not count.
    Park,
    /// The worker's code never began, for a reason that is not the job's: tried again later, and
    /// the attempt does not count.
    #[cfg(feature = "postgres")]
    Defer,
}

impl From<AttemptError> for Failure {
    fn from(error: AttemptError) -> Self {
        Self { error, next: Next::Retry }
    }
}

impl Failure {
    /// Whether the failure is the job's and says nothing of the worker's code.
    pub(super) fn says_nothing_of_its_code(&self) -> bool {
        self.error.code == code::ARGS || self.next == Next::Park
    }

    /// The args are for a later version of the worker. A component's own version is known only once
    /// it is loaded; from then on such a job is not claimed.
    pub(super) fn too_new(version: u32, manifest: &Manifest) -> Self {
        let why = format!(
            "the job was enqueued for version {version} of the args of `{}`, which knows them up to version {}",
            manifest.name, manifest.args_version
        );
        let error = AttemptError::new("args-version", why);
        Self { error, next: Next::Park }
    }

    /// The args will be no better the next time.
    pub(super) fn of_args(why: &dyn std::error::Error) -> Self {
        let error = AttemptError::new(code::ARGS, why.to_string());
        Self { error, next: Next::Discard }
    }
}

impl Failure {
    /// What becomes of the job, and how that is reported.
    pub(crate) fn transition(
        &self,
        claimed: &Claimed,
        interrupted: Option<Interrupted>,
        backoff: Backoff,
        now: Timestamp,
    ) -> (Transition, AttemptOutcome) {
        let error = &self.error;
        match interrupted {
            Some(Interrupted::Shutdown) => (Transition::Release, AttemptOutcome::Released),
            Some(Interrupted::Cancelled) => cancelled(ON_REQUEST.to_string()),
            None if self.next == Next::Park => (Transition::Release, AttemptOutcome::Released),
            #[cfg(feature = "postgres")]
            None if self.next == Next::Defer => {
                let at = now + backoff.after(claimed.id, claimed.attempt);
                let to = Transition::Defer(error.code.clone(), error.message.clone(), at);
                (to, AttemptOutcome::Retryable(error.clone(), at))
            }
            None => {
                let is_tried_again =
                    self.next == Next::Retry && claimed.attempt < claimed.max_attempts;
                let retry_at =
                    is_tried_again.then(|| now + backoff.after(claimed.id, claimed.attempt));
                let outcome = match retry_at {
                    Some(at) => AttemptOutcome::Retryable(error.clone(), at),
                    None => AttemptOutcome::Discarded(error.clone()),
                };
                (Transition::Fail(error.code.clone(), error.message.clone(), retry_at), outcome)
            }
        }
    }
}

/// What becomes of the job of an attempt that ended well, and how that is reported.
pub(crate) fn transition(
    ended: Ended,
    now: Timestamp,
) -> Result<(Transition, AttemptOutcome), Failure> {
    Ok(match ended {
        Ended::Done(result) => (
            Transition::Complete(result.as_ref().map(ToString::to_string)),
            AttemptOutcome::Completed(result),
        ),
        Ended::Snooze(seconds) => {
            let until = now + Duration::from_secs(seconds.into());
            (Transition::Snooze(until), AttemptOutcome::Snoozed(until))
        }
        Ended::Cancel(reason) => cancelled(reason),
        Ended::Discard(error) => {
            return Err(Failure { error, next: Next::Discard });
        }
    })
}

pub(super) fn cancelled(reason: String) -> (Transition, AttemptOutcome) {
    (Transition::Cancel(reason.clone()), AttemptOutcome::Cancelled(reason))
}
