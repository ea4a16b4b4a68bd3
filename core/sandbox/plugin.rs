//! A worker that is a component: loaded at its first use, or before.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use sha2::{Digest, Sha256};
use verger_worker::{Args, Manifest};

use super::compile::{Compiler, Origin};
use super::load::{Loaded, PLUGIN_MAX_BYTES, load};
use crate::metrics::Counters;
use crate::plugin_error::PluginError;
use crate::run::{AttemptError, Ended, GuestRun, Unmigrated};
use crate::text::hex;

/// Where a component's bytes come from.
pub(crate) enum Source {
    /// Part of this binary.
    #[cfg_attr(not(feature = "builtins"), allow(dead_code, reason = "nothing is embedded"))]
    Embedded { name: &'static str, bytes: &'static [u8] },
    /// Bytes the app has.
    Bytes { name: String, bytes: Vec<u8> },
    /// A file. It is read once. If the file changes later, it is another plugin.
    File(PathBuf),
}

/// Measures how long a component takes to load, however that ends.
struct Timed<'a> {
    counters: &'a Counters,
    begun: Instant,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.counters.loaded(self.begun.elapsed());
    }
}

/// A component and, once it was needed, its compiled form.
pub(crate) struct Plugin {
    source: Source,
    compiler: Arc<Compiler>,
    /// The manifest from the last load of the same file, if the file is unchanged.
    known: Option<Known>,
    loaded: OnceLock<Result<Loaded, PluginError>>,
}

/// What is known of a file without loading it.
struct Known {
    /// SHA-256, in hexadecimal digits.
    digest: String,
    manifest: Manifest,
}

impl Plugin {
    pub(crate) fn new(source: Source, compiler: Arc<Compiler>) -> Self {
        Self { source, compiler, known: None, loaded: OnceLock::new() }
    }

    /// The component of a file that was read.
    pub(crate) fn of_file(path: &Path, bytes: &[u8], compiler: Arc<Compiler>) -> Self {
        let plugin = Self::new(Source::File(path.to_path_buf()), compiler);
        let _ = plugin.loaded.set(load(&plugin.what(), bytes, Origin::File, &plugin.compiler));
        plugin
    }

    /// The component of a known file, which is loaded at its first use. `None` when loading would
    /// have to compile it.
    pub(crate) fn known(
        path: &Path,
        digest: &str,
        described: &str,
        compiler: Arc<Compiler>,
    ) -> Option<Self> {
        let manifest = Manifest::parse(described).ok()?;
        if !is_cached(&compiler, digest) {
            return None;
        }
        let known = Some(Known { digest: digest.to_string(), manifest });
        Some(Self { known, ..Self::new(Source::File(path.to_path_buf()), compiler) })
    }

    /// Its name in errors.
    pub(crate) fn what(&self) -> String {
        match &self.source {
            Source::Embedded { name, .. } => format!("the built-in worker `{name}`"),
            Source::Bytes { name, .. } => name.clone(),
            Source::File(path) => path.display().to_string(),
        }
    }

    pub(crate) fn is_built_in(&self) -> bool {
        matches!(self.source, Source::Embedded { .. })
    }

    fn loaded(&self) -> Result<&Loaded, PluginError> {
        let loaded = self.loaded.get_or_init(|| {
            let what = self.what();
            let _timed = Timed { counters: &self.compiler.counters, begun: Instant::now() };
            match &self.source {
                Source::Embedded { bytes, .. } => {
                    load(&what, bytes, Origin::BuiltIn, &self.compiler)
                }
                Source::Bytes { bytes, .. } => load(&what, bytes, Origin::App, &self.compiler),
                Source::File(path) => {
                    let bytes = read(path)?;
                    let loaded = load(&what, &bytes, Origin::File, &self.compiler)?;
                    match &self.known {
                        Some(known) if known.digest != hex(&loaded.digest) => {
                            Err(PluginError::Changed { what })
                        }
                        _ => Ok(loaded),
                    }
                }
            }
        });
        loaded.as_ref().map_err(Clone::clone)
    }

