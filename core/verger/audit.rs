//! Writing to the audit log and reading it.

use verger_worker::AuditEvent;

use super::Verger;
use crate::audit::{AuditFilter, AuditRow, ChainError, Stamp, Verified};
use crate::error::{AuditError, Error};
use crate::store::Books;

impl Verger {
    /// Writes an event of the app itself to the audit log, and returns its id. The row carries no
    /// scope, so say in the event whom it concerns.
    ///
    /// ```
    /// use verger::AuditEvent;
    /// use verger::verger_worker::EventOutcome;
    ///
    /// let verger = verger::testing::example();
    /// verger.audit(&AuditEvent::new("settings.changed", EventOutcome::Success))?;
    /// assert_eq!(verger.verify_audit()?.rows, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`AuditError`] when the event breaks a rule, or the database cannot be written.
    pub fn audit(&self, event: &AuditEvent) -> Result<i64, AuditError> {
        event.check()?;
        let now = self.inner.clock.now();
        let append = |books: Books<'_>| books.append_audit(now, &Stamp::default(), event);
        Ok(self.inner.write("write to the audit log", append)?)
    }

    /// The newest rows of the audit log that match, newest first, at most `limit`.
    ///
    /// ```
    /// use verger::AuditFilter;
    ///
    /// let verger = verger::testing::example();
    /// for row in verger.audit_log(&AuditFilter::default(), 50)? {
    ///     println!("{} {}", row.id, row.action);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn audit_log(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditRow>, Error> {
        Ok(self.inner.reader().books().audit_rows(filter, limit)?)
    }

    /// The rows of the audit log after this id, oldest first, at most `limit`. To keep a copy of
    /// the log elsewhere, go on after the last row that is there.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn audit_log_after(&self, id: i64, limit: u32) -> Result<Vec<AuditRow>, Error> {
        Ok(self.inner.reader().books().audit_rows_after(id, limit)?)
    }

    /// Reads the whole audit log and checks its hash chain, from the oldest row that retention left
    /// to the newest row there ever was.
    ///
    /// It shows what was edited by hand. The chain has no key: someone who may write to the file
    /// and knows this code can make a new log that verifies. Against that, keep copies elsewhere.
    ///
    /// # Errors
    /// [`ChainError::Broken`] naming the first row that does not fit, [`ChainError::Missing`] when
    /// the newest rows are gone, or [`ChainError::Store`] when the log cannot be read.
    pub fn verify_audit(&self) -> Result<Verified, ChainError> {
        self.inner.reader().books().verify_audit()
    }
}
