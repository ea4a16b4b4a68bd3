//! What a worker says of itself: its name, its args, and what it asks to touch.

mod args;
mod error;
mod tables;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

pub(crate) use self::args::SCOPE_KEYS;
pub use self::args::{ArgSpec, ArgType};
pub use self::error::ManifestError;
pub use self::tables::{TableAsk, TableName, Verb};
use crate::args::kind;
use crate::ident::Ident;

/// What a manifest calls SQL that both stores understand alike.
const COMMON: &str = "common";

/// A worker's description of itself. As JSON it is what `describe` returns. Unknown fields are
/// ignored, so it can grow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The worker's name: lower-case letters, digits and `-`, at most 64 bytes.
    pub name: String,
    /// Its version, in any form of up to 64 bytes.
    pub version: String,
    /// One sentence on what it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether its args must carry `organization_id` and `actor_id`, which make its scope. They
    /// must also when the app's grant names a tenant column, whatever this field says.
    #[serde(default)]
    pub tenant_aware: bool,
    /// The args it takes. A default for `organization_id`, `actor_id` or `impersonating_from` is
    /// ignored, because only the app says for whom a job runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, ArgSpec>,
    /// The version of its args, from 1. Raise it when args of the earlier form cannot be used as
    /// they are. Waiting jobs keep theirs, and go through
    /// [`Worker::migrate_args`](crate::Worker::migrate_args).
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub args_version: u32,
    /// The tables it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableAsk>,
    /// The host capabilities it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// The other workers it asks to enqueue jobs for. For itself it need not ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enqueues: Vec<String>,
    /// Why it asks for a capability, by its name: a sentence for the person who decides. A table's
    /// reason is in its ask.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, String>,
    /// The stores its SQL was written for: `common` means the same on SQLite and on PostgreSQL. None
    /// named is SQLite's. See [`common_sql`](Self::common_sql).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sql: Vec<String>,
    /// When it suggests to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Suggested>,
}

