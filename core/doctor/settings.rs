//! The settings that are kept in the file.

use super::examination::{Examination, bytes};
use super::finding::{Finding, Fix};

/// False when the file cannot be read at all.
pub(super) fn check(examination: &mut Examination<'_>) -> bool {
    let connection = examination.connection;
    let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0));
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let pages = number("SELECT count(*) FROM sqlite_schema");
    if examination.look("the schema of the database", pages).is_none() {
        return false;
    }
    let mode = text("PRAGMA journal_mode");
    let header = examination.path.map(crate::store::is_wal);
    let mode = match header {
        // A connection that changes nothing cannot tell, but the file's own header can.
        Some(Ok(true)) => Ok("wal".to_string()),
        _ => mode,
    };
    if let Some(mode) = examination.look("the journal mode", mode) {
        journal(examination, &mode);
        examination.facts.journal_mode = Some(mode);
    }
    if let Some(page) = examination.look("the page size", number("PRAGMA page_size")) {
        let page = page.unsigned_abs();
        examination.facts.page_bytes = Some(page);
        if page < 4_096 {
            let mend = examination.sql("PRAGMA page_size = 4096; VACUUM");
            examination.found(
                Finding::warning(
                    "page-size",
                    format!("its pages have {}: half the speed, and twice the log, of SQLite's own 4 KiB; the change needs every program to close the file, and another journal mode than wal while it is made", bytes(page)),
                )
                .mend(mend),
            );
        }
    }
    if let Some(auto) = examination.look("auto_vacuum", number("PRAGMA auto_vacuum")) {
        let name = ["none", "full", "incremental"];
        let name = usize::try_from(auto).ok().and_then(|place| name.get(place)).unwrap_or(&"none");
        examination.facts.auto_vacuum = Some((*name).to_string());
        if auto == 1 {
            let mend = examination.sql("PRAGMA auto_vacuum = NONE; VACUUM");
            examination.found(
                Finding::note(
                    "auto-vacuum",
                    "auto_vacuum is FULL: each commit that deletes moves pages about, and pruning costs more",
                )
                .mend(mend),
            );
        }
    }
    let free = number("PRAGMA freelist_count");
    if let Some(free) = examination.look("the list of free pages", free) {
        let free = free.unsigned_abs() * examination.facts.page_bytes.unwrap_or(4_096);
        examination.facts.free_bytes = Some(free);
        let file = examination.facts.file_bytes.unwrap_or_default();
        if free >= 64 << 20 && free >= file / 2 {
            let mend = examination.sql("VACUUM");
            examination.found(
                Finding::warning(
                    "free-pages",
                    format!("{} of the file's {} hold nothing; SQLite uses them again, and gives them back to the disk only when it is vacuumed, with every program closed", bytes(free), bytes(file)),
                )
                .mend(mend),
            );
        }
    }
    let synchronous = number("PRAGMA synchronous");
    if examination.look("the setting synchronous", synchronous) == Some(0) {
        examination.found(
            Finding::warning(
                "synchronous",
                "connections here begin with synchronous=OFF: a power cut can destroy the file; Verger sets NORMAL or FULL on its own, the app's are the app's to set",
            )
            .mend("PRAGMA synchronous = NORMAL on each connection of the app"),
        );
    }
    true
}

fn journal(examination: &mut Examination<'_>, mode: &str) {
    let mend = examination.verb("doctor --fix=journal-mode");
    match mode.to_ascii_lowercase().as_str() {
        "wal" => {}
        // A database in memory has no other mode.
        _ if examination.path.is_none() => {}
        "off" | "memory" => examination.found(
            Finding::error(
                "journal-mode",
                format!("the journal mode is {mode}: a crash in the middle of a write destroys the file"),
            )
            .mend(mend)
            .fix(Fix::Asked),
        ),
        _ => examination.found(
            Finding::warning(
                "journal-mode",
                format!("the journal mode is {mode}: whoever writes keeps all readers waiting, and each commit costs two syncs; WAL does neither"),
            )
            .mend(mend)
            .fix(Fix::Asked),
        ),
    }
}
