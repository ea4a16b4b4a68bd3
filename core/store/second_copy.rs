//! Whether another copy of SQLite in this process has the file open.
//!
//! SQLite keeps its locks for the process, and knows only of those that it took itself. A second
//! copy, such as one of a library loaded at run time, shares these locks and does not know it. When
//! either copy closes a descriptor of the file, the system drops the locks of both, and the file is
//! damaged (see sqlite.org/howtocorrupt.html). On Windows locks belong to a handle, and nothing is
//! damaged.
//!
//! Only Linux lists its locks, so it shows only there: this process holds a lock on the file, and
//! this copy of SQLite gets the exclusive lock all the same. In WAL mode every connection that has
//! read holds a lock until it closes. A copy that opens the file later is not noticed.

use super::location::Location;

/// Whether another copy has the file open, as far as can be told. No connection of this Verger may
/// be open.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn has_second_copy_open(location: &Location) -> rusqlite::Result<bool> {
    use std::os::unix::fs::MetadataExt;

    use super::exclusive::{Exclusive, prove_exclusive};

    let found = location.file().map(std::fs::metadata);
    let Some(Ok(file)) = found else { return Ok(false) };
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else { return Ok(false) };
    if location.is_read_only() || !is_locked_by(&locks, std::process::id(), file.ino()) {
        return Ok(false);
    }
    // This copy knows its own connections, so it does not get the lock while one is open.
    let Exclusive::Proved(alone) = prove_exclusive(location)? else { return Ok(false) };
    // The copy that held the lock may have closed meanwhile.
    let is_the_file = |descriptor: std::io::Result<std::fs::DirEntry>| {
        descriptor.is_ok_and(|descriptor| {
            std::fs::metadata(descriptor.path())
                .is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
        })
    };
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, |descriptors| {
        descriptors.filter_map(|one| is_the_file(one).then_some(())).count()
    });
    drop(alone);
    Ok(descriptors > 1)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn has_second_copy_open(_: &Location) -> rusqlite::Result<bool> {
    Ok(false)
}

/// Whether the system's list has a lock of this process on the file of this number. SQLite's locks
/// are of the kind POSIX.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_locked_by(locks: &str, process: u32, inode: u64) -> bool {
    locks.lines().any(|line| {
        // 7: POSIX  ADVISORY  READ  4711 fd:01:131099 1073741826 1073742335
        let mut fields = line.split_whitespace().skip(1);
        let kind = fields.next();
        let holder = fields.nth(2).and_then(|field| field.parse().ok());
        let file = fields.next().and_then(|field| field.rsplit(':').next()?.parse().ok());
        (kind, holder, file) == (Some("POSIX"), Some(process), Some(inode))
    })
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    fn a_lock_of_this_process_on_this_file_is_found_in_the_systems_list() {
        let locks = "1: FLOCK  ADVISORY  WRITE 812 00:1a:77 0 EOF\n\
                     2: POSIX  ADVISORY  READ  812 fd:01:131099 1073741826 1073742335\n\
                     2: -> POSIX  ADVISORY  WRITE 900 fd:01:131099 1073741826 1073742335\n\
                     3: OFDLCK ADVISORY  READ  812 fd:01:78 0 EOF\n";
        assert!(is_locked_by(locks, 812, 131_099));
        for (process, inode) in [(812, 77), (812, 78), (900, 131_099), (81, 131_099)] {
            assert!(!is_locked_by(locks, process, inode), "{process} {inode}");
        }
    }
}
