//! What a component would be in a database that knows workers already: whom its name belongs to,
//! and what it asks for beyond what was granted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value as Json, json};
use verger::verger_worker::TableName;
use verger::{GrantDecision, Manifest, PluginBinding};

use super::diff::asks;
use crate::escape::shown;
use crate::options::Options;

/// What a database knows of a component's name.
pub(super) struct Known {
    file: PathBuf,
    name: String,
    binding: Option<PluginBinding>,
    is_this_file: bool,
    /// What somebody granted to the name there.
    granted: usize,
    /// What it asks for and nobody granted there, as `verger_grants` has it.
    beyond_granted: Vec<String>,
    /// What it asks for and the version that has the name does not.
    beyond_version: Vec<String>,
}

impl Known {
    /// # Errors
    /// When the database cannot be read.
    pub(super) fn of(
        manifest: &Manifest,
        sha256: &str,
        database: &Path,
        options: &Options,
    ) -> Result<Self> {
        ensure!(database.is_file(), "there is no database {}", database.display());
        // Nothing is loaded, because what is known of the name is in the file.
        let verger = options.builder(database)?.without_built_ins().read_only().open()?;
        let binding = verger.plugin_binding(&manifest.name)?;
        let rows = verger.grants()?;
        let granted: BTreeSet<String> = rows
            .into_iter()
            .filter(|row| row.worker == manifest.name && row.problem.is_none())
            .filter(|row| row.decision == Some(GrantDecision::Granted))
            .map(|row| row.what)
            .collect();
        let before = binding.as_ref().and_then(|binding| binding.manifest.as_ref());
        let beyond_version = before.map_or_else(Vec::new, |before| {
            asks(manifest).difference(&asks(before)).cloned().collect()
        });
        Ok(Self {
            file: database.to_path_buf(),
            name: manifest.name.clone(),
            is_this_file: binding.as_ref().is_some_and(|binding| binding.digest == sha256),
            granted: granted.len(),
            beyond_granted: wanted(manifest).difference(&granted).cloned().collect(),
            beyond_version,
            binding,
        })
    }

    pub(super) fn to_json(&self) -> Json {
        json!({
            "file": self.file,
            "binding": self.binding.as_ref().map(|binding| json!({
                "sha256": binding.digest,
                "source": binding.source,
                "version": binding.manifest.as_ref().map(|manifest| &manifest.version),
                "first_seen_at": binding.first_seen_at,
                "bound_at": binding.bound_at,
            })),
            "bound_to_this_file": self.is_this_file,
            "beyond_granted": self.beyond_granted,
            "beyond_version": self.beyond_version,
        })
    }

    pub(super) fn to_text(&self) -> String {
        let Self { name, granted, .. } = self;
        let mut text = format!("\nIn {}\n", shown(&self.file.display().to_string()));
        let mut line = |said: String| text.push_str(&format!("  {said}\n"));
        match &self.binding {
            None => line(format!("the name `{name}` is nobody's: the first file with it has it")),
            Some(binding) if self.is_this_file => {
                line(format!("the name `{name}` belongs to this file, since {}", binding.bound_at));
            }
            Some(binding) => {
                let version = binding.manifest.as_ref().map(|manifest| shown(&manifest.version));
                line(format!(
                    "THE NAME `{name}` BELONGS TO ANOTHER FILE, since {}: version {}, {}, SHA-256 {}",
                    binding.bound_at,
                    version.as_deref().unwrap_or("unknown"),
                    shown(&binding.source),
                    shown(&binding.digest)
                ));
                line("beside that one it is refused; in its place it is a new version".to_string());
            }
        }
        if !self.beyond_version.is_empty() {
            line("beyond the version that has the name it asks to".to_string());
            self.beyond_version.iter().for_each(|asked| line(format!("  {}", shown(asked))));
        }
        match (granted, self.beyond_granted.is_empty()) {
            (0, false) => line("nothing was granted to the name there: it waits".to_string()),
            (_, true) => line("it asks for nothing beyond what was granted there".to_string()),
            (_, false) => {
                line("it asks for what was not granted there, and waits until it is".to_string());
                self.beyond_granted.iter().for_each(|asked| line(format!("  {}", shown(asked))));
            }
        }
        text
    }
}

/// What a manifest asks for, as `verger_grants` has it.
fn wanted(manifest: &Manifest) -> BTreeSet<String> {
    let tables = manifest.tables.iter().flat_map(|ask| {
        let (TableName::Named { table } | TableName::FromArg { default: table, .. }) = &ask.table;
        ask.verbs.iter().map(move |verb| format!("{verb} {}", table.to_ascii_lowercase()))
    });
    let functions = manifest.capabilities.iter().map(|name| format!("capability {name}"));
    let others = manifest.enqueues.iter().filter(|name| **name != manifest.name);
    tables.chain(functions).chain(others.map(|name| format!("enqueue {name}"))).collect()
}
