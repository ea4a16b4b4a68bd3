//! How much of the machine one attempt may use.

use std::time::Duration;

/// How long a worker may hold the write lock that is not granted what it declares.
const WRITE_LOCK: Duration = Duration::from_secs(1);

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
    pub(crate) write_lock: Option<Duration>,
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
            write_lock: None,
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

    /// How long it may hold the database's write lock without a checkpoint; longer, the attempt is
    /// undone and fails with the code `lock-held`. It takes the lock at its first write. Default
    /// 1 s; for workers that are granted [what they declare](crate::Grant::as_declared), the built-in
    /// and the app's own among them, none but [`time`](Self::time).
    ///
    /// It ends what runs in wasm and in SQL. A function of the app, a native worker between two host
    /// calls, and a commit cannot be interrupted.
    pub fn write_lock(mut self, most: Duration) -> Self {
        self.write_lock = Some(most);
        self
    }

    /// How long a worker may hold the write lock, if that is bounded.
    pub(crate) fn write_lock_of(&self, is_as_declared: bool) -> Option<Duration> {
        self.write_lock.or((!is_as_declared).then_some(WRITE_LOCK))
    }

    /// Lines written to the app's log; the rest is dropped. Default 1,000.
    pub fn log_lines(mut self, count: u32) -> Self {
        self.log_lines = count;
        self
    }
}
