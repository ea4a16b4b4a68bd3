//! The statements, for the table and the columns that a job names.
//!
//! The index that serves them: `(used_at, id, bytes, path)`, and one on the path where there is one.

use verger_worker::{ArgError, Args, Ident, TimeFormat, Walk};

/// What tells entries apart, in the order of the walk.
const KEY: &[&str] = &["used_at", "id"];

/// The table, and its columns.
#[derive(Debug, Clone)]
pub struct Columns {
    /// The table or view.
    pub table: Ident,
    /// What tells entries apart.
    pub id: Ident,
    /// The last use.
    pub used_at: Ident,
    /// The size.
    pub bytes: Ident,
    /// The file's path, if entries have files.
    pub path: Option<Ident>,
}

impl Columns {
    /// As a job's args name them.
    ///
    /// # Errors
    /// For a text that is no usable name.
    pub fn from_args(args: &Args) -> Result<Self, ArgError> {
        Ok(Self {
            table: args.ident("table")?,
            id: args.ident("id_column")?,
            used_at: args.ident("used_at_column")?,
            bytes: args.ident("bytes_column")?,
            path: args.opt_ident("path_column")?,
        })
    }

    /// An entry's size. A value that is no number, or is negative, counts as 0.
    fn size(&self) -> String {
        let bytes = &self.bytes;
        format!(
            "CASE WHEN typeof(t.{bytes}) IN ('integer', 'real') AND t.{bytes} > 0 THEN t.{bytes} ELSE 0 END"
        )
    }

    fn path(&self) -> String {
        self.path.as_ref().map_or("NULL".to_string(), |path| format!("t.{path}"))
    }

    /// Bytes of all entries.
    #[must_use]
    pub fn total(&self) -> String {
        format!("SELECT total({}) FROM {} AS t", self.size(), self.table)
    }

    /// All entries, the longest unused first.
    #[must_use]
    pub fn all(&self) -> Walk {
        self.walk("1 = 1", 0)
    }

    /// Entries that were used before the cutoff, the longest unused first. `?1` cutoff in
    /// milliseconds.
    #[must_use]
    pub fn aged(&self, times: TimeFormat) -> Walk {
        self.walk(&times.before(format!("t.{}", self.used_at), 1), 1)
    }

    /// A name in double quotes that is no column's is a text to SQLite, unless the table's name is
    /// before it.
    fn walk(&self, condition: &str, params: usize) -> Walk {
        let Self { table, id, used_at, .. } = self;
        let (size, path) = (self.size(), self.path());
        let from = format!(
            "FROM (SELECT t.{used_at} AS used_at, t.{id} AS id, CAST({size} AS DOUBLE PRECISION) AS bytes, {path} AS path FROM {table} AS t WHERE {condition}) AS entry WHERE 1 = 1"
        );
        Walk::new(KEY, from, params).columns(", bytes, path")
    }

    /// Deletes an entry, unless it was used meanwhile. `?1` id, `?2` its last use.
    #[must_use]
    pub fn delete(&self) -> String {
        let Self { table, id, used_at, .. } = self;
        // Without an alias, because for a view SQLite looks the columns up by its own name.
        format!("DELETE FROM {table} WHERE {table}.{id} IS ?1 AND {table}.{used_at} IS ?2")
    }

    /// Whether a row names this file. `?1` path.
    #[must_use]
    pub fn still_named(&self) -> String {
        format!("SELECT 1 FROM {} AS t WHERE {} = ?1 LIMIT 1", self.table, self.path())
    }
}
