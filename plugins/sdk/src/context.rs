//! What a worker has while it performs: access to the database, the audit log and the app.

use std::rc::Rc;

use serde_json::Value as Json;

use crate::audit::AuditEvent;
use crate::error::{HostError, code};
use crate::host::{Host, HostCursor, HostSavepoint, JobInfo, LogLevel};
use crate::new_job::{Enqueued, NewJob};
use crate::value::{Row, Value, json_text};

/// The running job. Everything done through it belongs to one transaction, which commits with the
/// job's outcome.
pub struct Context<'a> {
    host: &'a dyn Host,
}

impl<'a> Context<'a> {
    /// For hosts: a context that uses this host.
    #[must_use]
    pub fn new(host: &'a dyn Host) -> Self {
        Self { host }
    }

    /// Runs one statement that returns rows, which are read in chunks. Parameters bind to `?1`,
    /// `?2`, … in order.
    ///
    /// # Errors
    /// When the statement is denied, wrong, or over a limit.
    pub fn query(&self, sql: &str, params: Vec<Value>) -> Result<Cursor<'a>, HostError> {
        let cursor = self.host.query(sql, &params)?;
        let columns = cursor.columns().into();
        Ok(Cursor { cursor, columns })
    }

    /// All rows of a query in one call of the host, if they fit in one chunk (16 MiB unless the
    /// grant says otherwise).
    ///
    /// # Errors
    /// As [`query`](Self::query). Code `limit` for more rows; what the statement wrote is undone.
    pub fn query_all(&self, sql: &str, params: Vec<Value>) -> Result<Vec<Row>, HostError> {
        let (columns, rows) = self.host.query_all(sql, &params)?;
        let columns: Rc<[String]> = columns.into();
        Ok(rows.into_iter().map(|values| Row::new(Rc::clone(&columns), values)).collect())
    }

    /// The first row of a query, if there is one.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub fn query_row(&self, sql: &str, params: Vec<Value>) -> Result<Option<Row>, HostError> {
        Ok(self.query(sql, params)?.next_chunk(1)?.pop())
    }

    /// Runs one statement, and returns the number of rows it changed.
    ///
    /// # Errors
    /// When the statement is denied, wrong, refused by a constraint, or over a limit.
    pub fn execute(&self, sql: &str, params: Vec<Value>) -> Result<u64, HostError> {
        self.host.execute(sql, &params).map(u64::from)
    }

    /// Runs one statement once for each set of parameters, and returns a result for each. One bad
    /// row does not lose the others, however the app's triggers and constraints refuse it. A set
    /// that leaves a foreign key unresolved that is checked at the commit is refused too, because
    /// the commit would refuse everything: [`execute`](Self::execute) may put it right later.
    ///
    /// # Errors
    /// When the statement cannot be prepared.
    pub fn execute_many(
        &self,
        sql: &str,
        sets: &[Vec<Value>],
    ) -> Result<Vec<Result<u64, HostError>>, HostError> {
        let results = self.host.execute_many(sql, sets)?;
        Ok(results.into_iter().map(|result| result.map(u64::from)).collect())
    }

    /// Opens a savepoint. Dropped without [`Savepoint::release`], it rolls back.
    ///
    /// # Errors
    /// When too many are open.
    pub fn savepoint(&self) -> Result<Savepoint<'a>, HostError> {
        Ok(Savepoint { savepoint: Some(self.host.begin_savepoint()?) })
    }

    /// Commits what was done so far, lets other writers in, renews the job's lease and notices a
    /// cancellation. It closes cursors and savepoints.
    ///
    /// Before the first checkpoint that keeps something, an attempt reads from a snapshot and takes
    /// the write lock at its first write. If what it had read was changed by then, it is undone and
    /// performed again from its start ([`code::CONFLICT`]: return it with `?`). A native worker's
    /// `perform` is then called again, so what it does outside the database happens twice unless it
    /// comes after a write. After the checkpoint the lock is taken before anything is read. Either
    /// way, writes are based on what was read since the last checkpoint.
    ///
    /// # Errors
    /// Code `cancelled` or `lease-lost`, to be returned with `?`. Code `busy`, `store` or
    /// `deadline` when the commit failed.
    pub fn checkpoint(&self) -> Result<(), HostError> {
        self.host.checkpoint()
    }

    /// Whether a [`checkpoint`](Self::checkpoint) is due: others write to this database too, and
    /// this attempt has held the write lock for some milliseconds. Never while nobody else writes.
    /// A sweep that asks after every few rows keeps nobody waiting, and loses nothing alone.
    #[must_use]
    pub fn checkpoint_due(&self) -> bool {
        self.host.checkpoint_due()
    }

    /// Writes an event to the audit log, and returns its id.
    ///
    /// # Errors
    /// When the event breaks a rule of [`AuditEvent::check`].
    pub fn audit(&self, event: AuditEvent) -> Result<u64, HostError> {
        let ids = self.host.audit_append(&[event])?;
        ids.first()
            .copied()
            .ok_or_else(|| HostError::new(code::STORE, "the host gave no audit id back"))
    }

    /// Writes many events in one call, all or none, and returns their ids.
    ///
    /// # Errors
    /// When one of them breaks a rule of [`AuditEvent::check`].
    pub fn audit_all(&self, events: &[AuditEvent]) -> Result<Vec<u64>, HostError> {
        self.host.audit_append(events)
    }

    /// Writes many events in one call. If some break a rule, the host reports and drops those and
    /// writes the others, so that one odd row does not stop a sweep for ever. If the log itself
    /// cannot be written, that is an error.
    ///
    /// # Errors
    /// When the log cannot be written, or an event names another organization than the job's.
    pub fn audit_batch(&self, events: &[AuditEvent]) -> Result<(), HostError> {
        if events.is_empty() {
            return Ok(());
        }
        match self.host.audit_append(events) {
            Err(error) if error.code == code::INVALID => {
                self.host.audit_append_safe(events);
                Ok(())
            }
            written => written.map(drop),
        }
    }

    /// Writes the good events and drops the bad ones, which the host reports by field name. Returns
    /// how many were written.
    pub fn audit_safe(&self, events: &[AuditEvent]) -> u32 {
        self.host.audit_append_safe(events)
    }

    /// The present time by the host's clock, in unix milliseconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.host.now()
    }

    /// Publishes a message to the app. It is delivered after the transaction has committed.
    ///
    /// # Errors
    /// When the topic is not usable or too many messages wait.
    pub fn publish(&self, topic: &str, payload: &Json) -> Result<(), HostError> {
        self.host.publish(topic, &json_text(payload))
    }

    /// The job: id, attempt, deadline, slot.
    #[must_use]
    pub fn job(&self) -> JobInfo {
        self.host.job()
    }

    /// Reports the progress to the operator. A total of 0 means unknown.
    pub fn progress(&self, done: u64, total: u64) {
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        self.host.progress(count(done), count(total));
    }

    /// Whether someone asked for the job to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.host.is_cancelled()
    }

    /// Writes a line to the app's log, marked with the worker and the job.
    pub fn log(&self, level: LogLevel, message: &str) {
        self.host.log(level, message);
    }

    /// Calls a function of the app.
    ///
    /// It cannot be undone, so from then on the attempt takes the write lock before it reads. What
    /// it read before may have changed meanwhile, unless it had written something. So read it
    /// again, or say in the write what must still hold (`… WHERE id = ?1 AND state = 'pending'`).
    ///
    /// # Errors
    /// When it is not granted, fails, or answers with no JSON. [`code::CHECKPOINT_FIRST`] for a
    /// slow function, while the attempt holds the write lock.
    pub fn call(&self, capability: &str, request: &Json) -> Result<Json, HostError> {
        let reply = self.host.call(capability, &json_text(request))?;
        serde_json::from_str(&reply).map_err(|error| {
            HostError::new(
                code::CAPABILITY,
                format!("capability `{capability}` answered with no JSON: {error}"),
            )
        })
    }

    /// Puts a job into the queue, in this job's transaction: the job exists when that commits. It
    /// runs for this job's scope. The job may be for this worker itself, or for one that the
    /// manifest [asks for](crate::Manifest::enqueues) and the app grants.
    ///
    /// # Errors
    /// Code `denied` for a worker that is not granted, or for another scope than this job's.
    /// `invalid` for an unknown worker, unusable args, or a setting out of bounds. `limit`.
    pub fn enqueue(&self, job: NewJob) -> Result<Enqueued, HostError> {
        let enqueued = self.host.enqueue(&[job])?;
        enqueued
            .first()
            .copied()
            .ok_or_else(|| HostError::new(code::STORE, "the host gave no job back"))
    }

    /// Puts many jobs into the queue in one call, all or none.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub fn enqueue_all(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, HostError> {
        self.host.enqueue(jobs)
    }

    /// What this worker kept under a key in an earlier job for the same organization, such as how
    /// far it got. NULL when it kept nothing.
    ///
    /// # Errors
    /// Code `invalid` for a key that has not 1 to 128 bytes.
    pub fn state(&self, key: &str) -> Result<Value, HostError> {
        self.host.state(key)
    }

    /// Keeps a small value for later jobs of this worker and the same organization. It commits and
    /// rolls back with what this job writes. NULL forgets the key.
    ///
    /// # Errors
    /// Code `limit` for more keys or bytes than the grant allows. Put more into a table.
    pub fn set_state(&self, key: &str, value: impl Into<Value>) -> Result<(), HostError> {
        self.host.set_state(key, &value.into())
    }
}

