//! The capabilities that come with Verger, as a worker calls them: requests, mail, settings. The
//! app switches each on and grants it.

use serde_json::{Map, Value as Json, json};

use crate::context::Context;
use crate::error::{HostError, code};

/// A request to a host that the app allows, sent by [`Context::http`].
///
/// The manifest asks for the capability `http`, and for `secrets/NAME` for each secret it names. A
/// secret is a value that the app has and the worker never sees.
///
/// ```
/// use verger_worker::HttpRequest;
/// let request = HttpRequest::post("https://api.example.com/charges")
///     .secret_header("authorization", "Bearer ", "billing-key")
///     .json(serde_json::json!({"amount": 4200}));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRequest(Map<String, Json>);

impl HttpRequest {
    /// With this method: `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE`, `OPTIONS`.
    #[must_use]
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        let mut request = Map::new();
        request.insert("method".into(), method.into());
        request.insert("url".into(), Json::String(url.into()));
        request.insert("headers".into(), Json::Object(Map::new()));
        Self(request)
    }

    /// A `GET`.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A `POST`.
    #[must_use]
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// A header.
    #[must_use]
    pub fn header(self, name: &str, value: impl Into<String>) -> Self {
        self.header_of(name, Json::String(value.into()))
    }

    /// A header with a secret of the app's after a prefix: `authorization: Bearer …`.
    #[must_use]
    pub fn secret_header(self, name: &str, prefix: &str, secret: &str) -> Self {
        self.header_of(name, json!({ "secret": secret, "prefix": prefix }))
    }

    /// A user's name, and the secret that is the password.
    #[must_use]
    pub fn basic_auth(self, username: &str, secret: &str) -> Self {
        self.set("basic_auth", json!({ "username": username, "secret": secret }))
    }

    /// A text as the body.
    #[must_use]
    pub fn body(self, text: impl Into<String>) -> Self {
        self.set("body", Json::String(text.into()))
    }

    /// JSON as the body, with its content type.
    #[must_use]
    pub fn json(self, body: Json) -> Self {
        self.set("json", body)
    }

    /// How long to wait for the answer, in milliseconds. It is never longer than the app allows.
    #[must_use]
    pub fn timeout_ms(self, millis: u64) -> Self {
        self.set("timeout_ms", millis.into())
    }

    fn header_of(mut self, name: &str, value: Json) -> Self {
        if let Some(Json::Object(headers)) = self.0.get_mut("headers") {
            headers.insert(name.to_string(), value);
        }
        self
    }

    fn set(mut self, key: &str, value: Json) -> Self {
        self.0.insert(key.to_string(), value);
        self
    }
}

/// What a host answered, whatever the status.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpResponse(Json);

impl HttpResponse {
    /// The status: 200, 404.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0["status"].as_u64().and_then(|status| status.try_into().ok()).unwrap_or(0)
    }

    /// Whether the status is one from 200 to 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status())
    }

    /// A header, by its name in lower case. Several of one name are joined with commas.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0["headers"].get(name).and_then(Json::as_str)
    }

    /// The body, if it is text in UTF-8. Otherwise see [`body_base64`](Self::body_base64).
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.0.get("body").and_then(Json::as_str)
    }

    /// The body in base64, if it is no text in UTF-8.
    #[must_use]
    pub fn body_base64(&self) -> Option<&str> {
        self.0.get("body_base64").and_then(Json::as_str)
    }

    /// The body read as JSON.
    ///
    /// # Errors
    /// Code `capability` when it is no JSON.
    pub fn json(&self) -> Result<Json, HostError> {
        let text = self.text().unwrap_or_default();
        serde_json::from_str(text).map_err(|error| {
            HostError::new(code::CAPABILITY, format!("the answer is no JSON: {error}"))
        })
    }

    /// Where the answer came from, after redirects.
    #[must_use]
    pub fn url(&self) -> &str {
        self.0["url"].as_str().unwrap_or_default()
    }
}

/// A message for [`Context::send_email`]. The manifest asks for the capability `mailer`.
#[derive(Debug, Clone, PartialEq)]
pub struct Email(Map<String, Json>);

impl Email {
    /// To one address, `a@example.com` or `Ada <a@example.com>`.
    #[must_use]
    pub fn to(address: impl Into<String>, subject: impl Into<String>) -> Self {
        let mut email = Map::new();
        email.insert("to".into(), json!([address.into()]));
        email.insert("subject".into(), Json::String(subject.into()));
        Self(email)
    }

    /// Adds a recipient.
    #[must_use]
    pub fn and_to(self, address: impl Into<String>) -> Self {
        self.add("to", address.into())
    }

    /// Sends a copy to this address.
    #[must_use]
    pub fn cc(self, address: impl Into<String>) -> Self {
        self.add("cc", address.into())
    }

    /// Sends a copy to this address, which the others do not see.
    #[must_use]
    pub fn bcc(self, address: impl Into<String>) -> Self {
        self.add("bcc", address.into())
    }

    /// The address for answers.
    #[must_use]
    pub fn reply_to(self, address: impl Into<String>) -> Self {
        self.set("reply_to", address.into())
    }

