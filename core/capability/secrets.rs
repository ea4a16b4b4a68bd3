//! Values that the app gives and workers use without seeing them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

#[cfg(feature = "http")]
use super::CapabilityCall;

/// The prefix of a secret's name in a manifest and in a grant.
#[cfg(feature = "http")]
const GRANT: &str = "secrets/";

/// The fewest bytes of a secret. A shorter one could not be told from other text in an answer.
const MIN_BYTES: usize = 8;

const MAX_BYTES: usize = 16 * 1024;

type Source = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// A value that is put into requests by its name: an API key, a password. Workers never see it, and
/// no log, error, audit row or answer contains it.
///
/// It goes only to the hosts it is for, in requests of workers that are granted the capability
/// `secrets/NAME`.
///
/// ```
/// use verger::{Grant, Secret, Verger};
///
/// let verger = Verger::in_memory()
///     .secret("billing-key", Secret::new("sk_live_4242").for_host("api.example.com"))
///     .open()?;
/// let grant = Grant::new().capability("http").capability("secrets/billing-key");
/// # Ok::<(), verger::OpenError>(())
/// ```
#[derive(Clone)]
pub struct Secret {
    source: Source,
    hosts: Vec<String>,
}

impl Secret {
    /// This value, of 8 bytes to 16 KiB without control characters.
    pub fn new(value: impl Into<String>) -> Self {
        let value = value.into();
        Self::from_fn(move || Ok(value.clone()))
    }

    /// What this function returns each time the value is needed, from the system's key chain for
    /// example. An error fails the call. The error's text must not contain the value.
    pub fn from_fn(source: impl Fn() -> Result<String, String> + Send + Sync + 'static) -> Self {
        Self { source: Arc::new(source), hosts: Vec::new() }
    }

    /// Lets it be sent to this host, by `https`, or without it to this machine itself. A secret
    /// without a host is for the app's own [`Mailer`](crate::Mailer) only.
    #[must_use]
    pub fn for_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into().to_ascii_lowercase());
        self
    }

    fn value(&self) -> Result<String, String> {
        let value = (self.source)()?;
        if !(MIN_BYTES..=MAX_BYTES).contains(&value.len()) {
            return Err(format!("it must have {MIN_BYTES} to {MAX_BYTES} bytes"));
        }
        if value.chars().any(char::is_control) {
            return Err("it must have no control characters".to_string());
        }
        Ok(value)
    }
}

/// Never shows the value.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// All that the app gave, by name.
#[derive(Debug, Default, Clone)]
pub(crate) struct Secrets(BTreeMap<String, Secret>);

impl Secrets {
    pub(crate) fn add(&mut self, name: String, secret: Secret) {
        self.0.insert(name, secret);
    }

    /// The value of a secret for a worker, in a request to a host.
    ///
    /// # Errors
    /// In words, with its name.
    #[cfg(feature = "http")]
    pub(super) fn for_host(
        &self,
        call: &CapabilityCall<'_>,
        name: &str,
        host: &str,
    ) -> Result<String, String> {
        let granted = format!("{GRANT}{name}");
        if !call.is_granted(&granted) {
            return Err(format!("the worker is not granted `{granted}`"));
        }
        let secret =
            self.0.get(name).ok_or_else(|| format!("the app has no secret named `{name}`"))?;
        if !secret.hosts.iter().any(|allowed| allowed == host) {
            return Err(format!("the secret `{name}` is not for the host {host}"));
        }
        secret.value().map_err(|why| format!("the secret `{name}` cannot be used: {why}"))
    }

    /// The value of a secret for the app itself.
    ///
    /// # Errors
    /// In words, with its name.
    #[cfg(feature = "mailer")]
    pub(super) fn for_the_app(&self, name: &str) -> Result<String, String> {
        let secret =
            self.0.get(name).ok_or_else(|| format!("the app has no secret named `{name}`"))?;
        secret.value().map_err(|why| format!("the secret `{name}` cannot be used: {why}"))
    }

    /// Removes from texts every secret that this worker may send, whenever it sent it.
    #[cfg(feature = "http")]
    pub(super) fn eraser(&self, call: &CapabilityCall<'_>) -> Eraser {
        let mut eraser = Eraser::default();
        for (name, secret) in &self.0 {
            if call.is_granted(&format!("{GRANT}{name}"))
                && let Ok(value) = secret.value()
            {
                eraser.add(name, &value);
            }
        }
        eraser
    }
}

