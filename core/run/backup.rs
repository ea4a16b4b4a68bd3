//! A run's copy of the database into a folder.

use std::path::{Path, PathBuf};

use serde_json::json;
use verger_worker::{HostError, code};

use super::Run;
use super::engine_call::parse;
use super::error::from_store;
use super::transaction::State;
use crate::store::backup::{BackupError, BackupFolder};

#[derive(serde::Deserialize)]
struct BackUp {
    /// Beside the database, unless it is absolute.
    folder: PathBuf,
    /// The prefix of the copies' names. By default the database's own name.
    name: Option<String>,
    /// How many copies are kept.
    keep: usize,
}

impl Run {
    /// `{"folder", "name", "keep"}` → `{"file", "bytes", "pages", "removed", "kept"}`.
    pub(super) fn back_up(&self, request: &str) -> Result<String, HostError> {
        let request: BackUp = parse(request)?;
        if matches!(self.transaction.get(), State::Writing(_)) {
            return Err(HostError::new(
                code::CHECKPOINT_FIRST,
                "a backup takes long, and this attempt holds the write lock: make a checkpoint first",
            ));
        }
        let source = self.services.location.file();
        let folder = match source.and_then(Path::parent) {
            Some(beside) => beside.join(&request.folder),
            None if request.folder.is_absolute() => request.folder.clone(),
            None => {
                return Err(HostError::new(
                    code::INVALID,
                    "a database in memory has no folder beside it: name an absolute one",
                ));
            }
        };
        let own = source.and_then(Path::file_stem).and_then(|stem| stem.to_str());
        let stem = request.name.as_deref().or(own).unwrap_or("database");
        if self.dry {
            return Ok(json!({ "file": null, "folder": folder.display().to_string(), "bytes": 0, "pages": 0, "removed": 0, "kept": null }).to_string());
        }
        self.has_effects.set(true);
        self.lock_first.set(true);
        self.end_snapshot()?;
        self.back_up_to(&folder, stem, request.keep)
            .map(|reply| reply.to_string())
            .map_err(|error| self.failed_backup(&folder, &error))
    }

    fn back_up_to(
        &self,
        folder: &Path,
        stem: &str,
        keep: usize,
    ) -> Result<serde_json::Value, BackupError> {
        let folder = BackupFolder::open(folder, stem)?;
        let copied = self.connection.engine(|connection| {
            folder.copy(
                connection,
                &self.services.location,
                self.services.setup.as_ref(),
                &self.task.stop_signal,
                &|done, total| self.progresses(done, total),
            )
        });
        let kept = copied.and_then(|copied| {
            let path = folder.keep(self.services.location.file(), self.clock.now())?;
            Ok((copied, path))
        });
        let (copied, path) = match kept {
            Ok(kept) => kept,
            Err(error) => {
                // The next backup tries again.
                let _ = folder.discard();
                return Err(error);
            }
        };
        let (removed, kept) = folder.prune(keep, &path)?;
        Ok(json!({
            "file": path.display().to_string(), "bytes": copied.bytes, "pages": copied.pages, "removed": removed, "kept": kept,
        }))
    }

    fn failed_backup(&self, folder: &Path, error: &BackupError) -> HostError {
        let folder = folder.display();
        match error {
            BackupError::Stopped => self.stop_now(),
            BackupError::InUse => HostError::new(
                code::BUSY,
                format!(
                    "another backup into {folder} is under way: give this one another folder or name"
                ),
            ),
            BackupError::Restless => HostError::new(
                code::BUSY,
                format!(
                    "no backup was made in {folder}: others wrote to the database all the time; it has no write-ahead log, with one nobody would have to wait"
                ),
            ),
            BackupError::File(doing, error) => HostError::new(
                code::STORE,
                format!("no backup was made in {folder}: could not {doing}: {error}"),
            ),
            BackupError::Copy(error) => {
                let error = from_store(error);
                HostError::new(
                    &error.code,
                    format!("no backup was made in {folder}: {}", error.message),
                )
            }
            BackupError::Damaged(found) => HostError::new(
                code::STORE,
                format!(
                    "no backup was kept in {folder}: the copy is not whole, and those before it stay ({found}); check the database itself with PRAGMA integrity_check"
                ),
            ),
        }
    }
}
