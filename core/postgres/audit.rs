//! The audit log, in lanes: each executor chains its rows to those of a lane of its own.

use postgres::Row;
use sha2::{Digest, Sha256};
use verger_worker::AuditEvent;

use super::session::Session;
use crate::audit::{AuditFilter, AuditRow, ChainError, Chained, Hash, Stamp, Verified, row_hash};
use crate::ids::JobId;
use crate::postgres::claim::count;
use crate::store::StoreError;
use crate::time::Timestamp;

/// The class of the advisory locks of lanes.
const CLASS: i32 = 0x5665_7268;

const APPENDING: &str = "write the audit log";
const READING: &str = "read the audit log";

/// Many rows at once: what differs from one to the next comes as arrays.
const INSERT: &str = "INSERT INTO verger.audit (lane, seq, occurred_at, action, outcome, organization_id, actor_id, effective_user_id, \
     impersonating_from, worker, worker_version, job, attempt, subject_type, subject_id, before, after, metadata, hash) \
     SELECT $1, event.seq, $2, event.action, event.outcome, event.organization_id, $3, $4, $5, $6, $7, $8, $9, event.subject_type, \
     event.subject_id, event.before, event.after, event.metadata, event.hash FROM unnest($10::bigint[], $11::text[], $12::text[], \
     $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::bytea[]) AS event (seq, action, outcome, \
     organization_id, subject_type, subject_id, before, after, metadata, hash) ORDER BY event.seq RETURNING id";

const LANES: &str = "SELECT lane FROM verger.audit_lanes ORDER BY lane";

const NEW_LANE: &str = "INSERT INTO verger.audit_lanes (lane, seq, hash, anchor_seq, anchor_hash) VALUES ($1, 0, $2, 0, $2) ON CONFLICT DO NOTHING";

const END: &str = "SELECT seq, hash FROM (SELECT seq, hash FROM verger.audit WHERE lane = $1 ORDER BY seq DESC LIMIT 1) AS last \
     UNION ALL SELECT seq, hash FROM verger.audit_lanes WHERE lane = $1 ORDER BY seq DESC LIMIT 1";

const SEAL: &str = "UPDATE verger.audit_lanes SET seq = $2, hash = $3 WHERE lane = $1";

/// What a run sends to write the log.
pub(super) const OF_A_RUN: [&str; 5] = [INSERT, LANES, NEW_LANE, END, SEAL];

/// The columns that are hashed, in their order, after the number of the row in its lane.
const COLUMNS: &str = "occurred_at, action, outcome, organization_id, actor_id, effective_user_id, impersonating_from, worker, \
     worker_version, job, attempt, subject_type, subject_id, before, after, metadata";

/// The lane of one session, which holds its advisory lock. No other session writes there.
#[derive(Default)]
pub(super) struct Lane {
    /// The connection that holds the lock, and the number of the lane.
    held: Option<(u64, i32)>,
    /// The end of the lane in the open transaction, once it was read.
    end: Option<(i64, Hash)>,
    /// Rows were written that the lane's own row does not account for yet.
    is_ahead: bool,
    row: Chained,
}

/// What the first row of a lane follows. It differs from lane to lane, so that no lane can stand
/// for another.
fn origin(lane: i32) -> Hash {
    Sha256::digest(lane.to_be_bytes()).into()
}

impl Lane {
    /// Takes a lane if this connection has none, outside a transaction.
    pub(super) fn take(&mut self, session: &mut Session) -> Result<(), StoreError> {
        session.client()?;
        if self.held.is_some_and(|(generation, _)| generation == session.generation()) {
            return Ok(());
        }
        self.forget();
        loop {
            let lanes: Vec<i32> =
                session.query(APPENDING, LANES, &[])?.iter().map(|row| row.get(0)).collect();
            for lane in &lanes {
                let sql = "SELECT pg_try_advisory_lock($1, $2)";
                let row = session.first(APPENDING, sql, &[&CLASS, lane])?;
                if row.is_some_and(|row| row.get(0)) {
                    self.held = Some((session.generation(), *lane));
                    return Ok(());
                }
            }
            // All are held, so there is to be one more. Another session may make it first.
            let lane = lanes.last().map_or(1, |last| last + 1);
            let origin = origin(lane);
            session.execute(APPENDING, NEW_LANE, &[&lane, &origin.as_slice()])?;
        }
    }

    /// Forgets what was read. Call it whenever a transaction ends, or is rolled back to a savepoint.
    pub(super) fn forget(&mut self) {
        self.end = None;
        self.is_ahead = false;
    }

    /// Forgets the end of the lane, which is read anew. What was appended stays to be sealed.
    pub(super) fn forget_end(&mut self) {
        if self.is_ahead {
            self.end = None;
        }
    }