/// The rows of a query.
pub struct Cursor<'a> {
    cursor: Box<dyn HostCursor + 'a>,
    columns: Rc<[String]>,
}

impl<'a> Cursor<'a> {
    /// Up to `max_rows` further rows. None at the end.
    ///
    /// # Errors
    /// When the cursor is closed or reading fails.
    pub fn next_chunk(&mut self, max_rows: u32) -> Result<Vec<Row>, HostError> {
        let rows = self.cursor.next(max_rows)?;
        Ok(rows.into_iter().map(|values| Row::new(Rc::clone(&self.columns), values)).collect())
    }

    /// All rows, one after the other, fetched a few hundred at a time.
    #[must_use]
    pub fn rows(self) -> Rows<'a> {
        Rows { cursor: self, chunk: Vec::new().into_iter(), ended: false }
    }

    /// The names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }
}

/// An iterator over the rows of a query.
pub struct Rows<'a> {
    cursor: Cursor<'a>,
    chunk: std::vec::IntoIter<Row>,
    ended: bool,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, HostError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(row) = self.chunk.next() {
            return Some(Ok(row));
        }
        if self.ended {
            return None;
        }
        match self.cursor.next_chunk(256) {
            Ok(rows) => {
                self.ended = rows.is_empty();
                self.chunk = rows.into_iter();
                self.chunk.next().map(Ok)
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

/// An open savepoint. Dropped, it rolls back.
#[must_use = "a savepoint that is dropped rolls back"]
pub struct Savepoint<'a> {
    savepoint: Option<Box<dyn HostSavepoint + 'a>>,
}

impl Savepoint<'_> {
    /// Keeps what was written since it was opened.
    ///
    /// # Errors
    /// Code `closed` after a checkpoint or the end of an earlier savepoint.
    pub fn release(mut self) -> Result<(), HostError> {
        self.savepoint.take().map_or(Ok(()), |savepoint| savepoint.release())
    }

    /// Undoes what was written since it was opened, audit rows and events included.
    ///
    /// # Errors
    /// Code `closed` after a checkpoint or the end of an earlier savepoint.
    pub fn rollback(mut self) -> Result<(), HostError> {
        self.savepoint.take().map_or(Ok(()), |savepoint| savepoint.rollback())
    }
}

impl Drop for Savepoint<'_> {
    fn drop(&mut self) {
        if let Some(savepoint) = self.savepoint.take() {
            // It is closed already, so there is nothing left to undo.
            let _ = savepoint.rollback();
        }
    }
}
