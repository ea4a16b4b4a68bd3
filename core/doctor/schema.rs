//! Verger's tables: their version, and whether each is as it was made.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::examination::Examination;
use super::finding::{Finding, Fix};
use crate::store::{MigrationSet, migrate};
use crate::time::Timestamp;

/// The version that this build makes.
pub(super) fn known() -> i64 {
    MigrationSet::ENGINE.version()
}

/// The tables, indexes and triggers as this build makes them: their kinds and SQL, by name.
pub(super) fn expected() -> BTreeMap<String, (String, String)> {
    let made = Connection::open_in_memory().and_then(|fresh| {
        // If they cannot be made here, there is nothing to compare with.
        let _ = migrate(&fresh, &MigrationSet::ENGINE, Timestamp::from_millis(0));
        read(&fresh)
    });
    made.unwrap_or_default()
}

fn read(connection: &Connection) -> rusqlite::Result<BTreeMap<String, (String, String)>> {
    connection
        .prepare(
            "SELECT name, type, coalesce(sql, '') FROM sqlite_schema WHERE name GLOB 'verger_*'",
        )?
        .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
        .collect()
}

/// False when Verger has no tables here to look at.
pub(super) fn check(examination: &mut Examination<'_>) -> bool {
    let version = MigrationSet::ENGINE.applied_to(examination.connection);
    let found = match version {
        Ok(found) => found,
        Err(error) => {
            examination.look::<()>("the table verger_migrations", Err(error.into_sqlite()));
            return false;
        }
    };
    examination.facts.schema_version = Some(found);
    let known = known();
    if found == 0 {
        let mend = examination.verb("migrate");
        examination.found(
            Finding::error(
                "no-tables",
                "it is a SQLite database in which Verger never was: it has none of Verger's tables",
            )
            .mend(mend),
        );
        return false;
    }
    if found > known {
        examination.found(
            Finding::error(
                "schema-newer",
                format!("its tables are at version {found}, and this build knows versions up to {known}: a newer Verger wrote it"),
            )
            .mend("cargo install verger-cli"),
        );
        return false;
    }
    if found < known {
        let mend = examination.verb("migrate");
        examination.found(
            Finding::warning(
                "schema-older",
                format!("its tables are at version {found}, and this build makes version {known}"),
            )
            .mend(mend)
            .fix(Fix::Safe),
        );
        return false;
    }
    let Some(there) =
        examination.look("the schema of Verger's tables", read(examination.connection))
    else {
        return false;
    };
    let mut is_whole = true;
    for (name, (kind, sql)) in expected() {
        let finding = match there.get(&name) {
            Some((_, found)) if same(found, &sql) => continue,
            Some(_) => Finding::warning(
                "schema-changed",
                format!("the {kind} {name} is not as this build makes it: someone changed it"),
            )
            .mend(examination.sql(&format!(".schema {name}"))),
            None if kind == "table" => {
                is_whole = false;
                Finding::error("schema-missing", format!("the table {name} is gone"))
                    .mend("restore a copy of the file")
            }
            None => Finding::error(
                "schema-missing",
                format!("the {kind} {name} is gone: {}", without(&kind)),
            )
            .mend(examination.verb("doctor --fix=schema-missing"))
            .fix(Fix::Safe),
        };
        examination.found(finding.about(name));
    }
    is_whole
}

fn without(kind: &str) -> &'static str {
    match kind {
        "index" => "what it keeps apart is not kept apart, and each claim may read the whole table",
        _ => "what it refuses is not refused",
    }
}

/// Whether two statements differ only in white space.
fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

/// The name of a table as a word of SQL.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
