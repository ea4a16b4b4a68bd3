//! Rows are found again by their key, whatever the key is: a rowid whose names are taken, several
//! columns, NULL, or a value without a type.

use super::Expect::{Confined, Fails, Is, Refused};
use super::{OTHERS, check};

#[test]
fn columns_may_take_the_names_of_the_rowid() {
    check(
        "CREATE TABLE t (rowid TEXT, org TEXT, n INTEGER);",
        "INSERT INTO t VALUES ('r1', '{t}', 1), ('r2', '{t}', 2);",
        OTHERS,
        &[
            ("SELECT rowid, n FROM t ORDER BY n", Is(r#"[["r1",1],["r2",2]]"#)),
            ("SELECT n FROM t WHERE rowid = 'r2'", Is("[[2]]")),
            ("UPDATE t SET n = n + 10 WHERE rowid = 'r1'", Is("1")),
            ("UPDATE t SET rowid = 'x' WHERE n = 2", Is("1")),
            ("INSERT INTO t (rowid, n) VALUES ('r3', 3)", Confined("1")),
            ("DELETE FROM t WHERE rowid = 'x'", Is("1")),
            ("SELECT rowid, n FROM t ORDER BY n", Confined(r#"[["r3",3],["r1",11]]"#)),
            ("SELECT count(*) FROM t", Confined("[[2]]")),
            ("UPDATE t SET n = 0 WHERE rowid = 'r1' RETURNING n", Refused("primary key")),
        ],
    );
    check(
        "CREATE TABLE t (rowid TEXT, _rowid_ TEXT, oid TEXT, org TEXT, n INTEGER);",
        "INSERT INTO t VALUES ('r', 's', 'o', '{t}', 1), ('r', 's', 'o', '{t}', 2);",
        OTHERS,
        &[
            (
                "SELECT rowid, _rowid_, oid, n FROM t ORDER BY n",
                Is(r#"[["r","s","o",1],["r","s","o",2]]"#),
            ),
            ("SELECT count(*) FROM t WHERE oid = 'o'", Is("[[2]]")),
            ("UPDATE t SET n = 3", Refused("no key of their own")),
            ("DELETE FROM t WHERE n = 1", Refused("no key of their own")),
            ("INSERT INTO t (rowid, n) VALUES ('new', 3)", Confined("1")),
            ("SELECT count(*) FROM t", Confined("[[3]]")),
        ],
    );
    check(
        "CREATE TABLE t (oid INTEGER PRIMARY KEY, rowid TEXT, _rowid_ TEXT, org TEXT, n INTEGER);",
        "INSERT INTO t VALUES ({n} + 1, 'r', 's', '{t}', 1), ({n} + 2, 'r', 's', '{t}', 2);",
        OTHERS,
        &[
            ("SELECT oid, rowid FROM t ORDER BY oid", Is(r#"[[1,"r"],[2,"r"]]"#)),
            ("UPDATE t SET oid = oid + 50 WHERE oid = 2", Is("1")),
            ("UPDATE t SET n = 7 WHERE oid = 101", Is("0")),
            ("DELETE FROM t WHERE oid >= 52", Is("1")),
            ("UPDATE t SET n = 8 WHERE rowid = 'r' RETURNING oid, n", Is("[[1,8]]")),
        ],
    );
}

#[test]
fn keys_may_be_composite_and_null() {
    let fill = "INSERT INTO t VALUES (NULL, 1, '{t}', 1), (NULL, 1, '{t}', 2), ('{t}x', NULL, '{t}', 3), ('{t}x', 1, '{t}', 4);";
    check(
        "CREATE TABLE t (a TEXT, b INTEGER, org TEXT, n INTEGER, PRIMARY KEY (a, b));",
        fill,
        OTHERS,
        &[
            ("UPDATE t SET n = n + 10 WHERE a IS NULL", Is("2")),
            ("SELECT n FROM t WHERE a IS NULL AND b = 1 ORDER BY n", Is("[[11],[12]]")),
            ("SELECT n FROM t WHERE a = 'ax' AND b IS NULL", Is("[[3]]")),
            ("SELECT n FROM t WHERE (a, b) = ('ax', 1)", Is("[[4]]")),
            ("SELECT n FROM t WHERE (a, b) = ('bx', 1)", Is("[]")),
            ("UPDATE t SET n = 0 WHERE a IS NULL RETURNING n", Refused("primary key")),
            ("UPDATE t SET n = 5 WHERE a = 'ax' AND b = 1 RETURNING n", Is("[[5]]")),
            ("UPDATE t SET b = 1 WHERE b IS NULL", Fails("UNIQUE")),
            ("DELETE FROM t WHERE a IS NULL AND n = 11", Is("1")),
            ("SELECT count(*) FROM t", Is("[[3]]")),
            ("DELETE FROM t", Is("3")),
        ],
    );
    check(
        "CREATE TABLE t (org TEXT, id INTEGER, n INTEGER, PRIMARY KEY (org, id)) WITHOUT ROWID;
         CREATE INDEX t_n ON t (n);",
        "INSERT INTO t VALUES ('{t}', 1, 1), ('{t}', 2, 2), ('{t}', 3, 3);",
        OTHERS,
        &[
            ("SELECT id FROM t WHERE id > 1 ORDER BY id DESC", Is("[[3],[2]]")),
            ("UPDATE t SET id = id + 10 WHERE n >= 2", Is("2")),
            ("SELECT id FROM t ORDER BY n", Is("[[1],[12],[13]]")),
            ("UPDATE t SET id = 1 WHERE id = 12", Fails("UNIQUE")),
            ("INSERT INTO t (id, n) VALUES (1, 9)", Refused("UNIQUE")),
            ("INSERT INTO t (id, n) VALUES (100, 9)", Confined("1")),
            ("DELETE FROM t WHERE n = 1 RETURNING id", Is("[[1]]")),
        ],
    );
    check(
        "CREATE TABLE t (name TEXT COLLATE NOCASE, id INTEGER, org TEXT, n INTEGER, PRIMARY KEY (name, id DESC)) WITHOUT ROWID;",
        "INSERT INTO t VALUES ('Tea', {n} + 1, '{t}', 1), ('tea', {n} + 2, '{t}', 2), ('GIN', {n} + 1, '{t}', 3);",
        OTHERS,
        &[
            ("SELECT id FROM t WHERE name = 'TEA' ORDER BY id DESC", Is("[[2],[1]]")),
            ("UPDATE t SET n = n + 10 WHERE name = 'tEa'", Is("2")),
            ("SELECT name FROM t WHERE name > 'h' COLLATE BINARY ORDER BY n", Is(r#"[["tea"]]"#)),
            ("DELETE FROM t WHERE name = 'gin'", Is("1")),
        ],
    );
}

#[test]
fn keys_may_have_no_type() {
    for rowid in ["", " WITHOUT ROWID"] {
        check(
            &format!("CREATE TABLE t (k PRIMARY KEY, org TEXT, n INTEGER){rowid};"),
            "INSERT INTO t VALUES ({n} + 1, '{t}', 1), ('{n}', '{t}', 2), ({n} + 1.5, '{t}', 3), (CAST('{n}' AS BLOB), '{t}', 4), \
             ('x' || char(0) || '{t}', '{t}', 5), (9007199254740993 + {n}, '{t}', 6), ('e{t}', '{t}', 7), (CAST('{t}' AS BLOB), '{t}', 8);",
            OTHERS,
            &[
                ("UPDATE t SET n = n + 10", Is("8")),
                ("SELECT n FROM t WHERE k = 1", Is("[[11]]")),
                ("SELECT n FROM t WHERE k = '0'", Is("[[12]]")),
                ("SELECT n FROM t WHERE k = 1.5", Is("[[13]]")),
                ("SELECT n FROM t WHERE k = x'30'", Is("[[14]]")),
                ("SELECT n FROM t WHERE k = 9007199254740993", Is("[[16]]")),
                ("SELECT n FROM t WHERE k = 9007199254740992.0", Is("[]")),
                ("SELECT count(*) FROM t WHERE k > 0", Is("[[8]]")),
                ("UPDATE t SET k = k || 'y' WHERE k = 'x' || char(0) || 'a'", Is("1")),
                ("SELECT hex(k) FROM t WHERE n = 15", Is(r#"[["78006179"]]"#)),
                ("DELETE FROM t WHERE k IN (1, '0', x'30')", Is("3")),
                ("SELECT n FROM t ORDER BY n", Is("[[13],[15],[16],[17],[18]]")),
                ("UPDATE t SET n = 0 WHERE k = 1.5 RETURNING n", Is("[[0]]")),
            ],
        );
    }
}
