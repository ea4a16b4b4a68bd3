//! What workers do on one thread, for a check of a worker before it is taken in.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

/// The most statements, refusals and lines that are kept, because a worker may make millions.
const KEPT_MAX: usize = 1_000;

/// What workers did on a thread while it was [observed](Self::of), and how the host answered. A
/// worker may say nothing of most of this itself.
///
/// Of each kind the first 1,000 are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observation {
    /// The SQL statements they prepared, each once.
    pub statements: BTreeSet<String>,
    /// Why they were denied something, each reason once.
    pub denied: BTreeSet<String>,
    /// Why audit events of theirs were dropped, each reason once.
    pub dropped_events: BTreeSet<String>,
    /// The lines they logged.
    pub lines: Vec<ObservedLine>,
    /// The manifest text of the component that was loaded last, even if it is not valid.
    pub manifest: Option<String>,
    /// The description of that component.
    pub described: Option<Described>,
    /// The machine code of that component.
    pub compiled: Option<Compiled>,
    /// Bytes of memory that the component that performed last had taken when it ended.
    pub memory_bytes: Option<u64>,
}

/// A line in a worker's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObservedLine {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    /// The line, its control characters escaped.
    pub text: String,
}

/// What it took to ask a component for its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Described {
    /// How long it took.
    pub elapsed: Duration,
    /// Bytes of memory that the component had taken when it was done.
    pub memory_bytes: u64,
}

/// The machine code of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compiled {
    /// Its size, in bytes.
    pub bytes: u64,
    /// Whether it was in the cache of compiled components.
    pub was_cached: bool,
}

thread_local! {
    static OBSERVED: RefCell<Option<Observation>> = const { RefCell::new(None) };
}

impl Observation {
    /// Runs `work` and observes what workers do on this thread meanwhile. What queues perform on
    /// threads of their own is not seen. [`Verger::tick`] and [`Verger::perform_now`] stay on this
    /// thread.
    ///
    /// ```
    /// use serde_json::json;
    /// use verger::verger_worker::prelude::*;
    /// use verger::{Observation, Verger};
    ///
    /// struct Sweep;
    ///
    /// impl Worker for Sweep {
    ///     fn manifest(&self) -> Manifest {
    ///         Manifest::new("sweep", "1.0.0")
    ///     }
    ///
    ///     fn perform(
    ///         &self,
    ///         job: &Context<'_>,
    ///         _: Option<&Scope>,
    ///         _: &Args,
    ///     ) -> Result<Outcome, WorkerError> {
    ///         // It tells nobody that this is refused.
    ///         let _ = job.execute("DELETE FROM orders", params![]);
    ///         Ok(Outcome::Done)
    ///     }
    /// }
    ///
    /// let verger = Verger::in_memory().worker(Sweep).open()?;
    /// verger.connect()?.execute_batch("CREATE TABLE orders (total INTEGER)")?;
    /// let (_, observed) = Observation::of(|| verger.perform_now("sweep", json!({})));
    /// let why = observed.denied.first().ok_or("nothing was denied")?;
    /// assert!(why.starts_with("delete denied: table orders"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`Verger::tick`]: crate::Verger::tick
    /// [`Verger::perform_now`]: crate::Verger::perform_now
    pub fn of<T>(work: impl FnOnce() -> T) -> (T, Self) {
        let outer = Outer(OBSERVED.replace(Some(Self::default())));
        let done = work();
        let seen = OBSERVED.take().unwrap_or_default();
        drop(outer);
        (done, seen)
    }

    pub(crate) fn statement(&mut self, sql: &str) {
        keep(&mut self.statements, sql);
    }

    pub(crate) fn denial(&mut self, why: &str) {
        keep(&mut self.denied, why);
    }

    pub(crate) fn dropped_event(&mut self, why: &str) {
        keep(&mut self.dropped_events, why);
    }

    pub(crate) fn line(&mut self, level: &'static str, text: &str) {
        if self.lines.len() < KEPT_MAX {
            self.lines.push(ObservedLine { level, text: text.to_string() });
        }
    }
}

fn keep(seen: &mut BTreeSet<String>, text: &str) {
    if seen.len() < KEPT_MAX && !seen.contains(text) {
        seen.insert(text.to_string());
    }
}

/// Restores what was observed before, after a panic too.
struct Outer(Option<Observation>);

impl Drop for Outer {
    fn drop(&mut self) {
        OBSERVED.set(self.0.take());
    }
}

/// Adds to what is observed on this thread, if it is observed.
pub(crate) fn observe(add: impl FnOnce(&mut Observation)) {
    OBSERVED.with(|observed| {
        if let Ok(mut observed) = observed.try_borrow_mut()
            && let Some(observed) = observed.as_mut()
        {
            add(observed);
        }
    });
}
