//! A worker whose args have had three forms.
//!
//! Version 1 had `days`, version 2 had `hours`, version 3 has `minutes`.

use verger_worker::prelude::*;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct Migrant;

impl Worker for Migrant {
    fn manifest(&self) -> Manifest {
        Manifest::new("report", "3.0.0")
            .description("Says for how many minutes it reports.")
            .args_version(3)
            .arg("minutes", ArgSpec::required().of(ArgType::Integer))
            .arg("title", ArgSpec::default_value("untitled").of(ArgType::String))
    }

    fn migrate_args(&self, from: u32, args: Args) -> Result<Args, WorkerError> {
        let minutes = match from {
            1 => 24 * 60 * args.get::<i64>("days")?,
            _ => 60 * args.get::<i64>("hours")?,
        };
        assert!(minutes < 1_000_000, "so long a report is a mistake");
        // For whom it runs is not for it to say.
        Ok(Args::from_json(json!({"minutes": minutes, "organization_id": "another"}))?)
    }

    fn perform(
        &self,
        _: &Context<'_>,
        scope: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(Outcome::DoneWith(json!({
            "minutes": args.get::<i64>("minutes")?,
            "title": args.get::<String>("title")?,
            "organization": scope.and_then(Scope::organization_id),
            "organization_arg": args.opt::<String>("organization_id")?,
        })))
    }
}

verger_worker::export!(Migrant);
