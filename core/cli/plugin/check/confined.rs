//! Performs the worker once more, for one organization alone, because what works for all may not
//! work behind its walls.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value as Json, json};
use verger::PerformError;
use verger::rusqlite::Connection;
use verger::verger_worker::Args;

use super::finding::Findings;
use super::statements::quoted;
use super::world::{Lived, Origin, World};

/// The column that holds the tenant where no grant names one.
const COLUMN: &str = "organization_id";

/// The organization of a world in which no row has one.
const ORGANIZATION: &str = "an-organization";

/// Performs a worker that has tenants once for one of them. `column` is what a grant names.
pub(super) fn examine(
    world: &World<'_>,
    lived: &Lived,
    column: Option<&str>,
    findings: &mut Findings,
) -> Result<()> {
    if !world.manifest.tenant_aware && column.is_none() {
        return Ok(());
    }
    let column = column.unwrap_or(COLUMN);
    let connection = lived.verger.connect()?;
    let mut columns = lived.columns.clone();
    let mut grant = world.grant.clone().tenant_column(column);
    let (mut has_it, mut organization) = (0, None);
    for (table, origin) in &lived.tables {
        match (organization_in(&connection, table, column)?, origin) {
            (Found::Column(found), _) => {
                has_it += 1;
                organization = organization.or(found);
            }
            // Nobody said its columns, and an app that has tenants has this one.
            (Found::NoColumn, Origin::Made | Origin::Reference) => {
                has_it += 1;
                columns.entry(table.clone()).or_default().insert(column.to_string());
            }
            (Found::NoColumn, Origin::Given) => grant = grant.shared(table),
        }
    }
    if has_it == 0 {
        if !lived.tables.is_empty() {
            findings.advice(
                "confined",
                format!("none of its tables has the column `{column}`, so that nothing keeps organizations apart: is that its name?"),
            );
        }
        return Ok(());
    }
    let organization = organization.unwrap_or_else(|| json!(ORGANIZATION));
    let mut args = Json::Object(world.args.as_map().clone());
    args["organization_id"] = organization.clone();
    args["actor_id"] = args.get("actor_id").cloned().unwrap_or_default();
    let args = Args::from_json(args)?;
    let confined = World {
        file: world.file,
        manifest: world.manifest,
        args: &args,
        grant,
        sql: world.sql,
        clock: world.clock.clone(),
        cache: world.cache.clone(),
    };
    let lived = confined.live_with(&columns)?;
    match &lived.performed {
        Ok(_) => findings.ok(
            "confined",
            format!("for one organization alone ({organization}, by `{column}`) it ends well"),
        ),
        Err(PerformError::Failed { source, .. }) => findings.must_fix(
            "confined",
            format!(
                "for one organization alone (`{column}`) it fails: {} [{}]",
                source.message, source.code
            ),
        ),
        Err(error) => findings.must_fix("confined", error.to_string()),
    }
    Ok(())
}

enum Found {
    /// The table has the column, and perhaps a row with a tenant.
    Column(Option<Json>),
    NoColumn,
}

fn organization_in(connection: &Connection, table: &str, column: &str) -> Result<Found> {
    let known: BTreeMap<String, ()> = connection
        .prepare("SELECT lower(name) FROM pragma_table_info(?1)")?
        .query_map([table], |row| Ok((row.get(0)?, ())))?
        .collect::<Result<_, _>>()?;
    if !known.contains_key(&column.to_lowercase()) {
        return Ok(Found::NoColumn);
    }
    let (table, column) = (quoted(table), quoted(column));
    let sql =
        format!("SELECT CAST({column} AS TEXT) FROM {table} WHERE {column} IS NOT NULL LIMIT 1");
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query([])?;
    let found: Option<String> = rows.next()?.map(|row| row.get(0)).transpose()?;
    Ok(Found::Column(found.map(Json::from)))
}
