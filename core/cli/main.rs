//! The `verger` command.

// Everything is printed through `output`, which escapes it and survives a reader that goes away.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod audit;
mod books;
mod clock;
mod completions;
mod config;
mod demo;
mod doctor;
mod enqueue;
mod escape;
mod events;
mod failure;
mod grants;
mod input;
mod jobs;
mod key;
#[cfg(feature = "postgres")]
mod local_postgres;
mod migrate;
#[cfg(feature = "postgres")]
mod move_books;
mod options;
mod output;
mod plugin;
mod progress;
mod queue;
#[cfg(test)]
mod reference;
mod run;
mod schedule;
mod service;
mod start;
mod table;
mod tick;
mod ui;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use options::Options;
use output::tell;

/// Durable jobs, cron schedules and an audit log, in a SQLite file or in PostgreSQL.
///
/// Exit status: 0 done, 1 the work failed, 2 bad usage or input (nothing was done), 3 done, but
/// what it prints could not be written. Times are RFC 3339 in UTC. With --json, lists print one
/// object per line, with the column names of the tables; `schedule next` prints one array, and
/// everything else one object. What others wrote is exact in JSON, and escaped otherwise.
#[derive(Parser)]
#[command(name = "verger", version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Live through a week of a realistic organisation in seconds, and leave the file to look at
    ///
    /// 200 organisations with 20,000 invitations, 20,000 memberships and 50,000 webhook events. The
    /// three built-in workers run on their suggested schedules. Killed midway and run again, the
    /// demo goes on where it was. The same seed gives the same rows and the same audit log, byte
    /// for byte.
    #[command(verbatim_doc_comment)]
    Demo(demo::Demo),
    /// Perform a worker once, with no queue
    Run(run::Run),
    /// Make one pass: fire what is due, perform it, clean up
    Tick(tick::Tick),
    /// Tick whenever something is due, until SIGINT or SIGTERM
    Start(start::Start),
    /// Put a job into the queue
    Enqueue(enqueue::Enqueue),
    /// Look at jobs; retry, cancel, edit or delete one, or many
    #[command(subcommand)]
    Jobs(Box<jobs::Command>),
    /// What happened: ends and failures of jobs, slots that made none, paused queues
    Events(events::Events),
    /// Look at queues, pause or resume one
    #[command(subcommand)]
    Queue(queue::Command),
    /// Preview an expression, look at stored schedules, change them
    #[command(subcommand)]
    Schedule(schedule::Command),
    /// Look at the audit log and check it
    #[command(subcommand)]
    Audit(audit::Command),
    /// Bring the tables of a file up to date; the file is made when it is not there
    Migrate(migrate::Migrate),
    /// Move jobs, schedules, ledger and audit log of a file into a PostgreSQL database, once
    ///
    /// They keep their ids, and are verified on both sides. Killed at any point, the same command
    /// finds out how far it came. The app's own tables come along with --all-tables, if every
    /// value has an exact place there.
    #[cfg(feature = "postgres")]
    Move(move_books::Move),
    /// What is wrong with a file, and the command that mends it
    ///
    /// It works on any file: one that is damaged, another program's, or none. Nothing is changed
    /// unless --fix says so. Exit status 1 when something is wrong; notes are not.
    Doctor(doctor::Doctor),
    /// Show a page with what runs, what failed and why, and what comes next
    ///
    /// On a port of this machine, for whoever has the address that it prints. It only shows, unless
    /// --allow-changes lets it change jobs, queues and schedules and decide what plugins may do.
    Ui(ui::Ui),
    /// Check a verger.toml, and what it would change
    #[command(subcommand)]
    Config(config::Command),
    /// Have what is due done while the app is closed, by the system's timer
    #[command(subcommand)]
    Service(service::Command),
    /// Print what completes the command in a shell: `verger completions bash > FILE`
    Completions(completions::Completions),
    /// Print the manual page, or write a page for each verb
    Man(completions::Man),
    /// Make and look at workers
    #[command(subcommand)]
    Plugin(plugin::Command),
}

impl Command {
    fn run(&self, options: &Options) -> Result<ExitCode> {
        match self {
            Self::Demo(demo) => demo.run(options),
            Self::Run(run) => run.run(options),
            Self::Tick(tick) => tick.run(options),
            Self::Start(start) => start.run(options),
            Self::Enqueue(enqueue) => enqueue.run(options),
            Self::Jobs(command) => command.run(options),
            Self::Events(events) => events.run(options),
            Self::Queue(command) => command.run(options),
            Self::Schedule(command) => command.run(options),
            Self::Audit(command) => command.run(options),
            Self::Migrate(migrate) => migrate.run(options),
            Self::Doctor(doctor) => doctor.run(options),
            Self::Ui(ui) => ui.run(options),
            #[cfg(feature = "postgres")]
            Self::Move(verb) => verb.run(options),
            Self::Config(command) => command.run(options),
            Self::Service(command) => command.run(options),
            Self::Completions(completions) => completions.run(),
            Self::Man(man) => man.run(),
            Self::Plugin(command) => command.run(options),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::log_to_stderr(matches!(cli.command, Command::Start(_)));
    let code = cli.command.run(&cli.options).unwrap_or_else(|error| {
        tell(format!("verger: {}", failure::explain(&error)));
        failure::exit_code(&error)
    });
    match output::lost() {
        Some(why) if code == ExitCode::SUCCESS => {
            tell(format!("verger: it is done, but what it prints could not be written: {why}"));
            ExitCode::from(failure::OUTPUT_LOST)
        }
        _ => code,
    }
}
