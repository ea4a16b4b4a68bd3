//! One verb on many jobs: on those that are marked, or on all that fit a filter.

use verger::{BulkReport, BulkVerb, Error, JobId, Verger};

use crate::query::Query;
use crate::words::count;

/// What can be done with many jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bulk {
    Retry,
    Cancel,
    Delete,
}

impl Bulk {
    pub(crate) const ALL: [Self; 3] = [Self::Retry, Self::Cancel, Self::Delete];

    /// The message for an unknown word.
    pub(crate) const UNKNOWN: &'static str = "it is retry, cancel or delete";

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.word() == word)
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Delete => "delete",
        }
    }

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Retry => "Retry",
            Self::Cancel => "Cancel",
            Self::Delete => "Delete",
        }
    }

    /// What the verb does to the jobs.
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Retry => "those that failed, were cancelled or are completed are due now",
            Self::Cancel => "those that wait are cancelled, those that run are told to stop",
            Self::Delete => "all but those that run are deleted, with their logs, for good",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Retry => "due now",
            Self::Cancel => "cancelled",
            Self::Delete => "deleted",
        }
    }

    pub(crate) const fn verb(self) -> BulkVerb {
        match self {
            Self::Retry => BulkVerb::Retry,
            Self::Cancel => BulkVerb::Cancel,
            Self::Delete => BulkVerb::Delete,
        }
    }

    /// What is being done, for a heading.
    pub(crate) const fn going_on(self) -> &'static str {
        match self {
            Self::Retry => "Retrying jobs",
            Self::Cancel => "Cancelling jobs",
            Self::Delete => "Deleting jobs",
        }
    }

    /// Applies it to one job. Returns whether the job's state allows it.
    pub(crate) fn apply_to(self, verger: &Verger, job: JobId) -> Result<bool, Error> {
        match self {
            Self::Retry => verger.retry(job),
            Self::Cancel => verger.cancel(job),
            Self::Delete => verger.delete(job),
        }
    }

    /// In words, how many jobs were changed.
    pub(crate) fn said_of(self, changed: u64) -> String {
        let done = self.done();
        match changed {
            1 => format!("1 job is {done}."),
            changed => format!("{} jobs are {done}.", count(changed)),
        }
    }
}

/// How far a verb on many jobs is: what earlier requests did, handed on from form to form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) changed: u64,
    pub(crate) skipped: u64,
    /// Why the first of those jobs were left as they are.
    pub(crate) reasons: Vec<String>,
    /// How many there were to be, if they could all be counted.
    pub(crate) total: Option<u64>,
}

/// How many reasons are handed on and shown.
const REASONS: usize = 3;

/// The most bytes of one reason.
const REASON_BYTES: usize = 300;

impl Progress {
    pub(crate) fn of(form: &Query) -> Self {
        let number = |name: &str| form.number(name).and_then(|number| u64::try_from(number).ok());
        Self {
            changed: number("changed").unwrap_or(0),
            skipped: number("skipped").unwrap_or(0),
            reasons: form.all("why").take(REASONS).map(str::to_string).collect(),
            total: number("total"),
        }
    }

    pub(crate) fn add(&mut self, report: &BulkReport) {
        self.changed = self.changed.saturating_add(report.changed);
        self.skipped = self.skipped.saturating_add(report.skipped);
        for skipped in report.reasons.iter().take(REASONS.saturating_sub(self.reasons.len())) {
            let mut reason = format!("Job {}: {}.", skipped.job, skipped.reason);
            reason.truncate(reason.floor_char_boundary(REASON_BYTES));
            self.reasons.push(reason);
        }
    }

    /// What was done, in words.
    pub(crate) fn said(&self, verb: Bulk) -> String {
        let mut said = verb.said_of(self.changed);
        if self.skipped > 0 {
            said.push_str(&format!(" {} could not be.", count(self.skipped)));
        }
        for reason in &self.reasons {
            said.push_str(&format!(" {reason}"));
        }
        said
    }
}
