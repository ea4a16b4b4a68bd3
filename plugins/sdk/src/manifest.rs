//! What a worker says of itself: its name, its args, and what it asks to touch.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::args::{Args, kind};
use crate::ident::Ident;

/// The keys that the args of a tenant-aware worker must contain; their values may be null.
const TENANT_KEYS: [&str; 2] = ["organization_id", "actor_id"];

/// The keys that make a job's scope. They come from the job alone: a manifest's default for one of
/// them is not filled in.
pub(crate) const SCOPE_KEYS: [&str; 3] = ["organization_id", "actor_id", "impersonating_from"];

/// A worker's description of itself. As JSON it is what `describe` returns; unknown fields are
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
    /// Whether its args must carry `organization_id` and `actor_id`, which make its scope. They must
    /// as well when the app's grant names a tenant column, whatever stands here.
    #[serde(default)]
    pub tenant_aware: bool,
    /// The args it takes. A default for `organization_id`, `actor_id` or `impersonating_from` is
    /// ignored: for whom a job runs, the app says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, ArgSpec>,
    /// The version of its args, from 1. Raise it when args of the form before cannot be used as they
    /// are: waiting jobs keep theirs, and go through
    /// [`Worker::migrate_args`](crate::Worker::migrate_args).
    #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
    pub args_version: u32,
    /// The tables it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableAsk>,
    /// The host capabilities it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// The other workers it asks to enqueue jobs for; for itself it needs not ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enqueues: Vec<String>,
    /// Why it asks for a capability, by its name: a sentence for the person who decides. Of a table,
    /// its ask says so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, String>,
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

    /// Its args must carry `organization_id` and `actor_id`.
    #[must_use]
    pub fn tenant_aware(mut self) -> Self {
        self.tenant_aware = true;
        self
    }

    /// It takes this arg.
    #[must_use]
    pub fn arg(mut self, key: impl Into<String>, spec: ArgSpec) -> Self {
        self.args.insert(key.into(), spec);
        self
    }

    /// Its args have this version, from 1.
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

    /// It asks for what has this name (a capability, or a worker) for this reason: a sentence for the
    /// person who decides.
    #[must_use]
    pub fn reason(mut self, name: impl Into<String>, why: impl Into<String>) -> Self {
        self.reasons.insert(name.into(), why.into());
        self
    }

    /// It suggests to run then.
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

    /// Whether these args have what a job of this worker needs.
    ///
    /// # Errors
    /// [`ManifestError::MissingKeys`] naming every absent key: the tenant keys of a tenant-aware
    /// worker and its required args. [`ManifestError::WrongKey`] for an `organization_id`,
    /// `actor_id` or `impersonating_from` that can be no id. [`ManifestError::WrongType`] for an arg
    /// of another type than it has here.
    pub fn check_args(&self, args: &Args) -> Result<(), ManifestError> {
        self.check_args_of(args, self.args_version, self.tenant_aware)
    }

    /// For hosts: as [`check_args`](Self::check_args), where the host knows for which version of the
    /// args they were written, and whether the worker is confined to a tenant. Of args of another
    /// version only the keys that make the scope are looked at.
    ///
    /// # Errors
    /// As [`check_args`](Self::check_args).
    #[doc(hidden)]
    pub fn check_args_of(
        &self,
        args: &Args,
        version: u32,
        has_tenant: bool,
    ) -> Result<(), ManifestError> {
        let is_id = |value: &Json| match value {
            Json::Null | Json::String(_) => true,
            Json::Number(number) => number.is_i64() || number.is_u64(),
            _ => false,
        };
        for key in SCOPE_KEYS {
            if let Some(value) = args.as_map().get(key).filter(|value| !is_id(value)) {
                return Err(ManifestError::WrongKey {
                    worker: self.name.clone(),
                    key: key.to_string(),
                    found: kind(value).to_string(),
                });
            }
        }
        let tenant_keys: &[&str] = if has_tenant { &TENANT_KEYS } else { &[] };
        let own = self.args.iter().filter(|_| version == self.args_version);
        let required = own
            .clone()
            .filter(|(_, spec)| spec.required && spec.default.is_none())
            .map(|(key, _)| key.as_str());
        let missing: Vec<String> = tenant_keys
            .iter()
            .copied()
            .chain(required.filter(|key| !tenant_keys.contains(key)))
            .filter(|key| !args.as_map().contains_key(*key))
            .map(str::to_string)
            .collect();
        if !missing.is_empty() {
            return Err(ManifestError::MissingKeys { worker: self.name.clone(), keys: missing });
        }
        for (key, spec) in own {
            if let (Some(value), Some(value_type)) = (args.as_map().get(key), spec.value_type)
                && !spec.accepts(value)
            {
                return Err(ManifestError::WrongType {
                    worker: self.name.clone(),
                    key: key.clone(),
                    expected: value_type.in_words().to_string(),
                    found: kind(value).to_string(),
                });
            }
        }
        Ok(())
    }

    /// The args with every default filled in, but those of the keys that make the scope.
    ///
    /// # Errors
    /// As [`check_args`](Self::check_args).
    pub fn complete(&self, args: &Args) -> Result<Args, ManifestError> {
        self.check_args(args)?;
        Ok(self.fill_in(args))
    }

    /// For hosts: [`complete`](Self::complete) of args that were checked.
    #[doc(hidden)]
    #[must_use]
    pub fn fill_in(&self, args: &Args) -> Args {
        let mut complete = args.clone();
        for (key, spec) in &self.args {
            if let Some(default) = &spec.default
                && !SCOPE_KEYS.contains(&key.as_str())
                && !complete.as_map().contains_key(key)
            {
                complete.as_map_mut().insert(key.clone(), default.clone());
            }
        }
        complete
    }

    /// For hosts: what a worker made of args of an earlier version, with the scope they had. For whom
    /// a job runs the app said; a migration has no say in it.
    #[doc(hidden)]
    #[must_use]
    pub fn keep_scope(before: &Args, mut migrated: Args) -> Args {
        for key in SCOPE_KEYS {
            match before.as_map().get(key) {
                Some(value) => migrated.as_map_mut().insert(key.to_string(), value.clone()),
                None => migrated.as_map_mut().remove(key),
            };
        }
        migrated
    }

    /// The keys of a scope that it gives a default, which is ignored.
    #[doc(hidden)]
    pub fn ignored_defaults(&self) -> impl Iterator<Item = &'static str> {
        let has_default =
            |key: &&str| self.args.get(*key).is_some_and(|spec| spec.default.is_some());
        SCOPE_KEYS.into_iter().filter(has_default)
    }
}