    /// Loads it, unless it is loaded.
    pub(crate) fn prepare(&self) -> Result<(), PluginError> {
        self.loaded().map(drop)
    }

    /// The SHA-256 of the bytes, in hexadecimal digits.
    pub(crate) fn digest(&self) -> Result<String, PluginError> {
        if let Some(known) = &self.known {
            return Ok(known.digest.clone());
        }
        Ok(match &self.source {
            // It need not be loaded for this.
            Source::Embedded { bytes, .. } => digest_of(bytes),
            _ => hex(&self.loaded()?.digest),
        })
    }

    pub(crate) fn manifest(&self) -> Result<&Manifest, PluginError> {
        match (&self.known, self.loaded.get()) {
            // What it says itself, once it was asked.
            (_, Some(Ok(loaded))) => Ok(&loaded.manifest),
            (Some(known), _) => Ok(&known.manifest),
            (None, _) => self.loaded().map(|loaded| &loaded.manifest),
        }
    }

    /// The same, without loading it. `None` when it would have to be loaded.
    pub(crate) fn known_manifest(&self) -> Option<&Manifest> {
        match (self.loaded.get(), &self.known) {
            (Some(Ok(loaded)), _) => Some(&loaded.manifest),
            (_, Some(known)) => Some(&known.manifest),
            _ => None,
        }
    }

    /// Brings args of an earlier version into the present form. If the component has no export for
    /// that, they stay as they are.
    pub(crate) fn migrate_args(&self, from: u32, args: &Args) -> Result<Args, Unmigrated> {
        match self.loaded() {
            Ok(loaded) => loaded.linked.migrate_args(from, args),
            Err(error) => Err(Unmigrated::Failed(AttemptError::new("plugin", error.to_string()))),
        }
    }

    /// Its description of itself as JSON, once it was loaded.
    pub(crate) fn described(&self) -> Option<&str> {
        self.loaded.get()?.as_ref().ok().map(|loaded| loaded.described.as_str())
    }

    pub(crate) fn perform<R: GuestRun>(
        &self,
        run: R,
        args: &Args,
    ) -> (Option<R>, Result<Ended, AttemptError>) {
        match self.loaded() {
            Ok(loaded) => loaded.linked.perform(run, args),
            Err(error) => (Some(run), Err(AttemptError::new("plugin", error.to_string()))),
        }
    }
}

/// Reads a file that may be a plugin. It reads no more bytes than a plugin may have, and reads no
/// pipe or device, which might never end.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, PluginError> {
    let what = path.display().to_string();
    let unreadable = |error: std::io::Error| PluginError::Unreadable {
        what: what.clone(),
        reason: error.to_string(),
    };
    let found = std::fs::metadata(path).map_err(unreadable)?;
    if let Some(found) = no_file(&found) {
        return Err(PluginError::NotAFile { what, found });
    }
    let too_large =
        |bytes: u64| PluginError::TooLarge { what: what.clone(), bytes, most: PLUGIN_MAX_BYTES };
    if found.len() > PLUGIN_MAX_BYTES {
        return Err(too_large(found.len()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(PLUGIN_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 {
        size if size > PLUGIN_MAX_BYTES => Err(too_large(size)),
        _ => Ok(bytes),
    }
}

/// In words, what something is that is no file.
pub(crate) fn no_file(found: &std::fs::Metadata) -> Option<&'static str> {
    if found.is_file() {
        return None;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = found.file_type();
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
    }
    Some(if found.is_dir() { "a folder" } else { "something else" })
}

fn is_cached(compiler: &Compiler, digest: &str) -> bool {
    from_hex(digest).is_some_and(|digest| compiler.has(&digest))
}

/// Removes the machine code of a component that is no longer needed.
pub(crate) fn forget_compiled(compiler: &Compiler, digest: &str) {
    if let Some(digest) = from_hex(digest) {
        compiler.forget(&digest);
    }
}

fn from_hex(digest: &str) -> Option<[u8; 32]> {
    let byte = |at: usize| u8::from_str_radix(digest.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..digest.len()).step_by(2).map(byte).collect();
    bytes?.try_into().ok()
}

/// The SHA-256 of bytes, in hexadecimal digits.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}
