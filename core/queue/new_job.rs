//! A job as the app wants it, and why it may be refused.

use std::time::Duration;

use serde_json::Value as Json;
use verger_worker::{ArgError, ManifestError};

use super::exact::InexactNumber;
use crate::ids::JobId;
use crate::plugin_error::PluginError;
use crate::store::StoreError;
use crate::time::Timestamp;

/// The name of the queue a job is in when it does not say.
const DEFAULT_QUEUE: &str = "default";

/// A job to be enqueued.
///
/// ```
/// use std::time::Duration;
/// use verger::NewJob;
/// let job = NewJob::new("send-report", serde_json::json!({"month": "2026-01"})).queue("reports").after(Duration::from_secs(60));
/// ```
#[derive(Debug, Clone)]
#[must_use = "a job does nothing until it is enqueued"]
pub struct NewJob {
    pub(crate) worker: String,
    pub(crate) args: Json,
    /// `None` for the version that its worker has.
    pub(crate) args_version: Option<u32>,
    pub(crate) queue: String,
    pub(crate) priority: u8,
    pub(crate) max_attempts: u32,
    pub(crate) due: Due,
    pub(crate) unique: Uniqueness,
    pub(crate) unique_for: Option<Duration>,
    pub(crate) traceparent: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) meta: Option<Json>,
}

/// Which other unfinished jobs it must not be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Uniqueness {
    /// It may be like any job.
    No,
    /// Jobs with the same args.
    Args,
    /// Jobs with the same values for these keys.
    Keys(Vec<String>),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Due {
    Now,
    After(Duration),
    At(Timestamp),
}

impl NewJob {
    /// A job for this worker with these args, a JSON object. It is due now, in the queue `default`,
    /// with priority 5 and 20 attempts.
    pub fn new(worker: impl Into<String>, args: Json) -> Self {
        Self {
            worker: worker.into(),
            args,
            args_version: None,
            queue: DEFAULT_QUEUE.to_string(),
            priority: 5,
            max_attempts: 20,
            due: Due::Now,
            unique: Uniqueness::No,
            unique_for: None,
            traceparent: None,
            tags: Vec::new(),
            meta: None,
        }
    }

    /// Says for which version of its worker's args it was written, at least 1:
    /// [`Manifest::args_version`](crate::Manifest::args_version). By default that is the version
    /// that the worker has when the job is enqueued, or 1 where the worker is not here. Args of an
    /// older version are brought into the present form before each attempt. When such a job is
    /// enqueued, only the keys that make the scope are checked. A job of a newer version waits for
    /// a worker that knows it.
    ///
    /// ```
    /// use verger::NewJob;
    ///
    /// let job = NewJob::new("send-mail", serde_json::json!({"to": "ann@example.org"})).args_version(1);
    /// ```
    pub fn args_version(mut self, version: u32) -> Self {
        self.args_version = Some(version);
        self
    }

    /// Makes it a job for one organization, on behalf of an actor or of none. It sets the args
    /// `organization_id` and `actor_id` that a tenant-aware worker requires.
    ///
    /// ```
    /// use verger::NewJob;
    /// let job = NewJob::new("send-report", serde_json::json!({"month": "2026-01"}))
    ///     .for_organization("acme", Some("u-17"));
    /// ```
    pub fn for_organization(self, organization_id: &str, actor_id: Option<&str>) -> Self {
        self.for_tenant(Some(organization_id), actor_id)
    }

    /// Makes it a job for all organizations, on behalf of no one. It sets the args
    /// `organization_id` and `actor_id` to null.
    pub fn for_all_organizations(self) -> Self {
        self.for_tenant(None, None)
    }

    /// Args that are no object stay as they are, and are refused when the job is enqueued.
    fn for_tenant(mut self, organization_id: Option<&str>, actor_id: Option<&str>) -> Self {
        if let Json::Object(args) = &mut self.args {
            args.insert("organization_id".to_string(), organization_id.into());
            args.insert("actor_id".to_string(), actor_id.into());
        }
        self
    }

    /// It is not performed before this instant.
    ///
    /// ```
    /// use verger::{NewJob, Timestamp};
    ///
    /// let job = NewJob::new("send-mail", serde_json::json!({"to": "ann@example.org"}))
    ///     .at(Timestamp::from_millis(1_767_225_600_000));
    /// ```
    pub fn at(mut self, when: impl Into<Timestamp>) -> Self {
        self.due = Due::At(when.into());
        self
    }

    /// It is not performed before this long from now.
    pub fn after(mut self, delay: Duration) -> Self {
        self.due = Due::After(delay);
        self
    }

