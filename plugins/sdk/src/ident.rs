//! A table name from the args, checked and quoted.

use std::fmt;

/// The name of a table, view or column, safe to put into SQL. `Display` quotes it.
///
/// ```
/// use verger_worker::Ident;
/// let table = Ident::parse("organization_invitations")?;
/// assert_eq!(format!("SELECT 1 FROM {table}"), r#"SELECT 1 FROM "organization_invitations""#);
/// assert!(Ident::parse("x; DROP TABLE y").is_err());
/// # Ok::<(), verger_worker::IdentError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident(String);

impl Ident {
    /// Takes a name of ASCII letters, digits and `_` that starts with no digit and has at most 128
    /// bytes.
    ///
    /// # Errors
    /// [`IdentError`] otherwise, and for names that belong to SQLite (`sqlite_…`) or to the engine
    /// (`verger_…`).
    pub fn parse(name: &str) -> Result<Self, IdentError> {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let reason = if name.is_empty() {
            "it is empty"
        } else if name.len() > 128 {
            "it is longer than 128 bytes"
        } else if !name.starts_with(first) || !name.chars().all(|c| first(c) || c.is_ascii_digit())
        {
            "a name has ASCII letters, digits and `_`, and starts with no digit"
        } else if ["sqlite_", "verger_"]
            .iter()
            .any(|own| name.get(..7).is_some_and(|head| head.eq_ignore_ascii_case(own)))
        {
            "names that start with `sqlite_` or `verger_` are not the app's"
        } else {
            return Ok(Self(name.to_string()));
        };
        Err(IdentError { name: name.chars().take(64).collect(), reason })
    }

    /// The bare name, without quotes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// A text that is no usable name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentError {
    /// The text, at most its first 64 characters.
    pub name: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for IdentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not usable as a table name: {}", self.name, self.reason)
    }
}

impl std::error::Error for IdentError {}
