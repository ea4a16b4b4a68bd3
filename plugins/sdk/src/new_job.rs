//! A job that a worker puts into the queue.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use crate::value::json_text;

/// A job for later, of this worker or of another: see [`Context::enqueue`](crate::Context::enqueue).
///
/// ```
/// use std::time::Duration;
/// use verger_worker::{NewJob, prelude::json};
///
/// let job = NewJob::new("send-report", json!({"month": "2026-01"})).queue("reports").after(Duration::from_secs(60));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a job does nothing until it is enqueued"]
pub struct NewJob {
    worker: String,
    args: Json,
    options: Map<String, Json>,
}

impl NewJob {
    /// A job for this worker with these args, a JSON object. It is due now, in the queue `default`,
    /// with priority 5 and 20 attempts. It runs for the same scope as the job that enqueues it.
    pub fn new(worker: impl Into<String>, args: Json) -> Self {
        Self { worker: worker.into(), args, options: Map::new() }
    }

    fn option(mut self, name: &str, value: impl Into<Json>) -> Self {
        self.options.insert(name.to_string(), value.into());
        self
    }

    /// It is not performed before this instant, in unix milliseconds.
    pub fn at(mut self, millis: i64) -> Self {
        self.options.remove("after_ms");
        self.option("at", millis)
    }

    /// It is not performed before this long from now.
    pub fn after(mut self, delay: Duration) -> Self {
        self.options.remove("at");
        self.option("after_ms", whole_millis(delay))
    }

    /// Puts it into this queue.
    pub fn queue(self, name: impl Into<String>) -> Self {
        self.option("queue", name.into())
    }

    /// Its priority, from 0 (first) to 9 (last).
    pub fn priority(self, priority: u8) -> Self {
        self.option("priority", priority)
    }

    /// How often it may be tried, at least once.
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.option("max_attempts", attempts)
    }

    /// Makes it unique by its args: if an unfinished job of the same worker and queue has the same
    /// args, that job is returned instead.
    pub fn unique(self) -> Self {
        self.option("unique", true)
    }

    /// Makes it unique by these keys: if an unfinished job of the same worker and queue has the
    /// same values for these keys of the args, that job is returned instead.
    pub fn unique_by<K: Into<String>>(self, keys: impl IntoIterator<Item = K>) -> Self {
        self.option("unique", keys.into_iter().map(Into::into).collect::<Vec<String>>())
    }

    /// Makes it unique for this long from now on, even when the job is finished before.
    pub fn unique_for(self, period: Duration) -> Self {
        let job = self.option("unique_for_ms", whole_millis(period));
        match job.options.contains_key("unique") {
            true => job,
            false => job.unique(),
        }
    }

    /// The worker.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// The args.
    #[must_use]
    pub fn args(&self) -> &Json {
        &self.args
    }

    /// The options, as the WIT names them at `queue.new-job`.
    #[must_use]
    pub fn options(&self) -> &Map<String, Json> {
        &self.options
    }

    /// For hosts: a job with the options that a worker sent.
    #[doc(hidden)]
    pub fn with_options(worker: String, args: Json, options: Map<String, Json>) -> Self {
        Self { worker, args, options }
    }

    /// Its args and its options as JSON text.
    #[cfg(target_family = "wasm")]
    pub(crate) fn texts(&self) -> (String, String) {
        let options = match self.options.is_empty() {
            true => String::new(),
            false => json_text(&Json::Object(self.options.clone())),
        };
        (json_text(&self.args), options)
    }

    /// For hosts: how many bytes its texts have.
    #[doc(hidden)]
    #[must_use]
    pub fn bytes(&self) -> usize {
        let options: usize =
            self.options.iter().map(|(key, value)| key.len() + json_text(value).len()).sum();
        self.worker.len() + json_text(&self.args).len() + options
    }
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What became of a job that a worker enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The job's id.
    pub id: u64,
    /// True when a job like it was there already, and `id` is that job.
    pub existing: bool,
}
