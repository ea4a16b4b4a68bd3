//! An empty world: a database in memory with the tables a worker asks for, and what it did there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use serde_json::Value as Json;
use verger::rusqlite::Connection;
use verger::verger_worker::Args;
use verger::{CompileCache, Grant, Manifest, Observation, PerformError, Performance, Verger};

use super::super::component::{Loaded, load, refused};
use super::statements::{Survey, message, missing_columns, quoted, survey};
use crate::clock::Held;

/// How often a worker is performed to learn the columns of its tables.
const LESSONS_MAX: usize = 8;

/// The most calls of the app's functions that are noted.
const CALLS_MAX: usize = 100;

/// What a world is made for.
pub(super) struct World<'a> {
    pub(super) file: &'a Path,
    pub(super) manifest: &'a Manifest,
    pub(super) args: &'a Args,
    pub(super) grant: Grant,
    /// SQL that makes the tables and the rows. Without it, the reference tables are there.
    pub(super) sql: Option<&'a str>,
    pub(super) clock: Held,
    pub(super) cache: CompileCache,
}

/// Where a table comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// From --sql.
    Given,
    /// From the reference tables.
    Reference,
    /// From nothing but its name, and what the worker's statements say of it.
    Made,
}

/// A call of a function of the app, answered with null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Call {
    pub(super) capability: String,
    pub(super) request: Json,
}

/// A world in which a worker was performed.
pub(super) struct Lived {
    pub(super) verger: Verger,
    pub(super) tables: BTreeMap<String, Origin>,
    /// The columns that were learned, by table.
    pub(super) columns: BTreeMap<String, BTreeSet<String>>,
    pub(super) performed: Result<Performance, PerformError>,
    pub(super) observed: Observation,
    pub(super) survey: Survey,
    pub(super) calls: Vec<Call>,
}

impl World<'_> {
    /// Performs the worker in a new world each time, until nothing more is learned of its tables.
    pub(super) fn live(&self) -> Result<Lived> {
        let mut columns = BTreeMap::new();
        for _ in 0..LESSONS_MAX {
            let lived = self.live_with(&columns)?;
            let learned = lived.missing_columns()?;
            if learned.is_empty() {
                return Ok(lived);
            }
            for (table, missing) in learned {
                columns.entry(table).or_insert_with(BTreeSet::new).extend(missing);
            }
        }
        self.live_with(&columns)
    }

    /// Performs the worker in a world whose tables have these columns, if nobody said their
    /// columns.
    pub(super) fn live_with(&self, columns: &BTreeMap<String, BTreeSet<String>>) -> Result<Lived> {
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let name = &self.manifest.name;
        let mut builder = Verger::in_memory()
            .clock(self.clock.clone())
            .compile_cache(self.cache.clone())
            .grant(name.as_str(), self.grant.clone());
        for capability in &self.manifest.capabilities {
            let (calls, capability) = (Arc::clone(&calls), capability.clone());
            builder = builder.capability(capability.clone(), move |call| {
                let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
                if calls.len() < CALLS_MAX {
                    calls.push(Call {
                        capability: capability.clone(),
                        request: call.request.clone(),
                    });
                }
                Ok(Json::Null)
            });
        }
        let Loaded { verger, .. } =
            load(self.file, builder)?.map_err(|refusal| refused(&refusal))?;
        let tables = self.make_tables(&verger, columns)?;
        let (performed, observed) = Observation::of(|| verger.perform_now(name, self.args_json()));
        let survey = survey(&mut verger.connect()?, &observed.statements)
            .context("cannot read the worker's statements")?;
        let calls = std::mem::take(&mut *calls.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Lived { verger, tables, columns: columns.clone(), performed, observed, survey, calls })
    }

    fn args_json(&self) -> Json {
        Json::Object(self.args.as_map().clone())
    }

    /// Performs the worker once more, in the same world.
    pub(super) fn live_on(&self, lived: &Lived) -> Result<Performance, PerformError> {
        lived.verger.perform_now(&self.manifest.name, self.args_json())
    }

    fn make_tables(
        &self,
        verger: &Verger,
        columns: &BTreeMap<String, BTreeSet<String>>,
    ) -> Result<BTreeMap<String, Origin>> {
        let connection = verger.connect()?;
        match self.sql {
            Some(sql) => connection
                .execute_batch(sql)
                .map_err(|error| anyhow!("the SQL of --sql fails: {}", message(&error)))?,
            None => verger.migrate_reference()?,
        }
        let mut tables = BTreeMap::new();
        for ask in &self.manifest.tables {
            let table = ask.resolve(self.args).to_lowercase();
            if tables.contains_key(&table) {
                continue;
            }
            let learned = columns.get(&table).into_iter().flatten().map(|column| quoted(column));
            let origin = match (is_there(&connection, &table)?, self.sql) {
                (true, Some(_)) => Origin::Given,
                (true, None) => {
                    for column in learned {
                        connection.execute_batch(&format!(
                            "ALTER TABLE {} ADD COLUMN {column}",
                            quoted(&table)
                        ))?;
                    }
                    Origin::Reference
                }
                (false, _) => {
                    let columns: String = learned.map(|column| format!(", {column}")).collect();
                    let made = connection.execute_batch(&format!(
                        "CREATE TABLE {} (id PRIMARY KEY{columns})",
                        quoted(&table)
                    ));
                    made.map_err(|error| {
                        anyhow!("cannot make the table {table:?}: {}", message(&error))
                    })?;
                    Origin::Made
                }
            };
            tables.insert(table, origin);
        }
        Ok(tables)
    }
}

fn is_there(connection: &Connection, table: &str) -> verger::rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE)";
    connection.query_row(sql, [table], |row| row.get(0))
}

impl Lived {
    /// The tables whose columns nobody said.
    pub(super) fn unknown(&self) -> BTreeSet<String> {
        self.tables
            .iter()
            .filter(|(_, origin)| **origin != Origin::Given)
            .map(|(table, _)| table.clone())
            .collect()
    }

    /// Whether a statement names a table of which something is only guessed from statements: its
    /// columns, or their types.
    #[cfg(feature = "postgres")]
    pub(super) fn names_guessed_table(&self, sql: &str) -> bool {
        let text = sql.to_lowercase();
        let made = self.tables.iter().filter(|(_, origin)| **origin == Origin::Made);
        let mut guessed = made.map(|(table, _)| table).chain(self.columns.keys());
        guessed.any(|table| text.contains(table.as_str()))
    }

    /// Whether a column is only guessed. The names are in lower case.
    #[cfg(feature = "postgres")]
    pub(super) fn is_guessed(&self, table: &str, column: &str) -> bool {
        let learned = self.columns.get(table).into_iter().flatten();
        self.tables.get(table) == Some(&Origin::Made)
            || learned.into_iter().any(|learned| learned.eq_ignore_ascii_case(column))
    }

    fn missing_columns(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        missing_columns(&self.verger.connect()?, &self.survey.broken, &self.unknown())
            .context("cannot learn the columns of a table")
    }
}
