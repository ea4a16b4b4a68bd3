//! The SQLite file: how it is opened, what its schema is, who may do what on a connection.

mod confine;
mod error;
mod guard;
mod judge;
mod location;
mod migrate;
mod presence;

pub use error::{StoreError, StoreErrorKind};
pub(crate) use error::{Doing, advice, kind_of};
pub(crate) use guard::{Leash, WorkConnection};
pub use location::Durability;
pub(crate) use location::{ConnectionSetup, Location};
pub(crate) use migrate::{MigrationSet, check, migrate};
pub use migrate::MigrationError;
pub(crate) use presence::Presence;
