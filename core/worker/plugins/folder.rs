//! The files of a plugins folder: which there are, and whether they changed.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::plugin_error::PluginError;
use crate::sandbox::no_file;

/// How a file looks from outside. A file that was written to, replaced or renamed looks different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(String);

impl Stamp {
    fn of(file: &Metadata) -> Self {
        let modified = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.map_or(0, |since| since.as_nanos());
        #[cfg(unix)]
        let more = {
            use std::os::unix::fs::MetadataExt;
            format!(" {}.{} {}", file.ctime(), file.ctime_nsec(), file.ino())
        };
        #[cfg(not(unix))]
        let more = "";
        Self(format!("{} {modified}{more}", file.len()))
    }

    /// The text that is kept in the database.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Looks at what has this name, without opening it. Anything that can be no plugin is refused.
pub(super) fn look_at(path: &Path) -> Result<Stamp, PluginError> {
    let what = || path.display().to_string();
    let file = std::fs::metadata(path).map_err(|error| PluginError::Unreadable {
        what: what(),
        reason: match std::fs::symlink_metadata(path) {
            Ok(link) if link.is_symlink() => {
                format!("it is a symbolic link that leads to no file ({error})")
            }
            _ => error.to_string(),
        },
    })?;
    match no_file(&file) {
        Some(found) => Err(PluginError::NotAFile { what: what(), found }),
        None => Ok(Stamp::of(&file)),
    }
}

/// When entries of a folder were last added or removed. `None` when there is no folder.
pub(super) fn entries_changed(folder: &Path) -> Option<Stamp> {
    std::fs::metadata(folder).ok().map(|folder| Stamp::of(&folder))
}

/// The `.wasm` files of a folder, by name. Things with that ending that are no files are among
/// them, so that their refusal is reported. A folder that is not there yet, as after a fresh
/// install, is empty.
pub(super) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("wasm")) {
            files.push(path);
        } else {
            tracing::info!(path = %path.display(), "passed over: no .wasm, so no plugin");
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a component is there up to its end, as its sections tell. One that is still being copied
/// breaks off in the middle of a section, or goes on with the zeros of a file whose size was set
/// beforehand. Bytes that are no component at all count as complete, because they get no better.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    const HEADER: usize = 8;
    let magic = [0, b'a', b's', b'm'];
    if bytes.len() < HEADER {
        return !magic.starts_with(bytes.get(..4).unwrap_or(bytes)) && !bytes.is_empty();
    }
    if !bytes.starts_with(&magic) {
        // In a file of zeros the bytes are still to come.
        return bytes.iter().any(|byte| *byte != 0);
    }
    let mut rest = bytes.get(HEADER..).unwrap_or_default();
    while let Some((id, after)) = rest.split_first() {
        let Some((size, after)) = leb128(after) else { return false };
        // A custom section has a name, so it is not empty.
        let is_padding = *id == 0 && size == 0;
        match after.get(size..) {
            Some(next) if !is_padding => rest = next,
            _ => return false,
        }
    }
    true
}

/// An unsigned 32-bit LEB128 number, and what follows it.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0usize;
    for (place, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(place + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_that_breaks_off_is_not_complete() {
        let header = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
        let whole = [&header[..], &[0, 2, 1, b'n'], &[8, 1, 0]].concat();
        assert!(is_complete(&whole));
        assert!(is_complete(&header));
        for cut in 0..whole.len() {
            let at_a_boundary = cut == 8 || cut == 12;
            let cut = whole.get(..cut).unwrap_or_default();
            assert_eq!(is_complete(cut), at_a_boundary, "{cut:?}");
        }
        let preallocated = [&whole[..], &[0; 40]].concat();
        assert!(!is_complete(&preallocated));
        assert!(!is_complete(&[0; 40]));
        assert!(!is_complete(&[&header[..], &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0]].concat()));
        assert!(is_complete(b"a text file is as complete as it gets"));
        assert!(is_complete(b"short"));
    }
}
