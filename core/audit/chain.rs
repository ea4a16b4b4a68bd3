//! The hash chain: SHA-256 over the hash of the row before and every column of this one.

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};

use crate::store::{Doing, StoreError};

/// The hash of a row.
pub(crate) type Hash = [u8; 32];

/// The columns in the order they are hashed: that of the table, `hash` left out.
const COLUMNS: &str = "id, occurred_at, action, outcome, organization_id, actor_id, effective_user_id, impersonating_from, worker, \
     worker_version, job, attempt, subject_type, subject_id, before, after, metadata";

/// The running hash of one row.
pub(super) struct Chained(Sha256);

impl Chained {
    pub(super) fn after(previous: &Hash) -> Self {
        let mut sha = Sha256::new();
        sha.update(previous);
        Self(sha)
    }

    // Each value with its class and length, so that no two rows read alike.
    pub(super) fn integer(&mut self, value: Option<i64>) {
        match value {
            None => self.0.update([0]),
            Some(value) => {
                self.0.update([1]);
                self.0.update(value.to_be_bytes());
            }
        }
    }

    pub(super) fn text(&mut self, value: Option<&str>) {
        match value {
            None => self.0.update([0]),
            Some(value) => self.bytes(2, value.as_bytes()),
        }
    }

    fn bytes(&mut self, class: u8, bytes: &[u8]) {
        self.0.update([class]);
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn value(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.0.update([0]),
            ValueRef::Integer(number) => self.integer(Some(number)),
            ValueRef::Real(number) => self.bytes(3, &number.to_be_bytes()),
            ValueRef::Text(text) => self.bytes(2, text),
            ValueRef::Blob(bytes) => self.bytes(4, bytes),
        }
    }

    pub(super) fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

/// The id and the hash of the last row.
pub(super) fn end(connection: &Connection) -> rusqlite::Result<(i64, Hash)> {
    let mut statement = connection.prepare_cached("SELECT id, hash FROM verger_audit ORDER BY id DESC LIMIT 1")?;
    let mut rows = statement.query([])?;
    match rows.next()? {
        Some(row) => Ok((row.get(0)?, row.get(1)?)),
        None => anchor(connection),
    }
}

/// What stands before the first row: the id and the hash of the last one that retention took out, or 0 and zeros.
fn anchor(connection: &Connection) -> rusqlite::Result<(i64, Hash)> {
    connection.prepare_cached("SELECT id, hash FROM verger_audit_anchor")?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// The log is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How many rows were read.
    pub rows: u64,
    /// How many rows retention took out before them.
    pub pruned: u64,
}

/// The log is not as it was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// This row, or one that stood before it, was changed, added or taken away.
    #[error("the audit log does not verify from row {id} on: it, or a row that stood before it, was changed, added or removed")]
    Broken {
        /// The id of the first row that does not fit.
        id: i64,
    },
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the whole log and checks every link.
pub(crate) fn verify(connection: &Connection) -> Result<Verified, ChainError> {
    let reading = "read the audit log";
    // One transaction: retention may run meanwhile.
    let transaction = connection.unchecked_transaction().doing(reading)?;
    let (pruned, mut previous) = anchor(&transaction).doing(reading)?;
    let sql = format!("SELECT {COLUMNS}, hash FROM verger_audit ORDER BY id");
    let mut statement = connection.prepare(&sql).doing(reading)?;
    let columns = statement.column_count() - 1;
    let mut rows = statement.query([]).doing(reading)?;
    let (mut last, mut count) = (pruned, 0);
    while let Some(row) = rows.next().doing(reading)? {
        let id: i64 = row.get(0).doing(reading)?;
        let mut chained = Chained::after(&previous);
        for column in 0..columns {
            chained.value(row.get_ref(column).doing(reading)?);
        }
        let stored = row.get_ref(columns).doing(reading)?;
        previous = chained.finish();
        // The ids have no gap: a row taken from the middle shows, and so does one whose hash was made up.
        if id != last + 1 || stored != ValueRef::Blob(&previous) {
            return Err(ChainError::Broken { id });
        }
        (last, count) = (id, count + 1);
    }
    Ok(Verified { rows: count, pruned: pruned.unsigned_abs() })
}
