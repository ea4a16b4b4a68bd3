//! The capability `mailer`: mail through a server that the app names.

mod delivery;
mod message;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::client::Certificate;
use serde_json::{Value as Json, json};

use self::delivery::{Failure, Sent};
use self::message::mailbox;
use super::{CapabilityCall, InvalidCapability, authorities};
use crate::mutex::lock;

/// How the connection to the server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// TLS from the first byte.
    Tls,
    /// TLS by STARTTLS, or nothing is sent.
    StartTls,
    /// None.
    Plain,
}

/// Mail by SMTP, as a capability for workers that are granted it. The built-in worker
/// `deliver-email` sends the mail of an outbox table with it.
///
/// A worker calls it with `{"to", "cc", "bcc", "reply_to", "subject", "text", "html",
/// "message_id"}`, addresses as text or as a list of texts, and is answered with `{"sent": true,
/// "message_id", "response"}`. If the server refuses a message for good, as for an unknown
/// recipient, the answer is `{"sent": false, "permanent": true, "reason"}`. Any other failure is an
/// error, and may be tried again. In Rust a worker uses [`Email`](verger_worker::Email).
///
/// - The app says who sends. A worker sets only the headers named here. A line break in an address
///   or a subject is refused, so that no header can be slipped in.
/// - A `message_id` that this process has sent is answered as sent and not sent again, so a worker
///   that lost its note of that may ask again.
/// - It is slow: a worker that calls it inside its write transaction is refused with the code
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
    /// What is trusted in the place of the public authorities.
    roots: Vec<Certificate>,
    from: Mailbox,
    /// The user's name, and the name of the secret that is the password.
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

impl Mailer {
    /// Sends through this server, by TLS on port 465. The address is the sender's:
    /// `no-reply@example.com`, or with a name, `Example <no-reply@example.com>`.
    ///
    /// # Errors
    /// [`InvalidCapability`] for what is no address.
    pub fn smtp(server: impl Into<String>, from: &str) -> Result<Self, InvalidCapability> {
        let parsed = mailbox(from).map_err(|why| InvalidCapability::new(from, why))?;
        Ok(Self {
            server: server.into(),
            port: 465,
            security: Security::Tls,
            roots: Vec::new(),
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

    /// Uses STARTTLS on port 587. Nothing is sent to a server that does not offer it.
    #[must_use]
    pub fn starttls(mut self) -> Self {
        (self.security, self.port) = (Security::StartTls, 587);
        self
    }

    /// Uses no TLS, on port 25. This is for a server on this machine.
    #[must_use]
    pub fn without_tls(mut self) -> Self {
        (self.security, self.port) = (Security::Plain, 25);
        self
    }

    /// Trusts the server if one of these authorities issued its certificate, and otherwise not, as
    /// for a server of your own network. The text is PEM, with one certificate or more. By default
    /// the authorities of Mozilla's list are trusted, which is part of the app.
    ///
    /// # Errors
    /// [`InvalidCapability`] for a text without certificates, or with one that cannot be read.
    pub fn root_certificates(mut self, pem: &str) -> Result<Self, InvalidCapability> {
        let certificate = |der: &[u8]| {
            let made = Certificate::from_der(der.to_vec());
            made.map_err(|error| InvalidCapability::new("a root certificate", error.to_string()))
        };
        let read = authorities::read(pem)?;
        self.roots = read.iter().map(|der| certificate(der)).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Uses another port.
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

    /// Sends only to addresses of this domain. Call it again for more domains.
    #[must_use]
    pub fn only_to(mut self, domain: impl Into<String>) -> Self {
        self.domains.push(domain.into().to_ascii_lowercase());
        self
    }

    /// How long one message may take. It is never longer than the attempt. Default 60 s.
    #[must_use]
    pub fn timeout(mut self, most: Duration) -> Self {
        self.timeout = most;
        self
    }

    /// The most bytes of a message's texts. Default 512 KiB.
    #[must_use]
    pub fn message_bytes(mut self, most: usize) -> Self {
        self.message_bytes = most;
        self
    }

    /// The most recipients of a message, copies included. Default 50.
    #[must_use]
    pub fn recipients(mut self, most: usize) -> Self {
        self.recipients = most;
        self
    }

    /// The most messages that each worker may send in a minute. Default 60.
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
}
