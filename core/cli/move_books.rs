//! `verger move`: the books of a file into a PostgreSQL database.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use verger::postgres::{self, Moved};

use crate::options::{Options, is_address};
use crate::output::{counted, print, print_json};

#[derive(Args)]
pub(crate) struct Move {
    /// The SQLite file, which nobody may have open
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The PostgreSQL database: postgres://user@host/name
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// Move this table of the app's too; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "all_tables")]
    table: Vec<String>,
    /// Move all tables of the app's too
    #[arg(long)]
    all_tables: bool,
    /// Do everything, and then undo it; the tables that the database lacks are made
    #[arg(long)]
    dry_run: bool,
}

impl Move {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        ensure!(options.key_command.is_none(), "an encrypted file is not moved yet");
        ensure!(
            is_address(&self.to),
            "--to is no address of a database: postgres://user@host/name"
        );
        ensure!(self.from.exists(), "there is no file {}", self.from.display());
        let mut books = postgres::Move::new(&self.from, &self.to);
        if self.all_tables {
            books = books.all_tables();
        } else if !self.table.is_empty() {
            books = books.tables(&self.table);
        }
        if self.dry_run {
            books = books.dry_run();
        }
        let moved = books.run()?;
        match options.json {
            true => print_json(&json!({
                "dry_run": self.dry_run,
                "was_there": moved.was_there,
                "jobs": moved.jobs,
                "schedules": moved.schedules,
                "fires": moved.fires,
                "audit_rows": moved.audit_rows,
                "state": moved.state,
                "tables": moved.tables.iter().map(|(table, rows)| json!({"table": table, "rows": rows})).collect::<Vec<_>>(),
                "not_made": moved.not_made,
                "left": moved.left.iter().map(|(table, rows)| json!({"table": table, "rows": rows})).collect::<Vec<_>>(),
            }))?,
            false => print(self.in_words(&moved)),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn in_words(&self, moved: &Moved) -> Vec<String> {
        let begun = match (self.dry_run, moved.was_there) {
            (true, _) => "dry run, nothing is moved:",
            (false, true) => "moved by an earlier call, and the file is marked now:",
            (false, false) => "moved:",
        };
        let parts = [
            counted(moved.jobs, "job"),
            counted(moved.schedules, "schedule"),
            format!("{} of the ledger", counted(moved.fires, "row")),
            format!("{} of the audit log", counted(moved.audit_rows, "row")),
            format!("{} that workers keep", counted(moved.state, "value")),
        ];
        let mut lines = vec![format!("{begun} {}", parts.join(", "))];
        for (table, rows) in &moved.tables {
            lines.push(format!("the table {table}: {}", counted(*rows, "row")));
        }
        for part in &moved.not_made {
            lines.push(format!("not made, because it may mean something else there: {part}"));
        }
        for (table, rows) in &moved.left {
            lines.push(format!("stays in the file: {} of {table}", counted(*rows, "row")));
        }
        if !self.dry_run {
            let file = self.from.display();
            let tables = match self.all_tables {
                true => "",
                false => "; the app's other tables are there, and only there",
            };
            lines.push(format!("{file} is kept to be read only{tables}"));
        }
        lines
    }
}
