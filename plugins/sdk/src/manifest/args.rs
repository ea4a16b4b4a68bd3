//! The args a worker takes, and checking those of a job.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::Manifest;
use super::error::ManifestError;
use crate::args::{Args, kind};

/// The keys that the args of a tenant-aware worker must contain. Their values may be null.
const TENANT_KEYS: [&str; 2] = ["organization_id", "actor_id"];

/// The keys that make a job's scope. They come from the job alone: a manifest's default for one of
/// them is not filled in.
pub(crate) const SCOPE_KEYS: [&str; 3] = ["organization_id", "actor_id", "impersonating_from"];

impl Manifest {
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

    /// For hosts: as [`check_args`](Self::check_args), when the host knows for which version the
    /// args were written, and whether the worker is confined to a tenant. Of args of another
    /// version only the keys that make the scope are checked.
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

    /// The args with every default filled in, except those of the keys that make the scope.
    ///
    /// # Errors
    /// As [`check_args`](Self::check_args).
    pub fn complete(&self, args: &Args) -> Result<Args, ManifestError> {
        self.check_args(args)?;
        Ok(self.fill_in(args))
    }

    /// For hosts: [`complete`](Self::complete) for args that were checked.
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

    /// For hosts: args that a worker brought into the present form, with the scope they had. The
    /// app said for whom a job runs; a migration cannot change it.
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

    /// The keys of a scope for which it has a default, which is ignored.
    #[doc(hidden)]
    pub fn ignored_defaults(&self) -> impl Iterator<Item = &'static str> {
        let has_default =
            |key: &&str| self.args.get(*key).is_some_and(|spec| spec.default.is_some());
        SCOPE_KEYS.into_iter().filter(has_default)
    }
}

/// One arg a worker takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ArgSpec {
    /// Its value when the job gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Json>,
    /// Whether a job without it is refused.
    #[serde(default)]
    pub required: bool,
    /// The JSON type of its value. `None` for any type. Null is accepted as well, unless the arg is
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

    /// An arg with this value when the job gives none.
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

    pub(super) fn accepts(&self, value: &Json) -> bool {
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
    /// A whole number of at most 64 bits. `1.0` is none.
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

    pub(super) fn in_words(self) -> &'static str {
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
