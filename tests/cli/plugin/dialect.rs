//! `verger plugin check --dialect postgres`: which statements PostgreSQL does not take.

use serde_json::{Value as Json, json};

use super::{findings, has};
use crate::cluster::{database, programs};
use crate::harness::{Folder, object, prebuilt, puppet, repository, said};
use crate::puppet::puppet_as;

const TABLES: &str = "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL, n INTEGER, seen BOOLEAN, UNIQUE (name, n)); \
     CREATE UNIQUE INDEX by_n ON things (n) WHERE n > 0; CREATE TABLE other (id INTEGER PRIMARY KEY); CREATE TABLE withheld (id TEXT)";

fn steps(statements: &[&str]) -> String {
    let steps = statements.iter().map(|sql| match sql.starts_with("SELECT") {
        true => json!(["query", sql, []]),
        false => json!(["execute", sql, []]),
    });
    json!({"do": steps.collect::<Vec<Json>>()}).to_string()
}

/// The SQL of the tables, in a file.
fn tables(folder: &Folder) -> String {
    let file = folder.path("tables.sql");
    std::fs::write(&file, TABLES).unwrap();
    file.to_str().unwrap().to_string()
}

#[test]
fn each_statement_that_postgres_refuses_is_named_with_its_reason() {
    if programs().is_none() {
        return;
    }
    let folder = Folder::new();
    let refused = [
        (
            "INSERT OR IGNORE INTO things (id, name) VALUES (1, 'a')",
            "syntax error at or near \"OR\"",
        ),
        ("SELECT id FROM things WHERE name GLOB 'a*'", "syntax error at or near \"GLOB\""),
        ("SELECT rowid FROM things", "column \"rowid\" does not exist"),
        ("SELECT id FROM things WHERE name = \"a\"", "column \"a\" does not exist"),
        ("SELECT name, count(*) FROM things GROUP BY n", "must appear in the GROUP BY clause"),
        ("UPDATE things SET name = datetime('now')", "function datetime(unknown) does not exist"),
        ("UPDATE things SET name = CURRENT_TIMESTAMP", "bind the time of the clock interface"),
        ("SELECT id FROM things WHERE n", "argument of WHERE must be type boolean"),
        ("SELECT id FROM things WHERE name LIKE 'a%'", "LIKE ignores case on SQLite"),
        ("SELECT name || n, printf('%d', n) FROM things", "function printf"),
    ];
    let taken = [
        "SELECT id, ifnull(name, '-') FROM things WHERE id IS ?1 ORDER BY id LIMIT 5",
        "INSERT INTO things (id, name, n) VALUES (2, 'b', 3) ON CONFLICT (name, n) DO UPDATE SET n = things.n + 1",
        "INSERT INTO things (id, name, n) VALUES (3, 'b', 4) ON CONFLICT (n) WHERE n > 0 DO NOTHING",
        "UPDATE things SET n = n + 1 WHERE id = 2 RETURNING id",
        "SELECT name, count(*) FROM things GROUP BY id",
    ];
    let all: Vec<&str> = refused.iter().map(|(sql, _)| *sql).chain(taken).collect();
    let (args, tables) = (steps(&all), tables(&folder));
    let puppet = puppet();
    let check =
        ["plugin", "check", &puppet, "--args", &args, "--sql", &tables, "--dialect", "postgres"];
    let checked = object(1, &check);
    for (sql, why) in refused {
        let found = findings(&checked).into_iter().any(|(level, what, says)| {
            (level, what) == ("must-fix", "postgres") && says.contains(sql) && says.contains(why)
        });
        assert!(found, "{sql}: {:#?}", findings(&checked));
    }
    let postgres = findings(&checked).into_iter().filter(|found| found.1 == "postgres");
    assert_eq!(postgres.count(), refused.len(), "{:#?}", findings(&checked));
    // Without the option, nothing of this is said.
    assert!(!said(0, &check[..7]).0.contains("PostgreSQL"));
}

