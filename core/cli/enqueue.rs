//! `verger enqueue`: a job into the queue.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value as Json, json};
use verger::{NewJob, Timestamp};

use crate::input;
use crate::options::{Database, Options};
use crate::output::{print, print_json};

#[derive(Args)]
pub(crate) struct Enqueue {
    /// The worker's name
    worker: String,
    #[command(flatten)]
    database: Database,
    /// Its args, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = input::args)]
    args: Json,
    /// Not before this time; now when left out
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    at: Option<Timestamp>,
    /// The queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// From 0, first, to 9, last
    #[arg(long, value_name = "N")]
    priority: Option<u8>,
    /// How often it may be tried
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Not while an unfinished job of the same worker and queue has the same args
    #[arg(long)]
    unique: bool,
    /// A word to find it by; may be given several times
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    /// The version of the worker's args that these are of; the newest one when left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    args_version: Option<u32>,
    /// The W3C trace context it is enqueued in
    #[arg(long, value_name = "TRACEPARENT")]
    traceparent: Option<String>,
}

impl Enqueue {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        let verger = options.books_to_change(&self.database)?;
        let mut job = NewJob::new(&self.worker, self.args.clone());
        if let Some(at) = self.at {
            job = job.at(at);
        }
        if let Some(queue) = &self.queue {
            job = job.queue(queue);
        }
        if let Some(priority) = self.priority {
            job = job.priority(priority);
        }
        if let Some(attempts) = self.max_attempts {
            job = job.max_attempts(attempts);
        }
        if self.unique {
            job = job.unique();
        }
        for tag in &self.tag {
            job = job.tag(tag);
        }
        if let Some(version) = self.args_version {
            job = job.args_version(version);
        }
        if let Some(traceparent) = &self.traceparent {
            job = job.traceparent(traceparent);
        }
        let enqueued = verger.enqueue(job, &self.worker)?;
        if options.json {
            print_json(&json!({"id": enqueued.id, "existing": enqueued.existing}))?;
        } else if enqueued.existing {
            print([format!(
                "job {} is there already and unfinished: no other was made",
                enqueued.id
            )]);
        } else {
            let when = self
                .at
                .filter(|at| *at > verger.now())
                .map_or_else(|| "now".to_string(), |at| at.to_string());
            print([format!("job {}, due {when}", enqueued.id)]);
        }
        Ok(ExitCode::SUCCESS)
    }
}
