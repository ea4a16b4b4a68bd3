//! Errors a worker meets and errors a worker makes.

use std::fmt;

use crate::args::{ArgError, MissingArg};
use crate::manifest::ManifestError;

/// The stable codes of host errors, as the WIT lists them at `error.code`.
pub mod code {
    /// A constraint or a trigger of the app refused the row.
    pub const CONSTRAINT: &str = "constraint";
    /// A value has another type than the one asked for.
    pub const TYPE: &str = "type";
    /// The statement is right, and failed on these values.
    pub const ROW: &str = "row";
    /// The statement cannot be prepared: a syntax error, an unknown table or column, or a wrong
    /// number of parameters.
    pub const SQL: &str = "sql";
    /// The grant does not cover the action or the object the message names.
    pub const DENIED: &str = "denied";
    /// An argument of the host call is not usable.
    pub const INVALID: &str = "invalid";
    /// The cursor or savepoint is closed.
    pub const CLOSED: &str = "closed";
    /// The app's function failed, or there is none of that name.
    pub const CAPABILITY: &str = "capability";
    /// The app's function may take long and the attempt holds the write lock: make a checkpoint,
    /// then call it.
    pub const CHECKPOINT_FIRST: &str = "checkpoint-first";
    /// A limit of the grant was reached: bytes, rows, statements, messages, jobs, memory.
    pub const LIMIT: &str = "limit";
    /// The time granted is over.
    pub const DEADLINE: &str = "deadline";
    /// The attempt held the write lock for longer than it may without a checkpoint.
    pub const LOCK_HELD: &str = "lock-held";
    /// Someone asked for the job to stop.
    pub const CANCELLED: &str = "cancelled";
    /// Another claim has taken the job. Nothing of this attempt can commit.
    pub const LEASE_LOST: &str = "lease-lost";
    /// What the attempt had read was changed before it wrote. Return it: nothing of the attempt
    /// counts, and it is performed again from its start, at once.
    pub const CONFLICT: &str = "conflict";
    /// The database stayed locked by another process.
    pub const BUSY: &str = "busy";
    /// The database could not be read or written: full disk, I/O error, corruption.
    pub const STORE: &str = "store";

    /// What an error concerns, which tells a sweep what to do.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Concern {
        /// One row, by its content: count it and go on.
        Row,
        /// The call: it fails the same way for every row.
        Call,
        /// The attempt: return.
        Attempt,
    }

    /// Every code, with what it concerns. A code that is not listed concerns the attempt.
    pub const ALL: [(&str, Concern); 17] = [
        (CONSTRAINT, Concern::Row),
        (TYPE, Concern::Row),
        (ROW, Concern::Row),
        (SQL, Concern::Call),
        (DENIED, Concern::Call),
        (INVALID, Concern::Call),
        (CLOSED, Concern::Call),
        (CAPABILITY, Concern::Call),
        (CHECKPOINT_FIRST, Concern::Call),
        (LIMIT, Concern::Attempt),
        (DEADLINE, Concern::Attempt),
        (LOCK_HELD, Concern::Attempt),
        (CANCELLED, Concern::Attempt),
        (LEASE_LOST, Concern::Attempt),
        (CONFLICT, Concern::Attempt),
        (BUSY, Concern::Attempt),
        (STORE, Concern::Attempt),
    ];

    /// The code of a worker's own failure that names none.
    pub const FAILED: &str = "failed";
    /// The code of a job whose args its worker cannot use.
    pub const ARGS: &str = "args";

    /// The longest code of a worker's own, in bytes.
    const OWN_MAX_BYTES: usize = 64;

    /// For hosts: a worker's own code, if it is a word of lower-case letters, digits and `-`, at
    /// most 64 bytes. Otherwise [`FAILED`].
    #[doc(hidden)]
    #[must_use]
    pub fn or_failed(code: &str) -> &str {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match !code.is_empty() && code.len() <= OWN_MAX_BYTES && code.bytes().all(plain) {
            true => code,
            false => FAILED,
        }
    }
}

