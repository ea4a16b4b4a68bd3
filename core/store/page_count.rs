//! How much a connection wrote, and how large its database is.

use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use rusqlite::{Connection, ffi};

/// Counts the pages of one connection.
pub(super) struct PageCount {
    /// The handle of the connection, for its counters.
    handle: AtomicPtr<ffi::sqlite3>,
    page_bytes: AtomicU64,
}

impl PageCount {
    #[allow(
        unsafe_code,
        reason = "the handle is kept for the progress handler, which has no other"
    )]
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        // SAFETY: the handle is only read. The count lives no longer than the connection it is part
        // of.
        let handle = unsafe { connection.handle() };
        let page_bytes = connection.query_row("PRAGMA page_size", [], |row| {
            let answer = row.get_ref(0)?;
            // SQLCipher answers with a text.
            let digits = answer.as_str().ok().and_then(|digits| digits.parse().ok());
            digits.map_or_else(|| Ok(answer.as_i64()?), Ok)
        })?;
        Ok(Self {
            handle: AtomicPtr::new(handle),
            page_bytes: AtomicU64::new(page_bytes.unsigned_abs()),
        })
    }

    /// Bytes of pages that were written since the connection was opened, to the log or to the file.
    /// Pages that still wait in the cache do not count.
    pub(super) fn bytes_written(&self) -> u64 {
        let (mut pages, mut highest) = (0, 0);
        // SAFETY: it reads counters of an open connection, on the thread that uses it. A progress
        // handler may do so.
        #[allow(unsafe_code, reason = "rusqlite has no form of it")]
        unsafe {
            ffi::sqlite3_db_status(
                self.handle.load(Ordering::Relaxed),
                ffi::SQLITE_DBSTATUS_CACHE_WRITE,
                &raw mut pages,
                &raw mut highest,
                0,
            )
        };
        u64::from(pages.unsigned_abs()) * self.page_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the pages that are in use, as the open transaction sees them.
    pub(super) fn bytes_in_use(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let pages = |sql| -> rusqlite::Result<u64> {
            let pages: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            Ok(pages.unsigned_abs())
        };
        let (all, free) = (pages("PRAGMA main.page_count")?, pages("PRAGMA main.freelist_count")?);
        Ok(all.saturating_sub(free) * self.page_bytes.load(Ordering::Relaxed))
    }
}
