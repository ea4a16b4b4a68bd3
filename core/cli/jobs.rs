//! `verger jobs`: the queue as rows.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::Value as Json;
use verger::{Job, JobFilter, JobId, JobState, Verger};

use crate::options::{Database, Options};
use crate::output::{brief, is_read, opt_time, print, print_json, print_json_lines, row};
use crate::table::{Side, Table};

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
    /// Make a job that failed, was cancelled or is completed due now
    Retry {
        /// Its id
        id: i64,
        #[command(flatten)]
        database: Database,
    },
    /// Cancel a job; one that is being performed is asked to stop
    Cancel {
        /// Its id
        id: i64,
        #[command(flatten)]
        database: Database,
    },
}

impl Command {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        match self {
            Self::List { database, state, worker, queue, before, limit } => {
                let mut filter = JobFilter::new().state(*state);
                if let Some(worker) = worker {
                    filter = filter.worker(worker);
                }
                if let Some(queue) = queue {
                    filter = filter.queue(queue);
                }
                if let Some(before) = before {
                    filter = filter.before(JobId::from_number(*before));
                }
                list(&options.open_to_read(database)?, filter, *limit, options.json)?;
            }
            Self::Show { id, database } => {
                let job = find(&options.open_to_read(database)?, *id, database)?;
                match options.json {
                    true => print_json(&job_json(&job))?,
                    false => print(in_full(&job)),
                }
            }
            Self::Retry { id, database } => {
                let verger = options.open(database)?;
                if !verger.retry(JobId::from_number(*id))? {
                    bail!(
                        "job {id} is {}: it cannot be retried",
                        find(&verger, *id, database)?.state
                    );
                }
                after_change(&verger, *id, database, options, "is due now")?;
            }
            Self::Cancel { id, database } => {
                let verger = options.open(database)?;
                if !verger.cancel(JobId::from_number(*id))? {
                    bail!(
                        "job {id} is {} already: it cannot be cancelled",
                        find(&verger, *id, database)?.state
                    );
                }
                after_change(
                    &verger,
                    *id,
                    database,
                    options,
                    "is cancelled, or was asked to stop if it is being performed",
                )?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn find(verger: &Verger, id: i64, database: &Database) -> Result<Job> {
    verger.job(JobId::from_number(id))?.with_context(|| match &database.db {
        Some(file) => {
            let file = file.display();
            format!(
                "there is no job {id} in {file}; `verger jobs list --db {file}` names the newest"
            )
        }
        None => format!("there is no job {id}; `verger jobs list` names the newest"),
    })
}

fn after_change(
    verger: &Verger,
    id: i64,
    database: &Database,
    options: &Options,
    said: &str,
) -> Result<()> {
    match options.json {
        true => print_json(&job_json(&find(verger, id, database)?)),
        false => {
            print([format!("job {id} {said}")]);
            Ok(())
        }
    }
}

fn job_json(job: &Job) -> Json {
    row(job, &[])
}

/// Rows read at once.
const PAGE: u32 = 500;

/// Lists page by page, as long as somebody reads: a million jobs take no more memory than a page.
fn list(verger: &Verger, mut filter: JobFilter, mut limit: u32, json: bool) -> Result<()> {
    let mut table = Table::new(&[
        ("ID", Side::Right),
        ("STATE", Side::Left),
        ("WORKER", Side::Left),
        ("TRIES", Side::Right),
        ("DUE OR FINISHED", Side::Left),
        ("RESULT OR LAST ERROR", Side::Left),
    ]);
    let mut any = false;
    while limit > 0 && is_read() {
        let jobs = verger.jobs(&filter, limit.min(PAGE))?;
        let Some(last) = jobs.last() else { break };
        (any, limit) = (true, limit.saturating_sub(PAGE));
        filter = filter.before(last.id);
        if json {
            print_json_lines(jobs.iter().map(job_json));
        } else {
            jobs.iter().for_each(|job| table.row(cells(job)));
            print(table.lines());
        }
    }
    if !any && !json {
        print(["no jobs"]);
    }
    Ok(())
}

fn cells(job: &Job) -> [String; 6] {
    let error = || job.errors.last().map(|error| error.message.clone());
    [
        job.id.to_string(),
        state_in_words(job),
        job.worker.clone(),
        format!("{}/{}", job.attempt, job.max_attempts),
        job.finished_at.unwrap_or(job.due_at).to_string(),
        job.result.as_ref().map(brief).or_else(error).unwrap_or_default(),
    ]
}

/// The state; of a job that waits for another process, that too.
fn state_in_words(job: &Job) -> String {
    let parked = if job.parked { ", parked" } else { "" };
    format!("{}{parked}", job.state)
}

fn in_full(job: &Job) -> Vec<String> {
    let mut lines = vec![
        ("job", job.id.to_string()),
        ("worker", job.worker.clone()),
        ("state", state_in_words(job)),
        ("args", job.args.to_string()),
        ("queue", format!("{}, priority {}", job.queue, job.priority)),
        ("due", job.due_at.to_string()),
        ("created", job.created_at.to_string()),
        ("attempted", opt_time(job.attempted_at)),
        ("finished", opt_time(job.finished_at)),
        ("attempts", format!("{} of {}", job.attempt, job.max_attempts)),
    ];
    if job.snoozes > 0 {
        lines.push(("snoozes", job.snoozes.to_string()));
    }
    if let (Some(schedule), Some(slot)) = (&job.schedule, job.slot) {
        let missed = if job.missed > 0 {
            format!(", standing for {} missed slots too", job.missed)
        } else {
            String::new()
        };
        lines.push(("schedule", format!("{schedule}, slot {slot}{missed}")));
    }
    if let Some(until) = job.lease_until {
        lines.push(("lease until", until.to_string()));
    }
    if let Some(done) = job.progress_done {
        let total = job
            .progress_total
            .filter(|total| *total > 0)
            .map(|total| format!(" of {total}"))
            .unwrap_or_default();
        lines.push(("progress", format!("{done}{total}")));
    }
    if let Some(result) = &job.result {
        lines.push(("result", result.to_string()));
    }
    for error in &job.errors {
        lines.push((
            "error",
            format!("attempt {}, {}: {} [{}]", error.attempt, error.at, error.message, error.code),
        ));
    }
    lines.iter().map(|(name, value)| format!("{name:<12}{value}")).collect()
}
