//! The capability `http`: requests to hosts that the app lists, and to no others.

mod policy;
mod request;
mod resolver;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};
use ureq::Agent;
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;

use self::policy::{Origin, Policy};
use self::request::{Outgoing, is_for_the_first_host};
use self::resolver::CheckedResolver;
use super::secrets::Eraser;
use super::{CapabilityCall, InvalidCapability, authorities};

/// The most bytes of the headers of an answer, its status line included.
const RESPONSE_HEADER_BYTES: usize = 32 * 1024;

/// Requests to hosts that the app lists, as a capability for workers that are granted it.
///
/// A worker calls it with `{"method", "url", "headers", "body" | "json" | "body_base64",
/// "basic_auth", "timeout_ms"}` and is answered with `{"status", "url", "headers", "body" |
/// "body_base64"}`, whatever the status. In Rust a worker uses
/// [`HttpRequest`](verger_worker::HttpRequest).
///
/// - A host that is not listed is refused, and so is a redirect to one. A method that the host is
///   not listed with is refused.
/// - A name is resolved once, and the connection goes to an address that was checked. Addresses of
///   this machine and of private networks are left out, unless the host is listed with
///   [`allow_private`](Self::allow_private). No proxy is used.
/// - It is slow: a worker that calls it inside its write transaction is refused with the code
///   `checkpoint-first`.
/// - Sizes, time and the number of calls are bounded. In a dry run only `GET` and `HEAD` are sent.
///
/// ```
/// use verger::{Grant, Http, Verger};
///
/// let http = Http::new().allow("https://api.example.com", ["GET", "POST"])?.per_minute(30);
/// let verger = Verger::in_memory().http(http).open()?;
/// let grant = Grant::new().capability("http");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Http {
    pub(super) name: String,
    policy: Policy,
    /// What is trusted in the place of the public authorities.
    roots: Option<Arc<Vec<Certificate<'static>>>>,
    timeout: Duration,
    request_bytes: usize,
    response_bytes: u64,
    redirects: u32,
    pub(super) per_minute: u32,
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    /// The capability `http`, which reaches nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::named("http")
    }

    /// Under another name, so that some workers may reach other hosts than the rest.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            policy: Policy::default(),
            roots: None,
            timeout: Duration::from_secs(30),
            request_bytes: 512 * 1024,
            response_bytes: 512 * 1024,
            redirects: 5,
            per_minute: 60,
        }
    }

    /// Lists a host, with the methods that may be sent there. A host is `https://api.example.com`,
    /// `http://intranet.example.com:8080`, or `https://*.example.com` for every name below it.
    ///
    /// # Errors
    /// [`InvalidCapability`] for a text that is not scheme, host and port, or for an unknown
    /// method.
    pub fn allow<'m>(
        mut self,
        origin: &str,
        methods: impl IntoIterator<Item = &'m str>,
    ) -> Result<Self, InvalidCapability> {
        self.policy.allow(origin, methods, false)?;
        Ok(self)
    }

    /// As [`allow`](Self::allow), for a host whose name may lead to this machine or to a private
    /// network.
    ///
    /// # Errors
    /// As [`allow`](Self::allow).
    pub fn allow_private<'m>(
        mut self,
        origin: &str,
        methods: impl IntoIterator<Item = &'m str>,
    ) -> Result<Self, InvalidCapability> {
        self.policy.allow(origin, methods, true)?;
        Ok(self)
    }

    /// Trusts the servers whose certificates these authorities issued, and no others: those of your
    /// own network, or behind a company's filter. The text is PEM, with one certificate or more.
    /// Hosts of the public internet then belong into another capability, by
    /// [`named`](Self::named). By default the authorities of Mozilla's list are trusted, which is
    /// part of the app.
    ///
    /// # Errors
    /// [`InvalidCapability`] for a text without certificates, or with one that cannot be read.
    pub fn root_certificates(mut self, pem: &str) -> Result<Self, InvalidCapability> {
        let read = authorities::read(pem)?;
        let roots = read.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        self.roots = Some(Arc::new(roots));
        Ok(self)
    }

    /// How long one call may last, redirects and reading included. It is never longer than the
    /// attempt. Default 30 s.
    #[must_use]
    pub fn timeout(mut self, most: Duration) -> Self {
        self.timeout = most;
        self
    }

    /// The most bytes of the body a worker may send. Default 512 KiB.
    #[must_use]
    pub fn request_bytes(mut self, most: usize) -> Self {
        self.request_bytes = most;
        self
    }

    /// The most bytes of the body it may get back. Default 512 KiB. A longer body is an error, and
    /// so is an answer longer than [`Limits::call_bytes`](crate::Limits::call_bytes).
    #[must_use]
    pub fn response_bytes(mut self, most: u64) -> Self {
        self.response_bytes = most;
        self
    }

    /// The most redirects that one call follows. Default 5. With 0 the worker gets the redirect as
    /// the answer.
    #[must_use]
    pub fn redirects(mut self, most: u32) -> Self {
        self.redirects = most;
        self
    }

    /// The most calls that each worker may make in a minute. Default 60.
    #[must_use]
    pub fn per_minute(mut self, calls: u32) -> Self {
        self.per_minute = calls;
        self
    }

    /// Answers a call.
    ///
    /// # Errors
    /// In words, for the worker, with no secret in them.
    pub(super) fn call(&self, call: &CapabilityCall<'_>) -> Result<Json, String> {
        let mut eraser = call.secrets.eraser(call);
        let answered = self.exchange(call, &mut eraser);
        answered.map_err(|why| eraser.text(&why))
    }

    fn exchange(&self, call: &CapabilityCall<'_>, eraser: &mut Eraser) -> Result<Json, String> {
        let mut outgoing = Outgoing::read(call.request, self.request_bytes)?;
        if call.is_dry_run && !matches!(outgoing.method, Method::GET | Method::HEAD) {
            return Err(format!("in a dry run no {} is sent", outgoing.method));
        }
        if !eraser.is_empty() && outgoing.headers.contains_key(header::RANGE) {
            return Err("a worker with secrets may not ask for a part of an answer".to_string());
        }
        let mut origin = Origin::of(&outgoing.url)?;
        let rule = self.policy.check(&origin, &outgoing.method)?;
        outgoing.add_secrets(call, &origin, rule.is_private(), eraser)?;
        let timeout = [Some(self.timeout), outgoing.timeout, Some(call.time_left)];
        let timeout = timeout.into_iter().flatten().min().unwrap_or(self.timeout);
        let until = std::time::Instant::now() + timeout;
        let agent = self.agent(timeout);
        let mut hops = 0;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            let mut response = send(&agent, &outgoing, left)?;
            let next = match redirect(&response) {
                Some(location) if self.redirects > 0 => location?,
                _ => return self.answer(&mut response, &outgoing.url, eraser),
            };
            if hops == self.redirects {
                return Err(format!("there were more than {hops} redirects"));
            }
            hops += 1;
            let url = request::join(&outgoing.url, &next)?;
            let to = Origin::of(&url)?;
            outgoing.follow(response.status(), url);
            if to != origin {
                if eraser.text(&next) != next {
                    return Err("a redirect would take a secret to another host".to_string());
                }
                if origin.is_secure() && !to.is_secure() {
                    return Err(format!("a redirect leads from https to {to}, which is not safe"));
                }
                outgoing.headers = without_what_was_for_the_first_host(&outgoing.headers);
                origin = to;
            }
            self.policy
                .check(&origin, &outgoing.method)
                .map_err(|why| format!("after a redirect: {why}"))?;
        }
    }

    fn agent(&self, timeout: Duration) -> Agent {
        let roots = self.roots.clone().map_or(RootCerts::WebPki, RootCerts::Specific);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Each redirect is checked here.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A proxy would choose the addresses itself.
            .proxy(None)
            .user_agent(concat!("verger/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(RESPONSE_HEADER_BYTES)
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .timeout_global(Some(timeout))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        let resolver = CheckedResolver::new(self.policy.clone());
        Agent::with_parts(config, DefaultConnector::default(), resolver)
    }

    fn answer(
        &self,
        response: &mut Response<ureq::Body>,
        url: &Uri,
        eraser: &Eraser,
    ) -> Result<Json, String> {
        let read = response.body_mut().with_config().limit(self.response_bytes).read_to_vec();
        let body = read.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => {
                format!("the answer has more than {} bytes", self.response_bytes)
            }
            error => failed(&error),
        })?;
        let mut headers = Map::new();
        for name in response.headers().keys() {
            let values: Vec<String> = response
                .headers()
                .get_all(name)
                .iter()
                .map(|value| eraser.text(&String::from_utf8_lossy(value.as_bytes())))
                .collect();
            headers.insert(name.as_str().to_string(), values.join(", ").into());
        }
        let mut answer = json!({
            "status": response.status().as_u16(),
            "url": eraser.text(&url.to_string()),
            "headers": headers,
        });
        match String::from_utf8(eraser.bytes(&body)) {
            Ok(text) => answer["body"] = text.into(),
            Err(bytes) => answer["body_base64"] = STANDARD.encode(bytes.as_bytes()).into(),
        }
        Ok(answer)
    }
}

