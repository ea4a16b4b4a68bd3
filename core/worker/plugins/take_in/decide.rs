//! Whose each name is, and what is to run under it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};

use super::versions::{tell_of_versions, write_down};
use super::{Candidate, Outcome, READING, WRITING, Wanted};
use crate::grant::Grant;
use crate::plugin_error::PluginError;
use crate::sandbox::Plugin;
use crate::store::{StoreContext, StoreError};
use crate::time::Timestamp;
use crate::worker::bound_names::{self, BoundName};
use crate::worker::consent::{self, Consent, ConsentState, GrantRow};
use crate::worker::plugins::{Front, Plugins, State, Status};
use crate::worker::{Bound, Decision, decide, grant_rows, refusal};

/// What the database says of names and versions.
struct Read {
    bound: BTreeMap<String, BoundName>,
    grants: Vec<GrantRow>,
    /// The components whose bytes are there.
    kept: BTreeSet<String>,
}

impl Read {
    fn from(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            bound: bound_names::bound_names(connection)?,
            grants: grant_rows::grants(connection)?,
            kept: bound_names::kept_digests(connection)?,
        })
    }
}

/// What was decided about a name.
pub(super) struct Decided {
    pub(super) decision: Decision,
    /// Why the file that has it does not run yet, if so.
    held: Option<PluginError>,
    /// The name is bound to the file that has it.
    pub(super) binds: bool,
}

impl Plugins {
    pub(super) fn decide(
        &self,
        state: &mut State,
        front: &mut Front<'_>,
        candidates: BTreeMap<String, Vec<Candidate>>,
        own: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        let mut now_read = front.with(|front| Read::from(front)).doing(READING)?;
        let is_free = |name: &String| !now_read.bound.contains_key(name);
        for (_, running) in state.running.iter_mut().filter(|(name, _)| is_free(name)) {
            // Its name was freed, and its bytes with it.
            running.is_kept = false;
        }
        let mut decided = self.decide_on(&candidates, &now_read);
        let unknown = self.unknown_versions(state, front)?;
        let binds = |decided: &Decided| decided.binds;
        if !self.looking && (!unknown.is_empty() || decided.values().any(binds)) {
            // Decided and written down in one transaction. If two processes do so at once, the
            // second sees what the first decided.
            (decided, now_read) = front.with(|front| {
                let transaction = front
                    .transaction_with_behavior(TransactionBehavior::Immediate)
                    .doing(WRITING)?;
                let before = Read::from(&transaction).doing(WRITING)?;
                let decided = self.decide_on(&candidates, &before);
                write_down(&transaction, &candidates, &decided, &unknown, now).doing(WRITING)?;
                let after = Read::from(&transaction).doing(WRITING)?;
                transaction.commit().doing(WRITING)?;
                tell_of_versions(state, &before.bound, &after.bound);
                Ok((decided, after))
            })?;
        }
        let mut outcome = Outcome::default();
        // Workers that run as soon as somebody lets them, if no version before them runs.
        let mut waiting = BTreeMap::new();
        state.held.clear();
        for (name, candidates) in &candidates {
            let Some(Decided { decision, held, .. }) = decided.get(name) else { continue };
            let claims: Vec<Bound> = candidates.iter().map(|it| it.claim.clone()).collect();
            let row = now_read.bound.get(name);
            for (place, candidate) in candidates.iter().enumerate() {
                let refused = match decision {
                    Decision::NotGranted => self.not_granted(name, candidate),
                    Decision::Owner { place: owner, .. } if *owner == place => held.clone(),
                    _ => refusal(name, &claims, place, decision, row.map(|row| &row.bound)),
                };
                let is_owner =
                    matches!(decision, Decision::Owner { place: owner, .. } if *owner == place);
                let (plugin, digest) = (&candidate.plugin, &candidate.claim.digest);
                if is_owner && refused.is_some() {
                    state.held.insert(name.clone(), (Arc::clone(plugin), digest.clone()));
                }
                let is_waiting =
                    matches!(refused, Some(PluginError::Waits { .. } | PluginError::Denied { .. }));
                let is_wanted = refused.is_none();
                if let Some(refused) = refused {
                    outcome.refused.insert(candidate.claim.source.clone(), refused);
                }
                let wanted = || self.wanted(plugin, digest, &now_read.grants);
                if is_wanted {
                    outcome.wanted.extend(wanted().map(|wanted| (name.clone(), wanted)));
                } else if is_waiting {
                    waiting.extend(wanted().map(|wanted| (name.clone(), wanted)));
                }
            }
        }
        // If a name's file is broken, refused or being copied, the version that ran stays.
        for (name, row) in now_read.bound.iter().filter(|(name, _)| !own.contains(*name)) {
            let is_there = state.files.get(Path::new(&row.bound.source)).is_some_and(|file| {
                let is_another = |plugin: &Plugin| {
                    plugin.manifest().is_ok_and(|manifest| manifest.name != *name)
                };
                match &file.status {
                    Status::TakenOut => false,
                    // A removed worker comes back when the new file is complete, not before.
                    Status::Settling { .. } => state.running.contains_key(name),
                    Status::Usable(plugin) => !is_another(plugin),
                    Status::Unusable(_) => true,
                }
            });
            if !outcome.wanted.contains_key(name)
                && is_there
                && let Some(kept) = self.kept(state, front, name, row, &now_read.grants)?
            {
                outcome.wanted.insert(name.clone(), kept);
            }
        }
        for (name, wanted) in waiting {
            outcome.wanted.entry(name).or_insert(wanted);
        }
        for row in now_read.grants.iter().filter(|row| !state.grants.contains(row)) {
            if let Some(problem) = &row.problem {
                tracing::error!(worker = %row.worker, %problem, "a row of verger_grants grants nothing: write it anew, or delete it");
            }
        }
        (state.bound, state.grants) = (now_read.bound, now_read.grants);
        Ok(outcome)
    }

