//! A component as its bytes describe it, and as it loads.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};
use verger::{Builder, Grant, Manifest, PluginError, Verger};
use wasmparser::{ComponentTypeRef, Parser, Payload, TypeBounds};

use crate::escape::shown;

/// How long compiling a file may take. A person named it and can stop the command, so a slow or busy
/// machine is no reason to refuse it. An app, which has to start, gives up sooner.
const COMPILE_TIME: Duration = Duration::from_secs(1_800);

/// What the interfaces of `verger:worker` let a worker do. It reaches nothing else.
const INTERFACES: [(&str, &str); 10] = [
    ("store", "reads and writes the database through the host, as far as it is granted"),
    ("audit", "adds rows to the audit log, marked with its job"),
    ("clock", "reads the clock the app gave Verger"),
    ("events", "publishes messages to the app"),
    ("job", "learns of its own job: id, attempt, deadline, slot"),
    ("log", "writes lines to the app's log, marked with its name"),
    ("host", "calls functions of the app by name, as far as they are granted"),
    ("queue", "enqueues jobs for itself, and for the workers it is granted"),
    ("state", "keeps a few small values between its jobs"),
    ("types", "the types that these share"),
];

/// What components get of WASI 0.2, by package. Languages ask for it whether they use it or not.
const WASI: [(&str, &str); 6] = [
    ("cli", "an empty environment; what it prints goes to its job's log"),
    ("clocks", "the clock the app gave Verger"),
    ("filesystem", "no files: what would touch one traps"),
    ("io", "what it prints, to its job's log; nothing to read"),
    ("random", "chance that its job seeds, no secrets"),
    ("", "nothing: a call traps"),
];

/// A component, as far as it is known without compiling it.
pub(super) struct Component {
    pub(super) bytes: usize,
    pub(super) sha256: String,
    pub(super) imports: Vec<Import>,
    pub(super) exports: Vec<String>,
}

/// Something a component imports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Import {
    /// The whole name: `verger:worker/store@0.1.0`.
    pub(super) name: String,
    /// What it lets the component do. `None` for something that Verger does not provide.
    pub(super) means: Option<&'static str>,
    /// Whether Verger refuses the component for it.
    pub(super) refused: bool,
}

impl Component {
    /// Reads a file that [`load`] found to be a component, to compare it with what was loaded.
    ///
    /// # Errors
    /// When it cannot be read, or differs from the one that was loaded.
    pub(super) fn read(file: &Path, loaded: &Result<Loaded, PluginError>) -> Result<Self> {
        let bytes =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let (mut imports, exports) = surface(&bytes)
            .with_context(|| format!("cannot read the imports of {}", file.display()))?;
        let sha256: String =
            Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        match loaded {
            Ok(Loaded { verger, manifest }) => {
                let same = verger.digest(&manifest.name)?.as_ref() == Some(&sha256);
                ensure!(same, "{} changed while it was looked at: look again", file.display());
            }
            Err(PluginError::UnknownImport { import: unknown, .. }) => {
                imports.iter_mut().for_each(|import| {
                    import.refused = import.means.is_none() || import.name == *unknown
                });
            }
            Err(_) => {}
        }
        Ok(Self { bytes: bytes.len(), sha256, imports, exports })
    }

    /// The imports for which Verger refuses it.
    pub(super) fn refused(&self) -> Vec<&str> {
        self.imports
            .iter()
            .filter(|import| import.refused)
            .map(|import| import.name.as_str())
            .collect()
    }
}

impl Import {
    /// The bare name of an interface of `verger:worker` in the version this Verger has. Otherwise
    /// the whole name.
    pub(super) fn short_name(&self) -> &str {
        let short = || self.name.strip_prefix("verger:worker/")?.strip_suffix("@0.1.0");
        short().unwrap_or(&self.name)
    }
}

