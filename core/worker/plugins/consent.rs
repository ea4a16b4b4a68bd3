//! Deciding what a dropped-in worker may do, while the app runs.

use rusqlite::Connection;
use verger_worker::Manifest;

use super::Plugins;
use crate::time::Timestamp;
use crate::worker::bound_names::{self, KnownVersion};
use crate::worker::consent::{Consent, ConsentState, GrantDecision};
use crate::worker::grant_rows;

/// The version of a worker that a decision is about.
pub(crate) struct Here {
    manifest: Manifest,
    digest: String,
}

impl Plugins {
    /// The version of a worker that waits here, or otherwise the one that runs here. Ask for it
    /// before the connection is taken, because whoever has the connection must not wait for the
    /// files.
    pub(crate) fn here(&self, name: &str) -> Option<Here> {
        let state = self.state();
        let held = state.held.get(name).map(|(plugin, digest)| (plugin, digest));
        let running = || state.running.get(name).map(|running| (&running.plugin, &running.digest));
        let (plugin, digest) = held.or_else(running)?;
        Some(Here { manifest: plugin.manifest().ok()?.clone(), digest: digest.clone() })
    }

    /// What a dropped-in worker asks for: the version that waits, if one does. `None` when no such
    /// worker is known.
    pub(crate) fn consent(
        &self,
        connection: &Connection,
        name: &str,
        here: Option<Here>,
    ) -> rusqlite::Result<Option<Consent>> {
        let asking = match here {
            Some(here) => Some(here),
            None => known(connection, name)?,
        };
        let Some(Here { manifest, digest }) = asking else { return Ok(None) };
        let mut consent = Consent::of(&manifest, &digest, &grant_rows::grants(connection)?);
        if self.by_code(name).is_some() {
            consent.state = ConsentState::ByTheApp;
        }
        let bound = bound_names::bound_names(connection)?;
        let withdrawn = bound.get(name).and_then(|row| row.withdrawn.as_deref());
        if withdrawn == Some(&consent.digest) {
            consent.state = ConsentState::RolledBack;
        }
        Ok(Some(consent))
    }

    /// Writes down what somebody decided, inside a write transaction. Returns what it was about, or
    /// why there was nothing to decide. With a digest, the decision must be about that component.
    pub(crate) fn decide_consent(
        &self,
        connection: &Connection,
        (name, here): (&str, Option<Here>),
        (decision, by): (GrantDecision, &str),
        digest: Option<&str>,
        now: Timestamp,
    ) -> rusqlite::Result<Result<(Consent, Vec<String>), String>> {
        if by.trim().is_empty() {
            return Ok(Err("it must be said who decides".to_string()));
        }
        let Some(consent) = self.consent(connection, name, here)? else {
            return Ok(Err("no dropped-in worker of this name is known".to_string()));
        };
        if let Some(digest) = digest.filter(|digest| *digest != consent.digest) {
            return Ok(Err(format!(
                "it is version {} now (SHA-256 {}), and not the component {digest}",
                consent.version, consent.digest
            )));
        }
        if consent.state == ConsentState::ByTheApp {
            return Ok(Err("the app's code grants it, and that holds".to_string()));
        }
        let what: Vec<String> = match decision {
            GrantDecision::Granted | GrantDecision::Denied => {
                consent.missing().map(|ask| ask.what.clone()).collect()
            }
            GrantDecision::Revoked => grant_rows::grants(connection)?
                .into_iter()
                .filter(|row| row.worker == name && row.decision == Some(GrantDecision::Granted))
                .map(|row| row.what)
                .collect(),
        };
        match decision {
            GrantDecision::Denied if what.is_empty() => {
                return Ok(Err(
                    "nothing of it waits for a decision; to take a grant back, revoke it"
                        .to_string(),
                ));
            }
            GrantDecision::Revoked if what.is_empty() => {
                return Ok(Err("nothing was granted to it".to_string()));
            }
            _ => {}
        }
        for what in &what {
            grant_rows::set_grant(connection, (name, what), &consent.digest, decision, by, now)?;
        }
        if decision == GrantDecision::Granted {
            bound_names::take_again(connection, name, &consent.digest)?;
        }
        Ok(Ok((consent, what)))
    }
}

/// What the database knows of a worker that is not here: the version that waits, otherwise the one
/// that was rolled back, otherwise the one that runs.
fn known(connection: &Connection, name: &str) -> rusqlite::Result<Option<Here>> {
    let row = bound_names::bound_names(connection)?.remove(name);
    let (mut running, mut previous, mut withdrawn) = (None, None, None);
    if let Some(row) = row {
        (running, previous, withdrawn) = (Some(row.bound.digest), row.previous, row.withdrawn);
    }
    let mut versions: Vec<KnownVersion> = bound_names::known_versions(connection)?;
    versions.retain(|known| known.name == name);
    let with = |digest: &Option<String>| {
        versions.iter().find(|known| Some(&known.digest) == digest.as_ref())
    };
    let waits = versions.iter().find(|known| {
        let digest = Some(&known.digest);
        digest != running.as_ref() && digest != previous.as_ref() && digest != withdrawn.as_ref()
    });
    let known = waits.or_else(|| with(&withdrawn)).or_else(|| with(&running));
    Ok(known.and_then(|known| {
        let manifest = Manifest::parse(&known.described).ok()?;
        Some(Here { manifest, digest: known.digest.clone() })
    }))
}
