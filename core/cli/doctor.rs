//! `verger doctor`: what is wrong with a file, and what mends it.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use verger::{Diagnosis, Facts, Finding, Severity};

use crate::failure::WORK_FAILED;
use crate::options::{Database, Options};
use crate::output::{count, counted, print, print_json};
use crate::progress::with_spinner;
use crate::table::{Side, Table};

#[derive(Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    database: Database,
    /// Read a large file whole, too: its pages, the room of its tables, its audit log
    #[arg(long)]
    thorough: bool,
    /// Mend what loses nothing and changes no choice of the app's; with a code, the findings of
    /// that code
    #[arg(long, value_name = "CODE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    fix: Option<String>,
}

impl Doctor {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        let mut doctor = options.doctor(&self.database)?;
        if self.thorough {
            doctor = doctor.thorough();
        }
        let mut fixed = Vec::new();
        if let Some(code) = &self.fix {
            let code = Some(code.as_str()).filter(|code| !code.is_empty());
            fixed = doctor.fix(code)?;
            if let Some(code) = code.filter(|_| fixed.is_empty()) {
                bail!(
                    "there is no finding `{code}` that --fix can mend: `verger doctor` names them"
                );
            }
        }
        let diagnosis = with_spinner("reading the file", || doctor.examine());
        if options.json {
            let mut json = serde_json::to_value(&diagnosis)?;
            json["well"] = json!(diagnosis.is_well());
            json["fixed"] = serde_json::to_value(&fixed)?;
            print_json(&json)?;
        } else {
            print(fixed.iter().map(|fixed| format!("mended {}: {}", fixed.code, fixed.done)));
            print(in_words(&diagnosis));
        }
        Ok(if diagnosis.is_well() { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) })
    }
}

fn in_words(diagnosis: &Diagnosis) -> Vec<String> {
    let mut lines = measured(&diagnosis.facts);
    for finding in &diagnosis.findings {
        lines.extend(finding_in_words(finding));
    }
    let wrong = diagnosis.findings.iter().filter(|found| found.severity != Severity::Note).count();
    lines.push(match wrong {
        0 => format!("{}: nothing is wrong", diagnosis.file.display()),
        _ => format!("{}: {} to mend", diagnosis.file.display(), counted(wrong as u64, "thing")),
    });
    lines
}

fn finding_in_words(finding: &Finding) -> Vec<String> {
    let mut lines = vec![format!("{} [{}] {}", finding.severity, finding.code, finding.message)];
    if let Some(mend) = &finding.mend {
        lines.push(format!("    {mend}"));
    }
    lines
}

fn measured(facts: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(file), Some(mode)) = (facts.file_bytes, &facts.journal_mode) {
        lines.push(format!(
            "file {} bytes, {} of them free; log {} bytes; journal {mode}, pages of {} bytes; SQLite {}",
            count(file),
            count(facts.free_bytes.unwrap_or_default()),
            count(facts.log_bytes.unwrap_or_default()),
            count(facts.page_bytes.unwrap_or_default()),
            facts.sqlite
        ));
    }
    if !facts.jobs.is_empty() {
        let jobs: Vec<String> = facts
            .jobs
            .iter()
            .filter(|(_, number)| **number > 0)
            .map(|(state, number)| format!("{} {state}", count(*number)))
            .collect();
        let jobs = if jobs.is_empty() { "none".to_string() } else { jobs.join(", ") };
        let open = match facts.is_open {
            Some(true) => "a process has the file open",
            Some(false) => "no process has the file open",
            None => "in memory",
        };
        lines.push(format!("jobs: {jobs}; {open}"));
    }
    if !facts.tables.is_empty() {
        let mut table = Table::new(&[
            ("TABLE", Side::Left),
            ("ROWS", Side::Right),
            ("BYTES", Side::Right),
            ("UNUSED", Side::Right),
        ]);
        for room in facts.tables.iter().take(12) {
            table.row([
                room.table.clone(),
                room.rows.map_or_else(|| "-".to_string(), count),
                count(room.bytes),
                count(room.unused_bytes),
            ]);
        }
        lines.extend(table.lines());
    }
    lines
}
