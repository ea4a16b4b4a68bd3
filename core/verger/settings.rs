//! What the user set for a worker.

use serde_json::Value as Json;
use verger_worker::AuditEvent;

use super::Verger;
use crate::audit::Stamp;
use crate::error::Error;
use crate::worker_settings;

/// The action in the audit log.
const ACTION: &str = "worker_settings.updated";

impl Verger {
    /// What was set for this worker: a JSON object, empty when nothing was.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn settings(&self, worker: &str) -> Result<Json, Error> {
        let _doing = "read the settings of a worker";
        let settings = self.inner.front().books().worker_settings(worker)?;
        Ok(Json::Object(settings))
    }

    /// Sets a JSON object for this worker, in the place of the one before. The worker reads it by the
    /// capability `settings`, when it is granted; in Rust by `Context::settings`. It need not be
    /// there yet. The names of what was set are in the audit log, the values are not.
    ///
    /// ```
    /// use serde_json::json;
    /// let verger = verger::Verger::in_memory().open()?;
    /// verger.set_settings("acme-rollup", &json!({"hour": 4}))?;
    /// assert_eq!(verger.settings("acme-rollup")?["hour"], 4);
    /// # Ok::<(), verger::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Settings`] for what is no object, or has more than 64 KiB of text.
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
