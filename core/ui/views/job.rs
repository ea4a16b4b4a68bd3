//! One job: what it is, how each attempt went, what it wrote.

use std::time::Duration;

use maud::{Markup, html};
use verger::{AuditFilter, Error, Job, JobId};

use super::{View, absent, nothing, progress, state};
use crate::answer::Answer;
use crate::layout::button;
use crate::query::encoded;
use crate::stranger::{long, short};
use crate::words::{length, opt_time, time};

pub(super) fn view(view: &View<'_>, id: JobId) -> Result<Answer, Error> {
    let Some(job) = view.verger.job(id)? else {
        return Ok(absent(format!("There is no job {id}: it was pruned, or never was.")));
    };
    let content = html! {
        h1 { "Job " (job.id) " " (state(job.state, job.parked)) }
        @if let Some(done) = view.query.get("done") { p.alert role="status" { (short(done)) } }
        (buttons(view, &job))
        @if let Some(why) = &job.parked_because { p.alert.warn { "It waits for another process: " (short(why)) "." } }
        @for unreadable in &job.unreadable {
            p.alert.bad { "Its column " (short(unreadable.column)) " cannot be read: " (short(&unreadable.why)) }
        }
        (errors(view, &job))
        (facts(view, &job)?)
        section aria-labelledby="args" { h2 id="args" { "Args" } (json(&job.args)) }
        @if let Some(result) = &job.result { section aria-labelledby="result" { h2 id="result" { "Result" } (json(result)) } }
        (log(view, &job)?)
        (audit(view, &job)?)
    };
    Ok(Answer::view("Job", content))
}

fn buttons(view: &View<'_>, job: &Job) -> Markup {
    let (id, back) = (job.id.to_string(), format!("/job/{}", job.id));
    let fields = [("id", id.as_str()), ("back", back.as_str())];
    let what = format!("job {id}");
    html! {
        @if view.ui.changes {
            div.bar {
                @if job.state.is_final() || matches!(job.state, verger::JobState::Retryable) { (button(view.ui, "/jobs/retry", &fields, "Retry now", &what)) }
                @if !job.parked { (button(view.ui, "/worker/dry-run", &[("job", id.as_str())], "Dry run", &what)) }
                @if !job.state.is_final() { (button(view.ui, "/jobs/cancel", &fields, if job.state.is_waiting() { "Cancel" } else { "Stop" }, &what)) }
            }
        }
    }
}

fn facts(view: &View<'_>, job: &Job) -> Result<Markup, Error> {
    let took = job.attempted_at.zip(job.finished_at).map(|(from, to)| to.since(from));
    let waited = job.attempted_at.map(|at| at.since(job.due_at.max(job.created_at)));
    let span = |time: Duration| length(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let slot = match (&job.schedule, job.slot) {
        (Some(schedule), Some(slot)) => {
            Some((schedule, slot, view.verger.explain(schedule, slot)?))
        }
        _ => None,
    };
    Ok(html! {
        section aria-labelledby="facts" {
            h2 id="facts" { "What it is" }
            dl {
                dt { "Worker" } dd { (short(&job.worker)) }
                @if job.args_version > 1 { dt { "Args" } dd { "version " (job.args_version) } }
                dt { "Queue" } dd { (short(&job.queue)) ", priority " (job.priority) }
                dt { "Created" } dd { (time(job.created_at, view.now)) }
                dt { "Due" } dd { (time(job.due_at, view.now)) }
                dt { "Last attempt" } dd { (opt_time(job.attempted_at, view.now)) @if let Some(waited) = waited { ", after waiting " (span(waited)) } }
                dt { "Ended" } dd { (opt_time(job.finished_at, view.now)) @if let Some(took) = took { ", after " (span(took)) } }
                dt { "Attempts" } dd { (job.attempt) " of " (job.max_attempts) @if job.snoozes > 0 { ", put off " (job.snoozes) " times" } }
                @if job.progress_done.is_some() { dt { "Progress" } dd { (progress(job.progress_done, job.progress_total)) } }
                @if let Some((schedule, slot, why)) = slot {
                    dt { "Schedule" }
                    dd {
                        a href=(view.ui.link(&format!("/schedule?name={}", encoded(schedule)))) { (short(schedule)) }
                        ", slot " (time(slot, view.now))
                        p { (short(&why)) }
                    }
                }
            }
        }
    })
}

fn errors(view: &View<'_>, job: &Job) -> Markup {
    html! {
        @if !job.errors.is_empty() {
            section aria-labelledby="errors" {
                h2 id="errors" { "What went wrong" }
                ol.attempts {
                    @for error in job.errors.iter().rev() {
                        li {
                            p { "Attempt " (error.attempt) ", " (time(error.at, view.now)) ": " code { (short(&error.code)) } }
                            pre tabindex="0" { (long(&error.message)) }
                        }
                    }
                }
            }
        }
    }
}

fn log(view: &View<'_>, job: &Job) -> Result<Markup, Error> {
    let logs = view.verger.job_log(job.id)?;
    Ok(html! {
        @if logs.iter().any(|log| !log.lines.is_empty()) {
            section aria-labelledby="log" {
                h2 id="log" { "What it logged" }
                @for log in logs.iter().rev() {
                    h3 { "Attempt " (log.attempt) }
                    @if log.dropped > 0 { p.quiet { (log.dropped) " lines before these were dropped." } }
                    pre tabindex="0" { @for line in &log.lines { (line.at) " " (short(&line.level)) " " (long(&line.text)) "\n" } }
                }
            }
        }
    })
}

fn audit(view: &View<'_>, job: &Job) -> Result<Markup, Error> {
    let filter = AuditFilter { job: Some(job.id.number()), ..AuditFilter::default() };
    let rows = view.verger.audit_log(&filter, 50)?;
    Ok(html! {
        section aria-labelledby="audit" {
            h2 id="audit" { "What it wrote to the audit log" }
            @if rows.is_empty() { (nothing("Nothing.")) }
            @else { (super::audit::table(view, &rows)) }
        }
    })
}

fn json(value: &serde_json::Value) -> Markup {
    html! { pre tabindex="0" { (long(&format!("{value:#}"))) } }
}
