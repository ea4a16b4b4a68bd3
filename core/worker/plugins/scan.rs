//! Looking at the folders, and loading what changed.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::{self, Stamp};
use super::{File, Plugins, State, Status};
use crate::plugin_error::PluginError;
use crate::sandbox::{Plugin, digest_of, read};
use crate::worker::bound_names::KnownVersion;

/// How many looks may find a file broken off and unchanged before it counts as broken.
const INCOMPLETE_LOOKS: u32 = 30;

/// Whether a file that changed may still be being copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// No: it is taken as it is.
    None,
    /// Yes: it is taken when it looks the same twice and is complete.
    UntilSettled,
}

/// Files that are to be loaded.
#[derive(Default)]
pub(crate) struct Gathered {
    files: Vec<ToLoad>,
    patience: Option<Patience>,
}

struct ToLoad {
    key: PathBuf,
    path: PathBuf,
    stamp: Stamp,
    looks: u32,
}

impl Gathered {
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// The key of a file: the real path of its folder and its own name. A link in the folder stays the
/// same file when it leads elsewhere.
pub(super) fn key_of(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    match (folder, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
    }
}

impl Plugins {
    /// Whether anything changed since the last look, or is still changing. It opens no file, lists
    /// no folder, and waits for nobody: while someone takes files in, nothing counts as changed.
    pub(crate) fn has_changed(&self) -> bool {
        let Some(state) = self.try_state() else { return false };
        let changed = |file: &File| {
            matches!(file.status, Status::Settling { .. })
                || folder::look_at(&file.path).ok() != file.stamp
        };
        state
            .folders
            .iter()
            .any(|folder| folder.again || folder::entries_changed(&folder.path) != folder.stamp)
            || state.files.values().any(changed)
            || state.has_additions
    }

    /// Whether a file is still changing.
    pub(crate) fn is_unsettled(&self) -> bool {
        let state = self.state();
        state.files.values().any(|file| matches!(file.status, Status::Settling { .. }))
    }

    /// Lists the folders and looks at the files, and returns which of them are to be loaded. A
    /// folder that cannot be listed keeps the files it had. The first such folder is returned too.
    pub(crate) fn gather(&self, patience: Patience) -> (Gathered, Option<(PathBuf, io::Error)>) {
        let mut state = self.state();
        let mut unlisted = None;
        for folder in &mut state.folders {
            // Before the list, so that what is added meanwhile shows at the next look.
            let stamp = folder::entries_changed(&folder.path);
            match folder::list(&folder.path) {
                Ok(listed) => (folder.listed, folder.refused) = (listed, None),
                Err(error) => {
                    folder.refused = Some(PluginError::Unreadable {
                        what: folder.path.display().to_string(),
                        reason: error.to_string(),
                    });
                    unlisted.get_or_insert((folder.path.clone(), error));
                }
            }
            folder.again = stamp != folder.stamp;
            folder.stamp = stamp;
        }
        state.has_additions = false;
        let present = present(&state);
        state.files.retain(|key, _| present.contains_key(key));
        let mut files = Vec::new();
        for (key, path) in present {
            let looked = folder::look_at(&path);
            let file = state.files.entry(key.clone()).or_insert_with(|| File {
                path: path.clone(),
                stamp: None,
                status: Status::Settling { looks: 0 },
                refused: None,
            });
            let stamp = match looked {
                Ok(stamp) => stamp,
                Err(error) => {
                    (file.stamp, file.status) = (None, Status::Unusable(error));
                    continue;
                }
            };
            let is_as_it_was = file.stamp.as_ref() == Some(&stamp);
            file.stamp = Some(stamp.clone());
            let looks = match (&mut file.status, patience) {
                (Status::Settling { looks }, _) if is_as_it_was => {
                    *looks += 1;
                    *looks
                }
                (_, _) if is_as_it_was => continue,
                (_, Patience::None) => 0,
                (status, Patience::UntilSettled) => {
                    *status = Status::Settling { looks: 0 };
                    continue;
                }
            };
            files.push(ToLoad { key, path, stamp, looks });
        }
        (Gathered { files, patience: Some(patience) }, unlisted)
    }

    /// Loads what is to be loaded. This is the long part, during which nothing waits. `known` is
    /// what the database says of files.
    pub(crate) fn load(&self, gathered: Gathered, known: &[KnownVersion]) {
        let Gathered { mut files, patience } = gathered;
        if files.is_empty() {
            return;
        }
        let compiler = self.compiler();
        // Smallest first: a slow plugin can starve only larger ones.
        files.sort_by_key(|file| std::fs::metadata(&file.path).map_or(0, |file| file.len()));
        for file in files {
            let source = file.key.display().to_string();
            let known = known
                .iter()
                .find(|known| known.source == source && known.stamp == file.stamp.as_str());
            let plugin = known.and_then(|known| {
                Plugin::known(&file.path, &known.digest, &known.described, Arc::clone(&compiler))
            });
            let status = match plugin {
                Some(plugin) => Status::Usable(Arc::new(plugin)),
                None => match read(&file.path) {
                    Ok(bytes) => {
                        let may_wait = patience == Some(Patience::UntilSettled)
                            && file.looks < INCOMPLETE_LOOKS;
                        if may_wait && !folder::is_complete(&bytes) {
                            continue;
                        }
                        let digest = digest_of(&bytes);
                        let plugin = self.running_with(&digest).unwrap_or_else(|| {
                            Arc::new(Plugin::of_file(&file.path, &bytes, Arc::clone(&compiler)))
                        });
                        match plugin.manifest() {
                            Ok(_) => Status::Usable(plugin),
                            Err(error) => Status::Unusable(error),
                        }
                    }
                    Err(error) => Status::Unusable(error),
                },
            };
            let is_as_it_was = folder::look_at(&file.path).is_ok_and(|now| now == file.stamp);
            let mut state = self.state();
            if let Some(known) = state.files.get_mut(&file.key) {
                // A file that changed while it was read is loaded again.
                known.status = match is_as_it_was || patience == Some(Patience::None) {
                    true => status,
                    false => Status::Settling { looks: 0 },
                };
            }
        }
    }

    /// The code with this digest, if it is in use.
    fn running_with(&self, digest: &str) -> Option<Arc<Plugin>> {
        let state = self.state();
        let running = state.running.values().find(|running| running.digest == digest)?;
        Some(Arc::clone(&running.plugin))
    }
}

/// The files there are, by their keys. A file is one file, however many names lead to it. Its own
/// name comes before the names of links.
fn present(state: &State) -> BTreeMap<PathBuf, PathBuf> {
    let listed = state.folders.iter().flat_map(|folder| &folder.listed);
    let mut paths: Vec<&PathBuf> = state.extra.iter().chain(listed).collect();
    paths.sort_by_key(|path| path.is_symlink());
    let mut seen = HashSet::new();
    let mut present = BTreeMap::new();
    for path in paths {
        let key = key_of(path);
        if seen.insert(path.canonicalize().unwrap_or_else(|_| key.clone())) {
            present.insert(key, path.clone());
        }
    }
    present
}
