//! Writing: an event of a worker or the app, stamped with who, where and when, and chained.

use rusqlite::Connection;
use verger_worker::AuditEvent;

use super::chain::{self, Hash};
use crate::time::Timestamp;

/// Whose work an event describes. Stamped by the host; a worker has no say in it.
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
/// Known only while a write transaction is open; forget it with [`Log::forget`] whenever one ends
/// or is rolled back to a savepoint.
#[derive(Default)]
pub(crate) struct Log {
    end: Option<(i64, Hash)>,
}

impl Log {
    pub(crate) fn forget(&mut self) {
        self.end = None;
    }

    /// Has the log remember its newest row. At the end of every transaction that appended any.
    pub(crate) fn seal(&self, connection: &Connection) -> rusqlite::Result<()> {
        let end = self.end.map_or_else(|| chain::end(connection), Ok)?;
        chain::set_head(connection, end)
    }

    /// Appends an event that was checked; the id of its row. Inside a write transaction, to be
    /// [sealed](Self::seal) before it commits.
    pub(crate) fn append(
        &mut self,
        connection: &Connection,
        now: Timestamp,
        stamp: &Stamp,
        event: &AuditEvent,
    ) -> rusqlite::Result<i64> {
        let (last, hash) = match self.end.take() {
            Some(end) => end,
            None => chain::end(connection)?,
        };
        let id = last + 1;
        let organization_id = event.organization_id.as_ref().or(stamp.who.organization_id.as_ref());
        let mut chained = chain::Chained::after(&hash);
        chained.integer(Some(id));
        chained.integer(Some(now.as_millis()));
        let texts = [
            Some(&event.action),
            None,
            organization_id,
            stamp.who.actor_id.as_ref(),
            stamp.who.effective_user_id.as_ref(),
            stamp.who.impersonating_from.as_ref(),
            stamp.worker.as_ref(),
            stamp.worker_version.as_ref(),
        ];
        for (place, text) in texts.iter().enumerate() {
            chained.text(if place == 1 {
                Some(event.outcome.as_str())
            } else {
                text.map(String::as_str)
            });
        }
        chained.integer(stamp.job);
        chained.integer(stamp.attempt.map(i64::from));
        for text in
            [&event.subject_type, &event.subject_id, &event.before, &event.after, &event.metadata]
        {
            chained.text(text.as_deref());
        }
        let hash = chained.finish();
        connection.prepare_cached(INSERT)?.execute(rusqlite::params![
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
        Ok(id)
    }
}
