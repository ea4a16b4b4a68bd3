//! The page cache of a connection that workers use. Its size also bounds how much is sorted at
//! once.
//!
//! SQLite fills memory up to the cache's size, sorts that in one step that cannot be interrupted,
//! writes it to a temporary file and goes on. Batched sweeps need a large cache. A statement that
//! sorts gets a small one, for the rest of its run too.

use std::cell::Cell;

use rusqlite::Connection;

/// KiB of pages kept in memory, for batched sweeps.
pub(super) const CACHE_KIB: u32 = 32 << 10;

/// KiB sorted in one step: some 10 ms.
const SORTED_AT_ONCE_KIB: u32 = 2 << 10;

/// Whether the cache is small now.
#[derive(Default)]
pub(super) struct Cache(Cell<bool>);

impl Cache {
    pub(super) fn make_small(&self, connection: &Connection) -> rusqlite::Result<()> {
        if !self.0.get() {
            set(connection, SORTED_AT_ONCE_KIB)?;
            self.0.set(true);
        }
        Ok(())
    }

    /// Makes the cache large again at the end of a run.
    pub(super) fn restore(&self, connection: &Connection) -> rusqlite::Result<()> {
        if self.0.take() { set(connection, CACHE_KIB) } else { Ok(()) }
    }
}

/// When the cache shrinks, pages that were only read leave it. Changed pages stay in memory until
/// there are too many of them.
fn set(connection: &Connection, kib: u32) -> rusqlite::Result<()> {
    connection
        .execute_batch(&format!("PRAGMA cache_size = -{kib}; PRAGMA cache_spill = -{CACHE_KIB}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_small_for_the_rest_of_a_run() {
        let connection = Connection::open_in_memory().unwrap();
        let size =
            || connection.query_row("PRAGMA cache_size", [], |row| row.get::<_, i64>(0)).unwrap();
        let cache = Cache::default();
        cache.make_small(&connection).unwrap();
        assert_eq!(size(), -2_048);
        cache.restore(&connection).unwrap();
        assert_eq!(size(), -32_768);
    }
}
