//! The built-in worker `export-backup`: copies the database into a folder and keeps the newest
//! copies.
//!
//! It is part of the library and no component, because the engine makes the copy, by SQLite's own
//! backup interface.

use serde_json::{Value as Json, json};
use verger_worker::{
    ArgError, ArgSpec, Args, AuditEvent, Context, Manifest, Outcome, Scope, Suggested, Worker,
    WorkerError,
};

use crate::run::BACKUP;

/// The action in the audit log.
const ACTION: &str = "database.backed_up";

const MAX_KEPT: i64 = 10_000;

const MAX_NAME_BYTES: usize = 100;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ExportBackup;

impl Worker for ExportBackup {
    fn manifest(&self) -> Manifest {
        Manifest::new("export-backup", env!("CARGO_PKG_VERSION"))
            .description("Copies the database into a folder, checks the copy, and keeps the newest ones.")
            .arg(
                "folder",
                ArgSpec::default_value("backups").describe(
                    "The folder of the copies, for this database alone: beside the database, unless the path is absolute.",
                ),
            )
            .arg(
                "name",
                ArgSpec::default_value(Json::Null).describe(
                    "What the copies' names begin with; null: the database's own name.",
                ),
            )
            .arg(
                "keep",
                ArgSpec::default_value(7).describe("How many copies stay: 1 to 10000."),
            )
            .capability(BACKUP)
            .schedule(Suggested::Cron("30 4 * * *".into()))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let folder: String = args.get("folder")?;
        if folder.is_empty() || folder.contains('\0') {
            return Err(ArgError::Wrong {
                key: "folder".into(),
                reason: "must be the path of a folder".into(),
            }
            .into());
        }
        let name: Option<String> = args.opt("name")?;
        if name.as_deref().is_some_and(|name| !is_file_name(name)) {
            return Err(ArgError::Wrong {
                key: "name".into(),
                reason: format!(
                    "must be 1 to {MAX_NAME_BYTES} ASCII letters, digits, `-`, `_` and `.`, and begin with no `.`"
                ),
            }
            .into());
        }
        let keep = args.positive("keep", MAX_KEPT)?;
        let result = job.call(BACKUP, &json!({ "folder": folder, "name": name, "keep": keep }))?;
        job.audit_batch(&[AuditEvent::success(ACTION).metadata(result.clone())])?;
        Ok(Outcome::DoneWith(result))
    }
}

fn is_file_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name.starts_with('.')
        && name.chars().all(plain)
}
