//! The engine's side of the store: short pieces of work in the types of the domain.
//!
//! What can be asked is in the rooms that own the rows (`queue/books.rs`, `schedule/books.rs` and
//! so on), beside their SQL. Callers name no SQLite, so a second store can answer the same. What a
//! run does is not here, see [`WorkConnection`](super::WorkConnection).

use std::time::Duration;

use rusqlite::Connection;

use super::error::{StoreContext, StoreError};
use super::rusqlite_versions::release_memory;
use super::transaction_guard::TransactionGuard;

/// The engine's own rows, on one connection: inside a write transaction if one is open on it.
#[derive(Clone, Copy)]
pub(crate) struct Books<'c>(&'c Connection);

impl<'c> Books<'c> {
    /// On this connection, which may be the app's own, inside its open transaction or outside one.
    pub(crate) fn on(connection: &'c Connection) -> Self {
        Self(connection)
    }

    /// For the rooms that own the rows.
    pub(crate) fn connection(self) -> &'c Connection {
        self.0
    }

    /// Whether a transaction is open. Some failures end it.
    pub(crate) fn is_in_transaction(self) -> bool {
        !self.0.is_autocommit()
    }

    /// Runs `work` in one write transaction, which rolls back when it fails. `doing` is what a
    /// person reads when the transaction itself cannot begin or commit.
    pub(crate) fn write<T>(
        self,
        doing: &'static str,
        work: impl FnOnce(Books<'c>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction = TransactionGuard::begin_write(self.0).doing(doing)?;
        let done = work(self)?;
        transaction.commit().doing(doing)?;
        Ok(done)
    }

    /// As [`write`](Self::write), but in the open transaction, if there is one.
    pub(crate) fn write_together<T>(
        self,
        doing: &'static str,
        work: impl FnOnce(Books<'c>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.is_in_transaction() { work(self) } else { self.write(doing, work) }
    }

    /// Releases memory that big sweeps left in the page cache.
    pub(crate) fn release_memory(self) {
        release_memory(self.0);
    }
}

/// A connection of the engine's or the app's own, on which no worker runs.
pub(crate) struct BookConnection(Connection);

impl BookConnection {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(connection)
    }

    pub(crate) fn books(&self) -> Books<'_> {
        Books(&self.0)
    }

    /// Makes it never wait for a lock.
    pub(crate) fn impatient(self) -> Result<Self, StoreError> {
        self.0.busy_timeout(Duration::ZERO).doing("set how long a lock is waited for")?;
        Ok(self)
    }

    /// Makes it refuse to write from now on.
    pub(crate) fn only_reading(self) -> Result<Self, StoreError> {
        self.0.execute_batch("PRAGMA query_only = ON").doing("open a connection to read from")?;
        Ok(self)
    }

    /// A number that changes with every commit of another connection (see sqlite.org/pragma.html).
    /// `None` if it cannot be read now.
    pub(crate) fn data_version(&self) -> Option<i64> {
        self.0
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut ask| ask.query_row([], |row| row.get(0)))
            .ok()
    }

    /// For the façade, which lends it to the app, and for what migrates.
    pub(crate) fn raw(&self) -> &Connection {
        &self.0
    }

    /// As [`raw`](Self::raw), for the bindings of dropped-in workers' names.
    #[cfg(feature = "wasm")]
    pub(crate) fn raw_mut(&mut self) -> &mut Connection {
        &mut self.0
    }

    /// Hands the connection to the app.
    pub(crate) fn into_raw(self) -> Connection {
        self.0
    }
}
