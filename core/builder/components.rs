//! Which components an open takes in, and which it refuses.

#[cfg(feature = "wasm")]
use std::sync::Arc;

use super::Builder;
use super::open::RegisterError;
#[cfg(feature = "wasm")]
use crate::error::OpenError;
#[cfg(feature = "wasm")]
use crate::grant::Grant;
#[cfg(feature = "wasm")]
use crate::plugin_error::PluginError;
#[cfg(feature = "wasm")]
use crate::sandbox::{Compiler, Plugin, Source};
use crate::store::BookConnection;
use crate::time::Timestamp;
use crate::worker::Registry;
#[cfg(feature = "wasm")]
use crate::worker::{Front, Patience, Plugins, Policy, Registered};

impl Builder {
    /// What compiles the components of one open.
    #[cfg(feature = "wasm")]
    pub(crate) fn compiler(&self) -> Arc<Compiler> {
        let counters = Arc::clone(&self.counters);
        let ahead = self.ahead.clone();
        Arc::new(Compiler::new(counters, self.cache.clone(), ahead, self.compile_limit))
    }

    #[cfg(feature = "wasm")]
    pub(super) fn register_components(
        &mut self,
        registry: &Registry,
        front: &mut BookConnection,
        looking: bool,
        now: Timestamp,
    ) -> Result<Arc<Plugins>, RegisterError> {
        let compiler = self.compiler();
        let plugin = |source| Arc::new(Plugin::new(source, Arc::clone(&compiler)));
        #[cfg(feature = "builtins")]
        if self.built_ins {
            let grant = |name: &str| {
                let granted = self.grants.get(name).cloned();
                granted.unwrap_or_else(|| {
                    Grant::as_declared().time_limit(crate::sandbox::BUILT_IN_TIME)
                })
            };
            for (name, bytes) in crate::sandbox::PREBUILT {
                let plugin = plugin(Source::Embedded { name, bytes });
                let built_in = Registered::component(plugin, grant(name));
                registry.add(name, &format!("the built-in worker `{name}`"), built_in)?;
            }
            for worker in crate::builtins::native() {
                let mut built_in = Registered::native(worker, Grant::as_declared())?;
                let name = built_in.manifest()?.name.clone();
                built_in.grant = grant(&name);
                registry.add(&name, &format!("the built-in worker `{name}`"), built_in)?;
            }
        }
        for (what, bytes) in std::mem::take(&mut self.components) {
            self.register_own(registry, plugin(Source::Bytes { name: what, bytes }))?;
        }
        let policy = Policy {
            grants: self.grants.clone(),
            for_all: self.plugin_grant.clone(),
            approved: std::mem::take(&mut self.approved_grant),
            counters: Arc::clone(&self.counters),
            cache: self.cache.clone(),
            ahead: self.ahead.clone(),
            compile_limit: self.compile_limit,
        };
        let folders = std::mem::take(&mut self.plugin_folders);
        let plugins =
            Plugins::new(policy, folders, std::mem::take(&mut self.plugin_files), looking);
        if plugins.is_watching() {
            let (gathered, unlisted) = plugins.gather(Patience::None);
            if let Some((folder, source)) = unlisted {
                return Err(OpenError::Plugins { folder, source }.into());
            }
            let known = front.books().known_versions();
            plugins.load(gathered, &known.map_err(RegisterError::Store)?);
            plugins.take_in(registry, &mut Front::Own(front), now).map_err(RegisterError::Store)?;
            plugins.tell_refused(&[]);
        }
        Ok(Arc::new(plugins))
    }

    /// Registers a component that is part of the app.
    #[cfg(feature = "wasm")]
    fn register_own(&self, registry: &Registry, plugin: Arc<Plugin>) -> Result<(), PluginError> {
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
        _: &Registry,
        _: &mut BookConnection,
        _: bool,
        _: Timestamp,
    ) -> Result<(), RegisterError> {
        // A build without WebAssembly has no dropped-in workers to grant anything to.
        let _ = (&self.plugin_grant, &self.approved_grant);
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
        Ok(())
    }
}
