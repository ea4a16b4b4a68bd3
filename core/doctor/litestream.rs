//! Litestream beside the file. It keeps two tables in it, and they are in each copy it restores.

use std::path::{Path, PathBuf};

use super::examination::Examination;
use super::finding::Finding;

pub(super) fn check(examination: &mut Examination<'_>) {
    let tables = "SELECT count(*) FROM sqlite_schema \
                  WHERE type = 'table' AND name IN ('_litestream_lock', '_litestream_seq')";
    let found = examination.connection.query_row(tables, [], |row| row.get::<_, i64>(0));
    let is_known = examination.look("Litestream's tables", found).is_some_and(|found| found > 0);
    examination.facts.litestream = Some(is_known);
    if is_known {
        recognise(examination);
    }
}

fn recognise(examination: &mut Examination<'_>) {
    let mode = examination.facts.journal_mode.clone().unwrap_or_default();
    if !mode.eq_ignore_ascii_case("wal") {
        let mend = examination.verb("doctor --fix=journal-mode");
        let message = format!(
            "the file has Litestream's tables and the journal mode {mode}: Litestream copies the write-ahead log, so it copies nothing now"
        );
        examination.found(Finding::warning("litestream", message).mend(mend));
        return;
    }
    let message = match examination.path.map(folder_of).is_some_and(|folder| folder.is_dir()) {
        true => {
            "Litestream streams this file, or did: only one machine may write to it, and what was committed in the last second before a restore runs again"
        }
        false => {
            "the file has Litestream's tables, and nothing of Litestream lies beside it: it is a copy that was restored, so verify its audit log, and let no other machine write to the one it was copied from"
        }
    };
    let mend = examination.verb("audit verify");
    examination.found(Finding::note("litestream", message).mend(mend));
}

/// Where Litestream keeps what it has not sent yet.
fn folder_of(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}-litestream"))
}