/// The part that keeps a JSON object from being a manifest, and why: what the parser says of the
/// whole names none.
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

/// One arg a worker takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ArgSpec {
    /// What it is when the job does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Json>,
    /// Whether a job without it is refused.
    #[serde(default)]
    pub required: bool,
    /// The JSON type of its value; none for any. Null is accepted as well, unless the arg is
    /// required.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub value_type: Option<ArgType>,
    /// What it means.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

impl ArgSpec {
    /// An arg a job must have.
    #[must_use]
    pub fn required() -> Self {
        Self { required: true, ..Self::default() }
    }

    /// An arg a job may leave out.
    #[must_use]
    pub fn optional() -> Self {
        Self::default()
    }

    /// An arg with this value when the job does not say.
    #[must_use]
    pub fn default_value(value: impl Into<Json>) -> Self {
        Self { default: Some(value.into()), ..Self::default() }
    }

    /// What it means.
    #[must_use]
    pub fn describe(mut self, meaning: impl Into<String>) -> Self {
        self.description = meaning.into();
        self
    }

    /// Its value has this type.
    #[must_use]
    pub fn of(mut self, value_type: ArgType) -> Self {
        self.value_type = Some(value_type);
        self
    }

    fn accepts(&self, value: &Json) -> bool {
        match (self.value_type, value) {
            (None, _) => true,
            (Some(_), Json::Null) => !self.required,
            (Some(value_type), value) => value_type.has(value),
        }
    }
}

/// The JSON type of an arg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ArgType {
    /// A string.
    String,
    /// A whole number of at most 64 bits; `1.0` is none.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl ArgType {
    fn has(self, value: &Json) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

fn first_version() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_first_version(version: &u32) -> bool {
    *version == first_version()
}

