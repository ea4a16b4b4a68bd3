//! The file itself: where it is, who may write to it, what lies beside it.

use std::path::{Path, PathBuf};

use super::examination::{Examination, bytes, quoted};
use super::finding::{Finding, Fix};
use crate::store::{LONG_LOG_BYTES, is_open};

/// The path of the file, or a finding when there is no file.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, Finding> {
    let name = path.display();
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(Finding::error("no-file", format!("{name} is a folder, not a database"))
                .mend(format!("ls {}", quoted(path))))
        }
        Ok(found) if !found.is_file() => {
            Err(Finding::error("no-file", format!("{name} is a device or a pipe, not a file"))
                .mend(format!("ls -l {}", quoted(path))))
        }
        Ok(_) => Ok(path.canonicalize().unwrap_or_else(|_| path.to_path_buf())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Finding::error("no-file", format!("there is no file {name}"))
                .mend(format!("verger migrate --db {}", quoted(path))))
        }
        Err(error) => {
            Err(Finding::error("no-file", format!("{name} cannot be looked at: {error}"))
                .mend(format!("ls -l {}", quoted(path))))
        }
    }
}

/// The path beside a database with this ending.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

pub(super) fn check(examination: &mut Examination<'_>) {
    let Some(path) = examination.path else { return };
    let size = |path: &Path| std::fs::metadata(path).ok().map(|found| found.len());
    let (log, journal) = (size(&beside(path, "-wal")), size(&beside(path, "-journal")));
    examination.facts.file_bytes = size(path);
    examination.facts.log_bytes = log;
    examination.facts.is_open = Some(is_open(path));
    if journal.is_some_and(|journal| journal > 0) && examination.facts.is_open == Some(false) {
        let mend = examination.verb("tick");
        examination.found(
            Finding::note(
                "hot-journal",
                "a rollback journal lies beside the file: a transaction is under way, or was cut off, and the next open undoes it",
            )
            .mend(mend),
        );
    }
    permissions(examination, path);
    backups(examination, path);
}

/// The log beside the file, once it is known whether Litestream streams it.
pub(super) fn check_log(examination: &mut Examination<'_>) {
    let Some(log) = examination.facts.log_bytes.filter(|log| *log > LONG_LOG_BYTES * 2) else {
        return;
    };
    let log = bytes(log);
    if examination.facts.litestream == Some(true) {
        // Litestream reads it all the time, so that nobody can cut it. A fix would wait in vain.
        examination.found(Finding::note(
            "long-log",
            format!(
                "the write-ahead log has {log}: it stays as long as the largest burst of writes made it, because Litestream reads it all the time"
            ),
        ));
        return;
    }
    let message = format!(
        "the write-ahead log has {log}: someone keeps a read transaction open, or nobody folds it back into the file"
    );
    let mend = examination.verb("doctor --fix=long-log");
    examination.found(Finding::warning("long-log", message).mend(mend).fix(Fix::Safe));
}

#[cfg(unix)]
fn permissions(examination: &mut Examination<'_>, path: &Path) {
    use std::os::unix::fs::MetadataExt;
    let folder = path.parent().unwrap_or(Path::new("/"));
    for (what, name) in [("the file", path), ("its folder", folder)] {
        let Ok(found) = std::fs::metadata(name) else { continue };
        // In a folder like /tmp everyone may add files, but nobody may remove those of others.
        let open_to_all = found.mode() & 0o002 != 0 && (name == path || found.mode() & 0o1000 == 0);
        if open_to_all {
            let message = format!(
                "everyone on this machine may write {what}: who writes it can queue work and change the audit log"
            );
            examination.found(
                Finding::warning("permissions", message)
                    .about(name.display().to_string())
                    .mend(format!("chmod o-w {}", quoted(name))),
            );
        }
        if found.permissions().readonly() {
            let message = format!("{what} can only be read: nothing can be queued or performed");
            examination.found(
                Finding::error("permissions", message)
                    .about(name.display().to_string())
                    .mend(format!("chmod u+w {}", quoted(name))),
            );
        }
    }
    let lock = beside(path, "-verger");
    if std::fs::symlink_metadata(&lock).is_ok_and(|found| !found.is_file()) {
        examination.found(
            Finding::error(
                "lock-file",
                format!(
                    "{} is a link, a folder or a device: no app can open the database",
                    lock.display()
                ),
            )
            .mend(format!("rm {}", quoted(&lock))),
        );
    }
}

#[cfg(not(unix))]
fn permissions(examination: &mut Examination<'_>, path: &Path) {
    if std::fs::metadata(path).is_ok_and(|found| found.permissions().readonly()) {
        examination.found(
            Finding::error(
                "permissions",
                "the file can only be read: nothing can be queued or performed",
            )
            .mend(format!("attrib -r {}", quoted(path))),
        );
    }
}

/// The newest file beside it whose name says that it is a copy.
fn backups(examination: &mut Examination<'_>, path: &Path) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let own = path.file_name().unwrap_or_default();
    let entries = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let newest = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name() != own)
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().to_lowercase();
            let mark = ["bak", "backup", "copy", "snapshot"];
            name.starts_with(&stem) && mark.iter().any(|mark| name.contains(mark))
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .max();
    match newest {
        Some((_, copy)) => examination.facts.backup = Some(copy),
        None => {
            let copy = beside(path, ".backup");
            let sql = format!("VACUUM INTO '{}'", copy.display().to_string().replace('\'', "''"));
            let mend = examination.sql(&sql);
            examination
                .found(Finding::note("no-backup", "no copy of the file lies beside it").mend(mend));
        }
    }
}
