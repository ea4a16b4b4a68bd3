//! What a commit of anyone leaves, for a loop that hears no bell when another process, or the app itself, commits.

use std::time::Duration;

use rusqlite::Connection;

use crate::verger::Inner;

/// Asks SQLite for its data version, which every commit changes that another connection makes. See sqlite.org/pragma.html.
///
/// The size and the time of the file tell less: two commits within a tick of the kernel's clock can leave the same.
pub(super) struct Traces {
    connection: Option<Connection>,
    seen: Option<i64>,
}

impl Traces {
    pub(super) fn of(inner: &Inner) -> Self {
        let connection = inner.location.connect(inner.durability).and_then(|connection| {
            // Where the file is locked, the next look will tell.
            connection.busy_timeout(Duration::ZERO)?;
            Ok(connection)
        });
        let connection = connection.inspect_err(|error| tracing::warn!(%error, "commits of others will be noticed late")).ok();
        Self { connection, seen: None }
    }

    fn look(&self) -> Option<i64> {
        let connection = self.connection.as_ref()?;
        connection.prepare_cached("PRAGMA data_version").and_then(|mut look| look.query_row([], |row| row.get(0))).ok()
    }

    /// Before a tick: what it commits itself makes one more look, and no more.
    pub(super) fn remember(&mut self) {
        self.seen = self.look().or(self.seen);
    }

    /// Whether anything was committed since.
    pub(super) fn changed(&mut self) -> bool {
        let before = self.seen;
        self.remember();
        self.seen != before
    }
}
