//! The façade: one Verger on one database, with the calls of the other store.

mod audit;
mod jobs;
mod schedules;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use super::builder::Builder;
use super::jobs::insert;
use super::kinds::Kind;
use super::node::Node;
use super::pool::{self, Working};
use super::session::Session;
use super::tick;
use crate::engine::{LoopError, TickReport};
use crate::error::Error;
use crate::event::Subscription;
use crate::metrics::Metrics;
use crate::mutex::lock;
use crate::queue::{EnqueueError, Enqueued, NewJob, Ready, counted};
use crate::store::StoreError;
use crate::time::Timestamp;

/// A durable job queue with schedules, workers and an audit log, in a PostgreSQL database that any
/// number of processes open.
///
/// It is `Send + Sync`; clones are cheap and stand for the same Verger.
#[derive(Clone)]
pub struct Verger {
    pub(super) node: Arc<Node>,
}

impl fmt::Debug for Verger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verger").finish_non_exhaustive()
    }
}

/// Does this on a thread of its own and waits for it: a thread that runs async code may not call
/// the server itself.
pub(super) fn handed_over<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

impl Verger {
    /// Begins to open the database at this address: `postgres://user:password@host:port/database`,
    /// or `host=… user=… dbname=…`. Several hosts may be given, with
    /// `target_session_attrs=read-write`. With `sslmode=require` connections are encrypted, and the
    /// server's certificate and name are checked, which is the feature `postgres-tls`; otherwise
    /// they are not encrypted.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// Does this with the connection of the app's calls.
    fn front<T: Send>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        handed_over(|| work(&mut lock(&self.node.front).session))
    }

    /// Makes one pass at this instant: fires due schedules, takes back lost jobs, performs due jobs
    /// one after the other, prunes. A pass works for about a second at most.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read or written.
    pub fn tick(&self, now: impl Into<Timestamp>) -> Result<TickReport, Error> {
        let now = now.into();
        Ok(handed_over(|| tick::tick(&self.node, now))?)
    }

    /// Starts the loop: one thread fires schedules, takes lost jobs back and prunes. While jobs are
    /// due, further threads perform them.
    ///
    /// # Errors
    /// [`LoopError::Thread`] when the operating system gives no thread.
    pub fn start(&self) -> Result<Working, LoopError> {
        pool::start(&self.node)
    }

    /// Enqueues a job, in a transaction of its own, and wakes the loops of all nodes. To enqueue in
    /// a transaction of the app's, call `verger.enqueue()` there, in SQL.
    ///
    /// # Errors
    /// [`EnqueueError`] for an unknown worker, for args that are no object or lack keys, for a
    /// setting out of bounds, or when the database cannot be written. Nothing is written then.
    pub fn enqueue(&self, job: NewJob) -> Result<Enqueued, EnqueueError> {
        self.put(&self.node.registry.ready(job)?)
    }

    /// Enqueues a job for a worker that only other nodes have. Its args are checked when it is
    /// performed.
    ///
    /// # Errors
    /// [`EnqueueError`] for args that are no object, for a setting out of bounds, or when the
    /// database cannot be written.
    pub fn enqueue_unchecked(&self, job: NewJob) -> Result<Enqueued, EnqueueError> {
        self.put(&Ready::unchecked(job)?)
    }

    fn put(&self, ready: &Ready) -> Result<Enqueued, EnqueueError> {
        let now = self.now();
        Ok(self.front(|session| {
            let enqueued = insert(session, ready, now)?;
            self.node.jobs_wait(session, [kind_of(ready)]);
            Ok(enqueued)
        })?)
    }

    /// Enqueues many jobs in one transaction, all or none.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), for the first job that is refused.
    pub fn enqueue_all(
        &self,
        jobs: impl IntoIterator<Item = NewJob>,
    ) -> Result<Vec<Enqueued>, EnqueueError> {
        let ready = jobs.into_iter().map(|job| self.node.registry.ready(job));
        let ready = ready.collect::<Result<Vec<_>, _>>()?;
        let now = self.now();
        Ok(self.front(|session| {
            let enqueued = session.transaction("enqueue the jobs", |session| {
                ready.iter().map(|job| insert(session, job, now)).collect()
            })?;
            let kinds: BTreeSet<_> = ready.iter().map(kind_of).collect();
            self.node.jobs_wait(session, kinds);
            Ok(enqueued)
        })?)
    }

    /// Receives what the workers of this process publish from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.node.bus.subscribe()
    }

    /// Numbers about what this process did since Verger was opened, by worker, and about what waits
    /// in the database now. [`Metrics::to_prometheus`] is what a Prometheus server reads. With the
    /// feature `metrics` the same numbers also go to the recorder of the `metrics` crate as they
    /// happen.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn metrics(&self) -> Result<Metrics, Error> {
        Ok(counted(self.node.counters.read(), self.queues()?))
    }

    /// The names of the workers of this process.
    #[must_use]
    pub fn workers(&self) -> Vec<String> {
        self.node.registry.snapshot().keys().cloned().collect()
    }

    /// The names of the workers that any node has had, here or elsewhere.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn known_workers(&self) -> Result<Vec<String>, Error> {
        let sql = "SELECT name FROM verger.workers ORDER BY name";
        let rows = self.front(|session| session.query("read which workers there are", sql, &[]))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The args of a job as its worker would get them, with what is left out filled in.
    ///
    /// # Errors
    /// [`EnqueueError`] when they do not fit the worker.
    pub fn args_for(&self, worker: &str, args: Json) -> Result<Json, EnqueueError> {
        let (args, registered) = self.node.registry.check_args(worker, args, None)?;
        Ok(Json::Object(registered.manifest()?.fill_in(&args).as_map().clone()))
    }

    /// The present instant, by the clock this Verger reads.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.node.clock.now()
    }
}

fn kind_of(ready: &Ready) -> Kind {
    (ready.queue.clone(), ready.worker.clone())
}
