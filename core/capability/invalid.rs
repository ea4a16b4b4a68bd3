//! Why a setting of a capability is refused.

use std::fmt;

/// A host, an address or a number that the app gave for a capability is not usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidCapability {
    /// What was given.
    pub given: String,
    /// What is wrong with it.
    pub reason: String,
}

impl InvalidCapability {
    #[cfg(any(feature = "http", feature = "mailer"))]
    pub(super) fn new(given: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { given: given.into(), reason: reason.into() }
    }
}

impl fmt::Display for InvalidCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not usable: {}", self.given, self.reason)
    }
}

impl std::error::Error for InvalidCapability {}
