//! Verger's built-in worker `deliver-email`: sends the mail that waits in an outbox table, by the
//! app's function [`MAILER`].
//!
//! A row is claimed and that is committed before it is sent; how sending ended is committed after.
//! So no two runs send one row, and a row whose sending was heard to succeed is never sent again. A
//! row that fails is tried again with backoff, until its attempts are used up or the function says
//! that trying is of no use: then it is `dead`.
//!
//! What nobody can hear is a success followed by the end of the process. Such a row is found
//! `sending` once its claim is over. By default it is sent again, with the same Message-ID as
//! before: servers and mail programs that look at it show one message. With the arg `interrupted`
//! set to `dead` it is not sent again and says why.

use serde_json::Value as Json;
use verger_worker::code;
use verger_worker::prelude::*;

pub mod sql;

/// The app's function that sends: `{"to", "subject", "text", "message_id", "idempotency_key",
/// "attempt", "organization_id"}`. An error is tried again; `{"sent": false, "reason": text}` is
/// not, unless it says `"permanent": false`. Any other answer is a success, and its
/// `provider_message_id`, if there is one, is kept in the row.
pub const MAILER: &str = "mailer";

/// The action in the audit log of a message that was sent.
pub const SENT: &str = "email.sent";

/// The action in the audit log of an attempt that failed.
pub const FAILED: &str = "email.failed";

/// The action in the audit log of a message that is not tried any more.
pub const DEAD: &str = "email.dead";

const MAX_CLAIM_SECONDS: i64 = 86_400;

const MAX_LIMIT: i64 = 1_000_000;

/// The first wait after a failure, doubled with each further one.
const FIRST_WAIT_MS: i64 = 60_000;

/// The longest wait.
const LONGEST_WAIT_MS: i64 = 6 * 3_600_000;

/// So many failures one after the other end the run: the server is down, and the others keep their
/// attempts.
const FAILURES_IN_A_ROW: u32 = 5;

/// Rows looked up at once.
const BATCH: i64 = 50;

/// Time that a run keeps for writing down how the last message ended.
const RESERVE_MS: i64 = 5_000;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeliverEmail;

impl Worker for DeliverEmail {
    fn manifest(&self) -> Manifest {
        Manifest::new("deliver-email", env!("CARGO_PKG_VERSION"))
            .description("Sends the mail that waits in an outbox table.")
            .arg(
                "table",
                ArgSpec::default_value("email_outbox")
                    .describe("The table or view of the messages."),
            )
            .arg(
                "message_id_domain",
                ArgSpec::default_value("verger.invalid")
                    .describe("What stands behind the @ of each Message-ID: a domain of yours."),
            )
            .arg(
                "interrupted",
                ArgSpec::default_value("resend").describe(
                    "What becomes of a row whose sending ended with the process, so that nobody knows whether it was sent: resend or dead.",
                ),
            )
            .arg(
                "claim_seconds",
                ArgSpec::default_value(900).describe(
                    "How long a row that is being sent is left alone: 1 to 86400, longer than the longest run.",
                ),
            )
            .arg(
                "limit",
                ArgSpec::default_value(1000)
                    .describe("Messages one run tries to send: 1 to 1000000."),
            )
            .arg("timestamps", TimeFormat::arg())
            .table(TableAsk::from_arg("table", "email_outbox").read().update())
            .capability(MAILER)
            .schedule(Suggested::EveryMs(60_000))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let table = args.ident("table")?;
        let times = TimeFormat::from_args(args)?;
        times.check(job, &table, "next_attempt_at", sql::OPEN, job.now())?;
        let mut run = Delivery {
            due: sql::due(&table, times),
            claim: sql::claim(&table, times),
            give_back: sql::give_back(&table, times),
            sent: sql::sent(&table, times),
            failed: sql::failed(&table, times),
            dead: sql::dead(&table, times),
            domain: domain(args)?,
            resends: resends(args)?,
            claim_ms: args.positive("claim_seconds", MAX_CLAIM_SECONDS)? * 1000,
            tally: Tally::default(),
            failures: 0,
        };
        run.deliver(job, args.positive("limit", MAX_LIMIT)?)?;
        Ok(Outcome::DoneWith(run.tally.result()))
    }
}

verger_worker::export!(DeliverEmail);

fn domain(args: &Args) -> Result<String, ArgError> {
    let wrong = || ArgError::Wrong {
        key: "message_id_domain".into(),
        reason: "must be a domain: 1 to 253 ASCII letters, digits, `-` and `.`".into(),
    };
    let domain: String = args.get("message_id_domain")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let is_domain = !domain.is_empty()
        && domain.len() <= 253
        && domain.chars().all(plain)
        && !domain.split('.').any(|label| label.is_empty());
    if is_domain { Ok(domain) } else { Err(wrong()) }
}

fn resends(args: &Args) -> Result<bool, ArgError> {
    match args.get::<String>("interrupted")?.as_str() {
        "resend" => Ok(true),
        "dead" => Ok(false),
        _ => Err(ArgError::Wrong {
            key: "interrupted".into(),
            reason: "must be resend or dead".into(),
        }),
    }
}

/// How many messages ended how.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    sent: u64,
    failed: u64,
    dead: u64,
}

impl Tally {
    fn result(self) -> Json {
        json!({ "sent": self.sent, "failed": self.failed, "dead": self.dead })
    }
}

/// A row that is due.
struct Message {
    id: Value,
    organization: Option<String>,
    recipient: Value,
    subject: Value,
    body: Value,
    is_sending: bool,
    attempts: i64,
    max_attempts: i64,
    /// As it is stored: a claim is of the row as it was read.
    next_attempt_at: Value,
}

impl Message {
    fn read(mut row: Row) -> Result<Self, HostError> {
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

    /// The same for every attempt, and another for every row: the id's letters and digits as they
    /// are, any other byte in hexadecimal digits.
    fn idempotency_key(&self) -> String {
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

    fn about(&self, event: AuditEvent) -> AuditEvent {
        event.organization(self.organization.clone()).subject("email", self.id_text())
    }
}

/// How an attempt to send a message ended.
enum Sending {
    Sent {
        provider_message_id: Option<String>,
    },
    /// It may go well another time.
    Failed(String),
    /// It never will.
    Refused(String),
}

struct Delivery {
    due: String,
    claim: String,
    give_back: String,
    sent: String,
    failed: String,
    dead: String,
    domain: String,
    resends: bool,
    claim_ms: i64,
    tally: Tally,
    failures: u32,
}

impl Delivery {
    fn deliver(&mut self, job: &Context<'_>, limit: i64) -> Result<(), HostError> {
        let mut tried = 0;
        while tried < limit {
            let size = BATCH.min(limit - tried);
            // What was tried is not due any more, so the next ones come first.
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
    fn take(&mut self, job: &Context<'_>, message: &Message) -> Result<(), HostError> {
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
                    // Whatever the app's table makes of it, it must not be sent again.
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
                // Nobody was asked to send it: it keeps its attempt and its turn.
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

    /// What the app's function made of it. An error means that it was not called.
    fn send(&self, job: &Context<'_>, request: &Json) -> Result<Sending, HostError> {
        let reply = match job.call(MAILER, request) {
            Ok(reply) => reply,
            Err(error) if error.code == code::CAPABILITY => {
                return Ok(Sending::Failed(error.message));
            }
            // Larger than a call may be, today and tomorrow.
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
        // None: the claim was over and another run has it, or the app took the row away.
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

/// What of a text from outside is kept: 500 characters.
fn beginning(text: &str) -> String {
    text.chars().take(500).collect()
}
