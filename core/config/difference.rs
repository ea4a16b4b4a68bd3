//! What a `verger.toml` would change in a database.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::Value as Json;

use super::error::ConfigError;
use super::verger_toml::Config;
use crate::error::Error;
use crate::schedule::{Schedule, ScheduleRow};
use crate::verger::Verger;

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It adds something new.
    Add,
    /// It changes something.
    Change,
    /// It removes something.
    Remove,
    /// It says something that will not work as written.
    Refuse,
}

/// One thing that opening the database with this file would change in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// What it does.
    pub kind: ChangeKind,
    /// What it is about: `schedules.nightly`.
    pub key: String,
    /// A sentence for a person.
    pub message: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            ChangeKind::Add => '+',
            ChangeKind::Change => '~',
            ChangeKind::Remove => '-',
            ChangeKind::Refuse => '!',
        };
        write!(f, "{sign} {}: {}", self.key, self.message)
    }
}

impl Config {
    /// What opening its database with it would change there: schedules, and grants to workers.
    /// Nothing is changed.
    ///
    /// # Errors
    /// [`ConfigError`] when the database cannot be read.
    pub fn difference(&self) -> Result<Vec<Change>, ConfigError> {
        let Some(file) = self.file() else {
            return Err(ConfigError::NoFile { path: self.path().to_path_buf() });
        };
        self.difference_to(&self.without_schedules(file).read_only().open()?).map_err(|error| {
            match error {
                Error::Open(error) => ConfigError::Open(error),
                Error::Store(source) => ConfigError::Open(crate::error::OpenError::Database {
                    path: file.to_path_buf(),
                    source,
                }),
                // Only reading can fail here.
                _ => ConfigError::NoFile { path: file.to_path_buf() },
            }
        })
    }

    /// The same for a database that is open.
    ///
    /// # Errors
    /// [`Error::Store`] when it cannot be read.
    pub fn difference_to(&self, verger: &Verger) -> Result<Vec<Change>, Error> {
        let stored = verger.schedules()?;
        let set = self.schedule_set();
        let mut changes = Vec::new();
        let mut add = |kind, key: String, message: String| {
            changes.push(Change { kind, key, message });
        };
        let mut own = BTreeSet::new();
        let workers = verger.workers();
        for schedule in &self.settings().schedules {
            own.insert(schedule.name());
            let key = super::walk::join("schedules", schedule.name());
            match stored.iter().find(|row| row.name == schedule.name()) {
                None => add(
                    ChangeKind::Add,
                    key.clone(),
                    format!(
                        "a new schedule, {} ({})",
                        schedule.expression.describe(),
                        schedule.expression
                    ),
                ),
                Some(row) => {
                    for message in fields(schedule, row) {
                        add(ChangeKind::Change, key.clone(), message);
                    }
                }
            }
            if !workers.contains(&schedule.job.worker) {
                let known = workers.join(", ");
                let message =
                    format!("there is no worker `{}` here: known are {known}", schedule.job.worker);
                add(ChangeKind::Refuse, key, message);
            }
        }
        for row in stored.iter().filter(|row| row.registered_by.as_deref() == Some(set)) {
            if !own.contains(row.name.as_str()) {
                let message = "the file has it no more: it is retired".to_string();
                add(ChangeKind::Remove, super::walk::join("schedules", &row.name), message);
            }
        }
        for worker in self.granted().filter(|worker| !workers.iter().any(|known| known == worker)) {
            let message =
                format!("there is no worker of that name: known are {}", workers.join(", "));
            add(ChangeKind::Refuse, super::walk::join("grants", worker), message);
        }
        for withheld in verger.withheld() {
            let key = super::walk::join("grants", &withheld.worker);
            add(ChangeKind::Refuse, key, withheld.to_string());
        }
        for refused in verger.refused_plugins() {
            add(ChangeKind::Refuse, "plugins".to_string(), refused.to_string());
        }
        Ok(changes)
    }
}

/// How a schedule differs from what is stored of it, field by field.
fn fields(schedule: &Schedule, row: &ScheduleRow) -> Vec<String> {
    let millis =
        |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let none = || "none".to_string();
    let ms = |millis: Option<i64>| millis.map_or_else(none, |millis| format!("{millis} ms"));
    let args: Json = serde_json::from_str(&row.args).unwrap_or_default();
    let is_moved =
        schedule.expression.to_string() != row.expression || schedule.zone.name() != row.timezone;
    let version = schedule.job.args_version.unwrap_or(row.args_version);
    let pairs = [
        ("the expression", row.expression.clone(), schedule.expression.to_string()),
        ("the time zone", row.timezone.clone(), schedule.zone.name().to_string()),
        ("the worker", row.worker.clone(), schedule.job.worker.clone()),
        ("the args", args.to_string(), schedule.job.args.to_string()),
        ("the version of the args", row.args_version.to_string(), version.to_string()),
        ("the queue", row.queue.clone(), schedule.job.queue.clone()),
        ("the priority", row.priority.to_string(), schedule.job.priority.to_string()),
        ("max_attempts", row.max_attempts.to_string(), schedule.job.max_attempts.to_string()),
        ("missed", row.missed.to_string(), schedule.missed.to_string()),
        ("overlap", row.overlap.to_string(), schedule.overlap.to_string()),
        ("the start deadline", ms(row.deadline_ms), ms(schedule.deadline.map(millis))),
        ("the jitter", ms(Some(row.jitter_ms)), ms(Some(millis(schedule.jitter)))),
    ];
    let mut changed: Vec<String> = pairs
        .into_iter()
        .filter(|(_, before, after)| before != after)
        .map(|(what, before, after)| format!("{what} changes from {before} to {after}"))
        .collect();
    if is_moved {
        changed.push(
            "its next slot is counted from now, and old ones are not made up for".to_string(),
        );
    }
    changed
}
