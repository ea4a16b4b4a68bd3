//! A worker's values as SQLite has them, and back.

use rusqlite::Row;
use rusqlite::types::{ToSqlOutput, ValueRef};
use verger_worker::Value;

/// Bytes that a value takes besides its text, and a row besides its values.
const VALUE_BYTES: usize = size_of::<Value>();
const ROW_BYTES: usize = size_of::<Vec<Value>>() + 16;

/// A value to be bound.
pub(crate) fn bound(value: &Value) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match value {
        Value::Null => ValueRef::Null,
        Value::Integer(number) => ValueRef::Integer(*number),
        Value::Real(number) => ValueRef::Real(*number),
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Blob(bytes) => ValueRef::Blob(bytes),
    })
}

/// A value that was read. Text that is no UTF-8 is read with the replacement character, as SQLite's
/// own tools do.
pub(crate) fn value_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

/// Bytes that a row takes in memory.
pub(crate) fn row_bytes(row: &[Value]) -> usize {
    ROW_BYTES + row.iter().map(|value| VALUE_BYTES + text_bytes(value)).sum::<usize>()
}

fn text_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Integer(_) | Value::Real(_) => 0,
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
    }
}

/// The values of a row. Their bytes are taken from what is left. A single row must not have more
/// than `most`.
pub(super) fn values_of(
    row: &Row<'_>,
    columns: usize,
    left: &mut usize,
    most: usize,
) -> rusqlite::Result<Vec<Value>> {
    let mut values = Vec::with_capacity(columns);
    *left = left.saturating_sub(ROW_BYTES);
    let mut total = 0;
    for column in 0..columns {
        let cell = row.get_ref(column)?;
        let bytes = match cell {
            ValueRef::Null => 0,
            ValueRef::Integer(_) | ValueRef::Real(_) => 8,
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        };
        let value = value_of(cell);
        *left = left.saturating_sub(bytes + VALUE_BYTES);
        total += bytes;
        if total > most {
            let message = format!("a row has more than the {most} bytes one chunk may have");
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_TOOBIG),
                Some(message),
            ));
        }
        values.push(value);
    }
    Ok(values)
}
