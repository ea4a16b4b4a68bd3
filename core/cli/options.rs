//! What all verbs share: the options that go with any of them, and how they open the database.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use verger::{Builder, Clock, Grant, Timestamp, Verger};

use crate::clock::{CommandClock, Held};
use crate::grants::{self, Grants};
use crate::input;
use crate::output::tell;

/// The options that go with every verb.
#[derive(Args)]
pub(crate) struct Options {
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Take this for the present time instead of the system's clock
    #[arg(long, global = true, value_name = "TIME", value_parser = input::time)]
    pub(crate) now: Option<Timestamp>,

    /// Take every .wasm in this folder as a worker, beside the built-in ones; may be given several
    /// times
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) plugins: Vec<PathBuf>,

    /// Grant dropped-in workers all that their manifests ask for (see `plugin inspect`); without
    /// it, and --grant, they may touch nothing
    #[arg(long, global = true)]
    pub(crate) trust: bool,

    /// Grant workers what they may touch: a JSON object, or the file that holds it; may be given
    /// several times
    ///
    /// One entry for each worker, by its name; every field may be left out:
    ///
    ///   {"acme-rollup": {
    ///     "read": ["orders", "users:id,name"], "update": ["orders:state"],
    ///     "insert": ["log"], "delete": ["log"], "write": ["order_totals"],
    ///     "tenant_column": "organization_id", "shared": ["log"],
    ///     "capabilities": ["mailer"], "sha256": "…", "limits": {"time_ms": 2000}}}
    ///
    /// TABLE:COLUMN,COLUMN is these columns and no others, to read and to update. "write" is all
    /// four verbs. With a tenant column a job of one organization reaches that organization's rows
    /// alone; "shared" tables belong to none. "sha256" grants it to that very file only. The limits
    /// are time_ms, memory_bytes, sql_memory_bytes, chunk_bytes, statements, transaction_bytes,
    /// growth_bytes, audit_rows, audit_bytes, events, event_bytes, call_bytes, log_lines, log_bytes
    /// and write_lock_ms. A worker gets what it asks for and is granted, never more; for a built-in
    /// worker this takes the place of all it asks for. `plugin inspect` prints the limits, and what
    /// gives a worker everything.
    #[arg(long, global = true, value_name = "JSON|FILE", value_parser = grants::parse, verbatim_doc_comment)]
    pub(crate) grant: Vec<Grants>,
}

/// The database a verb works on.
#[derive(Args)]
pub(crate) struct Database {
    /// The SQLite file
    #[arg(long, value_name = "FILE")]
    pub(crate) db: PathBuf,
}

impl Options {
    pub(crate) fn clock(&self) -> CommandClock {
        match self.now {
            Some(now) => CommandClock::Held(Held::at(now)),
            None => CommandClock::System,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock().now()
    }

    /// Opens the file to work on it.
    pub(crate) fn open(&self, database: &Database) -> Result<Verger> {
        check_is_there(&database.db)?;
        // Nothing is known here of the schedules the app's code registers.
        let builder = Verger::builder(&database.db).clock(self.clock()).keep_schedules();
        let verger = self.with_plugins(builder)?.open()?;
        for refusal in verger.refused_plugins() {
            tell(format!("verger: a plugin was refused: {refusal}"));
        }
        let workers = verger.workers();
        for (unknown, _) in self.grants()?.iter().filter(|(worker, _)| !workers.contains(worker)) {
            tell(format!(
                "verger: --grant names `{unknown}`, and no worker has that name: known are {}",
                workers.join(", ")
            ));
        }
        Ok(verger)
    }

    /// Opens the file to look at it: nothing in it changes.
    pub(crate) fn open_to_read(&self, database: &Database) -> Result<Verger> {
        check_is_there(&database.db)?;
        // With its workers: the jobs of others are shown as parked.
        self.with_plugins(Verger::builder(&database.db).clock(self.clock()).read_only())?
            .open()
            .map_err(Into::into)
    }

    fn with_plugins(&self, mut builder: Builder) -> Result<Builder> {
        for folder in &self.plugins {
            builder = builder.plugins(folder);
        }
        if self.trust {
            ensure!(
                !self.plugins.is_empty(),
                "--trust is for the workers of --plugins: name their folder too"
            );
            // A grant goes by the name of the worker, which only its component tells.
            let mut looking = Verger::in_memory().without_built_ins();
            for folder in &self.plugins {
                looking = looking.plugins(folder);
            }
            for worker in looking.open()?.workers() {
                builder = builder.grant(worker, Grant::as_declared());
            }
        }
        for (worker, given) in self.grants()?.iter() {
            builder = builder.grant(worker, given.to_grant());
        }
        Ok(builder)
    }

    /// What --grant says.
    pub(crate) fn grants(&self) -> Result<Grants> {
        Grants::merged(&self.grant)
    }
}

/// A mistyped name must not leave a new database behind.
fn check_is_there(file: &Path) -> Result<()> {
    ensure!(
        file.exists(),
        "there is no file {0}; `verger migrate --db {0}` makes a new database",
        file.display()
    );
    ensure!(!file.is_dir(), "{} is a folder, not a database", file.display());
    Ok(())
}
