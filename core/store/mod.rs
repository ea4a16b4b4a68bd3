//! The SQLite file: how it is opened, what its schema is, who may do what on a connection.

mod cache;
mod confine;
mod error;
mod functions;
mod guard;
mod judge;
mod like;
mod location;
mod migrate;
mod place;
mod presence;
mod program;
mod scratch;
mod turn;
mod vfs;

pub(crate) use error::{Doing, advice, kind_of};
pub use error::{StoreError, StoreErrorKind};
#[cfg(feature = "wasm")]
pub(crate) use guard::tick_clock;
pub(crate) use guard::{Leash, WorkConnection};
pub use location::Durability;
pub(crate) use location::{ConnectionSetup, Location};
pub use migrate::MigrationError;
pub(crate) use migrate::{MigrationSet, check, migrate};
pub(crate) use place::Place;
pub(crate) use presence::Presence;
pub(crate) use program::Program;
