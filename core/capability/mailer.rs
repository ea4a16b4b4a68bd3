//! The capability `mailer`: mail by a server that the app names.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use lettre::message::{Mailbox, MessageBuilder, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Message, SmtpTransport, Transport};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{CapabilityCall, InvalidCapability};
use crate::mutex::lock;
use crate::time::Timestamp;

/// Messages that are known to have been sent, so that none is sent twice by this process.
const REMEMBERED: usize = 10_000;

const SUBJECT_BYTES: usize = 998;

const MESSAGE_ID_BYTES: usize = 250;

/// The time one exchange with the server may take, whatever is left of the whole.
const COMMAND_TIME: Duration = Duration::from_secs(30);

/// How the connection to the server is kept from being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// TLS from the first byte.
    Tls,
    /// TLS by STARTTLS, or nothing is sent.
    StartTls,
    /// None.
    Plain,
}

/// Mail by SMTP, as a capability for workers that are granted it; `deliver-email` sends the mail of an
/// outbox table by it.
///
/// A worker calls it with `{"to", "cc", "bcc", "reply_to", "subject", "text", "html", "message_id"}`,
/// addresses as text or as a list of texts, and is answered with `{"sent": true, "message_id",
/// "response"}`. What the server refuses for good, as an unknown recipient, is answered with
/// `{"sent": false, "permanent": true, "reason"}`; anything else that fails is an error, to be tried
/// again. In Rust it has [`Email`](verger_worker::Email).
///
/// - Who sends is the app's to say, and no header but those named here is a worker's. A line break in
///   an address or a subject is refused, so that no header can be slipped in.
/// - A `message_id` that this process has sent is answered as sent and not sent again: a worker whose
///   note of that was lost may ask again.
/// - It is slow: a worker calls it outside its write transaction, or is refused with the code
///   `checkpoint-first`.
/// - Sizes, time, recipients and the number of messages are bounded. In a dry run nothing is sent.
///
/// ```no_run
/// use verger::{Mailer, Secret, Verger};
///
/// let mailer = Mailer::smtp("mail.example.com", "Example <no-reply@example.com>")?
///     .login("no-reply@example.com", "smtp-password");
/// let verger = Verger::builder("app.db")
///     .mailer(mailer)
///     .secret("smtp-password", Secret::from_fn(|| Ok("from the key chain".to_string())))
///     .open()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Mailer {
    server: String,
    port: u16,
    security: Security,
    from: Mailbox,
    /// A user's name, and the name of the secret that is its password.
    login: Option<(String, String)>,
    timeout: Duration,
    message_bytes: usize,
    recipients: usize,
    pub(super) per_minute: u32,
    domains: Vec<String>,
    sent: Arc<Mutex<Sent>>,
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer")
            .field("server", &self.server)
            .field("port", &self.port)
            .field("security", &self.security)
            .field("from", &self.from.to_string())
            .finish_non_exhaustive()
    }
}

/// What was sent, each with the server's answer. The oldest are forgotten.
#[derive(Default)]
struct Sent {
    answers: HashMap<String, String>,
    order: VecDeque<String>,
}

impl Sent {
    fn remember(&mut self, key: String, answer: String) {
        if self.answers.insert(key.clone(), answer).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "an address is a text, and many are a list of texts")]
enum Addresses {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Asked {
    to: Addresses,
    cc: Option<Addresses>,
    bcc: Option<Addresses>,
    reply_to: Option<String>,
    subject: String,
    text: Option<String>,
    html: Option<String>,
    message_id: Option<String>,
}

/// Adds a recipient of one kind.
type Add = fn(MessageBuilder, Mailbox) -> MessageBuilder;

/// How sending failed.
enum Failure {
    /// The server will never take this message.
    Permanent(String),
    /// It may another time; or nobody knows what became of it.
    Other(String),
}

impl Mailer {
    /// Sends by this server, from this address: `no-reply@example.com`, or with a name,
    /// `Example <no-reply@example.com>`. By TLS on port 465.
    ///
    /// # Errors
    /// [`InvalidCapability`] for what is no address.
    pub fn smtp(server: impl Into<String>, from: &str) -> Result<Self, InvalidCapability> {
        let parsed = mailbox(from).map_err(|why| InvalidCapability::new(from, why))?;
        Ok(Self {
            server: server.into(),
            port: 465,
            security: Security::Tls,
            from: parsed,
            login: None,
            timeout: Duration::from_secs(60),
            message_bytes: 512 * 1024,
            recipients: 50,
            per_minute: 60,
            domains: Vec::new(),
            sent: Arc::default(),
        })
    }

