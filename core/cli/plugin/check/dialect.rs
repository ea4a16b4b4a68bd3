//! Which of a worker's statements PostgreSQL does not take, and why.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use verger::Manifest;
use verger::postgres::{OtherOrder, REFERENCE_TABLES, StatementCheck, StatementRefusal, Verger};
use verger::rusqlite::{Connection, params_from_iter};

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
        make_tables(lived, url, findings)
            .context("cannot make the tables of the world on PostgreSQL")?;
    }
    let mut check = StatementCheck::open(address.or(own.as_deref()).unwrap_or_default())?;
    let is_common = manifest.is_for_both_stores();
    let (mut taken, mut refused) = (Vec::new(), 0);
    for sql in &lived.observed.statements {
        match check.refusal(sql, is_common)? {
            None => taken.push(sql.as_str()),
            Some(refusal) => {
                refused += 1;
                if refused <= EACH_MAX {
                    let is_guess = own.is_some() && lived.names_guessed_table(sql);
                    tell(&refusal, sql, is_guess, is_common, findings);
                }
            }
        }
    }
    let is_known = |table: &str, column: &str| own.is_none() || !lived.is_guessed(table, column);
    orders(&mut check, &taken, &is_known, findings)?;
    let statements = counted(taken.len() as u64, "statement");
    match (taken.len(), refused) {
        (0, 0) => findings.advice(
            "postgres",
            "it sent no statement here: let it show its work with --args or --sql",
        ),
        (_, 0) if is_common => {
            findings.ok("postgres", format!("PostgreSQL takes all it sent: {statements}"))
        }
        (_, 0) => findings.advice(
            "postgres",
            format!("PostgreSQL takes all it sent, {statements}: if they mean the same there, its manifest may say \"sql\": [\"common\"]"),
        ),
        _ => {}
    }
    Ok(())
}

/// Says that a statement is refused. `is_guess` where nobody said the tables as they are.
fn tell(
    refusal: &StatementRefusal,
    sql: &str,
    is_guess: bool,
    is_common: bool,
    findings: &mut Findings,
) {
    let (why, sql) = (&refusal.why, excerpt(sql));
    if refusal.is_about_names && is_guess {
        return findings.advice(
            "postgres",
            format!("a statement could not be tried, for want of the real tables: {why} ({sql}); say them with --sql FILE, or --db postgres://…"),
        );
    }
    let but = if is_common { ", though its manifest says \"sql\": [\"common\"]" } else { "" };
    findings
        .must_fix("postgres", format!("PostgreSQL refuses a statement of it{but}: {why} ({sql})"));
}

/// Says which statements order their rows otherwise there.
fn orders(
    check: &mut StatementCheck,
    taken: &[&str],
    is_known: &dyn Fn(&str, &str) -> bool,
    findings: &mut Findings,
) -> Result<()> {
    let (mut told, mut collations) = (0, BTreeSet::new());
    for sql in taken {
        for other in check.other_orders(sql)? {
            let says = match &other {
                OtherOrder::Nulls { table, column } if is_known(table, column) => format!(
                    "`{table}.{column}` may be NULL, and NULLs come first on SQLite and last on PostgreSQL: write NULLS FIRST or NULLS LAST in ORDER BY ({})",
                    excerpt(sql)
                ),
                OtherOrder::Collation { table, column, collation }
                    if collations.insert(other.clone()) =>
                {
                    format!(
                        "`{table}.{column}` is sorted by the collation \"{collation}\", and on SQLite by its bytes: give it COLLATE \"C\" there if that matters ({})",
                        excerpt(sql)
                    )
                }
                _ => continue,
            };
            told += 1;
            if told <= EACH_MAX {
                findings.advice("postgres", says);
            }
        }
    }
    Ok(())
}

