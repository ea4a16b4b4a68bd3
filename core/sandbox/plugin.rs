//! A worker that is a component: loaded at its first use.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use verger_worker::{Args, Manifest};

use super::compile::Compiler;
use super::load::{Loaded, PLUGIN_MAX_BYTES, load};
use crate::plugin_error::PluginError;
use crate::run::{AttemptError, Ended, Run};

/// Where a component's bytes come from.
pub(crate) enum Source {
    /// Part of this binary.
    #[cfg_attr(not(feature = "builtins"), allow(dead_code, reason = "nothing is embedded"))]
    Embedded { name: &'static str, bytes: &'static [u8] },
    /// Bytes the app has.
    Bytes { name: String, bytes: Vec<u8> },
    /// A file. It is read once: replacing it changes nothing until the next open.
    File(PathBuf),
}

/// A component and, once it was needed, its compiled form.
pub(crate) struct Plugin {
    source: Source,
    compiler: Arc<Compiler>,
    loaded: OnceLock<Result<Loaded, PluginError>>,
}

impl Plugin {
    pub(crate) fn new(source: Source, compiler: Arc<Compiler>) -> Self {
        Self { source, compiler, loaded: OnceLock::new() }
    }

    /// What it is called in errors.
    pub(crate) fn what(&self) -> String {
        match &self.source {
            Source::Embedded { name, .. } => format!("the built-in worker `{name}`"),
            Source::Bytes { name, .. } => name.clone(),
            Source::File(path) => path.display().to_string(),
        }
    }

    /// The file it comes from.
    pub(crate) fn path(&self) -> Option<&std::path::Path> {
        match &self.source {
            Source::File(path) => Some(path),
            _ => None,
        }
    }

    pub(crate) fn is_built_in(&self) -> bool {
        matches!(self.source, Source::Embedded { .. })
    }

    /// In bytes; 0 when it cannot be told, or is no file.
    pub(crate) fn file_size(&self) -> u64 {
        match &self.source {
            Source::File(path) => std::fs::metadata(path).map_or(0, |file| file.len()),
            _ => 0,
        }
    }

    fn loaded(&self) -> Result<&Loaded, PluginError> {
        let loaded = self.loaded.get_or_init(|| {
            let what = self.what();
            match &self.source {
                Source::Embedded { bytes, .. } => load(&what, bytes, true, &self.compiler),
                Source::Bytes { bytes, .. } => load(&what, bytes, false, &self.compiler),
                Source::File(path) => {
                    let unreadable = |error: std::io::Error| PluginError::Unreadable {
                        what: what.clone(),
                        reason: error.to_string(),
                    };
                    let found = std::fs::metadata(path).map_err(unreadable)?;
                    if !found.is_file() {
                        // A pipe would keep whoever reads it waiting.
                        let kind = if found.is_dir() { "a folder" } else { "a pipe or a device" };
                        let reason = format!("it is {kind}, not a file");
                        return Err(PluginError::Unreadable { what, reason });
                    }
                    let bytes = found.len();
                    if bytes > PLUGIN_MAX_BYTES {
                        return Err(PluginError::TooLarge { what, bytes, most: PLUGIN_MAX_BYTES });
                    }
                    let bytes = std::fs::read(path).map_err(unreadable)?;
                    load(&what, &bytes, false, &self.compiler)
                }
            }
        });
        loaded.as_ref().map_err(Clone::clone)
    }

    /// The SHA-256 of the bytes, in hexadecimal digits.
    pub(crate) fn digest(&self) -> Result<String, PluginError> {
        let digest = match &self.source {
            // Needs not be loaded for it.
            Source::Embedded { bytes, .. } => <[u8; 32]>::from(Sha256::digest(bytes)),
            _ => self.loaded()?.digest,
        };
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub(crate) fn manifest(&self) -> Result<&Manifest, PluginError> {
        self.loaded().map(|loaded| &loaded.manifest)
    }

    pub(crate) fn perform(
        &self,
        run: Run,
        args: &Args,
    ) -> (Option<Run>, Result<Ended, AttemptError>) {
        match self.loaded() {
            Ok(loaded) => loaded.linked.perform(run, args),
            Err(error) => (Some(run), Err(AttemptError::new("plugin", error.to_string()))),
        }
    }
}