#[test]
fn a_worker_whose_statements_are_taken_is_told_what_it_may_declare() {
    if programs().is_none() {
        return;
    }
    let folder = Folder::new();
    let (args, tables) = (steps(&["SELECT id FROM things WHERE name = 'a'"]), tables(&folder));
    let checked = |file: &str, status, args: &str| {
        let words = ["plugin", "check", file, "--args", args, "--sql", &tables];
        object(status, &[&words[..], &["--dialect", "postgres"]].concat())
    };
    let fine = checked(&puppet(), 0, &args);
    assert!(has(&fine, "advice", "postgres", "takes all it sent, 1 statement"), "{fine:#}");
    let asks = json!([{"table": "things", "verbs": ["read"]}]);
    let manifest = json!({"name": "puppet", "version": "1", "sql": ["common"], "args": {"do": {"default": []}}, "tables": asks});
    let file = folder.path("common.wasm");
    std::fs::write(&file, puppet_as(&manifest)).unwrap();
    let file = file.to_str().unwrap();
    // One that says so may use LIKE.
    let args = steps(&["SELECT id FROM things WHERE name LIKE 'a%'"]);
    assert!(findings(&checked(file, 0, &args)).iter().all(|found| found.1 != "postgres"));
    let none = checked(file, 0, "{}");
    assert!(has(&none, "advice", "postgres", "it sent no statement here"), "{none:#}");
}

#[test]
fn one_that_says_its_sql_is_for_both_has_to_fix_what_is_refused() {
    if programs().is_none() {
        return;
    }
    let folder = Folder::new();
    let (args, tables) = (steps(&["SELECT rowid FROM things"]), tables(&folder));
    let asks = json!([{"table": "things", "verbs": ["read"]}]);
    let manifest = json!({"name": "puppet", "version": "1", "sql": ["common"], "args": {"do": {"default": []}}, "tables": asks});
    let file = folder.file("common.wasm", puppet_as(&manifest));
    let words = ["plugin", "check", &file, "--args", &args, "--sql", &tables];
    let checked = object(1, &[&words[..], &["--dialect", "postgres"]].concat());
    let why = "though its manifest says \"sql\": [\"common\"]: column \"rowid\" does not exist";
    assert!(has(&checked, "must-fix", "postgres", why), "{checked:#}");
}

#[test]
fn an_order_that_puts_nulls_elsewhere_is_named_where_it_is_sure() {
    if programs().is_none() {
        return;
    }
    let folder = Folder::new();
    // The column whose NULLs come elsewhere, if there is one.
    let cases = [
        ("SELECT id FROM things ORDER BY n", Some("things.n")),
        ("SELECT id FROM things ORDER BY n DESC, id", Some("things.n")),
        ("SELECT n AS it FROM things ORDER BY it", Some("things.n")),
        ("SELECT id FROM things ORDER BY seen NULLS FIRST, n", Some("things.n")),
        ("SELECT a FROM (SELECT n AS a FROM things) AS x ORDER BY a", Some("things.n")),
        (
            "SELECT id FROM other WHERE id IN (SELECT id FROM things ORDER BY n LIMIT 1)",
            Some("things.n"),
        ),
        ("SELECT group_concat(name) OVER (ORDER BY n) FROM things", Some("things.n")),
        (
            "SELECT t.id FROM other AS o LEFT JOIN things AS t ON t.id = o.id ORDER BY t.name",
            Some("things.name"),
        ),
        ("SELECT id FROM things WHERE n > 1 OR id = 2 ORDER BY n", Some("things.n")),
        // It says so, or there are no NULLs.
        ("SELECT id FROM things ORDER BY n NULLS FIRST", None),
        ("SELECT id FROM things ORDER BY n NULLS LAST, id", None),
        ("SELECT id FROM things ORDER BY n DESC NULLS LAST", None),
        ("SELECT id FROM things ORDER BY name, id DESC", None),
        ("SELECT id FROM things WHERE n > 1 AND seen IS NOT NULL ORDER BY n, seen", None),
        ("SELECT id FROM things WHERE n IN (1, 2) ORDER BY n", None),
        ("SELECT o.id FROM other AS o LEFT JOIN things AS t ON t.id = o.id ORDER BY o.id", None),
        (
            "SELECT t.id FROM other AS o LEFT JOIN things AS t ON t.id = o.id WHERE t.n = 2 ORDER BY t.n",
            None,
        ),
        // Nobody knows.
        ("SELECT id FROM things ORDER BY n + 1", None),
        ("SELECT id FROM things ORDER BY seen NULLS LAST, n", None),
        ("SELECT name FROM things UNION SELECT id || '' FROM other ORDER BY 1", None),
    ];
    let all: Vec<&str> = cases.iter().map(|(sql, _)| *sql).collect();
    let (args, tables) = (steps(&all), tables(&folder));
    let puppet = puppet();
    let words = ["plugin", "check", &puppet, "--args", &args, "--sql", &tables];
    let checked = object(0, &[&words[..], &["--dialect", "postgres"]].concat());
    for (sql, column) in cases {
        let of_it: Vec<_> = findings(&checked)
            .into_iter()
            .filter(|(_, what, says)| *what == "postgres" && says.contains(&format!("({sql})")))
            .collect();
        let expected = column.map(|column| format!("`{column}` may be NULL"));
        assert!(
            of_it.len() == usize::from(column.is_some())
                && of_it.iter().all(|(level, _, says)| *level == "advice"
                    && expected.as_ref().is_some_and(|begins| says.starts_with(begins))),
            "{sql}: {of_it:#?}"
        );
    }
}