fn send(
    agent: &Agent,
    outgoing: &Outgoing,
    left: Duration,
) -> Result<Response<ureq::Body>, String> {
    let mut request = Request::builder().method(&outgoing.method).uri(&outgoing.url);
    if let Some(headers) = request.headers_mut() {
        headers.extend(outgoing.headers.clone());
    }
    let invalid = |error: ureq::http::Error| format!("the request is not usable: {error}");
    let sent = match &outgoing.body {
        Some(body) => {
            let request = request.body(body.as_slice()).map_err(invalid)?;
            agent.run(agent.configure_request(request).timeout_global(Some(left)).build())
        }
        None => {
            let request = request.body(()).map_err(invalid)?;
            agent.run(agent.configure_request(request).timeout_global(Some(left)).build())
        }
    };
    sent.map_err(|error| failed(&error))
}

/// Where an answer leads, if it is a redirect.
fn redirect(response: &Response<ureq::Body>) -> Option<Result<String, String>> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.headers().get(header::LOCATION).filter(|_| is_redirect)?;
    let text = location.to_str().map(str::to_string);
    Some(text.map_err(|_| "a redirect leads to what is no URL".to_string()))
}

fn without_what_was_for_the_first_host(headers: &HeaderMap) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, value)| !is_for_the_first_host(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn failed(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => "the time for the call is over".to_string(),
        ureq::Error::Other(why) => why.to_string(),
        ureq::Error::HostNotFound => "the host was not found".to_string(),
        error => format!("the request failed: {error}"),
    }
}
