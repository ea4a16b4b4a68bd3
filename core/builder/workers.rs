//! Which workers there are, and what each is granted.

use std::path::PathBuf;

use verger_worker::Worker;

use super::Builder;
use crate::grant::Grant;

impl Builder {
    /// Takes every `.wasm` in this folder as a worker. A refused one does not keep the others, or
    /// the app, from starting: see [`Verger::refused_plugins`](crate::Verger::refused_plugins).
    ///
    /// The name that a file gives itself is bound to its SHA-256 in the database, at the first
    /// open. From then on another file of that name is refused. If two files that differ have one
    /// name at the first open, both are refused. The same file with new bytes is a new version, and
    /// keeps the name. A grant [for one SHA-256](Grant::for_digest) comes before this binding, and
    /// [`Verger::forget_plugin`](crate::Verger::forget_plugin) frees a name. A database in memory
    /// remembers nothing.
    ///
    /// ```
    /// let folder = std::env::temp_dir().join("plugins-of-my-app");
    /// let verger = verger::Verger::in_memory().plugins(folder).open()?;
    /// for refused in verger.refused_plugins() {
    ///     eprintln!("{refused}");
    /// }
    /// # Ok::<(), verger::Error>(())
    /// ```
    pub fn plugins(mut self, folder: impl Into<PathBuf>) -> Self {
        self.plugin_folders.push(folder.into());
        self
    }

    /// Takes this `.wasm` as a worker. It is refused as one from a folder is.
    pub fn plugin(mut self, file: impl Into<PathBuf>) -> Self {
        self.plugin_files.push(file.into());
        self
    }

    /// Takes these bytes as a worker of the app's own. `what` names them in errors. If they are
    /// refused, Verger does not open. They are compiled however long that takes:
    /// [`compile_limit`](Self::compile_limit) is for files.
    pub fn component(mut self, what: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.components.push((what.into(), bytes.into()));
        self
    }

    /// Registers a worker that is part of the app. It is granted what its manifest asks for, unless
    /// [`grant`](Self::grant) says otherwise.
    ///
    /// ```
    /// use verger::verger_worker::prelude::*;
    ///
    /// struct Hello;
    ///
    /// impl Worker for Hello {
    ///     fn manifest(&self) -> Manifest {
    ///         Manifest::new("hello", "1.0.0")
    ///     }
    ///
    ///     fn perform(&self, _: &Context<'_>, _: Option<&Scope>, _: &Args) -> Result<Outcome, WorkerError> {
    ///         Ok(Outcome::Done)
    ///     }
    /// }
    ///
    /// let verger = verger::Verger::in_memory().worker(Hello).open()?;
    /// assert!(verger.workers().contains(&"hello".to_string()));
    /// # Ok::<(), verger::Error>(())
    /// ```
    pub fn worker(mut self, worker: impl Worker + Send + Sync + 'static) -> Self {
        self.native.push(Box::new(worker));
        self
    }

    /// Grants a worker what it may touch. For the built-in workers and the app's own, it replaces
    /// [`Grant::as_declared`]. If a dropped-in worker is not named here, somebody decides while the
    /// app runs (see [`Verger::consent`](crate::Verger::consent)). Until then it has nothing, and
    /// its jobs wait. A grant made here holds, whatever was decided there.
    ///
    /// A grant for a worker that is not there is refused at [`open`](Self::open), unless a plugin
    /// may still bring it.
    ///
    /// ```
    /// use verger::{Grant, Verger};
    ///
    /// let verger = Verger::in_memory()
    ///     .plugins(std::env::temp_dir().join("plugins-of-my-app"))
    ///     .grant("acme-rollup", Grant::new().read("orders").write("order_totals"))
    ///     .open()?;
    /// # Ok::<(), verger::Error>(())
    /// ```
    pub fn grant(mut self, worker: impl Into<String>, grant: Grant) -> Self {
        self.grants.insert(worker.into(), grant);
        self
    }

    /// Grants this to every dropped-in worker that [`grant`](Self::grant) does not name, also to
    /// those that are dropped in while the app runs.
    pub fn grant_plugins(mut self, grant: Grant) -> Self {
        self.plugin_grant = Some(grant);
        self
    }

    /// What a dropped-in worker has besides what it asks for, once somebody
    /// [approved](crate::Verger::approve) it: the limits, the tenant column and the shared tables
    /// of this grant.
    pub fn approved_plugins(mut self, base: Grant) -> Self {
        self.approved_grant = base;
        self
    }

    /// Leaves the built-in workers out.
    pub fn without_built_ins(mut self) -> Self {
        self.built_ins = false;
        self
    }
}