impl Manifest {
    /// A worker that takes no args and asks for nothing.
    #[must_use]
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            description: String::new(),
            tenant_aware: false,
            args: BTreeMap::new(),
            args_version: first_version(),
            tables: Vec::new(),
            capabilities: Vec::new(),
            enqueues: Vec::new(),
            sql: Vec::new(),
            reasons: BTreeMap::new(),
            schedule: None,
        }
    }

    /// One sentence on what it does.
    #[must_use]
    pub fn description(mut self, sentence: impl Into<String>) -> Self {
        self.description = sentence.into();
        self
    }

    /// Says that its SQL means the same on SQLite and on PostgreSQL. There it may use what the two
    /// understand differently, such as LIKE, which is refused otherwise.
    #[must_use]
    pub fn common_sql(mut self) -> Self {
        self.sql = vec![COMMON.to_string()];
        self
    }

    /// Whether its SQL means the same on SQLite and on PostgreSQL.
    #[must_use]
    pub fn is_for_both_stores(&self) -> bool {
        self.sql.iter().any(|store| store == COMMON)
    }

    /// Its args must carry `organization_id` and `actor_id`.
    #[must_use]
    pub fn tenant_aware(mut self) -> Self {
        self.tenant_aware = true;
        self
    }

    /// Adds an arg it takes.
    #[must_use]
    pub fn arg(mut self, key: impl Into<String>, spec: ArgSpec) -> Self {
        self.args.insert(key.into(), spec);
        self
    }

    /// Sets the version of its args, from 1.
    #[must_use]
    pub fn args_version(mut self, version: u32) -> Self {
        self.args_version = version;
        self
    }

    /// It asks for this table.
    #[must_use]
    pub fn table(mut self, ask: TableAsk) -> Self {
        self.tables.push(ask);
        self
    }

    /// It asks to call this function of the app.
    #[must_use]
    pub fn capability(mut self, name: impl Into<String>) -> Self {
        self.capabilities.push(name.into());
        self
    }

    /// It asks to enqueue jobs for this worker.
    #[must_use]
    pub fn enqueues(mut self, worker: impl Into<String>) -> Self {
        self.enqueues.push(worker.into());
        self
    }

    /// Says why it asks for this name (a capability, or a worker), in a sentence for the person who
    /// decides.
    #[must_use]
    pub fn reason(mut self, name: impl Into<String>, why: impl Into<String>) -> Self {
        self.reasons.insert(name.into(), why.into());
        self
    }

    /// Sets when it suggests to run.
    #[must_use]
    pub fn schedule(mut self, suggested: Suggested) -> Self {
        self.schedule = Some(suggested);
        self
    }

    /// Reads the JSON a component's `describe` returned, and checks it.
    ///
    /// # Errors
    /// [`ManifestError::Unreadable`] with the place and the reason, or [`ManifestError::Invalid`].
    pub fn parse(json: &str) -> Result<Self, ManifestError> {
        let unreadable = |error: serde_json::Error| {
            ManifestError::Unreadable(wrong_part(json).unwrap_or_else(|| error.to_string()))
        };
        let manifest: Self = serde_json::from_str(json).map_err(unreadable)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks the name, the versions, the args and the tables.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] with what is wrong.
    pub fn check(&self) -> Result<(), ManifestError> {
        let invalid = |reason: String| Err(ManifestError::Invalid(reason));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = self.name.as_str();
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return invalid(format!(
                "the name {name:?} must be 1 to 64 ASCII lower-case letters, digits and `-`"
            ));
        }
        if name.starts_with('-') || name.ends_with('-') {
            return invalid(format!("the name {name:?} must begin and end with no `-`"));
        }
        if self.version.is_empty() || self.version.len() > 64 {
            return invalid("the version must have 1 to 64 bytes".to_string());
        }
        if self.args_version == 0 {
            return invalid("`args_version` must be at least 1".to_string());
        }
        for (key, spec) in &self.args {
            if let (Some(value_type), Some(default)) = (spec.value_type, &spec.default)
                && !spec.accepts(default)
            {
                return invalid(format!(
                    "the arg `{key}` must be {}, and its default is {}",
                    value_type.in_words(),
                    kind(default)
                ));
            }
        }
        for ask in &self.tables {
            let table = match &ask.table {
                TableName::Named { table } => table,
                TableName::FromArg { arg, default } => {
                    if !self.args.contains_key(arg) {
                        return invalid(format!(
                            "a table is named by the arg `{arg}`, which the manifest does not list"
                        ));
                    }
                    let filled_in = self.args.get(arg).and_then(|spec| spec.default.as_ref());
                    if filled_in.is_some_and(|filled_in| filled_in.as_str() != Some(default)) {
                        return invalid(format!(
                            "the arg `{arg}` has another default than the table it names, `{default}`"
                        ));
                    }
                    default
                }
            };
            if let Err(error) = Ident::parse(table) {
                return invalid(error.to_string());
            }
        }
        Ok(())
    }
}

/// The part that keeps a JSON object from being a manifest, and why. The parser's message about the
/// whole names no part.
fn wrong_part(json: &str) -> Option<String> {
    let fields: Map<String, Json> = serde_json::from_str(json).ok()?;
    fields.iter().find_map(|(field, value)| {
        let mut parts: Vec<(String, Json)> = match value {
            Json::Array(items) => items
                .iter()
                .enumerate()
                .map(|(place, item)| (format!("{field}[{place}]"), json!([item])))
                .collect(),
            Json::Object(parts) => parts
                .iter()
                .map(|(key, part)| (format!("{field}.{key}"), json!({ key: part })))
                .collect(),
            _ => Vec::new(),
        };
        parts.push((field.clone(), value.clone()));
        parts.into_iter().find_map(|(place, part)| {
            let mut alone = Map::from_iter([
                ("name".to_string(), json!("")),
                ("version".to_string(), json!("")),
            ]);
            alone.insert(field.clone(), part);
            let error = Manifest::deserialize(Json::Object(alone)).err()?;
            Some(format!("`{place}`: {error}"))
        })
    })
}

fn first_version() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_first_version(version: &u32) -> bool {
    *version == first_version()
}

/// When a worker suggests to run. Nothing is scheduled until the app says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suggested {
    /// A crontab(5) expression.
    Cron(String),
    /// An interval, in milliseconds.
    EveryMs(u64),
}
