//! What all verbs share: their common options, and how they open the database.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use verger::{Builder, Clock, Config, Doctor, Grant, Timestamp, Verger};

use crate::books::Books;
use crate::clock::{CommandClock, Held};
use crate::grants::{self, Grants};
use crate::input;
use crate::key;
use crate::output::tell;

/// The options that go with every verb.
#[derive(Args)]
pub(crate) struct Options {
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Take this for the present time instead of the system's clock
    #[arg(long, global = true, value_name = "TIME", value_parser = input::time)]
    pub(crate) now: Option<Timestamp>,

    /// The settings: a verger.toml; without it, the nearest one in the working directory or above
    ///
    /// It names the database, the plugins and what they are granted, so that --db, --plugins and
    /// --grant need not be typed. With --db, one that was found is used when it names that file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Take every .wasm in this folder as a worker, beside the built-in ones; may be given several
    /// times
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) plugins: Vec<PathBuf>,

    /// Grant dropped-in workers all that their manifests ask for (see `plugin inspect`); without
    /// it, and --grant, they may touch nothing
    #[arg(long, global = true)]
    pub(crate) trust: bool,

    /// Open an encrypted file with the key that this command prints, such as `pass show app-db`: the
    /// first line of its output; 64 hexadecimal digits after `raw:` are the key itself, anything
    /// else is a passphrase
    ///
    /// It is run by the shell. The key stands in no argument, no log and no error.
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) key_command: Option<String>,

    /// Grant workers what they may touch: a JSON object, or the file that holds it; may be given
    /// several times
    ///
    /// One entry for each worker, by its name; every field may be left out:
    ///
    ///   {"acme-rollup": {
    ///     "read": ["orders", "users:id,name"], "update": ["orders:state"],
    ///     "insert": ["log"], "delete": ["log"], "write": ["order_totals"],
    ///     "tenant_column": "organization_id", "shared": ["log"],
    ///     "capabilities": ["mailer"], "sha256": "…", "limits": {"time_ms": 2000}}}
    ///
    /// TABLE:COLUMN,COLUMN is these columns and no others, to read and to update. "write" is all
    /// four verbs. With a tenant column a job of one organization reaches that organization's rows
    /// alone; "shared" tables belong to none. "sha256" grants it to that very file only. The limits
    /// are time_ms, memory_bytes, sql_memory_bytes, chunk_bytes, statements, transaction_bytes,
    /// growth_bytes, audit_rows, audit_bytes, events, event_bytes, call_bytes, log_lines, log_bytes,
    /// jobs, job_bytes, state_bytes and write_lock_ms. A worker gets what it asks for and is
    /// granted, never more; for a built-in worker this takes the place of all it asks for.
    /// `plugin inspect` prints the limits, and what gives a worker everything.
    #[arg(long, global = true, value_name = "JSON|FILE", value_parser = grants::parse, verbatim_doc_comment)]
    pub(crate) grant: Vec<Grants>,
}

/// The database a verb works on.
#[derive(Args)]
pub(crate) struct Database {
    /// The SQLite file, or for most verbs the address of a PostgreSQL database: postgres://…;
    /// without it, the file that verger.toml names
    #[arg(long, value_name = "FILE")]
    pub(crate) db: Option<PathBuf>,
}

impl Database {
    /// The address, if it is in PostgreSQL.
    pub(crate) fn address(&self) -> Option<&str> {
        self.db.as_deref().and_then(Path::to_str).filter(|db| is_address(db))
    }
}

/// Whether it names a PostgreSQL database.
pub(crate) fn is_address(db: &str) -> bool {
    db.starts_with("postgres://") || db.starts_with("postgresql://")
}

/// The database a verb works on, and the settings that go with it.
pub(crate) struct Target {
    pub(crate) file: PathBuf,
    pub(crate) config: Option<Config>,
}

