//! A table of the app's: what of it has the same meaning on PostgreSQL.
//!
//! SQLite keeps any value in most columns, and has rules of its own for collations, expressions and
//! triggers. A table is moved if every value is of the one kind that its column has there; what is
//! beside the rows and cannot be told exactly is left, and named.

use rusqlite::Connection;

use super::written::{after_word, begins_with_binary, literal};
use super::{MoveError, READING};
use crate::postgres::guests::quoted;
use crate::store::{StoreContext as _, StoreError};

/// The most bytes of a name that the server does not cut.
const NAME_MAX: usize = 63;

/// What a column keeps, as SQLite calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Real,
    Text,
    Blob,
}

pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    is_not_null: bool,
    default: Option<String>,
}

/// A table, and what is left of it.
pub(super) struct AppTable {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// The place of the column that is the rowid.
    pub(super) rowid: Option<usize>,
    key: Vec<String>,
    unique: Vec<Vec<String>>,
    indexes: Vec<String>,
    /// What has no exact place there: a sentence each.
    pub(super) left: Vec<String>,
}

impl Kind {
    /// By the declared type (<https://sqlite.org/datatype3.html>, 3.1). `None` where that says
    /// nothing of what is kept.
    fn declared(declared: &str) -> Option<Self> {
        let declared = declared.to_uppercase();
        let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
        match () {
            () if has(&["INT"]) => Some(Self::Integer),
            () if has(&["CHAR", "CLOB", "TEXT"]) => Some(Self::Text),
            () if has(&["BLOB"]) => Some(Self::Blob),
            () if has(&["REAL", "FLOA", "DOUB"]) => Some(Self::Real),
            () => None,
        }
    }

    fn of_value(word: &str) -> Option<Self> {
        Some(match word {
            "integer" => Self::Integer,
            "real" => Self::Real,
            "text" => Self::Text,
            "blob" => Self::Blob,
            _ => return None,
        })
    }

    /// The type that keeps it there. Texts compare by their bytes, as on SQLite.
    const fn there(self) -> &'static str {
        match self {
            Self::Integer => "bigint",
            Self::Real => "double precision",
            Self::Text => "text COLLATE \"C\"",
            Self::Blob => "bytea",
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Real => "REAL",
            Self::Text => "TEXT",
            Self::Blob => "BLOB",
        }
    }
}

