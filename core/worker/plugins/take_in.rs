//! Whose each name is, and putting that into the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};

use super::{Front, PluginInfo, Plugins, Running, State, Status};
use crate::grant::Grant;
use crate::plugin_error::PluginError;
use crate::sandbox::{Plugin, digest_of, read};
use crate::store::{StoreContext, StoreError};
use crate::time::Timestamp;
use crate::worker::bound_names::{self, BoundName, KnownVersion};
use crate::worker::consent::{self, Consent, ConsentState, GrantRow};
use crate::worker::grant_rows;
use crate::worker::{Bound, Decision, Registered, Registry, decide, refusal};

/// A file that is a usable component.
struct Candidate {
    /// What the file is known by.
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
struct Decided {
    decision: Decision,
    /// Why the file that has it does not run yet, if so.
    held: Option<PluginError>,
    /// The name is bound to the file that has it.
    binds: bool,
}

/// What became of the claims to the names.
#[derive(Default)]
struct Outcome {
    wanted: BTreeMap<String, Wanted>,
    /// The files that are refused, by what they are known by.
    refused: BTreeMap<String, PluginError>,
}

impl Plugins {
    /// Decides whose each name is, writes down what is new, and has the registry follow: whether
    /// that changed. Nothing is compiled here, but a kept version that the cache has lost.
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

    /// Whether the database says otherwise than when the names were last decided: another process
    /// rolled a version back, or freed a name.
    pub(crate) fn has_other_names(&self, front: &mut Front<'_>) -> Result<bool, StoreError> {
        let bound = front.with(|front| bound_names::bound_names(front)).doing(READING)?;
        let grants = front.with(|front| grant_rows::grants(front)).doing(READING)?;
        // Whoever takes files in may have read them before.
        let Some(state) = self.try_state() else { return Ok(true) };
        Ok(bound != state.bound || grants != state.grants)
    }

    fn decide(
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
            // Decided and written down in one transaction: of two processes that do so at once, the
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
        // Those that run as soon as somebody lets them, where no version before does.
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
        // A name whose file is broken, refused or being copied keeps the version that ran.
        for (name, row) in now_read.bound.iter().filter(|(name, _)| !own.contains(*name)) {
            let is_there = state.files.get(Path::new(&row.bound.source)).is_some_and(|file| {
                let is_another = |plugin: &Plugin| {
                    plugin.manifest().is_ok_and(|manifest| manifest.name != *name)
                };
                match &file.status {
                    Status::TakenOut => false,
                    // What was taken away comes back when the new file is complete, not before.
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

    /// What is to run, with what it is granted.
    fn wanted(&self, plugin: &Arc<Plugin>, digest: &str, grants: &[GrantRow]) -> Option<Wanted> {
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
    pub(super) fn by_code(&self, name: &str) -> Option<&Grant> {
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
            // A version that waits takes the place of none that has run.
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

    /// The version of a name that the database says runs: as it runs here, or from its kept bytes.
    fn kept(
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
            // One that waits and never ran makes room for another.
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

    /// The usable files of which the database does not know yet what they say.
    fn unknown_versions(
        &self,
        state: &State,
        front: &mut Front<'_>,
    ) -> Result<Vec<KnownVersion>, StoreError> {
        let mut unknown = Vec::new();
        for (key, file) in &state.files {
            let (Status::Usable(plugin), Some(stamp)) = (&file.status, &file.stamp) else {
                continue;
            };
            // One that was not loaded is known.
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

    /// Keeps the bytes of what runs, and forgets those of versions that nothing goes back to.
    fn keep(&self, state: &mut State, front: &mut Front<'_>) -> Result<(), StoreError> {
        let in_the_folder: Vec<String> = state
            .files
            .values()
            .filter_map(|file| match &file.status {
                Status::Usable(plugin) => plugin.digest().ok(),
                _ => None,
            })
            .collect();
        for (name, running) in &mut state.running {
            // One that waits for consent has not run: there is nothing to go back to.
            if running.is_kept || running.waits {
                continue;
            }
            let digest = &running.digest;
            if !front.with(|front| bound_names::has_code(front, digest)).doing(KEEPING)? {
                let source = state.bound.get(name).map(|row| row.bound.source.clone());
                let code = source.and_then(|source| read(Path::new(&source)).ok());
                // What was replaced meanwhile is taken in at the next look.
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

    /// Takes the version before back: the one that ran is not taken in again until someone approves
    /// it. What runs now, or why nothing was rolled back.
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

const READING: &str = "read the names of the plugins";
const WRITING: &str = "write down the names of the plugins";
const KEEPING: &str = "keep the bytes of a plugin";

/// The usable files, by the name they claim, those apart that claim one of the app's own.
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

fn write_down(
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

/// Has the registry follow: whether it changed.
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
        // What waits is told of as refused.
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

/// Says what was replaced while nothing ran.
fn tell_of_versions(
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

fn tell_replaced(name: &str, before: &Running, version: &str, digest: &str) {
    if is_lower(version, &before.version) {
        tracing::warn!(worker = name, before = %before.version, now = version, digest,
            "a plugin was replaced by a lower version: put the newer file back if that was not meant");
    } else {
        tracing::info!(worker = name, before = %before.version, now = version, digest,
            "a plugin was replaced by another version");
    }
}

/// Whether a version goes down, where both are numbers with points between them.
fn is_lower(version: &str, before: &str) -> bool {
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
