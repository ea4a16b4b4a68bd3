//! What the walls know of an app's table: its columns, its key, and its indexes.

use rusqlite::{Connection, OptionalExtension};

use crate::store::tokens::Tokens;

/// An app's table or view that has the tenant column.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// The index of the tenant's column.
    pub(super) tenant: usize,
    pub(super) key: Key,
    /// In the order of the schema. The rowid is not among them.
    pub(super) indexes: Vec<Index>,
    pub(super) is_view: bool,
    /// A constraint of its own may say ON CONFLICT.
    pub(super) settles_conflicts: bool,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) affinity: Affinity,
    pub(super) collation: String,
    pub(super) has_default: bool,
    pub(super) generated: bool,
    /// Its position in the primary key, from 1. 0 outside it.
    pub(super) key: u32,
}

/// How SQLite converts what a column is compared with. See sqlite.org/datatype3.html.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affinity {
    Integer,
    Real,
    Numeric,
    Text,
    Blob,
}

/// What tells a row from all others.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Its rowid, which has this name, and the column that is the same number, if there is one.
    Rowid { name: String, alias: Option<usize> },
    /// The primary key of a table WITHOUT ROWID.
    Columns(Vec<usize>),
    /// Nothing: it is a view, or a table in which all names for the rowid are columns.
    None,
}

#[derive(Debug)]
pub(super) struct Index {
    pub(super) name: String,
    /// Its leading columns, up to the first that is an expression, or is sorted by another rule
    /// than the column compares by.
    pub(super) columns: Vec<(usize, Direction)>,
    /// It has no further columns, except the rowid.
    pub(super) is_whole: bool,
    pub(super) unique: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Ascending,
    Descending,
}

impl Affinity {
    /// The rules are SQLite's, in their order.
    fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        let has = |part: &str| declared.contains(part);
        if has("INT") {
            Self::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::Text
        } else if has("BLOB") || declared.is_empty() {
            Self::Blob
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// A declared type that has this affinity.
    fn declared(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Real => "REAL",
            Self::Numeric => "NUMERIC",
            Self::Text => "TEXT",
            Self::Blob => "BLOB",
        }
    }

    pub(super) fn is_numeric(self) -> bool {
        matches!(self, Self::Integer | Self::Real | Self::Numeric)
    }
}

