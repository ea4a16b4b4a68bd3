//! The settings that the user made for a worker.

use serde_json::Value as Json;
use verger_worker::AuditEvent;

use super::Verger;
use crate::audit::Stamp;
use crate::error::Error;
use crate::worker_settings;

/// The action in the audit log.
const ACTION: &str = "worker_settings.updated";

impl Verger {
    /// The settings of this worker: a JSON object, empty when nothing was set.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn settings(&self, worker: &str) -> Result<Json, Error> {
        let _doing = "read the settings of a worker";
        let settings = self.inner.front().books().worker_settings(worker)?;
        Ok(Json::Object(settings))
    }

    /// Sets a JSON object for this worker, and replaces the one before. The worker reads it by the
    /// capability `settings`, when it is granted, or in Rust by `Context::settings`. The worker
    /// need not exist yet. The names of what was set are in the audit log, their values are not.
    ///
    /// ```
    /// use serde_json::json;
    /// let verger = verger::Verger::in_memory().open()?;
    /// verger.set_settings("acme-rollup", &json!({"hour": 4}))?;
    /// assert_eq!(verger.settings("acme-rollup")?["hour"], 4);
    /// # Ok::<(), verger::Error>(())
    /// ```
    ///
    /// [`Error::Settings`] for a value that is no object, one with more than 64 KiB of text, or a
    /// name that no worker can have. [`Error::Store`] when the database cannot be written.
    pub fn set_settings(&self, worker: &str, settings: &Json) -> Result<(), Error> {
        let text = worker_settings::check(worker, settings)?;
        let now = self.inner.clock.now();
        let names: Vec<String> = settings
            .as_object()
            .map(|map| map.keys().take(100).map(|key| key.chars().take(64).collect()).collect())
            .unwrap_or_default();
        let names = serde_json::json!({ "names": names });
        let event = AuditEvent::success(ACTION).subject("worker", worker).metadata(names);
        Ok(self.inner.write("store the settings of a worker", |books| {
            books.set_worker_settings(worker, &text, now)?;
            books.append_audit(now, &Stamp::default(), &event).map(drop)
        })?)
    }
}
