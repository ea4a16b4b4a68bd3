//! The views, and which address shows which.

mod audit;
mod charts;
mod doctor;
mod dry_run;
mod job;
mod jobs;
mod now;
mod plugins;
mod schedule;
mod schedules;
mod timeline;

use http::StatusCode;
use maud::{Markup, html};
use verger::{Error, JobFilter, JobId, JobState, Verger};

use crate::answer::{Answer, not_found};
use crate::bulk::{Bulk, Progress};
use crate::query::Query;
use crate::ui::Ui;

const STYLE: &str = include_str!("../style.css");
const SCRIPT: &str = include_str!("../live.js");
const ICON: &str = include_str!("../icon.svg");

/// What a view is made from.
pub(crate) struct View<'a> {
    pub(crate) ui: &'a Ui,
    pub(crate) verger: &'a Verger,
    pub(crate) query: &'a Query,
    /// Now, in unix milliseconds.
    pub(crate) now: i64,
}

/// Answers a request that only reads.
pub(crate) fn show(ui: &Ui, verger: &Verger, path: &str, query: &Query) -> Answer {
    let view = View { ui, verger, query, now: verger.now().as_millis() };
    let made = match path {
        "/" => now::view(&view),
        "/jobs" => jobs::view(&view),
        "/jobs/all" => jobs::confirm(&view),
        "/schedules" => schedules::view(&view),
        "/schedule" => schedule::view(&view),
        "/plugins" => plugins::view(&view),
        "/plugin" => plugins::one(&view),
        "/audit" => audit::view(&view),
        "/audit/verify" => audit::verify(&view),
        "/audit/export" => audit::export(&view),
        "/charts" => charts::view(&view),
        "/doctor" => doctor::view(&view),
        "/metrics" => {
            verger.metrics().map(|metrics| Answer::text(StatusCode::OK, metrics.to_prometheus()))
        }
        "/style.css" => Ok(Answer::File("text/css; charset=utf-8", STYLE)),
        "/live.js" => Ok(Answer::File("text/javascript; charset=utf-8", SCRIPT)),
        "/icon.svg" => Ok(Answer::File("image/svg+xml", ICON)),
        _ => match path.strip_prefix("/job/").and_then(|id| id.parse().ok()) {
            Some(id) => job::view(&view, JobId::from_number(id)),
            None => Ok(not_found(ui, path)),
        },
    };
    made.unwrap_or_else(|error: Error| Answer::failed(&error))
}

/// How far a verb on many jobs is, with the form that goes on.
pub(crate) fn going_on(
    ui: &Ui,
    form: &Query,
    verb: Bulk,
    filter: &JobFilter,
    progress: &Progress,
    (after, stop): (JobId, &str),
) -> Answer {
    jobs::going_on(ui, form, verb, filter, progress, (after, stop))
}

/// Calls a worker without keeping what it does, and shows what it would have changed.
pub(crate) fn dry_run(ui: &Ui, verger: &Verger, form: &Query) -> Answer {
    let view = View { ui, verger, query: form, now: verger.now().as_millis() };
    dry_run::view(&view).unwrap_or_else(|error| Answer::failed(&error))
}

/// The word for a state, with a mark that does not need colours.
pub(crate) fn state(state: JobState, is_parked: bool) -> Markup {
    let (class, mark) = match state {
        JobState::Completed => ("ok", "✓"),
        JobState::Executing => ("busy", "▶"),
        JobState::Discarded => ("bad", "✕"),
        JobState::Retryable => ("warn", "↻"),
        JobState::Cancelled => ("idle", "⊘"),
        JobState::Scheduled => ("idle", "◷"),
        JobState::Available => ("idle", "…"),
    };
    html! {
        span class=(format!("state {class}")) { span aria-hidden="true" { (mark) " " } (state) }
        @if is_parked { " " span.state.warn { "parked" } }
    }
}

/// A link to a job.
pub(crate) fn job_link(view: &View<'_>, id: JobId) -> Markup {
    html! { a.job href=(view.ui.link(&format!("/job/{id}"))) { "job " (id) } }
}

/// The progress of a job.
pub(crate) fn progress(done: Option<i64>, total: Option<i64>) -> Markup {
    match (done, total.filter(|total| *total > 0)) {
        (Some(done), Some(total)) => {
            html! { progress value=(done.clamp(0, total)) max=(total) { (done) " of " (total) } " " span.quiet { (done) " of " (total) } }
        }
        (Some(done), None) => html! { span.quiet { (done) } },
        _ => html! { span.quiet { "—" } },
    }
}

/// Says that there is none.
pub(crate) fn nothing(what: &str) -> Markup {
    html! { p.quiet { (what) } }
}

/// Says that what was asked for is not there.
pub(crate) fn absent(what: String) -> Answer {
    Answer::View(
        StatusCode::NOT_FOUND,
        "Not found",
        html! { h1 { "Not found" } p { (crate::stranger::short(&what)) } },
    )
}
