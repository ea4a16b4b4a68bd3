//! Where a demo lives: in a SQLite file, or in a PostgreSQL database.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use verger::rusqlite::Connection;
use verger::{Schedule, Verger};

use super::database::Database;
#[cfg(feature = "postgres")]
use super::postgres_client::PostgresClient;
use crate::books::Books;
use crate::clock::Held;
#[cfg(feature = "postgres")]
use crate::local_postgres::LocalPostgres;
use crate::options::is_address;

/// The name of a store on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    Sqlite,
    #[cfg(feature = "postgres")]
    Postgres,
}

pub(crate) enum Place {
    File(PathBuf),
    /// A server of the demo's own.
    #[cfg(feature = "postgres")]
    Folder {
        folder: PathBuf,
        server: LocalPostgres,
    },
    /// A database that somebody named.
    #[cfg(feature = "postgres")]
    Address(String),
}

impl Place {
    /// The place that --store and --db name.
    pub(crate) fn of(store: Option<Store>, db: Option<&str>) -> Result<Self> {
        #[cfg(feature = "postgres")]
        {
            let address = db.filter(|db| is_address(db));
            ensure!(
                address.is_none() || store != Some(Store::Sqlite),
                "--db names a PostgreSQL database, and --store another store"
            );
            if let Some(address) = address {
                return Ok(Self::Address(address.to_string()));
            }
            if store == Some(Store::Postgres) {
                let folder = PathBuf::from(db.unwrap_or("verger-demo-postgres"));
                let server = LocalPostgres::start(&folder)?;
                return Ok(Self::Folder { folder, server });
            }
        }
        #[cfg(not(feature = "postgres"))]
        ensure!(
            !db.is_some_and(is_address),
            "this verger was built without PostgreSQL (feature postgres)"
        );
        let _ = store;
        Ok(Self::File(PathBuf::from(db.unwrap_or("verger-demo.db"))))
    }

    /// The app's connection.
    pub(crate) fn connect(&self) -> Result<Database> {
        match self {
            Self::File(file) => {
                ensure!(!file.is_dir(), "{self} is a folder, not a database");
                let connection =
                    Connection::open(file).with_context(|| format!("cannot open {self}"))?;
                connection.busy_timeout(Duration::from_secs(10))?;
                Ok(Database::Sqlite(connection))
            }
            #[cfg(feature = "postgres")]
            _ => {
                let client = PostgresClient::connect(&self.url());
                Ok(Database::Postgres(Box::new(
                    client.with_context(|| format!("cannot open {self}"))?,
                )))
            }
        }
    }

    /// Makes the tables of the app, and opens Verger with the demo's schedules.
    pub(crate) fn open(&self, app: &mut Database, clock: Held) -> Result<Books> {
        match self {
            Self::File(file) => {
                let mut builder = Verger::builder(file).clock(clock);
                for schedule in schedules()? {
                    builder = builder.schedule(schedule);
                }
                let verger = builder.open()?;
                verger.migrate_reference()?;
                *app = Database::Sqlite(verger.connect()?);
                Ok(Books::File(verger))
            }
            #[cfg(feature = "postgres")]
            _ => {
                app.batch(verger::postgres::REFERENCE_TABLES)?;
                let mut builder = verger::postgres::Verger::builder(self.url()).clock(clock);
                if let Self::Folder { .. } = self {
                    // Whoever reaches its socket is let in without a password.
                    builder = builder.role_secret("verger demo");
                }
                for (_, worker) in super::SWEEPS {
                    builder = builder.built_in(worker);
                }
                for schedule in schedules()? {
                    builder = builder.schedule(schedule);
                }
                // The demo is the app, and whoever may make roles.
                app.batch(&builder.role_grants()?)?;
                Ok(Books::Server(builder.open()?))
            }
        }
    }

    /// Why nothing can be read there, as far as the place tells.
    pub(crate) fn unreadable(&self) -> String {
        match self {
            Self::File(_) => {
                format!("{self} is no SQLite database: name another file with --db")
            }
            #[cfg(feature = "postgres")]
            _ => format!("cannot read {self}"),
        }
    }

    /// Whether a server has to be stopped at the end.
    pub(crate) fn has_server(&self) -> bool {
        match self {
            Self::File(_) => false,
            #[cfg(feature = "postgres")]
            Self::Folder { .. } => true,
            #[cfg(feature = "postgres")]
            Self::Address(_) => false,
        }
    }

    /// How a command names the place.
    pub(crate) fn argument(&self) -> String {
        match self {
            Self::File(file) => format!("--db {}", file.display()),
            #[cfg(feature = "postgres")]
            Self::Folder { folder, .. } => format!("--store postgres --db {}", folder.display()),
            // Its password may stand in it.
            #[cfg(feature = "postgres")]
            Self::Address(_) => "--db postgres://…".to_string(),
        }
    }

    /// Where somebody who wants to look further finds it all.
    pub(crate) fn where_to_look(&self) -> String {
        match self {
            Self::File(_) => {
                format!("All of it is in {self}, for any SQLite tool. To look further:")
            }
            #[cfg(feature = "postgres")]
            Self::Folder { server, .. } => match server.command_to_start() {
                Some(command) => format!(
                    "All of it is in the folder {self}, whose server stops now. To start it again:\n  {command}\n\
                     and to look further, with psql or by:"
                ),
                None => format!(
                    "All of it is in the folder {self}, whose server ran before and goes on. To stop it:\n  {}\n\
                     and to look further, with psql or by:",
                    server.command_to_stop()
                ),
            },
            #[cfg(feature = "postgres")]
            Self::Address(_) => {
                format!("All of it is in {self}. To look further, with psql or by:")
            }
        }
    }

    /// Commands that show more of it.
    pub(crate) fn commands(&self) -> Vec<String> {
        let db = match self {
            Self::File(file) => format!("--db {}", file.display()),
            #[cfg(feature = "postgres")]
            Self::Folder { server, .. } => format!("--db {}", server.url_afterwards()),
            #[cfg(feature = "postgres")]
            Self::Address(_) => self.argument(),
        };
        let mut commands = vec![
            format!("jobs list {db}"),
            format!("schedule fires invitations {db}"),
            format!("audit list {db} --worker cleanup-expired-invitations"),
        ];
        match self {
            Self::File(_) => commands.push(format!(
                "run reconcile-memberships {db} --now 2026-02-01 --dry-run --args '{{\"organization_id\":\"org_029\",\"actor_id\":null}}'"
            )),
            #[cfg(feature = "postgres")]
            _ => {}
        }
        commands
    }

    #[cfg(feature = "postgres")]
    fn url(&self) -> String {
        match self {
            Self::Folder { server, .. } => server.url(),
            Self::Address(address) => address.clone(),
            Self::File(_) => String::new(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            #[cfg(feature = "postgres")]
            Self::Folder { folder, .. } => folder.display().fmt(f),
            #[cfg(feature = "postgres")]
            Self::Address(_) => f.write_str("the database of --db"),
        }
    }
}

/// When each built-in worker sweeps.
fn schedules() -> Result<[Schedule; 3]> {
    let args = || serde_json::json!({"organization_id": null, "actor_id": null});
    let [invitations, memberships, events] = super::SWEEPS;
    Ok([
        Schedule::cron(invitations.0, "0 3 * * *")?.worker(invitations.1).args(args()),
        Schedule::every(memberships.0, Duration::from_millis(300_000))?
            .worker(memberships.1)
            .args(args()),
        Schedule::cron(events.0, "*/5 * * * *")?.worker(events.1).args(args()),
    ])
}
