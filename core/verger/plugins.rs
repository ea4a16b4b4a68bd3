//! Which workers there are, which were refused, and whose the names are.

#[cfg(feature = "wasm")]
use std::path::Path;

#[cfg(feature = "wasm")]
use serde_json::json;
#[cfg(feature = "wasm")]
use verger_worker::AuditEvent;
use verger_worker::Manifest;

use super::Verger;
#[cfg(feature = "wasm")]
use crate::audit::Stamp;
#[cfg(feature = "wasm")]
use crate::engine;
#[cfg(feature = "wasm")]
use crate::error::Error;
use crate::grant::Withheld;
use crate::plugin_error::PluginError;
use crate::queue::EnqueueError;
#[cfg(feature = "wasm")]
use crate::store::{Books, StoreContext};
use crate::worker::Registered;
#[cfg(feature = "wasm")]
use crate::worker::{PluginBinding, PluginInfo};

impl Verger {
    /// The names of the workers.
    #[must_use]
    pub fn workers(&self) -> Vec<String> {
        self.inner.registry.snapshot().keys().cloned().collect()
    }

    /// What a worker says of itself.
    ///
    /// # Errors
    /// [`EnqueueError::UnknownWorker`], or [`EnqueueError::Plugin`] when its component cannot be
    /// loaded.
    pub fn manifest(&self, worker: &str) -> Result<Manifest, EnqueueError> {
        self.inner.registry.manifest(worker)
    }

    /// The same, without waiting. `None` when there is no such worker, or when its component would
    /// have to be compiled or loaded first.
    #[must_use]
    pub fn known_manifest(&self, worker: &str) -> Option<Manifest> {
        self.inner.registry.get(worker)?.known_manifest().cloned()
    }

    /// The SHA-256 of a worker's component, in hexadecimal digits, as
    /// [`Grant::for_digest`](crate::Grant::for_digest) takes it. `None` for a worker that is part
    /// of the app.
    ///
    /// # Errors
    /// As [`manifest`](Self::manifest).
    pub fn digest(&self, worker: &str) -> Result<Option<String>, EnqueueError> {
        Ok(self.inner.registry.registered(worker)?.digest()?)
    }

    /// What workers ask for and are not granted, one entry for each worker that lacks something.
    /// After an update of a plugin it shows what the new version asks for beyond its grant. It also
    /// names manifests that would lift the wall around a tenant if they were believed.
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
        // The built-in workers are not loaded for this, because they are granted what they declare.
        let withheld =
            |registered: &Registered| registered.grant.withholds(registered.manifest().ok()?);
        let workers = self.inner.registry.snapshot();
        workers
            .values()
            .filter(|registered| !registered.has_all_it_declares())
            .filter_map(|registered| withheld(registered))
            .collect()
    }

    /// Which component the name of a dropped-in worker belongs to in this database, and since when.
    /// `None` when the name is free.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    #[cfg(feature = "wasm")]
    pub fn plugin_binding(&self, name: &str) -> Result<Option<PluginBinding>, Error> {
        Ok(self.inner.reader().books().plugin_binding(name)?)
    }

    /// The plugins that were found and refused, each with the reason, as of now. The others work.
    /// Where a worker's new file is refused, the version before goes on.
    #[must_use]
    pub fn refused_plugins(&self) -> Vec<PluginError> {
        #[cfg(feature = "wasm")]
        return self.inner.plugins.refused();
        #[cfg(not(feature = "wasm"))]
        Vec::new()
    }

    /// The dropped-in workers, each with the version that runs now.
    #[cfg(feature = "wasm")]
    #[must_use]
    pub fn plugins(&self) -> Vec<PluginInfo> {
        self.inner.plugins.running()
    }

    /// Looks at the plugin folders and files, on this thread, and takes in what was added, replaced
    /// or removed since the last look. The loop and [`tick`](Self::tick) do so by themselves; this
    /// is for an app that uses neither. A file is read as it is, so one that is still being copied
    /// is refused until the next look.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read or written.
    #[cfg(feature = "wasm")]
    pub fn refresh_plugins(&self) -> Result<(), Error> {
        Ok(engine::take_in_plugins(&self.inner)?)
    }

    /// Takes this `.wasm` as a worker, now and whenever it changes, until this Verger is closed. It
    /// does while the app runs what [`Builder::plugin`](crate::Builder::plugin) does at the start.
    /// If it is a new version of a worker that is there, running jobs end on the old one.
    ///
    /// [`Error::Plugin`] when it is refused; what ran before goes on. [`Error::Store`] when the
    /// database cannot be read or written.
    #[cfg(feature = "wasm")]
    pub fn add_plugin(&self, file: impl AsRef<Path>) -> Result<PluginInfo, Error> {
        let (file, plugins) = (file.as_ref(), &self.inner.plugins);
        plugins.add(file);
        let taken = engine::take_in_plugins(&self.inner).map_err(Error::from);
        let outcome = taken.and_then(|()| plugins.outcome_of(file).map_err(Error::Plugin));
        if outcome.is_err() {
            plugins.drop_extra(file);
        }
        outcome
    }

    /// Removes a dropped-in worker. A running job ends. Jobs that wait are parked until the worker
    /// is back, and no attempt is used. Its file stays where it is, and is not taken in again until
    /// it changes, [`add_plugin`](Self::add_plugin) names it, or the app starts anew. False when
    /// there is no dropped-in worker of this name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read or written.
    #[cfg(feature = "wasm")]
    pub fn remove_plugin(&self, name: &str) -> Result<bool, Error> {
        let was_there = self.inner.plugins.take_out(name);
        engine::take_in_plugins(&self.inner)?;
        Ok(was_there)
    }

    /// Goes back to the version of a dropped-in worker that ran before. Its bytes are kept in the
    /// database. The version that is rolled back is not taken in again by itself, not at a later
    /// start either; the next version that is dropped in is. A second rollback undoes the first.
    /// Other processes with the file follow within a second.
    ///
    /// [`Error::NotRolledBack`] when there is no version before, or it is not kept. Nothing changes
    /// then. [`Error::Store`] when the database cannot be written.
    #[cfg(feature = "wasm")]
    pub fn rollback_plugin(&self, name: &str) -> Result<PluginInfo, Error> {
        let (plugins, now) = (&self.inner.plugins, self.inner.clock.now());
        let roll_back = |books: Books<'_>| {
            let rolled =
                plugins.roll_back(books.connection(), name, now).doing("roll a plugin back")?;
            if let Ok(info) = &rolled {
                let event = AuditEvent::success("plugin.rolled_back")
                    .subject("plugin", name)
                    .after(json!({"version": info.version, "digest": info.digest}));
                books.append_audit(now, &Stamp::default(), &event)?;
            }
            Ok(rolled)
        };
        let rolled = self.inner.write("roll a plugin back", roll_back)?;
        let info =
            rolled.map_err(|reason| Error::NotRolledBack { name: name.to_string(), reason })?;
        engine::take_in_plugins(&self.inner)?;
        Ok(info)
    }

    /// Frees the name of a dropped-in worker, so that the file that has the name at the next look
    /// gets it. This is for a plugin that was removed or replaced for good. The kept bytes of its
    /// versions are deleted too. False when the name was free.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    #[cfg(feature = "wasm")]
    pub fn forget_plugin(&self, name: &str) -> Result<bool, Error> {
        let forget = |books: Books<'_>| books.free_name(name);
        Ok(self.inner.write("forget a plugin", forget)?)
    }
}
