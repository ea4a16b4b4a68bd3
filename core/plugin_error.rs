//! Why a worker cannot be used.

use std::time::Duration;

use verger_worker::ManifestError;

/// A worker, most often a `.wasm`, was refused. `what` names it: its file, or its name.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// The file or the folder cannot be read.
    #[error("cannot read the plugin {what}: {reason}")]
    Unreadable {
        /// Which plugin.
        what: String,
        /// The operating system's words.
        reason: String,
    },
    /// The path names something other than a file: a folder, a pipe, a device.
    #[error("{what} is {found}, not a file: put the .wasm itself in its place, or take it away")]
    NotAFile {
        /// Which plugin.
        what: String,
        /// What is there.
        found: &'static str,
    },
    /// The file was replaced after it was looked at. The next look takes the new one.
    #[error("{what} was replaced since it was looked at: the next look takes the new file")]
    Changed {
        /// Which plugin.
        what: String,
    },
    /// This version was rolled back. The version before runs.
    #[error(
        "{what} is version {version} of `{name}` (SHA-256 {digest}), which was rolled back: drop in a newer one, or let it run again with `verger plugin approve {name}`"
    )]
    RolledBack {
        /// Which plugin.
        what: String,
        /// The worker.
        name: String,
        /// Its version.
        version: String,
        /// Its digest.
        digest: String,
    },
    /// It asks for what nobody granted it yet. The version before runs; without one, its jobs wait.
    #[error(
        "{what} is version {version} of `{name}` (SHA-256 {digest}), and waits for someone to decide: it asks for {asks}; `verger plugin grants {name}` says why, `verger plugin approve {name}` or `verger plugin deny {name}` decides"
    )]
    Waits {
        /// Which plugin.
        what: String,
        /// The worker.
        name: String,
        /// Its version.
        version: String,
        /// Its digest.
        digest: String,
        /// What it asks for and does not have.
        asks: String,
    },
    /// It asks for what it was denied, or what was taken back from it. The version before runs;
    /// without one, its jobs wait.
    #[error(
        "{what} is version {version} of `{name}` (SHA-256 {digest}), and asks for what it is denied: {asks}; take it away, or let it have that with `verger plugin approve {name}`"
    )]
    Denied {
        /// Which plugin.
        what: String,
        /// The worker.
        name: String,
        /// Its version.
        version: String,
        /// Its digest.
        digest: String,
        /// What it asks for and does not have, each with who decided.
        asks: String,
    },
    /// The app took it out while it ran.
    #[error(
        "{what} was taken out by the app: `Verger::add_plugin` takes it in again, and so does the next start"
    )]
    TakenOut {
        /// Which plugin.
        what: String,
    },
    /// The bytes are no valid component: truncated, damaged, or something else altogether.
    #[error(
        "{what} is no valid WebAssembly component: {reason}; build it again, and check that the file is complete"
    )]
    NotAComponent {
        /// Which plugin.
        what: String,
        /// What the validator found.
        reason: String,
    },
    /// A component of asynchronous functions, which a worker cannot have.
    #[error(
        "{what} is built for asynchronous calls, and a worker has none: build it again without them (componentize-qjs: --sync). The validator says: {reason}"
    )]
    Async {
        /// Which plugin.
        what: String,
        /// What the validator found.
        reason: String,
    },
    /// A core module where a component is expected.
    #[error(
        "{what} is a core WebAssembly module, not a component: wrap it with `verger plugin pack {what} -o OUT.wasm`"
    )]
    CoreModule {
        /// Which plugin.
        what: String,
    },
    /// Machine code compiled by wasmtime. It is never accepted as a plugin, because it could do
    /// anything.
    #[error(
        "{what} is precompiled machine code, which is not accepted as a plugin: use the .wasm it was made from"
    )]
    Precompiled {
        /// Which plugin.
        what: String,
    },
    /// The file is larger than a plugin may be.
    #[error("{what} has {bytes} bytes, more than the {most} a plugin may have")]
    TooLarge {
        /// Which plugin.
        what: String,
        /// Its size.
        bytes: u64,
        /// The most it may have.
        most: u64,
    },
    /// Compiling it could take minutes or gigabytes. It was refused before the compiler saw it.
    #[error(
        "{what} is not compiled, for it could keep the compiler busy: it has {reason}; build it with optimisation, or in smaller parts"
    )]
    TooComplex {
        /// Which plugin.
        what: String,
        /// What there is too much of, and how much there may be.
        reason: String,
    },
    /// Compiling it took all the time there was: see `Builder::compile_limit`.
    #[error(
        "{what} was not compiled within the {limit:?} that compiling plugins may take at one open: use a smaller build of it, or set a longer compile_limit"
    )]
    TooSlow {
        /// Which plugin.
        what: String,
        /// The time for all plugins together.
        limit: Duration,
    },
    /// Another plugin took all the time there was for compiling.
    #[error(
        "{what} was not compiled, for {by} took what was left of the {limit:?} that compiling plugins may take at one open: remove that one, or set a longer compile_limit"
    )]
    NoTimeLeft {
        /// Which plugin.
        what: String,
        /// The other one.
        by: String,
        /// The time for all plugins together.
        limit: Duration,
    },
    /// It imports something that is not part of `verger:worker`.
    #[error(
        "{what} imports `{import}`, which Verger does not provide: a worker may import the interfaces of verger:worker@0.1.0, and WASI 0.2"
    )]
    UnknownImport {
        /// Which plugin.
        what: String,
        /// The import.
        import: String,
    },
    /// It lacks an export that a worker has, or exports it with another type.
    #[error("{what} does not implement the world verger:worker/worker@0.1.0: {reason}")]
    Mismatch {
        /// Which plugin.
        what: String,
        /// The difference.
        reason: String,
    },
    /// Its `describe` trapped or took too long.
    #[error("{what} could not describe itself: {reason}")]
    Describe {
        /// Which plugin.
        what: String,
        /// What happened.
        reason: String,
    },
    /// Its manifest is not usable.
    #[error("{what}: {source}")]
    Manifest {
        /// Which plugin.
        what: String,
        /// What is wrong.
        r#source: ManifestError,
    },
    /// Its grant is for another file.
    #[error(
        "{what}: the grant of worker `{name}` is for the component with SHA-256 {granted}, and this is {found}: look at it (`verger plugin inspect`), then grant it anew"
    )]
    OtherDigest {
        /// Which plugin.
        what: String,
        /// The worker.
        name: String,
        /// The digest the grant names.
        granted: String,
        /// The digest of the file.
        found: String,
    },
    /// Its name belongs to the component that had it first.
    #[error(
        "{what} (SHA-256 {digest}) is named `{name}`, and that name belongs to {owner} (SHA-256 {owner_digest}): look at it (`verger plugin inspect`); to let it have the name, grant the worker to its SHA-256, or forget the other (`Verger::forget_plugin`)"
    )]
    NameTaken {
        /// Which plugin.
        what: String,
        /// The name.
        name: String,
        /// Its digest.
        digest: String,
        /// The file whose name it is.
        owner: String,
        /// The digest of that one.
        owner_digest: String,
    },
    /// Nobody had the name before, and files that differ want it. None gets it.
    #[error(
        "{what} (SHA-256 {digest}) is named `{name}`, and so is {others}: remove all but one, or grant the worker to one SHA-256"
    )]
    NameContested {
        /// Which plugin.
        what: String,
        /// The name.
        name: String,
        /// Its digest.
        digest: String,
        /// The others, each with its digest.
        others: String,
    },
    /// It is the same component as another file.
    #[error("{what} is a copy of {of}, the worker `{name}`: remove one of them")]
    Copy {
        /// Which plugin.
        what: String,
        /// The name.
        name: String,
        /// The file that is the worker.
        of: String,
    },
    /// A worker of the app's own, or one that comes with Verger, has the same name, and keeps it.
    #[error("{what} is named `{name}`, and so is a worker the app has already: names must differ")]
    Duplicate {
        /// Which plugin.
        what: String,
        /// The name.
        name: String,
    },
    /// It cannot be compiled or instantiated on this machine.
    #[error("{what} cannot be prepared to run: {reason}")]
    Engine {
        /// Which plugin.
        what: String,
        /// What the engine said.
        reason: String,
    },
}

