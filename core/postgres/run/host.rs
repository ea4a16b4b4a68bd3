//! A run as the host of a native worker.

use verger_worker::{
    AuditEvent, Enqueued, Found, Host, HostCursor, HostError, HostSavepoint, JobInfo, LogLevel,
    NewJob, Value,
};

use super::Run;
use crate::queue::LoggedLine;
use crate::run::{LINE_MAX_BYTES, Task, WorkerRun, level_word};
use crate::text::{beginning, one_line};

impl Host for Run {
    fn query(&self, sql: &str, params: &[Value]) -> Result<Box<dyn HostCursor + '_>, HostError> {
        Ok(Box::new(Cursor { run: self, number: self.open_cursor(sql, params)? }))
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
        Ok(Box::new(Savepoint { run: self, number: self.open_savepoint()? }))
    }

    fn checkpoint(&self) -> Result<(), HostError> {
        self.checkpoint_now()
    }

    fn checkpoint_due(&self) -> bool {
        // Nobody waits for a lock of the whole database here.
        false
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
        self.alive()?;
        let job = self.task.claim.map(|claim| claim.id);
        let limits = &self.task.grant.limits;
        self.messages.borrow_mut().add(limits, (topic, payload), (&self.worker_name, job))
    }

    fn job(&self) -> JobInfo {
        self.task.info.clone()
    }

    fn progress(&self, done: u32, total: u32) {
        self.progress.set(Some((done.into(), total.into())));
        self.task.interrupt.progresses(done.into(), total.into());
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
        self.write_line(level, message);
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
        self.keep_state(key, value)
    }
}

impl Run {
    /// Keeps a line for the job, and shows it in the app's log. False when the worker's share of
    /// that is used up.
    pub(super) fn write_line(&self, level: LogLevel, message: &str) -> bool {
        let text = one_line(beginning(message, LINE_MAX_BYTES)).into_owned();
        let word = level_word(level);
        let lines = self.lines.get();
        let is_shown = lines < self.task.grant.limits.log_lines;
        if is_shown {
            self.lines.set(lines + 1);
            tracing::debug!(target: "verger::worker", worker = self.task.worker, level = word, "{text}");
        }
        if self.task.claim.is_some() {
            self.kept.borrow_mut().push(LoggedLine::new(self.clock.now(), word, text));
        }
        is_shown
    }
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

struct Cursor<'r> {
    run: &'r Run,
    number: u32,
}

impl HostCursor for Cursor<'_> {
    fn columns(&self) -> Vec<String> {
        self.run.cursor_columns(self.number)
    }

    fn next(&self, max_rows: u32) -> Result<Vec<Vec<Value>>, HostError> {
        self.run.cursor_next(self.number, max_rows)
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        self.run.close_cursor(self.number);
    }
}

struct Savepoint<'r> {
    run: &'r Run,
    number: u32,
}

impl HostSavepoint for Savepoint<'_> {
    fn release(&self) -> Result<(), HostError> {
        self.run.release_savepoint(self.number)
    }

    fn rollback(&self) -> Result<(), HostError> {
        self.run.roll_savepoint_back(self.number)
    }
}
