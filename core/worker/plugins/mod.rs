//! The dropped-in workers: which files there are, which of them are workers, and what happens when
//! a file is added, replaced or removed while the app runs.
//!
//! A look is cheap and reads no file. What has changed is loaded beside the work, and only then put
//! into the registry, in one step. So a running job ends on the code it began with. If a file is
//! broken, refused or still being copied, the version that ran stays, because its bytes are kept in
//! the database.

mod consent;
mod folder;
mod scan;
mod take_in;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use rusqlite::Connection;

use self::folder::Stamp;
use crate::grant::Grant;
use crate::metrics::Counters;
use crate::mutex::lock;
use crate::plugin_error::PluginError;
use crate::sandbox::{Ahead, CompileCache, Compiler, Plugin};
use crate::store::BookConnection;
use crate::worker::bound_names::BoundName;
use crate::worker::consent::GrantRow;

pub(crate) use self::scan::Patience;

/// What the app's code says about dropped-in workers.
pub(crate) struct Policy {
    /// The grants of workers, by name.
    pub(crate) grants: HashMap<String, Grant>,
    /// The grant of all workers that have none by name.
    pub(crate) for_all: Option<Grant>,
    /// What approved workers have besides what they ask for: limits, a tenant column.
    pub(crate) approved: Grant,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cache: CompileCache,
    pub(crate) ahead: Ahead,
    /// How long compiling may take at one look, all files together.
    pub(crate) compile_limit: Duration,
}

/// The dropped-in workers of one Verger.
pub(crate) struct Plugins {
    policy: Policy,
    /// The database is only read, so nothing is written down.
    looking: bool,
    is_watching: AtomicBool,
    state: Mutex<State>,
    scanning: Mutex<()>,
}

#[derive(Default)]
struct State {
    folders: Vec<Folder>,
    /// Files that the app named one by one.
    extra: Vec<PathBuf>,
    /// A file was named since the last look.
    has_additions: bool,
    /// The files, by the real path of their folder and their own name.
    files: BTreeMap<PathBuf, File>,
    /// The workers that are in the registry, by name.
    running: BTreeMap<String, Running>,
    /// The versions that do not run, by name, because somebody has to decide or rolled them back.
    held: BTreeMap<String, (Arc<Plugin>, String)>,
    /// The names as they were bound, and what was granted, when they were last read.
    bound: BTreeMap<String, BoundName>,
    grants: Vec<GrantRow>,
}

struct Folder {
    path: PathBuf,
    listed: Vec<PathBuf>,
    /// How it looked when it was listed.
    stamp: Option<Stamp>,
    /// It had just changed. What is added within the same tick of the kernel's clock does not show.
    again: bool,
    refused: Option<PluginError>,
}

struct File {
    /// The path as it is shown.
    path: PathBuf,
    /// `None` when it cannot be looked at.
    stamp: Option<Stamp>,
    status: Status,
    /// Why it is not the worker it would be.
    refused: Option<PluginError>,
}

enum Status {
    /// It changed, and has looked the same this often since then.
    Settling {
        looks: u32,
    },
    /// It is no usable component.
    Unusable(PluginError),
    Usable(Arc<Plugin>),
    /// The app removed it, and it has not changed since.
    TakenOut,
}

/// A dropped-in worker that is in the registry.
struct Running {
    plugin: Arc<Plugin>,
    digest: String,
    version: String,
    grant: Grant,
    /// It waits for someone's consent.
    waits: bool,
    /// Its bytes are in the database.
    is_kept: bool,
}

/// A dropped-in worker, as it is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PluginInfo {
    /// Its name.
    pub name: String,
    /// The version that runs.
    pub version: String,
    /// The SHA-256 of that version, in hexadecimal digits.
    pub digest: String,
    /// Whether it waits for someone's consent. If so, its jobs wait too.
    pub waits: bool,
}

impl Plugins {
    pub(crate) fn new(
        policy: Policy,
        folders: Vec<PathBuf>,
        files: Vec<PathBuf>,
        looking: bool,
    ) -> Self {
        let folder =
            |path| Folder { path, listed: Vec::new(), stamp: None, again: false, refused: None };
        let state = State {
            folders: folders.into_iter().map(folder).collect(),
            extra: files,
            ..State::default()
        };
        Self {
            policy,
            looking,
            is_watching: AtomicBool::new(!state.folders.is_empty() || !state.extra.is_empty()),
            state: Mutex::new(state),
            scanning: Mutex::default(),
        }
    }

