//! What a form changes.

use std::time::Duration;

use http::StatusCode;
use verger::{BulkMode, Error, JobFilter, JobId, Verger};

use crate::answer::Answer;
use crate::bulk::{Bulk, Progress};
use crate::query::{Query, encoded};
use crate::ui::Ui;
use crate::views;

/// The most jobs that one form changes.
const MANY: usize = 200;

/// How long a request changes jobs before it answers how far it is.
const PATIENCE: Duration = Duration::from_millis(50);

/// Does what a form asks for, and goes back to the view it was on.
pub(crate) fn perform(ui: &Ui, verger: &Verger, path: &str, form: &Query) -> Answer {
    let name = form.get("name").unwrap_or_default();
    let done = match path {
        "/jobs/retry" => many(verger, form, Bulk::Retry),
        "/jobs/cancel" => many(verger, form, Bulk::Cancel),
        "/jobs/many" => match form.get("do").and_then(Bulk::parse) {
            Some(verb) => many(verger, form, verb),
            None => return Answer::text(StatusCode::BAD_REQUEST, Bulk::UNKNOWN),
        },
        "/jobs/all" => {
            let Some(verb) = form.get("do").and_then(Bulk::parse) else {
                return Answer::text(StatusCode::BAD_REQUEST, Bulk::UNKNOWN);
            };
            // An empty filter is allowed, but a form without the field is none of ours.
            let Some(filter) = form.given("filter").map(str::parse::<JobFilter>) else {
                return Answer::text(StatusCode::BAD_REQUEST, "the form says not which jobs");
            };
            match filter {
                Ok(filter) => return all(ui, verger, form, verb, filter),
                Err(error) => return Answer::text(StatusCode::BAD_REQUEST, error.to_string()),
            }
        }
        "/worker/dry-run" => return views::dry_run(ui, verger, form),
        #[cfg(feature = "wasm")]
        "/plugin/approve" | "/plugin/deny" | "/plugin/revoke" => decide(verger, path, form),
        "/queue/pause" => verger.pause_queue(name).map(|()| "The queue is paused.".to_string()),
        "/queue/resume" => verger.resume_queue(name).map(|()| "The queue is resumed.".to_string()),
        "/schedule/pause" => verger.pause_schedule(name).map(|found| known(found, "paused")),
        "/schedule/resume" => verger.resume_schedule(name).map(|found| known(found, "resumed")),
        "/schedule/run" => verger.run_schedule_now(name).map(|made| match made {
            Some(made) if made.existing => format!("Job {} of it is unfinished.", made.id),
            Some(made) => format!("Job {} is made.", made.id),
            None => known(false, ""),
        }),
        _ => return Answer::text(StatusCode::NOT_FOUND, "nothing is changed here"),
    };
    match done {
        Ok(said) => Answer::See(ui.link(&back(form, &said))),
        Err(error) => Answer::failed(&error),
    }
}

/// Decides about a plugin, for the component that the reader was shown.
#[cfg(feature = "wasm")]
fn decide(verger: &Verger, path: &str, form: &Query) -> Result<String, Error> {
    let worker = form.get("name").unwrap_or_default();
    let who = form.get("who").unwrap_or_default().trim();
    let digest = form.get("digest").unwrap_or_default();
    let now = verger.consent(worker)?;
    // A denial and a revocation must be about the component that was shown, too. Approving checks
    // that inside its transaction.
    let is_shown = || now.as_ref().is_some_and(|now| now.digest.eq_ignore_ascii_case(digest));
    let decided = match path {
        "/plugin/approve" => verger.approve_digest(worker, digest, who),
        _ if !is_shown() => {
            return Ok("Another version is there now: look at it first.".to_string());
        }
        "/plugin/deny" => verger.deny(worker, who),
        _ => verger.revoke(worker, who),
    };
    match decided {
        Ok(consent) => Ok(format!(
            "{} {} is {}.",
            consent.worker,
            consent.version,
            match path {
                "/plugin/approve" => "approved",
                "/plugin/deny" => "denied",
                _ => "without its grants",
            }
        )),
        Err(error @ Error::Consent { .. }) => Ok(error.to_string()),
        Err(error) => Err(error),
    }
}

fn known(found: bool, what: &str) -> String {
    match found {
        true => format!("The schedule is {what}."),
        false => "There is no such schedule.".to_string(),
    }
}

/// A verb on all jobs that fit, for as long as a request may take. The answer is a form whose
/// requests do the rest.
fn all(ui: &Ui, verger: &Verger, form: &Query, verb: Bulk, filter: JobFilter) -> Answer {
    let rest = match form.number("after") {
        Some(after) => filter.clone().after(JobId::from_number(after)),
        None => filter.clone(),
    };
    let part = match verger.change_some(&rest, verb.verb(), BulkMode::Apply, PATIENCE) {
        Ok(part) => part,
        Err(error) => return Answer::failed(&error),
    };
    let mut progress = Progress::of(form);
    progress.add(&part.report);
    let place = back(form, &progress.said(verb));
    match part.go_on_after {
        None => Answer::See(ui.link(&place)),
        Some(after) => views::going_on(ui, form, verb, &filter, &progress, (after, &place)),
    }
}

/// A verb on the marked jobs.
fn many(verger: &Verger, form: &Query, verb: Bulk) -> Result<String, Error> {
    let (mut changed, mut others, mut reasons) = (0, 0, Vec::new());
    let ids = form.all("id").filter_map(|id| id.parse().ok()).map(JobId::from_number);
    for id in ids.take(MANY) {
        match verb.apply_to(verger, id) {
            Ok(true) => changed += 1,
            Ok(false) => others += 1,
            // A refused job does not stop the others.
            Err(error @ Error::NotUnique { .. }) => reasons.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    let mut said = verb.said_of(changed);
    if others > 0 {
        said.push_str(&format!(" {others} could not be: their states do not allow it."));
    }
    reasons.iter().take(3).for_each(|reason| said.push_str(&format!(" {reason}.")));
    Ok(said)
}

/// The view that a form was on. It must be a view of this page.
fn back(form: &Query, said: &str) -> String {
    let place = form.get("back").unwrap_or("/");
    let is_view = place.starts_with('/')
        && !place.starts_with("//")
        && !place.contains(['\\', '\r', '\n'])
        && place.is_ascii();
    let place = if is_view { place } else { "/" };
    let sign = if place.contains('?') { '&' } else { '?' };
    format!("{place}{sign}done={}", encoded(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_nowhere_but_to_this_page() {
        for (place, expected) in [
            ("/jobs?state=discarded", "/jobs?state=discarded&done=ok"),
            ("//evil.example/", "/?done=ok"),
            ("https://evil.example/", "/?done=ok"),
            ("/\\evil.example", "/?done=ok"),
            ("javascript:alert(1)", "/?done=ok"),
        ] {
            let form = format!("back={}", encoded(place));
            assert_eq!(back(&Query::parse(form.as_bytes()), "ok"), expected);
        }
    }
}