/// What a worker may ask to do with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// SELECT.
    Read,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        })
    }
}

/// A table a worker asks for, by verb.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableAsk {
    /// Which table.
    #[serde(flatten)]
    pub table: TableName,
    /// To do what.
    pub verbs: Vec<Verb>,
    /// Why: a sentence for the person who decides.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// How a manifest names a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a table is named by `table`, or by `arg` and `default`")]
pub enum TableName {
    /// This one.
    Named {
        /// Its name.
        table: String,
    },
    /// The one a job's arg names.
    FromArg {
        /// The arg.
        arg: String,
        /// The table when the job does not say.
        default: String,
    },
}

impl TableAsk {
    /// Asks for this table; add the verbs.
    #[must_use]
    pub fn named(table: impl Into<String>) -> Self {
        Self {
            table: TableName::Named { table: table.into() },
            verbs: Vec::new(),
            reason: String::new(),
        }
    }

    /// Asks for the table that a job's arg names; add the verbs.
    #[must_use]
    pub fn from_arg(arg: impl Into<String>, default: impl Into<String>) -> Self {
        Self {
            table: TableName::FromArg { arg: arg.into(), default: default.into() },
            verbs: Vec::new(),
            reason: String::new(),
        }
    }

    /// For this reason: a sentence for the person who decides.
    #[must_use]
    pub fn reason(mut self, why: impl Into<String>) -> Self {
        self.reason = why.into();
        self
    }

    /// To read it.
    #[must_use]
    pub fn read(self) -> Self {
        self.verb(Verb::Read)
    }

    /// To insert rows.
    #[must_use]
    pub fn insert(self) -> Self {
        self.verb(Verb::Insert)
    }

    /// To update rows.
    #[must_use]
    pub fn update(self) -> Self {
        self.verb(Verb::Update)
    }

    /// To delete rows.
    #[must_use]
    pub fn delete(self) -> Self {
        self.verb(Verb::Delete)
    }

    fn verb(mut self, verb: Verb) -> Self {
        self.verbs.push(verb);
        self
    }

    /// The table it stands for in a job with these args.
    #[must_use]
    pub fn resolve<'a>(&'a self, args: &'a Args) -> &'a str {
        match &self.table {
            TableName::Named { table } => table,
            TableName::FromArg { arg, default } => {
                args.as_map().get(arg).and_then(Json::as_str).unwrap_or(default)
            }
        }
    }
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

/// A manifest, or args held against one, are not usable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text is no JSON of a manifest's form.
    Unreadable(String),
    /// A field breaks a rule.
    Invalid(String),
    /// Args lack keys that the worker requires.
    MissingKeys {
        /// The worker.
        worker: String,
        /// Every absent key.
        keys: Vec<String>,
    },
    /// The value of `organization_id`, `actor_id` or `impersonating_from` can be no id.
    WrongKey {
        /// The worker.
        worker: String,
        /// The key.
        key: String,
        /// What its value is.
        found: String,
    },
    /// The value of an arg has another type than the worker's manifest says.
    WrongType {
        /// The worker.
        worker: String,
        /// The key.
        key: String,
        /// What its value must be.
        expected: String,
        /// What its value is.
        found: String,
    },
}

impl ManifestError {
    /// Whether it is a job's args that are wrong, not the manifest.
    #[must_use]
    pub fn is_of_args(&self) -> bool {
        matches!(self, Self::MissingKeys { .. } | Self::WrongKey { .. } | Self::WrongType { .. })
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) => write!(f, "the manifest cannot be read: {reason}"),
            Self::Invalid(reason) => write!(f, "the manifest is not valid: {reason}"),
            Self::MissingKeys { worker, keys } => write!(
                f,
                "the args for worker `{worker}` lack `{}`: add every key (the value of organization_id and actor_id may be null)",
                keys.join("`, `")
            ),
            Self::WrongKey { worker, key, found } => write!(
                f,
                "the arg `{key}` for worker `{worker}` must be null, a string or a whole number, not {found}"
            ),
            Self::WrongType { worker, key, expected, found } => {
                write!(f, "the arg `{key}` for worker `{worker}` must be {expected}, not {found}")
            }
        }
    }
}

impl std::error::Error for ManifestError {}
