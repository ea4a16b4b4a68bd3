//! The mark of a file whose rows live elsewhere now.

use rusqlite::{Connection, OptionalExtension};

/// Where the rows of this file were moved to, if they were.
pub(crate) fn moved_to(connection: &Connection) -> rusqlite::Result<Option<String>> {
    if !has_mark(connection)? {
        return Ok(None);
    }
    let sql = "SELECT target FROM verger_moved WHERE is_done = 1";
    connection.query_row(sql, [], |row| row.get(0)).optional()
}

fn has_mark(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'verger_moved')";
    connection.query_row(sql, [], |row| row.get(0))
}

/// The name of the move of this file, given at its first try, so that a second one finds what the
/// first has done.
#[cfg(feature = "postgres")]
pub(crate) fn name_move(connection: &Connection, name: &[u8]) -> rusqlite::Result<Vec<u8>> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS verger_moved (one INTEGER PRIMARY KEY CHECK (one = 1), name BLOB NOT NULL, target TEXT, \
         is_done INTEGER NOT NULL) STRICT",
    )?;
    let sql =
        "INSERT INTO verger_moved (one, name, is_done) VALUES (1, ?1, 0) ON CONFLICT DO NOTHING";
    connection.execute(sql, [name])?;
    connection.query_row("SELECT name FROM verger_moved", [], |row| row.get(0))
}

/// Marks the file.
#[cfg(feature = "postgres")]
pub(crate) fn mark_moved(connection: &Connection, target: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE verger_moved SET target = ?1, is_done = 1";
    connection.execute(sql, [target]).map(drop)
}
