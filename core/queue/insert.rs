//! Putting a job into the queue.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::types::{ToSql, ToSqlOutput};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params_from_iter};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use verger_worker::{Args, Manifest};

use super::bounds::{is_due_time, is_priority, is_queue_name};
use super::canonical::canonical;
use super::exact::check_numbers;
use super::job::JobState;
use super::new_job::{Due, EnqueueError, Enqueued, NewJob, Uniqueness};
use crate::event::{EventJob, EventKind};
use crate::ids::JobId;
use crate::store::{StoreContext, StoreError};
use crate::time::Timestamp;

/// How deep args may nest. Deeper ones could not be read again when the job is performed.
const DEPTH_MAX: usize = 127;

/// A job whose worker is known and whose args were checked.
#[derive(Clone)]
pub(crate) struct Ready {
    pub(crate) worker: String,
    pub(crate) args: String,
    pub(crate) args_version: u32,
    pub(crate) queue: String,
    pub(crate) priority: u8,
    pub(crate) max_attempts: u32,
    pub(crate) due: Due,
    pub(crate) tenant_aware: bool,
    pub(crate) unique_key: Option<Vec<u8>>,
    pub(crate) unique_for: Option<Duration>,
    pub(crate) slot: Option<SlotOf>,
    pub(crate) traceparent: Option<String>,
    /// JSON.
    pub(crate) tags: Option<String>,
    /// JSON.
    pub(crate) meta: Option<String>,
}

/// The slot a job is made for.
#[derive(Clone)]
pub(crate) struct SlotOf {
    pub(crate) schedule: String,
    pub(crate) slot: Timestamp,
    /// How many earlier slots the job stands for.
    pub(crate) missed: u32,
    /// The slot before those, if there was one.
    pub(crate) after: Option<Timestamp>,
    /// The schedule's time zone.
    pub(crate) zone: String,
}

impl Ready {
    /// A job whose worker is not here, checked as far as that goes.
    pub(crate) fn unchecked(mut job: NewJob) -> Result<Self, EnqueueError> {
        let args = Args::from_json(job.args.take())
            .map_err(|source| EnqueueError::Args { worker: job.worker.clone(), source })?;
        Self::new(job, &args, None, false)
    }

    /// Checks what does not depend on the worker. `args` were checked against its manifest.
    pub(crate) fn new(
        job: NewJob,
        args: &Args,
        manifest: Option<&Manifest>,
        tenant_aware: bool,
    ) -> Result<Self, EnqueueError> {
        let invalid = |reason: &str| EnqueueError::Invalid {
            worker: job.worker.clone(),
            reason: reason.to_string(),
        };
        if !is_priority(job.priority) {
            let asked = job.priority;
            return Err(invalid(&format!(
                "priority {asked}: it must be from 0, first, to 9, last"
            )));
        }
        let args_version =
            job.args_version.or(manifest.map(|manifest| manifest.args_version)).unwrap_or(1);
        if args_version == 0 {
            return Err(invalid("the version of its args must be at least 1"));
        }
        if job.max_attempts == 0 {
            return Err(invalid("max_attempts must be at least 1"));
        }
        if matches!(job.due, Due::At(when) if !is_due_time(when)) {
            return Err(invalid("it is due after the year 9999, the last a time can name"));
        }
        if !is_queue_name(&job.queue) {
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
        check_numbers(&text)
            .map_err(|source| EnqueueError::Number { worker: job.worker.clone(), source })?;
        let (tags, meta) = (tags_text(&job.tags), job.meta.as_ref().map(meta_text));
        let (tags, meta) = (tags.map_err(invalid)?, meta.transpose().map_err(invalid)?);
        if job.traceparent.as_deref().is_some_and(|text| !is_traceparent(text)) {
            return Err(invalid(
                "the traceparent is none: as in the W3C's Trace Context it has a version, a trace id, a parent id and flags, in hexadecimal digits",
            ));
        }
        let unique_key = unique_key(&job, args, manifest)?;
        Ok(Self {
            worker: job.worker,
            args: text,
            args_version,
            queue: job.queue,
            priority: job.priority,
            max_attempts: job.max_attempts,
            due: job.due,
            tenant_aware,
            unique_key,
            unique_for: job.unique_for,
            slot: None,
            traceparent: job.traceparent,
            tags,
            meta,
        })
    }

    /// The args, as the table has them, and their version.
    pub(crate) fn into_args(self) -> (String, u32) {
        (self.args, self.args_version)
    }

    /// Makes it the job of a slot, due at this time.
    pub(crate) fn of_slot(&mut self, slot: SlotOf, due: Timestamp) {
        self.slot = Some(slot);
        self.due = Due::At(due);
    }
}

/// Tags as the column has them.
pub(super) fn tags_text(tags: &[String]) -> Result<Option<String>, &'static str> {
    if tags.len() > 16 {
        return Err("it has more than 16 tags");
    }
    if tags.iter().any(|tag| tag.is_empty() || tag.len() > 128) {
        return Err("a tag must have 1 to 128 bytes");
    }
    let tags: BTreeSet<_> = tags.iter().collect();
    Ok((!tags.is_empty()).then(|| serde_json::json!(tags).to_string()))
}

