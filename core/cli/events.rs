//! `verger events`: what happened, from the file.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use verger::{EventItem, EventKind, EventPosition, LifecycleEvent};

use crate::books::Books;
use crate::options::{Database, Options};
use crate::output::{counted, is_read, print, print_json_lines};

#[derive(Args)]
pub(crate) struct Events {
    #[command(flatten)]
    database: Database,
    /// Go on behind this position, as an earlier event has it; the oldest that is kept when left out
    #[arg(long, value_name = "POSITION")]
    since: Option<EventPosition>,
    /// How many at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    limit: u32,
}

/// Events read at once.
const PAGE: u32 = 500;

impl Events {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        let verger = options.books_to_read(&self.database)?;
        self.list(&verger, options.json)?;
        Ok(ExitCode::SUCCESS)
    }

    fn list(&self, verger: &Books, json: bool) -> Result<()> {
        let (mut position, mut limit) = (self.since.unwrap_or_default(), self.limit);
        let mut any = false;
        while limit > 0 && is_read() {
            let items = verger.events_since(position, limit.min(PAGE))?;
            let Some(EventItem::Event(last)) = items.last() else { break };
            (position, limit, any) = (last.position, limit.saturating_sub(PAGE), true);
            match json {
                true => print_json_lines(
                    items.iter().map(|item| serde_json::to_value(item).unwrap_or_default()),
                ),
                false => print(items.iter().map(in_words)),
            }
        }
        if !any && !json {
            print(["no events"]);
        }
        Ok(())
    }
}

fn in_words(item: &EventItem) -> String {
    match item {
        EventItem::Event(event) => {
            let LifecycleEvent { position, at, kind, .. } = event;
            format!("{position}  {at}  {:<13} {}", kind.as_str(), about(kind))
        }
        EventItem::Lagged { lagged } => {
            format!("retention has taken out {} before these", counted(*lagged, "row"))
        }
        _ => String::new(),
    }
}

fn about(kind: &EventKind) -> String {
    let of = kind.job().map(|job| {
        let worker =
            if job.worker.is_empty() { "a worker not known any more" } else { &job.worker };
        format!("job {} of {worker}, attempt {}", job.id, job.attempt)
    });
    let of = of.unwrap_or_default();
    match kind {
        EventKind::Retried { error, due_at, .. } => {
            format!("{of}: {} [{}]; again at {due_at}", error.message, error.code)
        }
        EventKind::Discarded { error, .. } => format!("{of}: {} [{}]", error.message, error.code),
        EventKind::Cancelled { reason, .. } => format!("{of}: {reason}"),
        EventKind::Coalesced { schedule, slot, job, missed } => {
            format!("schedule {schedule}, slot {slot}: job {job}, standing for {missed} more")
        }
        EventKind::Skipped { schedule, slot, reason, .. } => {
            format!("schedule {schedule}, slot {slot}: {reason}")
        }
        EventKind::QueuePaused { queue } | EventKind::QueueResumed { queue } => {
            format!("queue {queue}")
        }
        _ => of,
    }
}
