//! A row of the outbox.

use verger_worker::prelude::*;

/// A row that is due.
pub(super) struct Message {
    pub(super) id: Value,
    pub(super) organization: Option<String>,
    pub(super) recipient: Value,
    pub(super) subject: Value,
    pub(super) body: Value,
    pub(super) is_sending: bool,
    pub(super) attempts: i64,
    pub(super) max_attempts: i64,
    /// The value as it is stored, because a claim is of the row as it was read.
    pub(super) next_attempt_at: Value,
}

impl Message {
    pub(super) fn read(mut row: Row) -> Result<Self, HostError> {
        Ok(Self {
            next_attempt_at: row.take(0)?,
            id: row.take(1)?,
            organization: row.take::<Value>(2)?.as_id().map(std::borrow::Cow::into_owned),
            recipient: row.take(3)?,
            subject: row.take(4)?,
            body: row.take(5)?,
            is_sending: row.take(6)?,
            attempts: row.take(7)?,
            max_attempts: row.take(8)?,
        })
    }

    fn id_text(&self) -> String {
        self.id.as_id().unwrap_or_default().into_owned()
    }

    /// The same key for every attempt, and another one for every row: the id's letters and digits
    /// as they are, any other byte in hexadecimal digits.
    pub(super) fn idempotency_key(&self) -> String {
        let mut key = String::from("outbox-");
        for byte in self.id_text().bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => key.push(char::from(byte)),
                other => {
                    key.push('_');
                    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0');
                    key.push(digit(other >> 4));
                    key.push(digit(other & 15));
                }
            }
        }
        key
    }

    pub(super) fn about(&self, event: AuditEvent) -> AuditEvent {
        event.organization(self.organization.clone()).subject("email", self.id_text())
    }
}
