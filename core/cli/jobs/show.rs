//! A job, or many, as they are printed.

use anyhow::{Context, Result};
use serde_json::Value as Json;
use verger::{Job, JobFilter, JobId, JobLog};

use crate::books::Books;
use crate::options::Database;
use crate::output::{brief, counted, is_read, opt_time, print, print_json_lines, row};
use crate::table::{Side, Table};

/// What a worker logged, line by line.
pub(super) fn logged(log: &[JobLog]) -> Vec<String> {
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

pub(super) fn find(verger: &Books, id: i64, database: &Database) -> Result<Job> {
    verger.job(JobId::from_number(id))?.with_context(|| match &database.db {
        // Its password may stand in it.
        Some(_) if database.address().is_some() => {
            format!("there is no job {id} in the database; `verger jobs list` names the newest")
        }
        Some(file) => {
            let file = file.display();
            format!(
                "there is no job {id} in {file}; `verger jobs list --db {file}` names the newest"
            )
        }
        None => format!("there is no job {id}; `verger jobs list` names the newest"),
    })
}

pub(super) fn job_json(job: &Job) -> Json {
    row(job, &[])
}

/// Rows read at once.
const PAGE: u32 = 500;

/// Lists page by page, as long as somebody reads. A million jobs take no more memory than a page.
pub(super) fn list(
    verger: &Books,
    mut filter: JobFilter,
    mut limit: u32,
    json: bool,
) -> Result<()> {
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

/// The state, and whether the job waits for another process.
fn state_in_words(job: &Job) -> String {
    let parked = if job.parked { ", parked" } else { "" };
    format!("{}{parked}", job.state)
}

pub(super) fn in_full(job: &Job) -> Vec<String> {
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
