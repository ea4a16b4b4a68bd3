//! One run over the outbox.

use serde_json::Value as Json;
use verger_worker::code;
use verger_worker::prelude::*;

use super::message::Message;
use super::{DEAD, FAILED, MAILER, SENT};

/// The first wait after a failure, doubled with each further one.
const FIRST_WAIT_MS: i64 = 60_000;

/// The longest wait.
const LONGEST_WAIT_MS: i64 = 6 * 3_600_000;

/// This many failures in a row end the run, because the server is down. The other messages keep
/// their attempts.
const FAILURES_IN_A_ROW: u32 = 5;

/// Rows looked up at once.
const BATCH: i64 = 50;

/// Time that a run keeps for writing down how the last message ended.
const RESERVE_MS: i64 = 5_000;

/// How many messages ended how.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) failed: u64,
    pub(super) dead: u64,
}

impl Tally {
    pub(super) fn result(self) -> Json {
        json!({ "sent": self.sent, "failed": self.failed, "dead": self.dead })
    }
}

/// How an attempt to send a message ended.
enum Sending {
    Sent {
        provider_message_id: Option<String>,
    },
    /// It may succeed another time.
    Failed(String),
    /// It will never succeed.
    Refused(String),
}

pub(super) struct Delivery {
    pub(super) due: String,
    pub(super) claim: String,
    pub(super) give_back: String,
    pub(super) sent: String,
    pub(super) failed: String,
    pub(super) dead: String,
    pub(super) domain: String,
    pub(super) resends: bool,
    pub(super) claim_ms: i64,
    pub(super) tally: Tally,
    pub(super) failures: u32,
}

