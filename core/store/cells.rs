//! The columns of an engine's row, read so that nothing in them stops anyone.
//!
//! Whoever can write to the file can write anything into any column: an import, a trigger, an older
//! tool. Such a row is still shown, with what cannot be read named beside what can.

use std::str::FromStr;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Row, RowIndex};
use serde::Serialize;

use crate::time::Timestamp;

/// A column of a row whose value cannot be read. The row shows the nearest value that can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Unreadable {
    /// The column.
    pub column: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// The text of a column, byte by byte, because someone may have written text that is no UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RawText(Vec<u8>);

impl RawText {
    pub(crate) fn of(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<Self> {
        Ok(Self(bytes(row.get_ref(column)?).unwrap_or_default()))
    }

    /// The text, if it is UTF-8.
    pub(crate) fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl ToSql for RawText {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

/// In the tables an instant is its unix milliseconds.
impl ToSql for Timestamp {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_millis().into())
    }
}

/// A value as bytes of text. `None` for NULL.
fn bytes(value: ValueRef<'_>) -> Option<Vec<u8>> {
    match value {
        ValueRef::Null => None,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.to_vec()),
        ValueRef::Integer(number) => Some(number.to_string().into_bytes()),
        ValueRef::Real(number) => Some(number.to_string().into_bytes()),
    }
}

/// A row being read, and which columns cannot be.
pub(crate) struct Cells<'r, 's> {
    row: &'r Row<'s>,
    columns: &'static [&'static str],
    unreadable: Vec<Unreadable>,
}

impl<'r, 's> Cells<'r, 's> {
    /// The row of a statement that selects these columns, in this order.
    pub(crate) fn of(row: &'r Row<'s>, columns: &'static [&'static str]) -> Self {
        Self { row, columns, unreadable: Vec::new() }
    }

    /// The columns that could not be read.
    pub(crate) fn unreadable(self) -> Vec<Unreadable> {
        self.unreadable
    }

    fn value(&self, column: &str) -> ValueRef<'r> {
        let place = self.columns.iter().position(|name| *name == column);
        place.and_then(|place| self.row.get_ref(place).ok()).unwrap_or(ValueRef::Null)
    }

    fn wrong(&mut self, column: &'static str, why: impl Into<String>) {
        self.unreadable.push(Unreadable { column, why: why.into() });
    }

    /// A text that may be NULL. Of text that is no UTF-8, what can be read.
    pub(crate) fn opt_text(&mut self, column: &'static str) -> Option<String> {
        match self.value(column) {
            ValueRef::Null => None,
            ValueRef::Text(text) => Some(match std::str::from_utf8(text) {
                Ok(text) => text.to_string(),
                Err(_) => {
                    self.wrong(column, "it is no UTF-8");
                    String::from_utf8_lossy(text).into_owned()
                }
            }),
            other => {
                self.wrong(column, "it is no text");
                Some(String::from_utf8_lossy(&bytes(other).unwrap_or_default()).into_owned())
            }
        }
    }

    pub(crate) fn text(&mut self, column: &'static str) -> String {
        self.opt_text(column).unwrap_or_else(|| {
            self.wrong(column, "it is NULL");
            String::new()
        })
    }

    /// A word from a set of words.
    pub(crate) fn word<T: FromStr<Err: std::fmt::Display>>(
        &mut self,
        column: &'static str,
        otherwise: T,
    ) -> T {
        match self.text(column).parse() {
            Ok(word) => word,
            Err(error) => {
                self.wrong(column, error.to_string());
                otherwise
            }
        }
    }

    /// A whole number that may be NULL.
    pub(crate) fn opt_integer(&mut self, column: &'static str) -> Option<i64> {
        match self.value(column) {
            ValueRef::Null => None,
            ValueRef::Integer(number) => Some(number),
            _ => {
                self.wrong(column, "it is no whole number");
                None
            }
        }
    }

    pub(crate) fn integer(&mut self, column: &'static str) -> i64 {
        let before = self.unreadable.len();
        self.opt_integer(column).unwrap_or_else(|| {
            if self.unreadable.len() == before {
                self.wrong(column, "it is NULL");
            }
            0
        })
    }

    /// An instant.
    pub(crate) fn time(&mut self, column: &'static str) -> Timestamp {
        Timestamp::from_millis(self.integer(column))
    }

    /// An instant that may be NULL.
    pub(crate) fn opt_time(&mut self, column: &'static str) -> Option<Timestamp> {
        self.opt_integer(column).map(Timestamp::from_millis)
    }

    /// A number that counts something. A number that cannot be a count is taken for the nearest
    /// one.
    pub(crate) fn count(&mut self, column: &'static str) -> u32 {
        self.within(column, u32::MAX)
    }

    /// As [`count`](Self::count), for small numbers.
    pub(crate) fn small(&mut self, column: &'static str) -> u8 {
        u8::try_from(self.within(column, u8::MAX.into())).unwrap_or(u8::MAX)
    }

    fn within(&mut self, column: &'static str, most: u32) -> u32 {
        let number = self.integer(column);
        let nearest = number.clamp(0, most.into());
        if nearest != number {
            self.wrong(column, format!("it is {number}, which is not from 0 to {most}"));
        }
        u32::try_from(nearest).unwrap_or(most)
    }

    /// Yes or no. 0 is no.
    pub(crate) fn flag(&mut self, column: &'static str) -> bool {
        let number = self.integer(column);
        if !(0..=1).contains(&number) {
            self.wrong(column, format!("it is {number}, which is neither 0 nor 1"));
        }
        number != 0
    }

    /// JSON that may be NULL. Text that is no JSON is shown as text.
    pub(crate) fn opt_json(&mut self, column: &'static str) -> Option<serde_json::Value> {
        let text = self.opt_text(column)?;
        Some(serde_json::from_str(&text).unwrap_or_else(|error| {
            self.wrong(column, format!("it is no JSON: {error}"));
            text.into()
        }))
    }

    /// A column's JSON, if it has the expected form.
    pub(crate) fn opt_shape<T: serde::de::DeserializeOwned>(
        &mut self,
        column: &'static str,
    ) -> Option<T> {
        let text = self.opt_text(column)?;
        serde_json::from_str(&text)
            .map_err(|error| self.wrong(column, format!("it is not what belongs there: {error}")))
            .ok()
    }
}
