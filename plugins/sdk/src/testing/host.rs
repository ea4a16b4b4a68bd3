//! The host functions that a worker calls, in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rusqlite::types::ValueRef;

use super::{MemoryHost, StateKey};
use crate::audit::AuditEvent;
use crate::error::{HostError, code};
use crate::host::{Found, Host, HostCursor, HostSavepoint, JobInfo, LogLevel};
use crate::new_job::{Enqueued, NewJob};
use crate::value::Value;

impl Host for MemoryHost {
    fn query(&self, sql: &str, params: &[Value]) -> Result<Box<dyn HostCursor + '_>, HostError> {
        let mut statement = self.connection.prepare(sql).map_err(|error| not_prepared(&error))?;
        let columns: Vec<String> = (0..statement.column_count())
            .filter_map(|at| statement.column_name(at).ok().map(str::to_string))
            .collect();
        let mut rows = statement
            .query(rusqlite::params_from_iter(params))
            .map_err(|error| from_sqlite(&error))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(|error| from_sqlite(&error))? {
            let values = (0..columns.len())
                .map(|i| row.get_ref(i).map(from_ref))
                .collect::<Result<Vec<_>, _>>();
            all.push(values.map_err(|error| from_sqlite(&error))?);
        }
        Ok(Box::new(MemoryCursor {
            columns,
            rows: RefCell::new(all.into_iter()),
            opened: self.checkpoints.get(),
            host: self,
        }))
    }

    fn execute(&self, sql: &str, params: &[Value]) -> Result<u32, HostError> {
        self.changed(sql, params)
    }

    fn execute_many(
        &self,
        sql: &str,
        sets: &[Vec<Value>],
    ) -> Result<Vec<Result<u32, HostError>>, HostError> {
        drop(self.connection.prepare(sql).map_err(|error| not_prepared(&error))?);
        Ok(sets.iter().map(|set| self.changed(sql, set)).collect())
    }

    fn begin_savepoint(&self) -> Result<Box<dyn HostSavepoint + '_>, HostError> {
        let id = self.next_savepoint.get();
        self.next_savepoint.set(id + 1);
        self.batch(&format!("SAVEPOINT verger_{id}"))?;
        self.savepoints.borrow_mut().push(id);
        let pending = self.pending.borrow();
        Ok(Box::new(MemorySavepoint {
            host: self,
            id,
            audit: pending.audit.len(),
            events: pending.events.len(),
            jobs: pending.jobs.len(),
            state: pending.state.clone(),
        }))
    }

    fn checkpoint_due(&self) -> bool {
        self.checkpoint_due.get()
    }

    fn checkpoint(&self) -> Result<(), HostError> {
        if self.is_cancelled() {
            return Err(HostError::new(code::CANCELLED, "the job was cancelled"));
        }
        self.commit()?;
        self.savepoints.borrow_mut().clear();
        self.checkpoints.set(self.checkpoints.get() + 1);
        self.batch("BEGIN IMMEDIATE")
    }

    fn audit_append(&self, events: &[AuditEvent]) -> Result<Vec<u64>, HostError> {
        for event in events {
            event.check().map_err(|fault| HostError::new(code::INVALID, fault.to_string()))?;
        }
        let mut pending = self.pending.borrow_mut();
        let first = self.kept.borrow().audit.len() + pending.audit.len() + 1;
        pending.audit.extend_from_slice(events);
        Ok((first..first + events.len()).map(|id| id as u64).collect())
    }

    fn audit_append_safe(&self, events: &[AuditEvent]) -> u32 {
        let good = events.iter().filter(|event| event.check().is_ok()).cloned();
        let mut pending = self.pending.borrow_mut();
        let before = pending.audit.len();
        pending.audit.extend(good);
        (pending.audit.len() - before) as u32
    }

    fn now(&self) -> i64 {
        self.now.get()
    }

    fn publish(&self, topic: &str, payload: &str) -> Result<(), HostError> {
        let payload = serde_json::from_str(payload)
            .map_err(|error| HostError::new(code::INVALID, error.to_string()))?;
        self.pending.borrow_mut().events.push((topic.to_string(), payload));
        Ok(())
    }

    fn job(&self) -> JobInfo {
        JobInfo {
            id: Some(1),
            attempt: 1,
            max_attempts: 1,
            deadline: self.now.get() + 60_000,
            scheduled: None,
        }
    }

    fn progress(&self, done: u32, total: u32) {
        self.progress.set((done, total));
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.get() || self.checkpoints.get() >= self.cancel_after.get()
    }

    fn log(&self, level: LogLevel, message: &str) {
        self.logs.borrow_mut().push((level, message.to_string()));
    }

    fn call(&self, capability: &str, request: &str) -> Result<String, HostError> {
        let Some(function) = self.capabilities.get(capability) else {
            return Err(HostError::new(
                code::DENIED,
                format!("capability `{capability}` is not granted"),
            ));
        };
        let request = serde_json::from_str(request)
            .map_err(|error| HostError::new(code::INVALID, error.to_string()))?;
        function(&request)
            .map(|reply| reply.to_string())
            .map_err(|error| HostError::new(code::CAPABILITY, error))
    }

    fn query_all(&self, sql: &str, params: &[Value]) -> Result<Found, HostError> {
        let cursor = self.query(sql, params)?;
        Ok((cursor.columns(), cursor.next(u32::MAX)?))
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, HostError> {
        if let Some(job) = jobs.iter().find(|job| !job.args().is_object()) {
            return Err(HostError::new(
                code::INVALID,
                format!("the args of a job for `{}` are no JSON object", job.worker()),
            ));
        }
        let mut pending = self.pending.borrow_mut();
        // This job is number 1.
        let first = self.kept.borrow().jobs.len() + pending.jobs.len() + 2;
        pending.jobs.extend_from_slice(jobs);
        let ids = (first..).zip(jobs);
        Ok(ids.map(|(id, _)| Enqueued { id: id as u64, existing: false }).collect())
    }

    fn state(&self, key: &str) -> Result<Value, HostError> {
        let key = self.state_key(key)?;
        let (pending, kept) = (self.pending.borrow(), self.kept.borrow());
        let value = pending.state.get(&key).or_else(|| kept.state.get(&key));
        Ok(value.cloned().unwrap_or(Value::Null))
    }

    fn set_state(&self, key: &str, value: &Value) -> Result<(), HostError> {
        let key = self.state_key(key)?;
        self.pending.borrow_mut().state.insert(key, value.clone());
        Ok(())
    }
}

