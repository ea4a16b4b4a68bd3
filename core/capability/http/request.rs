//! What a worker asks to be sent.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

use super::policy::Origin;
use crate::capability::CapabilityCall;
use crate::capability::secrets::Eraser;

const HEADERS_MAX: usize = 64;

const HEADER_BYTES: usize = 16 * 1024;

const URL_BYTES: usize = 8 * 1024;

/// Headers that belong to the connection, or would change how an answer is read.
const OURS: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Headers that programs on the way write into their logs.
const LOGGED: [&str; 7] = [
    "accept",
    "accept-charset",
    "content-encoding",
    "content-type",
    "date",
    "server",
    "user-agent",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default = "get")]
    method: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, HeaderText>,
    body: Option<String>,
    body_base64: Option<String>,
    json: Option<Json>,
    basic_auth: Option<BasicAuth>,
    timeout_ms: Option<u64>,
}

fn get() -> String {
    "GET".to_string()
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a header is a text, or {\"secret\": name, \"prefix\": text}")]
enum HeaderText {
    Text(String),
    Secret(SecretText),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretText {
    secret: String,
    #[serde(default)]
    prefix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BasicAuth {
    username: String,
    secret: String,
}

/// A request that is about to be sent.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Vec<u8>>,
    pub(super) timeout: Option<Duration>,
    secrets: Vec<(HeaderName, SecretText)>,
    basic_auth: Option<BasicAuth>,
}

impl Outgoing {
    /// # Errors
    /// In words, naming what is not usable.
    pub(super) fn read(request: &Json, most: usize) -> Result<Self, String> {
        let asked = Asked::deserialize(request)
            .map_err(|error| format!("the request is not usable: {error}"))?;
        if asked.url.len() > URL_BYTES {
            return Err(format!("the URL has more than {URL_BYTES} bytes"));
        }
        let url: Uri =
            asked.url.parse().map_err(|error| format!("the URL is not usable: {error}"))?;
        let method = Method::from_bytes(asked.method.as_bytes())
            .map_err(|_| "the method is not usable".to_string())?;
        let mut headers = HeaderMap::new();
        let (mut secrets, mut bytes) = (Vec::new(), 0);
        if asked.headers.len() > HEADERS_MAX {
            return Err(format!("there are more than {HEADERS_MAX} headers"));
        }
        for (name, value) in asked.headers {
            bytes += name.len();
            let name = header_name(&name)?;
            match value {
                HeaderText::Text(text) => {
                    bytes += text.len();
                    let value = HeaderValue::from_str(&text).map_err(|_| {
                        format!("the header `{name}` has characters that no header may have")
                    })?;
                    headers.insert(name, value);
                }
                HeaderText::Secret(_) if LOGGED.contains(&name.as_str()) => {
                    return Err(format!("the header `{name}` is no place for a secret"));
                }
                HeaderText::Secret(secret) => {
                    bytes += secret.prefix.len();
                    secrets.push((name, secret));
                }
            }
        }
        if bytes > HEADER_BYTES {
            return Err(format!("the headers have more than {HEADER_BYTES} bytes"));
        }
        let body = match (asked.body, asked.body_base64, asked.json) {
            (None, None, None) => None,
            (Some(text), None, None) => Some(text.into_bytes()),
            (None, Some(text), None) => {
                Some(STANDARD.decode(text).map_err(|_| "body_base64 is no base64".to_string())?)
            }
            (None, None, Some(json)) => {
                let kind = HeaderValue::from_static("application/json");
                headers.entry(header::CONTENT_TYPE).or_insert(kind);
                Some(json.to_string().into_bytes())
            }
            _ => return Err("give one of body, body_base64 and json".to_string()),
        };
        let takes_body = matches!(method, Method::POST | Method::PUT | Method::PATCH);
        let body = match body {
            Some(_) if !takes_body => return Err(format!("a {method} has no body")),
            None if takes_body => Some(Vec::new()),
            body => body,
        };
        if body.as_ref().is_some_and(|body| body.len() > most) {
            return Err(format!("the body has more than {most} bytes"));
        }
        let timeout = asked.timeout_ms.map(Duration::from_millis);
        Ok(Self { method, url, headers, body, timeout, secrets, basic_auth: asked.basic_auth })
    }

    /// Puts in the secrets that the worker names.
    ///
    /// # Errors
    /// In words, with a secret's name, when it is not granted or not for that host.
    pub(super) fn add_secrets(
        &mut self,
        call: &CapabilityCall<'_>,
        origin: &Origin,
        is_private: bool,
        eraser: &mut Eraser,
    ) -> Result<(), String> {
        let names = self.secrets.iter().map(|(_, secret)| &secret.secret);
        let name = names.chain(self.basic_auth.as_ref().map(|auth| &auth.secret)).next();
        if let Some(name) = name
            && !origin.is_secure()
            && !is_private
        {
            return Err(format!("the secret `{name}` is sent by https only, not to {origin}"));
        }
        for (name, secret) in std::mem::take(&mut self.secrets) {
            let value = call.secrets.for_host(call, &secret.secret, &origin.host)?;
            let text = format!("{}{value}", secret.prefix);
            self.headers.insert(name, sensitive(&text, &secret.secret)?);
        }
        if let Some(auth) = self.basic_auth.take() {
            if auth.username.contains(':') || auth.username.chars().any(char::is_control) {
                return Err("the username of basic_auth is not usable".to_string());
            }
            let value = call.secrets.for_host(call, &auth.secret, &origin.host)?;
            let pair = STANDARD.encode(format!("{}:{value}", auth.username));
            let text = format!("Basic {pair}");
            self.headers.insert(header::AUTHORIZATION, sensitive(&text, &auth.secret)?);
            eraser.add_form(&auth.secret, pair);
        }
        Ok(())
    }