    /// Appends events that were checked, inside a transaction, and returns the ids of their rows.
    pub(super) fn append<'e>(
        &mut self,
        session: &mut Session,
        now: Timestamp,
        stamp: &Stamp,
        events: impl Iterator<Item = &'e AuditEvent>,
    ) -> Result<Vec<i64>, StoreError> {
        let Some((_, lane)) = self.held else { return Ok(Vec::new()) };
        let events: Vec<&AuditEvent> = events.collect();
        let (mut seq, mut hash) = match self.end {
            Some(end) => end,
            None => end(session, lane)?,
        };
        let (mut seqs, mut hashes) = (Vec::new(), Vec::new());
        for event in &events {
            seq += 1;
            hash = row_hash(&mut self.row, &hash, (seq, now), stamp, event);
            seqs.push(seq);
            hashes.push(hash);
        }
        let who = &stamp.who;
        let texts = |of: fn(&AuditEvent) -> Option<&String>| -> Vec<Option<&str>> {
            events.iter().map(|event| of(event).map(String::as_str)).collect()
        };
        let organizations: Vec<Option<&str>> = events
            .iter()
            .map(|event| event.organization_id.as_deref().or(who.organization_id.as_deref()))
            .collect();
        let outcomes: Vec<&str> = events.iter().map(|event| event.outcome.as_str()).collect();
        let hashes: Vec<&[u8]> = hashes.iter().map(Hash::as_slice).collect();
        let rows = session.query(
            APPENDING,
            INSERT,
            &[
                &lane,
                &now.as_millis(),
                &who.actor_id,
                &who.effective_user_id,
                &who.impersonating_from,
                &stamp.worker,
                &stamp.worker_version,
                &stamp.job,
                &stamp.attempt.map(i64::from),
                &seqs,
                &texts(|event| Some(&event.action)),
                &outcomes,
                &organizations,
                &texts(|event| event.subject_type.as_ref()),
                &texts(|event| event.subject_id.as_ref()),
                &texts(|event| event.before.as_ref()),
                &texts(|event| event.after.as_ref()),
                &texts(|event| event.metadata.as_ref()),
                &hashes,
            ],
        )?;
        self.end = Some((seq, hash));
        self.is_ahead |= !events.is_empty();
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Has the lane's own row account for what was appended. Call it before the commit.
    pub(super) fn seal(&mut self, session: &mut Session) -> Result<(), StoreError> {
        if let (true, Some((_, lane))) = (self.is_ahead, self.held) {
            let (seq, hash) = self.end.map_or_else(|| end(session, lane), Ok)?;
            session.execute(APPENDING, SEAL, &[&lane, &seq, &hash.as_slice()])?;
            self.is_ahead = false;
        }
        Ok(())
    }
}

/// The end of a lane in this transaction: its newest row may be ahead of the lane's own.
fn end(session: &mut Session, lane: i32) -> Result<(i64, Hash), StoreError> {
    let row = session.first(APPENDING, END, &[&lane])?;
    Ok(row.map_or((0, origin(lane)), |row| (row.get(0), hash_of(&row, 1))))
}

fn hash_of(row: &Row, column: usize) -> Hash {
    row.get::<_, &[u8]>(column).try_into().unwrap_or_default()
}

