//! Values of SQLite's five storage classes, rows of them, and the way in and out of Rust types.

use std::borrow::Cow;
use std::rc::Rc;

use crate::error::{HostError, code};

#[cfg(target_family = "wasm")]
pub use crate::guest::bindings::verger::worker::types::Value;

/// A value of one of SQLite's five storage classes.
#[cfg(not(target_family = "wasm"))]
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// INTEGER: 64 bits, signed.
    Integer(i64),
    /// REAL.
    Real(f64),
    /// TEXT.
    Text(String),
    /// BLOB.
    Blob(Vec<u8>),
}

/// Compact JSON text. Not `Display`, which brings the pretty form along and makes a component 5 KB
/// bigger.
pub(crate) fn json_text(json: &serde_json::Value) -> String {
    serde_json::to_string(json).unwrap_or_default()
}

/// Parameters for a statement: each anything that converts into a [`Value`].
#[macro_export]
macro_rules! params {
    ($($param:expr),* $(,)?) => {
        ::std::vec![$($crate::Value::from($param)),*]
    };
}

macro_rules! from_integers {
    ($($int:ty),*) => {$(
        impl From<$int> for Value {
            fn from(value: $int) -> Self {
                Self::Integer(value.into())
            }
        }
    )*};
}
from_integers!(i8, u8, i16, u16, i32, u32, i64, bool);

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_string())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Value {
    /// An id as the audit log and scopes write it: TEXT as it is, INTEGER in decimal; the other
    /// classes are no ids.
    #[must_use]
    pub fn as_id(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Integer(number) => Some(Cow::Owned(number.to_string())),
            Self::Null | Self::Real(_) | Self::Blob(_) => None,
        }
    }
}

/// A Rust type that a column can be read as.
pub trait FromValue: Sized {
    /// What it wants, for the error message: `an integer`.
    const WANTS: &'static str;

    /// Takes the value, or gives it back when it has another class.
    ///
    /// # Errors
    /// The value itself.
    fn from_value(value: Value) -> Result<Self, Value>;
}

macro_rules! from_value {
    ($($ty:ty, $wants:literal, $variant:ident);* $(;)?) => {$(
        impl FromValue for $ty {
            const WANTS: &'static str = $wants;
            fn from_value(value: Value) -> Result<Self, Value> {
                match value {
                    Value::$variant(inner) => Ok(inner),
                    other => Err(other),
                }
            }
        }
    )*};
}
from_value! {
    i64, "an integer", Integer;
    f64, "a real", Real;
    String, "text", Text;
    Vec<u8>, "a blob", Blob;
}

impl FromValue for bool {
    const WANTS: &'static str = "an integer";
    fn from_value(value: Value) -> Result<Self, Value> {
        i64::from_value(value).map(|number| number != 0)
    }
}

impl FromValue for Value {
    const WANTS: &'static str = "anything";
    fn from_value(value: Value) -> Result<Self, Value> {
        Ok(value)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const WANTS: &'static str = T::WANTS;
    fn from_value(value: Value) -> Result<Self, Value> {
        match value {
            Value::Null => Ok(None),
            other => T::from_value(other).map(Some),
        }
    }
}

/// One row of a query.
#[derive(Debug, Clone)]
pub struct Row {
    columns: Rc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(columns: Rc<[String]>, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// Takes a column out of the row by its place, from 0, as the type asked for; what is left
    /// there is NULL.
    ///
    /// # Errors
    /// Code `type` when the column holds something else or the row has no such column; names the
    /// column.
    pub fn take<T: FromValue>(&mut self, index: usize) -> Result<T, HostError> {
        let Some(value) = self.values.get_mut(index) else {
            return Err(HostError::new(
                code::TYPE,
                format!("the row has {} columns, none at {index}", self.columns.len()),
            ));
        };
        T::from_value(std::mem::replace(value, Value::Null)).map_err(|found| {
            let name = self.columns.get(index).map_or("?", String::as_str);
            HostError::new(
                code::TYPE,
                format!("column `{name}` holds {}, not {}", class(&found), T::WANTS),
            )
        })
    }

    /// The values, in the order of the columns.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }
}

fn class(value: &Value) -> &'static str {
    match value {
        Value::Null => "NULL",
        Value::Integer(_) => "an integer",
        Value::Real(_) => "a real",
        Value::Text(_) => "text",
        Value::Blob(_) => "a blob",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_text_or_an_integer() {
        assert_eq!(Value::from("org_1").as_id().as_deref(), Some("org_1"));
        assert_eq!(Value::from(42).as_id().as_deref(), Some("42"));
        for other in [Value::Null, Value::from(1.5), Value::from(vec![1])] {
            assert_eq!(other.as_id(), None, "{other:?}");
        }
    }
}
