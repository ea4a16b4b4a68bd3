//! The SQLite file: how it is opened, what its schema is, who may do what on a connection.

mod authorizer;
mod bounded_functions;
mod cache;
mod confinement;
mod error;
mod exclusive;
mod file_identity;
mod file_name;
mod full_text;
mod functions;
mod late_checks;
mod library;
mod location;
mod lock_fairness;
mod migrate;
mod page_count;
mod process_lock;
mod rusqlite_versions;
mod statement_context;
mod statement_cost;
mod temp_space;
mod temp_vfs;
mod tokens;
mod unasked;
mod work_connection;
mod write_transaction;

pub(crate) use error::{StoreContext, advice, is_busy, kind_of};
pub use error::{StoreError, StoreErrorKind};
pub(crate) use exclusive::{Exclusive, prove_exclusive};
pub(crate) use file_identity::FileIdentity;
pub(crate) use file_name::is_open_by_another_name;
pub(crate) use library::unfit;
pub use location::Durability;
pub(crate) use location::{ConnectionSetup, LONG_LOG_BYTES, Location};
pub use migrate::MigrationError;
pub(crate) use migrate::{MigrationSet, check, migrate};
pub(crate) use process_lock::ProcessLock;
pub(crate) use rusqlite_versions::{is_read_only, release_memory};
pub(crate) use statement_cost::StatementCost;
pub(crate) use temp_space::HeldBytes;
pub(crate) use tokens::Tokens;
#[cfg(feature = "wasm")]
pub(crate) use work_connection::tick_clock;
pub(crate) use work_connection::{Overdrawn, StopSignal, WorkConnection};
pub(crate) use write_transaction::{WriteTransaction, step};
