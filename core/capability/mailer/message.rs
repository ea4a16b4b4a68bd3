//! A message as a worker asks for it, and which messages are refused.

use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::message::{Mailbox, MessageBuilder, MultiPart, SinglePart};
use serde::Deserialize;
use serde_json::Value as Json;

use super::Mailer;
use crate::time::Timestamp;

const SUBJECT_BYTES: usize = 998;

const MESSAGE_ID_BYTES: usize = 250;

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

impl Mailer {
    /// The message, and its id.
    pub(super) fn message(
        &self,
        request: &Json,
        now: Timestamp,
    ) -> Result<(Message, String), String> {
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
}

fn all(addresses: Option<Addresses>) -> Vec<String> {
    match addresses {
        None => Vec::new(),
        Some(Addresses::One(address)) => vec![address],
        Some(Addresses::Many(addresses)) => addresses,
    }
}

/// One address, with or without a name.
pub(super) fn mailbox(address: &str) -> Result<Mailbox, String> {
    if address.chars().any(char::is_control) {
        return Err(format!(
            "the address {address:?} has a line break or another control character"
        ));
    }
    address.parse().map_err(|error| format!("{address:?} is no address of mail: {error}"))
}

/// An id as RFC 5322 writes it, with or without angle brackets.
pub(super) fn message_id(id: &str) -> Result<String, String> {
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

/// A new id for a message that has none.
fn unique(request: &Json, now: Timestamp) -> String {
    use sha2::{Digest, Sha256};
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let said = format!("{request} {} {next} {}", now.as_millis(), std::process::id());
    Sha256::digest(said).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
}
