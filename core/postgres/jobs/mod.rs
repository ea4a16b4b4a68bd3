//! Jobs: put into the queue, and read as an operator asks for them.

mod filter;

use std::collections::BTreeMap;

use postgres::Row;
use serde_json::Value as Json;

use super::claim::count;
use super::session::Session;
use crate::ids::{JobId, Token};
use crate::queue::{Enqueued, Job, JobFilter, JobLog, JobState, LoggedLine, Ready, why_parked};
use crate::store::StoreError;
use crate::time::Timestamp;
use crate::worker::Registry;

const INSERTING: &str = "enqueue the job";

const INSERT: &str = "INSERT INTO verger.jobs (worker, queue, priority, state, args, args_version, tenant_aware, due_at, max_attempts, created_at, \
     schedule, slot, missed, slot_after, zone, unique_key, unique_until, traceparent, tags, meta) \
     VALUES ($1, $2, $3, $4, $5::text::json, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19::text::jsonb, $20::text::json) \
     ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND (finished_at IS NULL OR unique_until IS NOT NULL) DO NOTHING RETURNING id";

/// A finished job keeps its key for a period, and nobody removes the key when that is over.
const FREE_KEY: &str = "UPDATE verger.jobs SET unique_until = NULL WHERE unique_key = $1 AND finished_at IS NOT NULL AND unique_until <= $2";

const HAS_KEY: &str = "SELECT id FROM verger.jobs WHERE unique_key = $1 AND (finished_at IS NULL OR unique_until IS NOT NULL)";

/// What a run sends to enqueue.
pub(super) const OF_A_RUN: [&str; 3] = [INSERT, FREE_KEY, HAS_KEY];

/// How often it is looked for a unique job that others end at the same time.
const LOOKS_MAX: usize = 100;

/// Inserts a job that was checked, inside the caller's transaction or in one of its own.
pub(super) fn insert(
    session: &mut Session,
    job: &Ready,
    now: Timestamp,
) -> Result<Enqueued, StoreError> {
    let (due_at, at) = (job.due_at(now), now.as_millis());
    let slot = job.slot.as_ref();
    for _ in 0..LOOKS_MAX {
        if let Some(key) = &job.unique_key {
            session.execute(INSERTING, FREE_KEY, &[key, &at])?;
        }
        let inserted = session.first(
            INSERTING,
            INSERT,
            &[
                &job.worker,
                &job.queue,
                &i16::from(job.priority),
                &JobState::of_due(due_at, now).as_str(),
                &job.args,
                &i64::from(job.args_version),
                &job.tenant_aware,
                &due_at.as_millis(),
                &i64::from(job.max_attempts),
                &at,
                &slot.map(|of| &of.schedule),
                &slot.map(|of| of.slot.as_millis()),
                &slot.map_or(0, |of| i64::from(of.missed)),
                &slot.and_then(|of| of.after).map(Timestamp::as_millis),
                &slot.map(|of| &of.zone),
                &job.unique_key,
                &job.unique_for.map(|period| (now + period).as_millis()),
                &job.traceparent,
                &job.tags,
                &job.meta,
            ],
        )?;
        if let Some(row) = inserted {
            return Ok(Enqueued { id: JobId(row.get(0)), existing: false });
        }
        let existing = session.first(INSERTING, HAS_KEY, &[&job.unique_key])?;
        if let Some(row) = existing {
            return Ok(Enqueued { id: JobId(row.get(0)), existing: true });
        }
        // It finished between the two statements.
    }
    Err(super::failure::unusable(INSERTING, "jobs like it keep ending and beginning meanwhile"))
}

const COLUMNS: &str = "id, worker, queue, priority, state, args::text, args_version, due_at, attempt, max_attempts, snoozes, token, lease_until, \
     created_at, attempted_at, finished_at, result, errors::text, worker_version, worker_digest, schedule, slot, missed, slot_after, zone, \
     progress_done, progress_total, traceparent, tags::text, meta::text";

const READING: &str = "read the jobs";

/// One job.
pub(super) fn get(
    session: &mut Session,
    id: JobId,
    registry: &Registry,
) -> Result<Option<Job>, StoreError> {
    let known = Known::of(session, registry)?;
    let sql = format!("SELECT {COLUMNS} FROM verger.jobs WHERE id = $1");
    Ok(session.first(READING, &sql, &[&id.number()])?.map(|row| job(&row, &known)))
}

/// The newest jobs that match, newest first.
pub(super) fn list(
    session: &mut Session,
    filter: &JobFilter,
    limit: u32,
    registry: &Registry,
) -> Result<Vec<Job>, StoreError> {
    let known = Known::of(session, registry)?;
    let mut condition = filter::condition(filter);
    let limit = condition.bind(i64::from(limit));
    let sql = format!(
        "SELECT {COLUMNS} FROM verger.jobs WHERE {} ORDER BY id DESC LIMIT {limit}",
        condition.text
    );
    let rows = session.query(READING, &sql, &condition.params())?;
    Ok(rows.iter().map(|row| job(row, &known)).collect())
}

