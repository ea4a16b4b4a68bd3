//! The door of an append-only table: a row that says from when on events are kept. Events before
//! that may be deleted. Without the row none may be.

use verger_worker::prelude::*;

/// How much wider than the cutoff it is opened if the table keeps no milliseconds, because its
/// trigger compares stored values. The DELETE itself is exact.
const DAY_MS: i64 = 86_400_000;

/// The door, and how far it must be open.
#[derive(Debug, Clone, Copy)]
pub struct Door<'a> {
    /// The table with the columns `id` and `keep_from`.
    pub table: &'a Ident,
    /// How the events keep time, and `keep_from` with them.
    pub times: TimeFormat,
    /// Events before it are to be deleted, in unix milliseconds.
    pub cutoff: i64,
}

impl Door<'_> {
    /// Opens it, and returns how it was before. `None` means shut.
    ///
    /// # Errors
    /// When the table cannot be read or written.
    pub fn open(&self, job: &Context<'_>) -> Result<Option<Value>, HostError> {
        let Self { table, times, .. } = *self;
        let until = match times {
            TimeFormat::UnixMillis => self.cutoff,
            TimeFormat::UnixSeconds | TimeFormat::Iso8601 => self.cutoff + DAY_MS,
        };
        let sql = format!("SELECT keep_from FROM {table} WHERE id = 1");
        let before = match job.query_row(&sql, params![])? {
            Some(mut row) => Some(row.take::<Value>(0)?),
            None => None,
        };
        let stored = times.stored(1);
        let sql = match before {
            // As far as it must be, or as far as it is already.
            Some(_) => format!(
                "UPDATE {table} SET keep_from = {stored} WHERE id = 1 AND (keep_from < {stored} OR keep_from IS NULL)"
            ),
            None => format!("INSERT INTO {table} (id, keep_from) VALUES (1, {stored})"),
        };
        job.execute(&sql, params![until])?;
        Ok(before)
    }

    /// Restores how it was before.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn shut(&self, job: &Context<'_>, before: Option<Value>) -> Result<(), HostError> {
        let table = self.table;
        match before {
            Some(before) => {
                let sql = format!("UPDATE {table} SET keep_from = ?1 WHERE id = 1");
                job.execute(&sql, vec![before])?;
            }
            None => {
                job.execute(&format!("DELETE FROM {table} WHERE id = 1"), params![])?;
            }
        }
        Ok(())
    }
}
