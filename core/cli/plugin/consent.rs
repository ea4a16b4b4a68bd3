//! `verger plugin approve`, `deny`, `revoke`, `grants` and `rollback`: what dropped-in workers may do
//! in an app, and which version of them runs.

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use verger::{Consent, Verger};

use crate::options::{Database, Options};
use crate::output::{print, print_json, print_json_lines, row, tell};
use crate::table::{Side, Table};

/// Which worker is decided about, and by whom.
#[derive(Args)]
pub(crate) struct Decide {
    /// The worker's name
    name: String,
    #[command(flatten)]
    database: Database,
    /// Who decides, for the audit log; by default the user of this machine
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Decide only if it is still the component with this SHA-256
    #[arg(long, value_name = "DIGEST")]
    sha256: Option<String>,
}

impl Decide {
    fn by(&self) -> Result<String> {
        let user = || std::env::var("USER").or_else(|_| std::env::var("USERNAME")).ok();
        let by = self.by.clone().or_else(user).unwrap_or_default();
        ensure!(!by.trim().is_empty(), "nobody is named who decides: say it with --by WHO");
        Ok(by)
    }

    pub(super) fn approve(&self, options: &Options) -> Result<()> {
        let (verger, by) = (self.open(options)?, self.by()?);
        let consent = match &self.sha256 {
            Some(sha256) => verger.approve_digest(&self.name, sha256, &by)?,
            None => verger.approve(&self.name, &by)?,
        };
        say(&consent, options, "is approved")
    }

    pub(super) fn deny(&self, options: &Options) -> Result<()> {
        let (verger, by) = (self.open(options)?, self.by()?);
        self.check_digest(&verger)?;
        say(&verger.deny(&self.name, &by)?, options, "is denied what it asks for")
    }

    pub(super) fn revoke(&self, options: &Options) -> Result<()> {
        let (verger, by) = (self.open(options)?, self.by()?);
        self.check_digest(&verger)?;
        say(&verger.revoke(&self.name, &by)?, options, "has nothing granted any more")
    }

    fn open(&self, options: &Options) -> Result<Verger> {
        options.open(&self.database)
    }

    fn check_digest(&self, verger: &Verger) -> Result<()> {
        let consent = verger.consent(&self.name)?;
        let found = consent.map(|consent| consent.digest).unwrap_or_default();
        if let Some(sha256) = &self.sha256 {
            ensure!(
                sha256.eq_ignore_ascii_case(&found),
                "`{}` is not the component {sha256} now, but {found}",
                self.name
            );
        }
        Ok(())
    }
}

fn say(consent: &Consent, options: &Options, what: &str) -> Result<()> {
    if options.json {
        return print_json(&json!(consent));
    }
    print([format!("{} {} {what}", consent.worker, consent.version)]);
    print(consent.to_string().lines().skip(1));
    Ok(())
}

/// What was decided.
#[derive(Args)]
pub(crate) struct Grants {
    /// Of this worker only, with what it asks for
    name: Option<String>,
    #[command(flatten)]
    database: Database,
}

impl Grants {
    pub(super) fn run(&self, options: &Options) -> Result<()> {
        let verger = options.open_to_read(&self.database)?;
        let consent = match &self.name {
            Some(name) => {
                let consent = verger.consent(name)?;
                ensure!(
                    consent.is_some(),
                    "no dropped-in worker `{name}` is known in {}",
                    options.target(&self.database)?.file.display()
                );
                consent
            }
            None => None,
        };
        if options.json
            && let Some(consent) = &consent
        {
            return print_json(&json!(consent));
        }
        if let Some(consent) = &consent {
            print(consent.to_string().lines());
            return Ok(());
        }
        let grants = verger.grants()?;
        for row in &grants {
            if let Some(problem) = &row.problem {
                tell(format!(
                    "verger: a row of verger_grants for {:?} grants nothing: {}",
                    row.worker, problem
                ));
            }
        }
        if options.json {
            print_json_lines(grants.iter().map(|grant| row(grant, &[])));
            return Ok(());
        }
        if grants.is_empty() {
            print(["nothing was decided"]);
            return Ok(());
        }
        let mut table = Table::new(&[
            ("WORKER", Side::Left),
            ("WHAT", Side::Left),
            ("DECISION", Side::Left),
            ("BY", Side::Left),
            ("AT", Side::Left),
            ("SHA-256", Side::Left),
        ]);
        for grant in grants {
            let decision = grant.decision.map_or("unreadable", |decision| decision.as_str());
            table.row([
                grant.worker,
                grant.what,
                decision.to_string(),
                grant.decided_by,
                grant.decided_at.to_string(),
                grant.digest.chars().take(12).collect(),
            ]);
        }
        print(table.into_text().lines());
        Ok(())
    }
}

/// Which worker goes back.
#[derive(Args)]
pub(crate) struct Rollback {
    /// The worker's name
    name: String,
    #[command(flatten)]
    database: Database,
}

impl Rollback {
    pub(super) fn run(&self, options: &Options) -> Result<()> {
        let info = options.open(&self.database)?.rollback_plugin(&self.name)?;
        match options.json {
            true => print_json(
                &json!({"worker": info.name, "version": info.version, "digest": info.digest}),
            ),
            false => {
                print([format!(
                    "{} is version {} again (SHA-256 {})",
                    info.name, info.version, info.digest
                )]);
                Ok(())
            }
        }
    }
}
