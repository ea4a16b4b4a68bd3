//! Which components an open takes in, and which it refuses.

#[cfg(feature = "wasm")]
use std::collections::{BTreeMap, HashSet};
#[cfg(feature = "wasm")]
use std::path::PathBuf;
#[cfg(feature = "wasm")]
use std::sync::Arc;
#[cfg(feature = "builtins")]
use std::time::Duration;

use rusqlite::Connection;

use super::Builder;
use super::open::RegisterError;
#[cfg(feature = "wasm")]
use crate::error::OpenError;
#[cfg(feature = "wasm")]
use crate::grant::Grant;
use crate::plugin_error::PluginError;
#[cfg(feature = "wasm")]
use crate::sandbox::{Compiler, Plugin, Source};
#[cfg(feature = "wasm")]
use crate::store::StoreError;
use crate::time::Timestamp;
use crate::worker::Registry;
#[cfg(feature = "wasm")]
use crate::worker::{self, Bound, NameStore, Registered};

/// How long a built-in sweep may last.
#[cfg(feature = "builtins")]
const BUILT_IN_TIME: Duration = Duration::from_secs(600);

impl Builder {
    /// What compiles the components of one open.
    #[cfg(feature = "wasm")]
    pub(crate) fn compiler(&self) -> Arc<Compiler> {
        Arc::new(Compiler::new(self.cache.clone(), self.compile_limit))
    }

    #[cfg(feature = "wasm")]
    pub(super) fn register_components(
        &mut self,
        registry: &mut Registry,
        front: &mut Connection,
        looking: bool,
        now: Timestamp,
    ) -> Result<Vec<PluginError>, RegisterError> {
        let mut store = NameStore { front, looking, now };
        let compiler = self.compiler();
        let plugin = |source| Plugin::new(source, Arc::clone(&compiler));
        #[cfg(feature = "builtins")]
        if self.built_ins {
            for (name, bytes) in crate::builtins::PREBUILT {
                let grant = self
                    .grants
                    .get(name)
                    .cloned()
                    .unwrap_or_else(|| Grant::as_declared().time_limit(BUILT_IN_TIME));
                let built_in =
                    Registered::component(plugin(Source::Embedded { name, bytes }), grant);
                registry.add(name, &format!("the built-in worker `{name}`"), built_in)?;
            }
        }
        for (what, bytes) in std::mem::take(&mut self.components) {
            self.register_plugin(registry, plugin(Source::Bytes { name: what, bytes }))?;
        }
        let mut files = std::mem::take(&mut self.plugin_files);
        for folder in &self.plugin_folders {
            let listed = list(folder)
                .map_err(|source| OpenError::Plugins { folder: folder.clone(), source })?;
            files.extend(listed);
        }
        // One file is one file, however often it is named.
        let mut seen = HashSet::new();
        files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
        let plugins: Vec<Plugin> =
            files.into_iter().map(|file| plugin(Source::File(file))).collect();
        // What takes all the time there is for compiling takes it from none but larger ones.
        let mut by_size: Vec<&Plugin> = plugins.iter().collect();
        by_size.sort_by_key(|plugin| plugin.file_size());
        for plugin in by_size {
            // Whether it is refused is asked below.
            let _ = plugin.manifest();
        }
        let mut refused = Vec::new();
        let mut by_name: BTreeMap<String, Vec<(Plugin, Bound)>> = BTreeMap::new();
        for plugin in plugins {
            match claim(&plugin) {
                // The app's own workers, and Verger's, keep their names.
                Ok((name, _)) if registry.get(&name).is_some() => {
                    refused.push(PluginError::Duplicate { what: plugin.what(), name });
                }
                Ok((name, claim)) => by_name.entry(name).or_default().push((plugin, claim)),
                Err(error) => refused.push(error),
            }
        }
        refused
            .extend(self.take_names(registry, by_name, &mut store).map_err(RegisterError::Store)?);
        Ok(refused)
    }

    /// Registers the dropped-in files that have their names; the refusals of the others.
    #[cfg(feature = "wasm")]
    fn take_names(
        &self,
        registry: &mut Registry,
        by_name: BTreeMap<String, Vec<(Plugin, Bound)>>,
        store: &mut NameStore<'_>,
    ) -> Result<Vec<PluginError>, StoreError> {
        let mut refused = Vec::new();
        let claims: BTreeMap<String, Vec<Bound>> = by_name
            .iter()
            .map(|(name, files)| {
                (name.clone(), files.iter().map(|(_, claim)| claim.clone()).collect())
            })
            .collect();
        let granted = |name: &str| self.grants.get(name).and_then(Grant::digest);
        let mut decided = store.decide(&claims, &granted)?;
        for (name, files) in by_name {
            let Some((decision, bound)) = decided.remove(&name) else { continue };
            let claimants: Vec<Bound> = files.iter().map(|(_, claim)| claim.clone()).collect();
            for (place, (plugin, _)) in files.into_iter().enumerate() {
                match worker::refusal(&name, &claimants, place, &decision, bound.as_ref()) {
                    Some(refusal) => refused.push(refusal),
                    None => refused.extend(self.register_plugin(registry, plugin).err()),
                }
            }
        }
        Ok(refused)
    }

    #[cfg(feature = "wasm")]
    fn register_plugin(&self, registry: &mut Registry, plugin: Plugin) -> Result<(), PluginError> {
        let (what, name) = (plugin.what(), plugin.manifest()?.name.clone());
        let grant = self.grants.get(&name).cloned().unwrap_or_default();
        if let Some(withheld) = grant.withholds(plugin.manifest()?) {
            tracing::warn!(%withheld, "a plugin runs without what it asks for");
        }
        registry.add(&name, &what, Registered::component(plugin, grant))
    }

    #[cfg(not(feature = "wasm"))]
    pub(super) fn register_components(
        &mut self,
        _: &mut Registry,
        _: &mut Connection,
        _: bool,
        _: Timestamp,
    ) -> Result<Vec<PluginError>, RegisterError> {
        let folders = self
            .plugin_folders
            .iter()
            .chain(&self.plugin_files)
            .map(|path| path.display().to_string());
        let wanted: Vec<String> =
            folders.chain(self.components.iter().map(|(what, _)| what.clone())).collect();
        if !wanted.is_empty() {
            tracing::warn!(
                plugins = %wanted.join(", "),
                "this build of Verger has no WebAssembly (feature `wasm`): these workers do not run; enable the feature, or register native workers in their place"
            );
        }
        Ok(Vec::new())
    }
}

/// The name of a dropped-in file, and with what it claims it.
#[cfg(feature = "wasm")]
fn claim(plugin: &Plugin) -> Result<(String, Bound), PluginError> {
    let name = plugin.manifest()?.name.clone();
    let path = plugin.path().unwrap_or(std::path::Path::new(""));
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    Ok((name, Bound { digest: plugin.digest()?, source: path.display().to_string() }))
}

/// The `.wasm` files of a folder, by name. What has that ending and is no file is among them: it is
/// refused, and so told of. A folder that is not there yet, as after a fresh install, is empty.
#[cfg(feature = "wasm")]
fn list(folder: &std::path::Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::info!(folder = %folder.display(), "the plugins folder is not there: no plugins");
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        match path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("wasm")) {
            true => files.push(path),
            false => {
                tracing::info!(path = %path.display(), "passed over: no .wasm, so no plugin");
            }
        }
    }
    files.sort();
    Ok(files)
}
