//! The hash chain: SHA-256 over the hash of the row before and every column of this one.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};

use crate::store::{StoreContext, StoreError, TransactionGuard};

/// The hash of a row.
pub(crate) type Hash = [u8; 32];

/// The columns in the order they are hashed: that of the table, `hash` left out.
const COLUMNS: &str = "id, occurred_at, action, outcome, organization_id, actor_id, effective_user_id, impersonating_from, worker, \
     worker_version, job, attempt, subject_type, subject_id, before, after, metadata";

/// The bytes of one row that are hashed. The buffer is reused for the next row.
#[derive(Default)]
pub(crate) struct Chained(Vec<u8>);

impl Chained {
    /// Begins with the row after the one with this hash.
    pub(crate) fn begin_after(&mut self, previous: &Hash) {
        self.0.clear();
        self.0.extend_from_slice(previous);
    }

    // Each value stands with its type and length, so that no two rows give the same bytes.
    pub(crate) fn integer(&mut self, value: Option<i64>) {
        match value {
            None => self.0.push(0),
            Some(value) => {
                self.0.push(1);
                self.0.extend_from_slice(&value.to_be_bytes());
            }
        }
    }

    pub(crate) fn text(&mut self, value: Option<&str>) {
        match value {
            None => self.0.push(0),
            Some(value) => self.bytes(2, value.as_bytes()),
        }
    }

    fn bytes(&mut self, class: u8, bytes: &[u8]) {
        self.0.push(class);
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn value(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.0.push(0),
            ValueRef::Integer(number) => self.integer(Some(number)),
            ValueRef::Real(number) => self.bytes(3, &number.to_be_bytes()),
            ValueRef::Text(text) => self.bytes(2, text),
            ValueRef::Blob(bytes) => self.bytes(4, bytes),
        }
    }

    pub(crate) fn hash(&self) -> Hash {
        Sha256::digest(&self.0).into()
    }
}

/// The id and the hash of the newest row there ever was, for the next one to follow. If rows were
/// removed, the log goes on after them, so that the gap stays.
pub(super) fn end(connection: &Connection) -> rusqlite::Result<(i64, Hash)> {
    let head = connection
        .prepare_cached("SELECT id, hash, EXISTS (SELECT 1 FROM verger_audit a WHERE a.id > h.id) FROM verger_audit_head h")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    match head {
        Some((id, hash, false)) => Ok((id, hash)),
        // Rows of this transaction, or rows of someone who knows nothing of the head.
        _ => {
            let mut last = connection
                .prepare_cached("SELECT id, hash FROM verger_audit ORDER BY id DESC LIMIT 1")?;
            Ok(last
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?
                .unwrap_or_default())
        }
    }
}

/// Remembers the newest row as [`set_head`] does, by a statement without parameters.
pub(crate) const SEAL: &str = "UPDATE verger_audit_head SET (id, hash) = \
     (SELECT id, hash FROM verger_audit ORDER BY id DESC LIMIT 1)";

/// Remembers the newest row of the log.
pub(crate) fn seal(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached(SEAL)?.execute([]).map(drop)
}

/// Remembers the newest row, so that its removal shows.
pub(super) fn set_head(connection: &Connection, (id, hash): (i64, Hash)) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE verger_audit_head SET id = ?1, hash = ?2")?
        .execute((id, hash))
        .map(drop)
}

/// What the first row follows: the id and the hash of the last row that retention removed, or 0 and
/// zeros.
fn anchor(connection: &Connection) -> rusqlite::Result<(i64, Hash)> {
    connection.query_row("SELECT id, hash FROM verger_audit_anchor", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// What the newest row must be. Where that memory is gone, every row counts as unaccounted for.
fn head(connection: &Connection) -> rusqlite::Result<(i64, Hash)> {
    let head = connection
        .query_row("SELECT id, hash FROM verger_audit_head", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    Ok(head.unwrap_or_default())
}

/// The log is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How many rows were read.
    pub rows: u64,
    /// How many rows retention removed before them: the id of the last of those.
    pub pruned: u64,
}

/// The log is not as it was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// This row, or one before it, was changed, added or removed.
    #[error(
        "the audit log does not verify from row {id} on: it, or a row that stood before it, was changed, added or removed"
    )]
    Broken {
        /// The id of the first row that does not fit.
        id: i64,
    },
    /// The newest rows were removed. Those before them are as they were written.
    #[error("{}", missing(*kept, *last))]
    Missing {
        /// The id of the newest row that is there. If there is none, the id of the last one that
        /// retention removed, or 0.
        kept: i64,
        /// The id of the newest row that was written.
        last: i64,
    },
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn missing(kept: i64, last: i64) -> String {
    match last - kept {
        1 => format!(
            "the newest row of the audit log is missing: row {last} was written, and removed"
        ),
        rows => format!(
            "the newest {rows} rows of the audit log are missing: rows {} to {last} were written, and removed",
            kept + 1
        ),
    }
}

/// Reads the whole log and checks every link.
pub(super) fn verify(connection: &Connection) -> Result<Verified, ChainError> {
    let reading = "read the audit log";
    // One transaction, because retention may run meanwhile.
    let transaction = TransactionGuard::begin_read(connection).doing(reading)?;
    let (pruned, mut previous) = anchor(&transaction).doing(reading)?;
    let (newest, newest_hash) = head(&transaction).doing(reading)?;
    let sql = format!("SELECT {COLUMNS}, hash FROM verger_audit ORDER BY id");
    let mut statement = connection.prepare(&sql).doing(reading)?;
    let columns = statement.column_count() - 1;
    let mut rows = statement.query([]).doing(reading)?;
    let (mut last, mut count, mut chained) = (pruned, 0, Chained::default());
    while let Some(row) = rows.next().doing(reading)? {
        let id: i64 = row.get(0).doing(reading)?;
        chained.begin_after(&previous);
        for column in 0..columns {
            chained.value(row.get_ref(column).doing(reading)?);
        }
        let stored = row.get_ref(columns).doing(reading)?;
        previous = chained.hash();
        // The ids have no gap, so a row removed from the middle shows. So does a row whose hash was
        // made up, or that the head does not account for.
        if id != last + 1
            || stored != ValueRef::Blob(&previous)
            || id > newest
            || (id == newest && previous != newest_hash)
        {
            return Err(ChainError::Broken { id });
        }
        (last, count) = (id, count + 1);
    }
    if last < newest {
        return Err(ChainError::Missing { kept: last, last: newest });
    }
    Ok(Verified { rows: count, pruned: pruned.unsigned_abs() })
}
