//! The mark of a file whose rows live elsewhere now, or are on their way.

use rusqlite::{Connection, OptionalExtension};

/// A move of this file's rows.
pub(crate) struct Mark {
    #[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "nothing is moved"))]
    pub(crate) name: Vec<u8>,
    /// The address of the database, without a password.
    pub(crate) target: String,
    pub(crate) is_done: bool,
}

/// The move that was begun, if one was.
pub(crate) fn mark_of_move(connection: &Connection) -> rusqlite::Result<Option<Mark>> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'verger_moved')";
    if !connection.query_row(sql, [], |row| row.get::<_, bool>(0))? {
        return Ok(None);
    }
    let sql = "SELECT name, target, is_done FROM verger_moved";
    let mark = |row: &rusqlite::Row<'_>| {
        Ok(Mark { name: row.get(0)?, target: row.get(1)?, is_done: row.get(2)? })
    };
    connection.query_row(sql, [], mark).optional()
}

/// Says that a move begins. Until it is done, or given up, the file is not opened.
#[cfg(feature = "postgres")]
pub(crate) fn begin_move(
    connection: &Connection,
    name: &[u8],
    target: &str,
) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS verger_moved (one INTEGER PRIMARY KEY CHECK (one = 1), name BLOB NOT NULL, target TEXT NOT NULL, \
         is_done INTEGER NOT NULL) STRICT",
    )?;
    let sql = "INSERT INTO verger_moved (one, name, target, is_done) VALUES (1, ?1, ?2, 0)";
    connection.execute(sql, (name, target)).map(drop)
}

/// Nothing was moved.
#[cfg(feature = "postgres")]
pub(crate) fn give_move_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM verger_moved", []).map(drop)
}

/// Everything was.
#[cfg(feature = "postgres")]
pub(crate) fn end_move(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE verger_moved SET is_done = 1", []).map(drop)
}
