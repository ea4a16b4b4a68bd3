//! The `verger` command.

#![allow(clippy::print_stdout, reason = "a command prints")]

mod plugin;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Durable jobs, cron schedules and an audit log in a SQLite file.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make and look at workers
    #[command(subcommand)]
    Plugin(plugin::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Plugin(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("verger: {error:#}");
            ExitCode::from(2)
        }
    }
}
