//! A run as a component uses it. A component holds numbers where a native worker holds a cursor or
//! a savepoint.

use std::any::Any;

use verger_worker::{Enqueued, HostError, LogLevel, Value};

use super::cursor::CursorId;
use super::transaction::SavepointId;
use super::{AttemptError, Run, WorkerRun};

/// What a component imports, besides what it has in common with a native worker's host.
pub(crate) trait GuestRun: WorkerRun + Any {
    fn open_cursor(&self, sql: &str, params: &[Value]) -> Result<u32, HostError>;

    fn cursor_columns(&self, cursor: u32) -> Vec<String>;

    fn cursor_next(&self, cursor: u32, max_rows: u32) -> Result<Vec<Vec<Value>>, HostError>;

    fn close_cursor(&self, cursor: u32);

    fn open_savepoint(&self) -> Result<u32, HostError>;

    fn release_savepoint(&self, savepoint: u32) -> Result<(), HostError>;

    fn roll_savepoint_back(&self, savepoint: u32) -> Result<(), HostError>;

    /// Jobs as a component asks for them: worker, and args and options as JSON text.
    fn enqueue_texts(
        &self,
        jobs: Vec<(String, String, String)>,
    ) -> Result<Vec<Enqueued>, HostError>;

    /// Writes a line to the log. False when nobody wants more lines.
    fn log_line(&self, level: LogLevel, line: &str) -> bool;

    /// Why the run was interrupted outside a host call.
    fn out_of_time(&self) -> AttemptError;
}

impl GuestRun for Run {
    fn open_cursor(&self, sql: &str, params: &[Value]) -> Result<u32, HostError> {
        Run::open_cursor(self, sql, params).map(|id| id.0)
    }

    fn cursor_columns(&self, cursor: u32) -> Vec<String> {
        Run::cursor_columns(self, CursorId(cursor))
    }

    fn cursor_next(&self, cursor: u32, max_rows: u32) -> Result<Vec<Vec<Value>>, HostError> {
        Run::cursor_next(self, CursorId(cursor), max_rows)
    }

    fn close_cursor(&self, cursor: u32) {
        Run::close_cursor(self, CursorId(cursor));
    }

    fn open_savepoint(&self) -> Result<u32, HostError> {
        Run::open_savepoint(self).map(|id| id.0)
    }

    fn release_savepoint(&self, savepoint: u32) -> Result<(), HostError> {
        Run::release_savepoint(self, SavepointId(savepoint))
    }

    fn roll_savepoint_back(&self, savepoint: u32) -> Result<(), HostError> {
        self.rollback_savepoint(SavepointId(savepoint))
    }

    fn enqueue_texts(
        &self,
        jobs: Vec<(String, String, String)>,
    ) -> Result<Vec<Enqueued>, HostError> {
        Run::enqueue_texts(self, jobs)
    }

    fn log_line(&self, level: LogLevel, line: &str) -> bool {
        Run::log_line(self, level, line)
    }

    fn out_of_time(&self) -> AttemptError {
        Run::out_of_time(self)
    }
}
