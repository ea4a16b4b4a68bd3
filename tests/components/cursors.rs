//! Rows, read in chunks.

use serde_json::json;

use super::{check, check_with, limited};
use crate::common::{BOTH, answers};

#[test]
fn a_cursor_is_read_in_chunks_and_ends_with_an_empty_one() {
    let insert = "INSERT INTO things (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')";
    check(
        json!([
            ["execute", insert, []],
            ["open", "SELECT id, name AS n FROM things ORDER BY id", []],
            ["columns", 0],
            ["next", 0, 2],
            ["next", 0, 0],
            ["next", 0, 2],
            ["next", 0, 2],
            ["next", 0, 2],
            ["open", "SELECT count(*) FROM things", []],
            ["next", 1, 4_294_967_295_u32],
        ]),
        json!([
            {"ok": 3}, {"ok": 0}, {"ok": ["id", "n"]}, {"ok": [[1, "a"], [2, "b"]]}, {"err": "invalid", "message": "at least 1 row"},
            {"ok": [[3, "c"]]}, {"ok": []}, {"ok": []}, {"ok": 1}, {"ok": [[3]]},
        ]),
    );
}

#[test]
fn two_cursors_of_one_statement_do_not_disturb_each_other() {
    check(
        json!([
            ["execute", "INSERT INTO things (id) VALUES (1), (2), (3)", []],
            ["open", "SELECT id FROM things WHERE id >= ?1", [1]],
            ["next", 0, 1],
            ["open", "SELECT id FROM things WHERE id >= ?1", [2]],
            ["next", 1, 1],
            ["next", 0, 1],
            ["close", 0],
            ["open", "SELECT id FROM things WHERE id >= ?1", [3]],
            ["next", 1, 9],
            ["next", 2, 9],
        ]),
        json!([
            {"ok": 3}, {"ok": 0}, {"ok": [[1]]}, {"ok": 1}, {"ok": [[2]]}, {"ok": [[2]]}, {"ok": null}, {"ok": 2}, {"ok": [[3]]}, {"ok": [[3]]},
        ]),
    );
}

#[test]
fn a_chunk_ends_early_at_the_bytes_it_may_have() {
    check_with(
        &limited(|limits| limits.chunk_bytes(2_000)),
        json!([
            ["execute", "INSERT INTO things (value) VALUES (?1), (?1), (?1)", [{"x": 1_500}]],
            ["open", "SELECT length(value), value FROM things", []],
            ["query", "SELECT id FROM things", []],
        ]),
        json!([{"ok": 3}, {"ok": 0}, {"ok": [[1], [2], [3]]}]),
    );
    for kind in BOTH {
        let test = kind.open_with(limited(|limits| limits.chunk_bytes(2_000)));
        test.sql("INSERT INTO things (value) VALUES (zeroblob(1500)), (zeroblob(1500)), (zeroblob(1500))");
        let read = answers(
            &test,
            json!([
                ["open", "SELECT value FROM things", []],
                ["next", 0, 9],
                ["next", 0, 9],
                ["next", 0, 9]
            ]),
        );
        let counts: Vec<_> = read.as_array().unwrap()[1..]
            .iter()
            .map(|rows| rows["ok"].as_array().unwrap().len())
            .collect();
        assert_eq!(counts, [2, 1, 0], "{kind:?}");
    }
}

#[test]
fn rows_that_a_write_returns_are_read_like_those_of_a_query() {
    check(
        json!([
            ["query", "INSERT INTO things (id, name) VALUES (1, 'a'), (2, 'b') RETURNING id", []],
            ["query", "UPDATE things SET name = 'c' WHERE id = 2 RETURNING name", []],
            ["query", "DELETE FROM things RETURNING id, name", []],
            ["execute", "INSERT INTO things (id) VALUES (1) RETURNING id", []],
            ["query", "DELETE FROM things", []],
            ["execute", "SELECT 1", []],
        ]),
        json!([
            {"ok": [[1], [2]]}, {"ok": [["c"]]}, {"ok": [[1, "a"], [2, "c"]]}, {"err": "invalid", "message": "use query"},
            {"err": "invalid", "message": "use execute"}, {"err": "invalid", "message": "use query"},
        ]),
    );
}