impl Options {
    pub(crate) fn clock(&self) -> CommandClock {
        match self.now {
            Some(now) => CommandClock::Held(Held::at(now)),
            None => CommandClock::System,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock().now()
    }

    /// Which database a verb works on, by --db or by verger.toml.
    pub(crate) fn target(&self, database: &Database) -> Result<Target> {
        ensure!(
            database.address().is_none(),
            "that works on a SQLite file, and --db names a PostgreSQL database"
        );
        let config = match (&self.config, &database.db) {
            (Some(_), _) | (None, None) => Some(self.config()?),
            (None, Some(file)) => beside(file).map(|config| self.with_more_plugins(config)),
        };
        let named = || config.as_ref().and_then(Config::file).map(Path::to_path_buf);
        let Some(file) = database.db.clone().or_else(named) else {
            bail!(
                "no database: name it with --db FILE, or in {} by file = \"app.db\"",
                config.as_ref().map_or(Path::new("verger.toml"), Config::path).display()
            )
        };
        Ok(Target { file, config })
    }

    /// The settings: those of --config, or the nearest ones.
    pub(crate) fn config(&self) -> Result<Config> {
        Ok(self.with_more_plugins(Config::read(self.config_path()?)?))
    }

    /// The settings, with the folders of --plugins.
    fn with_more_plugins(&self, config: Config) -> Config {
        self.plugins.iter().fold(config, |config, folder| config.with_plugins(folder))
    }

    /// The file of settings.
    pub(crate) fn config_path(&self) -> Result<PathBuf> {
        let here = std::env::current_dir()?;
        self.config.clone().or_else(|| Config::find(&here)).with_context(|| {
            format!(
                "there is no verger.toml in {} or above: name the database with --db FILE, or the settings with --config FILE",
                here.display()
            )
        })
    }

    /// Opens either store to read it. Nothing in it changes.
    pub(crate) fn books_to_read(&self, database: &Database) -> Result<Books> {
        match database.address() {
            Some(address) => self.server(address, false),
            None => Ok(Books::File(self.open_to_read(database)?)),
        }
    }

    /// Opens either store to change something.
    pub(crate) fn books_to_change(&self, database: &Database) -> Result<Books> {
        match database.address() {
            Some(address) => self.server(address, true),
            None => Ok(Books::File(self.open(database)?)),
        }
    }

    #[cfg(feature = "postgres")]
    fn server(&self, address: &str, is_to_change: bool) -> Result<Books> {
        let has_more = self.trust || !self.plugins.is_empty() || !self.grant.is_empty();
        ensure!(
            !has_more && self.key_command.is_none() && self.config.is_none(),
            "--plugins, --trust, --grant, --config and --key-command are for SQLite files: leave them out"
        );
        let builder = || {
            // Of its own, so that it retires none of the app's.
            let builder = verger::postgres::Verger::builder(address).schedule_set("verger command");
            match self.clock() {
                CommandClock::System => builder,
                CommandClock::Held(held) => builder.clock(held),
            }
        };
        // A mistyped name must not leave Verger's tables behind.
        let looking = builder().read_only().open()?;
        Ok(Books::Server(match is_to_change {
            true => builder().open()?,
            false => looking,
        }))
    }

    #[cfg(not(feature = "postgres"))]
    fn server(&self, _: &str, _: bool) -> Result<Books> {
        bail!("this verger was built without PostgreSQL: build it with the feature postgres")
    }

    /// Opens the file to work on it: to change or run a job.
    pub(crate) fn open(&self, database: &Database) -> Result<Verger> {
        let target = self.target(database)?;
        self.open_for_work(&target)
    }

    /// Opens the file to fire its schedules, with those of verger.toml. None is retired, because
    /// nothing is known here of those that the app's code registers.
    pub(crate) fn open_to_tick(&self, target: &Target) -> Result<Verger> {
        let verger = self.open_for_work(target)?;
        // Now that the plugins are loaded, it is known which of its workers are there.
        if let Some(config) = &target.config {
            config.register_schedules(&verger)?;
        }
        Ok(verger)
    }

    fn open_for_work(&self, target: &Target) -> Result<Verger> {
        check_is_there(&target.file)?;
        let builder = match &target.config {
            Some(config) => config.without_schedules(&target.file),
            None => Verger::builder(&target.file),
        };
        let builder = self.keyed(builder.clock(self.clock()).keep_schedules())?;
        let verger = self.with_plugins(builder)?.open()?;
        for refusal in verger.refused_plugins() {
            match refusal.waits() {
                // The reason is a whole sentence, with the verbs that decide.
                true => tell(format!("verger: {refusal}")),
                false => tell(format!("verger: a plugin was refused: {refusal}")),
            }
        }
        let workers = verger.workers();
        for (unknown, _) in self.grants()?.iter().filter(|(worker, _)| !workers.contains(worker)) {
            tell(format!(
                "verger: --grant names `{unknown}`, and no worker has that name: known are {}",
                workers.join(", ")
            ));
        }
        Ok(verger)
    }

    /// Opens the file to read it. Nothing in it changes.
    pub(crate) fn open_to_read(&self, database: &Database) -> Result<Verger> {
        let target = self.target(database)?;
        check_is_there(&target.file)?;
        let builder = match &target.config {
            Some(config) => config.without_schedules(&target.file),
            None => Verger::builder(&target.file),
        };
        // With its workers, because the jobs of other workers are shown as parked.
        let builder = self.keyed(builder.clock(self.clock()).read_only())?;
        self.with_plugins(builder)?.open().map_err(Into::into)
    }

    /// Makes the builder open the file with the key of --key-command.
    fn keyed(&self, builder: Builder) -> Result<Builder> {
        Ok(match &self.key_command {
            Some(command) => builder.key(key::from_command(command)?),
            None => builder,
        })
    }

    /// A builder for this file, with the clock and the key of these options.
    pub(crate) fn builder(&self, file: &Path) -> Result<Builder> {
        self.keyed(Verger::builder(file).clock(self.clock()))
    }

    /// A doctor for the file, whatever it is. It knows the workers of the named plugins.
    pub(crate) fn doctor(&self, database: &Database) -> Result<Doctor> {
        let has_key = self.key_command.is_some();
        ensure!(!has_key, "doctor does not open encrypted files: leave --key-command out");
        let Target { file, config } = self.target(database)?;
        if self.plugins.is_empty() && config.is_none() {
            return Ok(Doctor::new(&file).clock(self.clock()));
        }
        let mut builder = Verger::in_memory().clock(self.clock());
        if let Some(config) = &config {
            builder = config.apply_to(builder);
        }
        let mut doctor = self.with_plugins(builder)?.open()?.doctor_of(&file);
        if let Some(config) = config {
            doctor = doctor.compile_cache(config.compile_cache());
        }
        Ok(doctor)
    }

    fn with_plugins(&self, mut builder: Builder) -> Result<Builder> {
        for folder in &self.plugins {
            builder = builder.plugins(folder);
        }
        if self.trust {
            ensure!(
                !self.plugins.is_empty(),
                "--trust is for the workers of --plugins: name their folder too; in verger.toml a grant has as_declared = true"
            );
            builder = builder.grant_plugins(Grant::as_declared());
        }
        for (worker, given) in self.grants()?.iter() {
            builder = builder.grant(worker, given.to_grant());
        }
        Ok(builder)
    }

    /// What --grant says.
    pub(crate) fn grants(&self) -> Result<Grants> {
        Grants::merged(&self.grant)
    }
}

/// The settings that were found, if they are for this file. Otherwise they are another app's.
fn beside(file: &Path) -> Option<Config> {
    let path = Config::find(std::env::current_dir().ok()?)?;
    let config = match Config::read(&path) {
        Ok(config) => config,
        Err(_) => {
            tell(format!(
                "verger: {} is left aside, for it cannot be used: see `verger config check`",
                path.display()
            ));
            return None;
        }
    };
    let same = |other: &Path| match (other.canonicalize(), file.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => other == file,
    };
    config.file().is_some_and(same).then_some(config)
}

/// A mistyped name must not leave a new database behind.
fn check_is_there(file: &Path) -> Result<()> {
    ensure!(
        file.exists(),
        "there is no file {0}; `verger migrate --db {0}` makes a new database",
        file.display()
    );
    ensure!(!file.is_dir(), "{} is a folder, not a database", file.display());
    Ok(())
}