struct MemoryCursor<'a> {
    columns: Vec<String>,
    rows: RefCell<std::vec::IntoIter<Vec<Value>>>,
    opened: u32,
    host: &'a MemoryHost,
}

impl HostCursor for MemoryCursor<'_> {
    fn columns(&self) -> Vec<String> {
        self.columns.clone()
    }

    fn next(&self, max_rows: u32) -> Result<Vec<Vec<Value>>, HostError> {
        if self.opened != self.host.checkpoints.get() {
            return Err(HostError::new(code::CLOSED, "the cursor was closed by a checkpoint"));
        }
        if max_rows == 0 {
            return Err(HostError::new(code::INVALID, "ask for at least 1 row"));
        }
        Ok(self.rows.borrow_mut().by_ref().take(max_rows as usize).collect())
    }
}

struct MemorySavepoint<'a> {
    host: &'a MemoryHost,
    id: u32,
    audit: usize,
    events: usize,
    jobs: usize,
    state: BTreeMap<StateKey, Value>,
}

impl HostSavepoint for MemorySavepoint<'_> {
    fn release(&self) -> Result<(), HostError> {
        self.host.end_savepoint(self.id, &["RELEASE"])
    }

    fn rollback(&self) -> Result<(), HostError> {
        self.host.end_savepoint(self.id, &["ROLLBACK TO", "RELEASE"])?;
        let mut pending = self.host.pending.borrow_mut();
        pending.audit.truncate(self.audit);
        pending.events.truncate(self.events);
        pending.jobs.truncate(self.jobs);
        pending.state.clone_from(&self.state);
        Ok(())
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn from_ref(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

pub(super) fn not_prepared(error: &rusqlite::Error) -> HostError {
    HostError::new(code::SQL, error.to_string())
}

/// A prepared statement failed on its values.
pub(super) fn from_sqlite(error: &rusqlite::Error) -> HostError {
    let code = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => code::CONSTRAINT,
        Some(rusqlite::ErrorCode::TypeMismatch) => code::TYPE,
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => code::BUSY,
        Some(rusqlite::ErrorCode::Unknown) => code::ROW,
        _ => code::SQL,
    };
    HostError::new(code, error.to_string())
}
