//! `verger jobs`: the queue as rows.

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use verger::{
    BulkMode, BulkReport, Job, JobEdit, JobFilter, JobId, JobLog, JobState, Timestamp, Verger,
};

use crate::input;
use crate::options::{Database, Options};
use crate::output::{brief, counted, is_read, opt_time, print, print_json, print_json_lines, row};
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

/// One job, or many.
#[derive(Args)]
pub(crate) struct Which {
    /// The id of the job
    #[arg(required_unless_present = "filter")]
    id: Option<i64>,
    /// All jobs that fit, as `jobs list --filter` lists them
    #[arg(long, value_name = "FILTER", conflicts_with = "id")]
    filter: Option<JobFilter>,
    /// Only say how many there are, and which are the first
    #[arg(long, requires = "filter")]
    dry_run: bool,
}

/// What is to be another.
#[derive(Args)]
pub(crate) struct Changes {
    /// Not before this time
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    at: Option<Timestamp>,
    /// From 0, first, to 9, last
    #[arg(long, value_name = "N")]
    priority: Option<u8>,
    /// The args, in place of the old ones
    #[arg(long, value_name = "JSON|FILE", value_parser = input::args, conflicts_with = "filter")]
    args: Option<Json>,
    /// The queue
    #[arg(long, value_name = "NAME", conflicts_with = "filter")]
    queue: Option<String>,
    /// The tags, in place of the old ones; may be given several times
    #[arg(long, value_name = "WORD", conflicts_with = "filter")]
    tag: Vec<String>,
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
                list(&options.open_to_read(database)?, filter, *limit, options.json)?;
            }
            Self::Show { id, database } => {
                let verger = options.open_to_read(database)?;
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
                let verger = options.open(database)?;
                if let Some(filter) = which.many()? {
                    return told(
                        &verger.retry_all(filter, which.mode())?,
                        which,
                        "retried",
                        options,
                    );
                }
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
                let verger = options.open(database)?;
                if let Some(filter) = which.many()? {
                    let report = verger.cancel_all(filter, which.mode())?;
                    return told(&report, which, "cancelled, or asked to stop", options);
                }
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
                        find(&verger, id, database)?.state
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
                    find(&verger, id, database)?;
                }
                after_change(&verger, id, database, options, "is changed")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Which {
    /// Those that are meant, where it is not one.
    fn many(&self) -> Result<Option<&JobFilter>> {
        if let Some(filter) = &self.filter {
            ensure!(
                *filter != JobFilter::new(),
                "the filter is empty and would mean every job: say so with id>=0"
            );
        }
        Ok(self.filter.as_ref())
    }

    fn one(&self) -> i64 {
        // The parser asks for it where there is no filter.
        self.id.unwrap_or_default()
    }

    fn mode(&self) -> BulkMode {
        if self.dry_run { BulkMode::DryRun } else { BulkMode::Apply }
    }
}

impl Changes {
    fn edit(&self) -> JobEdit {
        let mut edit = JobEdit::new();
        if let Some(at) = self.at {
            edit = edit.at(at);
        }
        if let Some(priority) = self.priority {
            edit = edit.priority(priority);
        }
        if let Some(args) = &self.args {
            edit = edit.args(args.clone());
        }
        if let Some(queue) = &self.queue {
            edit = edit.queue(queue);
        }
        if !self.tag.is_empty() {
            edit = edit.tags(&self.tag);
        }
        edit
    }

    fn to_many(
        &self,
        verger: &Verger,
        filter: &JobFilter,
        which: &Which,
        options: &Options,
    ) -> Result<ExitCode> {
        let report = match (self.at, self.priority) {
            (Some(at), None) => verger.reschedule_all(filter, at, which.mode())?,
            (None, Some(priority)) => verger.set_priority_all(filter, priority, which.mode())?,
            _ => bail!("of many jobs one thing is changed at a time: say --at or --priority"),
        };
        told(&report, which, "changed", options)
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

/// What a worker logged, line by line.
fn logged(log: &[JobLog]) -> Vec<String> {
    let mut lines = Vec::new();
    for JobLog { attempt, dropped, lines: logged, .. } in log {
        lines.push(format!("log of attempt {attempt}"));
        if *dropped > 0 {
            lines.push(format!(
                "  ({} before these were dropped)",
                counted((*dropped).into(), "line")
            ));
        }
        lines.extend(
            logged.iter().map(|line| format!("  {} {:<5} {}", line.at, line.level, line.text)),
        );
    }
    lines
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
        ("version", format!("{} of the args", job.args_version)),
        ("queue", format!("{}, priority {}", job.queue, job.priority)),
        ("due", job.due_at.to_string()),
        ("created", job.created_at.to_string()),
        ("attempted", opt_time(job.attempted_at)),
        ("finished", opt_time(job.finished_at)),
        ("attempts", format!("{} of {}", job.attempt, job.max_attempts)),
    ];
    if let Some(why) = &job.parked_because {
        lines.push(("parked", why.clone()));
    }
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
    if !job.tags.is_empty() {
        lines.push(("tags", job.tags.join(", ")));
    }
    if let Some(meta) = &job.meta {
        lines.push(("meta", meta.to_string()));
    }
    if let Some(traceparent) = &job.traceparent {
        lines.push(("traceparent", traceparent.clone()));
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
