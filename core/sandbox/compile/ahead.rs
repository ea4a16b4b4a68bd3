//! Components compiled before the app ships, for builds without a compiler, and for first starts
//! that compile nothing.

use std::borrow::Cow;
use std::sync::Arc;

#[cfg(feature = "compile")]
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache;
#[cfg(feature = "compile")]
use crate::plugin_error::PluginError;
#[cfg(feature = "compile")]
use crate::sandbox::engine::engine_for;
#[cfg(feature = "compile")]
use crate::sandbox::load::check_form;

/// The artefacts that the app brings.
#[derive(Clone, Default)]
pub(crate) struct Ahead(Vec<Arc<Cow<'static, [u8]>>>);

impl Ahead {
    /// Adds one. The caller has vouched for it.
    pub(crate) fn add(&mut self, artefact: Cow<'static, [u8]>) {
        self.0.push(Arc::new(artefact));
    }

    /// The compiled form of a component, if a usable one is among them.
    pub(super) fn load(&self, engine: &Engine, digest: &[u8; 32]) -> Option<Component> {
        self.0.iter().find_map(|artefact| cache::read(artefact, engine, digest))
    }
}

/// Compiles a component for the machines of this target triple, such as `aarch64-apple-darwin`, or
/// for those like this one when none is given. It is for a build script or a tool, so that the
/// app's own build needs no compiler. The result is for
/// [`Builder::compiled`](crate::Builder::compiled), or for a file named
/// [`CompiledComponent::file_name`] in the app's
/// [`CompileCache::Folder`](crate::CompileCache::Folder).
///
/// The code is for every machine of that kind, so it uses no instruction that only newer ones have.
/// It fits only the version of Verger that made it. For a build with the feature `pulley` the
/// target is `pulley64`. Machines of another architecture than this one need the feature
/// `cross-compile`.
///
/// # Errors
/// [`PluginError`] when the bytes are no component, or the target is not known.
#[cfg(feature = "compile")]
pub fn compile_component(
    what: &str,
    component: &[u8],
    target: Option<&str>,
) -> Result<CompiledComponent, PluginError> {
    check_form(what, component)?;
    let host = match cfg!(feature = "pulley") {
        true => "pulley64".to_string(),
        false => target_lexicon::HOST.to_string(),
    };
    let target = target.unwrap_or(&host);
    let refused = |error: wasmtime::Error| PluginError::Engine {
        what: what.to_string(),
        reason: format!("it cannot be compiled for {target}: {error:#}"),
    };
    let engine = engine_for(target).map_err(refused)?;
    let code = engine.precompile_component(component).map_err(|error| {
        PluginError::NotAComponent { what: what.to_string(), reason: format!("{error:#}") }
    })?;
    let digest = Sha256::digest(component).into();
    Ok(CompiledComponent {
        file_name: cache::name(&engine, &digest),
        bytes: cache::sealed(&digest, &code),
    })
}

/// A component as machine code.
#[cfg(feature = "compile")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledComponent {
    file_name: String,
    bytes: Vec<u8>,
}

#[cfg(feature = "compile")]
impl CompiledComponent {
    /// What [`Builder::compiled`](crate::Builder::compiled) takes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The name that its file must have in a [`CompileCache::Folder`](crate::CompileCache::Folder).
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.file_name
    }
}
