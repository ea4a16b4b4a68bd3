//! The errors of the façade.
//!
//! Each kind of operation has an enum of its own, so that a caller matches on what can happen
//! there. All convert into [`Error`].
//!
//! # Design
//! An error's text is complete: what was tried, on what, why it failed, and what to do. `{error}`
//! is enough for a log line or a dialog. A cause that the text repeats is not its `source()` too,
//! so that printing the chain, as `anyhow` does, says each cause once. Such a cause is a field that
//! a caller can match on. Its raw identifier `r#source` keeps the derive from taking it for the
//! `source()`, and is an ordinary field to everyone else.

use std::path::PathBuf;

use verger_worker::AuditFault;

use crate::audit::ChainError;
use crate::engine::LoopError;
use crate::plugin_error::PluginError;
use crate::queue::{EnqueueError, JobId, QueueError};
use crate::run::AttemptError;
use crate::schedule::ScheduleError;
use crate::store::{MigrationError, StoreError};
use crate::worker_settings::SettingsError;

/// Anything that can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A statement of the engine failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tables could not be brought up to date.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// A job was not enqueued.
    #[error(transparent)]
    Enqueue(#[from] EnqueueError),
    /// A unique job was not retried: another one like it is there.
    #[error(
        "job {job} is not retried: it is unique, and job {other} like it is unfinished, or keeps its period; cancel that one first"
    )]
    NotUnique {
        /// The job that was to be retried.
        job: JobId,
        /// The one that is there.
        other: JobId,
    },
    /// A job was not edited. Nothing was changed.
    #[error("job {job} is not edited: {reason}")]
    NotEdited {
        /// The job.
        job: JobId,
        /// Why not.
        reason: String,
    },
    /// A value that was to be set for many jobs is out of bounds. Nothing was changed.
    #[error("the jobs are left as they are: {reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// A schedule was refused.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The settings of a queue were refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The settings of a worker were refused.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A worker that was called directly failed.
    #[error(transparent)]
    Perform(#[from] PerformError),
    /// A plugin was not taken in.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// A plugin was not rolled back.
    #[error(
        "`{name}` is not rolled back: {reason}; put the file of an earlier version in its place"
    )]
    NotRolledBack {
        /// The worker.
        name: String,
        /// Why.
        reason: String,
    },
    /// Nothing was decided about a plugin.
    #[error("nothing is decided about `{worker}`: {reason}")]
    Consent {
        /// The worker.
        worker: String,
        /// Why.
        reason: String,
    },
    /// An event was not written to the audit log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The audit log does not verify.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The loop could not be started or stopped.
    #[error(transparent)]
    Loop(#[from] LoopError),
}