/// Removes values from texts, in the forms in which an answer may repeat them.
#[derive(Default)]
pub(super) struct Eraser {
    /// A form of a value, and what replaces it.
    forms: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Eraser {
    /// Adds this value: as it is, as JSON and HTML write it, in a URL, in hexadecimal digits and in
    /// base64, alone or as a part of more.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        let mark = format!("[secret {name}]").into_bytes();
        let json = serde_json::Value::from(value).to_string();
        let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![
            value.to_string(),
            json.trim_matches('"').to_string(),
            html.replace('"', "&quot;"),
            percent(value, false),
            percent(value, false).to_ascii_lowercase(),
            percent(value, true),
            hex.to_ascii_uppercase(),
            hex,
        ];
        // The value may begin at any of the three bytes of a group. The characters that depend on
        // its neighbours are left out.
        for before in 0..3 {
            let mut bytes = vec![0; before];
            bytes.extend_from_slice(value.as_bytes());
            let whole = bytes.len() / 3 * 3;
            let text = STANDARD.encode(&bytes[..whole]);
            let own = text.get(if before == 0 { 0 } else { 4 }..).unwrap_or_default();
            if own.len() >= 8 {
                forms.push(own.replace('+', "-").replace('/', "_"));
                forms.push(own.to_string());
            }
        }
        for form in forms {
            if !form.is_empty() && !self.forms.iter().any(|(known, _)| known == form.as_bytes()) {
                self.forms.push((form.into_bytes(), mark.clone()));
            }
        }
        // The longest come first, so that replacing a shorter one leaves no rest of a longer one.
        self.forms.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
    }

    /// One more form of a secret.
    #[cfg(feature = "http")]
    pub(super) fn add_form(&mut self, name: &str, form: String) {
        self.forms.insert(0, (form.into_bytes(), format!("[secret {name}]").into_bytes()));
    }

    /// Whether there is nothing to remove.
    #[cfg(feature = "http")]
    pub(super) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    pub(super) fn text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned()
    }

    pub(super) fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut clean = bytes.to_vec();
        for (form, mark) in &self.forms {
            if memchr::memmem::find(&clean, form).is_none() {
                continue;
            }
            let mut replaced = Vec::with_capacity(clean.len());
            let mut rest = clean.as_slice();
            while let Some(at) = memchr::memmem::find(rest, form) {
                replaced.extend_from_slice(&rest[..at]);
                replaced.extend_from_slice(mark);
                rest = &rest[at + form.len()..];
            }
            replaced.extend_from_slice(rest);
            clean = replaced;
        }
        clean
    }
}

/// The text as a URL writes it: all but letters, digits and `-._~` are escaped. With `form`, a
/// blank is a `+`.
fn percent(text: &str, form: bool) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            b' ' if form => "+".to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_taken_out_in_every_form_an_answer_may_have_it_in() {
        let value = r#"p&ss "w<rd>/+ü"#;
        let mut eraser = Eraser::default();
        eraser.add("key", value);
        let json = serde_json::Value::from(value).to_string();
        let pair = STANDARD.encode(format!("user:{value}"));
        let longer = STANDARD.encode(format!("longer user:{value}!"));
        let hex: String = value.bytes().map(|byte| format!("{byte:02X}")).collect();
        for (text, leaks) in [
            (format!("<{value}>"), "w<rd"),
            (json, "w<rd"),
            ("p&amp;ss &quot;w&lt;rd&gt;/+ü".to_string(), "w&lt;rd"),
            (format!("?q={}", percent(value, false)), "w%3Crd"),
            (format!("?q={}", percent(value, false).to_lowercase()), "w%3crd"),
            (format!("?q={}", percent(value, true)), "w%3Crd"),
            (pair, &STANDARD.encode(value)[4..12]),
            (longer, &STANDARD.encode(format!("longer user:{value}"))[24..32]),
            (hex, "773C7264"),
        ] {
            let clean = eraser.text(&text);
            assert!(clean.contains("[secret key]"), "{text}: {clean}");
            assert!(!clean.contains(leaks), "{text}: {clean}");
        }
        assert_eq!(eraser.text("nothing of it"), "nothing of it");
        assert_eq!(format!("{:?}", Secret::new(value)), "Secret { hosts: [], .. }");
    }

    #[test]
    fn values_that_could_not_be_kept_apart_or_would_break_a_header_are_refused() {
        for (value, is_good) in
            [("12345678", true), ("1234567", false), ("", false), ("1234567\r\nX: y", false)]
        {
            assert_eq!(Secret::new(value).value().is_ok(), is_good, "{value:?}");
        }
        assert!(Secret::new("x".repeat(MAX_BYTES + 1)).value().is_err());
        assert_eq!(Secret::from_fn(|| Err("locked".into())).value(), Err("locked".into()));
    }
}
