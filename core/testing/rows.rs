//! Rows as JSON, for assertions.

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value as Json};

/// The rows of a query, each an object by column name. A blob is its bytes in hexadecimal.
pub(super) fn rows(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<Json>> {
    let mut statement = connection.prepare(sql)?;
    let columns: Vec<String> = (0..statement.column_count())
        .filter_map(|at| statement.column_name(at).ok().map(str::to_string))
        .collect();
    let mut rows = statement.query([])?;
    let mut read = Vec::new();
    while let Some(row) = rows.next()? {
        let mut object = Map::new();
        for (place, column) in columns.iter().enumerate() {
            object.insert(column.clone(), value(row.get_ref(place)?));
        }
        read.push(object.into());
    }
    Ok(read)
}

fn value(value: ValueRef<'_>) -> Json {
    match value {
        ValueRef::Null => Json::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
        }
    }
}

/// Whether a JSON value has everything that is wanted of it. An object must have at least the
/// wanted keys, each with what is wanted there. Anything else must be equal.
///
/// ```
/// use serde_json::json;
/// use verger::testing::contains;
/// assert!(contains(&json!({"a": {"b": 1, "c": 2}, "d": 3}), &json!({"a": {"b": 1}})));
/// assert!(!contains(&json!({"a": [1, 2]}), &json!({"a": [1]})));
/// ```
#[must_use]
pub fn contains(value: &Json, wanted: &Json) -> bool {
    match (value, wanted) {
        (Json::Object(value), Json::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| value.get(key).is_some_and(|value| contains(value, wanted))),
        _ => value == wanted,
    }
}
