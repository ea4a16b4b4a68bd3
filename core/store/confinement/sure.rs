//! Writes through a wall that cannot fail at one row after they have written others.

use rusqlite::Connection;

use super::table::{Key, Table};
use super::write::{Shape, sql};

/// The opcodes of a write of one row that nothing of the app's can refuse. A constraint, a foreign
/// key, a trigger, a strict type or a function adds other opcodes, or a Halt with a code.
const SURE: [&str; 48] = [
    "Init",
    "Goto",
    "Transaction",
    "Halt",
    "Null",
    "Integer",
    "Int64",
    "Real",
    "String8",
    "Blob",
    "Variable",
    "Copy",
    "SCopy",
    "Move",
    "SoftNull",
    "OpenRead",
    "OpenWrite",
    "ReopenIdx",
    "Close",
    "SeekRowid",
    "NotExists",
    "NotFound",
    "SeekGE",
    "SeekGT",
    "SeekLE",
    "SeekLT",
    "IdxGE",
    "IdxGT",
    "IdxLE",
    "IdxLT",
    "IdxRowid",
    "DeferredSeek",
    "FinishSeek",
    "Next",
    "Prev",
    "Rowid",
    "Column",
    "Affinity",
    "IsNull",
    "NotNull",
    "Eq",
    "Ne",
    "MakeRecord",
    "Insert",
    "IdxInsert",
    "IntCopy",
    "RealAffinity",
    "CursorHint",
];

/// The opcodes of a delete.
const SURE_DELETES: [&str; 4] = ["Delete", "IdxDelete", "Noop", "ReleaseReg"];

/// Whether a write of this kind succeeds for every row of the tenant. Whatever can refuse a row is
/// the app's, and is in the program of the write. Only a full or broken disk is left.
pub(super) fn is_sure(
    connection: &Connection,
    table: &Table,
    shape: &Shape,
) -> rusqlite::Result<bool> {
    let is_plain = !table.is_view && table.key != Key::None && !table.tenant_is_computed();
    let keeps_its_tenant = match shape {
        Shape::Insert { .. } => false,
        Shape::Update { columns, rowid } => {
            let moves = |column: &usize| {
                *column == table.tenant || table.columns.get(*column).is_none_or(|c| c.generated)
            };
            !rowid && !columns.iter().any(moves)
        }
        Shape::Delete => true,
    };
    if !is_plain || !keeps_its_tenant {
        return Ok(false);
    }
    let mut program = connection.prepare(&format!("EXPLAIN {}", sql(table, shape)))?;
    let mut steps = program.raw_query();
    while let Some(step) = steps.next()? {
        let opcode = step.get_ref("opcode")?.as_str()?;
        let known = SURE.contains(&opcode) || SURE_DELETES.contains(&opcode);
        if !known || opcode == "Halt" && step.get::<_, i64>("p1")? != 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_sure_where_nothing_of_the_apps_can_refuse_a_row() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, org TEXT NOT NULL, free TEXT, small INTEGER CHECK (small < 9),
                     one TEXT UNIQUE, needed TEXT NOT NULL);
                 CREATE TABLE m (id INTEGER PRIMARY KEY, org TEXT, free TEXT, made AS (upper(free)));
                 CREATE INDEX t_free ON t (org, free);
                 CREATE TABLE keyed (a, b, org TEXT, free, PRIMARY KEY (a, b)) WITHOUT ROWID;
                 CREATE TABLE strict (id INTEGER PRIMARY KEY, org TEXT, n INTEGER) STRICT;
                 CREATE TABLE watched (id INTEGER PRIMARY KEY, org TEXT, n INTEGER);
                 CREATE TRIGGER watching AFTER UPDATE ON watched BEGIN SELECT RAISE(FAIL, 'no'); END;
                 CREATE TABLE upper_of (id INTEGER PRIMARY KEY, org TEXT, n TEXT);
                 CREATE INDEX by_upper ON upper_of (upper(n));
                 CREATE TABLE child (id INTEGER PRIMARY KEY, org TEXT, t INTEGER REFERENCES t (id), n TEXT);
                 PRAGMA foreign_keys = ON;",
            )
            .unwrap();
        let found = |table: &str, columns: Option<&[&str]>| {
            let table = Table::read(&connection, table, "org").unwrap().unwrap();
            let place = |name: &&str| table.columns.iter().position(|c| c.name == *name).unwrap();
            let shape = columns.map_or(Shape::Delete, |columns| Shape::Update {
                columns: columns.iter().map(place).collect(),
                rowid: false,
            });
            is_sure(&connection, &table, &shape).unwrap()
        };
        for (table, columns) in [
            ("t", Some(&["free"][..])),
            ("keyed", Some(&["free"])),
            ("keyed", None),
            ("strict", None),
            ("watched", None),
            ("child", Some(&["n"])),
        ] {
            assert!(found(table, columns), "{table} {columns:?}");
        }
        for (table, columns) in [
            // A row of another table may point to it.
            ("t", None),
            ("t", Some(&["small"][..])),
            ("t", Some(&["one"])),
            ("t", Some(&["needed"])),
            ("m", Some(&["free"])),
            ("m", Some(&["made"])),
            ("t", Some(&["org"])),
            ("t", Some(&["id"])),
            ("keyed", Some(&["a"])),
            ("strict", Some(&["n"])),
            ("watched", Some(&["n"])),
            ("upper_of", Some(&["n"])),
            ("child", Some(&["t"])),
        ] {
            assert!(!found(table, columns), "{table} {columns:?}");
        }
    }
}
