//! What a run writes to the app's log and to its job's: its worker's lines, and what the host has
//! to say about it.
//!
//! Each of the two is bounded by itself, so that a worker that fills its own share does not hide
//! what it was denied. Where a bound is reached one line says so. No line contains a line break.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tracing::Level;
use verger_worker::{HostError, LogLevel, code};

use super::Run;
use super::kept_lines::KeptLines;
use crate::observation::observe;
use crate::queue::{AttemptLog, LoggedLine};
use crate::text::{beginning, one_line, reason};

/// The longest line of a worker that is kept whole, in bytes.
pub(crate) const LINE_MAX_BYTES: usize = 8 << 10;

/// The most lines about one run: what it was denied, which audit events were dropped.
const NOTES_MAX: u32 = 100;

/// What a line counts for besides its text.
const LINE_BYTES: usize = 1 << 10;

/// Bytes of a run's statements that are shown at the level TRACE.
const STATEMENTS_MAX_BYTES: usize = 1 << 20;

/// What a run has put into the log so far.
#[derive(Default)]
pub(super) struct Logged {
    lines: Cell<u32>,
    bytes: Cell<usize>,
    /// The worker's share is used up, and the log says so.
    is_full: Cell<bool>,
    denied: Cell<u32>,
    dropped: Cell<u32>,
    held: Cell<u32>,
    statement_bytes: Cell<usize>,
    /// The log says that the audit log is full for this run.
    audit_is_full: Cell<bool>,
    /// The last of its worker's lines, for its job.
    kept: RefCell<KeptLines>,
}

/// Whether one more is shown, and whether it is the first that is not.
fn take(count: &Cell<u32>, most: u32) -> (bool, bool) {
    let number = count.get();
    count.set(number.saturating_add(1).min(most.saturating_add(1)));
    (number < most, number == most)
}

/// Writes a line at a level if anybody listens.
macro_rules! line {
    ($run:expr, $level:expr, $text:expr) => {
        if tracing::enabled!(target: "verger::worker", $level)
            && $run.may_log($text.len())
        {
            let (worker, job) = ($run.worker(), $run.job_number());
            tracing::event!(target: "verger::worker", $level, worker, job, "{}", $text);
        }
    };
}

pub(crate) const fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

impl Run {
    /// Writes a worker's line, and keeps it for the job. False when its share of the app's log is
    /// used up, so that nothing more is shown there.
    pub(crate) fn log_line(&self, level: LogLevel, message: &str) -> bool {
        let text = one_line(beginning(message, LINE_MAX_BYTES));
        observe(|observed| observed.line(word(level), &text));
        self.keep_line(word(level), &text);
        if self.logged.is_full.get() {
            return false;
        }
        match level {
            LogLevel::Trace => line!(self, Level::TRACE, text),
            LogLevel::Debug => line!(self, Level::DEBUG, text),
            LogLevel::Info => line!(self, Level::INFO, text),
            LogLevel::Warn => line!(self, Level::WARN, text),
            LogLevel::Error => line!(self, Level::ERROR, text),
        }
        !self.logged.is_full.get()
    }

    /// Keeps a line for the job. A worker that is called directly has no job.
    fn keep_line(&self, level: &str, text: &str) {
        if self.task.claim.is_some() && !self.dry {
            let line = LoggedLine::new(self.clock.now(), level, text.to_string());
            self.logged.kept.borrow_mut().push(line);
        }
    }

    /// Whether anything was kept for the job.
    pub(super) fn has_kept_lines(&self) -> bool {
        !self.logged.kept.borrow().is_empty()
    }

    /// What was kept for the job. `None` when that is nothing.
    pub(crate) fn kept_lines(&self) -> Option<AttemptLog> {
        self.logged.kept.borrow().log()
    }