    /// By STARTTLS on port 587: nothing is sent to a server that does not offer it.
    #[must_use]
    pub fn starttls(mut self) -> Self {
        (self.security, self.port) = (Security::StartTls, 587);
        self
    }

    /// With no TLS, on port 25: for a server on this machine.
    #[must_use]
    pub fn without_tls(mut self) -> Self {
        (self.security, self.port) = (Security::Plain, 25);
        self
    }

    /// On another port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Logs in as this user, with the password that [`Builder::secret`](crate::Builder::secret) has
    /// under this name.
    #[must_use]
    pub fn login(mut self, user: impl Into<String>, secret: impl Into<String>) -> Self {
        self.login = Some((user.into(), secret.into()));
        self
    }

    /// Only to addresses of this domain; call it again for more.
    #[must_use]
    pub fn only_to(mut self, domain: impl Into<String>) -> Self {
        self.domains.push(domain.into().to_ascii_lowercase());
        self
    }

    /// How long one message may take; never longer than the attempt. Default 60 s.
    #[must_use]
    pub fn timeout(mut self, most: Duration) -> Self {
        self.timeout = most;
        self
    }

    /// Bytes of a message's texts. Default 512 KiB.
    #[must_use]
    pub fn message_bytes(mut self, most: usize) -> Self {
        self.message_bytes = most;
        self
    }

    /// Recipients of a message, copies included. Default 50.
    #[must_use]
    pub fn recipients(mut self, most: usize) -> Self {
        self.recipients = most;
        self
    }

    /// Messages that each worker may send in a minute. Default 60.
    #[must_use]
    pub fn per_minute(mut self, messages: u32) -> Self {
        self.per_minute = messages;
        self
    }

