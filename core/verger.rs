//! The façade: one Verger on one database.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use serde_json::Value as Json;
use verger_worker::{AuditEvent, Manifest, Outcome};

use crate::audit::{self, AuditFilter, AuditRow, ChainError, Log, Stamp, Verified};
use crate::builder::Builder;
use crate::engine::{self, Engine, LoopError, TableChange, TickLoop, TickReport};
use crate::error::{AuditError, Error, PerformError};
use crate::event::Subscription;
use crate::grant::Withheld;
use crate::plugin_error::PluginError;
use crate::queue::{
    self, Cancelled, EnqueueError, Enqueued, Inserting, Job, JobFilter, JobId, NewJob, Queue,
    QueueRow, Ready, Retried,
};
use crate::run::Ended;
use crate::schedule::{self, FireRow, Schedule, ScheduleRow};
use crate::store::{self, Location, MigrationSet, StoreContext, StoreError};
use crate::time::Timestamp;
use crate::worker::Registered;

/// A durable job queue with schedules, workers and an audit log, in one SQLite database.
///
/// It is `Send + Sync`; clones are cheap and stand for the same Verger. See the [crate's
/// page](crate) for how to begin.
#[derive(Clone)]
pub struct Verger {
    pub(crate) inner: Arc<Engine>,
}

