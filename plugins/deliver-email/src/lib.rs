//! Verger's built-in worker `deliver-email`: sends the mail that waits in an outbox table, by the
//! app's function [`MAILER`].
//!
//! A row is claimed, and that is committed before it is sent. How sending ended is committed after.
//! So no two runs send one row, and a row that is known to be sent is never sent again. A row that
//! fails is tried again with backoff, until its attempts are used up or the function says that
//! trying is of no use. Then it is `dead`.
//!
//! If the process ends after a success, nobody knows of the success. Such a row is still `sending`
//! when its claim is over. By default it is sent again, with the same Message-ID as before, by
//! which servers and mail programs show one message. With the arg `interrupted` set to `dead` it is
//! not sent again and says why.

mod delivery;
mod message;
pub mod sql;

use verger_worker::prelude::*;

use self::delivery::{Delivery, Tally};

/// The app's function that sends: `{"to", "subject", "text", "message_id", "idempotency_key",
/// "attempt", "organization_id"}`. After an error it is tried again. After `{"sent": false,
/// "reason": text}` it is not, unless that says `"permanent": false`. Any other answer is a
/// success, and its `provider_message_id`, if there is one, is kept in the row.
pub const MAILER: &str = "mailer";

/// The action in the audit log of a message that was sent.
pub const SENT: &str = "email.sent";

/// The action in the audit log of an attempt that failed.
pub const FAILED: &str = "email.failed";

/// The action in the audit log of a message that is not tried again.
pub const DEAD: &str = "email.dead";

const MAX_CLAIM_SECONDS: i64 = 86_400;

const MAX_LIMIT: i64 = 1_000_000;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeliverEmail;

impl Worker for DeliverEmail {
    fn manifest(&self) -> Manifest {
        Manifest::new("deliver-email", env!("CARGO_PKG_VERSION"))
            .common_sql()
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
