//! One attempt at work: the host API as a worker sees it, over one connection and one transaction.
//!
//! A run begins its transaction at the first call that touches the database, as a snapshot until it
//! writes (see [`lock`]). It ends the transaction at a checkpoint or with the job's own transition.
//! It knows nothing of wasm: a component and a native worker use the same [`Run`].

mod audit;
mod backup;
mod call;
mod cursor;
mod ended;
mod engine_call;
mod enqueue;
mod error;
mod group;
#[cfg(feature = "wasm")]
mod guest_run;
mod host;
mod interrupt;
mod kept_lines;
mod lock;
mod log;
mod message;
mod reads;
mod rows;
mod sets;
mod state;
mod statement;
mod transaction;
mod written;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use verger_worker::{JobInfo, Scope, Verb};

use crate::audit::{Log, Stamp};
use crate::capability::Capabilities;
use crate::clock::Clock;
use crate::event::{Bus, EventJob, EventKind, Hub};
use crate::grant::Effective;
use crate::metrics::Counters;
use crate::queue::{JobId, PerformedBy};
use crate::store::{ConnectionSetup, Location, StopSignal, WorkConnection};

#[cfg(feature = "postgres")]
pub(crate) use audit::{AuditTally, Audited, check_each, check_event};
#[cfg(feature = "postgres")]
pub(crate) use call::{
    NAME_MAX_BYTES, NOTE, answer, check_request, checkpoint_first, parse_request, registered,
};
pub(crate) use ended::Ended;
#[cfg(feature = "builtins")]
pub(crate) use engine_call::{ANALYZE, BACKUP, VACUUM};
#[cfg(feature = "postgres")]
pub(crate) use enqueue::{EnqueueTally, at_place, check_asked};
pub(crate) use enqueue::{Workers, WorkersLink, scope_args};
#[cfg(all(feature = "postgres", feature = "wasm"))]
pub(crate) use enqueue::{bytes_of_texts, parse as parse_asked};
pub use error::AttemptError;
pub(crate) use error::Unmigrated;
pub(crate) use group::{Group, Pace, SHORT, Seat};
#[cfg(feature = "wasm")]
pub(crate) use guest_run::GuestRun;
pub(crate) use host::WorkerRun;
pub(crate) use interrupt::{Interrupt, Interrupted};
#[cfg(feature = "postgres")]
pub(crate) use kept_lines::KeptLines;
#[cfg(feature = "postgres")]
pub(crate) use log::{LINE_MAX_BYTES, word as level_word};
#[cfg(feature = "postgres")]
pub(crate) use message::Messages;
#[cfg(feature = "postgres")]
pub(crate) use reads::size;
pub use rows::RowChange;
#[cfg(feature = "postgres")]
pub(crate) use state::{check_key, too_much_state};
#[cfg(feature = "postgres")]
pub(crate) use statement::{check_length, check_parameters, count_statements};
pub(crate) use transaction::LEASE_MARGIN;
#[cfg(feature = "postgres")]
pub(crate) use transaction::why_stopped;

/// The claim a run works under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) id: JobId,
    pub(crate) token: i64,
    pub(crate) attempt: u32,
}

/// What every run of a Verger shares.
pub(crate) struct RunServices {
    pub(crate) capabilities: Capabilities,
    pub(crate) bus: Bus,
    pub(crate) hub: Hub,
    pub(crate) counters: Arc<Counters>,
    pub(crate) lease: std::time::Duration,
    /// Rows of the audit log are kept at least this long, whatever a worker asks.
    pub(crate) keep_audit: std::time::Duration,
    /// Where a worker's jobs go.
    pub(crate) workers: WorkersLink,
    /// The database, and how the app sets its connections up.
    pub(crate) location: Location,
    pub(crate) setup: Option<ConnectionSetup>,
}

/// What a run is about.
pub(crate) struct Task {
    pub(crate) worker: String,
    pub(crate) stamp: Stamp,
    pub(crate) scope: Option<Scope>,
    /// The args that make the scope, as in the job. Jobs that it enqueues get them.
    pub(crate) scope_args: Vec<(String, Json)>,
    pub(crate) grant: Arc<Effective>,
    pub(crate) claim: Option<Claim>,
    pub(crate) performed_by: Arc<PerformedBy>,
    /// The queue of the job.
    pub(crate) queue: String,
    pub(crate) info: JobInfo,
    pub(crate) stop_signal: StopSignal,
    pub(crate) interrupt: Interrupt,
}

/// What a run did, for the report.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) rows_changed: u64,
    pub(crate) audited: u64,
}

/// One attempt under way.
pub(crate) struct Run {
    connection: Rc<WorkConnection>,
    services: Arc<RunServices>,
    clock: Arc<dyn Clock>,
    task: Task,
    transaction: Cell<transaction::State>,
    /// Its part in a transaction that several jobs share.
    membership: group::Membership,
    place: Cell<group::Place>,
    begun: Instant,
    /// Time spent waiting for the write lock.
    waited: Cell<Duration>,
    /// How long the worker took, once it has ended.
    worked: Cell<Option<Duration>>,
    statements: RefCell<statement::Idle>,
    cursors: RefCell<cursor::Open>,
    savepoints: RefCell<transaction::Savepoints>,
    /// What was read from the snapshot.
    reads: RefCell<reads::Reads>,
    /// The lock is taken before anything is read.
    lock_first: Cell<bool>,
    /// It did something that cannot be undone: a commit, or a call of a function of the app's.
    has_effects: Cell<bool>,
    must_repeat: Cell<bool>,
    log: RefCell<Log>,
    /// Messages published since the last commit.
    messages: RefCell<message::Messages>,
    /// The worker's name, for messages.
    worker_name: Arc<str>,
    audited: Cell<audit::AuditTally>,
    enqueued: Cell<enqueue::EnqueueTally>,
    logged: log::Logged,
    written: Cell<written::Written>,
    statements_run: Cell<u64>,
    progress: Cell<Option<(u64, u64)>>,
    /// What is committed, and what is not yet.
    tally: Cell<Tally>,
    uncommitted: Cell<Tally>,
    /// Set while a statement runs whose transaction can be begun anew. The second says whether the
    /// transaction was rolled back.
    may_begin_anew: Cell<bool>,
    was_rolled_back: Cell<bool>,
    dry: bool,
    /// For a dry run: what its statements changed.
    changes: RefCell<statement::Changes>,
    watched: RefCell<rows::Watched>,
    /// Why the run cannot end well any more, whatever its worker returns.
    stopped: RefCell<Option<AttemptError>>,
}

