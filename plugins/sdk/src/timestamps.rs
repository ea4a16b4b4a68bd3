//! How the app's tables keep time.

use std::fmt;

use serde_json::Value as Json;

use crate::args::{ArgError, Args};
use crate::context::Context;
use crate::error::WorkerError;
use crate::ident::Ident;
use crate::manifest::ArgSpec;
use crate::value::Value;

/// The form of the timestamps in a table, chosen by the arg `timestamps`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// INTEGER, unix milliseconds (the reference schema).
    #[default]
    UnixMillis,
    /// INTEGER or REAL, unix seconds.
    UnixSeconds,
    /// TEXT, ISO-8601 in UTC in a form SQLite's date functions read: `2026-01-31T08:30:00Z`,
    /// `2026-01-31 08:30:00.250`.
    Iso8601,
}

impl TimeFormat {
    /// The arg `timestamps`, for the manifest of a worker that reads it by
    /// [`from_args`](Self::from_args).
    #[must_use]
    pub fn arg() -> ArgSpec {
        ArgSpec::default_value("unix_ms")
            .describe("How it keeps time: unix_ms, unix_s or iso8601 (UTC text).")
    }

    /// Reads the arg `timestamps`: `unix_ms` (also when absent), `unix_s` or `iso8601`.
    ///
    /// # Errors
    /// [`ArgError::Wrong`] for anything else.
    pub fn from_args(args: &Args) -> Result<Self, ArgError> {
        let wrong = |reason: String| ArgError::Wrong { key: "timestamps".into(), reason };
        match args.as_map().get("timestamps") {
            None | Some(Json::Null) => Ok(Self::default()),
            Some(Json::String(name)) => {
                name.parse().map_err(|error: TimeFormatError| wrong(error.to_string()))
            }
            Some(_) => Err(wrong("must be a string: unix_ms, unix_s or iso8601".into())),
        }
    }

    /// SQL for a column's value in unix milliseconds. NULL stays NULL. A text that is no time
    /// becomes NULL.
    #[must_use]
    pub fn millis_of(self, column: impl fmt::Display) -> String {
        match self {
            Self::UnixMillis => column.to_string(),
            Self::UnixSeconds => format!("{column} * 1000"),
            Self::Iso8601 => {
                format!("CAST(round(unixepoch({column}, 'subsec') * 1000) AS BIGINT)")
            }
        }
    }

    /// SQL that is true for a column before the instant that [`Self::bind`] binds to `?param`. An
    /// index on the column serves it.
    #[must_use]
    pub fn before(self, column: impl fmt::Display, param: usize) -> String {
        match self {
            Self::UnixMillis => format!("{column} < ?{param}"),
            // Whole seconds, and parts of one.
            Self::UnixSeconds => format!("{column} < ?{param} / 1000.0"),
            // The day comes first: texts of the same day compare alike in all forms. So the index
            // narrows, and the function decides.
            Self::Iso8601 => {
                let millis = self.millis_of(&column);
                format!(
                    "{column} < date((?{param} / 1000) + 86400, 'unixepoch') AND {millis} < ?{param}"
                )
            }
        }
    }

    /// SQL for a value in the table's own form that is not later than any instant from `?param` on,
    /// where a walk along an index may start. It can be a little early; [`Self::millis_of`]
    /// decides.
    #[must_use]
    pub fn start(self, param: usize) -> String {
        match self {
            Self::UnixMillis => format!("?{param}"),
            Self::UnixSeconds => {
                format!("?{param} / 1000 - CASE WHEN ?{param} < 0 THEN 1 ELSE 0 END")
            }
            Self::Iso8601 => format!(
                "date(?{param} / 1000 - CASE WHEN ?{param} < 0 THEN 1 ELSE 0 END, 'unixepoch')"
            ),
        }
    }

