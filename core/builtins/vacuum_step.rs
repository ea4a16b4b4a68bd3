//! The built-in worker `vacuum-step`. In steps of some milliseconds it gives the file's free pages
//! back, and lets SQLite refresh the statistics that it plans queries by.
//!
//! It is part of the library and no component, because only the engine can do what it asks for.

use serde_json::{Value as Json, json};
use verger_worker::{
    ArgSpec, Args, AuditEvent, Context, HostError, LogLevel, Manifest, Outcome, Scope, Suggested,
    Worker, WorkerError,
};

use crate::run::{ANALYZE, VACUUM};

/// The action in the audit log.
const ACTION: &str = "database.vacuumed";

const MAX_PAGES_A_STEP: i64 = 10_000;

/// Pages of the largest file SQLite can have.
const MAX_PAGES: i64 = 4_294_967_294;

/// The most tables one run analyzes.
const MAX_TABLES: usize = 1_000;

/// What the log says of a file that gives no pages back.
const OFF: &str = "auto_vacuum is off in this file, so no page can be given back: to have it on, run PRAGMA auto_vacuum = INCREMENTAL and then VACUUM, once, while nothing else uses the file";

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct VacuumStep;

impl Worker for VacuumStep {
    fn manifest(&self) -> Manifest {
        Manifest::new("vacuum-step", env!("CARGO_PKG_VERSION"))
            .description("Gives the file's free pages back and refreshes what SQLite's plans rest on, in small steps.")
            .arg(
                "pages_per_step",
                ArgSpec::default_value(100)
                    .describe("Pages given back between two commits: 1 to 10000."),
            )
            .arg(
                "max_pages",
                ArgSpec::default_value(Json::Null)
                    .describe("Pages given back in one run: 1 or more; null: all that are free."),
            )
            .arg(
                "optimize",
                ArgSpec::default_value(true)
                    .describe("Whether to run what PRAGMA optimize advises, a table at a time."),
            )
            .capability(VACUUM)
            .capability(ANALYZE)
            .schedule(Suggested::Cron("50 4 * * *".into()))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let step = args.positive("pages_per_step", MAX_PAGES_A_STEP)?;
        let most = match args.opt::<Json>("max_pages")? {
            None => u64::MAX,
            Some(_) => args.positive("max_pages", MAX_PAGES)?.unsigned_abs(),
        };
        let optimize: bool = args.get("optimize")?;
        let (mode, freed, free) = vacuum(job, step.unsigned_abs(), most)?;
        let (analyzed, errors) = if optimize { analyze(job)? } else { (0, 0) };
        let mut result = json!({
            "auto_vacuum": mode, "freed_pages": freed, "free_pages": free, "analyzed": analyzed,
        });
        if errors > 0 {
            result["errors"] = json!(errors);
        }
        if mode == "none" {
            job.log(LogLevel::Info, OFF);
            result["note"] = json!(OFF);
        }
        Ok(Outcome::DoneWith(result))
    }
}

/// Gives pages back. Returns how the file does it, how many were freed, and how many are left.
fn vacuum(job: &Context<'_>, step: u64, most: u64) -> Result<(String, u64, u64), HostError> {
    let mut freed = 0;
    loop {
        let reply = job.call(VACUUM, &json!({ "pages": step.min(most - freed) }))?;
        let count = |key: &str| reply[key].as_u64().unwrap_or(0);
        let (now_freed, free) = (count("freed"), count("free"));
        freed += now_freed;
        job.progress(freed, freed + free);
        if now_freed == 0 || free == 0 || freed >= most {
            if freed > 0 {
                let told = json!({ "freed_pages": freed, "free_pages": free });
                job.audit(AuditEvent::success(ACTION).metadata(told))?;
            }
            let mode = reply["auto_vacuum"].as_str().unwrap_or("none").to_string();
            return Ok((mode, freed, free));
        }
        job.checkpoint()?;
    }
}

/// Analyzes tables, one between two commits. Returns how many, and how many failed.
fn analyze(job: &Context<'_>) -> Result<(usize, usize), HostError> {
    let (mut done, mut errors): (Vec<String>, usize) = (Vec::new(), 0);
    while done.len() < MAX_TABLES {
        job.checkpoint()?;
        let reply = job.call(ANALYZE, &json!({ "done": done }))?;
        let Some(ran) = reply["ran"].as_str() else { break };
        if let Some(why) = reply["error"].as_str() {
            errors += 1;
            job.log(LogLevel::Warn, &format!("{ran} failed: {why}"));
        }
        done.push(ran.to_string());
    }
    Ok((done.len() - errors, errors))
}
