//! How connections to the database are opened.

use super::books::BookConnection;
use super::error::{StoreContext, StoreError};
use super::location::{ConnectionSetup, Durability, Location};
use super::work_connection::WorkConnection;

/// Opens connections, each set up as the app asked for.
pub(crate) struct Connector {
    pub(crate) location: Location,
    pub(crate) durability: Durability,
    pub(crate) setup: Option<ConnectionSetup>,
}

impl Connector {
    /// Opens one for the engine's or the app's own statements.
    pub(crate) fn connect(&self) -> Result<BookConnection, StoreError> {
        self.location.connect(self.durability).map(BookConnection::new).doing("open a connection")
    }

    /// Opens one on which workers run, with every wall in place.
    pub(crate) fn for_workers(&self) -> Result<WorkConnection, StoreError> {
        self.open_for_workers().doing("open a connection for a worker")
    }

    /// Opens one on which workers can be confined to a tenant.
    pub(crate) fn for_confined_workers(&self) -> Result<WorkConnection, StoreError> {
        self.open_for_workers()
            .and_then(WorkConnection::confinable)
            .doing("open a connection for a confined worker")
    }

    fn open_for_workers(&self) -> rusqlite::Result<WorkConnection> {
        WorkConnection::open(&self.location, self.durability, self.setup.as_ref())
    }
}
