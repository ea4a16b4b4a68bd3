//! Calling a worker directly.

use std::time::{Duration, Instant};

use serde_json::Value as Json;
use verger_worker::Outcome;

use super::Verger;
use crate::engine::{self, TableChange};
use crate::error::PerformError;
use crate::run::{Ended, RowChange};
use crate::store::StoreError;

impl Verger {
    /// Calls a worker directly, without queue or tick. The sandbox and the rules are the same: what
    /// it writes commits with its outcome, or not at all.
    ///
    /// ```
    /// let verger = verger::testing::example();
    /// let done = verger.perform_now("send-mail", serde_json::json!({"to": "ann@example.org"}))?;
    /// assert_eq!(done.result().unwrap()["sent"], "ann@example.org");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PerformError`] for an unknown worker or args that do not fit it, and for a failed attempt,
    /// with its reason.
    pub fn perform_now(&self, worker: &str, args: Json) -> Result<Performance, PerformError> {
        self.perform(worker, args, false)
    }

    /// As [`perform_now`](Self::perform_now), but everything is rolled back in the end, and the
    /// report says what would have changed. Checkpoints commit nothing, and messages are not
    /// delivered. Functions of the app that the worker calls are really called.
    ///
    /// ```
    /// let verger = verger::testing::example();
    /// let would = verger.dry_run("send-mail", serde_json::json!({"to": "ann@example.org"}))?;
    /// println!("{} rows would change", would.rows_changed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`perform_now`](Self::perform_now).
    pub fn dry_run(&self, worker: &str, args: Json) -> Result<Performance, PerformError> {
        self.perform(worker, args, true)
    }

    /// The args that a worker would get for a job that was enqueued with these args, for this
    /// version of them. They are brought into the present version and checked, with the defaults
    /// filled in. Nothing is performed or written.
    ///
    /// ```
    /// let verger = verger::testing::example();
    /// let args = verger.args_for("send-mail", serde_json::json!({"to": "ann@example.org"}), 1)?;
    /// assert_eq!(args["to"], "ann@example.org");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`PerformError`] for an unknown worker, and for args with which the attempt would fail. Its
    /// code is `args-version` for a version that the worker does not know yet.
    pub fn args_for(&self, worker: &str, args: Json, version: u32) -> Result<Json, PerformError> {
        let (args, registered) = self.inner.registry.check_args(worker, args, Some(version))?;
        let fitted = engine::fit_args(&registered, &args, version);
        let fitted =
            fitted.map_err(|source| PerformError::Failed { worker: worker.to_string(), source })?;
        Ok(Json::Object(fitted.as_map().clone()))
    }

    fn perform(&self, worker: &str, args: Json, dry: bool) -> Result<Performance, PerformError> {
        let inner = &*self.inner;
        let (args, registered) = inner.registry.check_args(worker, args, None)?;
        let begun = Instant::now();
        let mut executor = inner.executor();
        let performed =
            engine::perform_directly(inner, &mut executor, &inner.clock, &registered, &args, dry);
        inner.put_back(executor);
        let performed = performed?
            .map_err(|source| PerformError::Failed { worker: worker.to_string(), source })?;
        Ok(Performance {
            outcome: match performed.ended {
                Ended::Done(None) => Outcome::Done,
                Ended::Done(Some(result)) => Outcome::DoneWith(result),
                Ended::Snooze(seconds) => Outcome::Snooze(seconds),
                Ended::Cancel(reason) => Outcome::Cancel(reason),
                Ended::Discard(error) => {
                    let worker = worker.to_string();
                    return Err(PerformError::Failed { worker, source: error });
                }
            },
            rows_changed: performed.tally.rows_changed,
            audited: performed.tally.audited,
            elapsed: begun.elapsed(),
            changes: performed.changes.into_iter().map(TableChange::from).collect(),
            rows: performed.rows,
        })
    }
}

/// What a directly called worker did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Performance {
    /// What it returned; never [`Outcome::Failed`] or [`Outcome::Discard`].
    pub outcome: Outcome,
    /// Rows of the app's tables it changed.
    pub rows_changed: u64,
    /// Audit rows it wrote.
    pub audited: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// For a dry run: the rows its statements would have changed, by table. What the app's triggers
    /// would have changed is not counted.
    pub changes: Vec<TableChange>,
    /// For a dry run: rows as they are and as they would be, in the order of their first change.
    /// 200 at most, with 1 KiB of each value, and 1 MiB together. Rows of tables WITHOUT ROWID are
    /// not here, nor rows that a `REPLACE` or a `DELETE` of all rows removes; `changes` counts
    /// those too. For a worker that is confined to a tenant, only that tenant's rows are here.
    pub rows: Vec<RowChange>,
}

impl Performance {
    /// The JSON result, if it returned one.
    #[must_use]
    pub fn result(&self) -> Option<&Json> {
        match &self.outcome {
            Outcome::DoneWith(result) => Some(result),
            _ => None,
        }
    }
}

impl From<StoreError> for PerformError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
