//! Reading: rows as an operator asks for them.

use rusqlite::{Connection, Row};
use serde::Serialize;

use crate::store::{StoreContext, StoreError};

/// One row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditRow {
    /// Its id: rows are numbered from 1, without gaps.
    pub id: i64,
    /// When it was written, in unix milliseconds.
    pub occurred_at: i64,
    /// What was done: `membership.updated`.
    pub action: String,
    /// `success`, `failure` or `error`.
    pub outcome: String,
    /// The tenant it concerns.
    pub organization_id: Option<String>,
    /// Who did it: the impersonator when there was one.
    pub actor_id: Option<String>,
    /// As whom.
    pub effective_user_id: Option<String>,
    /// The impersonator.
    pub impersonating_from: Option<String>,
    /// The worker that did it.
    pub worker: Option<String>,
    /// Its version.
    pub worker_version: Option<String>,
    /// The job it did it in.
    pub job: Option<i64>,
    /// In which attempt.
    pub attempt: Option<u32>,
    /// What it was done to.
    pub subject_type: Option<String>,
    /// Which one.
    pub subject_id: Option<String>,
    /// The state before, as JSON text.
    pub before: Option<String>,
    /// The state after, as JSON text.
    pub after: Option<String>,
    /// Whatever else, as the text of a JSON object.
    pub metadata: Option<String>,
    /// SHA-256 over the hash of the row before and this row, in hexadecimal digits.
    pub hash: String,
}

/// Which rows of the audit log to read.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only this action.
    pub action: Option<String>,
    /// Only this tenant.
    pub organization_id: Option<String>,
    /// Only what this worker did.
    pub worker: Option<String>,
    /// Only what was done in this job.
    pub job: Option<i64>,
    /// Only rows before this id, to page backwards.
    pub before_id: Option<i64>,
}

const COLUMNS: &str = "id, occurred_at, action, outcome, organization_id, actor_id, effective_user_id, impersonating_from, worker, worker_version, \
     job, attempt, subject_type, subject_id, before, after, metadata, lower(hex(hash))";

/// The newest rows that match, newest first.
pub(crate) fn list(
    connection: &Connection,
    filter: &AuditFilter,
    limit: u32,
) -> Result<Vec<AuditRow>, StoreError> {
    let reading = "read the audit log";
    let sql = format!(
        "SELECT {COLUMNS} FROM verger_audit \
         WHERE (?1 IS NULL OR action = ?1) AND (?2 IS NULL OR organization_id = ?2) AND (?3 IS NULL OR worker = ?3) \
         AND (?4 IS NULL OR job = ?4) AND id < coalesce(?5, 9223372036854775807) ORDER BY id DESC LIMIT ?6"
    );
    let mut statement = connection.prepare_cached(&sql).doing(reading)?;
    let rows = statement
        .query_map(
            (
                &filter.action,
                &filter.organization_id,
                &filter.worker,
                filter.job,
                filter.before_id,
                limit,
            ),
            from_row,
        )
        .doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

/// The rows behind this id, oldest first.
pub(crate) fn list_after(
    connection: &Connection,
    id: i64,
    limit: u32,
) -> Result<Vec<AuditRow>, StoreError> {
    let reading = "read the audit log";
    let sql = format!("SELECT {COLUMNS} FROM verger_audit WHERE id > ?1 ORDER BY id LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql).doing(reading)?;
    let rows = statement.query_map((id, limit), from_row).doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        id: row.get(0)?,
        occurred_at: row.get(1)?,
        action: row.get(2)?,
        outcome: row.get(3)?,
        organization_id: row.get(4)?,
        actor_id: row.get(5)?,
        effective_user_id: row.get(6)?,
        impersonating_from: row.get(7)?,
        worker: row.get(8)?,
        worker_version: row.get(9)?,
        job: row.get(10)?,
        attempt: row.get(11)?,
        subject_type: row.get(12)?,
        subject_id: row.get(13)?,
        before: row.get(14)?,
        after: row.get(15)?,
        metadata: row.get(16)?,
        hash: row.get(17)?,
    })
}
