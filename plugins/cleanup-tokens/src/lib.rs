//! Verger's built-in worker `cleanup-tokens`: deletes session and one-time tokens, each context
//! after an age of its own.
//!
//! A context without an age is never deleted, because only the app knows what such a token is for.
//! One audit event for each batch says how many were deleted. A token that the app's own trigger or
//! constraint keeps is counted, audited as an error, and does not stop the others.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use verger_worker::prelude::*;
use verger_worker::serde_json::Map;

/// The action in the audit log.
pub const ACTION: &str = "token.deleted";

/// How old a token of each context may become, in seconds.
pub const AGES: [(&str, i64); 5] = [
    ("api_refresh", 30 * 86_400),
    ("confirm", 48 * 3_600),
    ("magic_link", 15 * 60),
    ("reset_password", 3_600),
    ("session", 60 * 86_400),
];

/// A hundred thousand years: far from any overflow.
const MAX_AGE_SECONDS: i64 = 36_500_000 * 86_400;

/// The most contexts with an age, those above included.
const MAX_CONTEXTS: usize = 100;

const MAX_CONTEXT_BYTES: usize = 128;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct CleanupTokens;

impl Worker for CleanupTokens {
    fn manifest(&self) -> Manifest {
        Manifest::new("cleanup-tokens", env!("CARGO_PKG_VERSION"))
            .common_sql()
            .description("Deletes session and one-time tokens, each context after its own age.")
            .arg(
                "table",
                ArgSpec::default_value("tokens").describe("The table or view of the tokens."),
            )
            .arg(
                "max_age_seconds",
                ArgSpec::default_value(json!({})).describe(
                    "Seconds a token is kept, by context: an object. It is laid over confirm 172800, reset_password 3600, magic_link 900, session 5184000, api_refresh 2592000; null keeps a context for ever.",
                ),
            )
            .arg("timestamps", TimeFormat::arg())
            .arg("batch_size", Walk::batch_size_arg(1000, "Rows deleted"))
            .table(TableAsk::from_arg("table", "tokens").read().delete())
            .schedule(Suggested::Cron("20 * * * *".into()))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let table = args.ident("table")?;
        let times = TimeFormat::from_args(args)?;
        let ages = ages(args)?;
        let batch_size = Walk::batch_size(args)?;
        let now = job.now();
        let of = |context| AgedRows { table: &table, column: "context", kind: context, times };
        for (context, seconds) in &ages {
            of(context).check(job, now - seconds * 1000)?;
        }
        let (mut scanned, mut tally) = (0, AgedTally::default());
        for (context, seconds) in &ages {
            let metadata = Map::from_iter([("max_age_seconds".to_string(), json!(seconds))]);
            let audit = AgedAudit { action: ACTION, subject: "token", metadata };
            let rows = of(context);
            let mut sweep = AgedSweep::new(rows, now - seconds * 1000, &audit, &mut tally);
            let params = sweep.params();
            scanned += job.sweep(&rows.walk(), &params, batch_size, scanned, &mut sweep)?;
        }
        Ok(Outcome::DoneWith(tally.result()))
    }
}

verger_worker::export!(CleanupTokens);

/// The age of each context that has one: the built-in ages, overridden by the job's.
fn ages(args: &Args) -> Result<BTreeMap<String, i64>, ArgError> {
    let wrong = |reason: String| ArgError::Wrong { key: "max_age_seconds".into(), reason };
    let mut ages: BTreeMap<String, i64> =
        AGES.iter().map(|(context, age)| (context.to_string(), *age)).collect();
    let own = match args.as_map().get("max_age_seconds") {
        None | Some(Json::Null) => return Ok(ages),
        Some(Json::Object(own)) => own,
        Some(_) => return Err(wrong("must be an object of seconds by context".into())),
    };
    for (context, age) in own {
        if context.is_empty()
            || context.len() > MAX_CONTEXT_BYTES
            || context.chars().any(char::is_control)
        {
            return Err(wrong(format!(
                "a context has 1 to {MAX_CONTEXT_BYTES} bytes and no control characters, not {context:?}"
            )));
        }
        match (age, age.as_i64()) {
            (Json::Null, _) => {
                ages.remove(context);
            }
            (_, Some(seconds)) if (1..=MAX_AGE_SECONDS).contains(&seconds) => {
                ages.insert(context.clone(), seconds);
            }
            _ => {
                return Err(wrong(format!(
                    "the age of {context:?} must be null or a whole number from 1 to {MAX_AGE_SECONDS}"
                )));
            }
        }
    }
    if ages.len() > MAX_CONTEXTS {
        return Err(wrong(format!("has more than {MAX_CONTEXTS} contexts")));
    }
    Ok(ages)
}
