//! The capability `remove-file`: removes files of one folder, for `evict-cache`.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use serde_json::{Value as Json, json};

use super::CapabilityCall;

/// The name of the capability.
pub(crate) const REMOVE_FILE: &str = "remove-file";

/// Removes the file that the request names by `path`, if it lies in the folder or below it. The
/// path is relative to the folder, or absolute. A file that is not there is no error. A folder is
/// an error, and so is a path that leads out of the folder by `..` or by a link.
///
/// # Errors
/// In words, for the worker.
pub(crate) fn remove_file(folder: &Path, call: &CapabilityCall<'_>) -> Result<Json, String> {
    let path = call.request["path"].as_str().filter(|path| !path.is_empty());
    let path = path.ok_or("the request has no `path` that is a text")?;
    let found = place(folder, path)?;
    let removed = match found {
        None => false,
        Some(_) if call.is_dry_run => true,
        Some(found) => match std::fs::remove_file(&found) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(format!("the file {path:?} cannot be removed: {error}")),
        },
    };
    Ok(json!({ "removed": removed }))
}

/// Where a path leads. `None` when nothing is there.
fn place(folder: &Path, path: &str) -> Result<Option<PathBuf>, String> {
    let outside = || format!("the file {path:?} is not in the folder of the cache");
    let given = Path::new(path);
    if given.components().any(|part| part == Component::ParentDir) {
        return Err(outside());
    }
    let root = match folder.canonicalize() {
        Ok(root) => root,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("the folder of the cache cannot be read: {error}")),
    };
    let joined = match (given.is_absolute(), given.strip_prefix(folder)) {
        (true, Ok(below)) => root.join(below),
        (true, Err(_)) => given.to_path_buf(),
        (false, _) => root.join(given),
    };
    // If the file itself is a link, the link is removed. The folders on the way may not lead out.
    let (Some(parent), Some(name)) = (joined.parent(), joined.file_name()) else {
        return Err(outside());
    };
    let parent = match parent.canonicalize() {
        Ok(parent) => parent,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return if joined.starts_with(&root) { Ok(None) } else { Err(outside()) };
        }
        Err(error) => return Err(format!("the file {path:?} cannot be reached: {error}")),
    };
    if !parent.starts_with(&root) {
        return Err(outside());
    }
    let found = parent.join(name);
    match found.symlink_metadata() {
        Ok(file) if file.is_dir() => Err(format!("{path:?} is a folder, not a file")),
        Ok(_) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("the file {path:?} cannot be reached: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_the_folder_is_found_and_nothing_else() {
        let world = tempfile::tempdir().unwrap();
        let folder = world.path().join("cache");
        std::fs::create_dir_all(folder.join("deep/er")).unwrap();
        for file in ["cache/a", "cache/deep/er/b", "secret"] {
            std::fs::write(world.path().join(file), "x").unwrap();
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(world.path(), folder.join("out")).unwrap();
            std::os::unix::fs::symlink(world.path().join("secret"), folder.join("link")).unwrap();
        }
        let absolute = |path: &str| world.path().join(path).display().to_string();
        for (path, found) in [
            ("a".to_string(), true),
            ("./a".to_string(), true),
            ("deep/er/b".to_string(), true),
            (absolute("cache/a"), true),
            ("gone".to_string(), false),
            ("gone/deeper".to_string(), false),
            (absolute("cache/gone"), false),
        ] {
            assert_eq!(place(&folder, &path).map(|place| place.is_some()), Ok(found), "{path}");
        }
        #[cfg(unix)]
        assert_eq!(place(&folder, "link").unwrap().unwrap().file_name(), Some("link".as_ref()));
        let mut refused = vec![
            "..".to_string(),
            "../secret".to_string(),
            "deep/../../secret".to_string(),
            absolute("secret"),
            absolute("cache/../secret"),
            "/".to_string(),
            ".".to_string(),
            "deep".to_string(),
        ];
        if cfg!(unix) {
            refused.push("out/secret".to_string());
        }
        for path in refused {
            assert!(place(&folder, &path).is_err(), "{path}");
        }
        assert_eq!(place(&world.path().join("none"), "a"), Ok(None));
    }
}
