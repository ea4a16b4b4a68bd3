//! From bytes to machine code, from the cache or by compiling.

mod ahead;
#[cfg(feature = "compile")]
mod budget;
mod cache;
#[cfg(feature = "compile")]
mod complexity;

use std::sync::Arc;
use std::time::Duration;
#[cfg(feature = "compile")]
use std::time::Instant;

use wasmtime::Engine;
use wasmtime::component::Component;

pub(crate) use self::ahead::Ahead;
#[cfg(feature = "compile")]
pub use self::ahead::{CompiledComponent, compile_component};
#[cfg(feature = "compile")]
use self::budget::Budget;
pub use self::cache::CompileCache;
use super::engine::sandbox;
use crate::metrics::Counters;
#[cfg(feature = "compile")]
use crate::observation::{Compiled, observe};
use crate::plugin_error::PluginError;

/// Where a component comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Origin {
    /// It is part of Verger, and is compiled however long that takes.
    BuiltIn,
    /// The app gave its bytes and does not open without it. What it may ask of the compiler is
    /// bounded, but no slow or busy machine refuses it.
    App,
    /// Anybody may have put it there, so compiling it is bounded.
    File,
}

/// Where the components of one open get their machine code.
pub(crate) struct Compiler {
    pub(in crate::sandbox) counters: Arc<Counters>,
    cache: CompileCache,
    ahead: Ahead,
    #[cfg(feature = "compile")]
    budget: Budget,
}

impl Compiler {
    /// Compiling all plugins together takes `limit` at most.
    pub(crate) fn new(
        counters: Arc<Counters>,
        cache: CompileCache,
        ahead: Ahead,
        #[cfg_attr(
            not(feature = "compile"),
            allow(unused_variables, reason = "nothing is compiled")
        )]
        limit: Duration,
    ) -> Self {
        Self {
            counters,
            cache,
            ahead,
            #[cfg(feature = "compile")]
            budget: Budget::new(limit),
        }
    }

    /// Whether the machine code of a component is available, so that nothing would have to be
    /// compiled.
    pub(in crate::sandbox) fn has(&self, digest: &[u8; 32]) -> bool {
        sandbox().is_ok_and(|sandbox| {
            let engine = &sandbox.pooled.engine;
            self.cache.has(engine, digest) || self.ahead.load(engine, digest).is_some()
        })
    }

    /// Removes the machine code of a component that is no longer needed. A build without a compiler
    /// keeps it, because it could not make it again.
    #[cfg(feature = "compile")]
    pub(in crate::sandbox) fn forget(&self, digest: &[u8; 32]) {
        if let Ok(sandbox) = sandbox() {
            self.cache.forget(&sandbox.pooled.engine, digest);
        }
    }

    #[cfg(not(feature = "compile"))]
    pub(in crate::sandbox) fn forget(&self, _: &[u8; 32]) {
        let _ = &self.cache;
    }

    /// Takes the component from the cache, or compiles it. `what` names it in errors.
    #[cfg(feature = "compile")]
    pub(in crate::sandbox) fn component(
        &self,
        what: &str,
        bytes: &[u8],
        digest: &[u8; 32],
        origin: Origin,
        engine: &Engine,
    ) -> Result<Component, PluginError> {
        let begun = Instant::now();
        let cached = self.made_before(digest, engine);
        let was_cached = cached.is_some();
        let component = match cached {
            Some(component) => component,
            None => {
                let component = match origin {
                    Origin::BuiltIn => from_binary(what, bytes, engine),
                    Origin::App => budget::compile_unhurried(what, bytes, engine),
                    Origin::File => self.budget.compile(what, bytes, engine),
                }?;
                self.cache.store(engine, digest, &component);
                component
            }
        };
        let elapsed_us = begun.elapsed().as_micros() as u64;
        let image = component.image_range();
        let bytes = (image.end as usize).saturating_sub(image.start as usize);
        tracing::debug!(target: "verger::sandbox", elapsed_us, bytes, was_cached, "compiled");
        observe(|observed| {
            observed.compiled = Some(Compiled { bytes: bytes as u64, was_cached });
        });
        Ok(component)
    }

    #[cfg(not(feature = "compile"))]
    pub(in crate::sandbox) fn component(
        &self,
        what: &str,
        _: &[u8],
        digest: &[u8; 32],
        _: Origin,
        engine: &Engine,
    ) -> Result<Component, PluginError> {
        self.made_before(digest, engine).ok_or_else(|| PluginError::Engine {
            what: what.to_string(),
            reason: "this build has no compiler (feature `compile`), and nothing that was compiled ahead for it fits: compile it with `verger plugin compile` of the same version".to_string(),
        })
    }

    fn made_before(&self, digest: &[u8; 32], engine: &Engine) -> Option<Component> {
        self.ahead.load(engine, digest).or_else(|| self.cache.load(engine, digest))
    }
}

#[cfg(feature = "compile")]
fn from_binary(what: &str, bytes: &[u8], engine: &Engine) -> Result<Component, PluginError> {
    Component::from_binary(engine, bytes)
        .map_err(|error| PluginError::invalid(what, format!("{error:#}")))
}