    /// Refuses a table that keeps time in another form than this, before anything is changed. If
    /// all times before `cutoff` lie in January 1970, they are seconds. If all times in seconds lie
    /// after the year 9999, they are milliseconds. Text instead of numbers is refused, and so are
    /// numbers instead of text. A table without rows has any form. `rows` is a condition without
    /// parameters on the rows that count. An index for the sweep serves this too.
    ///
    /// # Errors
    /// [`ArgError::Wrong`] for the arg `timestamps`, with what to set, or an error when the table
    /// cannot be read.
    pub fn check(
        self,
        job: &Context<'_>,
        table: &Ident,
        column: &str,
        rows: &str,
        cutoff: i64,
    ) -> Result<(), WorkerError> {
        let from = format!("FROM {table} WHERE {rows} AND {column} IS NOT NULL");
        let sql = format!(
            "SELECT (SELECT min({column}) {from}), (SELECT max({column}) {from}), (SELECT max({column}) {from} AND {column} < ?1)"
        );
        let bound = match self {
            Self::UnixSeconds => Value::Real(cutoff as f64 / 1000.0),
            Self::UnixMillis | Self::Iso8601 => Value::Integer(cutoff),
        };
        let Some(mut row) = job.query_row(&sql, vec![bound])? else { return Ok(()) };
        let (least, most, last) = (row.take(0)?, row.take(1)?, row.take(2)?);
        let wrong = |found: &str, right: &str| {
            Err(ArgError::Wrong {
                key: "timestamps".into(),
                reason: format!(
                    "the times in {table}.{column} {found}; set it to {right}. Nothing was changed"
                ),
            }
            .into())
        };
        match (self, number(&least), number(&most), number(&last)) {
            (Self::Iso8601, Some(_), Some(_), _) => wrong("are numbers", "unix_ms or unix_s"),
            (Self::UnixMillis | Self::UnixSeconds, None, ..) if least != Value::Null => {
                wrong("are no numbers", "iso8601, if they are text of that form")
            }
            (Self::UnixMillis, _, _, Some(last)) if SECONDS_AS_MILLIS.contains(&last) => {
                wrong("would all lie in January 1970: they are seconds, not milliseconds", "unix_s")
            }
            (Self::UnixSeconds, Some(least), ..) if MILLIS_AS_SECONDS.contains(&least) => wrong(
                "would all lie after the year 9999: they are milliseconds, not seconds",
                "unix_ms",
            ),
            _ => Ok(()),
        }
    }

    /// The value to bind for an instant in unix milliseconds.
    #[must_use]
    pub fn bind(self, millis: i64) -> Value {
        Value::Integer(millis)
    }

    /// SQL for the instant bound to `?param`, in the table's own form, for writing it.
    #[must_use]
    pub fn stored(self, param: usize) -> String {
        match self {
            Self::UnixMillis => format!("?{param}"),
            Self::UnixSeconds => format!("?{param} / 1000"),
            Self::Iso8601 => {
                format!("strftime('%Y-%m-%dT%H:%M:%fZ', ?{param} / 1000.0, 'unixepoch')")
            }
        }
    }
}

/// From 1980 to 2054 in seconds, which is January 1970 in milliseconds.
const SECONDS_AS_MILLIS: std::ops::Range<f64> = 315_532_800.0..2_678_400_000.0;

/// From 1978 to 5138 in milliseconds, which is after the year 9999 in seconds. Anything later
/// stands for `never`.
const MILLIS_AS_SECONDS: std::ops::Range<f64> = 253_402_300_800.0..100_000_000_000_000.0;

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Real(number) => Some(*number),
        Value::Null | Value::Text(_) | Value::Blob(_) => None,
    }
}

impl std::str::FromStr for TimeFormat {
    type Err = TimeFormatError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "unix_ms" => Ok(Self::UnixMillis),
            "unix_s" => Ok(Self::UnixSeconds),
            "iso8601" => Ok(Self::Iso8601),
            other => Err(TimeFormatError(other.chars().take(32).collect())),
        }
    }
}

/// A name of no time format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeFormatError(String);

impl fmt::Display for TimeFormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no time format: use unix_ms, unix_s or iso8601", self.0)
    }
}

