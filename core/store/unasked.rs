//! What SQLite does without asking the authorizer, found in the program it compiled.
//!
//! SQLite does not ask about the columns that `NATURAL` and `USING` compare, nor about their table
//! if no other column of it is read. It does not ask about rows that a constraint of the table's
//! own replaces either: `UNIQUE … ON CONFLICT REPLACE`. A worker's own `OR REPLACE` is handled in
//! `authorizer.rs`.
//!
//! An `UPDATE … FROM` may have a result that is no row of its table: an aggregate that found none,
//! or the missing side of an outer join. A table stays as it is then. A virtual table is given a
//! new row, and SQLite does not ask whether it may be.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension, Row};
use verger_worker::Verb;

use super::tokens::Tokens;
use crate::grant::Effective;

/// The first write that a statement makes by itself.
pub(crate) type Write = (Verb, String);

/// The tables and indexes that a program opens.
#[derive(Default)]
pub(super) struct Reached {
    /// The pages where they begin in the main database.
    root_pages: BTreeSet<i64>,
    /// It copies whole rows of one table to another.
    copies: bool,
    writes_virtual: bool,
    /// It may work on a row that no table has.
    makes_rows: bool,
}

impl Reached {
    pub(super) fn note(&mut self, opcode: &str, step: &Row<'_>) -> rusqlite::Result<()> {
        match opcode {
            "OpenRead" | "ReopenIdx" | "OpenWrite" if step.get::<_, i64>("p3")? == 0 => {
                self.root_pages.insert(step.get("p2")?);
            }
            "RowCell" => self.copies = true,
            "VUpdate" => self.writes_virtual = true,
            "AggFinal" | "AggValue" | "NullRow" => self.makes_rows = true,
            _ => {}
        }
        Ok(())
    }
}

/// What is known of a connection's tables.
#[derive(Default)]
pub(super) struct Unasked {
    /// Whether a constraint of the table replaces rows, for the tables that were asked about.
    replacing: RefCell<HashMap<String, bool>>,
}

impl Unasked {
    /// Whether a statement does something that is not granted. The error names it.
    pub(super) fn check(
        &self,
        connection: &Connection,
        (grant, confined): (&Effective, bool),
        tokens: &Tokens,
        write: Option<&Write>,
        reached: &Reached,
    ) -> rusqlite::Result<Result<(), String>> {
        let joins = ["natural", "using"].into_iter().find(|word| tokens.has_keyword(word));
        if joins.is_some() || reached.copies {
            for page in &reached.root_pages {
                let Some(table) = table_at(connection, *page)? else { continue };
                let writes_it =
                    write.is_some_and(|(_, target)| target.eq_ignore_ascii_case(&table));
                if !tokens.mentions(&table) || writes_it && joins.is_none() {
                    continue;
                }
                if let Err(reason) = readable(grant, confined && tokens.mentions("main"), &table) {
                    let what = joins.unwrap_or("copying").to_uppercase();
                    return Ok(Err(format!(
                        "{reason}; {what} compares columns that it does not name: name them with ON"
                    )));
                }
            }
        }
        match write {
            // The tenant's walls see to it themselves.
            Some((Verb::Update, table))
                if reached.writes_virtual
                    && reached.makes_rows
                    && (!confined || grant.is_shared(table))
                    && let Err(reason) = grant.check(Verb::Insert, table, None) =>
            {
                Ok(Err(format!(
                    "{reason}; an UPDATE with an aggregate or an outer join could add a row to a virtual table"
                )))
            }
            Some((verb @ (Verb::Insert | Verb::Update), table))
                if !tokens.settles_conflicts()
                    && grant.check(Verb::Delete, table, None).is_err()
                    && self.replaces(connection, table)? =>
            {
                Ok(Err(format!(
                    "{verb} denied: table {table} replaces rows on a conflict ({} is not granted \
                     delete on it; say OR ABORT)",
                    grant.worker()
                )))
            }
            _ => Ok(Ok(())),
        }
    }