impl Run {
    pub(crate) fn new(
        connection: WorkConnection,
        services: Arc<RunServices>,
        clock: Arc<dyn Clock>,
        task: Task,
        dry: bool,
        lock_first: bool,
        seat: Seat,
    ) -> Self {
        connection.run_begins(task.stop_signal.clone(), Arc::clone(&clock));
        let written = written::Written::at(connection.bytes_written());
        let (membership, place) = group::Membership::of(seat);
        let run = Self {
            connection: Rc::new(connection),
            services,
            clock,
            transaction: Cell::default(),
            membership,
            place: Cell::new(place),
            begun: Instant::now(),
            waited: Cell::default(),
            worked: Cell::default(),
            statements: RefCell::default(),
            cursors: RefCell::default(),
            savepoints: RefCell::default(),
            reads: RefCell::default(),
            lock_first: Cell::new(lock_first),
            has_effects: Cell::new(false),
            must_repeat: Cell::new(false),
            log: RefCell::default(),
            messages: RefCell::default(),
            worker_name: task.worker.as_str().into(),
            audited: Cell::default(),
            enqueued: Cell::default(),
            logged: log::Logged::default(),
            written: Cell::new(written),
            statements_run: Cell::new(0),
            progress: Cell::new(None),
            tally: Cell::default(),
            uncommitted: Cell::default(),
            may_begin_anew: Cell::new(false),
            was_rolled_back: Cell::new(false),
            task,
            dry,
            changes: RefCell::default(),
            watched: RefCell::default(),
            stopped: RefCell::default(),
        };
        run.watch();
        run.lend_connection();
        run
    }

    pub(crate) fn scope(&self) -> Option<&Scope> {
        self.task.scope.as_ref()
    }

    /// Why the run cannot end well any more.
    pub(crate) fn stopped(&self) -> Option<AttemptError> {
        self.stopped.borrow().clone()
    }

    fn stop(&self, error: AttemptError) {
        self.stopped.borrow_mut().get_or_insert(error);
    }

    /// Reports the worker's progress. It is told at once, and written at the next checkpoint.
    fn progresses(&self, done: u64, total: u64) {
        self.progress.set(Some((done, total)));
        let Some(claim) = self.task.claim else { return };
        self.task.interrupt.progresses(done, total);
        self.services.hub.tell(self.clock.now(), || {
            let job = EventJob {
                id: claim.id,
                worker: self.task.worker.clone(),
                queue: self.task.queue.clone(),
                attempt: claim.attempt,
                schedule: self.task.info.scheduled.as_ref().map(|slot| slot.schedule.clone()),
            };
            EventKind::Progress { job, done, total }
        });
    }

    /// Notes that the worker has returned.
    fn worker_ended(&self) {
        if self.worked.get().is_none() {
            self.worked.set(Some(self.work_time()));
        }
    }

    /// How long it has taken so far, without waiting for the lock.
    fn work_time(&self) -> Duration {
        self.begun.elapsed().saturating_sub(self.waited.get())
    }

    /// How long the worker took, and whether it did something that its transaction cannot undo.
    pub(crate) fn conduct(&self) -> (Duration, bool) {
        (self.worked.get().unwrap_or_else(|| self.work_time()), self.has_effects.get())
    }

    /// What was committed.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.get()
    }

    fn count(&self, add: impl FnOnce(&mut Tally)) {
        let mut tally = self.uncommitted.get();
        add(&mut tally);
        self.uncommitted.set(tally);
    }

    /// For a dry run: the rows inserted, updated and deleted, by table.
    pub(crate) fn take_changes(&self) -> Vec<(String, [u64; 3])> {
        let mut tables: BTreeMap<String, [u64; 3]> = BTreeMap::new();
        for ((table, verb), rows) in self.changes.take() {
            let [inserted, updated, deleted] = tables.entry(table.to_string()).or_default();
            match verb {
                Verb::Insert => *inserted += rows,
                Verb::Update => *updated += rows,
                Verb::Delete => *deleted += rows,
                Verb::Read => {}
            }
        }
        tables.into_iter().collect()
    }

    /// Rolls back what is open and gives the connection back for the next run. `None` when it
    /// cannot be trusted any more.
    pub(crate) fn into_connection(self) -> Option<WorkConnection> {
        self.into_parts().0
    }

    /// As [`into_connection`](Self::into_connection), and what the run was about.
    pub(crate) fn into_parts(self) -> (Option<WorkConnection>, Task) {
        self.abandon();
        self.unwatch();
        let leaves_open = self.leaves_group_open();
        let Self { connection, statements, cursors, task, written, .. } = self;
        drop((statements, cursors));
        let connection = Rc::try_unwrap(connection).ok().filter(|connection| {
            connection.run_ends().is_ok()
                && (leaves_open
                    || written.get().give_back(connection) && !connection.is_in_transaction())
        });
        (connection, task)
    }
}
