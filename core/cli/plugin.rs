//! `verger plugin`: make and look at workers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Subcommand;
use serde_json::json;
use verger::verger_worker::{Suggested, TableName};
use verger::{Expression, Manifest, Verger};
use wit_component::ComponentEncoder;

use crate::options::Options;
use crate::output::{count, print, print_json};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Wrap a core module, as cargo builds it for wasm32-unknown-unknown, into a component
    Pack {
        /// The core module: target/wasm32-unknown-unknown/release/NAME.wasm
        module: PathBuf,
        /// Where to write the component
        #[arg(short, long)]
        output: PathBuf,
    },
    /// What a worker says of itself and asks to touch, or why its component is refused
    Inspect {
        /// The component
        file: PathBuf,
    },
}

impl Command {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        match self {
            Self::Pack { module, output } => pack(module, output, options)?,
            Self::Inspect { file } => inspect(file, options)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn pack(module: &Path, output: &Path, options: &Options) -> Result<()> {
    let bytes = std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    ensure!(!bytes.starts_with(b"\0asm\x0d\0\x01\0"), "{} is a component already: use it as it is", module.display());
    let component = encode(&bytes).with_context(|| {
        format!(
            "cannot make a component of {}: is it a cdylib for wasm32-unknown-unknown that calls verger_worker::export!?",
            module.display()
        )
    })?;
    // Whole or not at all: a running app may be looking at the folder.
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).with_context(|| format!("cannot write into {}", folder.display()))?;
    std::fs::write(file.path(), &component)?;
    #[cfg(unix)]
    std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(output).with_context(|| format!("cannot write {}", output.display()))?;
    match options.json {
        true => print_json(&json!({"file": output, "bytes": component.len()})),
        false => Ok(print(&format!("{}: {} bytes\n", output.display(), component.len()))?),
    }
}

fn encode(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().module(module)?.validate(true).encode()
}

/// Loads the file as an app would.
fn inspect(file: &Path, options: &Options) -> Result<()> {
    let bytes = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    let verger = Verger::in_memory().without_built_ins().plugin(file).open()?;
    if let Some(refusal) = verger.refused_plugins().first() {
        return Err(refusal.clone().into());
    }
    let name = verger.workers().pop().ok_or_else(|| anyhow!("{} has no worker", file.display()))?;
    let manifest = verger.manifest(&name)?;
    let sha256 = verger.digest(&name)?.unwrap_or_default();
    match options.json {
        true => print_json(&json!({"file": file, "bytes": bytes, "sha256": sha256, "manifest": manifest})),
        false => Ok(print(&in_words(&manifest, bytes, &sha256))?),
    }
}

fn in_words(manifest: &Manifest, bytes: u64, sha256: &str) -> String {
    let mut text = format!("{} {}, {} bytes\nSHA-256 {sha256}\n", manifest.name, manifest.version, count(bytes));
    if !manifest.description.is_empty() {
        text.push_str(&format!("{}\n", manifest.description));
    }
    text.push_str("\nIt imports nothing but verger:worker: no files, no network, no clock of its own.\n\nIt asks for\n");
    for ask in &manifest.tables {
        let verbs: Vec<String> = ask.verbs.iter().map(ToString::to_string).collect();
        let table = match &ask.table {
            TableName::Named { table } => format!("the table {table}"),
            TableName::FromArg { arg, default } => format!("the table that the arg `{arg}` names ({default})"),
        };
        text.push_str(&format!("  {} on {table}\n", verbs.join(", ")));
    }
    for capability in &manifest.capabilities {
        text.push_str(&format!("  the app's function `{capability}`\n"));
    }
    if manifest.tables.is_empty() && manifest.capabilities.is_empty() {
        text.push_str("  nothing\n");
    }
    text.push_str("\nIts args\n");
    let width = manifest.args.keys().map(String::len).max().unwrap_or(0).max(if manifest.tenant_aware { 15 } else { 0 });
    if manifest.tenant_aware {
        for key in ["organization_id", "actor_id"] {
            text.push_str(&format!("  {key:width$}  must be there, and may be null\n"));
        }
    }
    for (name, spec) in &manifest.args {
        let need = match &spec.default {
            Some(default) => format!("default {default}"),
            None if spec.required => "must be there".to_string(),
            None => "may be left out".to_string(),
        };
        let means = if spec.description.is_empty() { String::new() } else { format!(". {}", spec.description) };
        text.push_str(&format!("  {name:width$}  {need}{means}\n"));
    }
    if !manifest.tenant_aware && manifest.args.is_empty() {
        text.push_str("  none\n");
    }
    if let Some(suggested) = &manifest.schedule {
        text.push_str(&format!("\nIt suggests to run {}\n", suggestion(suggested)));
    }
    text
}

fn suggestion(suggested: &Suggested) -> String {
    let told = match suggested {
        Suggested::Cron(expression) => Expression::cron(expression).map(|read| format!("{} ({expression})", read.describe())),
        Suggested::EveryMs(millis) => Expression::every(std::time::Duration::from_millis(*millis)).map(|every| every.describe()),
    };
    told.unwrap_or_else(|error| error.to_string())
}
