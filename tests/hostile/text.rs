//! Names that are hidden from whoever reads a statement as text: SQLite has rules of its own for
//! white space, for names, and for the end.

use super::case::{AUTHORIZER, Case, execute, query};

pub(super) fn cases() -> Vec<Case> {
    vec![
        query("a quoted name", AUTHORIZER, "SELECT * FROM [SECRETS]", "denied", "secrets"),
        query(
            "a name behind a comment",
            AUTHORIZER,
            "SELECT * FROM/**/main/**/.\"secrets\"",
            "denied",
            "secrets",
        ),
        query(
            "two statements in one text",
            "prepare",
            "SELECT 1; DELETE FROM things",
            "sql",
            "more than one",
        ),
        query("no statement", "prepare", " -- nothing", "sql", "empty"),
        query(
            "a byte order mark before a name",
            AUTHORIZER,
            "SELECT * FROM \u{feff}secrets",
            "denied",
            "secrets",
        ),
        query(
            "a byte order mark before a function",
            AUTHORIZER,
            "SELECT \u{feff}json_patch('{}', '{}')",
            "denied",
            "json_patch",
        ),
        execute(
            "a byte order mark before what is written",
            AUTHORIZER,
            "UPDATE \u{feff}secrets SET word = 'x'",
            "denied",
            "secrets",
        ),
        query("a name that is a text", AUTHORIZER, "SELECT * FROM 'secrets'", "denied", "secrets"),
        query(
            "a name behind a parameter",
            AUTHORIZER,
            "SELECT 1 WHERE 1 = ?1IN secrets",
            "denied",
            "secrets",
        ),
        query(
            "a name behind a line comment",
            AUTHORIZER,
            "SELECT * FROM--\n`secrets`",
            "denied",
            "secrets",
        ),
        query(
            "a NUL before the rest",
            "prepare",
            "SELECT * FROM secrets\0 WHERE 0",
            "denied",
            "secrets",
        ),
    ]
}
