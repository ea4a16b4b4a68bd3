//! An event for the audit log, and the rules a good one keeps.

use std::fmt;

use serde_json::{Value as Json, json};

use crate::error::HostError;
use crate::value::json_text;

/// The most bytes of JSON text an event's metadata may have.
pub const METADATA_MAX_BYTES: usize = 8 * 1024;

/// The most bytes of JSON text `before` and `after` may each have.
const STATE_MAX_BYTES: usize = 64 * 1024;

/// The most bytes of an action, a subject type, a subject id or an organization id.
const NAME_MAX_BYTES: usize = 256;

/// How the audited action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOutcome {
    /// It was done.
    Success,
    /// It was refused.
    Failure,
    /// It went wrong.
    Error,
}

impl EventOutcome {
    /// The word stored in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
        }
    }
}

/// Something that happened, for the audit log. The host adds who did it, which worker, which job
/// and when.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// What was done, as `subject.verb` in lower case: `membership.updated`.
    pub action: String,
    /// How it ended.
    pub outcome: EventOutcome,
    /// The tenant it concerns. `None` takes the scope's.
    pub organization_id: Option<String>,
    /// The type of what it was done to.
    pub subject_type: Option<String>,
    /// The id of what it was done to.
    pub subject_id: Option<String>,
    /// The state before, as JSON text.
    pub before: Option<String>,
    /// The state after, as JSON text.
    pub after: Option<String>,
    /// Further facts, as the text of a JSON object.
    pub metadata: Option<String>,
}

impl AuditEvent {
    /// An event with this action and outcome.
    #[must_use]
    pub fn new(action: impl Into<String>, outcome: EventOutcome) -> Self {
        Self {
            action: action.into(),
            outcome,
            organization_id: None,
            subject_type: None,
            subject_id: None,
            before: None,
            after: None,
            metadata: None,
        }
    }

    /// Something that was done.
    #[must_use]
    pub fn success(action: impl Into<String>) -> Self {
        Self::new(action, EventOutcome::Success)
    }

    /// Something that went wrong.
    #[must_use]
    pub fn error(action: impl Into<String>) -> Self {
        Self::new(action, EventOutcome::Error)
    }

    /// The tenant it concerns.
    #[must_use]
    pub fn organization(mut self, id: impl Into<Option<String>>) -> Self {
        self.organization_id = id.into();
        self
    }

    /// What it was done to: its type and its id.
    #[must_use]
    pub fn subject(mut self, kind: impl Into<String>, id: impl Into<String>) -> Self {
        self.subject_type = Some(kind.into());
        self.subject_id = Some(id.into());
        self
    }

    /// The state before.
    #[must_use]
    pub fn before(mut self, state: Json) -> Self {
        self.before = Some(json_text(&state));
        self
    }

    /// The state after.
    #[must_use]
    pub fn after(mut self, state: Json) -> Self {
        self.after = Some(json_text(&state));
        self
    }

    /// Further facts that help to understand it: a JSON object.
    #[must_use]
    pub fn metadata(mut self, metadata: Json) -> Self {
        self.metadata = Some(json_text(&metadata));
        self
    }

    /// What went wrong, as the metadata: the error's code, and its message up to 512 characters.
    #[must_use]
    pub fn cause(self, error: &HostError) -> Self {
        let message: String = error.message.chars().take(512).collect();
        self.metadata(json!({ "code": error.code, "message": message }))
    }

    /// Checks the rules: the action's form, sizes, JSON, no key that looks like a secret at any
    /// depth.
    ///
    /// # Errors
    /// [`AuditFault`] with the name of the first bad field. It never repeats a value.
    pub fn check(&self) -> Result<(), AuditFault> {
        if !is_action(&self.action) {
            return Err(AuditFault::new(
                "action",
                "must have the form `subject.verb` in lower-case letters, digits and `_`",
            ));
        }
        for (field, value) in [
            ("organization_id", &self.organization_id),
            ("subject_type", &self.subject_type),
            ("subject_id", &self.subject_id),
        ] {
            if value.as_ref().is_some_and(|value| value.len() > NAME_MAX_BYTES) {
                return Err(AuditFault::new(field, "is longer than 256 bytes"));
            }
        }
        check_json("before", self.before.as_deref(), STATE_MAX_BYTES, false)?;
        check_json("after", self.after.as_deref(), STATE_MAX_BYTES, false)?;
        check_json("metadata", self.metadata.as_deref(), METADATA_MAX_BYTES, true)
    }
}

/// The rule an event breaks. It names fields, never values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFault {
    /// The field.
    pub field: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl AuditFault {
    fn new(field: impl Into<String>, reason: &'static str) -> Self {
        Self { field: field.into(), reason }
    }
}

impl fmt::Display for AuditFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "audit field `{}` {}", self.field, self.reason)
    }
}