#[test]
fn an_index_that_postgres_does_not_make_is_named() {
    if programs().is_none() {
        return;
    }
    let folder = Folder::new();
    let sql = "CREATE UNIQUE INDEX by_name ON things (name COLLATE NOCASE); CREATE VIEW named AS SELECT name FROM things";
    let tables = folder.file("tables.sql", format!("{TABLES}; {sql}"));
    let args = steps(&["SELECT name FROM things"]);
    let puppet = puppet();
    let words = ["plugin", "check", &puppet, "--args", &args, "--sql", &tables];
    let checked = object(0, &[&words[..], &["--dialect", "postgres"]].concat());
    let why = "PostgreSQL does not make this of the tables' SQL: collation \"nocase\"";
    assert!(has(&checked, "advice", "postgres", why), "{checked:#}");
}

#[test]
fn a_statement_on_tables_nobody_said_is_no_fault() {
    if programs().is_none() {
        return;
    }
    let args = steps(&[
        "SELECT id FROM things WHERE n + 1 > 7",
        "SELECT id FROM things WHERE id GLOB 'a'",
        "SELECT id FROM things ORDER BY n",
    ]);
    let checked =
        object(1, &["plugin", "check", &puppet(), "--args", &args, "--dialect", "postgres"]);
    assert!(has(&checked, "advice", "postgres", "for want of the real tables"), "{checked:#}");
    assert!(has(&checked, "must-fix", "postgres", "near \"GLOB\""), "{checked:#}");
    // Whether a column may be NULL is not known either.
    assert!(!has(&checked, "advice", "postgres", "may be NULL"), "{checked:#}");
}

