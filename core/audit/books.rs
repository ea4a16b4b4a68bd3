//! What the engine and the façade ask of the audit log. The SQL stands in the file of its noun.

use super::chain::{ChainError, Verified};
use super::read::{AuditFilter, AuditRow};
use super::record::{Log, Stamp};
use super::{chain, read, retention};
use crate::store::{Books, StoreContext, StoreError};
use crate::time::Timestamp;
use verger_worker::AuditEvent;

impl Books<'_> {
    /// Reads the whole log and checks every link.
    pub(crate) fn verify_audit(&self) -> Result<Verified, ChainError> {
        chain::verify(self.connection())
    }

    /// The newest rows that match, newest first.
    pub(crate) fn audit_rows(
        &self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        read::list(self.connection(), filter, limit)
    }

    /// The rows after this id, oldest first.
    pub(crate) fn audit_rows_after(
        &self,
        id: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        read::list_after(self.connection(), id, limit)
    }

    /// Deletes the oldest rows that were written before this instant and before this transaction,
    /// and returns how many. Call it inside a write transaction.
    pub(crate) fn prune_audit(
        &self,
        before: Timestamp,
        now: Timestamp,
        most: u32,
    ) -> Result<u64, StoreError> {
        retention::prune(self.connection(), before, now, most).doing("prune the audit log")
    }

    /// Appends one event and returns the id of its row. Call it inside a write transaction.
    pub(crate) fn append_audit(
        &self,
        now: Timestamp,
        stamp: &Stamp,
        event: &AuditEvent,
    ) -> Result<i64, StoreError> {
        Log::append_one(self.connection(), now, stamp, event).doing("write to the audit log")
    }
}
