//! How much of the machine one attempt may use.

use std::time::Duration;

/// How long a worker may hold the write lock if it is not granted what it declares.
const WRITE_LOCK: Duration = Duration::from_secs(1);

/// How much of the machine one attempt of a worker may use. The defaults are generous to honest
/// workers. A worker that goes beyond a limit gets a typed error with a code.
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
    pub(crate) transaction_bytes: u64,
    pub(crate) growth_bytes: u64,
    pub(crate) audit_rows: u64,
    pub(crate) audit_bytes: u64,
    pub(crate) events: usize,
    pub(crate) event_bytes: usize,
    pub(crate) call_bytes: usize,
    pub(crate) log_lines: u32,
    pub(crate) log_bytes: usize,
    pub(crate) write_lock: Option<Duration>,
    pub(crate) jobs: u64,
    pub(crate) job_bytes: usize,
    pub(crate) state_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(60),
            memory_bytes: 64 << 20,
            sql_memory_bytes: 256 << 20,
            chunk_bytes: 16 << 20,
            statements: 10_000_000,
            transaction_bytes: 512 << 20,
            growth_bytes: 1 << 30,
            audit_rows: 1_000_000,
            audit_bytes: 256 << 20,
            events: 10_000,
            event_bytes: 16 << 20,
            call_bytes: 1 << 20,
            log_lines: 1_000,
            log_bytes: 1 << 20,
            write_lock: None,
            jobs: 10_000,
            job_bytes: 16 << 20,
            state_bytes: 64 << 10,
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
    /// call. Default 16 MiB. A full chunk ends, and the next one goes on. A single row or set of
    /// parameters that has more is refused with the code `limit`. What a component sends in one
    /// call may take four times as much memory, and 4 MiB at least.
    pub fn chunk_bytes(mut self, bytes: usize) -> Self {
        self.chunk_bytes = bytes;
        self
    }

    /// SQL statements it may run, each set of parameters counted. Default 10,000,000.
    pub fn statements(mut self, count: u64) -> Self {
        self.statements = count;
        self
    }

    /// Bytes of pages that it may write to the database's log between two checkpoints. Default 512
    /// MiB. Beyond that, everything since the last checkpoint is rolled back, and the attempt ends
    /// with the code `limit`. Up to 32 MiB of pages wait in memory, and count only when they are
    /// written.
    pub fn transaction_bytes(mut self, bytes: u64) -> Self {
        self.transaction_bytes = bytes;
        self
    }

    /// Bytes by which it may make the database larger, all its checkpoints together. Default 1 GiB.
    /// The checkpoint or the end that would go beyond is rolled back, and the attempt ends with the
    /// code `limit`. Until a run has written 16 MiB, each page that it writes counts.
    pub fn growth_bytes(mut self, bytes: u64) -> Self {
        self.growth_bytes = bytes;
        self
    }

    /// Audit rows it may write, all its checkpoints together. Default 1,000,000. Further ones are
    /// refused with the code `limit`; `append-safe` drops them.
    pub fn audit_rows(mut self, count: u64) -> Self {
        self.audit_rows = count;
        self
    }

    /// Bytes of audit rows it may write, all its checkpoints together: its texts, and 256 bytes for
    /// the rest of each row. Default 256 MiB. Further ones are refused with the code `limit`;
    /// `append-safe` drops them.
    pub fn audit_bytes(mut self, bytes: u64) -> Self {
        self.audit_bytes = bytes;
        self
    }

    /// Messages published between two checkpoints. Default 10,000. Further ones are refused with
    /// the code `limit`.
    pub fn events(mut self, count: usize) -> Self {
        self.events = count;
        self
    }

    /// How long it may hold the database's write lock without a checkpoint. Beyond that, the
    /// attempt is rolled back and fails with the code `lock-held`. It takes the lock at its first
    /// write. Default 1 s. A worker that is granted [what it declares](crate::Grant::as_declared),
    /// as the built-in workers and the app's own are, is bounded by [`time`](Self::time) alone.
    ///
    /// It ends what runs in wasm and in SQL. It cannot interrupt a function of the app, a native
    /// worker between two host calls, or a commit.
    pub fn write_lock(mut self, most: Duration) -> Self {
        self.write_lock = Some(most);
        self
    }

    /// How long a worker may hold the write lock, if that is bounded.
    pub(crate) fn write_lock_of(&self, is_as_declared: bool) -> Option<Duration> {
        self.write_lock.or((!is_as_declared).then_some(WRITE_LOCK))
    }

    /// Bytes of messages published between two checkpoints: topics and JSON text. Default 16 MiB.
    /// Further ones are refused with the code `limit`. One message has 256 KiB at most.
    pub fn event_bytes(mut self, bytes: usize) -> Self {
        self.event_bytes = bytes;
        self
    }

    /// Bytes of JSON text that one call of a capability may send, and that its reply may have.
    /// Default 1 MiB. A longer one is refused with the code `limit`, as is a request that takes
    /// more than 64 times as much memory once it is read.
    pub fn call_bytes(mut self, bytes: usize) -> Self {
        self.call_bytes = bytes;
        self
    }

    /// Lines written to the app's log, those of its standard streams included. Default 1,000. One
    /// line says that there were more; the rest is dropped.
    pub fn log_lines(mut self, count: u32) -> Self {
        self.log_lines = count;
        self
    }

    /// Bytes of the lines written to the app's log. Default 1 MiB. One line says that there were
    /// more; the rest is dropped. Of each line 8 KiB are kept.
    pub fn log_bytes(mut self, bytes: usize) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// Jobs it may enqueue, all its checkpoints together. Default 10,000. Further ones are refused with
    /// the code `limit`.
    pub fn jobs(mut self, count: u64) -> Self {
        self.jobs = count;
        self
    }

    /// Bytes of the jobs it may enqueue, all its checkpoints together: names, args and options.
    /// Default 16 MiB. Further ones are refused with the code `limit`.
    pub fn job_bytes(mut self, bytes: usize) -> Self {
        self.job_bytes = bytes;
        self
    }

    /// Bytes of state that it may keep for one organization between its jobs, keys included. Default
    /// 64 KiB. A value that would be more is refused with the code `limit`.
    pub fn state_bytes(mut self, bytes: usize) -> Self {
        self.state_bytes = bytes;
        self
    }

    /// All limits, by the names they have in a grant written as JSON. `write_lock_ms` is among them
    /// only where it is set.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FIELDS.iter().filter_map(|field| Some((field.name, (field.get)(self)?)))
    }

    /// The same with one limit set, by its name in a grant written as JSON. `None` when there is no
    /// limit of this name.
    pub(crate) fn with(self, name: &str, value: u64) -> Option<Self> {
        let field = FIELDS.iter().find(|field| field.name == name)?;
        Some((field.set)(self, value))
    }
}

