//! Handing a message to the server, and remembering what was sent.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{CertificateStore, Tls, TlsParameters};
use lettre::{Message, SmtpTransport, Transport};

use super::{Mailer, Security};
use crate::mutex::lock;

/// How many sent messages are remembered, so that this process sends none of them twice.
pub(super) const REMEMBERED: usize = 10_000;

/// The most time one exchange with the server may take.
const COMMAND_TIME: Duration = Duration::from_secs(30);

/// What was sent, each with the server's answer. The oldest are forgotten.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) answers: HashMap<String, String>,
    pub(super) order: VecDeque<String>,
}

impl Sent {
    pub(super) fn remember(&mut self, key: String, answer: String) {
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

/// How sending failed.
pub(super) enum Failure {
    /// The server will never take this message.
    Permanent(String),
    /// It may take it another time, or nobody knows whether it did.
    Other(String),
}

impl Mailer {
    /// Sends on a thread of its own, and waits for it no longer than `time`. What it sends after
    /// that is remembered all the same.
    pub(super) fn send(
        &self,
        message: Message,
        password: Option<&str>,
        key: String,
        time: Duration,
    ) -> Result<String, Failure> {
        let other = |error: &dyn fmt::Display| Failure::Other(error.to_string());
        let tls = || {
            let mut tls = TlsParameters::builder(self.server.clone());
            if !self.roots.is_empty() {
                tls = tls.certificate_store(CertificateStore::None);
            }
            for root in &self.roots {
                tls = tls.add_root_certificate(root.clone());
            }
            tls.build().map_err(|error| other(&error))
        };
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
            // Nobody may be waiting any more.
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

/// The server will never take a message if it replies 5yz about the message or a recipient. A 5yz
/// reply about the log-in or the conversation is for the app to mend.
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

#[cfg(test)]
mod tests {
    use super::*;

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
