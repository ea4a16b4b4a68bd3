//! `verger plugin`: make workers, and examine those of others before they are dropped in.

mod asks;
mod check;
mod compile;
mod component;
mod consent;
mod diff;
mod forget;
mod inspect;
mod known;
mod new;
mod pack;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use verger::verger_worker::{MIGRATION_WIT, Suggested, WIT};
use verger::{Expression, ExpressionError};

use crate::options::{Database, Options};
use crate::output::print;
use check::Check;
use compile::Compile;
use new::New;

/// The args that make a job's scope. A tenant-aware worker's jobs must name them.
const TENANT_KEYS: [&str; 2] = ["organization_id", "actor_id"];

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Begin a worker: a folder with code that works, its test, and how to build it
    ///
    /// Needs no checkout: the interface, the words of the SDK and what is slow to generate are in this
    /// command. The README it writes has the four steps: build, test, check, try.
    New(New),
    /// Print the interface between Verger and its workers, as WIT
    Wit {
        /// Print the world of workers that migrate the args of waiting jobs, a file beside the other
        #[arg(long)]
        migration: bool,
    },
    /// Wrap a core module, as compilers make it, into a component
    ///
    /// Of Rust for wasm32-unknown-unknown, of C, C++ and Zig for wasm32-wasi (as a reactor), of Go
    /// (-buildmode=c-shared), of AssemblyScript. Where the module has no copy of the interface it was
    /// built against, it gets this one; one that speaks WASI preview 1 is adapted.
    Pack {
        /// The core module: target/wasm32-unknown-unknown/release/NAME.wasm
        module: PathBuf,
        /// Where to write the component
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Compile components ahead, for an app that has no compiler in it, or is not to compile at its
    /// first start
    ///
    /// Writes one .cwasm for each, for machines of one kind: this one's, or those of --target. The
    /// app finds them in its compile cache's folder (`CompileCache::Folder`), or has them in itself
    /// (`Builder::compiled`). They fit the version of Verger that made them, and no other.
    Compile(Compile),
    /// What may this .wasm do: what it imports, what it asks for, and what of that a grant gives it
    ///
    /// For a person who decides whether to drop it in. Of the component only its description of
    /// itself is run, in the sandbox and with access to nothing. Give --grant to see what that
    /// leaves closed, or --trust. Exit status 2 when Verger would refuse the file.
    Inspect {
        /// The component
        file: PathBuf,
        /// Say what it would be in this database: whose its name is there, and what it asks for
        /// beyond what was granted there and beyond the version that has the name
        #[arg(long, value_name = "FILE")]
        db: Option<PathBuf>,
    },
    /// Does this .wasm load and behave, and what should a person fix
    ///
    /// Loads it as an app would and performs it twice in an empty world: a database in memory that
    /// has the tables it asks for, and no rows. It is granted what it asks for and nothing else (or
    /// what --grant gives it), so that access it forgot to ask for shows. The columns of tables
    /// that Verger does not know are learned from the worker's own statements; --sql says them, and
    /// can give rows too. Functions of the app answer null. Exit status 0 when nothing must be
    /// fixed, 1 otherwise, 2 for bad input.
    Check(Check),
    /// What a new version asks for more than the old one, and what it changed
    Diff {
        /// The component that runs now
        old: PathBuf,
        /// The one that is to take its place
        new: PathBuf,
    },
    /// Free the name of a dropped-in worker that was removed or replaced for good
    ///
    /// A name belongs to the file that first had it: another one is refused under it. From now on
    /// the file that has the name when the database is opened next may have it. Look at that one
    /// first: it gets the grant that goes with the name, unless that is for one SHA-256.
    Forget {
        /// The name
        name: String,
        #[command(flatten)]
        database: Database,
    },
    /// Give a dropped-in worker all it asks for: its jobs run from then on
    ///
    /// The app that has the file follows within a second. A version that was rolled back is taken in
    /// again. `plugin grants NAME` says before what it asks for.
    Approve(consent::Decide),
    /// Refuse a dropped-in worker what it asks for: the version before goes on, without one its jobs
    /// wait
    Deny(consent::Decide),
    /// Take back all that a dropped-in worker was granted: its jobs wait from then on
    Revoke(consent::Decide),
    /// What was decided about dropped-in workers; of one, what it asks for and why
    Grants(consent::Grants),
    /// Go back to the version of a dropped-in worker that ran before
    ///
    /// Its bytes are in the file. The version that is rolled back is not taken in again until it is
    /// approved; a newer one that is dropped in is. Rolling back once more takes it back.
    Rollback(consent::Rollback),
}

impl Command {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        match self {
            Self::Pack { module, output } => pack::pack(module, output, options)?,
            Self::Compile(compile) => compile.run(options)?,
            Self::Inspect { file, db } => inspect::inspect(file, db.as_deref(), options)?,
            Self::Check(check) => return check.run(options),
            Self::Diff { old, new } => diff::diff(old, new, options)?,
            Self::New(new) => new.run(options)?,
            Self::Wit { migration: false } => print(WIT.lines()),
            Self::Wit { migration: true } => print(MIGRATION_WIT.lines()),
            Self::Forget { name, database } => forget::forget(name, database, options)?,
            Self::Approve(decide) => decide.approve(options)?,
            Self::Deny(decide) => decide.deny(options)?,
            Self::Revoke(decide) => decide.revoke(options)?,
            Self::Grants(grants) => grants.run(options)?,
            Self::Rollback(rollback) => rollback.run(options)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// When a worker suggests to run.
fn expression(suggested: &Suggested) -> Result<Expression, ExpressionError> {
    match suggested {
        Suggested::Cron(text) => Expression::cron(text),
        Suggested::EveryMs(millis) => Expression::every(Duration::from_millis(*millis)),
    }
}
