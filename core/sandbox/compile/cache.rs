//! Compiled components on disk, so that only the first start of an app compiles.
//!
//! Loading a compiled artefact runs it, so whoever can write one can run code in the app. So only
//! its owner may be able to write to the folder of the cache. An entry is named by the digest of
//! the component and of everything the compiler depends on. It is written to a temporary file and
//! renamed. It carries a digest of the component and of itself. An entry that was cut short,
//! damaged, or copied over another is compiled again.

use std::fs;
#[cfg(feature = "compile")]
use std::hash::{Hash, Hasher};
#[cfg(feature = "compile")]
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::text::hex;

/// Where compiled components are kept between starts of the app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CompileCache {
    /// In the folder `verger` of the user's cache folder (`~/.cache` or `$XDG_CACHE_HOME`,
    /// `~/Library/Caches`, `%LOCALAPPDATA%`).
    #[default]
    User,
    /// In this folder. It must belong to the user, or to the system's administrator, and nobody
    /// else may be able to write into it, because they could run code in the app. What was compiled
    /// ahead by `verger plugin compile` is found here.
    Folder(PathBuf),
    /// Nowhere: compile at every start.
    Off,
}

const DIGEST_BYTES: usize = 32;

impl CompileCache {
    /// Whether the folder may be used, because nobody but its owner can write to it.
    pub(crate) fn is_usable(&self) -> bool {
        self.folder().is_some_and(|folder| is_private(&folder))
    }

    pub(crate) fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::User => dirs::cache_dir().map(|folder| folder.join("verger")),
            Self::Folder(folder) => Some(folder.clone()),
            Self::Off => None,
        }
    }

    /// The compiled form of a component, if the cache has a usable one.
    pub(super) fn load(&self, engine: &Engine, digest: &[u8; 32]) -> Option<Component> {
        let folder = self.folder().filter(|folder| is_private(folder))?;
        entries(&folder, engine, digest)
            .iter()
            .find_map(|entry| read(&fs::read(entry).ok()?, engine, digest))
    }

    /// Whether there is an entry for a component. It may still turn out to be damaged.
    pub(super) fn has(&self, engine: &Engine, digest: &[u8; 32]) -> bool {
        let Some(folder) = self.folder().filter(|folder| is_private(folder)) else { return false };
        entries(&folder, engine, digest).iter().any(|entry| entry.is_file())
    }

    /// Removes the entry of a component.
    #[cfg(feature = "compile")]
    pub(super) fn forget(&self, engine: &Engine, digest: &[u8; 32]) {
        let Some(folder) = self.folder().filter(|folder| is_private(folder)) else { return };
        // The entry may be gone already, or was never there. What was compiled ahead belongs to the
        // app and stays.
        let _ = fs::remove_file(folder.join(name(engine, digest)));
    }

    /// Keeps the compiled form. A cache that cannot be written is only slower.
    #[cfg(feature = "compile")]
    pub(super) fn store(&self, engine: &Engine, digest: &[u8; 32], component: &Component) {
        let Some(folder) = self.folder() else { return };
        if let Err(error) = write(&folder, &name(engine, digest), digest, component) {
            tracing::warn!(folder = %folder.display(), %error, "the compiled component was not cached; the next start compiles it again");
        }
    }
}

/// The component that an entry is the compiled form of, if the entry is whole, of this digest, and
/// fits. The caller trusts the bytes, because they are run.
pub(super) fn read(entry: &[u8], engine: &Engine, digest: &[u8; 32]) -> Option<Component> {
    let (stored, artefact) = entry.split_at_checked(DIGEST_BYTES)?;
    if stored != seal(digest, artefact) {
        return None;
    }
    // SAFETY: the bytes are whole, by their digest. They were written by this user's own process or
    // the system's administrator, by the folder's permissions, or are the app's own, as it has
    // said.
    #[allow(
        unsafe_code,
        reason = "loading compiled code is what the cache is for; its conditions are checked above"
    )]
    unsafe { Component::deserialize(engine, artefact) }.ok()
}

/// Covers digest and artefact, so that a valid entry copied under another component's name does not
/// load.
fn seal(digest: &[u8; 32], artefact: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new().chain_update(digest).chain_update(artefact).finalize().into()
}

/// The one entry made by a compiler with this engine's settings, if it is there.
#[cfg(feature = "compile")]
fn entries(folder: &Path, engine: &Engine, digest: &[u8; 32]) -> Vec<PathBuf> {
    let own = folder.join(name(engine, digest));
    if own.exists() { vec![own] } else { all_entries(folder, digest) }
}

/// Without a compiler its settings have no hash, so all entries are tried.
#[cfg(not(feature = "compile"))]
fn entries(folder: &Path, _: &Engine, digest: &[u8; 32]) -> Vec<PathBuf> {
    all_entries(folder, digest)
}

/// All entries of the component, including those that were compiled ahead. The engine refuses those
/// that do not fit.
fn all_entries(folder: &Path, digest: &[u8; 32]) -> Vec<PathBuf> {
    let prefix = hex(digest);
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    names
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        })
        .collect()
}

#[cfg(feature = "compile")]
fn write(
    folder: &Path,
    name: &str,
    digest: &[u8; 32],
    component: &Component,
) -> std::io::Result<()> {
    make_private(folder)?;
    if !is_private(folder) {
        return Err(std::io::Error::other("the folder can be written by others"));
    }
    let artefact = component.serialize().map_err(std::io::Error::other)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&sealed(digest, &artefact))?;
    file.persist(folder.join(name)).map_err(|error| error.error)?;
    Ok(())
}

/// The entry for this artefact.
#[cfg(feature = "compile")]
pub(super) fn sealed(digest: &[u8; 32], artefact: &[u8]) -> Vec<u8> {
    [&seal(digest, artefact)[..], artefact].concat()
}

/// A name from everything the artefact depends on: the component, the compiler's settings and
/// version, the machine's features.
#[cfg(feature = "compile")]
pub(super) fn name(engine: &Engine, digest: &[u8; 32]) -> String {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{}-{:016x}.cwasm", hex(digest), hasher.finish())
}

/// FNV-1a: the same in every process, which the standard library's hasher does not promise.
#[cfg(feature = "compile")]
struct Fnv(u64);

#[cfg(feature = "compile")]
impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(all(unix, feature = "compile"))]
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if folder.exists() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(all(not(unix), feature = "compile"))]
fn make_private(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)
}

/// Whether the folder belongs to this user, or to the system like what it installs, and nobody else
/// can write to it.
#[cfg(unix)]
fn is_private(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    // Not through a link, because its target can change after the look.
    let Ok(meta) = fs::symlink_metadata(folder) else { return false };
    let is_trusted = [0, rustix::process::geteuid().as_raw()].contains(&meta.uid());
    meta.is_dir() && is_trusted && meta.mode() & 0o022 == 0
}

/// On other systems the user's cache folder is private because of where it is.
#[cfg(not(unix))]
fn is_private(folder: &Path) -> bool {
    folder.is_dir()
}