impl PluginError {
    /// Whether nothing is wrong with it, and somebody only has to decide what it may do.
    #[must_use]
    pub const fn waits(&self) -> bool {
        matches!(self, Self::Waits { .. })
    }

    /// Bytes that are no valid component, in the validator's words.
    #[cfg(feature = "compile")]
    pub(crate) fn invalid(what: &str, reason: String) -> Self {
        let what = what.to_string();
        match reason.contains("component model async")
            || reason.contains("component model error-context")
        {
            true => Self::Async { what, reason },
            false => Self::NotAComponent { what, reason },
        }
    }

    /// What was refused: its file, or its name.
    #[must_use]
    pub fn plugin(&self) -> &str {
        match self {
            Self::Unreadable { what, .. }
            | Self::NotAFile { what, .. }
            | Self::Changed { what, .. }
            | Self::RolledBack { what, .. }
            | Self::Waits { what, .. }
            | Self::Denied { what, .. }
            | Self::TakenOut { what, .. }
            | Self::NotAComponent { what, .. }
            | Self::Async { what, .. }
            | Self::CoreModule { what, .. }
            | Self::Precompiled { what, .. }
            | Self::TooLarge { what, .. }
            | Self::TooComplex { what, .. }
            | Self::TooSlow { what, .. }
            | Self::NoTimeLeft { what, .. }
            | Self::UnknownImport { what, .. }
            | Self::Mismatch { what, .. }
            | Self::Describe { what, .. }
            | Self::Manifest { what, .. }
            | Self::OtherDigest { what, .. }
            | Self::NameTaken { what, .. }
            | Self::NameContested { what, .. }
            | Self::Copy { what, .. }
            | Self::Duplicate { what, .. }
            | Self::Engine { what, .. } => what,
        }
    }
}
