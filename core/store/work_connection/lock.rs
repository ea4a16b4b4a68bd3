//! The write lock of a run: taken, waited for, and given to others in between.

use std::sync::Arc;
use std::time::Instant;

use super::account::FOLD_BESIDE_WRITERS;
use super::handlers::{Holder, HolderReset};
use super::{FOLD_EVERY, WorkConnection};
use crate::store::confinement::Confinement;
use crate::store::lock_release::LentConnection;
use crate::store::transaction_step::TransactionStep;

/// How often a transaction is begun anew when the schema changes just before it.
const SCHEMA_TRIES: u32 = 8;

impl WorkConnection {
    /// Lends the connection until it is [taken back](Self::take_back). At this instant another
    /// thread does something on it as the engine. Nothing may use it meanwhile. False when it
    /// cannot be lent.
    pub(crate) fn lend(
        &self,
        at: Instant,
        work: impl FnOnce(&LentConnection<'_>) + Send + 'static,
    ) -> bool {
        let handlers = Arc::clone(&self.handlers);
        self.lender.lend(
            at,
            Box::new(move |lent: &LentConnection<'_>| {
                handlers.state().holder = Holder::Engine;
                let _reset = HolderReset(&handlers);
                work(lent);
            }),
        )
    }

    /// Takes the connection back. Returns whether it was lent and nobody has used it.
    pub(crate) fn take_back(&self) -> bool {
        self.lender.take_back()
    }

    /// A number that changes when another connection has written.
    pub(crate) fn data_version(&self) -> rusqlite::Result<i64> {
        self.engine(|connection| {
            connection.prepare_cached("PRAGMA main.data_version")?.query_row([], |row| row.get(0))
        })
    }

    /// Begins a transaction in a run, with the tenant's walls as the schema is in it, because an
    /// app may change the schema while a worker runs.
    pub(crate) fn begin(&self, begin: TransactionStep) -> rusqlite::Result<()> {
        let Some(confinement) = &self.confinement else {
            return self.transact(begin);
        };
        for _ in 0..SCHEMA_TRIES {
            let followed = confinement.follow_schema(self);
            self.handlers.state().around.confined = Some(confinement.shadows());
            followed?;
            self.transact(begin)?;
            let version = self.schema_version()?;
            if confinement.is_for(version) {
                return Ok(());
            }
            // The schema changed in between. Nothing was done in the transaction.
            self.transact(TransactionStep::Rollback)?;
        }
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_SCHEMA),
            Some("the app changes the schema again and again".to_string()),
        ))
    }

    /// Whether a statement that could not be prepared can be now. Behind the tenant's walls, one
    /// that returns what it changes takes another way.
    pub(crate) fn can_retry(&self, error: &rusqlite::Error) -> rusqlite::Result<bool> {
        match &self.confinement {
            Some(confinement) if Confinement::is_refusal(error) => {
                confinement.put_views(self).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Lets others in, after a commit of a transaction that held the write lock since then.
    pub(crate) fn let_others_in(&self, since: Instant) {
        self.holding.let_others_in(since, || self.data_version().ok());
        let pages = if self.holding.is_beside_writers() { FOLD_BESIDE_WRITERS } else { FOLD_EVERY };
        if self.folds_every.replace(pages) != pages {
            // Without it the log is folded back as before.
            let _ = self.engine(|connection| {
                connection.execute_batch(&format!("PRAGMA wal_autocheckpoint = {pages}"))
            });
        }
    }

    /// Notes what others have written since the last transaction. Call it before one.
    pub(crate) fn look_for_others(&self) {
        if self.holding.wants_look()
            && let Ok(version) = self.data_version()
        {
            self.holding.look(version);
        }
    }

    /// Whether a transaction that has held the write lock since then should end soon, for others.
    pub(crate) fn is_wanted_by_others(&self, since: Instant) -> bool {
        self.holding.is_due(since)
    }
}
