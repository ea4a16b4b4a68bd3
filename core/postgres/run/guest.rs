//! A run as a component uses it.

use verger_worker::{Enqueued, HostError, LogLevel, Value};

use super::Run;
use crate::run::{AttemptError, GuestRun, bytes_of_texts, parse_asked};

impl GuestRun for Run {
    fn open_cursor(&self, sql: &str, params: &[Value]) -> Result<u32, HostError> {
        Run::open_cursor(self, sql, params)
    }

    fn cursor_columns(&self, cursor: u32) -> Vec<String> {
        Run::cursor_columns(self, cursor)
    }

    fn cursor_next(&self, cursor: u32, max_rows: u32) -> Result<Vec<Vec<Value>>, HostError> {
        Run::cursor_next(self, cursor, max_rows)
    }

    fn close_cursor(&self, cursor: u32) {
        Run::close_cursor(self, cursor);
    }

    fn open_savepoint(&self) -> Result<u32, HostError> {
        Run::open_savepoint(self)
    }

    fn release_savepoint(&self, savepoint: u32) -> Result<(), HostError> {
        Run::release_savepoint(self, savepoint)
    }

    fn roll_savepoint_back(&self, savepoint: u32) -> Result<(), HostError> {
        Run::roll_savepoint_back(self, savepoint)
    }

    fn enqueue_texts(
        &self,
        jobs: Vec<(String, String, String)>,
    ) -> Result<Vec<Enqueued>, HostError> {
        self.alive()?;
        let bytes = bytes_of_texts(&jobs);
        // Counted first, so that too much is not even read.
        self.enqueued.get().has_room(jobs.len(), bytes, &self.task.grant.limits)?;
        let checked = jobs.into_iter().map(|(worker, args, options)| {
            let checked = parse_asked(&worker, &args, &options);
            (checked.and_then(|job| self.check_job(&job)), worker)
        });
        self.insert_jobs(checked, bytes)
    }

    fn log_line(&self, level: LogLevel, line: &str) -> bool {
        self.write_line(level, line)
    }

    fn out_of_time(&self) -> AttemptError {
        self.stop_now().into()
    }
}