fn meta_text(meta: &Json) -> Result<String, &'static str> {
    if !meta.is_object() {
        return Err("its meta is no JSON object");
    }
    if nests_deeper(meta, DEPTH_MAX) {
        return Err("its meta nests deeper than 127 levels");
    }
    let text = meta.to_string();
    if text.len() > 64 << 10 {
        return Err("its meta has more than 64 KiB of JSON");
    }
    Ok(text)
}

/// `version-trace id-parent id-flags`, in lower-case hexadecimal digits. An id of zeros is no id.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let is_hex = |part: &&str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |part: &&str, digits| is_hex(part, digits) && part.bytes().any(|byte| byte != b'0');
    match parts.as_slice() {
        [version, trace, parent, flags, rest @ ..] => {
            is_hex(version, 2)
                && *version != "ff"
                && is_id(trace, 32)
                && is_id(parent, 16)
                && is_hex(flags, 2)
                // A later version may have more parts after these.
                && (rest.is_empty() || *version != "00")
                && text.len() <= 256
        }
        _ => false,
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

fn unique_key(
    job: &NewJob,
    args: &Args,
    manifest: Option<&Manifest>,
) -> Result<Option<Vec<u8>>, EnqueueError> {
    let mut sha = Sha256::new();
    let mut part = |part: &str| {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part.as_bytes());
    };
    part(&job.worker);
    part(&job.queue);
    match &job.unique {
        Uniqueness::No => return Ok(None),
        Uniqueness::Args => {
            let mut args: Vec<_> = args.as_map().iter().collect();
            args.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in args {
                part(key);
                part(&canonical(value));
            }
        }
        // In one order, and each once, however they were named.
        Uniqueness::Keys(keys) => {
            for key in keys.iter().collect::<BTreeSet<_>>() {
                part(key);
                match args.as_map().get(key) {
                    Some(value) => part(&canonical(value)),
                    None if may_be_absent(key, keys, args, manifest) => part(""),
                    None => return Err(no_such_key(job, args, key)),
                }
            }
        }
    }
    Ok(Some(sha.finalize().to_vec()))
}

/// Whether the args may lack a key because other jobs may have it: the worker knows it. If the
/// worker tells nothing of its args, the key is accepted when another named key is there.
fn may_be_absent(key: &str, keys: &[String], args: &Args, manifest: Option<&Manifest>) -> bool {
    match manifest.filter(|manifest| !manifest.args.is_empty()) {
        Some(manifest) => manifest.args.contains_key(key),
        None => keys.iter().any(|other| args.as_map().contains_key(other)),
    }
}

fn no_such_key(job: &NewJob, args: &Args, key: &str) -> EnqueueError {
    let mut known: Vec<_> = args.as_map().keys().map(|key| format!("`{key}`")).collect();
    known.sort_unstable();
    EnqueueError::UniqueBy {
        worker: job.worker.clone(),
        key: key.to_string(),
        known: if known.is_empty() { "none".to_string() } else { known.join(", ") },
    }
}

/// Inserts a job that stands for no slot, is not unique, and has nothing beside its args.
const INSERT: &str = "INSERT INTO verger_jobs (worker, queue, priority, state, args, args_version, tenant_aware, due_at, max_attempts, created_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

const INSERT_IN_FULL: &str = "INSERT INTO verger_jobs (worker, queue, priority, state, args, args_version, tenant_aware, due_at, max_attempts, \
     created_at, schedule, slot, missed, slot_after, zone, unique_key, unique_until, traceparent, tags, meta) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20) \
     ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND (finished_at IS NULL OR unique_until IS NOT NULL) DO NOTHING";

const INSERTING: &str = "enqueue the job";

/// Inserts a job, inside the caller's transaction or in one of its own.
pub(super) fn insert(
    connection: &Connection,
    job: &Ready,
    now: Timestamp,
) -> Result<Enqueued, StoreError> {
    Inserting::into(connection)?.insert(job, now)
}

