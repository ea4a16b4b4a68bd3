//! `verger plugin pack`: makes a component of a core module, whatever made it.
//!
//! Rust's bindings put a copy of the interface into the module. Other languages need not do so. If
//! there is no copy, the interface of this Verger is added. A module that speaks WASI preview 1
//! (Go, C++ with its library) is adapted to 0.2, of which a worker gets next to nothing.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use verger::verger_worker::{MIGRATION_WIT, WIT};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::options::Options;
use crate::output::{print, print_json};

pub(super) fn pack(module: &Path, output: &Path, options: &Options) -> Result<()> {
    let bytes =
        std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    ensure!(
        !bytes.starts_with(b"\0asm\x0d\0\x01\0"),
        "{} is a component already: use it as it is",
        module.display()
    );
    let component = encode(&bytes).with_context(|| {
        format!(
            "cannot make a component of {}: a worker exports `describe` and `perform` of the world verger:worker/worker@0.1.0 (`verger plugin wit`); in Rust it is a cdylib that calls verger_worker::export!",
            module.display()
        )
    })?;
    // Whole or not at all, because a running app may be looking at the folder.
    let folder =
        output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    std::fs::write(file.path(), &component)?;
    #[cfg(unix)]
    std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(output).with_context(|| format!("cannot write {}", output.display()))?;
    match options.json {
        true => print_json(&json!({"file": output, "bytes": component.len()})),
        false => {
            print([format!("{}: {} bytes", output.display(), component.len())]);
            Ok(())
        }
    }
}

fn encode(module: &[u8]) -> Result<Vec<u8>> {
    let Needs { interface, adapter, world } = needs(module)?;
    let mut module = module.to_vec();
    if interface {
        let mut resolve = Resolve::default();
        let package = resolve.push_source("worker.wit", &interface_with(world))?;
        let world = resolve.select_world(&[package], Some(world))?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    }
    let mut encoder = ComponentEncoder::default().module(&module)?.validate(true);
    if adapter {
        let name = WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
        encoder = encoder.adapter(name, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    }
    encoder.encode()
}

/// The interface, with the world that migrates args if that is the module's world.
fn interface_with(world: &str) -> String {
    match world {
        WORKER => WIT.to_string(),
        _ => WIT.to_string() + &MIGRATION_WIT.replacen(PACKAGE_LINE, "", 1),
    }
}

/// The world of most workers, and the one of those that export `migrate-args`.
const WORKER: &str = "worker";
const WORKER_WITH_MIGRATION: &str = "worker-with-migration";

/// The line that both files of the package begin with.
const PACKAGE_LINE: &str = "package verger:worker@0.1.0;";

/// What must be added to a module to make a component of it.
struct Needs {
    /// It has no copy of the interface it was built against.
    interface: bool,
    /// It imports WASI preview 1.
    adapter: bool,
    /// Its world. A module that exports `migrate-args` has a world of its own.
    world: &'static str,
}

fn needs(module: &[u8]) -> Result<Needs> {
    let mut needs = Needs { interface: true, adapter: false, world: WORKER };
    let mut exports = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.context("it is no whole WebAssembly module")? {
            Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                needs.interface = false;
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    needs.adapter |= import?.module == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    exports.push(export?.name.to_string());
                }
            }
            _ => {}
        }
    }
    if exports.iter().any(|name| name == "migrate-args") {
        needs.world = WORKER_WITH_MIGRATION;
    }
    if exports.iter().any(|name| name == "_start") {
        bail!(
            "it is a program, with a `main`, and a worker is a library: build it as a reactor (clang and zig: -mexec-model=reactor; Go: -buildmode=c-shared)"
        );
    }
    Ok(needs)
}