#[test]
fn the_tables_of_an_app_are_looked_at_and_not_touched() {
    let Some(database) = database() else { return };
    let address = database.address();
    let args = steps(&[
        "SELECT id FROM things WHERE seen",
        "INSERT INTO things (id, name) VALUES (1, 'a')",
    ]);
    let (puppet, folder) = (puppet(), Folder::new());
    let tables = tables(&folder);
    let words = ["plugin", "check", &puppet, "--args", &args, "--sql", &tables];
    let check = [&words[..], &["--dialect", "postgres", "--db", &address]].concat();
    let (_, err) = said(2, &check);
    assert!(err.contains("the engine tables are at version 0"), "{err}");

    let sql = "CREATE TABLE things (id bigint PRIMARY KEY, name text COLLATE \"und-x-icu\", seen boolean)";
    database.client().batch_execute(sql).unwrap();
    said(0, &["migrate", "--db", &address]);
    let before: i64 = database.one("SELECT count(*) FROM pg_class");
    let checked = object(0, &check);
    assert!(has(&checked, "advice", "postgres", "takes all it sent, 2 statements"), "{checked:#}");
    assert_eq!(database.one::<i64>("SELECT count(*) FROM pg_class"), before);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM things"), 0);

    // Its columns, as they are there.
    let orders = ["SELECT id FROM things ORDER BY name", "SELECT id FROM things ORDER BY seen"];
    let args = steps(&orders);
    let words = ["plugin", "check", &puppet, "--args", &args, "--sql", &tables];
    let checked = object(0, &[&words[..], &["--dialect", "postgres", "--db", &address]].concat());
    for says in [
        "`things.name` is sorted by the collation \"und-x-icu\"",
        "`things.name` may be NULL",
        "`things.seen` may be NULL",
    ] {
        assert!(has(&checked, "advice", "postgres", says), "{checked:#}");
    }
}

/// A row for each sweep, so that it sends all its statements.
const ROWS: &str = r#"
    INSERT INTO organization_invitations (id, organization_id, email, created_at, expires_at) VALUES ('i', 'o', 'a@b', 1, 2);
    INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at)
        VALUES ('m', 'o', 'u', 'active', 2, 1, 1);
    INSERT INTO tokens (id, user_id, context, token_hash, inserted_at) VALUES ('t', 'u', 'session', x'01', 1);
    INSERT INTO deliveries (id, organization_id, provider, provider_message_id, created_at, updated_at)
        VALUES ('d', 'o', 'mail', 'x', 1, 1);
    INSERT INTO webhook_events (id, organization_id, type, provider, occurred_at, inserted_at)
        VALUES ('old', 'o', 'sent', 'mail', 1, 1);
    INSERT INTO webhook_events (id, organization_id, type, provider, payload, needs_reconciliation, occurred_at, inserted_at)
        VALUES ('e', 'o', 'delivered', 'mail', '{"provider": "mail", "provider_message_id": "x"}', 1, 1767225000000, 1767225000000);
    INSERT INTO email_outbox (id, organization_id, recipient, subject, body, next_attempt_at, created_at, updated_at)
        VALUES ('n', 'o', 'a@b', 's', 'b', 1, 1, 1);
    INSERT INTO cache_entries (id, bytes, created_at, used_at) VALUES ('c', 100, 1, 1);
"#;

#[test]
fn the_built_in_sweeps_are_for_both_stores() {
    if programs().is_none() {
        return;
    }
    let folder = Folder::new();
    let sql = std::fs::read_to_string(repository("migrations/reference/0001_init.sql")).unwrap();
    let world = folder.file("world.sql", sql + ROWS);
    for (worker, args, statements) in [
        ("cleanup-expired-invitations", "{}", 3),
        ("cleanup-tokens", "{}", 7),
        ("deliver-email", "{}", 4),
        ("evict-cache", r#"{"max_bytes": 1}"#, 3),
        ("prune-webhook-events", "{}", 7),
        ("reconcile-memberships", "{}", 5),
        ("reconcile-webhook-events", "{}", 4),
    ] {
        let component = prebuilt(worker);
        let words = ["plugin", "check", &component, "--args", args];
        let words = [&words[..], &["--dialect", "postgres", "--now", "2026-01-01"]].concat();
        // In the reference tables, and in those of SQLite with rows.
        for sql in [&[][..], &["--sql", &world]] {
            let checked = object(0, &[&words[..], sql].concat());
            let all = checked["findings"].as_array().unwrap().iter();
            let says: Vec<&str> = all
                .filter(|finding| finding["check"] == "postgres")
                .map(|finding| finding["says"].as_str().unwrap())
                .collect();
            let expected = match sql.is_empty() {
                true => "PostgreSQL takes all it sent: ".to_string(),
                false => format!("PostgreSQL takes all it sent: {statements} statements"),
            };
            assert!(says.len() == 1 && says[0].starts_with(&expected), "{worker}: {says:?}");
        }
    }
}