impl Table {
    /// Looks a table up. `None` if it is not there, or has no tenant column.
    pub(super) fn read(
        connection: &Connection,
        name: &str,
        tenant: &str,
    ) -> rusqlite::Result<Option<Self>> {
        let found: Option<(String, bool, bool)> = connection
            .prepare_cached(
                "SELECT type, wr, strict FROM pragma_table_list(?1) WHERE schema = 'main'",
            )?
            .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((kind, without_rowid, strict)) = found else { return Ok(None) };
        let is_view = kind == "view";
        let mut columns: Vec<Column> = connection
            .prepare_cached(
                "SELECT name, type, dflt_value IS NOT NULL, hidden IN (2, 3), pk \
                 FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1",
            )?
            .query_map([name], |row| {
                let declared: String = row.get(1)?;
                let any = strict && declared.eq_ignore_ascii_case("any");
                Ok(Column {
                    name: row.get(0)?,
                    affinity: if any { Affinity::Blob } else { Affinity::of(&declared) },
                    collation: String::new(),
                    has_default: row.get(2)?,
                    generated: row.get(3)?,
                    key: row.get(4)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        let Some(tenant) =
            columns.iter().position(|column| column.name.eq_ignore_ascii_case(tenant))
        else {
            return Ok(None);
        };
        for column in &mut columns {
            column.collation = collation(connection, name, &column.name)?;
        }
        let key = if is_view {
            Key::None
        } else if without_rowid {
            let mut parts: Vec<usize> =
                (0..columns.len()).filter(|place| columns[*place].key > 0).collect();
            parts.sort_by_key(|place| columns[*place].key);
            Key::Columns(parts)
        } else {
            rowid(connection, name, &columns)?
        };
        let indexes = if kind == "table" || kind == "shadow" {
            indexes(connection, name, &columns)?
        } else {
            Vec::new()
        };
        let sql: Option<String> = connection
            .prepare_cached(
                "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1)",
            )?
            .query_row([name], |row| row.get(0))
            .optional()?;
        let settles_conflicts = sql.is_some_and(|sql| Tokens::of(&sql).mentions("conflict"));
        let name = name.to_string();
        Ok(Some(Self { name, columns, tenant, key, indexes, is_view, settles_conflicts }))
    }

    /// The declaration of the virtual table in front of it. The last column is hidden and holds the
    /// key of a row that has no rowid.
    pub(super) fn declaration(&self, hidden: &str) -> String {
        let mut columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                format!(
                    "{} {} COLLATE {}",
                    quoted(&column.name),
                    column.affinity.declared(),
                    quoted(&column.collation)
                )
            })
            .collect();
        match self.key {
            Key::Rowid { .. } => format!("CREATE TABLE x({})", columns.join(", ")),
            Key::Columns(_) | Key::None => {
                columns.push(format!("{} HIDDEN PRIMARY KEY", quoted(hidden)));
                format!("CREATE TABLE x({}) WITHOUT ROWID", columns.join(", "))
            }
        }
    }

    /// The name of the table in the walls' statements.
    pub(super) fn base(&self) -> String {
        format!("main.{} AS t", quoted(&self.name))
    }

    pub(super) fn column(&self, place: usize) -> String {
        format!("t.{}", quoted(&self.columns[place].name))
    }

    /// The condition that a row is the tenant's, who is the first parameter.
    pub(super) fn is_the_tenants(&self) -> String {
        format!("{} = ?1", self.column(self.tenant))
    }

    /// The tenant is computed from other columns, so setting those may move a row to another
    /// tenant.
    pub(super) fn tenant_is_computed(&self) -> bool {
        self.columns[self.tenant].generated
    }
}

/// The first name for the rowid that no column has.
fn rowid(connection: &Connection, table: &str, columns: &[Column]) -> rusqlite::Result<Key> {
    // A PRIMARY KEY that is the rowid has no index of its own.
    let has_key_index: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk')",
        )?
        .query_row([table], |row| row.get(0))?;
    let mut parts = (0..columns.len()).filter(|place| columns[*place].key > 0);
    let alias = match (parts.next(), parts.next()) {
        (Some(only), None) if !has_key_index => Some(only),
        _ => None,
    };
    let free = ["rowid", "_rowid_", "oid"]
        .into_iter()
        .find(|name| !columns.iter().any(|column| column.name.eq_ignore_ascii_case(name)));
    let name = match (alias, free) {
        (Some(alias), _) => columns[alias].name.clone(),
        (None, Some(name)) => name.to_string(),
        (None, None) => return Ok(Key::None),
    };
    Ok(Key::Rowid { name, alias })
}

fn indexes(
    connection: &Connection,
    table: &str,
    columns: &[Column],
) -> rusqlite::Result<Vec<Index>> {
    let mut indexes: Vec<Index> = connection
        .prepare_cached(
            "SELECT name, \"unique\" FROM pragma_index_list(?1, 'main') WHERE NOT partial",
        )?
        .query_map([table], |row| {
            Ok(Index {
                name: row.get(0)?,
                columns: Vec::new(),
                is_whole: true,
                unique: row.get(1)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    for index in &mut indexes {
        let mut parts = connection.prepare_cached(
            "SELECT name, \"desc\", coll FROM pragma_index_xinfo(?1, 'main') WHERE key ORDER BY seqno",
        )?;
        let mut parts = parts.query([&index.name])?;
        while let Some(part) = parts.next()? {
            let name: Option<String> = part.get(0)?;
            let direction = if part.get(1)? { Direction::Descending } else { Direction::Ascending };
            let collation: Option<String> = part.get(2)?;
            let place = name.and_then(|name| {
                columns.iter().position(|column| {
                    column.name.eq_ignore_ascii_case(&name)
                        && collation.as_ref().is_some_and(|collation| {
                            collation.eq_ignore_ascii_case(&column.collation)
                        })
                })
            });
            let Some(place) = place else {
                index.is_whole = false;
                break;
            };
            index.columns.push((place, direction));
        }
    }
    Ok(indexes)
}

/// By which rule a column compares. SQLite tells it for a table's column, but not for a view's. How
/// it would compare the column with a parameter tells it for both.
fn collation(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<String> {
    let mut program = connection.prepare(&format!(
        "EXPLAIN SELECT t.{} = ?1 FROM main.{} AS t",
        quoted(column),
        quoted(table)
    ))?;
    let mut steps = program.query([rusqlite::types::Null])?;
    let (mut compared, mut found) = (Vec::new(), Vec::new());
    while let Some(step) = steps.next()? {
        let opcode: String = step.get(1)?;
        let (first, second, third): (i64, i64, i64) = (step.get(2)?, step.get(3)?, step.get(4)?);
        match opcode.as_str() {
            "Variable" => compared.push(second),
            "Eq" | "Ne" => found.push((first, third, step.get::<_, Option<String>>(5)?)),
            _ => {}
        }
    }
    let named = found
        .into_iter()
        .find(|(first, third, _)| compared.contains(first) || compared.contains(third))
        .and_then(|(_, _, collation)| collation)
        // The rule's name, and the encoding of text.
        .and_then(|collation| collation.rsplit_once('-').map(|(name, _)| name.to_string()));
    Ok(named.unwrap_or_else(|| "BINARY".to_string()))
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
