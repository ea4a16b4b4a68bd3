//! The engine's own functions that workers call as capabilities.

use serde::de::DeserializeOwned;
use serde_json::json;
use verger_worker::{HostError, Verb, code};

use super::Run;
use super::error::{from_books, from_store};
use crate::audit;
use crate::store::maintenance::{self, AutoVacuum};
use crate::time::Timestamp;
use crate::worker_settings::SETTINGS;

/// Frees some pages of the file: `{"pages": n}` → `{"auto_vacuum", "freed", "free"}`.
pub(crate) const VACUUM: &str = "verger.vacuum";

/// Makes SQLite count one more table's rows, if that would help it: `{"done": [statement, …]}` →
/// `{"ran": statement, "error": text}`. `ran` is null when nothing is left, and `error` when it
/// went well.
pub(crate) const ANALYZE: &str = "verger.analyze";

/// Copies the database: see [`backup`](super::backup).
pub(crate) const BACKUP: &str = "verger.backup";

/// Each of these functions, and the one worker it is for.
const OWNERS: [(&str, &str); 4] = [
    (audit::PRUNE, audit::PRUNER),
    (VACUUM, "vacuum-step"),
    (ANALYZE, "vacuum-step"),
    (BACKUP, "export-backup"),
];

/// The most pages one call frees, which takes some milliseconds.
const PAGES_MAX: u32 = 10_000;

#[derive(serde::Deserialize)]
struct PruneAudit {
    /// Rows written before this instant, in unix milliseconds.
    before: i64,
    limit: u32,
}

#[derive(serde::Deserialize)]
struct Vacuum {
    pages: u32,
}

#[derive(serde::Deserialize)]
struct Analyze {
    done: Vec<String>,
}

impl Run {
    /// Answers a call of one of the engine's functions. `None` when the function is the app's.
    pub(super) fn call_engine(
        &self,
        name: &str,
        request: &str,
    ) -> Option<Result<String, HostError>> {
        // The app may have a capability of that name itself.
        if name == SETTINGS && self.services.capabilities.get(name).is_none() {
            return Some(self.settings());
        }
        let (_, owner) = OWNERS.iter().find(|(own, _)| *own == name)?;
        let worker = self.task.worker.as_str();
        if worker != *owner {
            return Some(Err(HostError::new(
                code::DENIED,
                format!("call denied: `{name}` is for `{owner}` alone (worker {worker})"),
            )));
        }
        Some(match name {
            audit::PRUNE => self.prune_audit(request),
            VACUUM => self.vacuum(request),
            ANALYZE => self.analyze(request),
            _ => self.back_up(request),
        })
    }

    /// What the user set for this worker, as this transaction sees it.
    fn settings(&self) -> Result<String, HostError> {
        self.begin_read()?;
        let worker = self.task.worker.as_str();
        let settings = self
            .connection
            .books(|books| books.worker_settings(worker))
            .map_err(|error| from_books(&error))?;
        Ok(serde_json::Value::Object(settings).to_string())
    }

    /// Deletes the oldest rows of the audit log, in this transaction.
    fn prune_audit(&self, request: &str) -> Result<String, HostError> {
        let request: PruneAudit = parse(request)?;
        self.begin()?;
        let now = self.clock.now();
        let before = Timestamp::from_millis(request.before).min(now - self.services.keep_audit);
        // While the clock is in doubt, ages are told by the last reading that is believed.
        let age = now.since(before);
        let deleted = self
            .connection
            .books(|books| {
                let believed = books.believed_now(now)?;
                books.prune_audit(before.min(believed - age), believed, request.limit)
            })
            .map_err(|error| from_books(&error));
        let deleted = deleted.inspect_err(|error| self.notice_lost_transaction(error))?;
        // The end of the log may be the anchor now.
        self.log.borrow_mut().forget();
        self.engine_changed(Verb::Delete, "verger_audit", deleted);
        Ok(json!({ "deleted": deleted }).to_string())
    }

    /// Frees pages of the file in this transaction, where the file keeps track of them.
    fn vacuum(&self, request: &str) -> Result<String, HostError> {
        let pages = parse::<Vacuum>(request)?.pages.min(PAGES_MAX);
        self.begin_read()?;
        let found = self
            .connection
            .engine(maintenance::auto_vacuum_and_free_pages)
            .map_err(|error| from_store(&error))?;
        let (mode, free) = found;
        if mode != AutoVacuum::Incremental || free == 0 || pages == 0 {
            return Ok(json!({"auto_vacuum": mode.as_str(), "freed": 0, "free": free}).to_string());
        }
        self.begin()?;
        let left = self
            .connection
            .engine(|connection| maintenance::vacuum(connection, pages))
            .map_err(|error| from_store(&error));
        let left = left.inspect_err(|error| self.notice_lost_transaction(error))?;
        let freed = free.saturating_sub(left);
        Ok(json!({"auto_vacuum": mode.as_str(), "freed": freed, "free": left}).to_string())
    }

    /// Runs the next statement that SQLite says would help it.
    fn analyze(&self, request: &str) -> Result<String, HostError> {
        let request: Analyze = parse(request)?;
        self.begin()?;
        let ran = self
            .connection
            .engine(|connection| maintenance::analyze_next(connection, &request.done))
            .map_err(|error| from_store(&error));
        let ran = ran.inspect_err(|error| self.notice_lost_transaction(error))?;
        let (ran, error) = ran.map_or((None, None), |(statement, error)| (Some(statement), error));
        Ok(json!({ "ran": ran, "error": error }).to_string())
    }
}

pub(super) fn parse<T: DeserializeOwned>(request: &str) -> Result<T, HostError> {
    serde_json::from_str(request).map_err(|error| HostError::new(code::INVALID, error.to_string()))
}