/// Inserts many jobs, most of them by one prepared statement.
pub(crate) struct Inserting<'c> {
    connection: &'c Connection,
    plainly: CachedStatement<'c>,
}

impl<'c> Inserting<'c> {
    pub(crate) fn into(connection: &'c Connection) -> Result<Self, StoreError> {
        Ok(Self { connection, plainly: connection.prepare_cached(INSERT).doing(INSERTING)? })
    }

    pub(crate) fn insert(&mut self, job: &Ready, now: Timestamp) -> Result<Enqueued, StoreError> {
        if !job.is_plain() {
            return insert_in_full(self.connection, job, now);
        }
        for (place, value) in job.columns(now).iter().enumerate() {
            self.plainly.raw_bind_parameter(place + 1, value).doing(INSERTING)?;
        }
        self.plainly.raw_execute().doing(INSERTING)?;
        Ok(Enqueued { id: JobId(self.connection.last_insert_rowid()), existing: false })
    }
}

impl Ready {
    fn is_plain(&self) -> bool {
        self.slot.is_none()
            && self.unique_key.is_none()
            && self.traceparent.is_none()
            && self.tags.is_none()
            && self.meta.is_none()
    }

    /// When it is due, if it is enqueued now.
    pub(crate) fn due_at(&self, now: Timestamp) -> Timestamp {
        match self.due {
            Due::Now => now,
            Due::After(delay) => now + delay,
            Due::At(when) => when,
        }
    }

    /// The event to tell, once it is enqueued as this job and that is committed.
    pub(crate) fn event(&self, id: JobId, now: Timestamp) -> EventKind {
        let job = EventJob {
            id,
            worker: self.worker.clone(),
            queue: self.queue.clone(),
            attempt: 0,
            schedule: self.slot.as_ref().map(|of| of.schedule.clone()),
        };
        EventKind::Enqueued { job, due_at: self.due_at(now) }
    }

    /// The columns that every job has, in the order of the statements.
    fn columns(&self, now: Timestamp) -> [ToSqlOutput<'_>; 10] {
        let due_at = self.due_at(now);
        [
            self.worker.as_str().into(),
            self.queue.as_str().into(),
            self.priority.into(),
            JobState::of_due(due_at, now).as_str().into(),
            self.args.as_str().into(),
            self.args_version.into(),
            self.tenant_aware.into(),
            due_at.as_millis().into(),
            self.max_attempts.into(),
            now.as_millis().into(),
        ]
    }
}

fn insert_in_full(
    connection: &Connection,
    job: &Ready,
    now: Timestamp,
) -> Result<Enqueued, StoreError> {
    if job.unique_key.is_some() {
        // A finished job keeps its key for a period, and nobody removes the key when that is over.
        connection
            .prepare_cached(
                "UPDATE verger_jobs SET unique_until = NULL WHERE unique_key = ?1 AND finished_at IS NOT NULL AND unique_until <= ?2",
            )
            .and_then(|mut update| update.execute((&job.unique_key, now.as_millis())))
            .doing(INSERTING)?;
    }
    let mut insert = connection.prepare_cached(INSERT_IN_FULL).doing(INSERTING)?;
    let rest: [&dyn ToSql; 10] = [
        &job.slot.as_ref().map(|of| &of.schedule),
        &job.slot.as_ref().map(|of| of.slot.as_millis()),
        &job.slot.as_ref().map_or(0, |of| of.missed),
        &job.slot.as_ref().and_then(|of| of.after).map(Timestamp::as_millis),
        &job.slot.as_ref().map(|of| &of.zone),
        &job.unique_key,
        &job.unique_for.map(|period| (now + period).as_millis()),
        &job.traceparent,
        &job.tags,
        &job.meta,
    ];
    let columns = job.columns(now);
    let all = columns.iter().map(|column| column as &dyn ToSql).chain(rest);
    let inserted = insert.execute(params_from_iter(all)).doing(INSERTING)?;
    if inserted == 1 {
        return Ok(Enqueued { id: JobId(connection.last_insert_rowid()), existing: false });
    }
    let existing = connection
        .prepare_cached("SELECT id FROM verger_jobs WHERE unique_key = ?1 AND (finished_at IS NULL OR unique_until IS NOT NULL)")
        .and_then(|mut select| select.query_row([&job.unique_key], |row| row.get(0)).optional())
        .doing(INSERTING)?;
    match existing {
        Some(id) => Ok(Enqueued { id: JobId(id), existing: true }),
        // It finished between the two statements.
        None => insert_in_full(connection, job, now),
    }
}
