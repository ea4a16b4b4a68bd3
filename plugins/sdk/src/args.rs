//! The arguments of a job: a JSON object with string keys.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use crate::ident::Ident;
use crate::value::json_text;

/// A job's arguments.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Args(Map<String, Json>);

impl Args {
    /// Parses a JSON text.
    ///
    /// # Errors
    /// [`ArgError::NotAnObject`] when the text is no JSON or no object.
    pub fn parse(text: &str) -> Result<Self, ArgError> {
        match serde_json::from_str(text) {
            Ok(json) => Self::from_json(json),
            Err(error) => {
                Err(ArgError::NotAnObject { found: format!("text that is no JSON ({error})") })
            }
        }
    }

    /// Takes a JSON value that must be an object.
    ///
    /// # Errors
    /// [`ArgError::NotAnObject`] when it is something else.
    pub fn from_json(json: Json) -> Result<Self, ArgError> {
        match json {
            Json::Object(map) => Ok(Self(map)),
            other => Err(ArgError::NotAnObject { found: kind(&other).to_string() }),
        }
    }

    /// The value of a key that must be there, as the type asked for.
    ///
    /// # Errors
    /// [`ArgError::Missing`] or [`ArgError::Wrong`], naming the key.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<T, ArgError> {
        read(key, fetch_arg(self, key)?)
    }

    /// The value of a key that may be absent or null, as the type asked for.
    ///
    /// # Errors
    /// [`ArgError::Wrong`] when it is there with another type.
    pub fn opt<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ArgError> {
        match self.0.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => read(key, value).map(Some),
        }
    }

    /// A whole number of at least 1 that must be there.
    ///
    /// # Errors
    /// [`ArgError::Missing`] or [`ArgError::Wrong`], naming the key and what was found.
    pub fn positive(&self, key: &str, at_most: i64) -> Result<i64, ArgError> {
        let value = fetch_arg(self, key)?;
        match value.as_i64() {
            Some(number) if (1..=at_most).contains(&number) => Ok(number),
            _ => {
                let found = json_text(value);
                Err(ArgError::Wrong {
                    key: key.to_string(),
                    reason: format!("must be a whole number from 1 to {at_most}, not {found}"),
                })
            }
        }
    }

    /// The name of a table or column that must be there, checked.
    ///
    /// # Errors
    /// [`ArgError::Missing`], or [`ArgError::Wrong`] naming the key and why the name is not usable.
    pub fn ident(&self, key: &str) -> Result<Ident, ArgError> {
        ident(key, fetch_arg(self, key)?)
    }

    /// The name of a table or column that may be absent or null, checked.
    ///
    /// # Errors
    /// [`ArgError::Wrong`] naming the key and why the name is not usable.
    pub fn opt_ident(&self, key: &str) -> Result<Option<Ident>, ArgError> {
        match self.0.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => ident(key, value).map(Some),
        }
    }

    /// The object itself.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Json> {
        &self.0
    }

    pub(crate) fn as_map_mut(&mut self) -> &mut Map<String, Json> {
        &mut self.0
    }
}

/// Compact JSON with sorted keys. The same object gives the same text.
impl fmt::Display for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).unwrap_or_default())
    }
}

/// The value of a required key.
///
/// # Errors
/// [`MissingArg`] when the key is absent. Returned with `?` it ends the attempt. A null value is a
/// value.
pub fn fetch_arg<'a>(args: &'a Args, key: &str) -> Result<&'a Json, MissingArg> {
    args.0.get(key).ok_or_else(|| MissingArg { key: key.to_string() })
}

fn read<T: DeserializeOwned>(key: &str, value: &Json) -> Result<T, ArgError> {
    T::deserialize(value)
        .map_err(|error| ArgError::Wrong { key: key.to_string(), reason: error.to_string() })
}

fn ident(key: &str, value: &Json) -> Result<Ident, ArgError> {
    let wrong = |reason: String| ArgError::Wrong { key: key.to_string(), reason };
    let name = value
        .as_str()
        .ok_or_else(|| wrong(format!("must be a name in a string, not {}", kind(value))))?;
    Ident::parse(name).map_err(|error| wrong(error.to_string()))
}

pub(crate) fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

/// A required key is absent from the args.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingArg {
    /// The key.
    pub key: String,
}

impl fmt::Display for MissingArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the arg `{}` is missing: enqueue the job with that key (null is a value, absence is not)",
            self.key
        )
    }
}

impl std::error::Error for MissingArg {}

/// The args are not what the worker takes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArgError {
    /// The args as a whole are no JSON object.
    NotAnObject {
        /// What they are instead.
        found: String,
    },
    /// A required key is absent.
    Missing(MissingArg),
    /// A key's value has the wrong type or is out of bounds.
    Wrong {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for ArgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject { found } => write!(f, "args must be a JSON object, not {found}"),
            Self::Missing(missing) => missing.fmt(f),
            Self::Wrong { key, reason } => write!(f, "the arg `{key}` is not usable: {reason}"),
        }
    }
}

impl std::error::Error for ArgError {}

impl From<MissingArg> for ArgError {
    fn from(missing: MissingArg) -> Self {
        Self::Missing(missing)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use serde_json::json;

    fn args(json: Json) -> Args {
        Args::from_json(json).unwrap()
    }

    #[test]
    fn a_bad_name_is_refused_with_the_key_and_the_reason() {
        let cases = [
            (json!({}), "the arg `table` is missing"),
            (
                json!({"table": 3}),
                "the arg `table` is not usable: must be a name in a string, not a number",
            ),
            (json!({"table": "x; DROP TABLE y"}), "not usable as a table name"),
            (json!({"table": "verger_jobs"}), "`verger_`"),
        ];
        for (json, expected) in cases {
            let error = args(json.clone()).ident("table").unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
        assert_eq!(
            args(json!({"table": "orders"})).ident("table").unwrap().to_string(),
            "\"orders\""
        );
    }

    #[test]
    fn an_optional_name_may_be_absent_or_null() {
        for json in [json!({}), json!({"column": null})] {
            assert_eq!(args(json).opt_ident("column"), Ok(None));
        }
        assert!(args(json!({"column": "a b"})).opt_ident("column").is_err());
    }
}
