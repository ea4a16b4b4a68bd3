//! The audit log, and the events that are kept.

use verger_worker::AuditEvent;

use super::{Verger, handed_over};
use crate::audit::{AuditFilter, AuditRow, ChainError, Stamp, Verified};
use crate::error::{AuditError, Error};
use crate::event::{EventPosition, LifecycleEvent};
use crate::mutex::lock;
use crate::postgres::run::Connection;
use crate::postgres::{audit, events};
use crate::time::Timestamp;

impl Verger {
    /// Writes an event of the app's own to the audit log. Returns the id of its row.
    ///
    /// # Errors
    /// [`AuditError`] for an event that breaks a rule, or when the database cannot be written.
    pub fn audit(&self, event: &AuditEvent) -> Result<i64, AuditError> {
        event.check()?;
        let now = self.now();
        let id = handed_over(|| {
            let mut front = lock(&self.node.front);
            let Connection { session, lane, .. } = &mut *front;
            lane.take(session)?;
            lane.forget();
            let ids = session.transaction("write the audit log", |session| {
                let ids = lane.append(session, now, &Stamp::default(), std::iter::once(event))?;
                lane.seal(session).map(|()| ids)
            });
            lane.forget();
            ids.map(|ids| ids.first().copied().unwrap_or_default())
        })?;
        Ok(id)
    }

    /// The newest rows of the audit log that match, newest first.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn audit_log(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditRow>, Error> {
        Ok(self.front(|session| audit::list(session, filter, limit))?)
    }

    /// Checks every link of every lane of the audit log.
    ///
    /// # Errors
    /// [`ChainError`] with the first row that does not fit.
    pub fn verify_audit(&self) -> Result<Verified, ChainError> {
        // On a connection of its own, because it may take long.
        handed_over(|| {
            let mut connection = self.node.connection();
            let verified = audit::verify(&mut connection.session);
            self.node.give_back(connection);
            verified
        })
    }

    /// Deletes the rows of the audit log that were written before this instant. The newest row of
    /// each lane stays. Returns how many rows went.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn prune_audit(&self, before: impl Into<Timestamp>) -> Result<u64, Error> {
        let before = before.into();
        Ok(handed_over(|| {
            let mut connection = self.node.connection();
            let pruned = audit::prune(&mut connection.session, before);
            self.node.give_back(connection);
            pruned
        })?)
    }

    /// The events after a position, at most `limit`, in the order of their transactions. Those of a
    /// transaction come once every one that began to write before it has ended, so that none is
    /// passed over.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn events_since(
        &self,
        position: EventPosition,
        limit: usize,
    ) -> Result<Vec<LifecycleEvent>, Error> {
        Ok(self.front(|session| events::after(session, position, limit))?)
    }
}