/// Reads the whole log, lane by lane, and checks every link.
pub(super) fn verify(session: &mut Session) -> Result<Verified, ChainError> {
    // One snapshot, because executors go on meanwhile.
    session.begin(READING, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let verified = verify_lanes(session);
    session.roll_back();
    verified
}

/// Rows read at once.
const CHUNK: i64 = 5_000;

pub(super) fn verify_lanes(session: &mut Session) -> Result<Verified, ChainError> {
    let lanes = session.query(
        READING,
        "SELECT lane, seq, hash, anchor_seq, anchor_hash FROM verger.audit_lanes ORDER BY lane",
        &[],
    )?;
    let (mut rows, mut pruned) = (0, 0);
    let mut known = 0;
    for row in &lanes {
        let lane: i32 = row.get(0);
        known += 1;
        // A lane that was removed with all its rows leaves a gap.
        if lane != known {
            return Err(ChainError::Broken { id: 0 });
        }
        let (newest, newest_hash, anchor) =
            (row.get::<_, i64>(1), hash_of(row, 2), (row.get::<_, i64>(3), hash_of(row, 4)));
        rows += verify_lane(session, lane, (newest, newest_hash), anchor)?;
        pruned += anchor.0.unsigned_abs();
    }
    let stray = "SELECT id FROM verger.audit WHERE lane NOT IN (SELECT lane FROM verger.audit_lanes) ORDER BY id LIMIT 1";
    match session.first(READING, stray, &[])? {
        Some(row) => Err(ChainError::Broken { id: row.get(0) }),
        None => Ok(Verified { rows, pruned }),
    }
}

fn verify_lane(
    session: &mut Session,
    lane: i32,
    (newest, newest_hash): (i64, Hash),
    (anchor, mut previous): (i64, Hash),
) -> Result<u64, ChainError> {
    let sql = format!(
        "SELECT id, seq, hash, {COLUMNS} FROM verger.audit WHERE lane = $1 AND seq > $2 ORDER BY seq LIMIT {CHUNK}"
    );
    let (mut last, mut kept_id, mut rows, mut chained) = (anchor, 0, 0, Chained::default());
    loop {
        let chunk = session.query(READING, &sql, &[&lane, &last])?;
        for row in &chunk {
            let (id, seq): (i64, i64) = (row.get(0), row.get(1));
            chained.begin_after(&previous);
            chained.integer(Some(seq));
            chained.integer(Some(row.get(3)));
            for column in 4..12 {
                chained.text(row.get(column));
            }
            chained.integer(row.get(12));
            chained.integer(row.get(13));
            for column in 14..19 {
                chained.text(row.get(column));
            }
            previous = chained.hash();
            if seq != last + 1
                || hash_of(row, 2) != previous
                || seq > newest
                || (seq == newest && previous != newest_hash)
            {
                return Err(ChainError::Broken { id });
            }
            (last, kept_id, rows) = (seq, id, rows + 1);
        }
        if chunk.is_empty() {
            break;
        }
    }
    if last < newest {
        return Err(ChainError::Missing { kept: kept_id, last: kept_id + newest - last });
    }
    Ok(rows)
}

/// The newest rows that match, newest first.
pub(super) fn list(
    session: &mut Session,
    filter: &AuditFilter,
    limit: u32,
) -> Result<Vec<AuditRow>, StoreError> {
    let sql = format!(
        "SELECT id, encode(hash, 'hex'), {COLUMNS} FROM verger.audit WHERE ($1::text IS NULL OR action = $1) \
         AND ($2::text IS NULL OR organization_id = $2) AND ($3::text IS NULL OR worker = $3) AND ($4::bigint IS NULL OR job = $4) \
         AND id < coalesce($5, 9223372036854775807) ORDER BY id DESC LIMIT $6"
    );
    let rows = session.query(
        READING,
        &sql,
        &[
            &filter.action,
            &filter.organization_id,
            &filter.worker,
            &filter.job,
            &filter.before_id,
            &i64::from(limit),
        ],
    )?;
    Ok(rows.iter().map(audit_row).collect())
}

fn audit_row(row: &Row) -> AuditRow {
    AuditRow {
        id: row.get(0),
        hash: row.get(1),
        occurred_at: Timestamp::from_millis(row.get(2)),
        action: row.get(3),
        outcome: row.get(4),
        organization_id: row.get(5),
        actor_id: row.get(6),
        effective_user_id: row.get(7),
        impersonating_from: row.get(8),
        worker: row.get(9),
        worker_version: row.get(10),
        job: row.get::<_, Option<i64>>(11).map(JobId),
        attempt: row.get::<_, Option<i64>>(12).map(count),
        subject_type: row.get(13),
        subject_id: row.get(14),
        before: row.get(15),
        after: row.get(16),
        metadata: row.get(17),
        unreadable: Vec::new(),
    }
}

/// Deletes rows that were written before this instant, and moves the anchor of each lane onto the
/// last of them. The newest row of a lane stays. Returns how many rows went.
pub(super) fn prune(session: &mut Session, before: Timestamp) -> Result<u64, StoreError> {
    const PRUNING: &str = "prune the audit log";
    session.transaction(PRUNING, |session| {
        // The last row before the first one that stays, so that what goes is one piece.
        session.execute(
            PRUNING,
            "UPDATE verger.audit_lanes AS lane SET anchor_seq = last.seq, anchor_hash = last.hash FROM verger.audit AS last \
             WHERE last.lane = lane.lane AND last.seq > lane.anchor_seq AND last.seq = \
             (SELECT min(kept.seq) - 1 FROM verger.audit AS kept WHERE kept.lane = lane.lane AND (kept.occurred_at >= $1 OR kept.seq = lane.seq))",
            &[&before.as_millis()],
        )?;
        session.execute(
            PRUNING,
            "DELETE FROM verger.audit AS row USING verger.audit_lanes AS lane WHERE row.lane = lane.lane AND row.seq <= lane.anchor_seq",
            &[],
        )
    })
}
