//! Values of SQLite's five storage classes, rows of them, and conversions to and from Rust types.

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

/// Compact JSON text. `Display` would bring the pretty form along and make a component 5 KB
/// bigger.
pub(crate) fn json_text(json: &serde_json::Value) -> String {
    serde_json::to_string(json).unwrap_or_default()
}

/// Parameters for a statement, each of which is anything that converts into a [`Value`].
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
    /// An id as the audit log and scopes write it, without losing a digit: TEXT as it is, INTEGER
    /// in decimal, REAL as the shortest decimal with a point that is the same number, BLOB as
    /// SQLite writes it in SQL, `x'0a1f'`. NULL is no id.
    #[must_use]
    pub fn as_id(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Integer(number) => Some(Cow::Owned(number.to_string())),
            Self::Real(number) => Some(Cow::Owned(real_literal(*number))),
            Self::Blob(bytes) => Some(Cow::Owned(blob_literal(bytes))),
            Self::Null => None,
        }
    }

    /// The values that an id written by [`as_id`](Self::as_id) may stand for: the text itself, and
    /// the number or the bytes it writes. If it writes none, the text twice. It is for `id IN (?1,
    /// ?2)`, which finds the id whatever the type of its column.
    #[must_use]
    pub fn from_id(id: &str) -> [Self; 2] {
        let text = Self::from(id);
        let other =
            [id.parse().map(Self::Integer).ok(), serde_json::from_str(id).map(Self::Real).ok()]
                .into_iter()
                .flatten()
                .chain(bytes_of_literal(id).map(Self::Blob))
                .find(|value| value.as_id().is_some_and(|written| written == id));
        [text.clone(), other.unwrap_or(text)]
    }
}

/// Uses the JSON writer, which is there anyway. That of `std` makes a component 50 KB bigger.
fn real_literal(number: f64) -> String {
    match serde_json::to_string(&number) {
        // Its versions differ in how they write an exponent, but an id is written in one way.
        Ok(text) if number.is_finite() => text.replace("e+", "e"),
        _ if number > 0.0 => "9e999".to_string(),
        _ => "-9e999".to_string(),
    }
}

fn blob_literal(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0');
    let mut literal = String::with_capacity(bytes.len() * 2 + 3);
    literal.push_str("x'");
    for byte in bytes {
        literal.push(digit(byte >> 4));
        literal.push(digit(byte & 15));
    }
    literal.push('\'');
    literal
}

fn bytes_of_literal(literal: &str) -> Option<Vec<u8>> {
    let digits = literal.strip_prefix("x'")?.strip_suffix('\'')?.as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|half| u8::try_from(half).ok());
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
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

    /// Takes a column out of the row by its index, from 0, as the type asked for. NULL is left in
    /// its place.
    ///
    /// # Errors
    /// Code `type` when the column holds something else, or the row has no such column. The error
    /// names the column.
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
    fn an_id_of_any_class_is_written_and_read_without_loss() {
        let ids: [(Value, &str); 9] = [
            (Value::from("org_1"), "org_1"),
            (Value::from(42), "42"),
            (Value::from(i64::MIN), "-9223372036854775808"),
            (Value::from(9_007_199_254_740_993_i64), "9007199254740993"),
            (Value::from(1.0), "1.0"),
            (Value::from(0.1), "0.1"),
            (Value::from(1e300), "1e300"),
            (Value::from(vec![0, 0x1f, 0xff]), "x'001fff'"),
            (Value::from(Vec::new()), "x''"),
        ];
        for (value, text) in ids {
            assert_eq!(value.as_id().as_deref(), Some(text));
            let [plain, other] = Value::from_id(text);
            assert_eq!(plain, Value::from(text));
            assert_eq!(other, value);
        }
        assert_eq!(Value::Null.as_id(), None);
        for text in ["042", "+1", "1.50", "X'00'", "x'0'", "x'zz'", "", "inf", " 1"] {
            assert_eq!(Value::from_id(text), [Value::from(text), Value::from(text)], "{text:?}");
        }
    }
}