impl fmt::Debug for Verger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Verger {
    /// Begins to open the database at this path; it is made when it is not there. A relative path is
    /// of the working directory at [`open`](Builder::open), whatever becomes of that later; symbolic
    /// links are followed then. Beside it stands a small lock file, `…-verger`, which shows what
    /// processes have the file open.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(Location::File(path.as_ref().to_path_buf()))
    }

    /// Begins to open a fresh database in memory, gone with its last clone: for tests.
    ///
    /// Its connections lock each other out as those of a file without WAL do: while a worker's
    /// transaction is open, reads from elsewhere wait for it.
    pub fn in_memory() -> Builder {
        Builder::new(Location::memory())
    }

    /// Whether this build can run workers as WebAssembly components.
    #[must_use]
    pub fn wasm_available() -> bool {
        cfg!(feature = "wasm")
    }

    /// Enqueues a job, in a transaction of its own, and wakes the loop.
    ///
    /// # Errors
    /// [`EnqueueError`] for an unknown worker, args that lack keys (all are named) or are no
    /// object, a setting out of bounds, or a database that cannot be written. Nothing is written
    /// then.
    pub fn enqueue(&self, job: NewJob) -> Result<Enqueued, EnqueueError> {
        let ready = self.inner.ready(job)?;
        self.inner.file_identity.check()?;
        let (front, now) = (self.inner.front(), self.inner.clock.now());
        self.inner.note_reading(&front, now)?;
        let enqueued = queue::insert(&front, &ready, now)?;
        drop(front);
        self.inner.notifier.ring();
        Ok(enqueued)
    }

    /// Enqueues a job for a worker that another process has: nothing is known of that worker here,
    /// so only the job's own settings are checked, and that its args are an object. The job is
    /// parked until a process that has the worker claims it; that one checks the args again.
    ///
    /// # Errors
    /// [`EnqueueError`] for args that are no object, a setting out of bounds, or a database that
    /// cannot be written.
    pub fn enqueue_unchecked(&self, job: NewJob) -> Result<Enqueued, EnqueueError> {
        let ready = Ready::unchecked(job)?;
        self.inner.file_identity.check()?;
        let (front, now) = (self.inner.front(), self.inner.clock.now());
        self.inner.note_reading(&front, now)?;
        let enqueued = queue::insert(&front, &ready, now)?;
        drop(front);
        self.inner.notifier.ring();
        Ok(enqueued)
    }

    /// Enqueues many jobs in one transaction: all or none.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), for the first job that is refused.
    pub fn enqueue_all(
        &self,
        jobs: impl IntoIterator<Item = NewJob>,
    ) -> Result<Vec<Enqueued>, EnqueueError> {
        let ready =
            jobs.into_iter().map(|job| self.inner.ready(job)).collect::<Result<Vec<_>, _>>()?;
        self.inner.file_identity.check()?;
        let now = self.inner.clock.now();
        let mut front = self.inner.front();
        let transaction = front
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .doing("begin to enqueue")?;
        self.inner.note_reading(&transaction, now)?;
        let mut inserting = Inserting::into(&transaction)?;
        let enqueued =
            ready.iter().map(|job| inserting.insert(job, now)).collect::<Result<Vec<_>, _>>()?;
        drop(inserting);
        transaction.commit().doing("enqueue the jobs")?;
        drop(front);
        self.inner.notifier.ring();
        Ok(enqueued)
    }

    /// Enqueues a job inside the app's own transaction on its own connection to the same file: it
    /// is there when, and only when, that transaction commits. The loop notices the commit within
    /// milliseconds.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), and [`EnqueueError::OtherFile`] when the connection has
    /// another file open.
    pub fn enqueue_in(
        &self,
        transaction: &rusqlite::Transaction<'_>,
        job: NewJob,
    ) -> Result<Enqueued, EnqueueError> {
        self.enqueue_on(transaction, job)
    }

    /// As [`enqueue_in`](Self::enqueue_in), on the raw handle of a connection that another crate
    /// opened: sqlx's `lock_handle().await?.as_raw_handle()`, diesel's `with_raw_connection`. The
    /// transaction is the one that connection has open; with none, the job is committed at once.
    ///
    /// # Safety
    /// `connection` is an open `sqlite3*` of the copy of SQLite that this program's rusqlite links,
    /// and nothing else uses it until this returns.
    ///
    /// # Errors
    /// As [`enqueue_in`](Self::enqueue_in).
    #[allow(unsafe_code, reason = "a raw handle is what other crates share their connection by")]
    pub unsafe fn enqueue_raw(
        &self,
        connection: *mut rusqlite::ffi::sqlite3,
        job: NewJob,
    ) -> Result<Enqueued, EnqueueError> {
        // SAFETY: the caller says that it is open and idle. It stays open: what is made of a handle
        // is not closed with it.
        let borrowed = unsafe { Connection::from_handle(connection) };
        self.enqueue_on(&borrowed.doing("use the app's connection")?, job)
    }

    fn enqueue_on(&self, connection: &Connection, job: NewJob) -> Result<Enqueued, EnqueueError> {
        let ready = self.inner.ready(job)?;
        if let Some((expected, found)) = self.inner.file_identity.differs_from(connection) {
            return Err(EnqueueError::OtherFile { expected, found });
        }
        let now = self.inner.clock.now();
        self.inner.note_reading(connection, now)?;
        let enqueued = queue::insert(connection, &ready, now)?;
        self.inner.notifier.expect();
        Ok(enqueued)
    }

    /// Calls a worker directly: no queue, no tick. Same sandbox, same rules: what it writes commits
    /// with its outcome, or not at all.
    ///
    /// # Errors
    /// [`PerformError`] for an unknown worker or args that do not fit it, and for a failed attempt,
    /// with its reason.
    pub fn perform_now(&self, worker: &str, args: Json) -> Result<Performance, PerformError> {
        self.perform(worker, args, false)
    }

    /// As [`perform_now`](Self::perform_now), but everything is rolled back in the end: what would
    /// have changed. A checkpoint commits nothing then, messages are not delivered; functions of
    /// the app that the worker calls are really called.
    ///
    /// # Errors
    /// As [`perform_now`](Self::perform_now).
    pub fn dry_run(&self, worker: &str, args: Json) -> Result<Performance, PerformError> {
        self.perform(worker, args, true)
    }

    fn perform(&self, worker: &str, args: Json, dry: bool) -> Result<Performance, PerformError> {
        let inner = &*self.inner;
        let (args, _) = inner.check_args(worker, args)?;
        let registered = inner.registered(worker)?;
        let begun = Instant::now();
        let mut executor = inner.executor();
        let performed =
            engine::perform_directly(inner, &mut executor, &inner.clock, registered, &args, dry);
        inner.put_back(executor);
        let performed = performed?
            .map_err(|source| PerformError::Failed { worker: worker.to_string(), source })?;
        Ok(Performance {
            outcome: match performed.ended {
                Ended::Done(None) => Outcome::Done,
                Ended::Done(Some(result)) => Outcome::DoneWith(result),
                Ended::Snooze(seconds) => Outcome::Snooze(seconds),
                Ended::Cancel(reason) => Outcome::Cancel(reason),
            },
            rows_changed: performed.tally.rows_changed,
            audited: performed.tally.audited,
            elapsed: begun.elapsed(),
            changes: performed.changes.into_iter().map(TableChange::from).collect(),
        })
    }

    /// Makes one pass at this instant: fires due schedules, takes back lost jobs, performs due
    /// jobs, prunes. Work for about a second at most; [`TickReport::next_wake_at`] says when to
    /// come again.
    ///
    /// Workers' clocks read this instant and go on from there. A failed job is not an error of the
    /// tick: it is in the report.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read or written.
    pub fn tick(&self, now: impl Into<Timestamp>) -> Result<TickReport, Error> {
        Ok(engine::tick(&self.inner, now.into())?)
    }

    /// Starts the loop: a thread that fires schedules, takes lost jobs back and prunes, and sleeps at
    /// next to no cost otherwise; and, while jobs are due, threads that perform them.
    ///
    /// Queues do not wait for each other: each performs on threads of its own, one by default (see
    /// [`Queue::concurrency`]), as long as there are no more of them than
    /// [`Builder::threads`](crate::Builder::threads) allows; beyond that they take turns of some
    /// milliseconds, or of one job if it lasts longer: three of four by the priority of their next
    /// job, one by how long they have waited. Within a queue jobs go by priority, due time
    /// and id, whoever is to perform them: a job waits for those before it and for no others.
    ///
    /// # Errors
    /// [`LoopError::Thread`] when the operating system gives no thread.
    pub fn start(&self) -> Result<TickLoop, LoopError> {
        engine::start(&self.inner)
    }

    /// One job.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn job(&self, id: JobId) -> Result<Option<Job>, Error> {
        Ok(queue::get(&self.inner.front(), id, &self.inner.has_worker())?)
    }

    /// The newest jobs that match, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn jobs(&self, filter: &JobFilter, limit: u32) -> Result<Vec<Job>, Error> {
        Ok(queue::list(&self.inner.front(), filter, limit, &self.inner.has_worker())?)
    }

    /// All stored schedules, by name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn schedules(&self) -> Result<Vec<ScheduleRow>, Error> {
        Ok(schedule::list(&self.inner.front())?)
    }

    /// The fire ledger of a schedule, newest slot first, at most `limit` rows: what became of each
    /// slot, and why.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn fires(&self, schedule: &str, limit: u32) -> Result<Vec<FireRow>, Error> {
        Ok(schedule::fires(&self.inner.front(), schedule, limit)?)
    }

    /// Cancels a job: at once when it waits; one that is being performed is told to stop, here at
    /// once, in another process at its next checkpoint. An attempt that ends before it was told, in
    /// whatever way but completing the job, is the last. False when there is no such job or it has
    /// come to its end.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn cancel(&self, job: JobId) -> Result<bool, Error> {
        // Told before it is written: the job may hold the write lock until it ends.
        let told = self.inner.tell_to_stop(job);
        let now = self.inner.clock.now();
        let cancelled =
            self.inner.write("cancel the job", |connection| queue::cancel(connection, job, now))?;
        if cancelled == Cancelled::Asked {
            self.inner.tell_to_stop(job);
        }
        Ok(told || cancelled != Cancelled::Nothing)
    }

    /// Makes a job that failed, was cancelled or is completed due now, with at least one attempt
    /// left. False when it waits already, is being performed, or is not there.
    ///
    /// # Errors
    /// [`Error::NotUnique`] when the job is unique and another like it is unfinished, or keeps its
    /// period: nothing is changed then. [`Error::Store`] when the database cannot be written.
    pub fn retry(&self, job: JobId) -> Result<bool, Error> {
        let now = self.inner.clock.now();
        let retried =
            self.inner.write("retry the job", |connection| queue::retry(connection, job, now))?;
        if let Retried::StandsFor(other) = retried {
            return Err(Error::NotUnique { job, other });
        }
        self.inner.notifier.ring();
        Ok(retried == Retried::DueNow)
    }

    /// Pauses a queue, in every process: nothing is claimed from it until it is resumed. A job that
    /// is being performed goes on.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn pause_queue(&self, name: &str) -> Result<(), Error> {
        let now = self.inner.clock.now();
        Ok(self.inner.write("pause the queue", |connection| {
            queue::pause_queue(connection, name, true, now)
        })?)
    }

    /// Resumes a paused queue.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn resume_queue(&self, name: &str) -> Result<(), Error> {
        let now = self.inner.clock.now();
        self.inner.write("resume the queue", |connection| {
            queue::pause_queue(connection, name, false, now)
        })?;
        self.inner.notifier.ring();
        Ok(())
    }

    /// The queues in which a job waits or is being performed, and those that were ever paused, by
    /// name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn queues(&self) -> Result<Vec<QueueRow>, Error> {
        Ok(queue::queues(&self.inner.front())?)
    }

    /// Changes how many jobs of a queue may be performed at a time, in this process, from the next
    /// claim on. What is being performed goes on.
    ///
    /// # Errors
    /// [`Error::Queue`] when a number is out of bounds; nothing is changed then.
    pub fn set_queue(&self, queue: Queue) -> Result<(), Error> {
        queue.check()?;
        self.inner.settings.queues.set(queue);
        self.inner.notifier.ring();
        Ok(())
    }

    /// The names of the queues that are paused.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn paused_queues(&self) -> Result<Vec<String>, Error> {
        Ok(queue::paused_queues(&self.inner.front()).doing("read the queues")?)
    }

    /// Adds a schedule, or changes the one of its name: an unchanged expression keeps its next
    /// slot, a new or a changed one starts from now. It stays until someone removes it, whatever the
    /// app's code registers when it opens the file again.
    ///
    /// # Errors
    /// [`Error::Schedule`] when its worker or its args are not usable.
    pub fn add_schedule(&self, schedule: &Schedule) -> Result<(), Error> {
        self.store_schedule(schedule)?;
        self.inner.notifier.ring();
        Ok(())
    }

    /// Removes a schedule; its ledger and its jobs stay. False when there is none of that name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn remove_schedule(&self, name: &str) -> Result<bool, Error> {
        let now = self.inner.clock.now();
        Ok(self
            .inner
            .write("remove the schedule", |connection| schedule::remove(connection, name, now))?)
    }

    /// Pauses a schedule: the slots that fall due meanwhile make no job, and the ledger says so.
    /// False when there is none of that name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn pause_schedule(&self, name: &str) -> Result<bool, Error> {
        let now = self.inner.clock.now();
        Ok(self.inner.write("pause the schedule", |connection| {
            schedule::set_paused(connection, name, true, now)
        })?)
    }

    /// Resumes a paused schedule with its next slot; those that fell due while it was paused stay
    /// skipped. False when there is none of that name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn resume_schedule(&self, name: &str) -> Result<bool, Error> {
        let now = self.inner.clock.now();
        let resumed = self.inner.write("resume the schedule", |connection| {
            schedule::set_paused(connection, name, false, now)
        })?;
        self.inner.notifier.ring();
        Ok(resumed)
    }

    /// Makes a job of a schedule now, outside its slots, paused or not; its next slot stays. When
    /// the schedule forbids overlap and has an unfinished job, it is that one. The ledger has a
    /// line of it, with the reason `run-now`. `None` when there is no schedule of that name.
    ///
    /// # Errors
    /// [`Error::Enqueue`] when its worker or its args are not usable any more; [`Error::Store`]
    /// when the database cannot be written.
    pub fn run_schedule_now(&self, name: &str) -> Result<Option<Enqueued>, Error> {
        let Some(row) = schedule::get(&self.inner.front(), name).doing("read the schedule")? else {
            return Ok(None);
        };
        let job = schedule::new_job(&row)
            .map_err(|reason| EnqueueError::Invalid { worker: row.worker.clone(), reason })?;
        let ready = self.inner.ready(job)?;
        let now = self.inner.clock.now();
        let enqueued = self.inner.write("run the schedule now", |connection| {
            schedule::run_now(connection, &row, ready, now)
        })?;
        self.inner.notifier.ring();
        Ok(Some(enqueued))
    }

    /// Why a schedule did, or did not, run at this instant, or whether it will: one sentence for a
    /// person, whatever the instant.
    ///
    /// ```
    /// # use verger::{Timestamp, Verger};
    /// # let verger = Verger::in_memory().open()?;
    /// let three_in_the_morning = Timestamp::from_millis(1_767_236_400_000);
    /// println!("{}", verger.explain("nightly-invitations", three_in_the_morning)?);
    /// # Ok::<(), verger::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn explain(&self, schedule: &str, at: impl Into<Timestamp>) -> Result<String, Error> {
        Ok(schedule::explain(&self.inner.front(), schedule, at.into(), self.inner.clock.now())?)
    }

    /// Writes an event of the app itself to the audit log; its id. It carries no scope: say in it
    /// whom it concerns.
    ///
    /// # Errors
    /// [`AuditError`] when the event breaks a rule, or the database cannot be written.
    pub fn audit(&self, event: &AuditEvent) -> Result<i64, AuditError> {
        event.check()?;
        let now = self.inner.clock.now();
        let append = |connection: &Connection| {
            let mut log = Log::default();
            let id = log.append(connection, now, &Stamp::default(), event)?;
            log.seal(connection).map(|()| id)
        };
        Ok(self.inner.write("write to the audit log", append)?)
    }

    /// The newest rows of the audit log that match, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn audit_log(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditRow>, Error> {
        Ok(audit::list(&self.inner.front(), filter, limit)?)
    }

    /// The rows of the audit log behind this id, oldest first, at most `limit`: to keep a copy of
    /// them elsewhere, go on behind the last one that is there.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn audit_log_after(&self, id: i64, limit: u32) -> Result<Vec<AuditRow>, Error> {
        Ok(audit::list_after(&self.inner.front(), id, limit)?)
    }

    /// Reads the whole audit log and checks its hash chain, from what retention left to the newest
    /// row there ever was.
    ///
    /// It shows what was edited by hand. It has no key: someone who may write to the file and knows
    /// this code can make a log anew that verifies. Against that, keep copies elsewhere.
    ///
    /// # Errors
    /// [`ChainError::Broken`] naming the first row that does not fit, [`ChainError::Missing`] when
    /// the newest rows are gone, or [`ChainError::Store`] when the log cannot be read.
    pub fn verify_audit(&self) -> Result<Verified, ChainError> {
        audit::verify(&self.inner.front())
    }

    /// Receives what workers publish, from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.inner.services.bus.subscribe()
    }

    /// The names of the workers.
    #[must_use]
    pub fn workers(&self) -> Vec<String> {
        self.inner.registry.names().map(str::to_string).collect()
    }

    /// What a worker says of itself.
    ///
    /// # Errors
    /// [`EnqueueError::UnknownWorker`], or [`EnqueueError::Plugin`] when its component cannot be
    /// loaded.
    pub fn manifest(&self, worker: &str) -> Result<Manifest, EnqueueError> {
        self.inner.manifest(worker).cloned()
    }

    /// The SHA-256 of a worker's component, in hexadecimal digits: what
    /// [`Grant::for_digest`](crate::Grant::for_digest) takes. `None` for one that is part of the
    /// app.
    ///
    /// # Errors
    /// As [`manifest`](Self::manifest).
    pub fn digest(&self, worker: &str) -> Result<Option<String>, EnqueueError> {
        Ok(self.inner.registered(worker)?.digest()?)
    }

    /// What workers ask for and are not granted, one entry for each worker that lacks something:
    /// after an update of a plugin, what the new version wants more. A manifest that would lift a
    /// wall around tenants, were it believed, is told of too.
    #[must_use]
    pub fn withheld(&self) -> Vec<Withheld> {
        // The built-in workers are not loaded for it: they have what they declare.
        let withheld =
            |registered: &Registered| registered.grant.withholds(registered.manifest().ok()?);
        self.inner
            .registry
            .all()
            .filter(|registered| !registered.has_all_it_declares())
            .filter_map(withheld)
            .collect()
    }

    /// The plugins that were found and refused when Verger was opened, each with the reason. The
    /// others work.
    #[must_use]
    pub fn refused_plugins(&self) -> &[PluginError] {
        &self.inner.refused
    }

    /// Frees the name of a dropped-in worker: at the next open, the file that has the name then may
    /// have it. For a plugin that was removed or replaced for good. False when nobody had it.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    #[cfg(feature = "wasm")]
    pub fn forget_plugin(&self, name: &str) -> Result<bool, Error> {
        let forget = |connection: &Connection| crate::worker::free_name(connection, name);
        Ok(self.inner.write("forget a plugin", forget)?)
    }

    /// Makes the reference tables that the built-in workers serve by default, where they are not
    /// there yet.
    ///
    /// # Errors
    /// [`Error::Migration`] when the file's tables are newer than this build, or cannot be made.
    pub fn migrate_reference(&self) -> Result<(), Error> {
        store::migrate(&mut self.inner.front(), &MigrationSet::REFERENCE, self.inner.clock.now())?;
        Ok(())
    }

    /// The clock this Verger was given.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Has a connection of the app's wait for the write lock as Verger's own do: it looks every 2 ms
    /// rather than ever more seldom, and whoever sweeps meanwhile, in any process, hears of it and
    /// makes room. It takes the place of the connection's busy handler or busy timeout, and waits up
    /// to 10 s. Connections from [`connect`](Self::connect) do so by themselves.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.db");
    /// let verger = verger::Verger::builder(&path).open()?;
    /// let app = verger::rusqlite::Connection::open(&path)?;
    /// verger.cooperate(&app)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when SQLite has no memory left.
    pub fn cooperate(&self, connection: &Connection) -> Result<(), Error> {
        let location = &self.inner.connector.location;
        Ok(location.wait_fairly(connection).doing("install a busy handler")?)
    }

    /// Opens another connection to the same database, for the app's own reads and writes; the only
    /// way into one in memory.
    ///
    /// # Errors
    /// [`Error::Store`] when it cannot be opened.
    pub fn connect(&self) -> Result<Connection, Error> {
        Ok(self.inner.connector.connect().doing("open a connection")?)
    }
}

/// What a worker that was called directly did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Performance {
    /// What it returned; never [`Outcome::Failed`].
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