    /// Whether a constraint of a table says ON CONFLICT REPLACE. Then a plain insert deletes rows
    /// or index entries, or goes on where it would stop at a row with its key.
    fn replaces(&self, connection: &Connection, table: &str) -> rusqlite::Result<bool> {
        let table = table.to_ascii_lowercase();
        if let Some(known) = self.replacing.borrow().get(&table) {
            return Ok(*known);
        }
        let replaces = looks_replacing(connection, &table)?;
        self.replacing.borrow_mut().insert(table, replaces);
        Ok(replaces)
    }

    /// The schema changed.
    pub(super) fn forget(&self) {
        self.replacing.borrow_mut().clear();
    }
}

/// Whether a statement that joins by columns it does not name may read all of these tables that it
/// names.
pub(super) fn check_joins<'t>(
    grant: &Effective,
    tokens: &Tokens,
    mut tables: impl Iterator<Item = &'t str>,
) -> Result<(), String> {
    if !["natural", "using"].into_iter().any(|word| tokens.has_keyword(word)) {
        return Ok(());
    }
    tables.try_for_each(|table| match tokens.mentions(table) {
        true => readable(grant, false, table).map_err(|reason| {
            format!(
                "{reason}; NATURAL and USING compare columns that are not named: name them with ON"
            )
        }),
        false => Ok(()),
    })
}

fn readable(grant: &Effective, by_schema: bool, table: &str) -> Result<(), String> {
    grant.check(Verb::Read, table, None)?;
    if grant.is_narrowed(Verb::Read, table) {
        return Err(format!(
            "read denied: table {table} ({} is granted read on some of its columns only)",
            grant.worker()
        ));
    }
    // Without a schema the name is the wall's.
    if by_schema && !grant.is_shared(table) {
        return Err(format!(
            "read denied: table {table} by its schema ({} is confined to the job's organization)",
            grant.worker()
        ));
    }
    Ok(())
}

/// The table that begins at a page, or that has an index beginning there.
fn table_at(connection: &Connection, page: i64) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT tbl_name FROM main.sqlite_schema WHERE rootpage = ?1")?
        .query_row([page], |row| row.get(0))
        .optional()
}

fn looks_replacing(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let is_table: Option<bool> = connection
        .query_row(
            "SELECT type = 'table' AND rootpage > 0 FROM main.sqlite_schema WHERE lower(name) = ?1 \
             AND type IN ('table', 'view')",
            [table],
            |row| row.get(0),
        )
        .optional()?;
    if is_table != Some(true) {
        return Ok(false);
    }
    let columns: Vec<String> = connection
        .prepare("SELECT name FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 0")?
        .query_map([table], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let names: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let mut explained = connection.prepare(&format!(
        "EXPLAIN INSERT INTO main.{} ({}) VALUES ({})",
        quoted(table),
        names.join(", "),
        vec!["?"; names.len()].join(", ")
    ))?;
    let mut steps = explained.raw_query();
    let (mut last, mut missed) = (-1, false);
    while let Some(step) = steps.next()? {
        let (address, opcode): (i64, String) = (step.get("addr")?, step.get("opcode")?);
        if address <= last {
            // Triggers come after this.
            break;
        }
        last = address;
        let opcode = opcode.as_str();
        if missed && !["Halt", "Goto"].contains(&opcode)
            || ["Delete", "IdxDelete"].contains(&opcode)
        {
            return Ok(true);
        }
        missed = opcode == "NotExists";
    }
    Ok(false)
}

/// The app's virtual tables, each with its module, in lower case.
pub(super) fn virtual_tables(
    connection: &Connection,
) -> rusqlite::Result<BTreeMap<String, String>> {
    connection
        .prepare(
            "SELECT lower(name), sql FROM main.sqlite_schema WHERE type = 'table' AND rootpage = 0",
        )?
        .query_map([], |row| {
            let sql: String = row.get(1)?;
            Ok((row.get(0)?, Tokens::of(&sql).behind("using").unwrap_or_default().to_string()))
        })?
        .collect()
}
