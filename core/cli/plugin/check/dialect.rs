//! Which of a worker's statements PostgreSQL does not take, and why.

use anyhow::{Context, Result};
use verger::Manifest;
use verger::postgres::{REFERENCE_TABLES, StatementCheck, Verger};
use verger::rusqlite::Connection;

use super::finding::Findings;
use super::statements::quoted;
use super::work::{EACH_MAX, excerpt};
use super::world::{Lived, Origin};
use crate::local_postgres::LocalPostgres;
use crate::output::counted;

/// Where the statements are checked: in the database at an address, or in one of the command's own
/// with the tables of the world.
pub(super) fn examine(
    lived: &Lived,
    manifest: &Manifest,
    address: Option<&str>,
    findings: &mut Findings,
) -> Result<()> {
    let server = match address {
        Some(_) => None,
        None => Some(LocalPostgres::temporary()?),
    };
    let own = server.as_ref().map(LocalPostgres::url);
    if let Some(url) = &own {
        drop(Verger::builder(url).open()?);
        make_tables(lived, url).context("cannot make the tables of the world on PostgreSQL")?;
    }
    let mut check = StatementCheck::open(address.or(own.as_deref()).unwrap_or_default())?;
    let is_common = manifest.is_for_both_stores();
    let (mut taken, mut refused) = (0_u64, 0);
    for sql in &lived.observed.statements {
        let Some(refusal) = check.refusal(sql, is_common)? else {
            taken += 1;
            continue;
        };
        refused += 1;
        if refused > EACH_MAX {
            continue;
        }
        let (why, sql) = (&refusal.why, excerpt(sql));
        match refusal.is_about_names && address.is_none() && lived.has_guessed_tables() {
            true => findings.advice(
                "postgres",
                format!("a statement could not be tried, for want of the real tables: {why} ({sql}); say them with --sql FILE, or --db postgres://…"),
            ),
            false => findings.must_fix("postgres", format!("PostgreSQL refuses a statement of it: {why} ({sql})")),
        }
    }
    match (taken, refused) {
        (0, 0) => findings.advice(
            "postgres",
            "it sent no statement here: let it show its work with --args or --sql",
        ),
        (_, 0) if !is_common => findings.advice(
            "postgres",
            format!(
                "PostgreSQL takes all it sent, {}: if they mean the same there, its manifest may say \"sql\": [\"common\"]",
                counted(taken, "statement")
            ),
        ),
        (_, 0) => findings.ok("postgres", format!("PostgreSQL takes all it sent: {}", counted(taken, "statement"))),
        _ => {}
    }
    Ok(())
}

/// Makes the tables that the worker met on SQLite.
fn make_tables(lived: &Lived, url: &str) -> Result<()> {
    let mut client = postgres::Client::connect(url, postgres::NoTls)?;
    if lived.tables.values().all(|origin| *origin != Origin::Given) {
        client.batch_execute(REFERENCE_TABLES)?;
    }
    let file = lived.verger.connect()?;
    for (name, table) in tables(&file)? {
        let there = "SELECT to_regclass($1) IS NOT NULL";
        if client.query_one(there, &[&quoted(&name.to_lowercase())])?.get(0) {
            for column in &table.columns {
                client.batch_execute(&format!(
                    "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {column}",
                    quoted(&name.to_lowercase())
                ))?;
            }
            continue;
        }
        client.batch_execute(&table.text(&name))?;
        for index in &table.indexes {
            // What it says may be SQLite's own, and no statement needs it to be understood.
            let _ = client.batch_execute(index);
        }
    }
    Ok(())
}

/// A table, as the other server is told of it.
struct Table {
    columns: Vec<String>,
    /// Lists of columns that are unique together.
    unique: Vec<String>,
    /// The texts of its indexes.
    indexes: Vec<String>,
}

impl Table {
    fn text(&self, name: &str) -> String {
        let unique = self.unique.iter().map(|columns| format!("UNIQUE ({columns})"));
        let parts: Vec<String> = self.columns.iter().cloned().chain(unique).collect();
        format!("CREATE TABLE {} ({})", name_there(name), parts.join(", "))
    }
}

/// The tables of the world but Verger's own.
fn tables(file: &Connection) -> Result<Vec<(String, Table)>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' AND name NOT GLOB 'verger_*'";
    let mut statement = file.prepare(sql)?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    names
        .map(|name| {
            name.map_err(Into::into).and_then(|name| Ok((name.clone(), table(file, &name)?)))
        })
        .collect()
}

fn table(file: &Connection, name: &str) -> Result<Table> {
    let strings = |sql: &str| -> Result<Vec<(String, String)>> {
        let mut statement = file.prepare(sql)?;
        let rows = statement.query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let listed = |columns: Vec<(String, String)>| {
        let names: Vec<String> = columns.iter().map(|(column, _)| name_there(column)).collect();
        names.join(", ")
    };
    let columns = strings("SELECT name, type FROM pragma_table_xinfo(?1)")?;
    let key = strings("SELECT name, type FROM pragma_table_xinfo(?1) WHERE pk > 0 ORDER BY pk")?;
    let mut unique: Vec<String> =
        Some(listed(key)).filter(|key| !key.is_empty()).into_iter().collect();
    for (index, _) in strings("SELECT name, origin FROM pragma_index_list(?1) WHERE origin = 'u'")?
    {
        let mut statement =
            file.prepare("SELECT name, '' FROM pragma_index_info(?1) ORDER BY seqno")?;
        let rows = statement.query_map([index], |row| Ok((row.get(0)?, row.get(1)?)))?;
        unique.push(listed(rows.collect::<Result<_, _>>()?));
    }
    let indexes = strings(
        "SELECT sql, '' FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 AND sql IS NOT NULL",
    )?;
    Ok(Table {
        columns: columns
            .iter()
            .map(|(column, declared)| format!("{} {}", name_there(column), type_there(declared)))
            .collect(),
        unique,
        indexes: indexes.into_iter().map(|(sql, _)| sql).collect(),
    })
}

/// SQLite finds a name however it is written, and the other server by small letters.
fn name_there(name: &str) -> String {
    quoted(&name.to_lowercase())
}

/// The type that keeps what SQLite keeps in a column that is declared so
/// (<https://sqlite.org/datatype3.html>, 3.1).
fn type_there(declared: &str) -> &'static str {
    let declared = declared.to_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    match () {
        () if has(&["INT"]) => "bigint",
        () if has(&["CHAR", "CLOB", "TEXT"]) || declared.is_empty() => "text COLLATE \"C\"",
        () if has(&["BLOB"]) => "bytea",
        () if has(&["REAL", "FLOA", "DOUB"]) => "double precision",
        () => "numeric",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_the_type_of_its_affinity() {
        for (declared, there) in [
            ("INTEGER", "bigint"),
            ("bigint", "bigint"),
            ("VARCHAR(20)", "text COLLATE \"C\""),
            ("", "text COLLATE \"C\""),
            ("BLOB", "bytea"),
            ("double precision", "double precision"),
            ("BOOLEAN", "numeric"),
        ] {
            assert_eq!(type_there(declared), there, "{declared}");
        }
    }
}
