//! `verger completions` and `verger man`: texts for shells and readers, made from the parser.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::output::{print, print_text};

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "verger", &mut script);
        print_text(&String::from_utf8(script)?);
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Args)]
pub(crate) struct Man {
    /// Write a page for each verb into this folder
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let command = Cli::command();
        match &self.into {
            Some(folder) => {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make the folder {}", folder.display()))?;
                clap_mangen::generate_to(command, folder)
                    .with_context(|| format!("cannot write into {}", folder.display()))?;
                print([format!(
                    "written into {}; `man -l {0}/verger.1` shows the first",
                    folder.display()
                )]);
            }
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(command).render(&mut page)?;
                print_text(&String::from_utf8(page)?);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