/// The database could not be opened. What was done before the error stays: migrations, and jobs
/// taken back from a process that died.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The SQLite that the program links is too old, or was compiled without what is needed.
    #[error("the SQLite library of this program cannot be used: {reason}")]
    Library {
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// It cannot be opened, read or set up.
    #[error("cannot open {}: {source}", path.display())]
    Database {
        /// The file; empty for one in memory.
        path: PathBuf,
        /// Why.
        r#source: StoreError,
    },
    /// The file, or its folder, can only be read.
    #[error("cannot open {}: it can only be read; check the permissions of the file and of its folder", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// Its schema is newer than this build, or a migration failed.
    #[error("cannot open {}: {source}", path.display())]
    Migration {
        /// The file; empty for one in memory.
        path: PathBuf,
        /// Why.
        r#source: MigrationError,
    },
    /// The path names no file that can be a database.
    #[error("cannot open {:?} as a database: {reason}", path.display().to_string())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The key that was given cannot be used, or does not open the file. Nothing was written.
    #[error("cannot open {}: {reason}", path.display())]
    Key {
        /// The file; empty for one in memory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// Another copy of SQLite in this process has the file open. Noticed on Linux, where that copy
    /// has read the file in WAL mode.
    #[error("cannot open {}: another copy of SQLite in this process has it open, and each would drop the other's locks; have both sides use one copy, or open the file in a process of its own", path.display())]
    SecondCopy {
        /// The file.
        path: PathBuf,
    },
    /// The file is open by another of its names, a hard link or a mount of its own.
    #[error("cannot open {}: the file has another name (a hard link, or a mount) and is open by it; open it by one name, or make the others symbolic links: SQLite keeps its log beside the name", path.display())]
    OtherName {
        /// The path.
        path: PathBuf,
    },
    /// The lock file beside the database cannot be used.
    #[error("cannot open {}: the lock file {}-verger beside it cannot be used: {source}", path.display(), path.display())]
    Lock {
        /// The database.
        path: PathBuf,
        /// Why.
        r#source: std::io::Error,
    },
    /// The folder with plugins cannot be listed.
    #[error("cannot list the plugins folder {}: {source}", folder.display())]
    Plugins {
        /// The folder.
        folder: PathBuf,
        /// Why.
        r#source: std::io::Error,
    },
    /// A worker the app registers itself is not usable.
    #[error(transparent)]
    Worker(#[from] PluginError),
    /// A schedule the app registers is not usable.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The settings of a queue are not usable.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A grant or a backoff is for a worker that does not exist and that no plugin can bring,
    /// because no folder, file or component was given.
    #[error("{what} is for worker `{worker}`, which is not there: known are {known}")]
    NoSuchWorker {
        /// What was set: a grant, or a backoff.
        what: &'static str,
        /// The worker it is for.
        worker: String,
        /// The names there are.
        known: String,
    },
    /// Its rows were moved into another database, or a move was begun and ended midway. It can be
    /// opened to be read only.
    #[error("cannot open {}: its rows {} {to}", path.display(), if *is_done { "were moved, and this file is kept to be read only; they are at" } else { "may have been moved: a move was begun and has to be run again, to" })]
    Moved {
        /// The file.
        path: PathBuf,
        /// The address of the database, without a password.
        to: String,
        /// The move came to its end.
        is_done: bool,
    },
    /// On PostgreSQL: the roles of components have other rights than their workers were granted.
    #[cfg(feature = "postgres")]
    #[error("the roles of components are not what was granted: {}. The SQL of `Builder::role_grants` mends it", problems.join("; "))]
    Roles {
        /// What is wrong, a sentence each.
        problems: Vec<String>,
    },
    /// A database in memory is new, so there is nothing in it to look at.
    #[error("a database in memory cannot be opened to be read only: there is nothing in it yet")]
    ReadOnlyMemory,
    /// The number of threads is out of bounds.
    #[error("{asked} threads for jobs were asked for: there must be 1 to {most}")]
    Threads {
        /// The number asked for.
        asked: usize,
        /// The most there may be.
        most: usize,
    },
}

/// A worker that was called directly did not succeed. Nothing it wrote since its last checkpoint
/// was kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PerformError {
    /// The worker is not there, or the args do not fit it.
    #[error(transparent)]
    Refused(#[from] EnqueueError),
    /// The attempt failed.
    #[error("worker `{worker}` failed: {source}")]
    Failed {
        /// The worker.
        worker: String,
        /// Why.
        r#source: AttemptError,
    },
    /// No connection could be had.
    #[error(transparent)]
    Store(StoreError),
    /// A built-in answered with something else than it promises.
    #[error("worker `{worker}` returned {found}, which is not what it promises")]
    Unexpected {
        /// The worker.
        worker: String,
        /// What it returned.
        found: String,
    },
}

/// An event was not written to the audit log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// It breaks a rule. Names the field, never its value.
    #[error("the event was not written: {0}")]
    Event(AuditFault),
    /// The log could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AuditFault> for AuditError {
    fn from(fault: AuditFault) -> Self {
        Self::Event(fault)
    }
}
