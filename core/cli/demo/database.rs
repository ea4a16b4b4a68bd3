//! The app's own database, in either store: a connection, and how the app writes and reads.
//!
//! The demo's statements are texts that both understand, with `?1` for a parameter.

use anyhow::{Context, Result};
use verger::rusqlite::types::Value;
use verger::rusqlite::{Connection, params_from_iter};

#[cfg(feature = "postgres")]
use super::postgres_client::PostgresClient;

/// A row of a result.
pub(crate) type Row = Vec<Value>;

/// The app's connection.
pub(crate) enum Database {
    Sqlite(Connection),
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresClient>),
}

/// What is in a place before the demo.
pub(crate) enum Found {
    Nothing,
    Demo,
    Other,
}

/// What each store calls things.
pub(crate) struct Words {
    /// Makes the table of [`Progress`](super::app::Progress).
    pub(crate) progress: &'static str,
    /// Where it keeps what the summary reads.
    pub(crate) audit: &'static str,
    pub(crate) fires: &'static str,
    pub(crate) schedules: &'static str,
    pub(crate) jobs: &'static str,
    /// Numbers in the metadata of an audit row.
    pub(crate) deleted: &'static str,
    pub(crate) linked: &'static str,
    /// How many errors a job has had.
    pub(crate) errors: &'static str,
}

const SQLITE: Words = Words {
    progress: "CREATE TABLE demo_progress (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        seed INTEGER NOT NULL,
        scale INTEGER NOT NULL,
        slot INTEGER NOT NULL                           -- the last slot the app has written; 0: the data from before the start; -1: nothing
    ) STRICT",
    audit: "verger_audit",
    fires: "verger_fires",
    schedules: "verger_schedules",
    jobs: "verger_jobs",
    deleted: "metadata ->> 'deleted'",
    linked: "metadata ->> 'linked'",
    errors: "json_array_length(errors)",
};

#[cfg(feature = "postgres")]
const POSTGRES: Words = Words {
    progress: "CREATE TABLE demo_progress (
        id bigint PRIMARY KEY CHECK (id = 1),
        seed bigint NOT NULL,
        scale bigint NOT NULL,
        slot bigint NOT NULL
    )",
    audit: "verger.audit",
    fires: "verger.fires",
    schedules: "verger.schedules",
    jobs: "verger.jobs",
    deleted: "(metadata::json ->> 'deleted')::bigint",
    linked: "(metadata::json ->> 'linked')::bigint",
    errors: "jsonb_array_length(errors)",
};

impl Database {
    pub(crate) fn words(&self) -> &'static Words {
        match self {
            Self::Sqlite(_) => &SQLITE,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => &POSTGRES,
        }
    }

    /// Whether a demo is there, or what somebody else has.
    pub(crate) fn what_is_there(&mut self) -> Result<Found> {
        let (demo, any) = match self {
            Self::Sqlite(_) => (
                "SELECT count(*) FROM sqlite_schema WHERE name = 'demo_progress'",
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table'",
            ),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => (
                "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema AND tablename = 'demo_progress'",
                "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
            ),
        };
        Ok(match (self.number(demo, &[])?, self.number(any, &[])?) {
            (0, 0) => Found::Nothing,
            (0, _) => Found::Other,
            _ => Found::Demo,
        })
    }

    /// What `body` writes is committed together, or nothing of it is.
    pub(crate) fn transaction(&mut self, body: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        match self {
            Self::Sqlite(_) => self.batch("BEGIN IMMEDIATE")?,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => self.batch("BEGIN")?,
        }
        let ended = body(self).and_then(|()| self.batch("COMMIT"));
        if ended.is_err() {
            // The error says what went wrong, and a connection that is lost has rolled back.
            let _ = self.batch("ROLLBACK");
        }
        ended
    }

    /// Several statements without parameters.
    pub(crate) fn batch(&mut self, sql: &str) -> Result<()> {
        match self {
            Self::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(client) => client.batch(sql),
        }
    }

    /// A statement, and how many rows it changed.
    pub(crate) fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        match self {
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                Ok(u64::try_from(statement.execute(params_from_iter(params))?)?)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(client) => client.execute(sql, params),
        }
    }

    /// The rows of a query.
    pub(crate) fn rows(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        match self {
            Self::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(sql)?;
                let columns = statement.column_count();
                let rows = statement.query_map(params_from_iter(params), |row| {
                    (0..columns).map(|place| row.get(place)).collect()
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(client) => client.rows(sql, params),
        }
    }

    /// The one number of a query.
    pub(crate) fn number(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        let rows = self.rows(sql, params)?;
        let number = rows.first().and_then(|row| row.first()).map(integer);
        number.with_context(|| format!("no row came of: {sql}"))
    }
}

/// A count. What is no integer, or below 0, is none.
pub(crate) fn integer(value: &Value) -> u64 {
    match value {
        Value::Integer(number) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}

pub(crate) fn text(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        _ => String::new(),
    }
}
