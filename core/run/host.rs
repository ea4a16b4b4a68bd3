//! A run as the host of a native worker.

use verger_worker::{
    AuditEvent, Enqueued, Found, Host, HostCursor, HostError, HostSavepoint, JobInfo, LogLevel,
    NewJob, Value,
};

use super::cursor::CursorId;
use super::transaction::SavepointId;
use super::{Run, Task};

impl Host for Run {
    fn query(&self, sql: &str, params: &[Value]) -> Result<Box<dyn HostCursor + '_>, HostError> {
        Ok(Box::new(Cursor { run: self, id: self.open_cursor(sql, params)? }))
    }

    fn execute(&self, sql: &str, params: &[Value]) -> Result<u32, HostError> {
        self.execute_one(sql, params).map(count)
    }

    fn execute_many(
        &self,
        sql: &str,
        sets: &[Vec<Value>],
    ) -> Result<Vec<Result<u32, HostError>>, HostError> {
        let results = self.execute_sets(sql, sets)?;
        Ok(results.into_iter().map(|result| result.map(count)).collect())
    }

    fn begin_savepoint(&self) -> Result<Box<dyn HostSavepoint + '_>, HostError> {
        Ok(Box::new(Savepoint { run: self, id: self.open_savepoint()? }))
    }

    fn checkpoint(&self) -> Result<(), HostError> {
        self.checkpoint_now()
    }

    fn checkpoint_due(&self) -> bool {
        self.is_checkpoint_due()
    }

    fn audit_append(&self, events: &[AuditEvent]) -> Result<Vec<u64>, HostError> {
        self.log_events(events)
    }

    fn audit_append_safe(&self, events: &[AuditEvent]) -> u32 {
        self.log_events_safely(events)
    }

    fn now(&self) -> i64 {
        self.clock.now().as_millis()
    }

    fn publish(&self, topic: &str, payload: &str) -> Result<(), HostError> {
        self.publish_event(topic, payload)
    }

    fn job(&self) -> JobInfo {
        self.task.info.clone()
    }

    fn progress(&self, done: u32, total: u32) {
        self.progresses(done.into(), total.into());
    }

    fn is_cancelled(&self) -> bool {
        let cancelled = self.task.interrupt.raised().is_some();
        if cancelled {
            // The worker knows that it is cancelled and ends early. Whatever it returns, its job is
            // not done.
            let _ = self.stop_now();
        }
        cancelled
    }

    fn log(&self, level: LogLevel, message: &str) {
        self.log_line(level, message);
    }

    fn call(&self, capability: &str, request: &str) -> Result<String, HostError> {
        self.call_capability(capability, request)
    }

    fn query_all(&self, sql: &str, params: &[Value]) -> Result<Found, HostError> {
        self.read_all(sql, params)
    }

    fn enqueue(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, HostError> {
        self.enqueue_jobs(jobs)
    }

    fn state(&self, key: &str) -> Result<Value, HostError> {
        self.get_state(key)
    }

    fn set_state(&self, key: &str, value: &Value) -> Result<(), HostError> {
        Run::set_state(self, key, value)
    }
}

/// A run of either store, whatever its worker is.
pub(crate) trait WorkerRun: Host {
    fn task(&self) -> &Task;
}

impl WorkerRun for Run {
    fn task(&self) -> &Task {
        &self.task
    }
}

/// Rows, as the interface counts them.
fn count(rows: u64) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}

struct Cursor<'a> {
    run: &'a Run,
    id: CursorId,
}

impl HostCursor for Cursor<'_> {
    fn columns(&self) -> Vec<String> {
        self.run.cursor_columns(self.id)
    }

    fn next(&self, max_rows: u32) -> Result<Vec<Vec<Value>>, HostError> {
        self.run.cursor_next(self.id, max_rows)
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        self.run.close_cursor(self.id);
    }
}

struct Savepoint<'a> {
    run: &'a Run,
    id: SavepointId,
}

impl HostSavepoint for Savepoint<'_> {
    fn release(&self) -> Result<(), HostError> {
        self.run.release_savepoint(self.id)
    }

    fn rollback(&self) -> Result<(), HostError> {
        self.run.rollback_savepoint(self.id)
    }
}
