//! What is wrong with a manifest, or with args checked against one.

use std::fmt;

/// A manifest, or args checked against one, cannot be used.
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
    /// Whether a job's args are wrong, and not the manifest.
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
