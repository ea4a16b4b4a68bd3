//! `verger audit`: the audit log.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value as Json, json};
use verger::{AuditFilter, AuditRow, ChainError, Verger, Verified};

use crate::books::Books;
use crate::failure::WORK_FAILED;
use crate::options::{Database, Options};
use crate::output::{
    brief, counted, is_read, plain, print, print_json, print_json_lines, row, tell,
};
use crate::progress::with_spinner;
use crate::table::{Side, Table};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The newest events, newest first
    List {
        #[command(flatten)]
        database: Database,
        /// Only this action, such as membership.updated
        #[arg(long)]
        action: Option<String>,
        /// Only of this organization
        #[arg(long, value_name = "ID")]
        organization: Option<String>,
        /// Only what this worker did
        #[arg(long, value_name = "NAME")]
        worker: Option<String>,
        /// Only what was done in this job
        #[arg(long, value_name = "ID")]
        job: Option<i64>,
        /// Only before this id, to page backwards
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
        /// How many at most
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// Read the whole log and check its hash chain: has anyone changed, added or removed a row?
    Verify {
        #[command(flatten)]
        database: Database,
    },
    /// Print the whole log, oldest first, as one JSON object a line with all columns: a copy to
    /// keep elsewhere
    ///
    /// Kept where those who may write to the database cannot, it shows what no check of the file
    /// alone can: a log that someone made anew.
    Export {
        #[command(flatten)]
        database: Database,
        /// Only rows behind this id: to go on with a copy
        #[arg(long, value_name = "ID", default_value_t = 0)]
        after: i64,
    },
}

impl Command {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        match self {
            Self::List { database, action, organization, worker, job, before, limit } => {
                let filter = AuditFilter {
                    action: action.clone(),
                    organization_id: organization.clone(),
                    worker: worker.clone(),
                    job: *job,
                    before_id: *before,
                };
                list(&options.books_to_read(database)?, filter, *limit, options.json)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Verify { database } => verify(database, options),
            Self::Export { database, after } => export(&options.open_to_read(database)?, *after),
        }
    }
}

fn verify(database: &Database, options: &Options) -> Result<ExitCode> {
    let told = |verified: Option<Verified>, broken_at: Option<i64>, missing: Option<i64>| {
        print_json(&json!({
            "verified": verified.is_some(),
            "rows": verified.map(|verified| verified.rows),
            "pruned": verified.map(|verified| verified.pruned),
            "broken_at": broken_at,
            "missing": missing,
        }))
    };
    let verger = options.books_to_read(database)?;
    let error = match with_spinner("reading the log", || verger.verify_audit()) {
        Ok(verified) => {
            match options.json {
                true => told(Some(verified), None, None)?,
                false => print([in_words(verified)]),
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => error,
    };
    match error {
        ChainError::Broken { id, .. } if options.json => told(None, Some(id), None)?,
        ChainError::Missing { kept, last, .. } if options.json => {
            told(None, Some(kept + 1), Some(last - kept))?
        }
        error => return Err(error.into()),
    }
    tell(format!("verger: {error}"));
    Ok(ExitCode::from(WORK_FAILED))
}

fn in_words(verified: Verified) -> String {
    let before = match verified.pruned {
        0 => String::new(),
        pruned => format!("; retention removed {} before them", counted(pruned, "row")),
    };
    format!("{}, the hash chain is whole{before}", counted(verified.rows, "row"))
}

/// Rows read at once.
const PAGE: u32 = 1_000;

fn export(verger: &Verger, mut after: i64) -> Result<ExitCode> {
    while is_read() {
        let page = verger.audit_log_after(after, PAGE)?;
        print_json_lines(page.iter().map(audit_json));
        match page.last() {
            Some(last) => after = last.id,
            None => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn audit_json(event: &AuditRow) -> Json {
    row(event, &["before", "after", "metadata"])
}

/// Lists page by page, as long as somebody reads.
fn list(verger: &Books, mut filter: AuditFilter, mut limit: u32, json: bool) -> Result<()> {
    let mut table = Table::new(&[
        ("ID", Side::Right),
        ("OCCURRED AT", Side::Left),
        ("ACTION", Side::Left),
        ("OUTCOME", Side::Left),
        ("ORGANIZATION", Side::Left),
        ("SUBJECT", Side::Left),
        ("WHAT", Side::Left),
    ]);
    let mut any = false;
    while limit > 0 && is_read() {
        let events = verger.audit_log(&filter, limit.min(PAGE))?;
        let Some(last) = events.last() else { break };
        (any, limit) = (true, limit.saturating_sub(PAGE));
        filter.before_id = Some(last.id);
        if json {
            print_json_lines(events.iter().map(audit_json));
        } else {
            events.iter().for_each(|event| table.row(cells(event)));
            print(table.lines());
        }
    }
    if !any && !json {
        print(["no events"]);
    }
    Ok(())
}

fn cells(event: &AuditRow) -> [String; 7] {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_string());
    [
        event.id.to_string(),
        event.occurred_at.to_string(),
        event.action.clone(),
        event.outcome.clone(),
        or_dash(&event.organization_id),
        or_dash(&event.subject_id),
        what(event),
    ]
}

/// What an event says beyond its action: the change, or its metadata.
pub(crate) fn what(event: &AuditRow) -> String {
    let told = |text: &Option<String>| {
        text.as_deref().map(|text| {
            serde_json::from_str::<Json>(text)
                .map_or_else(|_| text.to_string(), |json| brief(&json))
        })
    };
    let one = |text: &Option<String>| {
        serde_json::from_str::<BTreeMap<String, Json>>(text.as_deref()?)
            .ok()
            .filter(|state| state.len() == 1)?
            .pop_first()
    };
    if let (Some((key, before)), Some((same, after))) = (one(&event.before), one(&event.after))
        && key == same
    {
        return format!("{key} {} → {}", plain(&before), plain(&after));
    }
    match (told(&event.before), told(&event.after), told(&event.metadata)) {
        (Some(before), Some(after), _) => format!("{before} → {after}"),
        (Some(before), None, _) => format!("was {before}"),
        (None, Some(after), _) => format!("now {after}"),
        (None, None, Some(metadata)) => metadata,
        (None, None, None) => String::new(),
    }
}
