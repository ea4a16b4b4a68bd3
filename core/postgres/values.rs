//! Values of a worker's statements, to the server and back.

use std::error::Error;

use bytes::BytesMut;
use postgres::Row;
use postgres::types::{Format, FromSql, IsNull, ToSql, Type, to_sql_checked};
use verger_worker::{HostError, Value, code};

type Failed = Box<dyn Error + Sync + Send>;

/// The year 2000, in unix milliseconds.
const MILLENNIUM: i64 = 946_684_800_000;

/// A value as a parameter. It becomes what the statement asks for at its place, if it fits.
#[derive(Debug)]
pub(super) struct Param<'v>(pub(super) &'v Value);

impl ToSql for Param<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        let too_big = |number: i64| format!("{number} does not fit into {ty}");
        match (self.0, ty) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Integer(number), &Type::INT8) => number.to_sql(ty, out),
            (Value::Integer(number), &Type::INT4) => {
                i32::try_from(*number).map_err(|_| too_big(*number))?.to_sql(ty, out)
            }
            (Value::Integer(number), &Type::INT2) => {
                i16::try_from(*number).map_err(|_| too_big(*number))?.to_sql(ty, out)
            }
            (Value::Integer(number), &Type::OID) => {
                u32::try_from(*number).map_err(|_| too_big(*number))?.to_sql(ty, out)
            }
            (Value::Integer(number @ (0 | 1)), &Type::BOOL) => (*number == 1).to_sql(ty, out),
            (Value::Integer(number), &Type::FLOAT8) => {
                // As SQLite does where a column is REAL.
                #[expect(clippy::cast_precision_loss, reason = "a REAL column has no more digits")]
                let real = *number as f64;
                real.to_sql(ty, out)
            }
            (Value::Real(number), &Type::FLOAT8) => number.to_sql(ty, out),
            (Value::Real(number), &Type::FLOAT4) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the column has no more digits"
                )]
                let short = *number as f32;
                short.to_sql(ty, out)
            }
            (Value::Blob(bytes), &Type::BYTEA) => bytes.to_sql(ty, out),
            // To workers every time is unix milliseconds; to the server, microseconds since 2000.
            (Value::Integer(millis), &(Type::TIMESTAMPTZ | Type::TIMESTAMP)) => millis
                .checked_sub(MILLENNIUM)
                .and_then(|millis| millis.checked_mul(1_000))
                .ok_or_else(|| too_big(*millis))?
                .to_sql(ty, out),
            (Value::Blob(_), ty) => Err(format!("a value of type BLOB is no {ty}").into()),
            // By its text, as in the statement itself.
            (Value::Integer(number), _) => text_of(number, out),
            (Value::Real(number), _) => text_of(number, out),
            (Value::Text(text), _) => text_of(text, out),
        }
    }

    fn encode_format(&self, ty: &Type) -> Format {
        let is_binary = match self.0 {
            Value::Null | Value::Blob(_) => true,
            Value::Integer(number) => match *ty {
                Type::BOOL => matches!(number, 0 | 1),
                Type::INT2 | Type::INT4 | Type::INT8 | Type::OID | Type::FLOAT8 => true,
                Type::TIMESTAMPTZ | Type::TIMESTAMP => true,
                _ => false,
            },
            Value::Real(_) => matches!(*ty, Type::FLOAT4 | Type::FLOAT8),
            Value::Text(_) => false,
        };
        if is_binary { Format::Binary } else { Format::Text }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Writes a value as text.
fn text_of(value: &impl ToString, out: &mut BytesMut) -> Result<IsNull, Failed> {
    out.extend_from_slice(value.to_string().as_bytes());
    Ok(IsNull::No)
}

/// The bytes of a column.
struct Bytes<'r>(&'r [u8]);

