//! One attempt at work: the host API as a native worker sees it, over one connection and one
//! transaction.
//!
//! The transaction is begun by the first call that touches the database, as a snapshot (`REPEATABLE
//! READ`). If another transaction changes what it read before it commits, the server refuses it,
//! and the attempt is performed again from its start.

mod cursor;
#[cfg(feature = "wasm")]
mod guest;
mod host;
mod queue;
mod statement;
mod transaction;

#[cfg(feature = "wasm")]
pub(super) use self::statement::{formal_fault, in_its_words, is_narrow, wide};

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use verger_worker::{HostError, code};

use super::address::Address;
use super::audit::Lane;
use super::guests::Guest;
use super::kinds::Kind;
use super::node::Node;
use super::session::Session;
use crate::clock::Clock;
use crate::queue::AttemptLog;
use crate::run::{
    AttemptError, AuditTally, EnqueueTally, KeptLines, Messages, Tally, Task, why_stopped,
};

/// The connection and the lane of an executor.
pub(super) struct Connection {
    pub(super) session: Session,
    pub(super) lane: Lane,
    /// Of one that has the role of a component.
    pub(super) guest: Option<Guest>,
}

impl Connection {
    /// Will connect at its first use.
    pub(super) fn new(address: &Arc<Address>) -> Self {
        let session = Session::new(Arc::clone(address));
        Self { session, lane: Lane::default(), guest: None }
    }

    /// The connection of a component.
    #[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "only components are guests"))]
    pub(super) fn of_guest(session: Session, guest: Guest) -> Self {
        Self { session, lane: Lane::default(), guest: Some(guest) }
    }
}

/// How far the transaction of a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// None is open.
    Idle,
    Open,
    /// A failure ended it. Nothing of this run can commit.
    Lost,
}

/// One attempt under way.
pub(super) struct Run {
    connection: RefCell<Connection>,
    node: Arc<Node>,
    clock: Arc<dyn Clock>,
    task: Task,
    state: Cell<State>,
    /// A savepoint stands before the statement that comes next, to go back to if it fails.
    is_guarded: Cell<bool>,
    /// It wrote something in this transaction.
    has_written: Cell<bool>,
    /// Cursors by number, and the savepoints that are open, innermost last.
    cursors: RefCell<BTreeMap<u32, cursor::Open>>,
    savepoints: RefCell<Vec<transaction::Savepoint>>,
    /// The number that the next cursor or savepoint gets.
    next: Cell<u32>,
    audited: Cell<AuditTally>,
    enqueued: Cell<EnqueueTally>,
    /// The kinds of the jobs it enqueued since the last commit.
    kinds: RefCell<BTreeSet<Kind>>,
    messages: RefCell<Messages>,
    worker_name: Arc<str>,
    kept: RefCell<KeptLines>,
    /// How many of them the app's log shows.
    lines: Cell<u32>,
    statements_run: Cell<u64>,
    progress: Cell<Option<(u64, u64)>>,
    /// What is committed, and what is not yet.
    tally: Cell<Tally>,
    uncommitted: Cell<Tally>,
    /// It did something that cannot be undone: a commit, or a call of a function of the app's.
    has_effects: Cell<bool>,
    /// Another transaction came in between.
    has_conflict: Cell<bool>,
    /// Why the run cannot end well any more, whatever its worker returns.
    stopped: RefCell<Option<AttemptError>>,
}

impl Run {
    pub(super) fn new(
        connection: Connection,
        node: Arc<Node>,
        clock: Arc<dyn Clock>,
        task: Task,
    ) -> Self {
        Self {
            connection: RefCell::new(connection),
            node,
            clock,
            state: Cell::new(State::Idle),
            is_guarded: Cell::new(false),
            has_written: Cell::new(false),
            cursors: RefCell::default(),
            savepoints: RefCell::default(),
            next: Cell::new(0),
            audited: Cell::default(),
            enqueued: Cell::default(),
            kinds: RefCell::default(),
            messages: RefCell::default(),
            worker_name: task.worker.as_str().into(),
            kept: RefCell::default(),
            lines: Cell::default(),
            statements_run: Cell::new(0),
            progress: Cell::new(None),
            tally: Cell::default(),
            uncommitted: Cell::default(),
            has_effects: Cell::new(false),
            has_conflict: Cell::new(false),
            stopped: RefCell::default(),
            task,
        }
    }

    /// What was committed.
    pub(super) fn tally(&self) -> Tally {
        self.tally.get()
    }

    /// What its worker logged, for the job.
    pub(super) fn kept_lines(&self) -> Option<AttemptLog> {
        self.kept.borrow().log()
    }

    /// Why the run cannot end well any more.
    pub(super) fn stopped(&self) -> Option<AttemptError> {
        self.stopped.borrow().clone()
    }

    /// Whether another transaction came in between, and nothing was done that cannot be undone.
    pub(super) fn is_to_be_repeated(&self) -> bool {
        self.has_conflict.get() && !self.has_effects.get()
    }

    /// Its connection, and what it was about, once it has ended.
    pub(super) fn into_parts(self) -> (Connection, Task) {
        self.abandon();
        (self.connection.into_inner(), self.task)
    }

    /// Whether a host call may still do anything.
    fn alive(&self) -> Result<(), HostError> {
        if self.state.get() == State::Lost {
            return Err(HostError::new(
                code::STORE,
                "the transaction of this attempt is lost; return",
            ));
        }
        if self.task.stop_signal.is_over() { Err(self.stop_now()) } else { Ok(()) }
    }

    /// Why the run must stop now.
    fn stop_now(&self) -> HostError {
        let error = why_stopped(&self.task);
        self.stop(error.clone().into());
        error
    }

    fn stop(&self, error: AttemptError) {
        self.stopped.borrow_mut().get_or_insert(error);
    }

    /// Marks the transaction as lost, for this reason.
    fn lose(&self, error: AttemptError) {
        self.abandon();
        self.state.set(State::Lost);
        self.stop(error);
    }

    fn count(&self, add: impl FnOnce(&mut Tally)) {
        let mut tally = self.uncommitted.get();
        add(&mut tally);
        self.uncommitted.set(tally);
    }

    fn next_number(&self) -> u32 {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        number
    }
}
