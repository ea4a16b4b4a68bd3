//! The versions of a name: which is kept, and which was rolled back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};

use super::decide::Decided;
use super::{Candidate, READING, Wanted};
use crate::grant::Grant;
use crate::sandbox::{Plugin, digest_of, read};
use crate::store::{StoreContext, StoreError};
use crate::time::Timestamp;
use crate::worker::Decision;
use crate::worker::bound_names::{self, BoundName, KnownVersion};
use crate::worker::consent::GrantRow;
use crate::worker::plugins::{Front, PluginInfo, Plugins, State, Status};

impl Plugins {
    /// The version of a name that runs according to the database: the code that runs here, or its
    /// kept bytes.
    pub(super) fn kept(
        &self,
        state: &State,
        front: &mut Front<'_>,
        name: &str,
        row: &BoundName,
        grants: &[GrantRow],
    ) -> Result<Option<Wanted>, StoreError> {
        let granted = self.policy.grants.get(name).and_then(Grant::digest);
        let digest = granted.unwrap_or(&row.bound.digest);
        if granted.is_some_and(|digest| {
            digest != row.bound.digest && Some(digest) != row.previous.as_deref()
        }) {
            return Ok(None);
        }
        if let Some(running) = state.running.get(name).filter(|running| running.digest == digest) {
            // A version that waits and never ran makes room for another.
            if running.is_kept || !running.waits {
                return Ok(self.wanted(&running.plugin, digest, grants));
            }
            return Ok(None);
        }
        let code = front.with(|front| bound_names::code(front, digest)).doing(READING)?;
        let Some(code) = code.filter(|code| digest_of(code) == digest) else { return Ok(None) };
        let plugin = Plugin::of_file(Path::new(&row.bound.source), &code, self.compiler());
        match plugin.manifest() {
            Ok(manifest) if manifest.name == name => {
                Ok(self.wanted(&Arc::new(plugin), digest, grants))
            }
            Ok(_) => Ok(None),
            Err(error) => {
                tracing::error!(worker = name, %error, "the kept version of a plugin cannot be used");
                Ok(None)
            }
        }
    }

    /// The usable files whose manifests the database does not know yet.
    pub(super) fn unknown_versions(
        &self,
        state: &State,
        front: &mut Front<'_>,
    ) -> Result<Vec<KnownVersion>, StoreError> {
        let mut unknown = Vec::new();
        for (key, file) in &state.files {
            let (Status::Usable(plugin), Some(stamp)) = (&file.status, &file.stamp) else {
                continue;
            };
            // A file that was not loaded is known already.
            let (Some(described), Ok(digest), Ok(manifest)) =
                (plugin.described(), plugin.digest(), plugin.manifest())
            else {
                continue;
            };
            let version = KnownVersion {
                digest,
                name: manifest.name.clone(),
                version: manifest.version.clone(),
                described: described.to_string(),
                source: key.display().to_string(),
                stamp: stamp.as_str().to_string(),
            };
            let known =
                front.with(|front| bound_names::version(front, &version.digest)).doing(READING)?;
            if known.as_ref() != Some(&version) {
                unknown.push(version);
            }
        }
        Ok(unknown)
    }

    /// Keeps the bytes of what runs, and deletes those of versions that nothing goes back to.
    pub(super) fn keep(&self, state: &mut State, front: &mut Front<'_>) -> Result<(), StoreError> {
        let in_the_folder: Vec<String> = state
            .files
            .values()
            .filter_map(|file| match &file.status {
                Status::Usable(plugin) => plugin.digest().ok(),
                _ => None,
            })
            .collect();
        for (name, running) in &mut state.running {
            // A version that waits for consent has not run, so there is nothing to go back to.
            if running.is_kept || running.waits {
                continue;
            }
            let digest = &running.digest;
            if !front.with(|front| bound_names::has_code(front, digest)).doing(KEEPING)? {
                let source = state.bound.get(name).map(|row| row.bound.source.clone());
                let code = source.and_then(|source| read(Path::new(&source)).ok());
                // A file that was replaced meanwhile is taken in at the next look.
                let Some(code) = code.filter(|code| digest_of(code) == *digest) else { continue };
                for part in bound_names::parts(&code) {
                    front
                        .with(|front| bound_names::write_part(front, digest, part))
                        .doing(KEEPING)?;
                }
            }
            running.is_kept = true;
            let outdated = front
                .with(|front| bound_names::outdated(front, name, &in_the_folder))
                .doing(KEEPING)?;
            for digest in outdated {
                front.with(|front| -> Result<(), StoreError> {
                    let transaction = front
                        .transaction_with_behavior(TransactionBehavior::Immediate)
                        .doing(KEEPING)?;
                    bound_names::forget_version(&transaction, &digest).doing(KEEPING)?;
                    transaction.commit().doing(KEEPING)
                })?;
                crate::sandbox::forget_compiled(&self.compiler(), &digest);
            }
        }
        Ok(())
    }

