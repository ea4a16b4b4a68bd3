//! Putting a job into the queue.

use std::time::Duration;

use rusqlite::types::{ToSql, ToSqlOutput};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params_from_iter};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use verger_worker::{ArgError, Args, ManifestError};

use super::job::{JobId, JobState};
use crate::plugin_error::PluginError;
use crate::store::{StoreContext, StoreError};
use crate::time::Timestamp;

/// The name of the queue a job is in when it does not say.
const DEFAULT_QUEUE: &str = "default";

/// How deep args may nest: what nests deeper cannot be read again when the job is performed.
const DEPTH_MAX: usize = 127;

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
    pub(crate) queue: String,
    pub(crate) priority: u8,
    pub(crate) max_attempts: u32,
    pub(crate) due: Due,
    pub(crate) unique: Option<Option<Vec<String>>>,
    pub(crate) unique_for: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Due {
    Now,
    After(Duration),
    At(Timestamp),
}

impl NewJob {
    /// A job for this worker with these args, a JSON object: due now, in the queue `default`,
    /// priority 5, 20 attempts.
    pub fn new(worker: impl Into<String>, args: Json) -> Self {
        Self {
            worker: worker.into(),
            args,
            queue: DEFAULT_QUEUE.to_string(),
            priority: 5,
            max_attempts: 20,
            due: Due::Now,
            unique: None,
            unique_for: None,
        }
    }

    /// Not before this instant.
    pub fn at(mut self, when: impl Into<Timestamp>) -> Self {
        self.due = Due::At(when.into());
        self
    }

    /// Not before this long from now.
    pub fn after(mut self, delay: Duration) -> Self {
        self.due = Due::After(delay);
        self
    }

    /// In this queue.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queue = name.into();
        self
    }

    /// From 0, first, to 9, last.
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// How often it may be tried, at least once. An attempt that fails for trouble of the
    /// machine's, such as a full disk or a lock held for too long, counts like any other, and so
    /// does one that a crash ended; a snooze, and one given back when the loop stops, do not.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Not while an unfinished job of the same worker and queue has the same args: then that one is
    /// returned instead.
    pub fn unique(mut self) -> Self {
        self.unique = Some(None);
        self
    }

    /// Not while an unfinished job of the same worker and queue has the same values for these keys
    /// of the args.
    pub fn unique_by<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.unique = Some(Some(keys.into_iter().map(Into::into).collect()));
        self
    }

    /// Unique for this long from now on, even when the job is finished before; and, as always,
    /// until it is finished. Of jobs that are not [`unique_by`](Self::unique_by) some keys it means
    /// all args.
    pub fn unique_for(mut self, period: Duration) -> Self {
        self.unique.get_or_insert(None);
        self.unique_for = Some(period);
        self
    }
}

/// What became of a job that was enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// The job.
    pub id: JobId,
    /// True when an unfinished job like it was there already, and this is that one.
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
        source: ArgError,
    },
    /// The args lack keys that the worker requires; all of them are named.
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
    /// The worker's component cannot be loaded.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The row could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A job whose worker is known and whose args were checked.
pub(crate) struct Ready {
    worker: String,
    args: String,
    queue: String,
    priority: u8,
    max_attempts: u32,
    due: Due,
    tenant_aware: bool,
    unique_key: Option<Vec<u8>>,
    unique_for: Option<Duration>,
    slot: Option<SlotOf>,
}

/// The slot a job is made for.
struct SlotOf {
    schedule: String,
    slot: Timestamp,
    missed: u32,
}

impl Ready {
    /// A job whose worker is not here.
    pub(crate) fn unchecked(mut job: NewJob) -> Result<Self, EnqueueError> {
        let args = Args::from_json(job.args.take())
            .map_err(|source| EnqueueError::Args { worker: job.worker.clone(), source })?;
        Self::new(job, &args, false)
    }

    /// Checks what is independent of the worker. `args` were checked against its manifest.
    pub(crate) fn new(job: NewJob, args: &Args, tenant_aware: bool) -> Result<Self, EnqueueError> {
        let invalid = |reason: &str| EnqueueError::Invalid {
            worker: job.worker.clone(),
            reason: reason.to_string(),
        };
        if job.priority > 9 {
            return Err(invalid("the priority must be from 0, first, to 9, last"));
        }
        if job.max_attempts == 0 {
            return Err(invalid("max_attempts must be at least 1"));
        }
        if job.queue.is_empty() || job.queue.len() > 128 {
            return Err(invalid("the name of the queue must have 1 to 128 bytes"));
        }
        if args.as_map().values().any(|value| nests_deeper(value, DEPTH_MAX - 1)) {
            return Err(invalid(
                "the args nest deeper than 127 levels; put the data into a table and name its row",
            ));
        }
        let text = args.to_string();
        if text.len() > 1 << 20 {
            return Err(invalid(
                "the args have more than 1 MiB of JSON; put the data into a table and name its row",
            ));
        }
        let unique_key =
            job.unique.as_ref().map(|keys| unique_key(&job, args, &text, keys.as_deref()));
        Ok(Self {
            worker: job.worker,
            args: text,
            queue: job.queue,
            priority: job.priority,
            max_attempts: job.max_attempts,
            due: job.due,
            tenant_aware,
            unique_key,
            unique_for: job.unique_for,
            slot: None,
        })
    }

