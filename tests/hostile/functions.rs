//! Functions that reach out of the database, or whose time or size grows faster than what they
//! are given.

use verger::rusqlite::Connection;

use super::case::{AUTHORIZER, Case, DEADLINE, LIMIT, query};

/// Whether a function may have so many arguments. SQLite once took 127 at most.
fn takes(arguments: usize) -> bool {
    let select = format!("SELECT max({})", vec!["1"; arguments].join(", "));
    Connection::open_in_memory().unwrap().prepare(&select).is_ok()
}

pub(super) fn cases() -> Vec<Case> {
    // Older versions of SQLite are stopped sooner, or end by themselves.
    let is_old = verger::rusqlite::version_number() < 3_053_000;
    let too_big = if is_old { ("ok", "null") } else { ("limit", "too big") };
    let too_deep = if is_old { ("denied", "json_set") } else { ("row", "") };
    let too_many = match takes(400) {
        true => ("limit", "computed expressions"),
        false => ("sql", "too many arguments"),
    };
    vec![
        query(
            "load_extension",
            AUTHORIZER,
            "SELECT load_extension('evil.so')",
            "denied",
            "load_extension",
        ),
        query(
            "fts3_tokenizer",
            AUTHORIZER,
            "SELECT fts3_tokenizer('simple', x'00')",
            "denied",
            "fts3_tokenizer",
        ),
        query(
            "a function of the engine",
            AUTHORIZER,
            "SELECT verger_tenant()",
            "sql",
            "no such function",
        ),
        query(
            "json_patch, whose time is a product",
            AUTHORIZER,
            "SELECT json_patch('{}', '{}')",
            "denied",
            "json_patch",
        ),
        query(
            "LIKE that tries every place",
            DEADLINE,
            "SELECT sum(a LIKE '%' || substr(a, 1, 9000) || '1') FROM (SELECT hex(zeroblob(2000000)) AS a FROM json_each('[1,2,3,4,5,6,7,8,9]'))",
            DEADLINE,
            "250 ms",
        ),
        query(
            "instr of a long text in a longer one",
            "linear function",
            "SELECT instr(hex(zeroblob(2000000)), hex(zeroblob(1000000)) || '1')",
            "ok",
            "0",
        ),
        query(
            "replace that swells",
            LIMIT,
            "SELECT length(replace(hex(zeroblob(100000)), '0', hex(zeroblob(100000))))",
            "limit",
            "too big",
        ),
        query("randomblob(1e9)", LIMIT, "SELECT randomblob(1000000000)", "limit", "too big"),
        query("zeroblob(1e9)", LIMIT, "SELECT hex(zeroblob(1000000000))", "limit", "too big"),
        query(
            "printf('%.*c')",
            LIMIT,
            "SELECT length(printf('%.*c', 1000000000, 'x'))",
            too_big.0,
            too_big.1,
        ),
        query(
            "group_concat of everything",
            LIMIT,
            "SELECT length(group_concat(hex(zeroblob(500000)))) FROM json_each('[1,2,3,4,5,6,7,8,9,10]')",
            "limit",
            "too big",
        ),
        query(
            "a path of 100,000 steps",
            "depth of JSON",
            "SELECT json_set('{}', '$' || replace(hex(zeroblob(100000)), '00', '.a'), 1)",
            too_deep.0,
            too_deep.1,
        ),
        query(
            "highlight",
            "allowlist",
            "SELECT highlight(found, 0, '', '') FROM found",
            "denied",
            "square of a document",
        ),
        query(
            "json_pretty",
            "allowlist",
            "SELECT json_pretty('[]')",
            "denied",
            "depth of the document",
        ),
        query(
            "a function of a later SQLite",
            "allowlist",
            "SELECT sqlite_compileoption_used('X')",
            "denied",
            "worst case",
        ),
        query(
            "unhex of a long text with long separators",
            "linear function",
            "SELECT unhex(hex(zeroblob(100000)), replace(hex(zeroblob(20000)), '0', 'y')) IS NULL",
            "ok",
            "0",
        ),
        query(
            "concat of a long text, many times",
            LIMIT,
            &format!("SELECT length(concat({}))", vec!["a"; 300].join(", "))
                .replace("))", ")) FROM (SELECT hex(zeroblob(2000000)) AS a)"),
            too_many.0,
            too_many.1,
        ),
        query(
            "json_extract of many paths",
            LIMIT,
            &format!(
                "SELECT json_extract(a, {}) FROM (SELECT '[' || replace(hex(zeroblob(1000000)), '0', '1,') || '1]' AS a)",
                vec!["'$[#-1]'"; 400].join(", ")
            ),
            too_many.0,
            too_many.1,
        ),
        query(
            "600 arguments",
            LIMIT,
            &format!("SELECT max({})", vec!["1"; 600].join(", ")),
            "sql",
            "too many arguments",
        ),
        query(
            "LIKE on numbers",
            DEADLINE,
            "WITH RECURSIVE n(i) AS (SELECT 1.5 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n WHERE i LIKE '%x'",
            "deadline",
            "250 ms",
        ),
    ]
}
