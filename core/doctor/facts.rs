//! What the doctor measured, whether or not anything is wrong with it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

/// What was measured. A fact is `None` where it could not be measured, or was not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Facts {
    /// The version of SQLite that looked.
    pub sqlite: String,
    /// How the file keeps a transaction that is under way: `wal`, `delete`, …
    pub journal_mode: Option<String>,
    /// Bytes of a page.
    pub page_bytes: Option<u64>,
    /// Whether the file gives pages back by itself: `none`, `full`, `incremental`.
    pub auto_vacuum: Option<String>,
    /// Bytes of the file.
    pub file_bytes: Option<u64>,
    /// Bytes of pages in it that hold nothing. SQLite uses them again.
    pub free_bytes: Option<u64>,
    /// Bytes of the write-ahead log beside it.
    pub log_bytes: Option<u64>,
    /// Whether it has the tables of Litestream, which streams it, or has restored it.
    pub litestream: Option<bool>,
    /// The version of Verger's tables in it; 0 when it has none.
    pub schema_version: Option<i64>,
    /// The version that this build knows.
    pub schema_known: i64,
    /// Whether a process has it open to work on it.
    pub is_open: Option<bool>,
    /// Jobs by state.
    pub jobs: BTreeMap<String, u64>,
    /// Its tables by the space they take, the largest first.
    pub tables: Vec<TableFacts>,
    /// The newest file beside it whose name says that it is a copy, if there is one.
    pub backup: Option<PathBuf>,
    /// The folder of compiled components.
    pub cache: Option<CacheFacts>,
}

/// The space one table takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TableFacts {
    /// Its name.
    pub table: String,
    /// Its rows.
    pub rows: Option<u64>,
    /// Bytes of its pages, those of its indexes included.
    pub bytes: u64,
    /// Bytes of them that hold nothing.
    pub unused_bytes: u64,
}

/// The folder of compiled components.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheFacts {
    /// Where it is.
    pub folder: PathBuf,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}
