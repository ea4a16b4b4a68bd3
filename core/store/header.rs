//! The first bytes of a database, read through SQLite's own file.
//!
//! Reading them by a descriptor of our own would drop SQLite's locks when it is closed.

use std::ffi::c_void;
use std::path::Path;

use rusqlite::{Connection, ffi};

use super::location::{Location, log_of};
use crate::store::Durability;

/// Bytes of the header that SQLite writes.
const HEADER_BYTES: usize = 100;

/// Where the header says which kind of log the file has: 2 for a write-ahead log.
const READ_VERSION_AT: usize = 19;

/// Whether a file keeps its transactions in a write-ahead log.
pub(crate) fn is_wal(path: &Path) -> rusqlite::Result<bool> {
    let frozen = Location::frozen(path).connect(Durability::Normal)?;
    Ok(read(&frozen).is_some_and(|header| header.get(READ_VERSION_AT) == Some(&2)))
}

impl Location {
    /// Opens a file to look at it, and leaves nothing beside it. A file that nobody has open is
    /// opened as immutable, because otherwise SQLite would make the files of its log.
    pub(crate) fn look(path: &Path) -> rusqlite::Result<Connection> {
        let is_settled = !log_of(path).exists();
        let look = match is_settled && is_wal(path)? {
            true => Self::frozen(path),
            false => Self::of_file(path).into_read_only(),
        };
        look.connect(Durability::Normal)
    }
}

#[allow(unsafe_code, reason = "rusqlite has no form of it")]
fn read(connection: &Connection) -> Option<[u8; HEADER_BYTES]> {
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    let mut header = [0_u8; HEADER_BYTES];
    let length = i32::try_from(HEADER_BYTES).ok()?;
    // SAFETY: the connection is open and this thread's; SQLite writes the pointer of its file, which
    // lives as long as the connection, and its method reads no more than it is told into the array.
    let read = unsafe {
        let asked = ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast::<c_void>(),
        );
        if asked != ffi::SQLITE_OK || file.is_null() || (*file).pMethods.is_null() {
            return None;
        }
        let method = (*(*file).pMethods).xRead?;
        method(file, header.as_mut_ptr().cast::<c_void>(), length, 0)
    };
    (read == ffi::SQLITE_OK).then_some(header)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn looking_leaves_nothing_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, expected) in [("wal", true), ("delete", false)] {
            let path = folder.path().join(mode);
            let made = Connection::open(&path).unwrap();
            made.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(())).unwrap();
            made.execute_batch("CREATE TABLE t (n)").unwrap();
            drop(made);
            assert_eq!(is_wal(&path), Ok(expected));
            let look = Location::look(&path).unwrap();
            look.query_row("SELECT count(*) FROM t", [], |_| Ok(())).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