/// Makes the tables that the worker met on SQLite.
fn make_tables(lived: &Lived, url: &str, findings: &mut Findings) -> Result<()> {
    let mut client = postgres::Client::connect(url, postgres::NoTls)?;
    if lived.tables.values().all(|origin| *origin != Origin::Given) {
        client.batch_execute(REFERENCE_TABLES)?;
    }
    let file = lived.verger.connect()?;
    for (name, table) in tables(&file)? {
        let there = "SELECT to_regclass($1) IS NOT NULL";
        if client.query_one(there, &[&name_there(&name)])?.get(0) {
            for column in &table.columns {
                client.batch_execute(&format!(
                    "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {column}",
                    name_there(&name)
                ))?;
            }
            continue;
        }
        client.batch_execute(&table.text(&name))?;
        let indexes = "SELECT sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 AND sql IS NOT NULL";
        make_as_they_are(&mut client, &texts(&file, indexes, &[&name])?, findings);
    }
    let views = "SELECT sql FROM sqlite_schema WHERE type = 'view' AND name NOT GLOB 'verger_*' ORDER BY rowid";
    make_as_they_are(&mut client, &texts(&file, views, &[])?, findings);
    Ok(())
}

/// Makes what cannot be translated. What is SQLite's own is named, because statements may need it.
fn make_as_they_are(client: &mut postgres::Client, texts: &[String], findings: &mut Findings) {
    for sql in texts {
        let Err(error) = client.batch_execute(sql) else { continue };
        let why = error.as_db_error().map_or_else(|| error.to_string(), |it| it.message().into());
        let sql = excerpt(sql);
        findings.advice(
            "postgres",
            format!("PostgreSQL does not make this of the tables' SQL: {why} ({sql})"),
        );
    }
}

/// A table, as the other server is told of it.
struct Table {
    columns: Vec<String>,
    /// The columns of its primary key, if it has one.
    key: String,
    /// Lists of columns that are unique together.
    unique: Vec<String>,
}

impl Table {
    fn text(&self, name: &str) -> String {
        let key = Some(&self.key).filter(|key| !key.is_empty());
        let key = key.map(|columns| format!("PRIMARY KEY ({columns})"));
        let unique = self.unique.iter().map(|columns| format!("UNIQUE ({columns})"));
        let parts: Vec<String> = self.columns.iter().cloned().chain(key).chain(unique).collect();
        format!("CREATE TABLE {} ({})", name_there(name), parts.join(", "))
    }
}

/// The tables of the world but Verger's own.
fn tables(file: &Connection) -> Result<Vec<(String, Table)>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' AND name NOT GLOB 'verger_*'";
    let names = texts(file, sql, &[])?;
    names.into_iter().map(|name| Ok((name.clone(), table(file, &name)?))).collect()
}

/// The first column of a query.
fn texts(file: &Connection, sql: &str, params: &[&str]) -> Result<Vec<String>> {
    let mut statement = file.prepare(sql)?;
    let rows = statement.query_map(params_from_iter(params), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn table(file: &Connection, name: &str) -> Result<Table> {
    let listed = |sql: &str, of: &str| -> Result<String> {
        let columns = texts(file, sql, &[of])?;
        Ok(columns.iter().map(|column| name_there(column)).collect::<Vec<_>>().join(", "))
    };
    let columns = "SELECT name, type, \"notnull\" FROM pragma_table_xinfo(?1)";
    let mut statement = file.prepare(columns)?;
    let columns = statement.query_map([name], |row| {
        let (column, declared): (String, String) = (row.get(0)?, row.get(1)?);
        let not_null = if row.get(2)? { " NOT NULL" } else { "" };
        Ok(format!("{} {}{not_null}", name_there(&column), type_there(&declared)))
    })?;
    let key = "SELECT name FROM pragma_table_xinfo(?1) WHERE pk > 0 ORDER BY pk";
    let unique = "SELECT name FROM pragma_index_list(?1) WHERE origin = 'u'";
    let of_index = "SELECT name FROM pragma_index_info(?1) ORDER BY seqno";
    let unique = texts(file, unique, &[name])?;
    Ok(Table {
        columns: columns.collect::<Result<_, _>>()?,
        key: listed(key, name)?,
        unique: unique.iter().map(|index| listed(of_index, index)).collect::<Result<_>>()?,
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