    /// The job of this slot of this schedule, due then.
    pub(crate) fn of_slot(&mut self, schedule: &str, slot: Timestamp, missed: u32, due: Timestamp) {
        self.slot = Some(SlotOf { schedule: schedule.to_string(), slot, missed });
        self.due = Due::At(due);
    }
}

fn nests_deeper(json: &Json, most: usize) -> bool {
    let deeper = |inner: &Json| nests_deeper(inner, most - 1);
    match json {
        Json::Array(items) => most == 0 || items.iter().any(deeper),
        Json::Object(fields) => most == 0 || fields.values().any(deeper),
        _ => false,
    }
}

fn unique_key(job: &NewJob, args: &Args, text: &str, keys: Option<&[String]>) -> Vec<u8> {
    let mut sha = Sha256::new();
    let mut part = |part: &str| {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part.as_bytes());
    };
    part(&job.worker);
    part(&job.queue);
    match keys {
        None => part(text),
        Some(keys) => {
            for key in keys {
                part(key);
                part(&args.as_map().get(key).map(Json::to_string).unwrap_or_default());
            }
        }
    }
    sha.finalize().to_vec()
}

/// A job that stands for no slot, and may be like others.
const INSERT: &str = "INSERT INTO verger_jobs (worker, queue, priority, state, args, tenant_aware, due_at, max_attempts, created_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

const INSERT_WITH_SLOT_OR_KEY: &str = "INSERT INTO verger_jobs (worker, queue, priority, state, args, tenant_aware, due_at, max_attempts, \
     created_at, schedule, slot, missed, unique_key, unique_until) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
     ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING";

const INSERTING: &str = "enqueue the job";

/// Inserts a job, inside the caller's transaction or as one of its own.
pub(crate) fn insert(
    connection: &Connection,
    job: &Ready,
    now: Timestamp,
) -> Result<Enqueued, StoreError> {
    Inserting::into(connection)?.insert(job, now)
}

/// Jobs being inserted, most of them by one statement.
pub(crate) struct Inserting<'c> {
    connection: &'c Connection,
    plainly: CachedStatement<'c>,
}

impl<'c> Inserting<'c> {
    pub(crate) fn into(connection: &'c Connection) -> Result<Self, StoreError> {
        Ok(Self { connection, plainly: connection.prepare_cached(INSERT).doing(INSERTING)? })
    }

    pub(crate) fn insert(&mut self, job: &Ready, now: Timestamp) -> Result<Enqueued, StoreError> {
        if job.slot.is_some() || job.unique_key.is_some() {
            return insert_with_slot_or_key(self.connection, job, now);
        }
        for (place, value) in job.columns(now).iter().enumerate() {
            self.plainly.raw_bind_parameter(place + 1, value).doing(INSERTING)?;
        }
        self.plainly.raw_execute().doing(INSERTING)?;
        Ok(Enqueued { id: JobId(self.connection.last_insert_rowid()), existing: false })
    }
}

impl Ready {
    /// What every job has, in the order of the statements.
    fn columns(&self, now: Timestamp) -> [ToSqlOutput<'_>; 9] {
        let due_at = match self.due {
            Due::Now => now,
            Due::After(delay) => now + delay,
            Due::At(when) => when,
        };
        let state = if due_at > now { JobState::Scheduled } else { JobState::Available };
        [
            self.worker.as_str().into(),
            self.queue.as_str().into(),
            self.priority.into(),
            state.as_str().into(),
            self.args.as_str().into(),
            self.tenant_aware.into(),
            due_at.as_millis().into(),
            self.max_attempts.into(),
            now.as_millis().into(),
        ]
    }
}

fn insert_with_slot_or_key(
    connection: &Connection,
    job: &Ready,
    now: Timestamp,
) -> Result<Enqueued, StoreError> {
    if job.unique_key.is_some() {
        // A finished job keeps its key for a period; nobody takes it away when that is over.
        connection
            .prepare_cached(
                "UPDATE verger_jobs SET unique_key = NULL WHERE unique_key = ?1 AND finished_at IS NOT NULL AND unique_until <= ?2",
            )
            .and_then(|mut update| update.execute((&job.unique_key, now.as_millis())))
            .doing(INSERTING)?;
    }
    let mut insert = connection.prepare_cached(INSERT_WITH_SLOT_OR_KEY).doing(INSERTING)?;
    let rest: [&dyn ToSql; 5] = [
        &job.slot.as_ref().map(|of| &of.schedule),
        &job.slot.as_ref().map(|of| of.slot.as_millis()),
        &job.slot.as_ref().map_or(0, |of| of.missed),
        &job.unique_key,
        &job.unique_for.map(|period| (now + period).as_millis()),
    ];
    let columns = job.columns(now);
    let all = columns.iter().map(|column| column as &dyn ToSql).chain(rest);
    let inserted = insert.execute(params_from_iter(all)).doing(INSERTING)?;
    if inserted == 1 {
        return Ok(Enqueued { id: JobId(connection.last_insert_rowid()), existing: false });
    }
    let existing = connection
        .prepare_cached("SELECT id FROM verger_jobs WHERE unique_key = ?1")
        .and_then(|mut select| select.query_row([&job.unique_key], |row| row.get(0)).optional())
        .doing(INSERTING)?;
    match existing {
        Some(id) => Ok(Enqueued { id: JobId(id), existing: true }),
        // It finished between the two statements.
        None => insert_with_slot_or_key(connection, job, now),
    }
}
