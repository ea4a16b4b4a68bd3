//! What performs jobs: a connection with its walls, and the name its claims carry.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::next_claim::{Following, NextClaim, Turn};
use super::shared::Engine;
use crate::clock::Clock;
use crate::grant::Effective;
use crate::run::Group;
use crate::store::{Books, Connector, ProcessLock, StoreContext, StoreError, WorkConnection};

/// One performer of jobs. It performs one job at a time.
pub(crate) struct Executor {
    connector: Arc<Connector>,
    /// None only while a run has it.
    connection: Option<WorkConnection>,
    /// For jobs that are confined to a tenant. It is opened for the first of them.
    confined: Option<WorkConnection>,
    holder: String,
    /// The turn it has now.
    turn: Option<Arc<Turn>>,
    /// The next job of the turn, claimed in the commit that ended the last one.
    following: Option<Following>,
}

impl Executor {
    pub(crate) fn new(connector: &Arc<Connector>) -> Self {
        // Random, not a time or a count: two processes on one file, in two containers, must differ.
        let random = RandomState::new().hash_one(std::process::id());
        Self {
            connector: Arc::clone(connector),
            connection: None,
            confined: None,
            holder: format!("{}-{random:016x}", std::process::id()),
            turn: None,
            following: None,
        }
    }

    /// Begins a turn: it performs jobs of this queue, or of all, as long as `goes_on` says so.
    pub(super) fn begin_turn(
        &mut self,
        queue: Option<&str>,
        goes_on: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        let queue = queue.map(str::to_string);
        self.turn = Some(Arc::new(Turn { queue, goes_on: Box::new(goes_on) }));
    }

    /// Ends the turn. Returns the job that is claimed and was not begun, if there is one.
    pub(super) fn end_turn(&mut self) -> Option<Following> {
        self.turn = None;
        self.following.take()
    }

    /// What claims the next job, if there is a turn.
    pub(super) fn next_claim<'a>(
        &self,
        inner: &'a Engine,
        clock: &'a Arc<dyn Clock>,
    ) -> Option<NextClaim<'a>> {
        let turn = Arc::clone(self.turn.as_ref()?);
        let holder = self.holder(inner.process_lock.as_ref());
        Some(NextClaim::new(inner, clock, turn, holder))
    }

    /// Takes over what was claimed, once it is committed.
    pub(super) fn follow(&mut self, next: NextClaim<'_>) {
        self.following = next.into_following();
    }

    /// Whether the next job is claimed.
    pub(super) fn has_following(&self) -> bool {
        self.following.is_some()
    }

    /// The next job, if it is claimed.
    pub(super) fn take_following(&mut self) -> Option<Following> {
        self.following.take()
    }

    /// The name of its claims: who it is, and the lock that shows whether it lives.
    pub(crate) fn holder(&self, lock: Option<&ProcessLock>) -> String {
        match lock.and_then(ProcessLock::tag) {
            Some(lock) => format!("{}@{lock}", self.holder),
            None => self.holder.clone(),
        }
    }

    /// Takes the connection. A new one is opened if the last run did not give it back.
    pub(crate) fn take(&mut self) -> Result<WorkConnection, StoreError> {
        self.connection.take().map_or_else(|| self.connector.for_workers(), Ok)
    }

    /// Takes a connection on which a worker with this grant sees this tenant only.
    pub(crate) fn take_confined(
        &mut self,
        grant: &Effective,
        tenant: &str,
    ) -> Result<WorkConnection, StoreError> {
        let connection =
            self.confined.take().map_or_else(|| self.connector.for_confined_workers(), Ok)?;
        connection.confine(grant, tenant).doing("confine a worker to its tenant")?;
        Ok(connection)
    }

    /// Takes the connection of a run that ended. Without one, the next run opens it anew.
    pub(crate) fn give_back(&mut self, connection: Option<WorkConnection>) {
        match connection {
            Some(connection) if connection.is_confinable() => self.confined = Some(connection),
            Some(connection) => self.connection = Some(connection),
            None => {}
        }
    }

    /// Runs `work` as the engine.
    pub(crate) fn books<T>(
        &mut self,
        work: impl FnOnce(Books<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = self.take()?;
        let done = connection.books(work);
        // A connection that is left inside a transaction is closed.
        self.connection = (!connection.is_in_transaction()).then_some(connection);
        done
    }

    /// Runs `work` as the engine, inside the transaction that a group has open.
    pub(super) fn in_transaction<T>(
        &mut self,
        work: impl FnOnce(Books<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = self.take()?;
        let done = connection.books(work);
        self.connection = Some(connection);
        done
    }

    /// Commits the transaction of a group, if it is open. The group knows whether that went well.
    pub(super) fn commit(&mut self, group: &Group) -> Result<(), StoreError> {
        if !group.is_open() {
            return Ok(());
        }
        // Without the connection its transaction is gone, and the commit fails.
        let connection = self.take()?;
        let committed = group.commit(&connection);
        self.connection = (!connection.is_in_transaction()).then_some(connection);
        if let Err(error) = committed {
            tracing::warn!(%error, "a transaction that jobs shared could not be committed");
        }
        Ok(())
    }

    /// Runs `work` as the engine, in one write transaction.
    pub(crate) fn transaction<T>(
        &mut self,
        work: impl FnOnce(Books<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.books(|books| books.write("write to the database", work))
    }

    /// Releases what big sweeps left: memory in the page caches, and a long log.
    pub(crate) fn shrink(&self) {
        for connection in self.connection.iter().chain(&self.confined) {
            connection.settle_log();
            connection.books(|books| books.release_memory());
        }
    }
}
