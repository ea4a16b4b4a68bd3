//! Which jobs are meant, and what is to be changed of them.

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde_json::Value as Json;
use verger::{BulkMode, JobEdit, JobFilter, Timestamp, Verger};

use super::show::{find, job_json};
use super::told;
use crate::books::Books;
use crate::input;
use crate::options::{Database, Options};
use crate::output::{print, print_json};

/// One job, or many.
#[derive(Args)]
pub(crate) struct Which {
    /// The id of the job
    #[arg(required_unless_present = "filter")]
    pub(super) id: Option<i64>,
    /// All jobs that fit, as `jobs list --filter` lists them
    #[arg(long, value_name = "FILTER", conflicts_with = "id")]
    pub(super) filter: Option<JobFilter>,
    /// Only say how many there are, and which are the first
    #[arg(long, requires = "filter")]
    pub(super) dry_run: bool,
}

/// What is to be another.
#[derive(Args)]
pub(crate) struct Changes {
    /// Not before this time
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    pub(super) at: Option<Timestamp>,
    /// From 0, first, to 9, last
    #[arg(long, value_name = "N")]
    pub(super) priority: Option<u8>,
    /// The args, in place of the old ones
    #[arg(long, value_name = "JSON|FILE", value_parser = input::args, conflicts_with = "filter")]
    pub(super) args: Option<Json>,
    /// The queue
    #[arg(long, value_name = "NAME", conflicts_with = "filter")]
    pub(super) queue: Option<String>,
    /// The tags, in place of the old ones; may be given several times
    #[arg(long, value_name = "WORD", conflicts_with = "filter")]
    tag: Vec<String>,
}

impl Which {
    /// The filter, if many jobs are meant.
    pub(super) fn many(&self) -> Result<Option<&JobFilter>> {
        if let Some(filter) = &self.filter {
            ensure!(
                *filter != JobFilter::new(),
                "the filter is empty and would mean every job: say so with id>=0"
            );
        }
        Ok(self.filter.as_ref())
    }

    pub(super) fn one(&self) -> i64 {
        // The parser requires an id if there is no filter.
        self.id.unwrap_or_default()
    }

    pub(super) fn mode(&self) -> BulkMode {
        if self.dry_run { BulkMode::DryRun } else { BulkMode::Apply }
    }
}

impl Changes {
    pub(super) fn edit(&self) -> JobEdit {
        let mut edit = JobEdit::new();
        if let Some(at) = self.at {
            edit = edit.at(at);
        }
        if let Some(priority) = self.priority {
            edit = edit.priority(priority);
        }
        if let Some(args) = &self.args {
            edit = edit.args(args.clone());
        }
        if let Some(queue) = &self.queue {
            edit = edit.queue(queue);
        }
        if !self.tag.is_empty() {
            edit = edit.tags(&self.tag);
        }
        edit
    }

    pub(super) fn to_many(
        &self,
        verger: &Verger,
        filter: &JobFilter,
        which: &Which,
        options: &Options,
    ) -> Result<ExitCode> {
        let report = match (self.at, self.priority) {
            (Some(at), None) => verger.reschedule_all(filter, at, which.mode())?,
            (None, Some(priority)) => verger.set_priority_all(filter, priority, which.mode())?,
            _ => bail!("of many jobs one thing is changed at a time: say --at or --priority"),
        };
        told(&report, which, "changed", options)
    }
}

pub(super) fn after_change(
    verger: &Books,
    id: i64,
    database: &Database,
    options: &Options,
    said: &str,
) -> Result<()> {
    match options.json {
        true => print_json(&job_json(&find(verger, id, database)?)),
        false => {
            print([format!("job {id} {said}")]);
            Ok(())
        }
    }
}