    /// Puts it into this queue, a name of 1 to 128 bytes.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queue = name.into();
        self
    }

    /// Its priority, from 0 (first) to 9 (last).
    ///
    /// ```
    /// use verger::NewJob;
    ///
    /// let urgent = NewJob::new("send-mail", serde_json::json!({"to": "ann@example.org"})).priority(0);
    /// ```
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// How often it may be tried, at least once. An attempt counts even if it fails because of the
    /// machine, as with a full disk or a lock held for too long, or if a crash ended it. A snooze
    /// does not count, and neither does an attempt that is given back unused.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Makes it unique by its args: if an unfinished job of the same worker and queue has the same
    /// args, that job is returned instead. The order of keys does not matter. `1` and `1.0` are two
    /// values.
    ///
    /// However often such jobs are retried, snoozed or taken back, at most one of them is
    /// unfinished: see [`Verger::retry`](crate::Verger::retry). A job that was cancelled or
    /// discarded does not prevent another.
    ///
    /// ```
    /// use verger::NewJob;
    ///
    /// let verger = verger::testing::example();
    /// let mail = || NewJob::new("send-mail", serde_json::json!({"to": "ann@example.org"})).unique();
    /// let first = verger.enqueue(mail())?;
    /// let again = verger.enqueue(mail())?;
    /// assert!(again.existing);
    /// assert_eq!(again.id, first.id);
    /// # Ok::<(), verger::Error>(())
    /// ```
    pub fn unique(mut self) -> Self {
        self.unique = Uniqueness::Args;
        self
    }

    /// Makes it unique by these keys of its args: if an unfinished job of the same worker and queue
    /// has the same values for them, that job is returned instead. A key that neither the args nor
    /// its worker know is an error, because a typing mistake would make all jobs one.
    ///
    /// ```
    /// use verger::NewJob;
    ///
    /// let verger = verger::testing::example();
    /// let mail = |about| {
    ///     let args = serde_json::json!({"to": "ann@example.org", "about": about});
    ///     NewJob::new("send-mail", args).unique_by(["to"])
    /// };
    /// let first = verger.enqueue(mail("a"))?;
    /// assert!(verger.enqueue(mail("b"))?.existing);
    /// # Ok::<(), verger::Error>(())
    /// ```
    pub fn unique_by<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.unique = Uniqueness::Keys(keys.into_iter().map(Into::into).collect());
        self
    }

    /// Makes it unique for this long from now on, even when the job is finished before, and in any
    /// case until it is finished. Without [`unique_by`](Self::unique_by) it is unique by all args.
    ///
    /// ```
    /// use std::time::Duration;
    /// use verger::NewJob;
    ///
    /// let hourly = NewJob::new("send-mail", serde_json::json!({"to": "ann@example.org"}))
    ///     .unique_for(Duration::from_secs(3600));
    /// ```
    pub fn unique_for(mut self, period: Duration) -> Self {
        if self.unique == Uniqueness::No {
            self.unique = Uniqueness::Args;
        }
        self.unique_for = Some(period);
        self
    }

    /// The W3C trace context it is enqueued in, as in the header `traceparent`:
    /// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`. It is kept with the job and is a
    /// field of the span of each of its attempts. A text that is no trace context is refused.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// Adds a word to find it by, of 1 to 128 bytes. At most 16 of them.
    ///
    /// ```
    /// use verger::{JobFilter, NewJob};
    /// let job = NewJob::new("send-report", serde_json::json!({})).tag("monthly");
    /// let monthly = JobFilter::new().tag("monthly");
    /// ```
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// What the app wants to know of it later: a JSON object of at most 64 KiB, which no worker
    /// sees.
    pub fn meta(mut self, meta: Json) -> Self {
        self.meta = Some(meta);
        self
    }
}

/// What became of a job that was enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The job.
    pub id: JobId,
    /// True when a job like it was there already, and `id` is that job.
    pub existing: bool,
}

/// A job was not enqueued. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// No worker has this name.
    #[error(
        "no worker is named `{name}`: known are {known}; register it with the builder or drop its .wasm into the plugins folder"
    )]
    UnknownWorker {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The args are no JSON object, or one of them is not usable.
    #[error("a job for worker `{worker}` is refused: {source}")]
    Args {
        /// The worker.
        worker: String,
        /// What is wrong.
        r#source: ArgError,
    },
    /// A number in the args would become another number.
    #[error("a job for worker `{worker}` is refused: {source}")]
    Number {
        /// The worker.
        worker: String,
        /// Which number, and where.
        r#source: InexactNumber,
    },
    /// It is to be unique by a key that its args do not have.
    #[error(
        "a job for worker `{worker}` is refused: it is to be unique by `{key}`, and its args have no such key; they have {known}"
    )]
    UniqueBy {
        /// The worker.
        worker: String,
        /// The key.
        key: String,
        /// The keys there are.
        known: String,
    },
    /// The args lack keys that the worker requires. All of them are named.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A setting of the job is out of bounds.
    #[error("a job for worker `{worker}` is refused: {reason}")]
    Invalid {
        /// The worker.
        worker: String,
        /// What is wrong.
        reason: String,
    },
    /// The connection has another database open than Verger, where nobody would look for the job.
    #[error(
        "the job is refused: the connection has {found} open and Verger has {expected}; enqueue on a connection to the same file"
    )]
    OtherFile {
        /// The file that Verger has open.
        expected: String,
        /// The file that the connection has open.
        found: String,
    },
    /// The worker's component cannot be loaded.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The row could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
