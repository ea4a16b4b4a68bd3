//! The Verger that the examples of the documentation use.

use verger_worker::prelude::*;

use crate::verger::Verger;

/// Notes the address it is sent.
struct SendMail;

impl Worker for SendMail {
    fn manifest(&self) -> Manifest {
        Manifest::new("send-mail", "1.0.0").arg("to", ArgSpec::required())
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(Outcome::DoneWith(serde_json::json!({ "sent": args.get::<String>("to")? })))
    }
}

/// A Verger in memory that has one worker, `send-mail`, with one arg, `to`: for examples and for
/// trying things out.
///
/// ```
/// let verger = verger::testing::example();
/// let sent = verger.perform_now("send-mail", serde_json::json!({"to": "ann@example.org"}))?;
/// assert_eq!(sent.result().unwrap()["sent"], "ann@example.org");
/// # Ok::<(), verger::Error>(())
/// ```
///
/// # Panics
/// When no database in memory can be opened.
#[must_use]
#[allow(clippy::expect_used, reason = "the kit says what went wrong, and ends the test")]
pub fn example() -> Verger {
    Verger::in_memory()
        .without_built_ins()
        .worker(SendMail)
        .open()
        .expect("a database in memory opens")
}
