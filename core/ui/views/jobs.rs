//! Jobs by filter, and what to do with several.

use maud::{Markup, html};
use verger::{Error, Job, JobFilter, JobId, JobState};

use super::{View, job_link, nothing, state};
use crate::answer::Answer;
use crate::layout::secret;
use crate::query::Query;
use crate::stranger::short;
use crate::words::{opt_time, time};

/// Jobs on one page.
const PAGE: u32 = 50;

/// The filter of a query.
fn filter(query: &Query) -> JobFilter {
    let mut filter = JobFilter::new();
    if let Some(state) = query.get("state").and_then(|word| word.parse::<JobState>().ok()) {
        filter = filter.state(state);
    }
    if let Some(worker) = query.get("worker") {
        filter = filter.worker(worker.trim());
    }
    if let Some(queue) = query.get("queue") {
        filter = filter.queue(queue.trim());
    }
    filter
}

/// Whether a state, and nothing else, is asked for.
fn state_alone(query: &Query) -> Option<JobState> {
    let others = ["worker", "queue", "before"];
    let alone = others.into_iter().all(|name| query.get(name).is_none());
    query.get("state").filter(|_| alone)?.parse().ok()
}

pub(super) fn view(view: &View<'_>) -> Result<Answer, Error> {
    // A number is a job's.
    if let Some(id) = view.query.number("id") {
        return Ok(Answer::See(view.ui.link(&format!("/job/{id}"))));
    }
    let mut sought = filter(view.query);
    if let Some(before) = view.query.number("before") {
        sought = sought.before(JobId::from_number(before));
    }
    let jobs = match state_alone(view.query) {
        // The newest of a rare state are found without reading the others.
        Some(state) => view.verger.latest_jobs(state, PAGE)?,
        None => view.verger.jobs(&sought, PAGE)?,
    };
    let more = jobs.iter().map(|job| job.id).min().filter(|_| jobs.len() == PAGE as usize);
    let content = html! {
        h1 { "Jobs" }
        (search(view))
        @if let Some(done) = view.query.get("done") { p.alert role="status" { (short(done)) } }
        @if jobs.is_empty() {
            (nothing("No job fits."))
        } @else {
            (list(view, &jobs))
        }
        @if let Some(last) = more {
            p {
                a rel="next" href=(view.ui.link(&format!("/jobs?{}", view.query.with("before", Some(&last.to_string()))))) { "Older jobs" }
            }
        }
    };
    Ok(Answer::view("Jobs", content))
}

fn search(view: &View<'_>) -> Markup {
    let chosen = view.query.get("state");
    let value = |name: &str| view.query.get(name).unwrap_or_default().to_string();
    html! {
        form.filter role="search" method="get" action=(view.ui.link("/jobs")) {
            label { "State "
                select name="state" {
                    option value="" { "any" }
                    @for state in JobState::ALL {
                        option value=(state) selected[chosen == Some(state.as_str())] { (state) }
                    }
                }
            }
            label { "Worker " input type="search" name="worker" value=(value("worker")); }
            label { "Queue " input type="search" name="queue" value=(value("queue")); }
            label { "Id " input type="text" inputmode="numeric" name="id" size="8"; }
            button type="submit" { "Show" }
        }
    }
}

fn list(view: &View<'_>, jobs: &[Job]) -> Markup {
    if !view.ui.changes {
        return table(view, jobs);
    }
    html! {
        form method="post" action=(view.ui.link("/jobs/many")) {
            (secret(view.ui))
            input type="hidden" name="back" value=(format!("/jobs?{}", view.query.with("done", None)));
            (table(view, jobs))
            div.bar {
                span { "With those that are marked: " }
                button type="submit" name="do" value="retry" { "Retry" }
                button type="submit" name="do" value="cancel" { "Cancel" }
            }
        }
    }
}

fn table(view: &View<'_>, jobs: &[Job]) -> Markup {
    let may_change = view.ui.changes;
    html! {
        div.scroll {
            table {
                caption.unseen { "Jobs, the newest first" }
                thead {
                    tr {
                        @if may_change { th { input type="checkbox" data-all="id" aria-label="All on this page" hidden; } }
                        th scope="col" { "Job" } th scope="col" { "State" } th scope="col" { "Worker" } th scope="col" { "Queue" }
                        th scope="col" { "Attempts" } th scope="col" { "Due or ended" } th scope="col" { "Result or last error" }
                    }
                }
                tbody {
                    @for job in jobs {
                        tr {
                            @if may_change { td { input type="checkbox" name="id" value=(job.id) aria-label=(format!("Job {}", job.id)); } }
                            td { (job_link(view, job.id)) }
                            td { (state(job.state, job.parked)) }
                            td { (short(&job.worker)) }
                            td { (short(&job.queue)) }
                            td.number { (job.attempt) "/" (job.max_attempts) }
                            td { @if job.finished_at.is_some() { (opt_time(job.finished_at, view.now)) } @else { (time(job.due_at, view.now)) } }
                            td.wide { (outcome(job)) }
                        }
                    }
                }
            }
        }
    }
}

fn outcome(job: &Job) -> Markup {
    match (&job.result, job.errors.last()) {
        (Some(result), _) => short(&result.to_string()),
        (None, Some(error)) => short(&error.message),
        (None, None) => html! {},
    }
}
