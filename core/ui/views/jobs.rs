//! Jobs by filter, and what to do with several.

use std::time::Duration;

use http::StatusCode;
use maud::{Markup, html};
use verger::{BulkMode, Error, FilterError, Job, JobFilter, JobId, JobState};

use super::{View, job_link, nothing, state};
use crate::answer::Answer;
use crate::bulk::{Bulk, Progress};
use crate::layout::secret;
use crate::query::{Query, encoded};
use crate::stranger::{long, short};
use crate::ui::{ONLY_SHOWS, Ui};
use crate::words::{count, opt_time, time};

/// Jobs on one page.
const PAGE: u32 = 50;

/// How long jobs are searched for. The reader can then ask to search on.
const PATIENCE: Duration = Duration::from_millis(40);

/// The filter of a query, from its line of terms and from its fields.
///
/// # Errors
/// When a term or a state cannot be read. It must not be left out, because then more jobs would be
/// meant than the reader believes.
fn filter(query: &Query) -> Result<JobFilter, FilterError> {
    let mut terms = query.get("filter").unwrap_or_default().to_string();
    if let Some(state) = query.get("state") {
        terms.push_str(&format!(" state={}", quoted(state)));
    }
    let mut filter: JobFilter = terms.parse()?;
    if let Some(worker) = query.get("worker") {
        filter = filter.worker(worker.trim());
    }
    if let Some(queue) = query.get("queue") {
        filter = filter.queue(queue.trim());
    }
    if let Some(text) = query.get("text") {
        filter = filter.text_contains(text.trim());
    }
    Ok(filter)
}

/// One word of a filter's text, whatever is in it.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The state, if nothing else is asked for.
fn state_alone(query: &Query) -> Option<JobState> {
    let others = ["worker", "queue", "text", "filter", "before"];
    let alone = others.into_iter().all(|name| query.get(name).is_none());
    query.get("state").filter(|_| alone)?.parse().ok()
}

/// The jobs that were found, and how far the search went.
struct Found {
    jobs: Vec<Job>,
    go_on_before: Option<JobId>,
}

fn found(view: &View<'_>, filter: &JobFilter) -> Result<Found, Error> {
    if let Some(state) = state_alone(view.query) {
        // The newest of a state are those that came to it last.
        let jobs = view.verger.latest_jobs(state, PAGE)?;
        let oldest = jobs.iter().map(|job| job.id).min();
        let go_on_before = oldest.filter(|_| jobs.len() == PAGE as usize);
        return Ok(Found { jobs, go_on_before });
    }
    let mut sought = filter.clone();
    if let Some(before) = view.query.number("before") {
        sought = sought.before(JobId::from_number(before));
    }
    let search = view.verger.search_jobs(&sought, PAGE, PATIENCE)?;
    Ok(Found { jobs: search.jobs, go_on_before: search.go_on_before })
}

pub(super) fn view(view: &View<'_>) -> Result<Answer, Error> {
    // A number is the id of a job.
    if let Some(id) = view.query.number("id") {
        return Ok(Answer::See(view.ui.link(&format!("/job/{id}"))));
    }
    let filter = match filter(view.query) {
        Ok(filter) => filter,
        Err(error) => {
            return Ok(Answer::view(
                "Jobs",
                html! {
                    h1 { "Jobs" }
                    (search(view))
                    p.alert.bad role="alert" { (short(&error.to_string())) }
                },
            ));
        }
    };
    let Found { jobs, go_on_before } = found(view, &filter)?;
    let further = go_on_before.map(|job| {
        view.ui.link(&format!("/jobs?{}", view.query.with("before", Some(&job.to_string()))))
    });
    let content = html! {
        h1 { "Jobs" }
        (search(view))
        @if let Some(done) = view.query.get("done") { p.alert role="status" { (short(done)) } }
        @if !jobs.is_empty() { (list(view, &jobs)) }
        @match (go_on_before, further) {
            (Some(_), Some(link)) if jobs.len() == PAGE as usize => { p { a rel="next" href=(link) { "Older jobs" } } },
            (Some(job), Some(link)) => {
                p { "Looked at the newest jobs, back to " (job_link(view, job)) ": "
                    @if jobs.is_empty() { "none of them fits. " } @else { "no more of them fit. " }
                    a rel="next" href=(link) { "Look further back" } }
            },
            _ if jobs.is_empty() => (nothing("No job fits.")),
            _ => {},
        }
        (every_one(view, &filter))
    };
    Ok(Answer::view("Jobs", content))
}

/// What can be done with all that fit, however many pages they fill.
fn every_one(view: &View<'_>, filter: &JobFilter) -> Markup {
    let text = filter.to_string();
    html! {
        @if view.ui.changes {
            form.bar method="get" action=(view.ui.link("/jobs/all")) {
                input type="hidden" name="filter" value=(text);
                span { @if text.is_empty() { "With all jobs there are: " } @else { "With all that fit, on every page: " } }
                @for verb in Bulk::ALL {
                    button type="submit" name="do" value=(verb.word()) { (verb.label()) " all…" }
                }
            }
        }
    }
}