    /// The message as plain text.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Self {
        self.set("text", text.into())
    }

    /// The message as HTML. With [`text`](Self::text) too, each program shows what it can.
    #[must_use]
    pub fn html(self, html: impl Into<String>) -> Self {
        self.set("html", html.into())
    }

    /// The id that tells this message from all others: `order-17@example.com`. Give the same id
    /// when it is tried again, so that nobody gets the message twice.
    #[must_use]
    pub fn message_id(self, id: impl Into<String>) -> Self {
        self.set("message_id", id.into())
    }

    fn add(mut self, key: &str, address: String) -> Self {
        let addresses = self.0.entry(key).or_insert_with(|| json!([]));
        if let Json::Array(addresses) = addresses {
            addresses.push(Json::String(address));
        }
        self
    }

    fn set(mut self, key: &str, text: String) -> Self {
        self.0.insert(key.to_string(), Json::String(text));
        self
    }
}

/// How sending a message went, if it did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmailOutcome {
    /// The server has it.
    Sent {
        /// Its id.
        message_id: String,
    },
    /// The server will not take it, however often it is tried: the recipient is unknown, or the
    /// address is invalid.
    Refused {
        /// Why.
        reason: String,
    },
}

impl Context<'_> {
    /// Sends a request to a host that the app allows, by the capability `http`. It waits, so it is
    /// refused while the attempt holds the write lock.
    ///
    /// # Errors
    /// As [`call`](Self::call), when it is not granted, not allowed, or not answered in time. A
    /// status such as 404 or 500 is an answer.
    pub fn http(&self, request: &HttpRequest) -> Result<HttpResponse, HostError> {
        self.call("http", &Json::Object(request.0.clone())).map(HttpResponse)
    }

    /// Sends mail through the app's server, by the capability `mailer`. It waits, so it is refused
    /// while the attempt holds the write lock.
    ///
    /// # Errors
    /// As [`call`](Self::call), when it is not granted, or the server cannot be reached or says to
    /// try later. Then it may be unknown whether it was sent. Try again with the same
    /// [`message_id`](Email::message_id).
    pub fn send_email(&self, email: &Email) -> Result<EmailOutcome, HostError> {
        let answer = self.call("mailer", &Json::Object(email.0.clone()))?;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_string();
        Ok(match answer["sent"].as_bool() {
            Some(false) => EmailOutcome::Refused { reason: text("reason") },
            _ => EmailOutcome::Sent { message_id: text("message_id") },
        })
    }

    /// What the user set for this worker, by the capability `settings`. Empty when nothing was set.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn settings(&self) -> Result<Map<String, Json>, HostError> {
        match self.call("settings", &json!({}))? {
            Json::Object(settings) => Ok(settings),
            _ => Err(HostError::new(code::CAPABILITY, "the settings are no object")),
        }
    }
}

#[cfg(all(test, feature = "testing"))]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use crate::testing::MemoryHost;

    #[test]
    fn each_is_a_call_of_its_capability() {
        let host = MemoryHost::new("")
            .capability("http", |request| {
                assert_eq!(
                    *request,
                    json!({
                        "method": "POST", "url": "https://a.com/", "json": [1], "timeout_ms": 5,
                        "headers": {"accept": "x", "authorization": {"secret": "key", "prefix": "Bearer "}},
                        "basic_auth": {"username": "u", "secret": "pw"}
                    })
                );
                Ok(json!({"status": 201, "url": "https://a.com/b", "headers": {"x-y": "z"}, "body": "[2]"}))
            })
            .capability("mailer", |request| match request["to"][0].as_str() {
                Some("no@a.com") => Ok(json!({"sent": false, "reason": "550"})),
                _ => {
                    assert_eq!(
                        *request,
                        json!({"to": ["a@a.com", "b@a.com"], "cc": ["c@a.com"], "bcc": ["d@a.com"], "reply_to": "e@a.com", "subject": "s", "text": "t", "html": "h", "message_id": "i@a.com"})
                    );
                    Ok(json!({"sent": true, "message_id": "<i@a.com>"}))
                }
            })
            .capability("settings", |_| Ok(json!({"hour": 4})));
        let job = Context::new(&host);
        let request = HttpRequest::post("https://a.com/")
            .header("accept", "x")
            .secret_header("authorization", "Bearer ", "key")
            .basic_auth("u", "pw")
            .json(json!([1]))
            .timeout_ms(5);
        let answer = job.http(&request).unwrap();
        assert_eq!((answer.status(), answer.is_success()), (201, true));
        assert_eq!((answer.header("x-y"), answer.url()), (Some("z"), "https://a.com/b"));
        assert_eq!((answer.json(), answer.body_base64()), (Ok(json!([2])), None));
        let email = Email::to("a@a.com", "s").and_to("b@a.com").cc("c@a.com").bcc("d@a.com");
        let email = email.reply_to("e@a.com").text("t").html("h").message_id("i@a.com");
        let sent = EmailOutcome::Sent { message_id: "<i@a.com>".into() };
        assert_eq!(job.send_email(&email), Ok(sent));
        let refused = EmailOutcome::Refused { reason: "550".into() };
        assert_eq!(job.send_email(&Email::to("no@a.com", "s")), Ok(refused));
        assert_eq!(job.settings().unwrap()["hour"], 4);
    }
}