    /// Turns this into the request that a redirect asks for.
    pub(super) fn follow(&mut self, status: StatusCode, url: Uri) {
        self.url = url;
        let becomes_get = match status {
            StatusCode::SEE_OTHER => self.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            self.method = Method::GET;
            self.body = None;
            self.headers.remove(header::CONTENT_TYPE);
        }
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
    if OURS.contains(&name.as_str()) {
        return Err(format!("the header `{name}` is not a worker's to set"));
    }
    Ok(name)
}

fn sensitive(text: &str, secret: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| format!("the secret `{secret}` has characters that no header may have"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether a header must not go to the host that a redirect leads to.
pub(super) fn is_for_the_first_host(name: &HeaderName, value: &HeaderValue) -> bool {
    value.is_sensitive() || *name == header::AUTHORIZATION || *name == header::COOKIE
}

/// Where a redirect leads, relative to the URL it came from.
///
/// # Errors
/// In words.
pub(super) fn join(base: &Uri, location: &str) -> Result<Uri, String> {
    let (scheme, authority) = match (base.scheme_str(), base.authority()) {
        (Some(scheme), Some(authority)) => (scheme, authority.as_str()),
        _ => return Err("the URL has no host".to_string()),
    };
    let location = location.split('#').next().unwrap_or_default();
    let path = base.path();
    let is_absolute = location.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    let text = if is_absolute {
        location.to_string()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.is_empty() || location.starts_with('?') {
        format!("{scheme}://{authority}{path}{location}")
    } else {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    if text.len() > URL_BYTES {
        return Err(format!("a redirect leads to a URL of more than {URL_BYTES} bytes"));
    }
    text.parse().map_err(|_| "a redirect leads to what is no URL".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_redirect_is_read_from_where_it_was_met() {
        let base: Uri = "https://a.com:1/x/y?q".parse().unwrap();
        for (location, expected) in [
            ("https://b.com/z", Some("https://b.com/z")),
            ("//b.com/z", Some("https://b.com/z")),
            ("/z", Some("https://a.com:1/z")),
            ("z", Some("https://a.com:1/x/z")),
            ("?r", Some("https://a.com:1/x/y?r")),
            ("", Some("https://a.com:1/x/y")),
            ("/z#part", Some("https://a.com:1/z")),
            ("ftp://b.com/", Some("ftp://b.com/")),
            ("http://b c/", None),
        ] {
            let found = join(&base, location).ok().map(|url| url.to_string());
            assert_eq!(found.as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        let url = "https://a.com/";
        for (request, expected) in [
            (json!({}), "missing field `url`"),
            (json!({"url": url, "verb": "GET"}), "unknown field `verb`"),
            (json!({"url": "https://a b/"}), "the URL is not usable"),
            (json!({"url": url, "method": "G T"}), "the method is not usable"),
            (json!({"url": url, "body": "x"}), "a GET has no body"),
            (json!({"url": url, "method": "DELETE", "json": 1}), "a DELETE has no body"),
            (json!({"url": url, "method": "POST", "body": "x", "json": 1}), "give one of"),
            (json!({"url": url, "method": "POST", "body_base64": "!"}), "is no base64"),
            (json!({"url": url, "method": "POST", "body": "xxxxx"}), "more than 4 bytes"),
            (json!({"url": url, "headers": {"Host": "b"}}), "`host` is not a worker's to set"),
            (json!({"url": url, "headers": {"Accept-Encoding": "gzip"}}), "not a worker's"),
            (json!({"url": url, "headers": {"a b": "c"}}), "is no name of a header"),
            (json!({"url": url, "headers": {"a": "b\r\nHost: c"}}), "no header may have"),
            (json!({"url": url, "headers": {"a": 1}}), "a header is a text"),
            (json!({"url": url, "headers": {"Accept": {"secret": "k"}}}), "no place for a secret"),
            (json!({"url": url, "headers": {"a": "x".repeat(HEADER_BYTES)}}), "the headers have"),
            (json!({"url": format!("{url}{}", "x".repeat(URL_BYTES))}), "the URL has more than"),
        ] {
            let refused = Outgoing::read(&request, 4).err().unwrap_or_default();
            assert!(refused.contains(expected), "{request}: {refused}");
        }
    }

    #[test]
    fn a_redirect_changes_the_method_as_it_says() {
        for (status, method, becomes) in [
            (301, "POST", Method::GET),
            (302, "POST", Method::GET),
            (302, "PUT", Method::PUT),
            (303, "PUT", Method::GET),
            (303, "HEAD", Method::HEAD),
            (307, "POST", Method::POST),
            (308, "POST", Method::POST),
        ] {
            let request = json!({"url": "https://a.com/", "method": method});
            let mut outgoing = Outgoing::read(&request, 9).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            outgoing.follow(status, "https://a.com/b".parse().unwrap());
            assert_eq!(outgoing.method, becomes, "{status} {method}");
            assert_eq!(outgoing.body.is_some(), matches!(becomes, Method::POST | Method::PUT));
        }
    }
}
