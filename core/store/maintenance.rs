//! What keeps a database small and its queries fast, in steps that end soon.

use rusqlite::Connection;

use super::error::is_of_the_row;

/// How many rows of an index SQLite looks at to estimate the others, as its page on ANALYZE
/// advises.
const ROWS_LOOKED_AT: u32 = 400;

/// Whether a file gives back free pages. Its owner chose that when it was made, or by a VACUUM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AutoVacuum {
    /// Never. They are used again, and the file stays as large as it was.
    None,
    /// At each commit.
    Full,
    /// When it is asked to.
    Incremental,
}

impl AutoVacuum {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

pub(crate) fn auto_vacuum(connection: &Connection) -> rusqlite::Result<AutoVacuum> {
    connection.query_row("PRAGMA auto_vacuum", [], |row| {
        Ok(match row.get::<_, i64>(0)? {
            0 => AutoVacuum::None,
            1 => AutoVacuum::Full,
            _ => AutoVacuum::Incremental,
        })
    })
}

/// Whether the file gives pages back, and how many pages are free.
pub(crate) fn auto_vacuum_and_free_pages(
    connection: &Connection,
) -> rusqlite::Result<(AutoVacuum, u64)> {
    Ok((auto_vacuum(connection)?, free_pages(connection)?))
}

/// The number of free pages.
pub(crate) fn free_pages(connection: &Connection) -> rusqlite::Result<u64> {
    let pages: i64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    Ok(u64::try_from(pages).unwrap_or(0))
}

/// Frees at most this many pages, inside a write transaction, and returns how many are left.
pub(crate) fn vacuum(connection: &Connection, pages: u32) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    // Each step frees a page.
    while rows.next()?.is_some() {}
    drop(rows);
    free_pages(connection)
}

/// A statement that was run, and why it failed, if it did.
pub(crate) type Analyzed = (String, Option<String>);

/// Runs, inside a write transaction, the first statement that `PRAGMA optimize` would run and that
/// is not among those done: an ANALYZE of one table. If it fails for that table, as with an index
/// on a function that is not marked innocuous, the error is returned and nothing is changed. The
/// engine's own tables are left out: their queries are planned without counts.
pub(crate) fn analyze_next(
    connection: &Connection,
    done: &[String],
) -> rusqlite::Result<Option<Analyzed>> {
    // Asks for all tables, and for the statements instead of running them.
    let mut advised = connection.prepare("PRAGMA optimize(-1)")?;
    let mut rows = advised.query([])?;
    let mut next = None;
    while let Some(row) = rows.next()? {
        let statement: String = row.get(0)?;
        let is_the_apps = statement
            .strip_prefix("ANALYZE \"main\".\"")
            .is_some_and(|table| !table.to_ascii_lowercase().starts_with("verger_"));
        if next.is_none() && is_the_apps && !done.contains(&statement) {
            next = Some(statement);
        }
    }
    drop(rows);
    let Some(statement) = next else { return Ok(None) };
    let before: i64 = connection.query_row("PRAGMA analysis_limit", [], |row| row.get(0))?;
    set_analysis_limit(connection, i64::from(ROWS_LOOKED_AT))?;
    let ran = connection.execute_batch(&statement);
    set_analysis_limit(connection, before)?;
    match ran {
        Ok(()) => Ok(Some((statement, None))),
        Err(error) if is_of_the_row(&error) => Ok(Some((statement, Some(error.to_string())))),
        Err(error) => Err(error),
    }
}

fn set_analysis_limit(connection: &Connection, rows: i64) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA analysis_limit = {rows}"), [], |_| Ok(()))
}