impl Delivery {
    pub(super) fn deliver(&mut self, job: &Context<'_>, limit: i64) -> Result<(), HostError> {
        let mut tried = 0;
        while tried < limit {
            let size = BATCH.min(limit - tried);
            // A message that was tried is no longer due, so the next ones come first.
            let rows = job.query(&self.due, params![job.now(), size])?;
            let messages = rows.rows().map(|row| row.and_then(Message::read));
            let messages = messages.collect::<Result<Vec<_>, _>>()?;
            let found = messages.len() as i64;
            for message in &messages {
                if job.now() + RESERVE_MS >= job.job().deadline {
                    return Ok(());
                }
                self.take(job, message)?;
                if self.failures >= FAILURES_IN_A_ROW {
                    job.log(
                        LogLevel::Warn,
                        "several messages failed one after the other: the rest waits for the next run",
                    );
                    return Ok(());
                }
            }
            tried += found;
            job.progress(self.tally.sent + self.tally.failed + self.tally.dead, 0);
            if found < size {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Claims a message, sends it, and writes down how that ended: three transactions.
    pub(super) fn take(&mut self, job: &Context<'_>, message: &Message) -> Result<(), HostError> {
        let now = job.now();
        if message.is_sending && (!self.resends || message.attempts >= message.max_attempts) {
            let why = "the process ended while it was being sent, so it may have arrived";
            return self.bury(job, message, message.attempts, why);
        }
        let (recipient, subject, body) = match (&message.recipient, &message.subject, &message.body)
        {
            (Value::Text(recipient), Value::Text(subject), Value::Text(body)) => {
                (recipient, subject, body)
            }
            _ => {
                let why = "its recipient, subject or body is no text";
                return self.bury(job, message, message.attempts, why);
            }
        };
        let claimed = job.execute(
            &self.claim,
            vec![
                message.id.clone(),
                message.next_attempt_at.clone(),
                Value::from(message.attempts),
                Value::from(now + self.claim_ms),
                Value::from(now),
            ],
        )?;
        if claimed == 0 {
            return Ok(()); // another run has it
        }
        job.checkpoint()?;
        let attempt = message.attempts + 1;
        let key = message.idempotency_key();
        let request = json!({
            "to": recipient,
            "subject": subject,
            "text": body,
            "message_id": format!("<{key}@{}>", self.domain),
            "idempotency_key": key,
            "attempt": attempt,
            "organization_id": message.organization,
        });
        match self.send(job, &request) {
            Ok(Sending::Sent { provider_message_id }) => {
                self.failures = 0;
                let noted = self.write(
                    job,
                    &self.sent,
                    vec![
                        message.id.clone(),
                        Value::from(attempt),
                        Value::from(job.now()),
                        provider_message_id.into(),
                    ],
                    message.about(AuditEvent::success(SENT)).metadata(json!({"attempt": attempt})),
                );
                match noted {
                    // Whatever the app's table does with it, it must not be sent again.
                    Err(error) if error.concerns_one_row() => {
                        let why = format!("it was sent, and the table refused to say so: {error}");
                        self.bury(job, message, attempt, &why)
                    }
                    noted => {
                        self.tally.sent += u64::from(noted.is_ok());
                        noted
                    }
                }
            }
            Ok(Sending::Refused(why)) => self.bury(job, message, attempt, &why),
            Ok(Sending::Failed(why)) if attempt >= message.max_attempts => {
                self.failures += 1;
                self.bury(job, message, attempt, &why)
            }
            Ok(Sending::Failed(why)) => {
                self.failures += 1;
                self.tally.failed += 1;
                let at = job.now() + wait(attempt);
                let event = AuditEvent::new(FAILED, EventOutcome::Failure)
                    .metadata(json!({"attempt": attempt, "reason": beginning(&why)}));
                self.write(
                    job,
                    &self.failed,
                    vec![
                        message.id.clone(),
                        Value::from(attempt),
                        Value::from(job.now()),
                        Value::from(at),
                        Value::from(beginning(&why)),
                    ],
                    message.about(event),
                )
            }
            Err(error) => {
                // Nobody was asked to send it, so it keeps its attempt and its turn.
                let key = vec![
                    message.id.clone(),
                    Value::from(attempt),
                    Value::from(now),
                    Value::from(now),
                ];
                job.execute(&self.give_back, key)?;
                job.checkpoint()?;
                Err(error)
            }
        }
    }

    /// What the app's function answered. An error means that it was not called.
    fn send(&self, job: &Context<'_>, request: &Json) -> Result<Sending, HostError> {
        let reply = match job.call(MAILER, request) {
            Ok(reply) => reply,
            Err(error) if error.code == code::CAPABILITY => {
                return Ok(Sending::Failed(error.message));
            }
            // It is larger than a call may be, now and later.
            Err(error) if error.code == code::LIMIT => return Ok(Sending::Refused(error.message)),
            Err(error) => return Err(error),
        };
        if reply.get("sent").and_then(Json::as_bool) == Some(false) {
            let reason = reply.get("reason").and_then(Json::as_str).unwrap_or("refused");
            return Ok(match reply.get("permanent").and_then(Json::as_bool) {
                Some(false) => Sending::Failed(reason.to_string()),
                _ => Sending::Refused(reason.to_string()),
            });
        }
        let id = reply.get("provider_message_id").and_then(Json::as_str);
        Ok(Sending::Sent { provider_message_id: id.map(beginning) })
    }

    fn bury(
        &mut self,
        job: &Context<'_>,
        message: &Message,
        attempt: i64,
        why: &str,
    ) -> Result<(), HostError> {
        self.tally.dead += 1;
        let why = beginning(why);
        let event = AuditEvent::error(DEAD).metadata(json!({"attempt": attempt, "reason": why}));
        self.write(
            job,
            &self.dead,
            vec![
                message.id.clone(),
                Value::from(attempt),
                Value::from(job.now()),
                Value::from(why),
            ],
            message.about(event),
        )
    }

    /// Writes down how a message ended, and commits that.
    fn write(
        &self,
        job: &Context<'_>,
        sql: &str,
        params: Vec<Value>,
        event: AuditEvent,
    ) -> Result<(), HostError> {
        // No row changed: the claim was over and another run has it, or the app deleted the row.
        if job.execute(sql, params)? > 0 {
            job.audit_batch(&[event])?;
        }
        job.checkpoint()
    }
}

/// How long a message waits after this attempt, in milliseconds.
fn wait(attempt: i64) -> i64 {
    let doublings = u32::try_from(attempt.clamp(1, 20) - 1).unwrap_or(0);
    (FIRST_WAIT_MS << doublings).min(LONGEST_WAIT_MS)
}

/// The first 500 characters of a text from outside.
fn beginning(text: &str) -> String {
    text.chars().take(500).collect()
}
