//! `verger tick`: one pass.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::{Value as Json, json};
use verger::{AttemptOutcome, AttemptReport, FireOutcome, Fired, TickReport};

use crate::failure::WORK_FAILED;
use crate::options::{Database, Options};
use crate::output::{brief, print, print_json};

/// How long --until-idle goes on.
const UNTIL_IDLE: Duration = Duration::from_secs(600);

#[derive(Args)]
pub(crate) struct Tick {
    #[command(flatten)]
    database: Database,
    /// Make one pass after the other until nothing is due, for ten minutes at most
    #[arg(long)]
    until_idle: bool,
}

impl Tick {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        let verger = options.open_to_tick(&options.target(&self.database)?)?;
        let mut report = verger.tick(options.now())?;
        if self.until_idle && report.next_wake_at.is_some_and(|next| next <= verger.now()) {
            let rest = verger.run_due_and_exit(UNTIL_IDLE)?;
            report.fired.extend(rest.fired);
            report.attempts.extend(rest.attempts);
            report.rescued += rest.rescued;
            report.next_wake_at = rest.next_wake_at;
        }
        if options.json {
            print_json(&json!({
                "now": report.now.to_string(),
                "fired": report.fired.iter().map(fired_json).collect::<Vec<_>>(),
                "attempts": report.attempts.iter().map(attempt_json).collect::<Vec<_>>(),
                "rescued": report.rescued,
                "pruned": report.pruned,
                "next_wake_at": report.next_wake_at.map(|at| at.to_string()),
            }))?;
        } else {
            print(in_words(&report));
        }
        let failed = report.attempts.iter().any(|attempt| attempt.outcome.error().is_some());
        Ok(if failed { ExitCode::from(WORK_FAILED) } else { ExitCode::SUCCESS })
    }
}

fn fired_json(fired: &Fired) -> Json {
    let (outcome, job, missed, reason) = match &fired.outcome {
        FireOutcome::Enqueued(job) => ("enqueued", Some(job), 0, None),
        FireOutcome::Coalesced(job, missed) => ("coalesced", Some(job), *missed, None),
        FireOutcome::Skipped(reason) => ("skipped", None, 0, Some(reason.to_string())),
        _ => ("other", None, 0, None),
    };
    json!({"schedule": fired.schedule, "slot": fired.slot.to_string(), "outcome": outcome, "job": job, "missed": missed, "reason": reason})
}

/// The word for how an attempt ended.
fn outcome(attempt: &AttemptReport) -> &'static str {
    match &attempt.outcome {
        AttemptOutcome::Completed(_) => "completed",
        AttemptOutcome::Snoozed(_) => "snoozed",
        AttemptOutcome::Cancelled(_) => "cancelled",
        AttemptOutcome::Retryable(..) => "retryable",
        AttemptOutcome::Discarded(_) => "discarded",
        AttemptOutcome::Released => "released",
        AttemptOutcome::Lost(_) => "lost",
        _ => "other",
    }
}

fn attempt_json(attempt: &AttemptReport) -> Json {
    let result = match &attempt.outcome {
        AttemptOutcome::Completed(result) => result.clone(),
        _ => None,
    };
    let error =
        attempt.outcome.error().map(|error| json!({"code": error.code, "message": error.message}));
    json!({
        "job": attempt.job,
        "worker": attempt.worker,
        "attempt": attempt.attempt,
        "outcome": outcome(attempt),
        "result": result,
        "error": error,
        "elapsed_ms": attempt.elapsed.as_secs_f64() * 1_000.0,
        "rows_changed": attempt.rows_changed,
        "audited": attempt.audited,
    })
}

fn in_words(report: &TickReport) -> Vec<String> {
    let mut lines = Vec::new();
    if report.rescued > 0 {
        lines.push(format!("took back {} jobs of a process that is gone", report.rescued));
    }
    for fired in &report.fired {
        let what = match &fired.outcome {
            FireOutcome::Enqueued(job) => format!("made job {job}"),
            FireOutcome::Coalesced(job, missed) => {
                format!("made job {job}, which stands for {missed} missed slots too")
            }
            FireOutcome::Skipped(reason) => format!("made no job: {reason}"),
            other => format!("{other:?}"),
        };
        lines.push(format!("schedule {}, due {}: {what}", fired.schedule, fired.slot));
    }
    for attempt in &report.attempts {
        let more = match &attempt.outcome {
            AttemptOutcome::Completed(Some(result)) => format!(": {}", brief(result)),
            AttemptOutcome::Snoozed(until) => format!(" until {until}"),
            AttemptOutcome::Cancelled(reason) => format!(": {reason}"),
            AttemptOutcome::Retryable(error, at) => format!(", again at {at}: {error}"),
            AttemptOutcome::Discarded(error) | AttemptOutcome::Lost(error) => format!(": {error}"),
            _ => String::new(),
        };
        lines.push(format!("job {} {} {}{more}", attempt.job, attempt.worker, outcome(attempt)));
    }
    if report.pruned > 0 {
        lines.push(format!("deleted {} finished jobs and old lines of the ledger", report.pruned));
    }
    if lines.is_empty() {
        lines.push(format!("nothing was due at {}", report.now));
    }
    lines.push(match report.next_wake_at {
        Some(next) if next <= report.now => "there is more to do now: tick again".to_string(),
        Some(next) => format!("next due {next}"),
        None => "nothing is planned".to_string(),
    });
    lines
}
