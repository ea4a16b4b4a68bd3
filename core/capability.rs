//! Functions of the app that workers may call by name, when granted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use verger_worker::Scope;

use crate::queue::JobId;

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
    /// For whom the job runs. Ids for logs: it must not authorize anything.
    pub scope: Option<&'a Scope>,
    /// How long the attempt may still last. A function that waits must not wait longer: nothing can
    /// interrupt it.
    pub time_left: Duration,
}

type Function = Arc<dyn Fn(&CapabilityCall<'_>) -> Result<Json, String> + Send + Sync>;

/// What the app registered.
#[derive(Default, Clone)]
pub(crate) struct Capabilities {
    /// Each with whether it may take long.
    functions: BTreeMap<String, (Function, bool)>,
}

impl Capabilities {
    pub(crate) fn add(
        &mut self,
        name: String,
        is_slow: bool,
        function: impl Fn(&CapabilityCall<'_>) -> Result<Json, String> + Send + Sync + 'static,
    ) {
        self.functions.insert(name, (Arc::new(function), is_slow));
    }

    /// The function, and whether it may take long.
    pub(crate) fn get(&self, name: &str) -> Option<(&Function, bool)> {
        self.functions.get(name).map(|(function, is_slow)| (function, *is_slow))
    }
}