    /// What is to run, and what it is granted.
    pub(super) fn wanted(
        &self,
        plugin: &Arc<Plugin>,
        digest: &str,
        grants: &[GrantRow],
    ) -> Option<Wanted> {
        let manifest = plugin.manifest().ok()?;
        let by_code = self.by_code(&manifest.name);
        let waits =
            by_code.is_none() && Consent::of(manifest, digest, grants).missing().count() > 0;
        let granted = || consent::granted(&self.policy.approved, manifest, grants);
        Some(Wanted {
            plugin: Arc::clone(plugin),
            digest: digest.to_string(),
            grant: by_code.cloned().unwrap_or_else(granted),
            waits,
        })
    }

    /// What the app's code grants, if it says anything of this worker.
    pub(in crate::worker::plugins) fn by_code(&self, name: &str) -> Option<&Grant> {
        self.policy.grants.get(name).or(self.policy.for_all.as_ref())
    }

    /// Decides on each name.
    fn decide_on(
        &self,
        candidates: &BTreeMap<String, Vec<Candidate>>,
        read: &Read,
    ) -> BTreeMap<String, Decided> {
        let is_there = |path: &str| Path::new(path).symlink_metadata().is_ok();
        let mut decided = BTreeMap::new();
        for (name, candidates) in candidates {
            let claims: Vec<Bound> = candidates.iter().map(|it| it.claim.clone()).collect();
            let row = read.bound.get(name);
            let granted = self.policy.grants.get(name).and_then(Grant::digest);
            let decision = decide(&claims, row.map(|row| &row.bound), granted, is_there);
            let owner = match decision {
                Decision::Owner { place, .. } => candidates.get(place),
                _ => None,
            };
            let held = owner.and_then(|owner| self.held(name, owner, row, &read.grants));
            // A version that waits replaces only versions that have not run.
            let has_run = row.is_some_and(|row| read.kept.contains(&row.bound.digest));
            let binds = matches!(decision, Decision::Owner { is_news: true, .. })
                && (held.is_none() || !has_run);
            decided.insert(name.clone(), Decided { decision, held, binds });
        }
        decided
    }

    /// Why the file that has a name does not run yet.
    fn held(
        &self,
        name: &str,
        owner: &Candidate,
        row: Option<&BoundName>,
        grants: &[GrantRow],
    ) -> Option<PluginError> {
        let digest = owner.claim.digest.clone();
        let is_pinned = self.policy.grants.get(name).and_then(Grant::digest) == Some(&digest);
        let is_withdrawn = row.and_then(|row| row.withdrawn.as_ref()) == Some(&digest);
        let manifest = owner.plugin.manifest().ok()?;
        let (what, name) = (owner.plugin.what(), name.to_string());
        let version = manifest.version.clone();
        if is_withdrawn && !is_pinned {
            return Some(PluginError::RolledBack { what, name, version, digest });
        }
        if self.by_code(&name).is_some() {
            return None;
        }
        let consent = Consent::of(manifest, &digest, grants);
        let asks: Vec<String> = consent
            .missing()
            .map(|ask| match ask.decision {
                Some(decision) => {
                    format!("{} ({} by {})", ask.what, decision.as_str(), ask.decided_by)
                }
                None => ask.what.clone(),
            })
            .collect();
        let asks = asks.join(", ");
        match consent.state {
            ConsentState::Waiting => Some(PluginError::Waits { what, name, version, digest, asks }),
            ConsentState::Denied => Some(PluginError::Denied { what, name, version, digest, asks }),
            _ => None,
        }
    }

    fn not_granted(&self, name: &str, candidate: &Candidate) -> Option<PluginError> {
        Some(PluginError::OtherDigest {
            what: candidate.plugin.what(),
            name: name.to_string(),
            granted: self.policy.grants.get(name)?.digest()?.to_string(),
            found: candidate.claim.digest.clone(),
        })
    }
}