impl AppTable {
    /// Looks at a table of the file.
    pub(super) fn read(file: &Connection, name: &str) -> Result<Self, MoveError> {
        let refused = |reason: String| MoveError::Table { table: name.to_string(), reason };
        let sql = "SELECT l.type, l.wr, coalesce(s.sql, '') FROM pragma_table_list AS l JOIN sqlite_schema AS s ON s.name = l.name \
             AND s.type = 'table' WHERE l.schema = 'main' AND l.name = ?1";
        let (kind, has_no_rowid, text): (String, bool, String) = file
            .query_row(sql, [name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .doing(READING)?;
        if kind != "table" {
            return Err(refused(format!("it is a {kind} table")));
        }
        // A word in a comment or a text counts too: that refuses or tells too much, and never too
        // little.
        let text = text.to_ascii_uppercase();
        if after_word(&text, "COLLATE").any(|after| !begins_with_binary(after)) {
            return Err(refused(
                "it has a collation of its own, which compares texts in a way the server does not know"
                    .to_string(),
            ));
        }
        let mut left = Vec::new();
        for (word, what) in [("CHECK", "the CHECKs of"), ("CONFLICT", "ON CONFLICT in")] {
            if after_word(&text, word).next().is_some() {
                left.push(format!("{what} {name}"));
            }
        }
        let (columns, key) = columns(file, name, &mut left)?;
        // A key that is the rowid has no index.
        let is_rowid = |column: &String| {
            let sql = "SELECT upper(type) = 'INTEGER' AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk') \
                 FROM pragma_table_xinfo(?1) WHERE name = ?2";
            file.query_row(sql, [name, column], |row| row.get::<_, bool>(0)).doing(READING)
        };
        let rowid = match key.as_slice() {
            [only] if !has_no_rowid && is_rowid(only)? => {
                columns.iter().position(|column| column.name == *only)
            }
            _ => None,
        };
        let mut table = Self {
            name: name.to_string(),
            columns,
            rowid,
            key,
            unique: Vec::new(),
            indexes: Vec::new(),
            left,
        };
        table.read_indexes(file)?;
        table.read_the_rest(file)?;
        let too_long = table.columns.iter().map(|column| &column.name).chain([&table.name]);
        if let Some(long) = too_long.into_iter().find(|name| name.len() > NAME_MAX) {
            return Err(refused(format!("the name {long} has more than {NAME_MAX} bytes")));
        }
        Ok(table)
    }

    fn read_indexes(&mut self, file: &Connection) -> Result<(), MoveError> {
        let sql = "SELECT name, \"unique\", origin, partial FROM pragma_index_list(?1) WHERE origin <> 'pk' ORDER BY name";
        let mut statement = file.prepare(sql).doing(READING)?;
        let indexes = statement
            .query_map([&self.name], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)? == "u", row.get(3)?))
            })
            .and_then(Iterator::collect::<Result<Vec<(String, bool, bool, bool)>, _>>)
            .doing(READING)?;
        for (index, is_unique, is_constraint, is_partial) in indexes {
            let sql = "SELECT name, \"desc\", coll FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno";
            let mut statement = file.prepare(sql).doing(READING)?;
            let parts = statement
                .query_map([&index], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .and_then(Iterator::collect::<Result<Vec<(Option<String>, bool, String)>, _>>)
                .doing(READING)?;
            let is_plain = parts.iter().all(|(name, _, collation)| {
                name.is_some() && collation.eq_ignore_ascii_case("BINARY")
            });
            if is_partial || !is_plain || index.len() > NAME_MAX {
                let kind = if is_unique { "the unique index" } else { "the index" };
                let why = if is_partial { "it is partial" } else { "of its expressions" };
                self.left.push(format!("{kind} {index} of {}: {why}", self.name));
                continue;
            }
            let names = parts.iter().filter_map(|(name, ..)| name.clone());
            if is_constraint {
                self.unique.push(names.collect());
                continue;
            }
            // NULLs stand where they stand on SQLite.
            let order = |desc: bool| if desc { "DESC NULLS LAST" } else { "ASC NULLS FIRST" };
            let parts = parts.iter().filter_map(|(name, desc, _)| {
                name.as_ref().map(|name| format!("{} {}", named_there(name), order(*desc)))
            });
            let parts: Vec<String> = parts.collect();
            let unique = if is_unique { "UNIQUE " } else { "" };
            self.indexes.push(format!(
                "CREATE {unique}INDEX {} ON {} ({})",
                named_there(&index),
                named_there(&self.name),
                parts.join(", ")
            ));
        }
        Ok(())
    }

    /// Triggers and foreign keys.
    fn read_the_rest(&mut self, file: &Connection) -> Result<(), MoveError> {
        for sql in [
            "SELECT 'the trigger ' || name || ' of ' || ?1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE ORDER BY name",
            "SELECT DISTINCT 'the foreign key of ' || ?1 || ' to ' || \"table\" FROM pragma_foreign_key_list(?1)",
        ] {
            let mut statement = file.prepare(sql).doing(READING)?;
            let found = statement.query_map([&self.name], |row| row.get(0)).doing(READING)?;
            for found in found {
                self.left.push(found.doing(READING)?);
            }
        }
        Ok(())
    }

    /// Makes it there.
    pub(super) fn create(&self) -> String {
        let mut parts = Vec::new();
        for (place, column) in self.columns.iter().enumerate() {
            let mut part = format!("{} {}", named_there(&column.name), column.kind.there());
            if Some(place) == self.rowid {
                part.push_str(" GENERATED BY DEFAULT AS IDENTITY");
            } else if let Some(default) = &column.default {
                part.push_str(&format!(" DEFAULT {default}"));
            }
            if column.is_not_null {
                part.push_str(" NOT NULL");
            }
            parts.push(part);
        }
        let list =
            |names: &[String]| names.iter().map(|name| named_there(name)).collect::<Vec<_>>();
        if !self.key.is_empty() {
            parts.push(format!("PRIMARY KEY ({})", list(&self.key).join(", ")));
        }
        for unique in &self.unique {
            parts.push(format!("UNIQUE ({})", list(unique).join(", ")));
        }
        format!("CREATE TABLE {} ({})", named_there(&self.name), parts.join(", "))
    }

    pub(super) fn indexes(&self) -> &[String] {
        &self.indexes
    }

    /// Its columns, as both sides name them.
    pub(super) fn list(&self) -> String {
        let names = self.columns.iter().map(|column| named_there(&column.name));
        names.collect::<Vec<_>>().join(", ")
    }
}

