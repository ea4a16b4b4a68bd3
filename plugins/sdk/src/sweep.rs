//! The batch loop of a sweep, written once: rows in the order of a key, a batch at a time, with a
//! checkpoint between two batches.

use crate::args::{ArgError, Args};
use crate::context::Context;
use crate::error::HostError;
use crate::manifest::ArgSpec;
use crate::value::{Row, Value};

/// A query that is read a batch at a time. Each batch goes on after the key of the last row of the
/// one before. No offset is counted, so rows that are changed, added or deleted meanwhile neither
/// hide others nor show them twice.
///
/// The key must tell rows apart, and an index on its columns, in their order, should serve the
/// query. NULL comes before everything, as in SQLite's own order.
#[derive(Debug, Clone)]
pub struct Walk {
    key: &'static [&'static str],
    columns: String,
    from: String,
    start: Option<String>,
    params: usize,
}

impl Walk {
    /// Makes a walk of the key's columns, of `FROM … WHERE …`, whose condition holds for the rows
    /// of the walk, and of how many parameters that has, `?1`, `?2`, ….
    #[must_use]
    pub fn new(key: &'static [&'static str], from: String, params: usize) -> Self {
        Self { key, columns: String::new(), from, start: None, params }
    }

    /// Further columns, read after those of the key: `, name, state`.
    #[must_use]
    pub fn columns(mut self, columns: impl Into<String>) -> Self {
        self.columns = columns.into();
        self
    }

    /// A further condition for the first batch, where an index should begin. Later batches begin at
    /// their key.
    #[must_use]
    pub fn starting(mut self, condition: String) -> Self {
        self.start = Some(condition);
        self
    }

    /// The statement of the first batch. Its last parameter is the number of rows.
    #[must_use]
    pub fn first_batch(&self) -> String {
        let limit = self.params + 1;
        self.select(self.start.as_deref(), limit)
    }

    /// The statement of a batch after a row with this key. Its last parameters are the key and the
    /// number of rows.
    #[must_use]
    pub fn batch_after(&self, last: &[Value]) -> String {
        self.select(Some(&self.after(last)), self.params + self.key.len() + 1)
    }

    fn select(&self, place: Option<&str>, limit: usize) -> String {
        let (key, columns, from) = (self.key.join(", "), &self.columns, &self.from);
        let place = place.map(|place| format!(" AND {place}")).unwrap_or_default();
        // As SQLite orders by itself, and other stores only when they are told.
        let order: Vec<String> = self.key.iter().map(|key| format!("{key} NULLS FIRST")).collect();
        let order = order.join(", ");
        format!("SELECT {key}{columns} {from}{place} ORDER BY {order} LIMIT ?{limit}")
    }

    fn after(&self, last: &[Value]) -> String {
        let placed = || self.key.iter().zip(last).zip(self.params + 1..);
        if !last.contains(&Value::Null) {
            let places: Vec<String> = placed().map(|(_, place)| format!("?{place}")).collect();
            return format!("({}) > ({})", self.key.join(", "), places.join(", "));
        }
        // A row value that contains a NULL compares with nothing.
        let mut same = String::new();
        let mut ways = Vec::new();
        for ((column, value), place) in placed() {
            ways.push(match value {
                // The parameter must occur, and have a type.
                Value::Null => {
                    format!("{same}{column} IS NOT NULL AND CAST(?{place} AS TEXT) IS NULL")
                }
                _ => format!("{same}{column} > ?{place}"),
            });
            same.push_str(&format!("{column} IS ?{place} AND "));
        }
        format!("({})", ways.join(" OR "))
    }
}

/// The most rows between two commits.
const BATCH_MAX: i64 = 10_000;

impl Walk {
    /// The arg `batch_size`, for the manifest of a worker that reads it by
    /// [`batch_size`](Self::batch_size). `what` says what is counted: `Rows deleted`.
    #[must_use]
    pub fn batch_size_arg(default: i64, what: &str) -> ArgSpec {
        ArgSpec::default_value(default)
            .describe(format!("{what} between two commits: 1 to {BATCH_MAX}."))
    }

    /// Reads the arg `batch_size`: 1 to 10,000.
    ///
    /// # Errors
    /// [`ArgError`] for anything else.
    pub fn batch_size(args: &Args) -> Result<i64, ArgError> {
        args.positive("batch_size", BATCH_MAX)
    }
}

/// The rows of the first batch, which then doubles. They take some milliseconds.
const FIRST_BATCH: i64 = 100;

/// The fewest rows of a batch, however many others write. They take about a millisecond.
const SMALLEST_BATCH: i64 = 25;

