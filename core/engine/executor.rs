//! Who performs jobs: a connection with its walls, and the name its claims carry.

use std::hash::{BuildHasher, RandomState};

use super::shared::Engine;
use crate::grant::Effective;
use crate::store::{StoreContext, StoreError, WorkConnection};

/// The most jobs claimed at once.
const BATCH_MAX: usize = 100;

/// One performer of jobs. It performs one at a time.
pub(crate) struct Executor {
    /// None only while a run has it.
    connection: Option<WorkConnection>,
    /// For jobs that are confined to a tenant; made at the first.
    confined: Option<WorkConnection>,
    pub(crate) holder: String,
    /// How many jobs to claim next: more while they are short, fewer when they are not.
    pub(crate) batch: usize,
}

impl Executor {
    pub(crate) fn new() -> Self {
        // Not a time and not a count: two processes on one file, in two containers, must not meet.
        let random = RandomState::new().hash_one(std::process::id());
        Self {
            connection: None,
            confined: None,
            holder: format!("{}-{random:016x}", std::process::id()),
            batch: 1,
        }
    }

    /// Takes the connection, opened anew when the last run did not give it back.
    pub(crate) fn take(&mut self, inner: &Engine) -> Result<WorkConnection, StoreError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => inner.open_work_connection().doing("open a connection for a worker"),
        }
    }

    /// Takes a connection on which a worker with this grant sees this tenant only.
    pub(crate) fn take_confined(
        &mut self,
        inner: &Engine,
        grant: &Effective,
        tenant: &str,
    ) -> Result<WorkConnection, StoreError> {
        let doing = "open a connection for a confined worker";
        let mut connection = match self.confined.take() {
            Some(connection) => connection,
            None => {
                inner.open_work_connection().and_then(WorkConnection::confinable).doing(doing)?
            }
        };
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

    /// Does something as the engine.
    pub(crate) fn engine<T>(
        &mut self,
        inner: &Engine,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = self.take(inner)?;
        let done = connection.engine(work);
        // A failed statement may have left its transaction open.
        if !connection.raw().is_autocommit() {
            let rolled_back = connection.engine(|connection| connection.execute_batch("ROLLBACK"));
            if rolled_back.is_err() {
                return done;
            }
        }
        self.connection = Some(connection);
        done
    }

    /// Does something as the engine in one write transaction.
    pub(crate) fn transaction<T>(
        &mut self,
        inner: &Engine,
        work: impl FnOnce(&rusqlite::Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.engine(inner, |connection| {
            let step = |sql, doing| {
                connection
                    .prepare_cached(sql)
                    .and_then(|mut statement| statement.execute([]))
                    .doing(doing)
            };
            step("BEGIN IMMEDIATE", "begin a transaction")?;
            let done = work(connection)?;
            step("COMMIT", "commit a transaction")?;
            Ok(done)
        })
    }

    /// Learns from how long a batch took.
    pub(crate) fn adapt(&mut self, performed: usize, took: std::time::Duration) {
        if performed < self.batch {
            return;
        }
        self.batch = match took.as_millis() {
            0..5 => (self.batch * 2).min(BATCH_MAX),
            5..50 => self.batch,
            _ => (self.batch / 2).max(1),
        };
    }
}
