//! Write background workers for [Verger](https://docs.rs/verger): one trait, [`Worker`], that runs
//! as a sandboxed WebAssembly component, as plain Rust inside an app, and in a unit test.
//!
//! ```
//! use verger_worker::prelude::*;
//!
//! struct CloseStaleOrders;
//!
//! impl Worker for CloseStaleOrders {
//!     fn manifest(&self) -> Manifest {
//!         Manifest::new("close-stale-orders", "1.0.0")
//!             .arg("days", ArgSpec::default_value(30))
//!             .table(TableAsk::named("orders").read().update())
//!     }
//!
//!     fn perform(&self, job: &Context<'_>, _scope: Option<&Scope>, args: &Args) -> Result<Outcome, WorkerError> {
//!         let days: i64 = args.get("days")?;
//!         let closed = job.execute(
//!             "UPDATE orders SET state = 'closed' WHERE state = 'open' AND opened_at < ?1",
//!             params![job.now() - days * 86_400_000],
//!         )?;
//!         job.audit(AuditEvent::success("orders.closed").metadata(json!({ "closed": closed })))?;
//!         Ok(Outcome::DoneWith(json!({ "closed": closed })))
//!     }
//! }
//!
//! verger_worker::export!(CloseStaleOrders); // the component's exports; nothing outside WebAssembly
//! # fn main() {}
//! ```

mod aged;
mod args;
mod audit;
mod capabilities;
mod context;
mod error;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod guest;
mod host;
mod ident;
mod manifest;
mod new_job;
mod outcome;
mod scope;
mod sweep;
#[cfg(all(feature = "testing", not(target_family = "wasm")))]
pub mod testing;
mod timestamps;
mod value;
mod worker;

pub use aged::{AgedAudit, AgedRows, AgedSweep, AgedTally};
pub use args::{ArgError, Args, MissingArg, fetch_arg};
pub use audit::{AuditEvent, AuditFault, EventOutcome, METADATA_MAX_BYTES};
pub use capabilities::{Email, EmailOutcome, HttpRequest, HttpResponse};
pub use context::{Context, Cursor, Rows, Savepoint};
pub use error::{HostError, WorkerError, code};
pub use host::{Found, Host, HostCursor, HostSavepoint, JobInfo, LogLevel, Slot};
pub use ident::{Ident, IdentError};
pub use manifest::{
    ArgSpec, ArgType, Manifest, ManifestError, Suggested, TableAsk, TableName, Verb,
};
pub use new_job::{Enqueued, NewJob};
pub use outcome::Outcome;
pub use scope::Scope;
pub use serde_json;
pub use sweep::{Sweeper, Walk};
pub use timestamps::{TimeFormat, TimeFormatError};
pub use value::{FromValue, Row, Value};
pub use worker::Worker;

/// The interface between Verger and its workers, as WIT: the package `verger:worker@0.1.0`.
#[cfg(not(target_family = "wasm"))]
pub const WIT: &str = include_str!("../wit/0.1.0/worker.wit");

/// The world of the same package whose workers migrate args, as WIT. It is a file beside [`WIT`].
#[cfg(not(target_family = "wasm"))]
pub const MIGRATION_WIT: &str = include_str!("../wit/0.1.0/migration.wit");

/// Everything a worker needs, in one import.
pub mod prelude {
    pub use crate::{
        AgedAudit, AgedRows, AgedSweep, AgedTally, ArgError, ArgSpec, ArgType, Args, AuditEvent,
        Context, EventOutcome, HostError, Ident, LogLevel, Manifest, MissingArg, NewJob, Outcome,
        Row, Scope, Suggested, Sweeper, TableAsk, TimeFormat, Value, Walk, Worker, WorkerError,
        fetch_arg, params,
    };
    pub use serde_json::json;
}
