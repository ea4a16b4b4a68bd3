//! The audit log: rows that are only ever added, each chained to the one before.
//!
//! Three things account for the rows there are. Each row's hash covers the row before it. The
//! anchor holds the last row that retention removed. The head holds the newest row, and is written
//! with it in one transaction. Triggers let anchor and head move forward only. So an edit by hand
//! shows, wherever in the log it was made.
//!
//! There is no key. Whoever may write to the file, drops the triggers and computes the hashes as
//! this code does can make a log that verifies, shorter than it was or different. Only a copy that
//! is kept where they cannot write helps against that.

mod books;
mod chain;
mod read;
mod record;
mod retention;

pub use chain::{ChainError, Verified};
#[cfg(feature = "postgres")]
pub(crate) use chain::{Chained, Hash};
pub(crate) use chain::{SEAL, seal};
pub use read::{AuditFilter, AuditRow};
#[cfg(feature = "postgres")]
pub(crate) use record::row_hash;
pub(crate) use record::{Log, Stamp, Who};
pub(crate) use retention::{PRUNE, PRUNER};
