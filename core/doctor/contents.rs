//! What is in the file, read whole: its pages, the space its tables take, its audit log.

use super::examination::{Examination, bytes};
use super::facts::TableFacts;
use super::finding::Finding;
use super::schema::identifier;
use crate::audit::ChainError;
use crate::store::Books;

/// The most faults of one kind that are reported.
const FAULTS_MAX: u32 = 10;

/// Bytes. A table with more unused space than this is reported.
const UNUSED_BYTES: u64 = 64 << 20;

/// False when pages are damaged.
pub(super) fn check_pages(examination: &mut Examination<'_>) -> bool {
    let faults = examination
        .connection
        .prepare(&format!("PRAGMA quick_check({FAULTS_MAX})"))
        .and_then(|mut statement| {
            statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        });
    let Some(faults) = examination.look("the pages of the file", faults) else { return false };
    let mut is_sound = true;
    for fault in faults.iter().filter(|fault| *fault != "ok") {
        is_sound = false;
        let mend = examination.sql(".recover");
        examination
            .found(Finding::error("damaged", format!("the file is damaged: {fault}")).mend(mend));
    }
    is_sound
}

pub(super) fn check(examination: &mut Examination<'_>) {
    rooms(examination);
    foreign_keys(examination);
    match Books::on(examination.connection).verify_audit() {
        Ok(_) => {}
        Err(ChainError::Store(error)) => {
            examination.look::<()>("the audit log", Err(error.into_sqlite()));
        }
        Err(error) => {
            let mend = examination.verb("audit verify");
            examination.found(
                Finding::error("audit-broken", format!("the audit log does not verify: {error}"))
                    .mend(mend),
            );
        }
    }
}

fn rooms(examination: &mut Examination<'_>) {
    // Not every SQLite has the table of pages. Without it this check says nothing.
    let rooms = examination.connection.prepare(
        "SELECT s.tbl_name, sum(d.pgsize), sum(d.unused), max(s.type = 'table' AND s.sql NOT LIKE 'CREATE VIRTUAL%') \
         FROM dbstat AS d JOIN sqlite_schema AS s ON s.name = d.name WHERE d.aggregate = TRUE \
         GROUP BY s.tbl_name ORDER BY 2 DESC",
    );
    let Ok(mut statement) = rooms else { return };
    let rooms = statement
        .query_map([], |row| {
            Ok((
                String::from_utf8_lossy(row.get_ref(0)?.as_bytes()?).into_owned(),
                row.get::<_, i64>(1)?.unsigned_abs(),
                row.get::<_, i64>(2)?.unsigned_abs(),
            ))
        })
        .and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let Some(rooms) = examination.look("the room of the tables", rooms) else { return };
    for (table, size, unused) in rooms {
        let count = format!("SELECT count(*) FROM {}", identifier(&table));
        let rows = examination.connection.query_row(&count, [], |row| row.get::<_, i64>(0)).ok();
        if unused >= UNUSED_BYTES && unused >= size / 2 {
            let mend = examination.sql("VACUUM");
            let message =
                format!("{} of the {} of table {table} hold nothing", bytes(unused), bytes(size));
            examination
                .found(Finding::note("unused-room", message).about(table.clone()).mend(mend));
        }
        examination.facts.tables.push(TableFacts {
            table,
            rows: rows.map(i64::unsigned_abs),
            bytes: size,
            unused_bytes: unused,
        });
    }
}

fn foreign_keys(examination: &mut Examination<'_>) {
    let broken = examination
        .connection
        .prepare("SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2 LIMIT ?1")
        .and_then(|mut statement| {
            statement
                .query_map([FAULTS_MAX], |row| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, Option<String>>(1)?.unwrap_or_default(),
                        row.get::<_, i64>(2)?,
                    ))
                })?
                .collect::<Result<Vec<_>, _>>()
        });
    // A reference to a table that is not there makes the check itself fail. That is for the app to
    // know.
    for (table, parent, count) in broken.unwrap_or_default() {
        let mend = examination.sql("PRAGMA foreign_key_check");
        examination.found(
            Finding::warning(
                "foreign-keys",
                format!("{count} rows of table {table} point to rows of {parent} that are not there: some connection writes with foreign keys off"),
            )
            .about(table)
            .mend(mend),
        );
    }
}
