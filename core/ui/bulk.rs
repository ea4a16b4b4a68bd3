//! One verb on many jobs: on those that are marked, or on all that a filter means.

use verger::{BulkMode, BulkReport, Error, JobFilter, JobId, Verger};

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

    /// What is said of a word that is none of them.
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

    /// What it means for the jobs.
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

    pub(crate) fn apply(
        self,
        verger: &Verger,
        filter: &JobFilter,
        mode: BulkMode,
    ) -> Result<BulkReport, Error> {
        match self {
            Self::Retry => verger.retry_all(filter, mode),
            Self::Cancel => verger.cancel_all(filter, mode),
            Self::Delete => verger.delete_all(filter, mode),
        }
    }

    /// On one job: whether its state allows it.
    pub(crate) fn apply_to(self, verger: &Verger, job: JobId) -> Result<bool, Error> {
        match self {
            Self::Retry => verger.retry(job),
            Self::Cancel => verger.cancel(job),
            Self::Delete => verger.delete(job),
        }
    }

    /// To how many it was done, in words.
    pub(crate) fn said_of(self, changed: u64) -> String {
        let done = self.done();
        match changed {
            1 => format!("1 job is {done}."),
            changed => format!("{} jobs are {done}.", count(changed)),
        }
    }

    /// What was done, in words.
    pub(crate) fn said(self, report: &BulkReport) -> String {
        let mut said = self.said_of(report.changed);
        if report.skipped > 0 {
            said.push_str(&format!(" {} could not be.", count(report.skipped)));
        }
        for skipped in report.reasons.iter().take(3) {
            said.push_str(&format!(" Job {}: {}.", skipped.job, skipped.reason));
        }
        said
    }
}
