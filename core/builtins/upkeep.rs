//! A typed way to call the built-in workers of a desktop app directly.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use crate::error::PerformError;
use crate::verger::Verger;

/// What [`Verger::evict_cache`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheEvicted {
    /// Entries that were deleted.
    pub evicted: u64,
    /// The bytes they had.
    pub bytes: u64,
    /// Files that were removed with them.
    pub files: u64,
    /// Entries that could not be deleted. The audit log says why.
    pub errors: u64,
}

/// What [`Verger::vacuum_step`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacuumed {
    /// Whether the file gives pages back: `none`, `full` or `incremental`.
    pub auto_vacuum: String,
    /// Pages that were given back.
    pub freed_pages: u64,
    /// Pages that are still free.
    pub free_pages: u64,
    /// Tables whose rows were counted for SQLite's plans.
    pub analyzed: u64,
}

/// What [`Verger::export_backup`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupExported {
    /// The copy.
    pub file: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Older copies that were removed.
    pub removed: u64,
    /// Copies in the folder now.
    pub kept: u64,
}

/// What [`Verger::deliver_email`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmailDelivered {
    /// Messages that were sent.
    pub sent: u64,
    /// Messages to be tried again.
    pub failed: u64,
    /// Messages that are not tried again. Their rows say why.
    pub dead: u64,
}

impl Verger {
    /// Deletes the entries of a cache that were not used for `max_age_seconds`. Then it deletes the
    /// longest unused ones until all together have at most `max_bytes`. It calls the worker
    /// `evict-cache` directly; `args` are that worker's: `table`, `max_age_seconds`, `max_bytes`,
    /// `path_column` and the names of the other columns.
    ///
    /// # Errors
    /// [`PerformError`] for args that do not fit, or a table that is not there.
    pub fn evict_cache(&self, args: Json) -> Result<CacheEvicted, PerformError> {
        self.built_in("evict-cache", args, |result| {
            Some(CacheEvicted {
                evicted: result("evicted")?,
                bytes: result("bytes")?,
                files: result("files").unwrap_or(0),
                errors: result("errors").unwrap_or(0),
            })
        })
    }

    /// Gives the file's free pages back to the disk, and refreshes the statistics that SQLite plans
    /// queries by. It calls the worker `vacuum-step` directly.
    ///
    /// # Errors
    /// [`PerformError`] when the file cannot be written.
    pub fn vacuum_step(&self) -> Result<Vacuumed, PerformError> {
        self.called("vacuum-step", json!({}), |result| {
            let count = |key: &str| result[key].as_u64();
            Some(Vacuumed {
                auto_vacuum: result["auto_vacuum"].as_str()?.to_string(),
                freed_pages: count("freed_pages")?,
                free_pages: count("free_pages")?,
                analyzed: count("analyzed")?,
            })
        })
    }

    /// Copies the database into a folder, checks the copy, and keeps the newest `keep` copies. A
    /// relative path is beside the database. It calls the worker `export-backup` directly.
    ///
    /// # Errors
    /// [`PerformError`] when the folder cannot be written, the disk is full, or the copy is not
    /// whole. The earlier copies are then as they were.
    pub fn export_backup(&self, folder: &str, keep: u32) -> Result<BackupExported, PerformError> {
        let args = json!({ "folder": folder, "keep": keep });
        self.called("export-backup", args, |result| {
            let count = |key: &str| result[key].as_u64();
            Some(BackupExported {
                file: result["file"].as_str()?.into(),
                bytes: count("bytes")?,
                removed: count("removed")?,
                kept: count("kept")?,
            })
        })
    }

    /// Sends the mail that is due in this outbox table, by the app's function `mailer`. It calls
    /// the worker `deliver-email` directly.
    ///
    /// # Errors
    /// [`PerformError`] for a table that is not there, or when the app has no `mailer`.
    pub fn deliver_email(&self, table: &str) -> Result<EmailDelivered, PerformError> {
        self.built_in("deliver-email", json!({ "table": table }), |result| {
            Some(EmailDelivered {
                sent: result("sent")?,
                failed: result("failed")?,
                dead: result("dead")?,
            })
        })
    }
}
