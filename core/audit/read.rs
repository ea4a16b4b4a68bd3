//! Reading: rows as an operator asks for them.

use rusqlite::{Connection, Row};
use serde::Serialize;

use crate::ids::JobId;
use crate::store::{Cells, StoreContext, StoreError, Unreadable};
use crate::time::Timestamp;

/// One row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditRow {
    /// Its id: rows are numbered from 1, without gaps.
    pub id: i64,
    /// When it was written.
    pub occurred_at: Timestamp,
    /// What was done: `membership.updated`.
    pub action: String,
    /// `success`, `failure` or `error`.
    pub outcome: String,
    /// The tenant it concerns.
    pub organization_id: Option<String>,
    /// Who did it: the impersonator when there was one.
    pub actor_id: Option<String>,
    /// The user as whom it was done.
    pub effective_user_id: Option<String>,
    /// The user who impersonated, if there was one.
    pub impersonating_from: Option<String>,
    /// The worker that did it.
    pub worker: Option<String>,
    /// Its version.
    pub worker_version: Option<String>,
    /// The job in which it was done.
    pub job: Option<JobId>,
    /// The attempt in which it was done.
    pub attempt: Option<u32>,
    /// The type of what it was done to.
    pub subject_type: Option<String>,
    /// The id of what it was done to.
    pub subject_id: Option<String>,
    /// The state before, as JSON text.
    pub before: Option<String>,
    /// The state after, as JSON text.
    pub after: Option<String>,
    /// Further facts, as the text of a JSON object.
    pub metadata: Option<String>,
    /// SHA-256 over the hash of the row before and this row, in hexadecimal digits.
    pub hash: String,
    /// Columns that someone else wrote and that cannot be read.
    /// [`Verger::verify_audit`](crate::Verger::verify_audit) tells whether the log is whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
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

const COLUMNS: &[&str] = &[
    "id",
    "occurred_at",
    "action",
    "outcome",
    "organization_id",
    "actor_id",
    "effective_user_id",
    "impersonating_from",
    "worker",
    "worker_version",
    "job",
    "attempt",
    "subject_type",
    "subject_id",
    "before",
    "after",
    "metadata",
    "hash",
];

/// A query for rows that ends with `rest`.
fn select(rest: &str) -> String {
    let (_, all) = COLUMNS.split_last().unwrap_or((&"", &[]));
    format!("SELECT {}, lower(hex(hash)) FROM verger_audit {rest}", all.join(", "))
}

/// The newest rows that match, newest first.
pub(super) fn list(
    connection: &Connection,
    filter: &AuditFilter,
    limit: u32,
) -> Result<Vec<AuditRow>, StoreError> {
    let reading = "read the audit log";
    let sql = select(
        "WHERE (?1 IS NULL OR action = ?1) AND (?2 IS NULL OR organization_id = ?2) AND (?3 IS NULL OR worker = ?3) \
         AND (?4 IS NULL OR job = ?4) AND id < coalesce(?5, 9223372036854775807) ORDER BY id DESC LIMIT ?6",
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
            |row| Ok(from_row(row)),
        )
        .doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

/// The rows after this id, oldest first.
pub(super) fn list_after(
    connection: &Connection,
    id: i64,
    limit: u32,
) -> Result<Vec<AuditRow>, StoreError> {
    let reading = "read the audit log";
    let sql = select("WHERE id > ?1 ORDER BY id LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql).doing(reading)?;
    let rows = statement.query_map((id, limit), |row| Ok(from_row(row))).doing(reading)?;
    rows.collect::<Result<_, _>>().doing(reading)
}

fn from_row(row: &Row<'_>) -> AuditRow {
    let mut cells = Cells::of(row, COLUMNS);
    AuditRow {
        id: cells.integer("id"),
        occurred_at: cells.time("occurred_at"),
        action: cells.text("action"),
        outcome: cells.text("outcome"),
        organization_id: cells.opt_text("organization_id"),
        actor_id: cells.opt_text("actor_id"),
        effective_user_id: cells.opt_text("effective_user_id"),
        impersonating_from: cells.opt_text("impersonating_from"),
        worker: cells.opt_text("worker"),
        worker_version: cells.opt_text("worker_version"),
        job: cells.opt_integer("job").map(JobId),
        attempt: cells.opt_integer("attempt").map(|_| cells.count("attempt")),
        subject_type: cells.opt_text("subject_type"),
        subject_id: cells.opt_text("subject_id"),
        before: cells.opt_text("before"),
        after: cells.opt_text("after"),
        metadata: cells.opt_text("metadata"),
        hash: cells.text("hash"),
        unreadable: cells.unreadable(),
    }
}
