//! Writing: an event of a worker or the app, stamped with who, where and when, and chained.

use rusqlite::Connection;
use verger_worker::AuditEvent;

use super::chain::{self, Hash};
use crate::time::Timestamp;

/// Whose work an event describes. The host sets it; a worker has no say in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stamp {
    pub(crate) who: Who,
    pub(crate) worker: Option<String>,
    pub(crate) worker_version: Option<String>,
    pub(crate) job: Option<i64>,
    pub(crate) attempt: Option<u32>,
}

/// The ids of a scope as the log keeps them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who {
    pub(crate) organization_id: Option<String>,
    /// Who did it: the impersonator when there is one.
    pub(crate) actor_id: Option<String>,
    /// As whom.
    pub(crate) effective_user_id: Option<String>,
    pub(crate) impersonating_from: Option<String>,
}

impl Who {
    pub(crate) fn of(scope: &verger_worker::Scope) -> Self {
        let owned = |id: Option<&str>| id.map(str::to_string);
        Self {
            organization_id: owned(scope.organization_id()),
            actor_id: owned(scope.impersonating_from().or(scope.actor_id())),
            effective_user_id: owned(scope.actor_id()),
            impersonating_from: owned(scope.impersonating_from()),
        }
    }
}

const INSERT: &str = "INSERT INTO verger_audit (id, occurred_at, action, outcome, organization_id, actor_id, effective_user_id, impersonating_from, \
     worker, worker_version, job, attempt, subject_type, subject_id, before, after, metadata, hash) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";

/// The end of the log within one transaction: the id and the hash of its last row.
///
/// It is known only while a write transaction is open. Call [`Log::forget`] whenever one ends or is
/// rolled back to a savepoint.
#[derive(Default)]
pub(crate) struct Log {
    end: Option<(i64, Hash)>,
    row: chain::Chained,
}

impl Log {
    pub(crate) fn forget(&mut self) {
        self.end = None;
    }

    /// Records the newest row. Call it at the end of every transaction that appended any.
    pub(crate) fn seal(&self, connection: &Connection) -> rusqlite::Result<()> {
        let end = self.end.map_or_else(|| chain::end(connection), Ok)?;
        chain::set_head(connection, end)
    }

    /// Appends one event that was checked, seals the log, and returns the id of the row. Call it
    /// inside a write transaction that appends no other.
    pub(crate) fn append_one(
        connection: &Connection,
        now: Timestamp,
        stamp: &Stamp,
        event: &AuditEvent,
    ) -> rusqlite::Result<i64> {
        let mut log = Self::default();
        let ids = log.append_all(connection, now, stamp, std::iter::once(event), || true)?;
        log.seal(connection)?;
        Ok(ids.last().copied().unwrap_or_default())
    }

    /// Appends events that were checked, and returns the ids of their rows. Call it inside a write
    /// transaction, and [seal](Self::seal) the log before it commits. `goes_on` is asked before
    /// each event. If it answers no, there are fewer ids than events.
    ///
    /// # Errors
    /// Those of the database. Some of the events may have been written then.
    pub(crate) fn append_all<'e>(
        &mut self,
        connection: &Connection,
        now: Timestamp,
        stamp: &Stamp,
        events: impl ExactSizeIterator<Item = &'e AuditEvent>,
        goes_on: impl Fn() -> bool,
    ) -> rusqlite::Result<Vec<i64>> {
        let mut insert = connection.prepare_cached(INSERT)?;
        let mut ids = Vec::with_capacity(events.len());
        for event in events {
            if !goes_on() {
                break;
            }
            let (last, hash) = match self.end.take() {
                Some(end) => end,
                None => chain::end(connection)?,
            };
            let id = last + 1;
            let hash = row_hash(&mut self.row, &hash, (id, now), stamp, event);
            let organization_id =
                event.organization_id.as_ref().or(stamp.who.organization_id.as_ref());
            insert.execute(rusqlite::params![
                id,
                now.as_millis(),
                event.action,
                event.outcome.as_str(),
                organization_id,
                stamp.who.actor_id,
                stamp.who.effective_user_id,
                stamp.who.impersonating_from,
                stamp.worker,
                stamp.worker_version,
                stamp.job,
                stamp.attempt,
                event.subject_type,
                event.subject_id,
                event.before,
                event.after,
                event.metadata,
                hash,
            ])?;
            self.end = Some((id, hash));
            ids.push(id);
        }
        Ok(ids)
    }
}

/// The hash of a row, every column in its place.
pub(crate) fn row_hash(
    row: &mut chain::Chained,
    previous: &Hash,
    (id, now): (i64, Timestamp),
    stamp: &Stamp,
    event: &AuditEvent,
) -> Hash {
    let who = &stamp.who;
    row.begin_after(previous);
    row.integer(Some(id));
    row.integer(Some(now.as_millis()));
    row.text(Some(&event.action));
    row.text(Some(event.outcome.as_str()));
    for text in [
        event.organization_id.as_ref().or(who.organization_id.as_ref()),
        who.actor_id.as_ref(),
        who.effective_user_id.as_ref(),
        who.impersonating_from.as_ref(),
        stamp.worker.as_ref(),
        stamp.worker_version.as_ref(),
    ] {
        row.text(text.map(String::as_str));
    }
    row.integer(stamp.job);
    row.integer(stamp.attempt.map(i64::from));
    for text in
        [&event.subject_type, &event.subject_id, &event.before, &event.after, &event.metadata]
    {
        row.text(text.as_deref());
    }
    row.hash()
}
