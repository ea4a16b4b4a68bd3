//! What is wrong with a database, and the command that mends each problem.
//!
//! Nothing here stops at what it cannot read: that becomes a finding, and the next check goes on.

#[cfg(feature = "wasm")]
mod cache;
mod clock;
mod contents;
mod diagnosis;
mod examination;
mod facts;
mod file;
mod finding;
mod fix;
mod jobs;
mod litestream;
mod queues;
mod schedules;
mod schema;
mod settings;

pub use diagnosis::{Diagnosis, Doctor};
pub(crate) use diagnosis::{Known, examine_connection};
pub use facts::{CacheFacts, Facts, TableFacts};
pub use finding::{Finding, Fix, Severity};
pub use fix::Fixed;
