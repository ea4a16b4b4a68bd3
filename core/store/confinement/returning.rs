//! The slower way, for UPDATE and DELETE with RETURNING, which SQLite has for tables and views but
//! not for virtual tables.
//!
//! Once a run asks for it, a view takes the name of each virtual table, with triggers that write to
//! it, and the rest of the run uses those. Reads are as before, because the view has just the
//! virtual table's rows.

use rusqlite::Connection;

use super::Confinement;
use super::table::{Key, Table, quoted};
use crate::store::WorkConnection;

/// What SQLite says when it is asked to return what it changes in a virtual table.
const REFUSAL: &str = "RETURNING is not available on virtual tables";

impl Confinement {
    /// Whether another try may succeed after this failure.
    pub(in crate::store) fn is_refusal(error: &rusqlite::Error) -> bool {
        error.to_string().contains(REFUSAL)
    }

    /// Puts views before the virtual tables.
    pub(in crate::store) fn put_views(&self, connection: &WorkConnection) -> rusqlite::Result<()> {
        self.has_views.set(true);
        connection.engine(|connection| {
            let known = self.known.borrow();
            let tables = known.values().filter_map(|known| known.table.as_deref());
            tables.into_iter().try_for_each(|table| put_view(connection, &self.token, table))
        })
    }
}

fn put_view(connection: &Connection, token: &str, table: &Table) -> rusqlite::Result<()> {
    // A rollback may have removed some of them.
    let is_there: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM sqlite_temp_schema WHERE type = 'view' AND lower(name) = ?1)",
        )?
        .query_row([&table.name], |row| row.get(0))?;
    if is_there {
        return Ok(());
    }
    let (view, rows) = (quoted(&table.name), quoted(&format!("{token}{}", table.name)));
    let list = |item: &dyn Fn(usize) -> String| -> String {
        let items: Vec<String> = (0..table.columns.len())
            .filter(|place| !table.columns[*place].generated)
            .map(item)
            .collect();
        items.join(", ")
    };
    let name = |place: usize| quoted(&table.columns[place].name);
    let all: Vec<String> = (0..table.columns.len()).map(name).collect();
    let trigger = |verb: &str| quoted(&format!("{token}{}_{verb}", table.name));
    let mut sql = format!(
        "ALTER TABLE temp.{view} RENAME TO {rows};
         CREATE TEMP VIEW {view} AS SELECT {} FROM {rows};
         CREATE TEMP TRIGGER {} INSTEAD OF INSERT ON {view} BEGIN
             INSERT INTO {rows} ({}) VALUES ({}); END;",
        all.join(", "),
        trigger("insert"),
        list(&name),
        list(&|place| format!("NEW.{}", name(place))),
    );
    let parts: Vec<usize> = match &table.key {
        Key::Rowid { alias: Some(alias), .. } => vec![*alias],
        Key::Columns(parts) => parts.clone(),
        Key::Rowid { alias: None, .. } => {
            (0..table.columns.len()).filter(|place| table.columns[*place].key > 0).collect()
        }
        Key::None => Vec::new(),
    };
    // Rows whose keys are NULL have the same key.
    let unknown = match parts.is_empty() {
        true => "1".to_string(),
        false => {
            let nulls: Vec<String> =
                parts.iter().map(|part| format!("OLD.{} IS NULL", name(*part))).collect();
            nulls.join(" OR ")
        }
    };
    let same: Vec<String> =
        parts.iter().map(|part| format!("{0} = OLD.{0}", name(*part))).collect();
    let same = if same.is_empty() { "0".to_string() } else { same.join(" AND ") };
    let set = list(&|place| format!("{0} = NEW.{0}", name(place)));
    for (verb, write) in
        [("update", format!("UPDATE {rows} SET {set}")), ("delete", format!("DELETE FROM {rows}"))]
    {
        sql.push_str(&format!(
            "CREATE TEMP TRIGGER {} INSTEAD OF {verb} ON {view} BEGIN
                 SELECT RAISE(ABORT, 'a confined worker has rows returned only from tables whose rows have a primary key: query them first')
                 WHERE {unknown};
                 {write} WHERE {same}; END;",
            trigger(verb),
        ));
    }
    connection.execute_batch(&sql)
}
