//! The façade: one Verger on one database.

mod audit;
mod bulk;
#[cfg(feature = "wasm")]
mod consent;
mod doctor;
mod enqueue;
mod events;
mod history;
mod jobs;
mod perform;
mod plugins;
mod queues;
mod register_schedules;
mod run_due;
mod schedules;
mod settings;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use crate::builder::Builder;
use crate::engine::{self, Engine, LoopError, TickLoop, TickReport};
use crate::error::Error;
use crate::event::Subscription;
use crate::store::{self, Location, MigrationSet, StoreContext};
use crate::time::Timestamp;

pub use perform::Performance;
pub use run_due::DueReport;

/// A durable job queue with schedules, workers and an audit log, in one SQLite database.
///
/// It is `Send + Sync`; clones are cheap and stand for the same Verger. See the [crate's
/// page](crate) for how to begin.
#[derive(Clone)]
pub struct Verger {
    pub(crate) inner: Arc<Engine>,
}

impl fmt::Debug for Verger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Verger {
    /// Begins to open the database at this path. It is made if it is not there. A relative path is
    /// resolved against the working directory at [`open`](Builder::open), and symbolic links are
    /// followed then. A small lock file beside it, `…-verger`, shows which processes have the file
    /// open.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(Location::of_file(path.as_ref()))
    }

    /// Begins to open a fresh database in memory, for tests. It is gone with its last clone.
    ///
    /// Its connections lock each other out, as those of a file without WAL do: while a worker's
    /// transaction is open, reads from elsewhere wait for it.
    pub fn in_memory() -> Builder {
        Builder::new(Location::memory())
    }

    /// Whether this build can run workers as WebAssembly components.
    #[must_use]
    pub fn wasm_available() -> bool {
        cfg!(feature = "wasm")
    }

    /// Makes one pass at this instant: fires due schedules, takes back lost jobs, performs due
    /// jobs, prunes. A pass works for about a second at most. [`TickReport::next_wake_at`] says
    /// when to come again.
    ///
    /// Workers' clocks read this instant and go on from there. A failed job is no error of the
    /// tick; it is in the report.
    ///
    /// ```
    /// use verger::NewJob;
    ///
    /// let verger = verger::testing::example();
    /// verger.enqueue(NewJob::new("send-mail", serde_json::json!({"to": "ann@example.org"})))?;
    /// let report = verger.tick(verger.now())?;
    /// assert_eq!(report.attempts.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read or written.
    pub fn tick(&self, now: impl Into<Timestamp>) -> Result<TickReport, Error> {
        Ok(engine::tick(&self.inner, now.into())?)
    }

    /// Starts the loop. One thread fires schedules, takes lost jobs back and prunes, and sleeps at
    /// next to no cost otherwise. While jobs are due, further threads perform them.
    ///
    /// Queues do not wait for each other, as long as [`Builder::threads`](crate::Builder::threads)
    /// allows each its threads: one by default, or as many as
    /// [`Queue::concurrency`](crate::Queue::concurrency) says. Beyond that the queues take turns of
    /// some milliseconds, or of one job if it lasts longer. Three turns of four go by the priority
    /// of the queue's next job, and one by how long the queue has waited. Within a queue jobs go by
    /// priority, due time and id, whichever thread performs them. A job waits only for those before
    /// it.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let verger = verger::testing::example();
    /// let ticking = verger.start()?;
    /// // … the app runs; when it ends:
    /// ticking.stop(Duration::from_secs(2))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`LoopError::Thread`] when the operating system gives no thread.
    pub fn start(&self) -> Result<TickLoop, LoopError> {
        engine::start(&self.inner)
    }

    /// Receives what workers publish from now on.
    ///
    /// ```
    /// let verger = verger::testing::example();
    /// let messages = verger.subscribe();
    /// assert!(messages.try_next().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.inner.services.bus.subscribe()
    }

    /// Makes the reference tables that the built-in workers serve by default, where they do not
    /// exist yet.
    ///
    /// # Errors
    /// [`Error::Migration`] when the file's tables are newer than this build, or cannot be made.
    pub fn migrate_reference(&self) -> Result<(), Error> {
        store::migrate(self.inner.front().raw(), &MigrationSet::REFERENCE, self.inner.clock.now())?;
        Ok(())
    }

    /// The clock this Verger was given.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// Makes a connection of the app's wait for the write lock as Verger's own do. It looks every 2
    /// ms whether the lock is free, for up to 10 s. A sweep that holds the lock, in any process,
    /// notices that and makes room. This replaces the connection's busy handler or busy timeout.
    /// Connections from [`connect`](Self::connect) already wait like this.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.db");
    /// let verger = verger::Verger::builder(&path).open()?;
    /// let app = verger::rusqlite::Connection::open(&path)?;
    /// verger.cooperate(&app)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when SQLite has no memory left.
    pub fn cooperate(&self, connection: &Connection) -> Result<(), Error> {
        let location = &self.inner.connector.location;
        Ok(location.wait_fairly(connection).doing("install a busy handler")?)
    }

    /// Opens another connection to the same database, for the app's own reads and writes. It is the
    /// only way to reach a database in memory.
    ///
    /// # Errors
    /// [`Error::Store`] when it cannot be opened.
    pub fn connect(&self) -> Result<Connection, Error> {
        Ok(self.inner.connector.connect()?.into_raw())
    }
}
