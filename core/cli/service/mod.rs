//! `verger service`: runs what is due while the app is closed, by the system's own timer.

mod install;
mod kind;
mod launchd;
mod systemd;
mod task_scheduler;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use self::install::{install, plan, remove, status, text};
pub(crate) use self::kind::{Kind, xml};
use crate::input;
use crate::options::{Database, Options};
use crate::output::print_text;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Have the system's timer run what is due, every few minutes, while you are logged in
    ///
    /// A systemd user timer on Linux, a launchd agent on macOS, a task on Windows. It runs
    /// `verger tick --until-idle` on the file, or the app itself by --run, and shares the file with
    /// the app: each job is performed once, by either.
    Install {
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        service: Service,
        /// How often to look, such as 5m: a slot is fired this late at most
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = input::duration)]
        every: Duration,
        /// What to run in the place of `verger tick`: the app, and its own option for it
        #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true, value_terminator = ";")]
        run: Vec<String>,
        /// Print what would be written, and write nothing
        #[arg(long)]
        print: bool,
        /// Write into this folder, and tell the system nothing
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
    },
    /// Whether it is installed, and what the system says of it
    Status {
        #[command(flatten)]
        service: Service,
    },
    /// Take it out again
    Remove {
        #[command(flatten)]
        service: Service,
    },
}

#[derive(Args)]
pub(crate) struct Service {
    /// Its name, for several files: letters, digits, `-` and `.`
    #[arg(long, value_name = "NAME", default_value = "verger")]
    name: String,
    /// Which timer; the system's own when left out
    #[arg(long, value_enum)]
    kind: Option<Kind>,
}

/// What is to be started, and how often.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) about: String,
    /// The program, then its arguments.
    pub(crate) run: Vec<String>,
    pub(crate) every: Duration,
}

/// A file to be written.
pub(crate) struct Written {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl Service {
    fn kind(&self) -> Kind {
        self.kind.unwrap_or_else(Kind::of_this_system)
    }

    fn check(&self) -> Result<()> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        ensure!(
            (1..=64).contains(&self.name.len())
                && self.name.chars().all(fits)
                && !self.name.starts_with(['-', '.']),
            "{:?} is no name of a service: use letters, digits, `-` and `.`",
            self.name
        );
        Ok(())
    }
}

impl Command {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        match self {
            Self::Install { database, service, every, run, print, into } => {
                service.check()?;
                ensure!(
                    *every >= Duration::from_secs(60),
                    "the system's timers look once a minute at most: --every 1m or more"
                );
                let plan = plan(options, database, service, *every, run)?;
                let files = service.kind().files(&plan);
                if *print {
                    for file in &files {
                        print_text(&format!("# {}\n{}\n", file.name, text(&file.bytes)));
                    }
                    return Ok(ExitCode::SUCCESS);
                }
                install(options, service, &files, into.as_deref())
            }
            Self::Status { service } => {
                service.check()?;
                status(options, service)
            }
            Self::Remove { service } => {
                service.check()?;
                remove(options, service)
            }
        }
    }
}
