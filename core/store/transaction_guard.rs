//! The one way to begin a transaction of the engine's own.

use std::ops::Deref;

use rusqlite::Connection;

use super::transaction_step::TransactionStep;

/// A transaction is open while this exists. Dropped without a commit, it rolls back.
///
/// It is like [`rusqlite::Transaction`], with its statements kept prepared.
pub(crate) struct TransactionGuard<'c>(&'c Connection);

impl<'c> TransactionGuard<'c> {
    /// Waits for the write lock and takes it.
    pub(crate) fn begin_write(connection: &'c Connection) -> rusqlite::Result<Self> {
        TransactionStep::BeginWrite.take(connection)?;
        Ok(Self(connection))
    }

    /// Reads one state of the file, from its first read on, and keeps nobody from writing.
    pub(crate) fn begin_read(connection: &'c Connection) -> rusqlite::Result<Self> {
        TransactionStep::BeginRead.take(connection)?;
        Ok(Self(connection))
    }

    pub(crate) fn commit(self) -> rusqlite::Result<()> {
        TransactionStep::Commit.take(self.0)
    }
}

impl Deref for TransactionGuard<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.0
    }
}

impl Drop for TransactionGuard<'_> {
    fn drop(&mut self) {
        // Some failures have rolled it back already. If this one fails, closing the connection
        // rolls back, because nobody goes on with a connection that is inside a transaction.
        if !self.0.is_autocommit() {
            let _ = TransactionStep::Rollback.take(self.0);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_is_dropped_leaves_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (n)").unwrap();
        let count =
            || connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
        let transaction = TransactionGuard::begin_write(&connection).unwrap();
        transaction.execute("INSERT INTO t VALUES (1)", []).unwrap();
        drop(transaction);
        assert_eq!((count().unwrap(), connection.is_autocommit()), (0, true));
        let transaction = TransactionGuard::begin_write(&connection).unwrap();
        transaction.execute("INSERT INTO t VALUES (1)", []).unwrap();
        transaction.commit().unwrap();
        assert_eq!(count().unwrap(), 1);
    }
}
