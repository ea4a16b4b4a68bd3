//! What a move came to.

use std::path::PathBuf;

use crate::audit::ChainError;
use crate::error::OpenError;
use crate::store::StoreError;

/// What was moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Moved {
    /// Jobs, finished ones included.
    pub jobs: u64,
    /// Schedules.
    pub schedules: u64,
    /// Rows of the fire ledger.
    pub fires: u64,
    /// Rows of the audit log, which was verified before and after.
    pub audit_rows: u64,
    /// Values that workers keep.
    pub state: u64,
    /// The app's tables, and how many rows each has. Of an earlier call this is not known.
    pub tables: Vec<(String, u64)>,
    /// What of the app's tables has no exact place in the other store, and is for its owner to make:
    /// triggers, CHECKs, foreign keys, some indexes and defaults, views.
    pub not_made: Vec<String>,
    /// An earlier call had moved the rows, and was ended before it marked the file. This one did.
    pub was_there: bool,
    /// What has no place in the other store and stays: so many rows of which table.
    pub left: Vec<(String, u64)>,
}

/// Nothing was moved, and both sides are as they were, but for [`MoveError::Unfinished`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// One of the two cannot be opened; or the file was moved before.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// One of the two cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody has the file open.
    #[error("{} is in use: stop the app, and whatever else has it open", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The other database has rows already.
    #[error("the database has {table} already: move into one where Verger has done nothing yet")]
    NotEmpty {
        /// What it has.
        table: &'static str,
    },
    /// A value has no place in the other database.
    #[error("row {row} of {table} cannot be moved: {reason}. Nothing was moved")]
    Row {
        /// The table.
        table: String,
        /// The first column of the row, or its key.
        row: String,
        /// Why.
        reason: String,
    },
    /// A table of the app's cannot be moved exactly.
    #[error("the table {table} cannot be moved: {reason}. Nothing was moved")]
    Table {
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// A move to another database was begun, and may have come to its end there.
    #[error("a move to {to} was begun: run that one again, so that no row is in two databases")]
    Elsewhere {
        /// Where to.
        to: String,
    },
    /// The connection was lost while the rows were committed. Whether they were is found out by
    /// running the move again; until then the file is not opened.
    #[error("the rows may have been moved: run the move again. {0}")]
    Unfinished(StoreError),
    /// The audit log does not verify.
    #[error("the audit log does not verify: {0}")]
    Audit(#[from] ChainError),
}