/// A name as both sides find it: SQLite whatever its letters are, and the server as it reads one
/// that is not quoted.
pub(super) fn named_there(name: &str) -> String {
    quoted(&name.to_ascii_lowercase())
}

/// The tables of the app: no one else's, no view, and nothing virtual.
pub(super) fn app_tables(file: &Connection) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         AND name NOT LIKE 'verger\\_%' ESCAPE '\\' AND name NOT LIKE '\\_litestream\\_%' ESCAPE '\\' ORDER BY name";
    names(file, sql)
}

/// What else there is: views, and what is virtual.
pub(super) fn others(file: &Connection) -> Result<Vec<String>, StoreError> {
    names(
        file,
        "SELECT CASE type WHEN 'view' THEN 'the view ' ELSE 'the virtual table ' END || name FROM pragma_table_list \
         WHERE schema = 'main' AND type IN ('view', 'virtual') AND name NOT LIKE 'verger\\_%' ESCAPE '\\' ORDER BY name",
    )
}

fn names(file: &Connection, sql: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = file.prepare(sql).doing(READING)?;
    let names = statement.query_map([], |row| row.get(0)).doing(READING)?;
    names.collect::<Result<_, _>>().doing(READING)
}

/// The columns, and which of them are the key.
fn columns(
    file: &Connection,
    table: &str,
    left: &mut Vec<String>,
) -> Result<(Vec<Column>, Vec<String>), MoveError> {
    let sql = "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid";
    let mut statement = file.prepare(sql).doing(READING)?;
    let mut rows = statement.query([table]).doing(READING)?;
    let (mut columns, mut key) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next().doing(READING)? {
        let name: String = row.get(0).doing(READING)?;
        let declared: String = row.get(1).doing(READING)?;
        let default: Option<String> = row.get(3).doing(READING)?;
        let place: i64 = row.get(4).doing(READING)?;
        if row.get::<_, i64>(5).doing(READING)? != 0 {
            let reason = format!("its column {name} is generated");
            return Err(MoveError::Table { table: table.to_string(), reason });
        }
        let kind = match Kind::declared(&declared) {
            Some(kind) => kind,
            None => {
                let is_truth = declared.to_ascii_uppercase().contains("BOOL");
                let default = if is_truth { Kind::Integer } else { Kind::Text };
                let kind = kind_by_values(file, table, &name)?.unwrap_or(default);
                let is = kind.there();
                left.push(format!("the type {declared:?} of {table}.{name}, which is {is} there"));
                kind
            }
        };
        let default = default.filter(|text| !text.eq_ignore_ascii_case("NULL"));
        let literal = default.as_deref().and_then(|text| literal(text, kind));
        if default.is_some() && literal.is_none() {
            left.push(format!("the default of {table}.{name}"));
        }
        if place > 0 {
            key.push((place, name.clone()));
        }
        let is_not_null = row.get(2).doing(READING)?;
        columns.push(Column { name, kind, is_not_null, default: literal });
    }
    key.sort();
    Ok((columns, key.into_iter().map(|(_, name)| name).collect()))
}

/// What a column keeps whose declared type does not say: of one kind, or it is refused. `None`
/// where it has no value.
fn kind_by_values(file: &Connection, table: &str, column: &str) -> Result<Option<Kind>, MoveError> {
    let sql = format!(
        "SELECT DISTINCT typeof({0}) FROM {1} WHERE {0} IS NOT NULL",
        named_there(column),
        named_there(table)
    );
    let kinds: Vec<Kind> =
        names(file, &sql)?.iter().filter_map(|word| Kind::of_value(word)).collect();
    match kinds.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        many => {
            let words: Vec<&str> = many.iter().map(|kind| kind.word()).collect();
            let reason = format!("its column {column} holds {}", words.join(" and "));
            Err(MoveError::Table { table: table.to_string(), reason })
        }
    }
}
