//! The rows of the app's tables, on their way to the other store and read back from there.

use std::fmt::Write as _;
use std::io::Write as _;

use fallible_iterator::FallibleIterator as _;
use postgres::types::ToSql;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use sha2::{Digest, Sha256};

use super::app_table::{AppTable, Kind, named_there};
use super::{MOVING, MoveError, READING};
use crate::postgres::failure::{is_lost, store_error, words};
use crate::postgres::session::Session;
use crate::store::StoreContext as _;

/// Bytes that are sent at once.
const CHUNK: usize = 1 << 16;

/// How many rows a side has, and what they hold, whatever their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    rows: u64,
    sum: u128,
}

impl Held {
    /// Counts a row, by its hash.
    fn add(&mut self, row: Sha256) {
        let hash = row.finalize();
        let (first, _) = hash.split_at(16);
        self.rows += 1;
        self.sum = self.sum.wrapping_add(first.try_into().map_or(0, u128::from_be_bytes));
    }
}

/// A value that goes into the hash of its row.
fn hash(row: &mut Sha256, kind: u8, bytes: &[u8]) {
    row.update([kind]);
    row.update((bytes.len() as u64).to_be_bytes());
    row.update(bytes);
}

/// Makes the table there, with its rows and its indexes, and compares what came over with what was
/// sent. Returns how many rows it has.
pub(super) fn copy(
    session: &mut Session,
    file: &Connection,
    table: &AppTable,
) -> Result<u64, MoveError> {
    let refused = |reason: String| MoveError::Table { table: table.name.clone(), reason };
    let there = session.first(
        MOVING,
        "SELECT to_regclass($1) IS NOT NULL",
        &[&named_there(&table.name)],
    )?;
    if there.is_some_and(|row| row.get(0)) {
        return Err(refused("the database has a table of that name".to_string()));
    }
    make(session, table, &table.create())?;
    let sent = send(session, file, table)?;
    for index in table.indexes() {
        make(session, table, index)?;
    }
    if let Some(column) = table.rowid.and_then(|place| table.columns.get(place)) {
        let last = last_number(file, table)?;
        let name = named_there(&column.name);
        let sql = format!(
            "SELECT setval(pg_get_serial_sequence($1, $2), greatest(max({name}), $3, 1), greatest(max({name}), $3) >= 1) FROM {}",
            named_there(&table.name)
        );
        session.first(
            MOVING,
            &sql,
            &[&named_there(&table.name), &column.name.to_ascii_lowercase(), &last],
        )?;
    }
    match read_back(session, table)? {
        held if held == sent => Ok(held.rows),
        held => Err(refused(format!("{} of {} rows came over as they are", held.rows, sent.rows))),
    }
}

/// The last number that an AUTOINCREMENT gave, 0 if there is none.
fn last_number(file: &Connection, table: &AppTable) -> Result<i64, MoveError> {
    // The table of them is there once a table has one.
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence')";
    if !file.query_row(sql, [], |row| row.get::<_, bool>(0)).doing(READING)? {
        return Ok(0);
    }
    let sql = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = ?1), 0)";
    Ok(file.query_row(sql, [&table.name], |row| row.get(0)).doing(READING)?)
}

/// Runs a statement that defines something of the table.
fn make(session: &mut Session, table: &AppTable, sql: &str) -> Result<(), MoveError> {
    let made = session.noticing(|client| client.batch_execute(sql))?;
    made.map_err(|error| of_server(table, &error))
}

/// What the server says of the table, unless it is gone.
fn of_server(table: &AppTable, error: &postgres::Error) -> MoveError {
    match is_lost(error) {
        true => store_error(MOVING, error).into(),
        false => MoveError::Table { table: table.name.clone(), reason: words(error) },
    }
}

/// Sends the rows, in the text form of COPY.
fn send(session: &mut Session, file: &Connection, table: &AppTable) -> Result<Held, MoveError> {
    let sql = format!("SELECT {} FROM {}", table.list(), named_there(&table.name));
    let mut statement = file.prepare(&sql).doing(READING)?;
    let copy = format!("COPY {} ({}) FROM STDIN", named_there(&table.name), table.list());
    let done = session.noticing(|client| {
        let mut writer = client.copy_in(&copy)?;
        let sent = write_rows(&mut statement, table, &mut |lines| writer.write_all(lines));
        match sent {
            Ok(held) => writer.finish().map(|_| Ok(held)),
            // Dropped unfinished, the server forgets what came.
            Err(error) => Ok(Err(error)),
        }
    })?;
    done.map_err(|error| of_server(table, &error))?
}