/// The imports and exports of a component, without those of components inside it.
fn surface(bytes: &[u8]) -> wasmparser::Result<(Vec<Import>, Vec<String>)> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut inside = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => inside += 1,
            Payload::End(_) => inside = inside.saturating_sub(1),
            Payload::ComponentImportSection(section) if inside == 0 => {
                for import in section {
                    let import = import?;
                    // It only names a type that is known already, and imports nothing.
                    if matches!(import.ty, ComponentTypeRef::Type(TypeBounds::Eq(_))) {
                        continue;
                    }
                    let name = import.name.name.to_string();
                    let means = meaning(&name);
                    imports.push(Import { name, means, refused: false });
                }
            }
            Payload::ComponentExportSection(section) if inside == 0 => {
                for export in section {
                    exports.push(export?.name.name.to_string());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

fn meaning(import: &str) -> Option<&'static str> {
    let (name, version) = import.split_once('@')?;
    let found = |table: &[(&str, &'static str)], name: &str| {
        table.iter().find(|(known, _)| *known == name).map(|(_, means)| *means)
    };
    match name.split_once('/')? {
        ("verger:worker", interface) => found(&INTERFACES, interface),
        (package, _) if version.starts_with("0.2.") => {
            let package = package.strip_prefix("wasi:")?;
            found(&WASI, package).or_else(|| found(&WASI, ""))
        }
        _ => None,
    }
}

/// The one worker of a Verger in memory.
pub(super) struct Loaded {
    pub(super) verger: Verger,
    pub(super) manifest: Manifest,
}

/// Loads a component as an app would, into what the builder describes. The inner error says why
/// Verger refuses the worker.
///
/// # Errors
/// For a file that cannot be read or is no component at all.
pub(super) fn load(file: &Path, builder: Builder) -> Result<Result<Loaded, PluginError>> {
    // It is only examined here, and nobody is asked what it may do.
    let builder = builder.without_built_ins().grant_plugins(Grant::new());
    let verger = builder.compile_limit(COMPILE_TIME).plugin(file).open()?;
    match verger.refused_plugins().first() {
        Some(
            refusal @ (PluginError::Unreadable { .. }
            | PluginError::NotAFile { .. }
            | PluginError::NotAComponent { .. }
            | PluginError::CoreModule { .. }
            | PluginError::Precompiled { .. }
            | PluginError::TooLarge { .. }),
        ) => Err(refused(refusal)),
        Some(refusal) => Ok(Err(refusal.clone())),
        None => {
            let name = verger
                .workers()
                .pop()
                .ok_or_else(|| anyhow!("{} has no worker", file.display()))?;
            let manifest = verger.manifest(&name)?;
            Ok(Ok(Loaded { verger, manifest }))
        }
    }
}

/// A refusal, for a person. The component may have written part of it.
pub(super) fn refused(refusal: &PluginError) -> anyhow::Error {
    anyhow!(shown(&refusal.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn the_imports_are_those_of_the_whole_component_alone() {
        let component = wat::parse_str(
            r#"(component
                (import "verger:worker/log@0.1.0" (instance))
                (component (import "inner" (func)) (export "hidden" (func 0)))
                (core module (import "core" "f" (func)) (export "g" (func 0)))
                (import "acme:files/types@1.0.0" (instance $out))
                (export "shown" (instance $out)))"#,
        );
        let (imports, exports) = surface(&component.unwrap()).unwrap();
        let names: Vec<&str> = imports.iter().map(|import| import.name.as_str()).collect();
        assert_eq!(names, ["verger:worker/log@0.1.0", "acme:files/types@1.0.0"]);
        assert_eq!(exports, ["shown"]);
        assert_eq!(imports[0].means, Some("writes lines to the app's log, marked with its name"));
        assert_eq!(imports[1].means, None);
    }

    #[test]
    fn only_what_verger_gives_has_a_meaning() {
        for (import, known) in [
            ("verger:worker/store@0.1.0", true),
            ("wasi:cli/stderr@0.2.6", true),
            ("wasi:http/outgoing-handler@0.2.0", true),
            ("wasi:cli/stderr@0.3.0", false),
            ("wasi-http:cli/stderr@0.2.0", false),
            ("verger:worker/filesystem@0.1.0", false),
            ("verger:workers/store@0.1.0", false),
            ("verger:worker/store", false),
            ("store", false),
        ] {
            assert_eq!(meaning(import).is_some(), known, "{import}");
        }
    }
}
