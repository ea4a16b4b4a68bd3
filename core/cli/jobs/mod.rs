//! `verger jobs`: the queue as rows.

mod changes;
mod show;

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::Subcommand;
use serde_json::json;
use verger::{BulkReport, JobFilter, JobId, JobState};

use self::changes::after_change;
pub(crate) use self::changes::{Changes, Which};
use self::show::{find, in_full, job_json, list, logged};
use crate::books::Books;
use crate::options::{Database, Options};
use crate::output::{counted, print, print_json};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The newest jobs, newest first
    List {
        #[command(flatten)]
        database: Database,
        /// Only in this state: scheduled, available, executing, retryable, completed, discarded or
        /// cancelled
        #[arg(long)]
        state: Option<JobState>,
        /// Only of this worker
        #[arg(long, value_name = "NAME")]
        worker: Option<String>,
        /// Only in this queue
        #[arg(long, value_name = "NAME")]
        queue: Option<String>,
        /// Only those that fit: TERM TERM …, see below
        ///
        /// A term is one of state=discarded,retryable worker=NAME queue=NAME schedule=NAME tag=WORD
        /// organization=ID args.PATH=VALUE error~TEXT text~TEXT id>=N id<N, and created, due,
        /// attempted or finished with >= > < <= and a time. A value with blanks or commas stands in
        /// double quotes.
        #[arg(long, value_name = "FILTER")]
        filter: Option<JobFilter>,
        /// Only before this id, to page backwards
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
        /// How many at most
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// One job with all there is to know about it
    Show {
        /// Its id
        id: i64,
        #[command(flatten)]
        database: Database,
    },
    /// Make jobs that failed, were cancelled or are completed due now
    Retry {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        database: Database,
    },
    /// Cancel jobs; one that is being performed is asked to stop
    Cancel {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        database: Database,
    },
    /// Delete jobs that are not being performed, with their logs
    ///
    /// The newest job of the file is emptied and cancelled instead: its id must not be given again.
    Delete {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        database: Database,
    },
    /// Change jobs that wait: when they are due, their priority; of one, its args, queue and tags too
    Edit {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        changes: Changes,
        #[command(flatten)]
        database: Database,
    },
}

impl Command {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        match self {
            Self::List { database, state, worker, queue, filter, before, limit } => {
                let mut filter = filter.clone().unwrap_or_default().state(*state);
                if let Some(worker) = worker {
                    filter = filter.worker(worker);
                }
                if let Some(queue) = queue {
                    filter = filter.queue(queue);
                }
                if let Some(before) = before {
                    filter = filter.before(JobId::from_number(*before));
                }
                list(&options.books_to_read(database)?, filter, *limit, options.json)?;
            }
            Self::Show { id, database } => {
                let verger = options.books_to_read(database)?;
                let (job, log) =
                    (find(&verger, *id, database)?, verger.job_log(JobId::from_number(*id))?);
                match options.json {
                    true => {
                        let mut json = job_json(&job);
                        json["log"] = serde_json::to_value(&log)?;
                        print_json(&json)?;
                    }
                    false => print(in_full(&job).into_iter().chain(logged(&log))),
                }
            }
            Self::Retry { which, database } => {
                if let Some(filter) = which.many()? {
                    let report = options.open(database)?.retry_all(filter, which.mode())?;
                    return told(&report, which, "retried", options);
                }
                let verger = options.books_to_change(database)?;
                let id = which.one();
                if !verger.retry(JobId::from_number(id))? {
                    bail!(
                        "job {id} is {}: it cannot be retried",
                        find(&verger, id, database)?.state
                    );
                }
                after_change(&verger, id, database, options, "is due now")?;
            }
            Self::Cancel { which, database } => {
                if let Some(filter) = which.many()? {
                    let report = options.open(database)?.cancel_all(filter, which.mode())?;
                    return told(&report, which, "cancelled, or asked to stop", options);
                }
                let verger = options.books_to_change(database)?;
                let id = which.one();
                if !verger.cancel(JobId::from_number(id))? {
                    bail!(
                        "job {id} is {} already: it cannot be cancelled",
                        find(&verger, id, database)?.state
                    );
                }
                after_change(
                    &verger,
                    id,
                    database,
                    options,
                    "is cancelled, or was asked to stop if it is being performed",
                )?;
            }
            Self::Delete { which, database } => {
                let verger = options.open(database)?;
                if let Some(filter) = which.many()? {
                    let report = verger.delete_all(filter, which.mode())?;
                    return told(&report, which, "deleted", options);
                }
                let id = which.one();
                if !verger.delete(JobId::from_number(id))? {
                    bail!(
                        "job {id} is {}: it cannot be deleted",
                        find(&Books::File(verger), id, database)?.state
                    );
                }
                match options.json {
                    true => print_json(&json!({"deleted": id}))?,
                    false => print([format!("job {id} is deleted")]),
                }
            }
            Self::Edit { which, changes, database } => {
                let verger = options.open(database)?;
                if let Some(filter) = which.many()? {
                    return changes.to_many(&verger, filter, which, options);
                }
                let id = which.one();
                let edit = changes.edit();
                ensure!(
                    !edit.is_empty(),
                    "nothing is to be changed: say --at, --priority, --args, --queue or --tag"
                );
                if !verger.edit(JobId::from_number(id), &edit)? {
                    find(&Books::File(verger.clone()), id, database)?;
                }
                after_change(&Books::File(verger), id, database, options, "is changed")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints what a verb did to many jobs.
fn told(report: &BulkReport, which: &Which, done: &str, options: &Options) -> Result<ExitCode> {
    if options.json {
        print_json(report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let ids = |jobs: &[JobId]| jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = if report.changed > report.first.len() as u64 { ", …" } else { "" };
    let named = match report.first.is_empty() {
        true => String::new(),
        false => format!(": {}{more}", ids(&report.first)),
    };
    let jobs = counted(report.changed, "job");
    print([match which.dry_run {
        true => format!("dry run: {jobs} would be {done}{named}"),
        false => format!("{jobs} {done}{named}"),
    }]);
    if report.skipped > 0 {
        print([format!("{} left as they are:", counted(report.skipped, "job"))]);
        print(report.reasons.iter().map(|left| format!("  job {}: {}", left.job, left.reason)));
    }
    Ok(ExitCode::SUCCESS)
}
