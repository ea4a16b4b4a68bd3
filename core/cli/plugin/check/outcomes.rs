//! How its jobs end: with the args it has, and with each arg of another type.

use anyhow::Result;
use serde_json::{Value as Json, json};
use tracing::subscriber::{NoSubscriber, with_default};
use verger::{AttemptOutcome, NewJob};

use super::finding::Findings;
use super::world::{Lived, World};

/// The most args that are tried with another type.
const ARGS_MAX: usize = 20;

/// Performs jobs as the queue does.
pub(super) fn examine(world: &World<'_>, lived: &Lived, findings: &mut Findings) -> Result<()> {
    let args = Json::Object(world.args.as_map().clone());
    match ended(world, lived, args.clone())? {
        Some(AttemptOutcome::Retryable(error, _) | AttemptOutcome::Discarded(error)) => findings
            .must_fix("outcome", format!("as a job of the queue it fails: {}", error.message)),
        Some(outcome) => findings.ok("outcome", format!("its job is {}", word(&outcome))),
        None => {}
    }
    let mut discards = Vec::new();
    let own = world.manifest.args.iter().take(ARGS_MAX);
    for (key, wrong) in own.filter_map(|(key, _)| Some((key, other_type(args.get(key)?)?))) {
        let mut args = args.clone();
        args[key] = wrong.clone();
        match ended(world, lived, args)? {
            Some(AttemptOutcome::Discarded(_)) => discards.push(format!("`{key}`")),
            Some(AttemptOutcome::Retryable(error, _)) => findings.advice(
                "outcome",
                format!(
                    "a job whose `{key}` is {wrong} fails and is tried again, 20 times where nobody says otherwise: end it with `discard` ({})",
                    error.message
                ),
            ),
            // The worker accepts it, or the job was refused before.
            _ => {}
        }
    }
    if !discards.is_empty() {
        findings.ok(
            "outcome",
            format!(
                "a job with args of another type is discarded at once: {}",
                discards.join(", ")
            ),
        );
    }
    Ok(())
}

/// How the first attempt of a job with these args ends. `None` when none is made.
fn ended(world: &World<'_>, lived: &Lived, args: Json) -> Result<Option<AttemptOutcome>> {
    let Ok(job) = lived.verger.enqueue(NewJob::new(&world.manifest.name, args)) else {
        return Ok(None);
    };
    // It is meant to fail, and a finding says how it did: the log's line would look like a fault.
    let tick = || lived.verger.tick(lived.verger.now());
    let report = with_default(NoSubscriber::default(), tick)?;
    let attempt = report.attempts.into_iter().find(|attempt| attempt.job == job.id);
    lived.verger.cancel(job.id)?;
    Ok(attempt.map(|attempt| attempt.outcome))
}

fn word(outcome: &AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Completed(_) => "completed",
        AttemptOutcome::Snoozed(_) => "snoozed",
        AttemptOutcome::Cancelled(_) => "cancelled",
        AttemptOutcome::Released => "given back",
        _ => "failed",
    }
}

/// A value of a type that cannot be meant.
fn other_type(value: &Json) -> Option<Json> {
    match value {
        Json::Number(_) | Json::Bool(_) => Some(json!("a text")),
        Json::String(_) | Json::Array(_) | Json::Object(_) => Some(json!(1.5)),
        Json::Null => None,
    }
}
