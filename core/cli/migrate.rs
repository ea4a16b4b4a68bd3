//! `verger migrate`: the tables of a file.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use crate::options::{Database, Options};
use crate::output::{print, print_json};

#[derive(Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    database: Database,
    /// Also make the domain tables that the built-in workers serve by default
    #[arg(long)]
    reference: bool,
}

impl Migrate {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        #[cfg(feature = "postgres")]
        if let Some(address) = self.database.address() {
            return self.of_server(address, options);
        }
        let file = &options.target(&self.database)?.file;
        ensure!(!file.is_dir(), "{} is a folder, not a database", file.display());
        let verger = options.builder(file)?.without_built_ins().open()?;
        if self.reference {
            verger.migrate_reference()?;
        }
        let sets: &[&str] = if self.reference { &["engine", "reference"] } else { &["engine"] };
        match options.json {
            true => print_json(&json!({"db": file, "up_to_date": sets}))?,
            false => print([format!(
                "{}: the {} tables are up to date",
                file.display(),
                sets.join(" and the ")
            )]),
        }
        Ok(ExitCode::SUCCESS)
    }

    #[cfg(feature = "postgres")]
    fn of_server(&self, address: &str, options: &Options) -> Result<ExitCode> {
        ensure!(
            !self.reference,
            "the domain tables on PostgreSQL are for the app's own migrations: verger::postgres::REFERENCE_TABLES is their SQL"
        );
        verger::postgres::Verger::builder(address).schedule_set("verger command").open()?;
        match options.json {
            true => print_json(&json!({"up_to_date": ["engine"]}))?,
            false => print(["the engine tables of the database are up to date"]),
        }
        Ok(ExitCode::SUCCESS)
    }
}
