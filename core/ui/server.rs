//! The page on a port of this machine, for one person.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use verger::Verger;

use crate::query::Query;
use crate::ui::{Ui, random, same};

/// The most bytes of a request's head, and of a form.
const HEAD_MAX: usize = 16 << 10;
const BODY_MAX: usize = 64 << 10;

/// The most connections at a time.
const CONNECTIONS_MAX: usize = 32;

/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait for the rest of a request that was answered before its end.
const LINGER: Duration = Duration::from_millis(500);

/// The prefix of the cookie's name that holds the token. The port follows, because cookies know no
/// ports.
const COOKIE: &str = "verger-";

/// Why the page cannot be served.
#[derive(Debug)]
pub struct ServeError {
    address: SocketAddr,
    source: io::Error,
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "cannot listen on {}: {}; name another port, or 0 for any",
            self.address, self.source
        )
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The page on a port of this machine. Only programs of this machine can reach it, and it shows
/// itself only to requests with the token of its address.
///
/// ```
/// let verger = verger::Verger::in_memory().open()?;
/// let server = verger_ui::Server::bind(verger_ui::Ui::new(), 0)?;
/// println!("{}", server.url());
/// // Serves until it is stopped, on this thread.
/// let stop = server.stopper();
/// stop.stop();
/// server.serve(&verger);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    ui: Ui,
    listener: TcpListener,
    address: SocketAddr,
    token: String,
    stopped: Arc<AtomicBool>,
}

/// Ends a [`Server`].
#[derive(Debug, Clone)]
pub struct Stopper {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Stopper {
    /// Ends the server. Requests that it is answering are still answered.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes it from waiting for the next request.
        drop(TcpStream::connect(self.address));
    }
}

