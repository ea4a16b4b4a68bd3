//! Assertions on the queue.

use serde_json::Value as Json;

use super::{contains, stop};
use crate::queue::{Job, JobFilter, JobState};
use crate::time::Timestamp;
use crate::verger::Verger;

/// What a job must be like. What is not said may be anything. The macros
/// [`assert_enqueued!`](crate::assert_enqueued) and [`refute_enqueued!`](crate::refute_enqueued)
/// are a short way to write one.
#[derive(Debug, Clone, Default)]
#[must_use = "it asserts nothing by itself"]
pub struct JobMatch {
    worker: Option<String>,
    args: Option<Json>,
    queue: Option<String>,
    priority: Option<u8>,
    due_at: Option<Timestamp>,
    state: Option<JobState>,
    schedule: Option<String>,
}

impl JobMatch {
    /// Any job that is not finished.
    pub fn new() -> Self {
        Self::default()
    }

    /// For this worker.
    pub fn worker(mut self, name: impl Into<String>) -> Self {
        self.worker = Some(name.into());
        self
    }

    /// Whose args have at least this: see [`contains`].
    pub fn args(mut self, args: Json) -> Self {
        self.args = Some(args);
        self
    }

    /// In this queue.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queue = Some(name.into());
        self
    }

    /// With this priority.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Due at exactly this instant.
    pub fn at(mut self, due: impl Into<Timestamp>) -> Self {
        self.due_at = Some(due.into());
        self
    }

    /// In this state, which may be a final one.
    pub fn state(mut self, state: JobState) -> Self {
        self.state = Some(state);
        self
    }

    /// Made by this schedule.
    pub fn schedule(mut self, name: impl Into<String>) -> Self {
        self.schedule = Some(name.into());
        self
    }

    fn matches(&self, job: &Job) -> bool {
        self.worker.as_ref().is_none_or(|worker| *worker == job.worker)
            && self.args.as_ref().is_none_or(|args| contains(&job.args, args))
            && self.queue.as_ref().is_none_or(|queue| *queue == job.queue)
            && self.priority.is_none_or(|priority| priority == job.priority)
            && self.due_at.is_none_or(|due| due == job.due_at)
            && self.state.map_or(!job.state.is_final(), |state| state == job.state)
            && self.schedule.as_ref().is_none_or(|schedule| job.schedule.as_ref() == Some(schedule))
    }

    /// The newest job that matches.
    ///
    /// # Panics
    /// When none does, with the jobs there are.
    #[track_caller]
    pub fn assert_in(&self, verger: &Verger) -> Job {
        let jobs = jobs(verger);
        match jobs.iter().find(|job| self.matches(job)) {
            Some(job) => job.clone(),
            None => stop(&format!("no job is {self:?}\nthere are: {}", listed(&jobs))),
        }
    }

    /// Stops the test when a job matches.
    ///
    /// # Panics
    /// When one does, with that job.
    #[track_caller]
    pub fn refute_in(&self, verger: &Verger) {
        if let Some(job) = jobs(verger).iter().find(|job| self.matches(job)) {
            stop(&format!("a job is {self:?}:{}", line(job)));
        }
    }
}

#[track_caller]
fn jobs(verger: &Verger) -> Vec<Job> {
    verger.jobs(&JobFilter::default(), u32::MAX).unwrap_or_else(|error| stop(&error.to_string()))
}

fn listed(jobs: &[Job]) -> String {
    if jobs.is_empty() { "no jobs at all".to_string() } else { jobs.iter().map(line).collect() }
}

fn line(job: &Job) -> String {
    let due = job.due_at;
    format!(
        "\n  {} {} {} in queue {} with priority {}, due {due}, attempt {} of {}, args {}",
        job.id,
        job.state,
        job.worker,
        job.queue,
        job.priority,
        job.attempt,
        job.max_attempts,
        job.args
    )
}

/// Asserts that a job waits or is under way: `assert_enqueued!(test, worker: "send-report", args:
/// json!({"month": "2026-01"}))`. The fields are the functions of
/// [`JobMatch`](crate::testing::JobMatch). Returns the newest such job.
#[macro_export]
macro_rules! assert_enqueued {
    ($verger:expr $(, $field:ident : $value:expr)* $(,)?) => {
        $crate::testing::JobMatch::new()$(.$field($value))*.assert_in(&$verger)
    };
}

/// Asserts that no such job waits or is under way: see
/// [`assert_enqueued!`](crate::assert_enqueued).
#[macro_export]
macro_rules! refute_enqueued {
    ($verger:expr $(, $field:ident : $value:expr)* $(,)?) => {
        $crate::testing::JobMatch::new()$(.$field($value))*.refute_in(&$verger)
    };
}