/// How many jobs match.
pub(super) fn count_of(session: &mut Session, filter: &JobFilter) -> Result<u64, StoreError> {
    let condition = filter::condition(filter);
    let sql = format!("SELECT count(*) FROM verger.jobs WHERE {}", condition.text);
    let row = session.first(READING, &sql, &condition.params())?;
    Ok(row.map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
}

/// Which workers there are to perform a job. Who has none of its own looks at the jobs of others,
/// and goes by what all nodes ever had.
enum Known<'a> {
    Here(&'a Registry),
    Anywhere(BTreeMap<String, u32>),
}

impl<'a> Known<'a> {
    fn of(session: &mut Session, registry: &'a Registry) -> Result<Self, StoreError> {
        if !registry.snapshot().is_empty() {
            return Ok(Self::Here(registry));
        }
        let sql = "SELECT name, args_version FROM verger.workers";
        let rows = session.query(READING, sql, &[])?;
        Ok(Self::Anywhere(rows.iter().map(|row| (row.get(0), count(row.get(1)))).collect()))
    }

    /// The newest version of the args that this worker knows.
    fn newest(&self, worker: &str) -> Option<u32> {
        match self {
            Self::Here(registry) => registry.get(worker).map(|worker| worker.newest_args()),
            Self::Anywhere(known) => known.get(worker).copied(),
        }
    }
}

fn job(row: &Row, known: &Known<'_>) -> Job {
    let state: JobState = row.get::<_, &str>(4).parse().unwrap_or(JobState::Discarded);
    let (worker, args_version): (String, u32) = (row.get(1), count(row.get(6)));
    let newest = known.newest(&worker);
    let parked = Some(newest).filter(|_| state.is_waiting());
    let parked = parked.and_then(|newest| why_parked(&worker, args_version, newest));
    let time = |column: usize| row.get::<_, Option<i64>>(column).map(Timestamp::from_millis);
    let json = |column: usize| {
        let text: Option<&str> = row.get(column);
        text.and_then(|text| serde_json::from_str::<Json>(text).ok())
    };
    let shape = |column: usize| row.get::<_, Option<&str>>(column).unwrap_or("[]");
    Job {
        id: JobId(row.get(0)),
        worker,
        queue: row.get(2),
        priority: u8::try_from(row.get::<_, i16>(3)).unwrap_or_default(),
        state,
        parked: parked.is_some(),
        parked_because: parked,
        args: json(5).unwrap_or_default(),
        args_version,
        due_at: Timestamp::from_millis(row.get(7)),
        attempt: count(row.get(8)),
        max_attempts: count(row.get(9)),
        snoozes: count(row.get(10)),
        token: Token(row.get(11)),
        lease_until: time(12),
        created_at: Timestamp::from_millis(row.get(13)),
        attempted_at: time(14),
        finished_at: time(15),
        result: json(16),
        errors: serde_json::from_str(shape(17)).unwrap_or_default(),
        worker_version: row.get(18),
        worker_digest: row.get(19),
        schedule: row.get(20),
        slot: time(21),
        missed: count(row.get(22)),
        slot_after: time(23),
        zone: row.get(24),
        progress_done: row.get(25),
        progress_total: row.get(26),
        traceparent: row.get(27),
        tags: serde_json::from_str(shape(28)).unwrap_or_default(),
        meta: json(29),
        unreadable: Vec::new(),
    }
}

/// What was logged of a job, attempt by attempt.
pub(super) fn log(session: &mut Session, id: JobId) -> Result<Vec<JobLog>, StoreError> {
    let rows = session.query(
        "read the log of the job",
        "SELECT attempt, at, dropped, lines FROM verger.logs WHERE job = $1 ORDER BY attempt",
        &[&id.number()],
    )?;
    let log = |row: &Row| JobLog {
        attempt: count(row.get(0)),
        at: Timestamp::from_millis(row.get(1)),
        dropped: count(row.get(2)),
        lines: serde_json::from_str::<Vec<LoggedLine>>(row.get(3)).unwrap_or_default(),
        unreadable: Vec::new(),
    };
    Ok(rows.iter().map(log).collect())
}

/// Makes jobs available whose time has come, so many at a time. Returns when to go on, or when the
/// next one is due.
pub(super) fn make_available(
    session: &mut Session,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    /// Jobs moved by one statement.
    const BATCH: u64 = 5_000;
    const DOING: &str = "look for due jobs";
    let sql = format!(
        "UPDATE verger.jobs SET state = 'available' WHERE id IN (SELECT id FROM verger.jobs WHERE state IN ('scheduled', 'retryable') \
         AND due_at <= $1 ORDER BY due_at LIMIT {BATCH} FOR UPDATE SKIP LOCKED)"
    );
    if session.execute(DOING, &sql, &[&now.as_millis()])? >= BATCH {
        return Ok(Some(now));
    }
    let next = session.first(
        DOING,
        "SELECT min(due_at) FROM verger.jobs WHERE state IN ('scheduled', 'retryable') AND due_at > $1",
        &[&now.as_millis()],
    )?;
    Ok(next.and_then(|row| row.get::<_, Option<i64>>(0)).map(Timestamp::from_millis))
}