impl Server {
    /// Takes a port of the loopback address. 0 takes any free port.
    ///
    /// # Errors
    /// [`ServeError`] when the port is taken.
    pub fn bind(ui: Ui, port: u16) -> Result<Self, ServeError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let failed = |source| ServeError { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { ui, listener, address, token: random(), stopped: Arc::default() })
    }

    /// Its address, with the token that opens it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/?token={}", self.address, self.token)
    }

    /// A handle that ends it from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { address: self.address, stopped: Arc::clone(&self.stopped) }
    }

    /// Answers requests until it is stopped.
    pub fn serve(&self, verger: &Verger) {
        let open = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for stream in self.listener.incoming() {
                if self.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
                    open.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                let open = &open;
                let spawned = std::thread::Builder::new().spawn_scoped(scope, move || {
                    // A client that hangs up, or is too slow, gets no answer.
                    let _ = self.answer(stream, verger);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
                if spawned.is_err() {
                    open.fetch_sub(1, Ordering::SeqCst);
                }
            }
        });
    }

    fn answer(&self, mut stream: TcpStream, verger: &Verger) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let response = match read(&mut stream) {
            Ok(request) => {
                // A defect of one view must not end the page.
                let answer = std::panic::AssertUnwindSafe(|| self.respond(verger, request));
                std::panic::catch_unwind(answer).unwrap_or_else(|_| {
                    refusal(StatusCode::INTERNAL_SERVER_ERROR, "the view failed")
                })
            }
            Err(Refused::Hung(error)) => return Err(error),
            Err(Refused::With(status, why)) => refusal(status, why),
        };
        write(&mut stream, &response)
    }

    /// Answers requests that are allowed, and refuses others.
    fn respond(&self, verger: &Verger, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
        let headers = request.headers();
        // Another site's server can give this address a name of its own, so that its page could
        // read this one.
        if !self.names_us(headers.get(header::HOST)) {
            return refusal(StatusCode::MISDIRECTED_REQUEST, "this is no address of this page");
        }
        let origin = headers.get(header::ORIGIN);
        if origin.is_some_and(|origin| !self.is_ours(origin)) {
            return refusal(StatusCode::FORBIDDEN, "another page sent this");
        }
        if request.method() == Method::POST && origin.is_none() {
            return refusal(
                StatusCode::FORBIDDEN,
                "a form says which page it is of, and this says none",
            );
        }
        let query = Query::parse(request.uri().query().unwrap_or_default().as_bytes());
        if request.method() == Method::GET
            && request.uri().path() != self.ui.link("/metrics")
            && query.get("token").is_some_and(|token| same(token, &self.token))
        {
            return self.let_in(request.uri().path(), &query);
        }
        // A program that reads numbers keeps no cookies.
        let is_metrics = request.uri().path() == self.ui.link("/metrics")
            && query.get("token").is_some_and(|token| same(token, &self.token));
        if !is_metrics && !self.has_token(headers) {
            return refusal(
                StatusCode::UNAUTHORIZED,
                "open the address that `verger ui` printed: it has the token that this page asks for",
            );
        }
        self.ui.respond(verger, request)
    }

    /// Keeps the token in a cookie, and out of the address.
    fn let_in(&self, path: &str, query: &Query) -> Response<Vec<u8>> {
        let rest = query.with("token", None);
        let sign = if rest.is_empty() { "" } else { "?" };
        let mut response = refusal(StatusCode::SEE_OTHER, "");
        let cookie = format!(
            "{COOKIE}{}={}; HttpOnly; SameSite=Strict; Path=/",
            self.address.port(),
            self.token
        );
        let path = if path.starts_with("//") { "/" } else { path };
        for (name, value) in
            [(header::LOCATION, format!("{path}{sign}{rest}")), (header::SET_COOKIE, cookie)]
        {
            if let Ok(value) = header::HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    fn names_us(&self, host: Option<&header::HeaderValue>) -> bool {
        let port = self.address.port();
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        [format!("127.0.0.1:{port}"), format!("localhost:{port}")]
            .iter()
            .any(|name| host.eq_ignore_ascii_case(name))
    }

    fn is_ours(&self, origin: &header::HeaderValue) -> bool {
        let origin = origin.to_str().unwrap_or_default();
        let host = origin.strip_prefix("http://").and_then(|host| host.parse().ok());
        self.names_us(host.as_ref())
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let name = format!("{COOKIE}{}", self.address.port());
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .any(|(key, value)| key == name && same(value, &self.token))
    }
}

fn refusal(status: StatusCode, why: &str) -> Response<Vec<u8>> {
    let mut response = crate::answer::Answer::text(status, why).into_response();
    if why.is_empty() {
        response.body_mut().clear();
    }
    response
}

/// Why the page does not answer a request.
enum Refused {
    Hung(io::Error),
    With(StatusCode, &'static str),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Hung(error)
    }
}

/// Reads one whole request, and no more than a page sends.
fn read(stream: &mut TcpStream) -> Result<Request<Vec<u8>>, Refused> {
    let mut bytes = Vec::with_capacity(2_048);
    let (length, mut request) = loop {
        let mut more = [0; 4_096];
        let count = stream.read(&mut more)?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        bytes.extend(more.get(..count).unwrap_or_default());
        match head(&bytes)? {
            Some(head) => break head,
            None if bytes.len() > HEAD_MAX => {
                return Err(Refused::With(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too long"));
            }
            None => {}
        }
    };
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Err(Refused::With(StatusCode::LENGTH_REQUIRED, "say how long the form is"));
    }
    let said = request.headers().get(header::CONTENT_LENGTH);
    let wanted = match said.map(|said| said.to_str().unwrap_or_default().parse::<usize>()) {
        None => 0,
        Some(Ok(wanted)) if wanted <= BODY_MAX => wanted,
        Some(Ok(_)) => return Err(Refused::With(StatusCode::PAYLOAD_TOO_LARGE, "too long")),
        Some(Err(_)) => return Err(Refused::With(StatusCode::BAD_REQUEST, "no length")),
    };
    let mut body = bytes.split_off(length.min(bytes.len()));
    body.truncate(wanted);
    let have = body.len();
    body.resize(wanted, 0);
    stream.read_exact(body.get_mut(have..).unwrap_or_default())?;
    *request.body_mut() = body;
    Ok(request)
}

/// How long the head of a request is, and the request without its body.
type Head = (usize, Request<Vec<u8>>);

/// The head of a request, and how long it is. `None` while it is incomplete.
fn head(bytes: &[u8]) -> Result<Option<Head>, Refused> {
    let bad = |_| Refused::With(StatusCode::BAD_REQUEST, "this is no request");
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes).map_err(|_| bad(()))? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let target = parsed.path.unwrap_or("/");
    if !target.starts_with('/') {
        return Err(bad(()));
    }
    let mut request = Request::builder().method(parsed.method.unwrap_or("GET")).uri(target);
    for header in parsed.headers.iter() {
        request = request.header(header.name, header.value);
    }
    Ok(Some((length, request.body(Vec::new()).map_err(|_| bad(()))?)))
}

fn write(stream: &mut TcpStream, response: &Response<Vec<u8>>) -> io::Result<()> {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in response.headers() {
        head.extend(name.as_str().as_bytes());
        head.extend(b": ");
        head.extend(value.as_bytes());
        head.extend(b"\r\n");
    }
    head.extend(
        format!("content-length: {}\r\nconnection: close\r\n\r\n", response.body().len()).bytes(),
    );
    stream.write_all(&head)?;
    stream.write_all(response.body())?;
    stream.flush()?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Bytes that were sent and not read would break the answer off with the connection.
    stream.set_read_timeout(Some(LINGER))?;
    let mut rest = [0; 4_096];
    let mut left = BODY_MAX;
    while left > 0 {
        match stream.read(&mut rest) {
            Ok(0) | Err(_) => break,
            Ok(count) => left = left.saturating_sub(count),
        }
    }
    Ok(())
}
