//! Deciding whose each name is, and putting that into the registry.

mod decide;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::versions::is_lower;
use super::{Front, Plugins, Running, State, Status};
use crate::grant::Grant;
use crate::plugin_error::PluginError;
use crate::sandbox::Plugin;
use crate::store::{StoreContext, StoreError};
use crate::time::Timestamp;
use crate::worker::bound_names;
use crate::worker::{Bound, Registered, Registry, grant_rows};

/// A file that is a usable component.
struct Candidate {
    /// The file's digest and path.
    claim: Bound,
    plugin: Arc<Plugin>,
}

/// What is to run under a name.
struct Wanted {
    plugin: Arc<Plugin>,
    digest: String,
    grant: Grant,
    waits: bool,
}

/// What became of the claims to the names.
#[derive(Default)]
struct Outcome {
    wanted: BTreeMap<String, Wanted>,
    /// The files that are refused, by their keys.
    refused: BTreeMap<String, PluginError>,
}

impl Plugins {
    /// Decides whose each name is, writes down what is new, and makes the registry follow. Returns
    /// whether the registry changed. Nothing is compiled here, except a kept version that the cache
    /// has lost.
    pub(crate) fn take_in(
        &self,
        registry: &Registry,
        front: &mut Front<'_>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut state = self.state();
        // The app's own workers, and Verger's, keep their names.
        let workers = registry.snapshot();
        let own: BTreeSet<String> =
            workers.keys().filter(|name| !state.running.contains_key(*name)).cloned().collect();
        let candidates = candidates(&state, &own);
        let mut outcome = self.decide(&mut state, front, candidates, &own, now)?;
        for (key, file) in &mut state.files {
            file.refused = match &file.status {
                Status::Settling { .. } => None,
                Status::Unusable(error) => Some(error.clone()),
                Status::TakenOut => {
                    Some(PluginError::TakenOut { what: file.path.display().to_string() })
                }
                Status::Usable(_) => outcome.refused.remove(&key.display().to_string()),
            };
            if let Status::Usable(plugin) = &file.status
                && let Ok(manifest) = plugin.manifest()
                && file.refused.is_none()
                && own.contains(&manifest.name)
            {
                file.refused = Some(PluginError::Duplicate {
                    what: file.path.display().to_string(),
                    name: manifest.name.clone(),
                });
            }
        }
        let changed = follow(&mut state, registry, outcome.wanted);
        if !self.looking {
            self.keep(&mut state, front)?;
        }
        Ok(changed)
    }

    /// Whether the database differs from when the names were last decided, because another process
    /// rolled a version back, or freed a name.
    pub(crate) fn has_other_names(&self, front: &mut Front<'_>) -> Result<bool, StoreError> {
        let bound = front.with(|front| bound_names::bound_names(front)).doing(READING)?;
        let grants = front.with(|front| grant_rows::grants(front)).doing(READING)?;
        // Whoever takes files in may have read them before.
        let Some(state) = self.try_state() else { return Ok(true) };
        Ok(bound != state.bound || grants != state.grants)
    }
}

const READING: &str = "read the names of the plugins";
const WRITING: &str = "write down the names of the plugins";

/// The usable files, by the name they claim, without those that claim one of the app's own.
fn candidates(state: &State, own: &BTreeSet<String>) -> BTreeMap<String, Vec<Candidate>> {
    let mut candidates: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    for (key, file) in &state.files {
        let Status::Usable(plugin) = &file.status else { continue };
        let (Ok(manifest), Ok(digest)) = (plugin.manifest(), plugin.digest()) else { continue };
        if own.contains(&manifest.name) {
            continue;
        }
        let claim = Bound { digest, source: key.display().to_string() };
        let candidate = Candidate { claim, plugin: Arc::clone(plugin) };
        candidates.entry(manifest.name.clone()).or_default().push(candidate);
    }
    candidates
}

/// Makes the registry follow. Returns whether it changed.
fn follow(state: &mut State, registry: &Registry, wanted: BTreeMap<String, Wanted>) -> bool {
    let mut changed = false;
    let gone: BTreeSet<String> =
        state.running.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
    for name in gone {
        registry.remove(&name);
        if let Some(running) = state.running.remove(&name) {
            tracing::info!(worker = %name, version = %running.version, "a plugin was taken away: its jobs wait until it is back");
        }
        changed = true;
    }
    for (name, Wanted { plugin, digest, grant, waits }) in wanted {
        let running = state.running.get(&name);
        let is_as_it_was = |running: &Running| {
            running.digest == digest && running.grant == grant && running.waits == waits
        };
        if running.is_some_and(is_as_it_was) {
            continue;
        }
        let Ok(manifest) = plugin.manifest() else { continue };
        let version = manifest.version.clone();
        // A worker that waits is reported as refused.
        if let Some(withheld) = grant.withholds(manifest).filter(|_| !waits) {
            tracing::warn!(%withheld, "a plugin runs without what it asks for");
        }
        let registered = Registered::component(Arc::clone(&plugin), grant.clone()).waiting(waits);
        let registered = match running.filter(|running| running.digest != digest) {
            Some(before) => {
                tell_replaced(&name, before, &version, &digest);
                registered.after(before.version.clone())
            }
            None => registered,
        };
        let is_kept = running.is_some_and(|running| running.is_kept && running.digest == digest);
        registry.put(&name, registered);
        state.running.insert(name, Running { plugin, digest, version, grant, waits, is_kept });
        changed = true;
    }
    changed
}

fn tell_replaced(name: &str, before: &Running, version: &str, digest: &str) {
    if is_lower(version, &before.version) {
        tracing::warn!(worker = name, before = %before.version, now = version, digest,
            "a plugin was replaced by a lower version: put the newer file back if that was not meant");
    } else {
        tracing::info!(worker = name, before = %before.version, now = version, digest,
            "a plugin was replaced by another version");
    }
}
