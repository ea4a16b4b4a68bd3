//! Functions that workers may call by name, when granted: the app's own, and those that come with
//! Verger.

#[cfg(feature = "http")]
mod addresses;
#[cfg(any(feature = "http", feature = "mailer"))]
mod authorities;
mod files;
#[cfg(feature = "http")]
mod http;
mod invalid;
#[cfg(feature = "mailer")]
mod mailer;
#[cfg(any(feature = "http", feature = "mailer"))]
mod rate;
#[cfg(any(feature = "http", feature = "mailer"))]
mod secrets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use verger_worker::Scope;

use crate::grant::Effective;
use crate::queue::JobId;
use crate::time::Timestamp;

pub(crate) use files::{REMOVE_FILE, remove_file};
#[cfg(feature = "http")]
pub use http::Http;
pub use invalid::InvalidCapability;
#[cfg(feature = "mailer")]
pub use mailer::Mailer;
#[cfg(any(feature = "http", feature = "mailer"))]
pub use secrets::Secret;
#[cfg(any(feature = "http", feature = "mailer"))]
pub(crate) use secrets::Secrets;

/// One call of a capability.
#[derive(Debug)]
#[non_exhaustive]
pub struct CapabilityCall<'a> {
    /// What the worker sent.
    pub request: &'a Json,
    /// The worker that calls.
    pub worker: &'a str,
    /// Its job; `None` when it was called directly.
    pub job: Option<JobId>,
    /// For whom the job runs. The ids are for logs and must not authorize anything.
    pub scope: Option<&'a Scope>,
    /// How long the attempt may still last. A function that waits must not wait longer, because
    /// nothing can interrupt it.
    pub time_left: Duration,
    /// The present instant, by the clock Verger was given.
    pub now: Timestamp,
    /// Whether the worker's writes are going to be rolled back: see
    /// [`Verger::dry_run`](crate::Verger::dry_run). In a dry run a function must not act for good,
    /// and answers as if it had.
    pub is_dry_run: bool,
    pub(crate) grant: &'a Effective,
    #[cfg(any(feature = "http", feature = "mailer"))]
    pub(crate) secrets: &'a Secrets,
}

impl CapabilityCall<'_> {
    /// Whether the worker asks for this capability and is granted it, for a function that does more
    /// for some workers than for others.
    #[must_use]
    pub fn is_granted(&self, capability: &str) -> bool {
        self.grant.check_capability(capability).is_ok()
    }
}

pub(crate) type Function = Arc<dyn Fn(&CapabilityCall<'_>) -> Result<Json, String> + Send + Sync>;

/// How long a function of the app may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speed {
    /// It only computes, or asks something on this machine.
    Quick,
    /// It waits for the network, a disk or a person. It is never called while the write lock is
    /// held.
    Slow,
}

/// What the app registered.
#[derive(Default, Clone)]
pub(crate) struct Capabilities {
    functions: BTreeMap<String, (Function, Speed)>,
    #[cfg(any(feature = "http", feature = "mailer"))]
    pub(crate) secrets: Secrets,
}

impl Capabilities {
    pub(crate) fn add(
        &mut self,
        name: String,
        speed: Speed,
        function: impl Fn(&CapabilityCall<'_>) -> Result<Json, String> + Send + Sync + 'static,
    ) {
        self.functions.insert(name, (Arc::new(function), speed));
    }

    /// Adds requests to the hosts that `http` lists.
    #[cfg(feature = "http")]
    pub(crate) fn add_http(&mut self, http: Http) {
        let rate = rate::Rate::per_minute(http.per_minute);
        self.add(http.name.clone(), Speed::Slow, move |call| {
            rate.take(call.worker, call.now)?;
            http.call(call)
        });
    }

    /// Adds mail through this server.
    #[cfg(feature = "mailer")]
    pub(crate) fn add_mailer(&mut self, mailer: Mailer) {
        let rate = rate::Rate::per_minute(mailer.per_minute);
        self.add("mailer".to_string(), Speed::Slow, move |call| {
            rate.take(call.worker, call.now)?;
            mailer.call(call)
        });
    }

    /// The function, and how long it may take.
    pub(crate) fn get(&self, name: &str) -> Option<(&Function, Speed)> {
        self.functions.get(name).map(|(function, speed)| (function, *speed))
    }
}