/// A host call was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostError {
    /// A stable word to match on. See [`code`].
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

    /// What it concerns: a row, the call, or the attempt.
    #[must_use]
    pub fn concern(&self) -> code::Concern {
        let known = code::ALL.iter().find(|(code, _)| *code == self.code);
        known.map_or(code::Concern::Attempt, |(_, concern)| *concern)
    }

    /// Whether one row's own content was refused, by a constraint, a type, a trigger of the app, or
    /// a value no statement can work with. A sweep counts it and goes on. Anything else (a
    /// misspelled column, a deadline, a full disk, a cancellation) must end the attempt.
    #[must_use]
    pub fn concerns_one_row(&self) -> bool {
        self.concern() == code::Concern::Row
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl std::error::Error for HostError {}

/// Why an attempt failed. Any error converts into it, so `?` works on all of them. An error of the
/// host keeps its code, also as a cause. Missing or mistyped args discard the job (see
/// [`discard`](Self::discard)), because they will be no better the next time.
///
/// ```
/// use verger_worker::{HostError, MissingArg, WorkerError, code};
///
/// let handed_on = WorkerError::from(HostError::new(code::DENIED, "read denied: table users"));
/// assert_eq!((handed_on.code(), handed_on.is_final()), ("denied", false));
/// let hopeless = WorkerError::from(MissingArg { key: "days".to_string() });
/// assert_eq!((hopeless.code(), hopeless.is_final()), ("args", true));
/// let own = WorkerError::new("the feed has no entries").with_code("empty-feed").discard();
/// assert_eq!((own.code(), own.message(), own.is_final()), ("empty-feed", "the feed has no entries", true));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerError {
    error: HostError,
    is_final: bool,
}

impl WorkerError {
    /// A failure with this message and the code `failed`.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { error: HostError::new(code::FAILED, message), is_final: false }
    }

    /// Gives it a code of the worker's own: lower-case letters, digits and `-`, at most 64 bytes.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        self.error.code = code::or_failed(code).to_string();
        self
    }

    /// Makes it final: the job is discarded and not tried again.
    #[must_use]
    pub fn discard(mut self) -> Self {
        self.is_final = true;
        self
    }

    /// A stable word to match on.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.error.code
    }

    /// A sentence for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.error.message
    }

    /// Whether the job is not to be tried again.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.is_final
    }

    /// For hosts: its code and its message.
    #[doc(hidden)]
    #[must_use]
    pub fn into_error(self) -> HostError {
        self.error
    }
}

/// The message for a person, followed by the code of a host's error.
impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            code::FAILED | code::ARGS => f.write_str(&self.error.message),
            _ => self.error.fmt(f),
        }
    }
}

// It is no `Error` itself, which would clash with the conversion from every `Error`.
impl<E: std::error::Error + 'static> From<E> for WorkerError {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

impl WorkerError {
    /// Not generic, so that a component has it once, however many kinds of errors its worker meets.
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        if let Some(error) = error.downcast_ref::<HostError>() {
            return Self { error: error.clone(), is_final: false };
        }
        let mut message = error.to_string();
        let mut known = kind(error);
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            known = known.or_else(|| kind(cause));
            source = cause.source();
        }
        let (code, is_final) = known.unwrap_or((code::FAILED.to_string(), false));
        Self { error: HostError { code, message }, is_final }
    }
}

/// The code of an error that has one, and whether it is final.
fn kind(error: &(dyn std::error::Error + 'static)) -> Option<(String, bool)> {
    if let Some(error) = error.downcast_ref::<HostError>() {
        return Some((error.code.clone(), false));
    }
    let lacks = error.downcast_ref::<ManifestError>().is_some_and(ManifestError::is_of_args);
    let is_of_args = lacks || error.is::<ArgError>() || error.is::<MissingArg>();
    is_of_args.then(|| (code::ARGS.to_string(), true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Wrapped(HostError);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the totals cannot be written")
        }
    }

    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_of_the_host_keeps_its_code_however_deep_it_is() {
        let error = WorkerError::from(Wrapped(HostError::new(code::CONSTRAINT, "NOT NULL")));
        assert_eq!(error.code(), code::CONSTRAINT);
        assert_eq!(error.message(), "the totals cannot be written: NOT NULL [constraint]");
        assert!(!error.is_final());
    }

    #[test]
    fn a_code_is_a_word_or_it_is_failed() {
        for (given, kept) in [
            ("empty-feed", "empty-feed"),
            ("a1", "a1"),
            ("", code::FAILED),
            ("Two words", code::FAILED),
            ("\u{1b}[31m", code::FAILED),
            (&"a".repeat(65), code::FAILED),
        ] {
            assert_eq!(WorkerError::new("x").with_code(given).code(), kept, "{given:?}");
        }
    }

    #[test]
    fn what_is_not_listed_concerns_the_attempt() {
        for (code, concern) in code::ALL {
            assert_eq!(HostError::new(code, "").concern(), concern);
        }
        assert_eq!(HostError::new("later", "").concern(), code::Concern::Attempt);
        assert!(!HostError::new(code::SQL, "").concerns_one_row());
        assert!(HostError::new(code::ROW, "").concerns_one_row());
    }
}
