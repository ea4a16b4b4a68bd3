//! Finding, reading and checking a `verger.toml`, and the builder it makes.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::error::{ConfigError, Problem};
use super::keys::TOP;
use super::node::Node;
use super::schema;
#[cfg(feature = "wasm")]
use super::settings::Cache;
use super::settings::{self, Settings};
use super::walk::{Problems, walk};
use crate::builder::{Builder, Retires};
use crate::schedule::{Schedule, ScheduleError};
use crate::verger::Verger;

/// The name of the file.
const NAME: &str = "verger.toml";

/// The name of the set of schedules in a file that names none.
const SCHEDULE_SET: &str = "verger.toml";

/// What a `verger.toml` says: the database, plugins, grants, queues, schedules, limits.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("verger.toml");
/// std::fs::write(
///     &path,
///     r#"
///     file = "app.db"
///
///     [queues.mail]
///     concurrency = 4
///
///     [schedules.nightly-invitations]
///     cron = "0 3 * * *"
///     worker = "cleanup-expired-invitations"
///     all_organizations = true
///     "#,
/// )?;
/// let config = verger::Config::read(&path)?;
/// let verger = config.builder()?.open()?;
/// assert_eq!(verger.schedules()?[0].name, "nightly-invitations");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    path: PathBuf,
    settings: Settings,
    deprecations: Vec<Problem>,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`], or [`ConfigError::Invalid`] with all that is wrong with it.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text = read_text(path)?;
        Self::parse(&text, path)
    }

    /// Reads the text of a file. Relative paths in it start at the folder that `path` is in.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all that is wrong with it.
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let (settings, problems) = examine(text, path);
        let (deprecations, problems): (Vec<_>, Vec<_>) =
            problems.into_iter().partition(|problem| problem.is_deprecation);
        if !problems.is_empty() {
            return Err(ConfigError::Invalid { path: path.to_path_buf(), problems });
        }
        Ok(Self { path: path.to_path_buf(), settings, deprecations })
    }

    /// All there is to say about a file, deprecations included, in the order of the file. Empty
    /// when the file is right.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] when it cannot be read.
    pub fn check(path: impl AsRef<Path>) -> Result<Vec<Problem>, ConfigError> {
        let path = path.as_ref();
        let (_, problems) = examine(&read_text(path)?, path);
        Ok(problems)
    }

    /// The nearest `verger.toml`: in this folder, or in one of its parents.
    #[must_use]
    pub fn find(folder: impl AsRef<Path>) -> Option<PathBuf> {
        let folder = std::path::absolute(folder.as_ref()).ok()?;
        folder.ancestors().map(|folder| folder.join(NAME)).find(|path| path.is_file())
    }

    /// The JSON Schema of such a file, draft-07, for editors.
    #[must_use]
    pub fn json_schema() -> Json {
        schema::schema()
    }

    /// The file it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database it names.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.settings.file.as_deref()
    }

    /// The names of the workers it has grants for.
    pub fn granted(&self) -> impl Iterator<Item = &str> {
        self.settings.grants.keys().map(String::as_str)
    }

    /// The keys in it that have newer names. They work all the same.
    #[must_use]
    pub fn deprecations(&self) -> &[Problem] {
        &self.deprecations
    }

    /// The name of the set that its schedules belong to.
    #[must_use]
    pub fn schedule_set(&self) -> &str {
        self.settings.schedule_set.as_deref().unwrap_or(SCHEDULE_SET)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A builder with all it says, to which the app adds its workers and capabilities.
    ///
    /// # Errors
    /// [`ConfigError::NoFile`] when it names no database. [`ConfigError::NotInThisBuild`] when it
    /// switches a capability on that the app was built without.
    pub fn builder(&self) -> Result<Builder, ConfigError> {
        let Some(file) = self.file() else {
            return Err(ConfigError::NoFile { path: self.path.clone() });
        };
        if let Some((key, feature)) = self.settings.capabilities.missing() {
            return Err(ConfigError::NotInThisBuild { path: self.path.clone(), key, feature });
        }
        let mut builder = self.dress(Verger::builder(file), |_| true);
        for schedule in &self.settings.schedules {
            builder = builder.schedule(schedule.clone());
        }
        Ok(builder)
    }

    /// A builder for a program that is not the app, as the command is. It has the schedules, grants
    /// and backoffs of the workers that such a program has. It retires none of the schedules in the
    /// database.
    pub fn builder_for(
        &self,
        file: impl AsRef<Path>,
        has_worker: impl Fn(&str) -> bool,
    ) -> Builder {
        let mut builder = self.without_schedules(file);
        for schedule in self.settings.schedules.iter().filter(|one| has_worker(&one.job.worker)) {
            builder = builder.schedule(schedule.clone());
        }
        builder
    }

    /// The same without its schedules, for a program that only looks, or runs single jobs.
    pub fn without_schedules(&self, file: impl AsRef<Path>) -> Builder {
        self.apply_to(Verger::builder(file)).keep_schedules()
    }

    /// Registers its schedules with an open Verger that was made by
    /// [`without_schedules`](Self::without_schedules). It registers those whose workers are there,
    /// which is known once the plugins are loaded, all or none. It retires none of the schedules in
    /// the database.
    ///
    /// # Errors
    /// [`ScheduleError`] when a worker refuses the args of its schedule, or when the database cannot
    /// be written.
    pub fn register_schedules(&self, verger: &Verger) -> Result<(), ScheduleError> {
        let workers = verger.workers();
        let has_worker = |schedule: &&Schedule| workers.contains(&schedule.job.worker);
        let ours: Vec<Schedule> =
            self.settings.schedules.iter().filter(has_worker).cloned().collect();
        verger.register_set(&ours, self.schedule_set(), Retires::None)
    }

    /// Adds to a builder all that the file says, except its database, its schedules, and what is
    /// for workers that only the app has.
    pub fn apply_to(&self, builder: Builder) -> Builder {
        self.dress(builder, |worker| self.can_come(worker))
    }

    /// Adds a plugins folder, so that workers from it count as possible.
    pub fn with_plugins(mut self, folder: impl Into<PathBuf>) -> Self {
        self.settings.plugins.push(folder.into());
        self
    }

    /// Whether a worker of this name can exist without the app's code.
    #[cfg_attr(not(feature = "builtins"), allow(unused_variables, reason = "none is built in"))]
    fn can_come(&self, worker: &str) -> bool {
        #[cfg(feature = "builtins")]
        let is_built_in = self.settings.built_ins != Some(false)
            && (crate::sandbox::PREBUILT.iter().any(|(name, _)| *name == worker)
                || crate::builtins::native().iter().any(|native| native.manifest().name == worker));
        #[cfg(not(feature = "builtins"))]
        let is_built_in = false;
        is_built_in || !self.settings.plugins.is_empty()
    }

    fn dress(&self, builder: Builder, has_worker: impl Fn(&str) -> bool) -> Builder {
        let said = &self.settings;
        let mut builder = builder.schedule_set(self.schedule_set()).retention(said.retention);
        builder = said.capabilities.add_to(builder);
        for folder in &said.plugins {
            builder = builder.plugins(folder);
        }
        for (worker, grant) in said.grants.iter().filter(|(worker, _)| has_worker(worker)) {
            builder = builder.grant(worker, grant.clone());
        }
        for queue in &said.queues {
            builder = builder.queue(queue.clone());
        }
        for (worker, backoff) in said.backoffs.iter().filter(|(worker, _)| has_worker(worker)) {
            builder = builder.backoff_of(worker, *backoff);
        }
        if let Some(backoff) = said.backoff {
            builder = builder.backoff(backoff);
        }
        if said.built_ins == Some(false) {
            builder = builder.without_built_ins();
        }
        if let Some(durability) = said.durability {
            builder = builder.durability(durability);
        }
        if let Some(threads) = said.threads {
            builder = builder.threads(threads);
        }
        if let Some(lease) = said.lease {
            builder = builder.lease(lease);
        }
        if let Some(keep) = said.keep_audit {
            builder = builder.keep_audit(keep);
        }
        #[cfg(feature = "wasm")]
        {
            builder = match &said.cache {
                Some(_) => builder.compile_cache(self.compile_cache()),
                None => builder,
            };
            if let Some(limit) = said.compile_limit {
                builder = builder.compile_limit(limit);
            }
        }
        builder
    }

    /// Where it wants compiled workers kept.
    #[cfg(feature = "wasm")]
    #[must_use]
    pub fn compile_cache(&self) -> crate::sandbox::CompileCache {
        use crate::sandbox::CompileCache;
        match &self.settings.cache {
            None | Some(Cache::User) => CompileCache::User,
            Some(Cache::Off) => CompileCache::Off,
            Some(Cache::Folder(folder)) => CompileCache::Folder(folder.clone()),
        }
    }
}

impl Verger {
    /// Opens what a `verger.toml` describes. An app with workers or capabilities of its own uses
    /// [`Config::builder`] instead, and adds them.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read, is wrong or names no database, or when what it
    /// describes cannot be opened.
    pub fn from_config(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Ok(Config::read(path)?.builder()?.open()?)
    }
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_path_buf(), source };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    // Editors of Windows put this mark at the beginning.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    String::from_utf8(bytes.to_vec()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let why = format!("it is no UTF-8 at byte {at}: save it as UTF-8");
        unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, why))
    })
}

fn examine(text: &str, path: &Path) -> (Settings, Vec<Problem>) {
    let mut problems = Problems::of(text);
    let settings = match Node::parse(text) {
        Ok(root) => {
            walk(&root, TOP, "", &mut problems);
            let folder = path.parent().unwrap_or(Path::new(""));
            settings::read(&root, folder, &mut problems)
        }
        Err(faults) => {
            for (span, message) in faults {
                problems.add(&span, "", format!("it is no TOML: {message}"));
            }
            Settings::default()
        }
    };
    let mut found = problems.found;
    found.sort_by_key(|problem| problem.at);
    (settings, found)
}
