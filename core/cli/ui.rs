//! `verger ui`: the page, on a port of this machine.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use verger_ui::Server;

use crate::options::{Database, Options};
use crate::output::{print, print_json, tell};

#[derive(Args)]
pub(crate) struct Ui {
    #[command(flatten)]
    database: Database,
    /// Let the page change things
    #[arg(long)]
    allow_changes: bool,
    /// The port; any that is free when left out
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
}

impl Ui {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        ensure!(options.now.is_none(), "the page goes by the system's clock: leave --now out");
        let mut ui = verger_ui::Ui::new();
        let verger = match self.allow_changes {
            true => {
                ui = ui.allow_changes();
                options.open(&self.database)?
            }
            false => options.open_to_read(&self.database)?,
        };
        let server = Server::bind(ui, self.port)?;
        let stopper = server.stopper();
        ctrlc::set_handler(move || stopper.stop()).context("cannot listen for signals")?;
        match options.json {
            true => print_json(&json!({"url": server.url()}))?,
            false => print([server.url()]),
        }
        tell("verger: open this address in a browser of this machine; stop with Ctrl-C");
        server.serve(&verger);
        Ok(ExitCode::SUCCESS)
    }
}