/// What a sweep does with its rows.
pub trait Sweeper {
    /// Takes a batch, in the order of the walk. The first values of a row are its key.
    ///
    /// # Errors
    /// Any error ends the attempt.
    fn batch(&mut self, job: &Context<'_>, rows: Vec<Row>) -> Result<(), HostError>;
}

impl Context<'_> {
    /// Walks through a query, `batch_size` rows between two commits, reports progress after `done`
    /// rows of earlier walks, and returns how many rows there were. Its cursor is closed before the
    /// batch is taken. While others write to the database too, batches are small enough not to keep
    /// them waiting (see [`checkpoint_due`](Self::checkpoint_due)).
    ///
    /// # Errors
    /// When a statement, the sweeper or a checkpoint fails.
    pub fn sweep(
        &self,
        walk: &Walk,
        params: &[Value],
        batch_size: i64,
        done: u64,
        sweeper: &mut dyn Sweeper,
    ) -> Result<u64, HostError> {
        // Small at first, because others may want to write, and the first rows come from disk.
        let (mut scanned, mut size) = (0, batch_size.min(FIRST_BATCH));
        let mut last: Option<Vec<Value>> = None;
        loop {
            let mut params = params.to_vec();
            let sql = match &mut last {
                None => walk.first_batch(),
                Some(last) => {
                    let sql = walk.batch_after(last);
                    params.append(last);
                    sql
                }
            };
            params.push(Value::from(size));
            let rows = self.query(&sql, params)?.rows().collect::<Result<Vec<_>, _>>()?;
            let found = rows.len() as u64;
            last = rows.last().map(|row| row.values()[..walk.key.len()].to_vec());
            if found > 0 {
                sweeper.batch(self, rows)?;
            }
            scanned += found;
            self.progress(done + scanned, 0);
            if found < size.unsigned_abs() {
                return Ok(scanned);
            }
            size = match self.checkpoint_due() {
                true => (size / 4).max(batch_size.min(SMALLEST_BATCH)),
                false => size.saturating_mul(2).min(batch_size),
            };
            self.checkpoint()?;
        }
    }
}

#[cfg(all(test, feature = "testing"))]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use crate::error::code;
    use crate::host::Host;
    use crate::testing::MemoryHost;

    struct Seen(Vec<i64>);

    impl Sweeper for Seen {
        fn batch(&mut self, _: &Context<'_>, rows: Vec<Row>) -> Result<(), HostError> {
            for mut row in rows {
                self.0.push(row.take(3)?);
            }
            Ok(())
        }
    }

    #[test]
    fn every_row_is_met_once_whatever_its_key_and_wherever_a_batch_ends() {
        // Each storage class, NULL and ties in each column of the key.
        let values = ["NULL", "-1", "0.5", "9007199254740993", "''", "'a'", "x'00'", "x'ff'"];
        let mut setup = String::from("CREATE TABLE t (at, id, organization_id, n);");
        let mut n = 0;
        for at in ["1", "2.5", "'t'"] {
            for id in values {
                for organization in values {
                    setup.push_str(&format!(
                        "INSERT INTO t VALUES ({at}, {id}, {organization}, {n});"
                    ));
                    n += 1;
                }
            }
        }
        for index in
            ["", "CREATE INDEX i ON t (at, id, organization_id, n);", "CREATE INDEX i ON t (at);"]
        {
            let host = MemoryHost::new(&format!("{setup}{index}"));
            let walk =
                Walk::new(&["at", "id", "organization_id"], "FROM t WHERE n >= ?1".into(), 1)
                    .columns(", n");
            for batch in [1, 2, 3, 7, 64, 191, 192, 193] {
                let mut seen = Seen(Vec::new());
                host.connection().execute_batch("BEGIN").unwrap();
                let job = Context::new(&host);
                let scanned = job.sweep(&walk, &[Value::from(0)], batch, 0, &mut seen).unwrap();
                host.connection().execute_batch("ROLLBACK").unwrap();
                seen.0.sort_unstable();
                assert_eq!(seen.0, (0..n).collect::<Vec<_>>(), "{index} {batch}");
                assert_eq!(scanned, 192);
            }
        }
    }

    /// How many rows each batch had.
    struct Sizes(Vec<usize>);

    impl Sweeper for Sizes {
        fn batch(&mut self, _: &Context<'_>, rows: Vec<Row>) -> Result<(), HostError> {
            self.0.push(rows.len());
            Ok(())
        }
    }

    #[test]
    fn batches_begin_small_stay_so_while_others_write_and_grow_when_nobody_does() {
        let host = MemoryHost::new(
            "CREATE TABLE t (id); WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 1000) INSERT INTO t SELECT n FROM n",
        );
        let walk = Walk::new(&["id"], "FROM t WHERE 1".into(), 0);
        for (others_write, expected) in
            [(true, vec![100, 25, 25, 25, 25]), (false, vec![100, 200, 400, 300])]
        {
            host.beside_others(others_write);
            let mut sizes = Sizes(Vec::new());
            host.connection().execute_batch("BEGIN").unwrap();
            let scanned = Context::new(&host).sweep(&walk, &[], 400, 0, &mut sizes).unwrap();
            host.connection().execute_batch("ROLLBACK").unwrap();
            assert_eq!((scanned, &sizes.0[..expected.len()]), (1_000, &expected[..]));
        }
    }

    #[test]
    fn a_sweep_ends_at_a_checkpoint_when_it_is_cancelled() {
        let host = MemoryHost::new(
            "CREATE TABLE t (at, id, organization_id, n); INSERT INTO t VALUES (1, 1, 1, 1), (2, 2, 2, 2);",
        );
        host.cancel();
        let walk =
            Walk::new(&["at", "id", "organization_id"], "FROM t WHERE 1".into(), 0).columns(", n");
        let mut seen = Seen(Vec::new());
        let ended = Context::new(&host).sweep(&walk, &[], 1, 0, &mut seen);
        assert_eq!(ended.map_err(|error| error.code), Err(code::CANCELLED.to_string()));
        assert_eq!((seen.0, host.is_cancelled()), (vec![1], true));
    }
}
