//! Tables, columns and digests as they are written.

use serde::{Deserialize, Serialize};

/// The name of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Table(pub(super) String);

/// A table, or some columns of it: `orders`, `users:id,name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Part {
    pub(super) table: String,
    pub(super) columns: Option<Vec<String>>,
}

/// A SHA-256 in hexadecimal digits, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Digest(pub(super) String);

impl TryFrom<String> for Table {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.contains(':') {
            _ if name.trim().is_empty() => Err("a table's name is empty".to_string()),
            true => Err(format!("{name:?} names columns: only `read` and `update` take them")),
            false => Ok(Self(name)),
        }
    }
}

impl TryFrom<String> for Part {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some((table, columns)) = text.split_once(':') else {
            return Table::try_from(text).map(|Table(table)| Self { table, columns: None });
        };
        let columns: Vec<String> =
            columns.split(',').map(|column| column.trim().to_string()).collect();
        if table.trim().is_empty() || columns.iter().any(String::is_empty) {
            return Err(format!("{text:?} is no TABLE:COLUMN,COLUMN"));
        }
        Ok(Self { table: table.to_string(), columns: Some(columns) })
    }
}

impl From<Part> for String {
    fn from(part: Part) -> Self {
        match part.columns {
            Some(columns) => format!("{}:{}", part.table, columns.join(",")),
            None => part.table,
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.len() == 64 && text.chars().all(|digit| digit.is_ascii_hexdigit()) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err(format!("{text:?} is no SHA-256: `verger plugin inspect` prints it")),
        }
    }
}
