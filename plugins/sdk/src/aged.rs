//! A sweep that deletes rows of one kind once they are older than an instant: tokens of a context,
//! events of a status.

use serde_json::{Map, Value as Json, json};

use crate::audit::AuditEvent;
use crate::context::Context;
use crate::error::{HostError, WorkerError};
use crate::ident::Ident;
use crate::params;
use crate::sweep::{Sweeper, Walk};
use crate::timestamps::TimeFormat;
use crate::value::{Row, Value};

/// What tells the rows apart, in the order of the walk.
const KEY: &[&str] = &["inserted_at", "id"];

/// Rows of a table with the columns `id` and `inserted_at`, whose kind is in a third column.
///
/// The index that serves them: `(kind, inserted_at, id)`.
#[derive(Debug, Clone, Copy)]
pub struct AgedRows<'a> {
    /// The table or view.
    pub table: &'a Ident,
    /// The column that holds the kind: `context`, `status`.
    pub column: &'static str,
    /// The kind.
    pub kind: &'a str,
    /// How the table keeps time.
    pub times: TimeFormat,
}

impl AgedRows<'_> {
    /// The rows that were inserted before the cutoff, oldest first. `?1` cutoff in milliseconds,
    /// `?2` kind.
    #[must_use]
    pub fn walk(&self) -> Walk {
        let (table, column) = (self.table, self.column);
        let before = self.times.before("inserted_at", 1);
        Walk::new(KEY, format!("FROM {table} WHERE {column} = ?2 AND {before}"), 2)
    }

    /// Deletes a row, if it still is one. `?1` id, `?2` cutoff in milliseconds, `?3` kind.
    #[must_use]
    pub fn delete(&self) -> String {
        let (table, column) = (self.table, self.column);
        let before = self.times.before("inserted_at", 2);
        format!("DELETE FROM {table} WHERE id IS ?1 AND {column} = ?3 AND {before}")
    }

    /// Refuses a table that keeps time in another form: see [`TimeFormat::check`].
    ///
    /// # Errors
    /// As [`TimeFormat::check`].
    pub fn check(&self, job: &Context<'_>, cutoff: i64) -> Result<(), WorkerError> {
        let rows = format!("{} = '{}'", self.column, self.kind.replace('\'', "''"));
        self.times.check(job, self.table, "inserted_at", &rows, cutoff)
    }
}

/// What a sweep of [`AgedRows`] writes to the audit log: an event for each batch, and one for each
/// row that the app keeps.
#[derive(Debug, Clone)]
pub struct AgedAudit {
    /// The action: `token.deleted`.
    pub action: &'static str,
    /// What a row is: `token`.
    pub subject: &'static str,
    /// Further metadata of a batch's event, besides the count, the kind and the cutoff.
    pub metadata: Map<String, Json>,
}

/// How many rows were deleted, and how many the app kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AgedTally {
    /// Rows that were deleted.
    pub deleted: u64,
    /// Rows that a constraint or a trigger of the app's refused to delete.
    pub errors: u64,
}

impl AgedTally {
    /// The result of a job. `errors` is in it only if there are any.
    #[must_use]
    pub fn result(self) -> Json {
        if self.errors == 0 {
            json!({ "deleted": self.deleted })
        } else {
            json!({ "deleted": self.deleted, "errors": self.errors })
        }
    }
}

/// The sweep of one kind. A refused row is counted and audited; the others are deleted.
#[derive(Debug)]
pub struct AgedSweep<'a> {
    rows: AgedRows<'a>,
    delete: String,
    cutoff: i64,
    audit: &'a AgedAudit,
    tally: &'a mut AgedTally,
}

impl<'a> AgedSweep<'a> {
    /// The sweep of the rows inserted before the cutoff, in unix milliseconds.
    #[must_use]
    pub fn new(
        rows: AgedRows<'a>,
        cutoff: i64,
        audit: &'a AgedAudit,
        tally: &'a mut AgedTally,
    ) -> Self {
        Self { delete: rows.delete(), rows, cutoff, audit, tally }
    }

    /// The parameters of its walk.
    #[must_use]
    pub fn params(&self) -> Vec<Value> {
        params![self.cutoff, self.rows.kind]
    }

    fn done(&self, deleted: u64) -> AuditEvent {
        let mut metadata = self.audit.metadata.clone();
        metadata.insert("deleted".into(), deleted.into());
        metadata.insert(self.rows.column.into(), self.rows.kind.into());
        metadata.insert("cutoff".into(), self.cutoff.into());
        AuditEvent::success(self.audit.action).metadata(Json::Object(metadata))
    }
}

impl Sweeper for AgedSweep<'_> {
    fn batch(&mut self, job: &Context<'_>, rows: Vec<Row>) -> Result<(), HostError> {
        let mut batch = Vec::with_capacity(rows.len());
        for mut row in rows {
            batch.push(vec![row.take(1)?, Value::from(self.cutoff), Value::from(self.rows.kind)]);
        }
        let (mut deleted, mut events) = (0, Vec::new());
        for (row, result) in batch.iter().zip(job.execute_many(&self.delete, &batch)?) {
            match result {
                // Rows without an id that are alike are deleted at once. A view's triggers change
                // more rows than one.
                Ok(rows) => deleted += if row[0] == Value::Null { rows } else { rows.min(1) },
                Err(error) if error.concerns_one_row() => {
                    self.tally.errors += 1;
                    let id = row[0].as_id().unwrap_or_default();
                    events.push(
                        AuditEvent::error(self.audit.action)
                            .subject(self.audit.subject, id)
                            .cause(&error),
                    );
                }
                Err(error) => return Err(error),
            }
        }
        self.tally.deleted += deleted;
        if deleted > 0 {
            events.push(self.done(deleted));
        }
        job.audit_batch(&events)
    }
}
