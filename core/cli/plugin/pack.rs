//! `verger plugin pack`: a core module becomes a component.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wit_component::ComponentEncoder;

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
            "cannot make a component of {}: is it a cdylib for wasm32-unknown-unknown that calls verger_worker::export!?",
            module.display()
        )
    })?;
    // Whole or not at all: a running app may be looking at the folder.
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
    ComponentEncoder::default().module(module)?.validate(true).encode()
}
