//! What happens now: failures first, what runs, what waits.

use maud::{Markup, html};
use verger::{Error, Job, JobState, Timestamp};

use super::{View, job_link, nothing, progress, state};
use crate::answer::Answer;
use crate::layout::button;
use crate::query::encoded;
use crate::stranger::{plain, short};
use crate::words::{count, length, opt_time};

/// Jobs of one kind that are shown.
const SHOWN: u32 = 10;

/// Milliseconds. Older failures are not news.
const NEWS: i64 = 86_400_000;

pub(super) fn view(view: &View<'_>) -> Result<Answer, Error> {
    let failed = view.verger.latest_jobs(JobState::Discarded, SHOWN)?;
    let failed: Vec<Job> = failed
        .into_iter()
        .filter(|job| {
            let ended = job.finished_at.map_or(0, Timestamp::as_millis);
            view.now.saturating_sub(ended) < NEWS
        })
        .collect();
    let retrying = view.verger.latest_jobs(JobState::Retryable, SHOWN)?;
    let running = view.verger.latest_jobs(JobState::Executing, 50)?;
    let content = html! {
        h1 { "Now" }
        section aria-labelledby="failed" {
            h2 id="failed" { "Failed in the last 24 hours" }
            @if failed.is_empty() { (nothing("Nothing failed for good.")) } @else { (failures(view, &failed)) }
            @if !retrying.is_empty() {
                h3 { "Failed, and tried again" }
                (failures(view, &retrying))
            }
        }
        section aria-labelledby="running" {
            h2 id="running" { "Running" }
            @if running.is_empty() { (nothing("Nothing runs.")) } @else { (runs(view, &running)) }
        }
        section aria-labelledby="queues" {
            h2 id="queues" { "Queues" }
            (queues(view)?)
        }
        section aria-labelledby="next" {
            h2 id="next" { "Next" }
            (next(view)?)
        }
    };
    Ok(Answer::view("Now", content))
}

fn failures(view: &View<'_>, jobs: &[Job]) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr { th scope="col" { "Job" } th scope="col" { "Worker" } th scope="col" { "Why" } th scope="col" { "When" } th scope="col" { "Attempts" } th scope="col" { span.unseen { "What to do" } } } }
                tbody {
                    @for job in jobs {
                        tr {
                            td { (job_link(view, job.id)) " " (state(job.state, job.parked)) }
                            td { (short(&job.worker)) }
                            td.wide { @if let Some(error) = job.errors.last() { (short(&error.message)) " " code { (short(&error.code)) } } }
                            td { (opt_time(job.finished_at.or(job.attempted_at), view.now)) }
                            td.number { (job.attempt) "/" (job.max_attempts) }
                            td { (button(view.ui, "/jobs/retry", &[("id", job.id.to_string().as_str()), ("back", "/")], "Retry", &format!("job {}", job.id))) }
                        }
                    }
                }
            }
        }
    }
}

fn runs(view: &View<'_>, jobs: &[Job]) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr { th scope="col" { "Job" } th scope="col" { "Worker" } th scope="col" { "Queue" } th scope="col" { "For" } th scope="col" { "Progress" } th scope="col" { span.unseen { "What to do" } } } }
                tbody {
                    @for job in jobs {
                        tr {
                            td { (job_link(view, job.id)) }
                            td { (short(&job.worker)) }
                            td { (short(&job.queue)) }
                            td { @if let Some(at) = job.attempted_at { (length(view.now.saturating_sub(at.as_millis()).max(0).unsigned_abs())) } }
                            td { (progress(job.progress_done, job.progress_total)) }
                            td { (button(view.ui, "/jobs/cancel", &[("id", job.id.to_string().as_str()), ("back", "/")], "Stop", &format!("job {}", job.id))) }
                        }
                    }
                }
            }
        }
    }
}

fn queues(view: &View<'_>) -> Result<Markup, Error> {
    let queues = view.verger.queues()?;
    if queues.is_empty() {
        return Ok(nothing("No job waits in any queue, and none was ever paused."));
    }
    Ok(html! {
        div.scroll {
            table {
                thead { tr { th scope="col" { "Queue" } th.number scope="col" { "Waiting" } th.number scope="col" { "Running" } th scope="col" { "Next due" } th scope="col" { span.unseen { "What to do" } } } }
                tbody {
                    @for queue in &queues {
                        tr {
                            td {
                                a href=(view.ui.link(&format!("/jobs?queue={}", encoded(&queue.name)))) { (short(&queue.name)) }
                                @if queue.paused { " " span.state.warn { "paused" } }
                            }
                            td.number { (count(queue.waiting)) }
                            td.number { (count(queue.executing)) }
                            td { (opt_time(queue.next_due_at, view.now)) }
                            td {
                                @let fields = [("name", queue.name.as_str()), ("back", "/")];
                                @let name = format!("queue {}", plain(&queue.name));
                                @if queue.paused { (button(view.ui, "/queue/resume", &fields, "Resume", &name)) }
                                @else { (button(view.ui, "/queue/pause", &fields, "Pause", &name)) }
                            }
                        }
                    }
                }
            }
        }
    })
}

fn next(view: &View<'_>) -> Result<Markup, Error> {
    let mut schedules = view.verger.schedules()?;
    schedules.retain(|row| !row.paused && row.next_fire_at.is_some());
    schedules.sort_by_key(|row| row.next_fire_at);
    if schedules.is_empty() {
        return Ok(nothing("No schedule is due."));
    }
    Ok(html! {
        ul.plain {
            @for row in schedules.iter().take(8) {
                li {
                    a href=(view.ui.link(&format!("/schedule?name={}", encoded(&row.name)))) { (short(&row.name)) }
                    " " (opt_time(row.next_fire_at, view.now))
                }
            }
        }
    })
}
