//! From bytes to a component that is known to be a worker.

use sha2::{Digest, Sha256};
use verger_worker::Manifest;
use wasmtime::Engine;

use super::compile::{Compiler, Origin};
use super::engine::sandbox;
use super::instance::Linked;
use super::wasi;
use crate::observation::observe;
use crate::plugin_error::PluginError;

/// The most bytes a plugin may have.
pub(super) const PLUGIN_MAX_BYTES: u64 = 64 << 20;

/// The package a worker may import from.
const PACKAGE: &str = "verger:worker/";

/// A component ready to be instantiated.
pub(super) struct Loaded {
    pub(super) linked: Linked,
    pub(super) manifest: Manifest,
    /// The manifest as the component gave it.
    pub(super) described: String,
    pub(super) digest: [u8; 32],
}

/// Checks a component, compiles it or takes it from the cache, links it, and asks for its manifest.
/// `what` names the plugin in errors.
pub(super) fn load(
    what: &str,
    bytes: &[u8],
    origin: Origin,
    compiler: &Compiler,
) -> Result<Loaded, PluginError> {
    let engine_error = |reason: String| PluginError::Engine { what: what.to_string(), reason };
    check_form(what, bytes)?;
    let sandbox = sandbox().map_err(engine_error)?;
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let component = compiler.component(what, bytes, &digest, origin, &sandbox.pooled.engine)?;
    let mut has_wasi = false;
    for (import, _) in component.component_type().imports(&sandbox.pooled.engine) {
        let known = import.strip_prefix(PACKAGE).and_then(|rest| rest.split_once('@'));
        has_wasi |= wasi::is_wasi(import);
        if !known.is_some_and(|(interface, _)| INTERFACES.contains(&interface))
            && !wasi::is_wasi(import)
        {
            return Err(PluginError::UnknownImport {
                what: what.to_string(),
                import: import.to_string(),
            });
        }
    }
    let mismatch = |error: wasmtime::Error| PluginError::Mismatch {
        what: what.to_string(),
        reason: format!("{error:#}"),
    };
    let linked = Linked::new(sandbox, &component, has_wasi).map_err(mismatch)?;
    let json = linked
        .describe()
        .map_err(|reason| PluginError::Describe { what: what.to_string(), reason })?;
    observe(|observed| observed.manifest = Some(json.clone()));
    let manifest = Manifest::parse(&json)
        .map_err(|source| PluginError::Manifest { what: what.to_string(), source })?;
    Ok(Loaded { linked, manifest, described: json, digest })
}

const INTERFACES: [&str; 10] =
    ["types", "store", "audit", "clock", "events", "job", "log", "host", "queue", "state"];

/// Refuses what is no component before the compiler sees it.
pub(super) fn check_form(what: &str, bytes: &[u8]) -> Result<(), PluginError> {
    let what = what.to_string();
    let size = bytes.len() as u64;
    if size > PLUGIN_MAX_BYTES {
        return Err(PluginError::TooLarge { what, bytes: size, most: PLUGIN_MAX_BYTES });
    }
    if Engine::detect_precompiled(bytes).is_some() {
        return Err(PluginError::Precompiled { what });
    }
    match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(PluginError::CoreModule { what }),
        [0, b'a', b's', b'm', _, 0, 1, 0, ..] => Ok(()),
        _ => Err(PluginError::NotAComponent {
            what,
            reason: "it does not begin as WebAssembly does".to_string(),
        }),
    }
}