    /// Held while files are gathered, loaded and taken in.
    pub(crate) fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        lock(&self.scanning)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The same, unless someone else has it.
    fn try_state(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn compiler(&self) -> Arc<Compiler> {
        let Policy { counters, cache, ahead, compile_limit, .. } = &self.policy;
        let (cache, ahead) = (cache.clone(), ahead.clone());
        Arc::new(Compiler::new(Arc::clone(counters), cache, ahead, *compile_limit))
    }

    /// Whether there is any file or folder to look at.
    pub(crate) fn is_watching(&self) -> bool {
        self.is_watching.load(Ordering::Relaxed)
    }

    /// The files that were found and not taken, in the order of the paths.
    pub(crate) fn refused(&self) -> Vec<PluginError> {
        let state = self.state();
        let folders = state.folders.iter().filter_map(|folder| folder.refused.clone());
        let files = state.files.values().filter_map(|file| file.refused.clone());
        folders.chain(files).collect()
    }

    /// Logs what is refused and was not before.
    pub(crate) fn tell_refused(&self, before: &[PluginError]) {
        let before: Vec<String> = before.iter().map(ToString::to_string).collect();
        for refusal in self.refused() {
            let reason = refusal.to_string();
            if before.contains(&reason) {
                continue;
            }
            match refusal.waits() {
                true => tracing::warn!(reason, "a plugin waits for consent"),
                false => tracing::warn!(reason, "a plugin was refused"),
            }
        }
    }

    /// The dropped-in workers there are.
    pub(crate) fn running(&self) -> Vec<PluginInfo> {
        let info = |(name, running): (&String, &Running)| PluginInfo {
            name: name.clone(),
            version: running.version.clone(),
            digest: running.digest.clone(),
            waits: running.waits,
        };
        self.state().running.iter().map(info).collect()
    }

    /// Looks at this file too from now on. It is loaded at the next look, whatever became of it
    /// before.
    pub(crate) fn add(&self, path: &Path) {
        let mut state = self.state();
        let key = scan::key_of(path);
        let is_listed =
            |listed: &[PathBuf]| listed.iter().any(|listed| scan::key_of(listed) == key);
        if !is_listed(&state.extra) && !state.folders.iter().any(|folder| is_listed(&folder.listed))
        {
            state.extra.push(path.to_path_buf());
        }
        state.files.remove(&key);
        state.has_additions = true;
        self.is_watching.store(true, Ordering::Relaxed);
    }

    /// The worker that a file is, or why it is none.
    pub(crate) fn outcome_of(&self, path: &Path) -> Result<PluginInfo, PluginError> {
        let state = self.state();
        let what = path.display().to_string();
        let Some(file) = state.files.get(&scan::key_of(path)) else {
            let copy = "it is another name of a file that is a plugin already".to_string();
            return Err(PluginError::Unreadable { what, reason: copy });
        };
        match (&file.refused, &file.status) {
            // It is there, and somebody has to decide.
            (Some(PluginError::Waits { .. }) | None, Status::Usable(plugin)) => {
                let manifest = plugin.manifest()?;
                Ok(PluginInfo {
                    name: manifest.name.clone(),
                    version: manifest.version.clone(),
                    digest: plugin.digest()?,
                    waits: file.refused.is_some(),
                })
            }
            (Some(refused), _) => Err(refused.clone()),
            (None, _) => Err(PluginError::Changed { what }),
        }
    }

    /// Stops looking at a file that was added, if it was.
    pub(crate) fn drop_extra(&self, path: &Path) {
        let mut state = self.state();
        let key = scan::key_of(path);
        state.extra.retain(|extra| scan::key_of(extra) != key);
    }

    /// Removes the files of this worker. Returns whether there were any.
    pub(crate) fn take_out(&self, name: &str) -> bool {
        let mut state = self.state();
        if !state.running.contains_key(name) {
            return false;
        }
        let has_name =
            |plugin: &Plugin| plugin.manifest().is_ok_and(|manifest| manifest.name == name);
        let bound = state.bound.get(name).map(|bound| PathBuf::from(&bound.bound.source));
        let mut taken = Vec::new();
        for (key, file) in &mut state.files {
            let is_of_it = matches!(&file.status, Status::Usable(plugin) if has_name(plugin));
            if is_of_it || bound.as_deref() == Some(key.as_path()) {
                file.status = Status::TakenOut;
                taken.push(key.clone());
            }
        }
        state.extra.retain(|extra| !taken.contains(&scan::key_of(extra)));
        true
    }
}

/// The connection on which names are looked up: the caller's own, or one that others use too, and
/// get between two steps.
pub(crate) enum Front<'a> {
    Own(&'a mut BookConnection),
    Shared(&'a Mutex<BookConnection>),
}

impl Front<'_> {
    pub(super) fn with<T>(&mut self, work: impl FnOnce(&mut Connection) -> T) -> T {
        match self {
            Self::Own(connection) => work(connection.raw_mut()),
            Self::Shared(shared) => work(lock(shared).raw_mut()),
        }
    }
}
