//! A run's calls of the app's functions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use verger_worker::{HostError, code};

use super::Run;
use super::transaction::State;
use crate::capability::{Capabilities, CapabilityCall, Function, Speed};
use crate::json;
use crate::text::{beginning, reason};

/// A call within a write transaction that takes longer is named in the log.
const HELD_LONG: Duration = Duration::from_millis(100);

/// How long a run may go on after its time is over, or after it was told to stop, to write down
/// what a slow function of the app did. What reached the outside cannot be undone, and must not be
/// forgotten.
pub(crate) const NOTE: Duration = Duration::from_secs(1);

/// The longest name of a capability that an error repeats, in bytes.
pub(crate) const NAME_MAX_BYTES: usize = 128;

/// How many times its bytes a request may take in memory, once it is read.
const UNFOLDED: usize = 64;

impl Run {
    pub(crate) fn call_capability(&self, name: &str, request: &str) -> Result<String, HostError> {
        self.alive()?;
        if self.task.stop_signal.is_spared() {
            return Err(self.stop_now());
        }
        let name = beginning(name, NAME_MAX_BYTES);
        self.task.grant.check_capability(name).map_err(|why| self.denied(why))?;
        let most = self.task.grant.limits.call_bytes;
        check_request(name, request, most)?;
        // A call cannot be undone, or needs no transaction, so it concerns this job alone.
        self.leave_group()?;
        if let Some(answered) = self.call_engine(name, request) {
            return answered;
        }
        let (function, speed) = registered(&self.services.capabilities, name)?;
        let request = parse_request(name, request, most)?;
        let is_writing = matches!(self.transaction.get(), State::Writing(_));
        if speed == Speed::Slow && is_writing {
            return Err(checkpoint_first(name));
        }
        // From here on nothing can be undone, and what was read before may change meanwhile.
        self.has_effects.set(true);
        self.lock_first.set(true);
        if speed == Speed::Slow
            && self.cursors.borrow().is_empty()
            && self.savepoints.borrow().is_empty()
        {
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
            now: self.clock.now(),
            is_dry_run: self.dry,
            grant: &self.task.grant,
            #[cfg(any(feature = "http", feature = "mailer"))]
            secrets: &self.services.capabilities.secrets,
        };
        let answer = answer(name, function, &call, most);
        if speed == Speed::Slow {
            self.task.stop_signal.spare(NOTE);
        }
        let took = begun.elapsed();
        if is_writing && took > HELD_LONG {
            self.held_the_lock_long(name, took);
        }
        answer
    }
}

/// Refuses a request of more than `most` bytes.
pub(crate) fn check_request(name: &str, request: &str, most: usize) -> Result<(), HostError> {
    let bytes = request.len();
    if bytes > most {
        return Err(HostError::new(
            code::LIMIT,
            format!(
                "the request to capability `{name}` has {bytes} bytes, more than the {most} one call may send"
            ),
        ));
    }
    Ok(())
}

/// The function of that name, and how long it may take.
pub(crate) fn registered<'a>(
    capabilities: &'a Capabilities,
    name: &str,
) -> Result<(&'a Function, Speed), HostError> {
    capabilities.get(name).ok_or_else(|| {
        HostError::new(
            code::CAPABILITY,
            format!("capability `{name}` is granted but the app registered no function for it"),
        )
    })
}

/// Reads a request.
pub(crate) fn parse_request(name: &str, request: &str, most: usize) -> Result<Json, HostError> {
    json::parse(request, most.saturating_mul(UNFOLDED)).map_err(|error| {
        // Too much memory is an error of data. Text that is no JSON is an error of syntax.
        let (code, what) = match error.is_data() {
            true => (code::LIMIT, "is too large"),
            false => (code::INVALID, "is no JSON"),
        };
        HostError::new(code, format!("the request to capability `{name}` {what}: {error}"))
    })
}

/// A slow function was called inside an open write transaction.
pub(crate) fn checkpoint_first(name: &str) -> HostError {
    HostError::new(
        code::CHECKPOINT_FIRST,
        format!(
            "capability `{name}` may take long, and this attempt holds the write lock: make a checkpoint, then call it"
        ),
    )
}

/// Calls the function, and writes its reply, of at most `most` bytes.
pub(crate) fn answer(
    name: &str,
    function: &Function,
    call: &CapabilityCall<'_>,
    most: usize,
) -> Result<String, HostError> {
    match catch_unwind(AssertUnwindSafe(|| function(call))) {
        Ok(Ok(reply)) => json::write(&reply, most).ok_or_else(|| {
            HostError::new(
                code::LIMIT,
                format!("the reply of capability `{name}` has more than the {most} bytes one call may return"),
            )
        }),
        Ok(Err(why)) => {
            Err(HostError::new(code::CAPABILITY, reason(format!("capability `{name}` failed: {why}"))))
        }
        Err(_) => Err(HostError::new(code::CAPABILITY, format!("capability `{name}` panicked"))),
    }
}
