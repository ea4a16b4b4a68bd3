//! The page as a function from a request to a response.

use http::{Method, Request, Response, StatusCode};
use verger::Verger;

use crate::answer::{self, Answer};
use crate::query::Query;
use crate::{action, views};

/// The message for someone who tries to change something where nothing may be changed.
pub(crate) const ONLY_SHOWS: &str = "this page only shows: whoever opened it did not allow changes";

/// Answers a request for the page, which only shows. Nothing can be changed through it.
///
/// It needs no server. Give it the request of a window's custom protocol or of a route of the app's
/// server, and send back what it returns. The path of the request is the page's: `/`, `/jobs`,
/// `/job/7`. See [`Ui`] for a page that changes things, or is at another path.
///
/// ```
/// let verger = verger::Verger::in_memory().open()?;
/// let request = http::Request::get("verger://app/jobs").body(Vec::new())?;
/// let response = verger_ui::respond(&verger, request);
/// assert_eq!(response.status(), 200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn respond(verger: &Verger, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    Ui::new().respond(verger, request)
}

/// The page, and what it may do. Keep it for as long as the app shows the page, because its forms
/// carry a secret of its own, so that no other page can send them.
///
/// It does not know who asks. Whoever can send it a request sees every job and its args, and with
/// [`allow_changes`](Self::allow_changes) changes them. An app that shows it only to some users
/// decides that before it calls [`respond`](Self::respond).
#[derive(Debug, Clone)]
#[must_use = "a page is shown once it responds"]
pub struct Ui {
    pub(crate) changes: bool,
    pub(crate) mount: String,
    pub(crate) secret: String,
}

impl Default for Ui {
    fn default() -> Self {
        Self::new()
    }
}

impl Ui {
    /// A page that only shows, at `/`.
    pub fn new() -> Self {
        Self { changes: false, mount: String::new(), secret: random() }
    }

    /// Lets it change things: retry, cancel and delete jobs, one or all that fit a filter; pause
    /// and resume queues and schedules, and run one now; call a worker without keeping what it
    /// does; and, with the feature `wasm`, decide what plugins may do.
    pub fn allow_changes(mut self) -> Self {
        self.changes = true;
        self
    }

    /// The path it is at, such as `/verger`. Requests and links begin with it.
    pub fn mount(mut self, path: &str) -> Self {
        let path = path.trim_matches('/');
        self.mount = if path.is_empty() { String::new() } else { format!("/{path}") };
        self
    }

    /// Answers a request. It does not fail: if something cannot be read, the page says so.
    #[must_use]
    pub fn respond(&self, verger: &Verger, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
        let full = request.uri().path().to_string();
        let path = match full.strip_prefix(&self.mount) {
            Some("") => "/",
            Some(path) if path.starts_with('/') => path,
            _ => return answer::not_found(self, &full).into_response(),
        };
        let query = Query::parse(request.uri().query().unwrap_or_default().as_bytes());
        let is_part = request.headers().contains_key("x-verger-part");
        let answer = match *request.method() {
            Method::GET | Method::HEAD => views::show(self, verger, path, &query),
            Method::POST => self.change(verger, path, &request),
            _ => Answer::text(StatusCode::METHOD_NOT_ALLOWED, "the page takes GET and POST"),
        };
        let mut response = answer.finish(self, path, is_part);
        if *request.method() == Method::HEAD {
            response.body_mut().clear();
        }
        response
    }

    fn change(&self, verger: &Verger, path: &str, request: &Request<Vec<u8>>) -> Answer {
        if !self.changes {
            return Answer::text(StatusCode::FORBIDDEN, ONLY_SHOWS);
        }
        // A page of another site has another origin, and browsers report that with each form.
        let from = request.headers().get("sec-fetch-site").and_then(|value| value.to_str().ok());
        if from.is_some_and(|from| !matches!(from, "same-origin" | "none")) {
            return Answer::text(StatusCode::FORBIDDEN, "this form was sent by another page");
        }
        let form = Query::parse(request.body());
        if !same(form.get("secret").unwrap_or_default(), &self.secret) {
            return Answer::text(
                StatusCode::FORBIDDEN,
                "this form is none of this page, or older than it: load the page anew",
            );
        }
        action::perform(self, verger, path, &form)
    }

    /// The address of a view.
    pub(crate) fn link(&self, path: &str) -> String {
        format!("{}{path}", self.mount)
    }
}

/// Compares so that the time it takes does not tell how much is right.
pub(crate) fn same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// 128 random bits in hexadecimal digits.
pub(crate) fn random() -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // The system gives no random numbers. The standard library's hasher is seeded by the system
        // too.
        use std::hash::{BuildHasher, RandomState};
        let seed = RandomState::new();
        let words = [seed.hash_one(0_u8), RandomState::new().hash_one(1_u8)];
        for (byte, from) in bytes.iter_mut().zip(words.iter().flat_map(|word| word.to_le_bytes())) {
            *byte = from;
        }
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
