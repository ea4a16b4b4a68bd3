//! The same queue, schedules and audit log on PostgreSQL, for services with many nodes, feature
//! `postgres`.
//!
//! A [`Verger`] here has the calls of [`crate::Verger`]. It opens `postgres://…` instead of a path,
//! and any number of processes open the same database. Its workers are the app's own
//! ([`Builder::worker`]), or WebAssembly components ([`Builder::component`]), each of which the
//! server confines by a login role.
//!
//! ```no_run
//! use verger::NewJob;
//! use verger::postgres::Verger;
//! # use verger::verger_worker::prelude::*;
//! # struct SendMail;
//! # impl Worker for SendMail {
//! #     fn manifest(&self) -> Manifest { Manifest::new("send-mail", "1.0.0") }
//! #     fn perform(&self, _: &Context<'_>, _: Option<&Scope>, _: &Args) -> Result<Outcome, WorkerError> { Ok(Outcome::Done) }
//! # }
//!
//! let verger = Verger::builder("postgres://app@localhost/app").worker(SendMail).open()?;
//! let working = verger.start()?;
//! verger.enqueue(NewJob::new("send-mail", serde_json::json!({"to": "ann@example.org"})))?;
//! // Any client does the same inside its own transaction:
//! //     SELECT verger.enqueue('send-mail', '{"to": "ann@example.org"}')
//! working.stop(std::time::Duration::from_secs(5))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Design
//! What has no place in a database is shared with the other store: the checks of a job, the rules
//! of schedules, what becomes of an attempt, the hash of an audit row. The SQL of each store is its
//! own, and all of this store's is in this room. The `postgres` crate runs an async runtime inside
//! and panics on a thread that runs another. So the app's calls are made on threads of ours, and an
//! app may call from async code, where a call blocks as any other does.

mod address;
mod attempt;
mod audit;
mod builder;
mod cancel;
mod claim;
mod claims;
mod clock_offset;
#[cfg(feature = "wasm")]
mod components;
mod events;
mod executor;
mod failure;
#[cfg_attr(
    not(feature = "wasm"),
    allow(dead_code, unused_imports, reason = "only components are guests")
)]
mod guests;
mod jobs;
mod keeper;
mod kinds;
mod migrate;
mod moving;
mod node;
mod pool;
mod presence;
mod prune;
mod queues;
mod random;
mod rescue;
mod run;
mod schedules;
mod session;
mod slots;
mod sql_pieces;
mod sql_text;
mod state;
#[cfg(feature = "wasm")]
mod statement_check;
mod tick;
mod transition;
mod values;
mod verger;

/// The SQL of the tables that the built-in workers serve by default, for the migrations of an app
/// that has none of its own. It makes what is not there.
pub const REFERENCE_TABLES: &str = include_str!("../../migrations/postgres/reference.sql");

pub use builder::Builder;
pub use moving::{Move, MoveError, Moved};
pub use pool::Working;
#[cfg(feature = "wasm")]
pub use statement_check::{OtherOrder, StatementCheck, StatementRefusal};
pub use verger::Verger;