    /// Answers a call.
    ///
    /// # Errors
    /// In words, for the worker, with no secret in them.
    pub(super) fn call(&self, call: &CapabilityCall<'_>) -> Result<Json, String> {
        let refused = |why: String| Ok(json!({"sent": false, "permanent": true, "reason": why}));
        let (message, id) = match self.message(call.request, call.now) {
            Ok(message) => message,
            Err(why) => return refused(why),
        };
        let key = format!("{} {id}", call.worker);
        if let Some(answer) = self.sent().answers.get(&key) {
            return Ok(json!({
                "sent": true, "message_id": id, "response": answer, "was_sent_before": true,
            }));
        }
        if call.is_dry_run {
            return Ok(json!({"sent": true, "message_id": id, "response": "dry run"}));
        }
        let password = match &self.login {
            Some((_, secret)) => Some(call.secrets.for_the_app(secret)?),
            None => None,
        };
        let hide = |text: String| match &password {
            Some(password) => {
                let mut eraser = super::secrets::Eraser::default();
                eraser.add("of the mail server", password);
                eraser.text(&text)
            }
            None => text,
        };
        match self.send(message, password.as_deref(), key, self.timeout.min(call.time_left)) {
            Ok(answer) => Ok(json!({"sent": true, "message_id": id, "response": hide(answer)})),
            Err(Failure::Permanent(why)) => refused(hide(why)),
            Err(Failure::Other(why)) => Err(hide(why)),
        }
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Sent> {
        lock(&self.sent)
    }

    /// The message, and its id.
    fn message(&self, request: &Json, now: Timestamp) -> Result<(Message, String), String> {
        let asked = Asked::deserialize(request)
            .map_err(|error| format!("the message is not usable: {error}"))?;
        if asked.subject.len() > SUBJECT_BYTES {
            return Err(format!("the subject has more than {SUBJECT_BYTES} bytes"));
        }
        if asked.subject.chars().any(char::is_control) {
            return Err("the subject has a line break or another control character".to_string());
        }
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        if length(&asked.text) + length(&asked.html) > self.message_bytes {
            return Err(format!("the message has more than {} bytes", self.message_bytes));
        }
        let id = match asked.message_id {
            Some(id) => message_id(&id)?,
            None => format!("<{}@{}>", unique(request, now), self.from.email.domain()),
        };
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(asked.subject)
            .message_id(Some(id.clone()))
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        let mut count = 0;
        let groups: [(Option<Addresses>, Add); 3] = [
            (Some(asked.to), MessageBuilder::to),
            (asked.cc, MessageBuilder::cc),
            (asked.bcc, MessageBuilder::bcc),
        ];
        for (addresses, add) in groups {
            for address in all(addresses) {
                count += 1;
                message = add(message, self.recipient(&address)?);
            }
        }
        if count == 0 || count > self.recipients {
            return Err(format!("a message has 1 to {} recipients, not {count}", self.recipients));
        }
        if let Some(address) = &asked.reply_to {
            message = message.reply_to(mailbox(address)?);
        }
        let built = match (asked.text, asked.html) {
            (Some(text), Some(html)) => {
                message.multipart(MultiPart::alternative_plain_html(text, html))
            }
            (Some(text), None) => message.singlepart(SinglePart::plain(text)),
            (None, Some(html)) => message.singlepart(SinglePart::html(html)),
            (None, None) => return Err("the message has neither text nor html".to_string()),
        };
        Ok((built.map_err(|error| format!("the message is not usable: {error}"))?, id))
    }

    fn recipient(&self, address: &str) -> Result<Mailbox, String> {
        let mailbox = mailbox(address)?;
        let domain = mailbox.email.domain().to_ascii_lowercase();
        if self.domains.is_empty() || self.domains.contains(&domain) {
            Ok(mailbox)
        } else {
            Err(format!("the app does not allow mail to the domain {domain}"))
        }
    }

    /// Sends on a thread of its own, which nobody waits for longer than so long. What it sends after
    /// that is remembered all the same.
    fn send(
        &self,
        message: Message,
        password: Option<&str>,
        key: String,
        time: Duration,
    ) -> Result<String, Failure> {
        let other = |error: &dyn fmt::Display| Failure::Other(error.to_string());
        let tls = || TlsParameters::new(self.server.clone()).map_err(|error| other(&error));
        let mut transport = SmtpTransport::builder_dangerous(&self.server)
            .port(self.port)
            .timeout(Some(time.min(COMMAND_TIME).max(Duration::from_millis(1))))
            .tls(match self.security {
                Security::Tls => Tls::Wrapper(tls()?),
                Security::StartTls => Tls::Required(tls()?),
                Security::Plain => Tls::None,
            });
        if let (Some((user, _)), Some(password)) = (&self.login, password) {
            transport = transport.credentials(Credentials::new(user.clone(), password.to_string()));
        }
        let transport = transport.build();
        let sent = Arc::clone(&self.sent);
        let (tell, told) = mpsc::sync_channel(1);
        let send = move || {
            let answered = transport.send(&message).map(|response| {
                let answer = response.message().collect::<Vec<_>>().join(" ");
                let mut sent = lock(&sent);
                sent.remember(key, answer.clone());
                answer
            });
            // Nobody may wait any more.
            let _ = tell.send(answered);
        };
        std::thread::Builder::new()
            .name("verger-mailer".to_string())
            .spawn(send)
            .map_err(|error| other(&error))?;
        match told.recv_timeout(time) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => Err(Failure::Other(
                "the time for the message is over: it may have been sent".to_string(),
            )),
        }
    }
}

/// What the server will never take is a reply 5yz about the message or a recipient. One about the
/// log-in or the conversation is the app's to mend.
fn failure(error: &lettre::transport::smtp::Error) -> Failure {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        why.push_str(": ");
        why.push_str(&cause.to_string());
        source = cause.source();
    }
    let code = error.status().map(|code| code.to_string());
    let is_about_the_message = matches!(
        code.as_deref(),
        Some("550" | "551" | "552" | "553" | "554" | "555" | "556" | "501")
    );
    match error.is_permanent() && is_about_the_message {
        true => Failure::Permanent(why),
        false => Failure::Other(why),
    }
}

fn all(addresses: Option<Addresses>) -> Vec<String> {
    match addresses {
        None => Vec::new(),
        Some(Addresses::One(address)) => vec![address],
        Some(Addresses::Many(addresses)) => addresses,
    }
}