    /// Goes back to the version before. The one that ran is not taken in again until someone
    /// approves it. Returns what runs now, or why nothing was rolled back.
    pub(crate) fn roll_back(
        &self,
        connection: &Connection,
        name: &str,
        now: Timestamp,
    ) -> Result<Result<PluginInfo, String>, rusqlite::Error> {
        let Some(row) = bound_names::bound_names(connection)?.remove(name) else {
            return Ok(Err("no dropped-in worker has this name".to_string()));
        };
        let Some(previous) = row.previous else {
            return Ok(Err("there is no version before it".to_string()));
        };
        let known = bound_names::version(connection, &previous)?;
        let (Some(known), true) = (known, bound_names::has_code(connection, &previous)?) else {
            return Ok(Err("the version before is not kept".to_string()));
        };
        bound_names::roll_back(connection, name, now)?;
        Ok(Ok(PluginInfo {
            name: name.to_string(),
            version: known.version,
            digest: previous,
            waits: false,
        }))
    }
}

const KEEPING: &str = "keep the bytes of a plugin";

pub(super) fn write_down(
    connection: &Connection,
    candidates: &BTreeMap<String, Vec<Candidate>>,
    decided: &BTreeMap<String, Decided>,
    unknown: &[KnownVersion],
    now: Timestamp,
) -> rusqlite::Result<()> {
    for (name, Decided { decision, binds, .. }) in decided {
        let (Decision::Owner { place, .. }, true) = (decision, *binds) else { continue };
        let owner = candidates.get(name).and_then(|candidates| candidates.get(*place));
        if let Some(owner) = owner {
            bound_names::bind_name(connection, name, &owner.claim, now)?;
        }
    }
    unknown.iter().try_for_each(|version| bound_names::keep_version(connection, version, now))
}

/// Logs what was replaced while nothing ran.
pub(super) fn tell_of_versions(
    state: &State,
    before: &BTreeMap<String, BoundName>,
    bound: &BTreeMap<String, BoundName>,
) {
    for (name, now) in bound.iter().filter(|(name, _)| !state.running.contains_key(*name)) {
        let digest = &now.bound.digest;
        if let Some(before) = before.get(name).filter(|before| before.bound.digest != *digest) {
            tracing::info!(worker = %name, file = %now.bound.source, before = %before.bound.digest, now = %digest, "a plugin was replaced by another version");
        }
    }
}

/// Whether a version is lower than the one before, if both are numbers with points between them.
pub(super) fn is_lower(version: &str, before: &str) -> bool {
    let numbers = |text: &str| -> Option<(Vec<u64>, bool)> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split('+').next().unwrap_or(text);
        let (numbers, is_pre_release) = match text.split_once('-') {
            Some((numbers, _)) => (numbers, true),
            None => (text, false),
        };
        let mut numbers: Vec<u64> =
            numbers.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        // A pre-release comes before its release.
        Some((numbers, !is_pre_release))
    };
    match (numbers(version), numbers(before)) {
        (Some(version), Some(before)) => version < before,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_lower;

    #[test]
    fn a_version_that_goes_down_is_told_from_one_that_goes_up() {
        for (version, before) in [
            ("1.9", "1.10"),
            ("0.9.9", "1"),
            ("1.0.0-rc.1", "1.0.0"),
            ("v1", "v2"),
            ("1.2", "1.2.1"),
        ] {
            assert!(is_lower(version, before) && !is_lower(before, version), "{version} {before}");
        }
        for (version, before) in [("1.0", "1"), ("nightly", "1.0"), ("1.0+b", "1.0+a")] {
            assert!(!is_lower(version, before) && !is_lower(before, version), "{version} {before}");
        }
    }
}
