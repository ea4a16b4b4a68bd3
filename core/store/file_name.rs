//! Which file a path means. Whatever name it is opened by, all connections and the lock file use
//! one name: absolute, without links.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::exclusive::{Exclusive, prove_exclusive};
use super::location::{Location, log_of};
use super::process_lock;

const IN_MEMORY: &str = "a database in memory is opened with Verger::in_memory()";

/// Makes a path absolute, so that the process may change its working directory. SQLite never takes
/// an absolute path for a URI, however it was compiled.
///
/// # Errors
/// Why the path can be no database's.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, String> {
    let text = path.to_string_lossy();
    if text.is_empty() {
        return Err(format!("an empty path names no file; {IN_MEMORY}"));
    }
    if text == ":memory:" {
        return Err(format!("it names no file; {IN_MEMORY}"));
    }
    if text.starts_with("file:") {
        return Err(
            "it is a URI: give the path of the file itself, and read_only() in the place of \
             mode=ro; a file whose name begins so is ./file:…"
                .to_string(),
        );
    }
    // SQLite makes a file that is not there, and reports a folder itself.
    if let Ok(found) = std::fs::metadata(path)
        && !found.is_file()
        && !found.is_dir()
    {
        return Err(format!("it is a device or a pipe, not a file; {IN_MEMORY}"));
    }
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    Ok(without_links(absolute))
}

/// The one name of a file that is there, with links followed.
pub(super) fn without_links(path: PathBuf) -> PathBuf {
    // On Windows the canonical form has a prefix that not every program takes, SQLite's included.
    if cfg!(unix) { path.canonicalize().unwrap_or(path) } else { path }
}

/// Whether the file is open by another name that is not a symbolic link.
///
/// SQLite keeps its log beside the name a file is opened by. If it is open by two names at once,
/// neither side sees what the other wrote last, and the file is damaged.
pub(crate) fn is_open_by_another_name(location: &Location) -> rusqlite::Result<bool> {
    let Some(path) = location.file() else { return Ok(false) };
    if location.is_read_only() || !has_other_names(path) {
        return Ok(false);
    }
    let log = log_of(path);
    for _ in 0..100 {
        // A log beside this name, or a process that holds its lock, shows that it is open by this
        // name.
        if log.exists() || process_lock::is_held(path) {
            return Ok(false);
        }
        match prove_exclusive(location)? {
            Exclusive::InUse => std::thread::sleep(Duration::from_millis(10)),
            Exclusive::Proved(_) | Exclusive::Unknown => return Ok(false),
        }
    }
    Ok(true)
}

fn has_other_names(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).is_ok_and(|file| file.nlink() > 1) || is_mount_point(path)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// Whether this one file was mounted at its path, so that it is elsewhere too.
#[cfg(unix)]
fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    // Only Linux has this, and mounts single files.
    let Ok(mounts) = std::fs::read("/proc/self/mountinfo") else { return false };
    let path = path.as_os_str().as_bytes();
    mounts.split(|byte| *byte == b'\n').any(|line| {
        let point = line.split(|byte| *byte == b' ').nth(4).unwrap_or_default();
        unescape(point) == path
    })
}

/// In the table of mounts, spaces and the like are written as `\040`.
#[cfg(unix)]
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| byte == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(code);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

/// The URI of a file that nobody changes.
pub(super) fn immutable(path: &Path) -> PathBuf {
    let plain = without_prefix(&path.to_string_lossy());
    let text = if cfg!(windows) { plain.as_bytes() } else { path.as_os_str().as_encoded_bytes() };
    // What stands between two slashes and a third would be the name of a machine.
    let mut uri = String::from(match text {
        [b'/', b'/', ..] => "file://",
        [b'/', ..] => "file:",
        _ => "file:/",
    });
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b':' => {
                uri.push(char::from(*byte));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    PathBuf::from(uri)
}

/// A path of Windows with slashes, and without the prefix that its canonical form has.
fn without_prefix(path: &str) -> String {
    let path = path.replace('\\', "/");
    match path.strip_prefix("//?/UNC/") {
        Some(share) => format!("//{share}"),
        None => path.strip_prefix("//?/").unwrap_or(&path).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_windows_is_one_that_a_uri_can_hold() {
        for (path, plain) in [
            (r"C:\data\app.db", "C:/data/app.db"),
            (r"\\?\C:\data\app.db", "C:/data/app.db"),
            (r"\\?\UNC\server\share\app.db", "//server/share/app.db"),
        ] {
            assert_eq!(without_prefix(path), plain);
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_uri_names_the_same_file() {
        let uri = immutable(Path::new("/a b/é?#%.db"));
        assert_eq!(uri, Path::new("file:/a%20b/%C3%A9%3F%23%25.db?immutable=1"));
    }
}
