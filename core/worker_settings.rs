//! What the user set for a worker: a JSON object that the worker reads.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value as Json};

use crate::store::{Books, StoreContext, StoreError};
use crate::time::Timestamp;

/// The capability by which a worker reads its own settings: `{}` → the object, which is empty when
/// nothing was set.
pub(crate) const SETTINGS: &str = "settings";

/// The most bytes of their JSON text.
pub(crate) const SETTINGS_MAX_BYTES: usize = 64 * 1024;

/// The settings of a worker were not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// They are no JSON object.
    #[error("the settings of worker `{worker}` must be a JSON object")]
    NotAnObject {
        /// The worker.
        worker: String,
    },
    /// They are too long.
    #[error("the settings of worker `{worker}` have {bytes} bytes of JSON, more than 65536")]
    TooLong {
        /// The worker.
        worker: String,
        /// Their length.
        bytes: usize,
    },
    /// No worker can have this name.
    #[error("{worker:?} can be no worker's name: it has 1 to 64 bytes")]
    Name {
        /// The name.
        worker: String,
    },
}

/// Checks settings that somebody wants stored; their text.
pub(crate) fn check(worker: &str, settings: &Json) -> Result<String, SettingsError> {
    let name = || worker.chars().take(64).collect::<String>();
    if worker.is_empty() || worker.len() > 64 {
        return Err(SettingsError::Name { worker: name() });
    }
    if !settings.is_object() {
        return Err(SettingsError::NotAnObject { worker: name() });
    }
    let text = settings.to_string();
    match text.len() {
        0..=SETTINGS_MAX_BYTES => Ok(text),
        bytes => Err(SettingsError::TooLong { worker: name(), bytes }),
    }
}

impl Books<'_> {
    /// What was set for a worker. The object is empty when nothing was.
    pub(crate) fn worker_settings(&self, worker: &str) -> Result<Map<String, Json>, StoreError> {
        read(self.connection(), worker).doing("read the settings of a worker")
    }

    /// Stores what is set for a worker.
    pub(crate) fn set_worker_settings(
        &self,
        worker: &str,
        text: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        write(self.connection(), worker, text, now).doing("store the settings of a worker")
    }
}

/// What was set for a worker. A row that somebody wrote by hand and that is no object counts as
/// empty.
fn read(connection: &Connection, worker: &str) -> rusqlite::Result<Map<String, Json>> {
    let text: Option<String> = connection
        .prepare_cached(
            "SELECT settings FROM verger_settings WHERE worker = ?1 AND length(CAST(settings AS BLOB)) <= ?2",
        )?
        .query_row(params![worker, SETTINGS_MAX_BYTES as i64], |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

/// Stores them.
fn write(
    connection: &Connection,
    worker: &str,
    text: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO verger_settings (worker, settings, updated_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (worker) DO UPDATE SET settings = excluded.settings, updated_at = excluded.updated_at",
        )?
        .execute(params![worker, text, now.as_millis()])
        .map(drop)
}
