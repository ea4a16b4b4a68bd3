//! What a run has read from its snapshot, so that it can be read again.
//!
//! A run that wants to write after someone else has may go on if all it has read is still the same,
//! as if it had begun now. To find out, its queries are repeated, as far as their rows were asked
//! for, and compared by a hash.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use verger_worker::Value;

use super::cursor::CursorId;

/// The most rows and queries that are worth reading twice. Beyond these the run is repeated
/// instead.
const ROWS_MAX: usize = 1_000;
const QUERIES_MAX: usize = 64;

/// Bytes kept of queries' texts and parameters.
const BYTES_MAX: usize = 64 << 10;

/// The queries of a run since its snapshot was taken.
#[derive(Default)]
pub(super) struct Reads {
    queries: Vec<Query>,
    /// What was read of the worker's own state.
    state: BTreeMap<String, Value>,
    rows: usize,
    bytes: usize,
    /// More was read than is kept.
    overflowed: bool,
}

/// A query, and what was read of it.
pub(super) struct Query {
    pub(super) cursor: CursorId,
    pub(super) sql: String,
    pub(super) params: Vec<Value>,
    pub(super) read: Extent,
}

/// How far a query was read, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) rows: usize,
    /// Whether there was no further row.
    pub(super) ended: bool,
    hash: u64,
}

impl Extent {
    pub(super) fn add(&mut self, rows: &[Vec<Value>], ended: bool) {
        let mut hasher = DefaultHasher::new();
        self.hash.hash(&mut hasher);
        for value in rows.iter().flatten() {
            match value {
                Value::Null => 0_u8.hash(&mut hasher),
                Value::Integer(number) => (1_u8, number).hash(&mut hasher),
                Value::Real(number) => (2_u8, number.to_bits()).hash(&mut hasher),
                Value::Text(text) => (3_u8, text).hash(&mut hasher),
                Value::Blob(bytes) => (4_u8, bytes).hash(&mut hasher),
            }
        }
        // Only the number and the values of the rows count, not the chunks they came in.
        if !rows.is_empty() {
            self.hash = hasher.finish();
        }
        self.rows += rows.len();
        self.ended |= ended;
    }
}

impl Extent {
    /// Whether the rows are the same, and no more were found where there were none.
    pub(super) fn is_like(&self, before: &Self) -> bool {
        self.rows == before.rows && self.hash == before.hash && (self.ended || !before.ended)
    }
}

impl Reads {
    /// Notes that a query was begun.
    pub(super) fn begin(&mut self, cursor: CursorId, sql: &str, params: &[Value]) {
        self.bytes += sql.len() + params.iter().map(size).sum::<usize>();
        self.overflowed |= self.bytes > BYTES_MAX || self.queries.len() >= QUERIES_MAX;
        if self.overflowed {
            self.queries.clear();
            return;
        }
        let (sql, params) = (sql.to_string(), params.to_vec());
        self.queries.push(Query { cursor, sql, params, read: Extent::default() });
    }

    /// Notes that rows of it were read.
    pub(super) fn add(&mut self, cursor: CursorId, rows: &[Vec<Value>], ended: bool) {
        self.rows += rows.len();
        self.overflowed |= self.rows > ROWS_MAX;
        if self.overflowed {
            self.queries.clear();
        }
        if let Some(query) = self.queries.iter_mut().find(|query| query.cursor == cursor) {
            for row in rows {
                query.read.add(std::slice::from_ref(row), false);
            }
            query.read.ended |= ended;
        }
    }

    /// Notes that a value of the state was read.
    pub(super) fn add_state(&mut self, key: &str, value: &Value) {
        self.bytes += key.len() + size(value);
        self.overflowed |= self.bytes > BYTES_MAX;
        if !self.overflowed {
            self.state.insert(key.to_string(), value.clone());
        }
    }

    /// All that was read of the state.
    pub(super) fn take_state(&mut self) -> BTreeMap<String, Value> {
        std::mem::take(&mut self.state)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// All that was read. `None` when it was more than is kept.
    pub(super) fn take(&mut self) -> Option<Vec<Query>> {
        let taken = std::mem::take(self);
        (!taken.overflowed).then_some(taken.queries)
    }
}

/// The bytes of a value.
pub(crate) fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Integer(_) | Value::Real(_) => 8,
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    fn row(text: &str) -> Vec<Value> {
        vec![Value::from(text), Value::Null]
    }

    #[test]
    fn what_was_read_is_the_same_however_it_came_in_chunks_and_differs_where_it_differs() {
        let read = |chunks: &[&[Vec<Value>]]| {
            let mut reads = Reads::default();
            reads.begin(CursorId(1), "SELECT", &[]);
            chunks.iter().for_each(|chunk| reads.add(CursorId(1), chunk, false));
            reads.take().unwrap().remove(0).read
        };
        let whole = read(&[&[row("a"), row("b")]]);
        assert_eq!(whole, read(&[&[row("a")], &[], &[row("b")]]));
        assert_ne!(whole, read(&[&[row("b"), row("a")]]));
        assert_ne!(whole, read(&[&[row("a")]]));
        assert_ne!(whole, read(&[&[row("ab"), row("")]]));
    }

    #[test]
    fn more_than_is_worth_reading_twice_is_not_kept() {
        let mut reads = Reads::default();
        reads.begin(CursorId(0), "SELECT", &[]);
        reads.add(CursorId(0), &vec![row("x"); ROWS_MAX], false);
        reads.add(CursorId(0), &[row("x")], true);
        assert!(reads.take().is_none());
        reads.begin(CursorId(0), "SELECT", &[Value::Blob(vec![0; BYTES_MAX])]);
        assert!(reads.take().is_none());
        assert!(reads.take().unwrap().is_empty(), "and a new snapshot begins anew");
    }
}
