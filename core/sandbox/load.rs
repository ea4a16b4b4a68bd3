//! From bytes to a component that is known to be a worker.

use sha2::{Digest, Sha256};
use verger_worker::Manifest;
use wasmtime::Engine;

use super::compile::Compiler;
use super::engine::{Sandbox, sandbox};
use super::guest::{Guest, bindings};
use super::wasi;
use crate::plugin_error::PluginError;

/// The most bytes a plugin may have.
pub(super) const PLUGIN_MAX_BYTES: u64 = 64 << 20;

/// The package a worker may import from.
const PACKAGE: &str = "verger:worker/";

/// A component ready to be instantiated.
pub(super) struct Loaded {
    pub(super) pre: bindings::WorkerPre<Guest>,
    pub(super) manifest: Manifest,
    pub(super) digest: [u8; 32],
    pub(super) sandbox: &'static Sandbox,
}

/// Checks, compiles or takes from the cache, links, and asks for the manifest. `what` names the
/// plugin in errors.
pub(super) fn load(
    what: &str,
    bytes: &[u8],
    is_part_of_the_app: bool,
    compiler: &Compiler,
) -> Result<Loaded, PluginError> {
    let engine_error = |reason: String| PluginError::Engine { what: what.to_string(), reason };
    check_form(what, bytes)?;
    let sandbox = sandbox().map_err(engine_error)?;
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let component =
        compiler.component(what, bytes, &digest, is_part_of_the_app, &sandbox.engine)?;
    let mut has_wasi = false;
    for (import, _) in component.component_type().imports(&sandbox.engine) {
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
    let pre = if has_wasi {
        let mut linker = sandbox.linker.clone();
        wasi::link(&mut linker, &component).and_then(|()| linker.instantiate_pre(&component))
    } else {
        sandbox.linker.instantiate_pre(&component)
    };
    let pre = pre.map_err(mismatch)?;
    let pre = bindings::WorkerPre::new(pre).map_err(mismatch)?;
    let json = super::guest::describe(sandbox, &pre)
        .map_err(|reason| PluginError::Describe { what: what.to_string(), reason })?;
    let manifest = Manifest::parse(&json)
        .map_err(|source| PluginError::Manifest { what: what.to_string(), source })?;
    Ok(Loaded { pre, manifest, digest, sandbox })
}

const INTERFACES: [&str; 8] = ["types", "store", "audit", "clock", "events", "job", "log", "host"];

/// Refuses what is no component before the compiler sees it.
fn check_form(what: &str, bytes: &[u8]) -> Result<(), PluginError> {
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
