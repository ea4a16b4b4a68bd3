//! `verger run`: one performance, no queue.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value as Json, json};
use verger::{Outcome, PerformError, RowChange, TableChange};

use crate::failure::{self, WORK_FAILED};
use crate::input;
use crate::options::{Database, Options};
use crate::output::{brief, count, counted, print, print_json, tell};
use crate::table::{Side, Table};

#[derive(Args)]
pub(crate) struct Run {
    /// The worker's name
    worker: String,
    #[command(flatten)]
    database: Database,
    /// Its args, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = input::args)]
    args: Json,
    /// Roll everything back in the end, and print what would have changed, table by table
    #[arg(long)]
    dry_run: bool,
    /// Of a dry run, print the rows too: as they are, and as they would be
    #[arg(long, requires = "dry_run")]
    rows: bool,
}

impl Run {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        let verger = options.open(&self.database)?;
        let performed = match self.dry_run {
            true => verger.dry_run(&self.worker, self.args.clone()),
            false => verger.perform_now(&self.worker, self.args.clone()),
        };
        let performed = match performed {
            Ok(performed) => performed,
            Err(PerformError::Failed { worker, source }) if options.json => {
                let error = json!({"code": source.code, "message": source.message});
                print_json(&json!({"outcome": "failed", "result": null, "error": error}))?;
                tell(format!("verger: worker `{worker}` failed: {}", source.message));
                return Ok(ExitCode::from(WORK_FAILED));
            }
            Err(error) => {
                let error = anyhow::Error::new(error);
                tell(format!("verger: {}", failure::explain(&error)));
                return Ok(failure::exit_code(&error));
            }
        };
        let (outcome, result, error) = match &performed.outcome {
            Outcome::Done => ("done", Json::Null, Json::Null),
            Outcome::DoneWith(result) => ("done", result.clone(), Json::Null),
            Outcome::Snooze(seconds) => ("snooze", json!({"seconds": seconds}), Json::Null),
            Outcome::Cancel(reason) => {
                ("cancel", Json::Null, json!({"code": "cancelled", "message": reason}))
            }
            Outcome::Failed(error) | Outcome::Discard(error) => {
                let error = json!({"code": error.code(), "message": error.message()});
                ("failed", Json::Null, error)
            }
        };
        if options.json {
            let mut answer = json!({"outcome": outcome, "result": result, "error": error});
            if self.dry_run {
                answer["changes"] = serde_json::to_value(&performed.changes)?;
                if self.rows {
                    answer["rows"] = serde_json::to_value(&performed.rows)?;
                }
            }
            print_json(&answer)?;
        } else {
            let said = match &performed.outcome {
                Outcome::DoneWith(result) => format!("done: {}", brief(result)),
                Outcome::Snooze(seconds) => {
                    format!("snooze: it asks to be called again in {seconds} s")
                }
                Outcome::Cancel(reason) => format!("cancel: {reason}"),
                _ => outcome.to_string(),
            };
            let took = performed.elapsed.as_secs_f64() * 1_000.0;
            print([format!("{said} ({took:.1} ms)")]);
            if self.dry_run {
                print(would_have_changed(&performed.changes, performed.audited).lines());
                if self.rows {
                    print(performed.rows.iter().map(in_words));
                    let changed: u64 = performed
                        .changes
                        .iter()
                        .map(|table| table.inserted + table.updated + table.deleted)
                        .sum();
                    let hidden = changed.saturating_sub(performed.rows.len() as u64);
                    // Verger's own rows are counted, and never shown.
                    match (hidden, performed.rows.is_empty()) {
                        (0, _) => {}
                        (_, true) => print(["none of the changed rows is shown"]),
                        (_, false) => print([format!(
                            "and {} that are not shown",
                            counted(hidden, "more change")
                        )]),
                    }
                }
            } else {
                print([format!(
                    "{} changed, {} written",
                    counted(performed.rows_changed, "row"),
                    counted(performed.audited, "audit row")
                )]);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A row that would have been changed, on one line. For an update, the columns that differ.
fn in_words(row: &RowChange) -> String {
    let RowChange { table, rowid, .. } = row;
    let text = |value: Option<&Json>| value.unwrap_or(&Json::Null).to_string();
    match (&row.before, &row.after) {
        (None, Some(after)) => format!("+ {table} {rowid}: {after}"),
        (Some(before), None) => format!("- {table} {rowid}: {before}"),
        (Some(before), Some(after)) => {
            let columns = after.as_object().into_iter().flatten();
            let changed =
                columns.filter(|(name, value)| before.get(name.as_str()) != Some(*value)).map(
                    |(name, value)| format!("{name} {} → {value}", text(before.get(name.as_str()))),
                );
            format!("~ {table} {rowid}: {}", changed.collect::<Vec<_>>().join(", "))
        }
        (None, None) => format!("  {table} {rowid}"),
    }
}

fn would_have_changed(changes: &[TableChange], audited: u64) -> String {
    let audit = format!("It would have written {}.\n", counted(audited, "audit row"));
    if changes.is_empty() {
        return format!(
            "Dry run: everything was rolled back. It would have changed no table. {audit}"
        );
    }
    let mut table = Table::new(&[
        ("TABLE", Side::Left),
        ("INSERTED", Side::Right),
        ("UPDATED", Side::Right),
        ("DELETED", Side::Right),
    ]);
    for change in changes {
        table.row([
            change.table.clone(),
            count(change.inserted),
            count(change.updated),
            count(change.deleted),
        ]);
    }
    format!(
        "Dry run: everything was rolled back. It would have changed these rows:\n{}{audit}",
        table.into_text()
    )
}