/// One limit, with its name in a written grant.
struct Field {
    name: &'static str,
    get: fn(&Limits) -> Option<u64>,
    set: fn(Limits, u64) -> Limits,
}

/// Every limit. Reading a grant and printing it both go by this list alone.
const FIELDS: [Field; 18] = [
    Field {
        name: "time_ms",
        get: |limits| Some(millis(limits.time)),
        set: |limits, value| limits.time(Duration::from_millis(value)),
    },
    Field {
        name: "memory_bytes",
        get: |limits| Some(wide(limits.memory_bytes)),
        set: |limits, value| limits.memory_bytes(narrow(value)),
    },
    Field {
        name: "sql_memory_bytes",
        get: |limits| Some(wide(limits.sql_memory_bytes)),
        set: |limits, value| limits.sql_memory_bytes(narrow(value)),
    },
    Field {
        name: "chunk_bytes",
        get: |limits| Some(wide(limits.chunk_bytes)),
        set: |limits, value| limits.chunk_bytes(narrow(value)),
    },
    Field {
        name: "statements",
        get: |limits| Some(limits.statements),
        set: |limits, value| limits.statements(value),
    },
    Field {
        name: "transaction_bytes",
        get: |limits| Some(limits.transaction_bytes),
        set: |limits, value| limits.transaction_bytes(value),
    },
    Field {
        name: "growth_bytes",
        get: |limits| Some(limits.growth_bytes),
        set: |limits, value| limits.growth_bytes(value),
    },
    Field {
        name: "audit_rows",
        get: |limits| Some(limits.audit_rows),
        set: |limits, value| limits.audit_rows(value),
    },
    Field {
        name: "audit_bytes",
        get: |limits| Some(limits.audit_bytes),
        set: |limits, value| limits.audit_bytes(value),
    },
    Field {
        name: "events",
        get: |limits| Some(wide(limits.events)),
        set: |limits, value| limits.events(narrow(value)),
    },
    Field {
        name: "event_bytes",
        get: |limits| Some(wide(limits.event_bytes)),
        set: |limits, value| limits.event_bytes(narrow(value)),
    },
    Field {
        name: "call_bytes",
        get: |limits| Some(wide(limits.call_bytes)),
        set: |limits, value| limits.call_bytes(narrow(value)),
    },
    Field {
        name: "log_lines",
        get: |limits| Some(limits.log_lines.into()),
        set: |limits, value| limits.log_lines(u32::try_from(value).unwrap_or(u32::MAX)),
    },
    Field {
        name: "log_bytes",
        get: |limits| Some(wide(limits.log_bytes)),
        set: |limits, value| limits.log_bytes(narrow(value)),
    },
    Field {
        name: "jobs",
        get: |limits| Some(limits.jobs),
        set: |limits, value| limits.jobs(value),
    },
    Field {
        name: "job_bytes",
        get: |limits| Some(wide(limits.job_bytes)),
        set: |limits, value| limits.job_bytes(narrow(value)),
    },
    Field {
        name: "state_bytes",
        get: |limits| Some(wide(limits.state_bytes)),
        set: |limits, value| limits.state_bytes(narrow(value)),
    },
    Field {
        name: "write_lock_ms",
        get: |limits| limits.write_lock.map(millis),
        set: |limits, value| limits.write_lock(Duration::from_millis(value)),
    },
];

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_set_by_its_name_and_by_no_other() {
        for field in &FIELDS {
            let defaults = Limits::new();
            let set = Limits::new().with(field.name, 77);
            let changed: Vec<_> = set
                .iter()
                .flat_map(Limits::all)
                .filter(|limit| !defaults.all().any(|other| other == *limit))
                .collect();
            assert_eq!(changed, [(field.name, 77)]);
        }
        assert_eq!(Limits::new().with("time", 1), None);
    }
}
