//! What a run takes: memory, pages, and the log it leaves.

use std::sync::Arc;

use super::WorkConnection;
use super::handlers::memory_used;
use crate::clock::Clock;
use crate::store::location::LONG_LOG_BYTES;
use crate::store::stop_signal::StopSignal;
use crate::store::temp_space::{HeldBytes, TempSpace};

pub(super) const FOLD_BESIDE_WRITERS: u32 = 600;

impl WorkConnection {
    /// Whether the database has a write-ahead log, as far as is known. If so, readers and a writer
    /// do not wait for each other.
    pub(crate) fn has_log(&self) -> bool {
        self.has_log.get()
    }

    /// Begins a run: until when waiting and stepping may last, and the clock its SQL reads.
    pub(crate) fn run_begins(&self, stop_signal: StopSignal, clock: Arc<dyn Clock>) {
        let mut state = self.handlers.state();
        state.stop_signal = Some(stop_signal);
        state.temp_space = Some(TempSpace::new(clock));
        state.memory = memory_used();
    }

    /// Counts what a run holds besides SQLite with what its SQL takes. `None` between runs.
    pub(crate) fn hold(&self) -> Option<HeldBytes> {
        self.handlers.state().temp_space.clone().map(HeldBytes::of)
    }

    /// Whether the SQL of the present run takes more memory than this, together with what the run
    /// holds.
    pub(crate) fn takes_more_than(&self, bytes: usize) -> bool {
        self.handlers.state().taken() > bytes
    }

    pub(crate) fn run_ends(&self) -> rusqlite::Result<()> {
        let mut state = self.handlers.state();
        (state.stop_signal, state.temp_space) = (None, None);
        state.may_write = u64::MAX;
        drop(state);
        self.engine(|connection| self.cache.restore(connection))
    }

    /// Bytes of pages that this connection wrote since it was opened, to the log or to the file.
    /// Pages that still wait in its cache do not count.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.handlers.pages.bytes_written()
    }

    /// Ends a worker's statement when the connection has written more than this in all.
    pub(crate) fn may_write(&self, bytes: u64) {
        self.handlers.state().may_write = bytes;
    }

    /// Bytes of the pages that are in use in the database, as this transaction sees it.
    pub(crate) fn bytes_in_use(&self) -> rusqlite::Result<u64> {
        self.engine(|connection| self.handlers.pages.bytes_in_use(connection))
    }

    /// Gives back what the write-ahead log takes on the disk beyond its usual size. It folds the
    /// log into the file and cuts it, when nobody else reads or writes. Cutting holds the write
    /// lock, and some disks take a second for it. So while others write, the log stays as it is
    /// until [`settle_log`](Self::settle_log).
    pub(crate) fn shorten_log(&self) -> rusqlite::Result<()> {
        let is_long = self.has_long_log();
        self.owes_log.set(is_long && self.holding.others_write_now());
        if !is_long || self.owes_log.get() {
            return Ok(());
        }
        self.handlers.state().is_impatient = true;
        let done = self.engine(|connection| {
            // The folding waits for the disk too. It goes first, by itself, because it keeps nobody
            // from writing. What is written meanwhile stays.
            let is_folded: bool = connection
                .prepare_cached("PRAGMA main.wal_checkpoint(PASSIVE)")?
                .query_row([], |row| Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?))?;
            match is_folded {
                true => connection
                    .prepare_cached("PRAGMA main.wal_checkpoint(TRUNCATE)")?
                    .query_row([], |_| Ok(())),
                false => Ok(()),
            }
        });
        self.handlers.state().is_impatient = false;
        done
    }

    /// Cuts the log that was left long for others, if they write no more. If that fails it stays
    /// long, until whoever uses it from its start cuts it.
    pub(crate) fn settle_log(&self) {
        if self.owes_log.get() {
            self.look_for_others();
            let _ = self.shorten_log();
        }
    }

    fn has_long_log(&self) -> bool {
        let log = self.log.as_ref().and_then(|log| std::fs::metadata(log).ok());
        log.is_some_and(|log| log.len() > LONG_LOG_BYTES)
    }
}
