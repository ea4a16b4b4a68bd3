//! `verger config`: the file of settings.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;
use verger::{Change, Config};

use crate::failure::WORK_FAILED;
use crate::options::{Database, Options};
use crate::output::{counted, print, print_json, print_json_lines};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Whether a verger.toml is right: each fault with its line and column, and what is deprecated
    ///
    /// Exit status 1 when something is wrong; what is deprecated is not.
    Check,
    /// What it would change in its database: schedules new, changed and retired, grants without a
    /// worker; nothing is changed
    Diff {
        #[command(flatten)]
        database: Database,
    },
    /// Store its schedules in its database, and retire those of its set that it has no more
    ///
    /// An app that opens the file by `Verger::from_config` does so by itself; `verger start` and
    /// `verger tick` store those whose workers they have, and retire none. It is refused where a
    /// schedule or a grant is for a worker that only the app has: its own start applies them.
    Apply {
        #[command(flatten)]
        database: Database,
    },
    /// Print the JSON Schema of verger.toml, for editors
    Schema,
}

impl Command {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        match self {
            Self::Check => check(options),
            Self::Diff { database } => {
                let target = options.target(database)?;
                let changes = match &target.config {
                    Some(config) => config.difference_to(&options.open_to_read(database)?)?,
                    None => options.config()?.difference()?,
                };
                tell_changes(&changes, options)
            }
            Self::Apply { database } => {
                let config = match options.target(database)?.config {
                    Some(config) => config,
                    None => options.config()?,
                };
                let changes = config.difference_to(&options.open_to_read(database)?)?;
                config.builder()?.clock(options.clock()).open()?;
                tell_changes(&changes, options)
            }
            Self::Schema => {
                print_json(&Config::json_schema())?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn check(options: &Options) -> Result<ExitCode> {
    let path = options.config_path()?;
    let problems = Config::check(&path)?;
    let is_right = problems.iter().all(|problem| problem.is_deprecation);
    if options.json {
        print_json(&json!({"file": path, "ok": is_right, "problems": problems}))?;
    } else {
        print(problems.iter().map(|problem| format!("{}:{problem}", path.display())));
        print([match is_right {
            true => format!(
                "{}: it is right; `verger config diff` says what it would change",
                path.display()
            ),
            false => format!(
                "{}: {} to mend",
                path.display(),
                counted(
                    problems.iter().filter(|problem| !problem.is_deprecation).count() as u64,
                    "fault"
                )
            ),
        }]);
    }
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) })
}

fn tell_changes(changes: &[Change], options: &Options) -> Result<ExitCode> {
    match options.json {
        true => {
            let lines = changes.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
            print_json_lines(lines);
        }
        false if changes.is_empty() => print(["nothing changes"]),
        false => print(changes),
    }
    Ok(ExitCode::SUCCESS)
}