fn write_rows(
    statement: &mut rusqlite::Statement<'_>,
    table: &AppTable,
    send: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<Held, MoveError> {
    let gone = |error: std::io::Error| MoveError::Table {
        table: table.name.clone(),
        reason: format!("the rows could not be sent: {error}"),
    };
    let (mut held, mut lines) = (Held::default(), String::new());
    let mut rows = statement.query([]).doing(READING)?;
    while let Some(row) = rows.next().doing(READING)? {
        let mut hashed = Sha256::new();
        for (place, column) in table.columns.iter().enumerate() {
            if place > 0 {
                lines.push('\t');
            }
            let value = row.get_ref(place).doing(READING)?;
            write_value(&mut lines, &mut hashed, value, column.kind).map_err(|why| {
                let reason = format!("its column {} {why}", column.name);
                MoveError::Row { table: table.name.clone(), row: named(row, table), reason }
            })?;
        }
        lines.push('\n');
        held.add(hashed);
        if lines.len() >= CHUNK {
            send(lines.as_bytes()).map_err(gone)?;
            lines.clear();
        }
    }
    send(lines.as_bytes()).map_err(gone)?;
    Ok(held)
}

/// A value in the text form of COPY, or why it has no place in its column.
fn write_value(
    out: &mut String,
    hashed: &mut Sha256,
    value: ValueRef<'_>,
    kind: Kind,
) -> Result<(), String> {
    // Writing to a String does not fail.
    match (value, kind) {
        (ValueRef::Null, _) => {
            hash(hashed, 0, &[]);
            out.push_str("\\N");
        }
        (ValueRef::Integer(number), Kind::Integer) => {
            hash(hashed, 1, &number.to_be_bytes());
            let _ = write!(out, "{number}");
        }
        (ValueRef::Real(number), Kind::Real) => {
            hash(hashed, 2, &number.to_be_bytes());
            let _ = write!(out, "{number:?}");
        }
        (ValueRef::Text(bytes), Kind::Text) => {
            let text = std::str::from_utf8(bytes).map_err(|_| "is no UTF-8".to_string())?;
            if text.contains('\0') {
                return Err("has a character of the number 0".to_string());
            }
            hash(hashed, 3, bytes);
            for character in text.chars() {
                match character {
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '\t' => out.push_str("\\t"),
                    other => out.push(other),
                }
            }
        }
        (ValueRef::Blob(bytes), Kind::Blob) => {
            hash(hashed, 4, bytes);
            out.push_str("\\\\x");
            for byte in bytes {
                let _ = write!(out, "{byte:02x}");
            }
        }
        (other, kind) => {
            let held = other.data_type().to_string().to_uppercase();
            return Err(format!("keeps {}, and holds {held} there", kind.word()));
        }
    }
    Ok(())
}

/// A row by its key, or else by its first column.
fn named(row: &Row<'_>, table: &AppTable) -> String {
    match row.get_ref(table.rowid.unwrap_or(0)) {
        Ok(ValueRef::Integer(number)) => number.to_string(),
        Ok(ValueRef::Real(number)) => number.to_string(),
        Ok(ValueRef::Text(text)) => String::from_utf8_lossy(text).chars().take(100).collect(),
        _ => "?".to_string(),
    }
}

/// What the other store has, read row by row.
fn read_back(session: &mut Session, table: &AppTable) -> Result<Held, MoveError> {
    let sql = format!("SELECT {} FROM {}", table.list(), named_there(&table.name));
    let none: [&dyn ToSql; 0] = [];
    let held = session.noticing(|client| {
        let mut held = Held::default();
        let mut rows = client.query_raw(&sql, none)?;
        while let Some(row) = rows.next()? {
            let mut hashed = Sha256::new();
            for (place, column) in table.columns.iter().enumerate() {
                match column.kind {
                    Kind::Integer => match row.try_get::<_, Option<i64>>(place)? {
                        Some(number) => hash(&mut hashed, 1, &number.to_be_bytes()),
                        None => hash(&mut hashed, 0, &[]),
                    },
                    Kind::Real => match row.try_get::<_, Option<f64>>(place)? {
                        Some(number) => hash(&mut hashed, 2, &number.to_be_bytes()),
                        None => hash(&mut hashed, 0, &[]),
                    },
                    Kind::Text => match row.try_get::<_, Option<&str>>(place)? {
                        Some(text) => hash(&mut hashed, 3, text.as_bytes()),
                        None => hash(&mut hashed, 0, &[]),
                    },
                    Kind::Blob => match row.try_get::<_, Option<&[u8]>>(place)? {
                        Some(bytes) => hash(&mut hashed, 4, bytes),
                        None => hash(&mut hashed, 0, &[]),
                    },
                }
            }
            held.add(hashed);
        }
        Ok(held)
    })?;
    held.map_err(|error| of_server(table, &error))
}