    fn may_log(&self, bytes: usize) -> bool {
        let (limits, logged) = (&self.task.grant.limits, &self.logged);
        let lines = logged.lines.get().saturating_add(1);
        let bytes = logged.bytes.get().saturating_add(bytes);
        if lines > limits.log_lines || bytes > limits.log_bytes {
            let (worker, job) = (self.worker(), self.job_number());
            logged.is_full.set(true);
            tracing::warn!(
                target: "verger::worker",
                worker,
                job,
                "more than {} lines or {} bytes: the rest is dropped",
                limits.log_lines,
                limits.log_bytes
            );
            return false;
        }
        logged.lines.set(lines);
        logged.bytes.set(bytes);
        true
    }

    fn worker(&self) -> &str {
        &self.task.worker
    }

    fn job_number(&self) -> Option<i64> {
        self.task.claim.map(|claim| claim.id.number())
    }

    /// Refuses a worker something that it is not granted. The log has it too, because the worker
    /// may say nothing of it.
    pub(super) fn denied(&self, why: String) -> HostError {
        let why = reason(why);
        observe(|observed| observed.denial(&one_line(&why)));
        if tracing::enabled!(target: "verger::denied", Level::DEBUG) {
            let (shown, first_hidden) = take(&self.logged.denied, NOTES_MAX);
            let (worker, job) = (self.worker(), self.job_number());
            if shown {
                tracing::debug!(target: "verger::denied", worker, job, "{}", one_line(&why));
            } else if first_hidden {
                tracing::debug!(target: "verger::denied", worker, job, "more than {NOTES_MAX} refusals: the rest is not shown");
            }
        }
        HostError::new(code::DENIED, why)
    }

    /// Reports an audit event that was dropped. It names fields, never values.
    pub(super) fn audit_event_dropped(&self, why: &HostError) {
        let (worker, job) = (self.worker(), self.job_number());
        observe(|observed| {
            observed.dropped_event(&one_line(beginning(&why.message, LINE_MAX_BYTES)));
        });
        if why.code == code::LIMIT {
            if !self.logged.audit_is_full.replace(true) {
                tracing::warn!(target: "verger::run::audit", worker, job, reason = %one_line(&why.message), "audit events dropped: the limit is reached");
            }
            return;
        }
        let (shown, first_hidden) = take(&self.logged.dropped, NOTES_MAX);
        if shown {
            let why = one_line(beginning(&why.message, LINE_MAX_BYTES));
            tracing::warn!(target: "verger::run::audit", worker, job, reason = %why, "audit event dropped");
        } else if first_hidden {
            tracing::warn!(target: "verger::run::audit", worker, job, "more than {NOTES_MAX} audit events dropped: the rest is not shown");
        }
    }

    /// Names a function of the app's that kept everyone else waiting.
    pub(super) fn held_the_lock_long(&self, capability: &str, took: Duration) {
        let (shown, _) = take(&self.logged.held, NOTES_MAX);
        if shown {
            tracing::warn!(target: "verger::lock", worker = self.worker(), capability, millis = took.as_millis() as u64, "a function of the app was called inside a write transaction and kept every other writer waiting: register it as slow, or have the worker checkpoint before");
        }
    }

    /// Shows a statement that is prepared for the first time, whole, in a field, because fields are
    /// written in quotes.
    pub(super) fn show_statement(&self, sql: &str) {
        observe(|observed| observed.statement(sql));
        if tracing::enabled!(target: "verger::sql", Level::TRACE) {
            let most = STATEMENTS_MAX_BYTES;
            let (worker, bytes) = (self.worker(), self.logged.statement_bytes.get());
            let with = bytes.saturating_add(LINE_BYTES + sql.len());
            self.logged.statement_bytes.set(with);
            if with <= most {
                tracing::trace!(target: "verger::sql", worker, sql, "prepared");
            } else if bytes <= most {
                tracing::trace!(target: "verger::sql", worker, "more than {most} bytes of statements: the rest is not shown");
            }
        }
    }
}
