//! The audit log: rows that are only ever added, each chained to the one before.

mod chain;
mod read;
mod record;
mod retention;

pub(crate) use chain::verify;
pub use chain::{ChainError, Verified};
pub(crate) use read::list;
pub use read::{AuditFilter, AuditRow};
pub(crate) use record::{Log, Stamp, Who};
pub(crate) use retention::{PRUNE, PRUNER, prune};
