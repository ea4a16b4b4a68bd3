//! How much of the machine one attempt may use.

use std::time::Duration;

/// How much of the machine one attempt of a worker may use. The defaults are generous to honest
/// workers; what a worker meets beyond a limit is a typed error with a code.
///
/// ```
/// use std::time::Duration;
/// use verger::{Grant, Limits};
///
/// let limits = Limits::new().time(Duration::from_secs(5)).memory_bytes(16 << 20).statements(10_000);
/// let grant = Grant::new().read("orders").limits(limits);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "limits bind a worker once they are part of its grant"]
pub struct Limits {
    pub(crate) time: Duration,
    pub(crate) memory_bytes: usize,
    pub(crate) sql_memory_bytes: usize,
    pub(crate) chunk_bytes: usize,
    pub(crate) statements: u64,
    pub(crate) audit_rows: usize,
    pub(crate) events: usize,
    pub(crate) log_lines: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(60),
            memory_bytes: 64 << 20,
            sql_memory_bytes: 256 << 20,
            chunk_bytes: 16 << 20,
            statements: 10_000_000,
            audit_rows: 100_000,
            events: 10_000,
            log_lines: 1_000,
        }
    }
}

impl Limits {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long an attempt may last, in wasm, SQL and waiting for locks together. Default 60 s.
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Bytes of linear memory, all memories of the component together. Default 64 MiB.
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Bytes of memory its SQL statements may take together: to sort, to group, to keep a recursive
    /// query. Default 256 MiB. What the rest of the app makes SQLite take meanwhile counts too.
    pub fn sql_memory_bytes(mut self, bytes: usize) -> Self {
        self.sql_memory_bytes = bytes;
        self
    }

    /// Bytes of values its queries may return in one chunk, and of parameters it may send in one
    /// call. Default 16 MiB.
    pub fn chunk_bytes(mut self, bytes: usize) -> Self {
        self.chunk_bytes = bytes;
        self
    }

    /// SQL statements it may run, each set of parameters counted. Default 10,000,000.
    pub fn statements(mut self, count: u64) -> Self {
        self.statements = count;
        self
    }

    /// Audit rows between two checkpoints. Default 100,000.
    pub fn audit_rows(mut self, count: usize) -> Self {
        self.audit_rows = count;
        self
    }

    /// Messages published between two checkpoints. Default 10,000.
    pub fn events(mut self, count: usize) -> Self {
        self.events = count;
        self
    }

    /// Lines written to the app's log; the rest is dropped. Default 1,000.
    pub fn log_lines(mut self, count: u32) -> Self {
        self.log_lines = count;
        self
    }
}
