//! Errors a worker meets and errors a worker makes.

use std::fmt;

/// The stable codes of host errors.
pub mod code {
    /// The grant does not cover the action or the object the message names.
    pub const DENIED: &str = "denied";
    /// The SQL is wrong: a syntax error, no such table or column, a parameter too many.
    pub const SQL: &str = "sql";
    /// A constraint or a trigger of the app refused the row.
    pub const CONSTRAINT: &str = "constraint";
    /// A limit of the grant was met: bytes, rows, statements, events, memory.
    pub const LIMIT: &str = "limit";
    /// The time granted is over.
    pub const DEADLINE: &str = "deadline";
    /// Someone asked for the job to stop.
    pub const CANCELLED: &str = "cancelled";
    /// The job was taken over by another claim; nothing of this attempt can commit.
    pub const LEASE_LOST: &str = "lease-lost";
    /// The cursor or savepoint is closed.
    pub const CLOSED: &str = "closed";
    /// An argument of the host call is not usable.
    pub const INVALID: &str = "invalid";
    /// What the attempt had read was changed before it wrote. Return: nothing of it counts, and it is
    /// performed again from its start, at once.
    pub const CONFLICT: &str = "conflict";
    /// The app's function may take long and the attempt holds the write lock: make a checkpoint,
    /// then call it.
    pub const CHECKPOINT_FIRST: &str = "checkpoint-first";
    /// The attempt held the write lock for longer than it may without a checkpoint.
    pub const LOCK_HELD: &str = "lock-held";
    /// The database stayed locked by another process.
    pub const BUSY: &str = "busy";
    /// The database could not be read or written: full disk, I/O error, corruption.
    pub const STORE: &str = "store";
    /// A column holds another type than the one asked for.
    pub const TYPE: &str = "type";
    /// The app's function failed.
    pub const CAPABILITY: &str = "capability";
}

/// A host call was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostError {
    /// A stable word to match on; see [`code`].
    pub code: String,
    /// A sentence for a person, naming the action and the object.
    pub message: String,
}

impl HostError {
    /// An error with a code of [`code`].
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_string(), message: message.into() }
    }

    /// Whether one row's own content was refused, by a constraint, a type or a trigger of the app:
    /// a sweep counts it and goes on. Anything else (a deadline, a full disk, a cancellation)
    /// concerns the whole attempt and must end it.
    #[must_use]
    pub fn concerns_one_row(&self) -> bool {
        matches!(self.code.as_str(), code::CONSTRAINT | code::SQL | code::TYPE)
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl std::error::Error for HostError {}

/// Why an attempt failed, in words. Any error converts into it, so `?` works on all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerError(String);

impl WorkerError {
    /// A failure with this message.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// Not an `Error` itself: that would clash with the conversion from every `Error`.
impl<E: std::error::Error> From<E> for WorkerError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self(message)
    }
}