impl std::error::Error for TimeFormatError {}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::params;
    use crate::testing::MemoryHost;

    const ALL: [TimeFormat; 3] =
        [TimeFormat::UnixMillis, TimeFormat::UnixSeconds, TimeFormat::Iso8601];

    /// Evaluates an expression in which the column is `?1` and the instant `?2`.
    fn eval(sql: &str, column: Value, instant: i64) -> Value {
        let host = MemoryHost::new("");
        let sql = format!("SELECT {sql} FROM (SELECT ?1 AS at, ?2 AS unused)");
        let row = Context::new(&host).query_row(&sql, params![column, instant]).ok().flatten();
        row.map_or(Value::from("failed"), |row| row.values()[0].clone())
    }

    #[test]
    fn before_is_strict_to_the_millisecond_in_every_form() {
        let instant = 1_767_225_600_250; // 2026-01-01T00:00:00.250Z
        let cases: [(TimeFormat, Value, bool); 11] = [
            (TimeFormat::UnixMillis, Value::from(instant - 1), true),
            (TimeFormat::UnixMillis, Value::from(instant), false),
            (TimeFormat::UnixSeconds, Value::from(1_767_225_600_i64), true),
            (TimeFormat::UnixSeconds, Value::from(1_767_225_601_i64), false),
            (TimeFormat::Iso8601, Value::from("2026-01-01T00:00:00.249Z"), true),
            (TimeFormat::Iso8601, Value::from("2026-01-01T00:00:00.250Z"), false),
            (TimeFormat::Iso8601, Value::from("2026-01-01 00:00:00"), true),
            (TimeFormat::Iso8601, Value::from("2026-01-01"), true),
            (TimeFormat::Iso8601, Value::from("2026-01-01T00:01Z"), false),
            (TimeFormat::Iso8601, Value::from("2025-12-31 23:59:59.999"), true),
            (TimeFormat::Iso8601, Value::from("2026-01-02T00:00:00Z"), false),
        ];
        for (format, column, expected) in cases {
            assert_eq!(
                eval(&format.before("at", 2), column.clone(), instant),
                Value::from(expected),
                "{format:?} {column:?}"
            );
        }
    }

    #[test]
    fn whole_seconds_are_compared_exactly_around_every_boundary() {
        for instant in [-1500, -1000, -999, -1, 0, 1, 999, 1000, 1001, 1999] {
            for second in -3..4_i64 {
                let found =
                    eval(&TimeFormat::UnixSeconds.before("at", 2), Value::from(second), instant);
                assert_eq!(
                    found,
                    Value::from(second * 1000 < instant),
                    "{second} s before {instant} ms"
                );
            }
        }
    }

    #[test]
    fn what_is_stored_reads_back_as_the_same_instant() {
        for instant in (0..200).map(|i| 1_767_225_600_000 + i * 1_000 * 86_399 + i * 7) {
            for format in ALL {
                let stored = eval(&format.stored(2), Value::Null, instant);
                let expected =
                    if format == TimeFormat::UnixSeconds { instant / 1000 * 1000 } else { instant };
                assert_eq!(
                    eval(&format.millis_of("at"), stored, 0),
                    Value::from(expected),
                    "{format:?}"
                );
            }
        }
    }

    #[test]
    fn a_walk_starts_at_or_before_the_instant() {
        for instant in [-1, 0, 1, 999, 1_767_225_600_250] {
            for format in ALL {
                let start = eval(&format.start(2), Value::Null, instant);
                let millis = eval(&format.millis_of("at"), start.clone(), 0);
                let day = 86_400_000;
                assert!(
                    matches!(millis, Value::Integer(at) if at <= instant && at > instant - day),
                    "{format:?} {instant}: {start:?}"
                );
            }
        }
    }

    #[test]
    fn null_and_nonsense_are_before_nothing() {
        for column in [Value::Null, Value::from("soon"), Value::from("")] {
            let found = eval(
                &TimeFormat::Iso8601.before("at", 2),
                column.clone(),
                i64::from(i32::MAX) * 1000,
            );
            assert!(matches!(found, Value::Null | Value::Integer(0)), "{column:?}: {found:?}");
        }
    }

    #[test]
    fn an_unknown_format_is_refused_by_name() {
        let args = Args::parse(r#"{"timestamps": "julian"}"#);
        let error =
            args.and_then(|args| TimeFormat::from_args(&args)).map_err(|error| error.to_string());
        assert_eq!(
            error,
            Err("the arg `timestamps` is not usable: \"julian\" is no time format: use unix_ms, unix_s or iso8601".to_string())
        );
    }
}