/// One address, with or without a name.
fn mailbox(address: &str) -> Result<Mailbox, String> {
    if address.chars().any(char::is_control) {
        return Err(format!(
            "the address {address:?} has a line break or another control character"
        ));
    }
    address.parse().map_err(|error| format!("{address:?} is no address of mail: {error}"))
}

/// An id as RFC 5322 writes it, in angle brackets or without.
fn message_id(id: &str) -> Result<String, String> {
    let inner = id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).unwrap_or(id);
    let is_atom = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte))
    };
    match inner.split_once('@') {
        Some((left, right))
            if inner.len() <= MESSAGE_ID_BYTES && is_atom(left) && is_atom(right) =>
        {
            Ok(format!("<{inner}>"))
        }
        _ => Err(format!("the message_id {:?} is none", id.chars().take(64).collect::<String>())),
    }
}

/// An id for a message that has none: of what it says, and when.
fn unique(request: &Json, now: Timestamp) -> String {
    use sha2::{Digest, Sha256};
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let said = format!("{request} {} {next} {}", now.as_millis(), std::process::id());
    Sha256::digest(said).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(request: Json) -> Result<String, String> {
        let mailer = Mailer::smtp("localhost", "App <app@example.com>").unwrap();
        let built = mailer.only_to("example.com").message(&request, Timestamp::from_millis(0));
        built.map(|(message, _)| String::from_utf8_lossy(&message.formatted()).into_owned())
    }

    #[test]
    fn no_line_of_a_header_is_a_workers_to_write() {
        let good =
            json!({"to": "A <a@example.com>", "subject": "s", "text": "t", "message_id": "x@y.z"});
        let text = message(good.clone()).unwrap();
        assert!(text.contains("From: App <app@example.com>\r\n"), "{text}");
        assert!(text.contains("Message-ID: <x@y.z>\r\n"), "{text}");
        assert!(text.contains("Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n"), "{text}");
        for (key, value) in [
            ("to", json!("a@example.com\r\nBcc: b@example.com")),
            ("to", json!("a@example.com, b@example.com")),
            ("to", json!(["a@example.com\n"])),
            ("to", json!("\"x\r\nBcc: b\" <a@example.com>")),
            ("to", json!([])),
            ("to", json!(vec!["a@example.com"; 51])),
            ("to", json!("nobody")),
            ("to", json!("a@elsewhere.com")),
            ("bcc", json!("a@elsewhere.com")),
            ("to", json!(null)),
            ("cc", json!("x\u{0}@example.com")),
            ("reply_to", json!("a@example.com\r\nX: y")),
            ("subject", json!("s\r\nBcc: b@example.com")),
            ("subject", json!("s\nX: y")),
            ("subject", json!("s\u{0}")),
            ("subject", json!("x".repeat(999))),
            ("message_id", json!("x@y\r\nX: y")),
            ("message_id", json!("x y@z")),
            ("message_id", json!("x@y@z")),
            ("message_id", json!("<x>")),
            ("text", json!("x".repeat(512 * 1024 + 1))),
            ("text", json!(7)),
        ] {
            let mut request = good.clone();
            request[key] = value.clone();
            assert!(message(request).is_err(), "{key}: {value}");
        }
        let mut long = good;
        long["subject"] = json!("é\u{2028}".repeat(100));
        let text = message(long).unwrap();
        assert!(text.lines().all(|line| line.len() < 999 && !line.starts_with("X:")), "{text}");
    }

    #[test]
    fn a_message_without_an_id_gets_one_of_the_senders_domain() {
        let request = json!({"to": "a@example.com", "subject": "s", "html": "<p>"});
        let (one, two) = (message(request.clone()).unwrap(), message(request).unwrap());
        let id = |text: &str| {
            let line = text.lines().find(|line| line.starts_with("Message-ID: <"));
            line.unwrap().to_string()
        };
        assert!(id(&one).ends_with("@example.com>"), "{one}");
        assert_ne!(id(&one), id(&two));
    }

    #[test]
    fn only_so_many_ids_are_remembered() {
        let mut sent = Sent::default();
        for n in 0..REMEMBERED + 5 {
            sent.remember(n.to_string(), String::new());
        }
        assert_eq!((sent.answers.len(), sent.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!sent.answers.contains_key("4") && sent.answers.contains_key("5"));
    }
}
