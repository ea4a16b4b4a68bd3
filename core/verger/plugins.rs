//! Which workers there are, what was refused, whose names are bound.

use rusqlite::Connection;
use verger_worker::Manifest;

use super::Verger;
use crate::error::Error;
use crate::grant::Withheld;
use crate::plugin_error::PluginError;
use crate::queue::EnqueueError;
use crate::worker::Registered;

impl Verger {
    /// The names of the workers.
    #[must_use]
    pub fn workers(&self) -> Vec<String> {
        self.inner.registry.names().map(str::to_string).collect()
    }

    /// What a worker says of itself.
    ///
    /// # Errors
    /// [`EnqueueError::UnknownWorker`], or [`EnqueueError::Plugin`] when its component cannot be
    /// loaded.
    pub fn manifest(&self, worker: &str) -> Result<Manifest, EnqueueError> {
        self.inner.manifest(worker).cloned()
    }

    /// The SHA-256 of a worker's component, in hexadecimal digits: what
    /// [`Grant::for_digest`](crate::Grant::for_digest) takes. `None` for one that is part of the
    /// app.
    ///
    /// # Errors
    /// As [`manifest`](Self::manifest).
    pub fn digest(&self, worker: &str) -> Result<Option<String>, EnqueueError> {
        Ok(self.inner.registered(worker)?.digest()?)
    }

    /// What workers ask for and are not granted, one entry for each worker that lacks something:
    /// after an update of a plugin, what the new version wants more. A manifest that would lift a
    /// wall around tenants, were it believed, is told of too.
    ///
    /// ```
    /// let verger = verger::testing::example();
    /// for withheld in verger.withheld() {
    ///     println!("{withheld}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn withheld(&self) -> Vec<Withheld> {
        // The built-in workers are not loaded for it: they have what they declare.
        let withheld =
            |registered: &Registered| registered.grant.withholds(registered.manifest().ok()?);
        self.inner
            .registry
            .all()
            .filter(|registered| !registered.has_all_it_declares())
            .filter_map(withheld)
            .collect()
    }

    /// The plugins that were found and refused when Verger was opened, each with the reason. The
    /// others work.
    #[must_use]
    pub fn refused_plugins(&self) -> &[PluginError] {
        &self.inner.refused
    }

    /// Frees the name of a dropped-in worker: at the next open, the file that has the name then may
    /// have it. For a plugin that was removed or replaced for good. False when nobody had it.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    #[cfg(feature = "wasm")]
    pub fn forget_plugin(&self, name: &str) -> Result<bool, Error> {
        let forget = |connection: &Connection| crate::worker::free_name(connection, name);
        Ok(self.inner.write("forget a plugin", forget)?)
    }
}