/// Asks whether a verb is meant for all the jobs that fit, and says how many there are.
pub(super) fn confirm(view: &View<'_>) -> Result<Answer, Error> {
    if !view.ui.changes {
        return Ok(Answer::text(StatusCode::FORBIDDEN, ONLY_SHOWS));
    }
    let Some(verb) = view.query.get("do").and_then(Bulk::parse) else {
        return Ok(Answer::text(StatusCode::BAD_REQUEST, Bulk::UNKNOWN));
    };
    let filter = match filter(view.query) {
        Ok(filter) => filter,
        Err(error) => return Ok(Answer::text(StatusCode::BAD_REQUEST, error.to_string())),
    };
    // Jobs that are enqueued while the reader reads were not shown, and are not meant.
    let newest = view.verger.jobs(&JobFilter::new(), 1)?.first().map_or(0, |job| job.id.number());
    let filter = format!("{filter} id<={newest}").parse().unwrap_or(filter);
    let part = view.verger.change_some(&filter, verb.verb(), BulkMode::DryRun, PATIENCE)?;
    let (would, is_all) = (part.report, part.go_on_after.is_none());
    let text = filter.to_string();
    let back = format!("/jobs?filter={}", encoded(&text));
    let content = html! {
        h1 { (verb.label()) " " @if !is_all { "at least " } (count(would.changed)) " " (if would.changed == 1 { "job" } else { "jobs" }) "?" }
        dl {
            dt { "Which" } dd { code.break { (long(&text)) } }
            dt { "What" } dd { (verb.about()) }
            @if !would.first.is_empty() {
                dt { "The first" } dd { @for job in &would.first { (job_link(view, *job)) " " } }
            }
        }
        @if would.changed == 0 && is_all {
            (nothing("No job that fits is in a state that allows it."))
        } @else {
            form.bar method="post" action=(view.ui.link("/jobs/all")) {
                (secret(view.ui))
                input type="hidden" name="filter" value=(text);
                input type="hidden" name="back" value=(back);
                @if is_all { input type="hidden" name="total" value=(would.changed); }
                button type="submit" name="do" value=(verb.word()) { (verb.label()) " them" }
                a.button href=(view.ui.link(&back)) { "Leave them as they are" }
            }
            @if !is_all { p.quiet { "There are too many to count them all first." } }
            p.quiet { "Jobs that are enqueued from now on are not meant; those that change their state meanwhile may make the number another. The audit log keeps what was done." }
        }
    };
    Ok(Answer::view("Jobs", content))
}

/// How far a verb is that changes more jobs than one request does. The script of the page sends the
/// form that goes on. If no script runs, the reader sends it.
pub(super) fn going_on(
    ui: &Ui,
    form: &Query,
    verb: Bulk,
    filter: &JobFilter,
    progress: &Progress,
    (after, stop): (JobId, &str),
) -> Answer {
    let done = progress.changed.saturating_add(progress.skipped);
    let content = html! {
        h1 { (verb.going_on()) }
        p role="status" { (short(&progress.said(verb))) " Not all were looked at yet." }
        @if let Some(total) = progress.total.filter(|total| *total > 0) {
            p { progress.long value=(done.min(total)) max=(total) aria-label="Jobs looked at" { (count(done)) " of " (count(total)) } " " span.quiet { (count(done)) " of " (count(total)) } }
        }
        form.bar method="post" action=(ui.link("/jobs/all")) data-go-on="" {
            (secret(ui))
            input type="hidden" name="do" value=(verb.word());
            input type="hidden" name="filter" value=(filter.to_string());
            input type="hidden" name="back" value=(form.get("back").unwrap_or("/jobs"));
            input type="hidden" name="after" value=(after);
            input type="hidden" name="changed" value=(progress.changed);
            input type="hidden" name="skipped" value=(progress.skipped);
            @if let Some(total) = progress.total { input type="hidden" name="total" value=(total); }
            @for reason in &progress.reasons { input type="hidden" name="why" value=(reason); }
            button type="submit" { "Go on" }
            a.button href=(ui.link(stop)) { "Stop here" }
        }
        p.quiet { "What is done stays done, and stands in the audit log." }
    };
    Answer::view("Jobs", content)
}

fn search(view: &View<'_>) -> Markup {
    let chosen = view.query.get("state");
    let value = |name: &str| view.query.get(name).unwrap_or_default().to_string();
    html! {
        form.filter role="search" method="get" action=(view.ui.link("/jobs")) {
            label { "Text " input type="search" name="text" value=(value("text")) placeholder="id, worker, args, error" title="Looks in ids, workers, args, tags and errors"; }
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
            label { "Terms " input type="search" name="filter" value=(value("filter")) placeholder="tag=monthly created>=2026-01-31" title="As for `verger jobs list --filter`: state= worker= queue= schedule= tag= organization= args.PATH= error~ text~ id> created> due> attempted> finished>"; }
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
                button type="submit" name="do" value="delete" { "Delete" }
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
                        th.number scope="col" { "Attempts" } th scope="col" { "Due or ended" } th scope="col" { "Result or last error" }
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