impl std::error::Error for AuditFault {}

fn is_action(action: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    action.len() <= NAME_MAX_BYTES && action.contains('.') && action.split('.').all(word)
}

fn check_json(field: &str, text: Option<&str>, max: usize, object: bool) -> Result<(), AuditFault> {
    let Some(text) = text else { return Ok(()) };
    if text.len() > max {
        return Err(AuditFault::new(
            field,
            if object { "is longer than 8 KiB" } else { "is longer than 64 KiB" },
        ));
    }
    let json: Json =
        serde_json::from_str(text).map_err(|_| AuditFault::new(field, "is no valid JSON"))?;
    if object && !json.is_object() {
        return Err(AuditFault::new(field, "must be a JSON object"));
    }
    match secret_path(&json) {
        Some(path) => {
            Err(AuditFault::new(format!("{field}.{path}"), "looks like a secret; leave it out"))
        }
        None => Ok(()),
    }
}

/// The path of the first key that looks like a secret.
fn secret_path(json: &Json) -> Option<String> {
    match json {
        Json::Object(map) => map.iter().find_map(|(key, value)| {
            if looks_secret(key) {
                Some(key.clone())
            } else {
                secret_path(value).map(|rest| format!("{key}.{rest}"))
            }
        }),
        Json::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(i, item)| secret_path(item).map(|rest| format!("{i}.{rest}"))),
        _ => None,
    }
}

/// Whether the last word of a key names a secret: `password`, `reset_token`, `apiKey`. It is not so
/// for `token_count`.
fn looks_secret(key: &str) -> bool {
    const LAST: [&str; 11] = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "authorization",
        "cookie",
        "credential",
        "credentials",
        "apikey",
        "privatekey",
    ];
    const PAIRS: [(&str, &str); 4] =
        [("api", "key"), ("private", "key"), ("access", "key"), ("signing", "key")];
    let words = words(key);
    match words.as_slice() {
        [.., before, last] if PAIRS.contains(&(before, last)) => true,
        [.., last] => LAST.contains(&last.as_str()),
        [] => false,
    }
}

/// The lower-case words of a key in snake, kebab or camel case.
fn words(key: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous_lower = false;
    let mut open = false;
    for c in key.chars() {
        if !c.is_alphanumeric() {
            open = false;
        } else {
            if !open || (c.is_uppercase() && previous_lower) {
                words.push(String::new());
            }
            open = true;
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        }
        previous_lower = c.is_lowercase() || c.is_numeric();
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn an_action_has_the_form_subject_dot_verb() {
        for good in ["membership.updated", "organization_invitation.expired", "a.b.c2"] {
            assert_eq!(AuditEvent::success(good).check(), Ok(()), "{good}");
        }
        for bad in
            ["", "membership", "Membership.updated", ".x", "x.", "a..b", "a b.c", "ä.b", "1a.b"]
        {
            assert_eq!(AuditEvent::success(bad).check().unwrap_err().field, "action", "{bad}");
        }
    }

    #[test]
    fn a_secret_looking_key_is_named_at_any_depth_and_its_value_is_not() {
        let event =
            AuditEvent::success("user.updated").metadata(json!({"a": [{"resetToken": "hunter2"}]}));
        let fault = event.check().unwrap_err();
        assert_eq!(fault.field, "metadata.a.0.resetToken");
        assert!(!fault.to_string().contains("hunter2"));
        for secret in [
            "password",
            "api_key",
            "API-Key",
            "apiKey",
            "session_token",
            "clientSecret",
            "Authorization",
        ] {
            assert!(looks_secret(secret), "{secret}");
        }
        for plain in [
            "token_count",
            "deleted_tokens",
            "key",
            "keys",
            "cookie_policy",
            "secretary",
            "passenger",
        ] {
            assert!(!looks_secret(plain), "{plain}");
        }
    }

    #[test]
    fn a_cause_fits_into_the_metadata_however_long_the_message() {
        let event =
            AuditEvent::error("a.b").cause(&HostError::new("constraint", "ä".repeat(100_000)));
        assert_eq!(event.check(), Ok(()));
        assert!(
            event.metadata.is_some_and(
                |metadata| metadata.starts_with(r#"{"code":"constraint","message":"ää"#)
            )
        );
    }

    #[test]
    fn metadata_is_an_object_of_at_most_8_kib() {
        let fault = |metadata: Json| {
            AuditEvent::success("a.b").metadata(metadata).check().map_err(|fault| fault.reason)
        };
        assert_eq!(fault(json!({"x": "y".repeat(8 * 1024 - 8)})), Ok(()));
        assert_eq!(fault(json!({"x": "y".repeat(8 * 1024 - 7)})), Err("is longer than 8 KiB"));
        assert_eq!(fault(json!([1])), Err("must be a JSON object"));
    }
}
