//! Failures that a statement's own result does not show. A deferred foreign key fails only at the
//! commit. Some triggers and constraints keep a part of a failed statement, or roll the transaction
//! back.

use rusqlite::Connection;
use rusqlite::ffi;

/// Whether the schema has any of these. A word in a comment counts too, which only costs time.
pub(super) fn are_in_schema(connection: &Connection) -> rusqlite::Result<bool> {
    // Verger's own tables contain `failed`.
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema \
         WHERE (instr(lower(sql), 'deferred') OR instr(lower(sql), 'fail') OR instr(lower(sql), 'rollback')) \
         AND substr(lower(tbl_name), 1, 7) <> 'verger_')";
    connection.query_row(SQL, [], |row| row.get(0))
}

/// Whether a commit would be refused now, because a foreign key does not hold yet.
pub(super) fn is_key_owed(connection: &Connection) -> bool {
    let (mut now, mut most) = (0, 0);
    // SAFETY: the handle is open as long as the connection is borrowed, and both counters are
    // written before the call returns.
    #[allow(unsafe_code, reason = "rusqlite has no safe form of it")]
    let done = unsafe {
        ffi::sqlite3_db_status(
            connection.handle(),
            ffi::SQLITE_DBSTATUS_DEFERRED_FKS,
            &mut now,
            &mut most,
            0,
        )
    };
    done == ffi::SQLITE_OK && now != 0
}