impl<'r> FromSql<'r> for Bytes<'r> {
    fn from_sql(_: &Type, raw: &'r [u8]) -> Result<Self, Failed> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A row as a worker sees it.
pub(super) fn values(row: &Row) -> Result<Vec<Value>, HostError> {
    row.columns()
        .iter()
        .enumerate()
        .map(|(place, column)| {
            let bytes: Option<Bytes<'_>> = row.get(place);
            bytes.map_or(Ok(Value::Null), |bytes| {
                value(column.type_(), bytes.0).map_err(|why| {
                    HostError::new(code::TYPE, format!("column `{}`: {why}", column.name()))
                })
            })
        })
        .collect()
}

fn value(ty: &Type, bytes: &[u8]) -> Result<Value, String> {
    let failed = |error: Failed| error.to_string();
    Ok(match *ty {
        Type::BOOL => Value::Integer(bool::from_sql(ty, bytes).map_err(failed)?.into()),
        Type::INT2 => Value::Integer(i16::from_sql(ty, bytes).map_err(failed)?.into()),
        Type::INT4 => Value::Integer(i32::from_sql(ty, bytes).map_err(failed)?.into()),
        Type::INT8 => Value::Integer(i64::from_sql(ty, bytes).map_err(failed)?),
        Type::OID => Value::Integer(u32::from_sql(ty, bytes).map_err(failed)?.into()),
        Type::FLOAT4 => Value::Real(f32::from_sql(ty, bytes).map_err(failed)?.into()),
        Type::FLOAT8 => Value::Real(f64::from_sql(ty, bytes).map_err(failed)?),
        Type::NUMERIC => numeric(bytes)?,
        Type::BYTEA => Value::Blob(bytes.to_vec()),
        Type::TEXT
        | Type::VARCHAR
        | Type::BPCHAR
        | Type::NAME
        | Type::JSON
        | Type::XML
        | Type::UNKNOWN => Value::Text(text(bytes)?),
        Type::JSONB => Value::Text(text(bytes.get(1..).unwrap_or_default())?),
        Type::UUID => {
            let bytes: [u8; 16] = bytes.try_into().map_err(|_| "it is no UUID".to_string())?;
            let digits = format!("{:032x}", u128::from_be_bytes(bytes));
            let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
            Value::Text(parts.join("-"))
        }
        // Microseconds since 2000, and to workers every time is unix milliseconds.
        Type::TIMESTAMPTZ | Type::TIMESTAMP => {
            let micros = i64::from_sql(&Type::INT8, bytes).map_err(failed)?;
            if matches!(micros, i64::MIN | i64::MAX) {
                return Err("an infinite time cannot be read: cast it to text".to_string());
            }
            Value::Integer(micros.div_euclid(1_000) + MILLENNIUM)
        }
        ref other => {
            return Err(format!("a value of type {other} cannot be read: write `CAST(… AS text)`"));
        }
    })
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "it is no UTF-8".to_string())
}

/// The sum of whole numbers is a `numeric`. It is an INTEGER again if it is whole and fits, or else
/// a REAL.
fn numeric(bytes: &[u8]) -> Result<Value, String> {
    const WRONG: &str = "it is no numeric";
    let mut words = bytes.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]]));
    let mut next = || words.next().ok_or(WRONG);
    let (count, weight, sign, _scale) = (next()?, next()?, next()?, next()?);
    let sign = match sign.cast_unsigned() {
        0 => 1,
        0x4000 => -1,
        _ => return Err("NaN and infinite numerics cannot be read: cast them to text".to_string()),
    };
    let digits: Vec<i16> = words.take(usize::try_from(count).map_err(|_| WRONG)?).collect();
    // Digits are to the base 10,000; the first counts 10,000 to the power of the weight.
    let is_whole = i32::from(count) <= i32::from(weight) + 1;
    let whole = is_whole.then(|| {
        let places = usize::try_from(i32::from(weight) + 1).unwrap_or(0);
        let padded = digits.iter().copied().chain(std::iter::repeat(0)).take(places);
        padded
            .map(i128::from)
            .try_fold(0_i128, |number, digit| number.checked_mul(10_000)?.checked_add(digit))
    });
    if digits.is_empty() {
        return Ok(Value::Integer(0));
    }
    if let Some(whole) = whole.flatten().and_then(|whole| i64::try_from(whole * sign).ok()) {
        return Ok(Value::Integer(whole));
    }
    // By its text, so that it is the nearest REAL there is.
    let mut text = String::from(if sign < 0 { "-0." } else { "0." });
    digits.iter().for_each(|digit| text.push_str(&format!("{digit:04}")));
    text.push_str(&format!("e{}", (i32::from(weight) + 1) * 4));
    text.parse().map(Value::Real).map_err(|_| WRONG.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[i16]) -> Value {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        numeric(&bytes).unwrap()
    }

    #[test]
    fn numerics_are_integers_where_they_can_be() {
        assert_eq!(read(&[0, 0, 0, 0]), Value::Integer(0));
        assert_eq!(read(&[1, 0, 0, 0, 7]), Value::Integer(7));
        assert_eq!(read(&[1, 1, 0x4000, 0, 12]), Value::Integer(-120_000));
        assert_eq!(read(&[2, 1, 0, 0, 1, 2345]), Value::Integer(12_345));
        assert_eq!(read(&[2, 0, 0, 2, 1, 5000]), Value::Real(1.5));
        assert_eq!(read(&[1, -1, 0, 4, 25]), Value::Real(0.0025));
        assert_eq!(read(&[1, 9, 0, 0, 1]), Value::Real(1e36));
        // The greatest INTEGER, and one more.
        assert_eq!(read(&[5, 4, 0, 0, 922, 3372, 368, 5477, 5807]), Value::Integer(i64::MAX));
        assert_eq!(read(&[5, 4, 0, 0, 922, 3372, 368, 5477, 5808]), Value::Real(2_f64.powi(63)));
    }
}
