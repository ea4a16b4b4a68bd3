//! What a worker is granted, and what it is denied.

use serde_json::json;
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;
use verger::{Grant, PerformError};

use super::{check, check_with};

#[test]
fn a_function_of_the_app_is_called_when_granted_and_its_faults_are_told() {
    check(
        json!([
            ["call", "echo", "{\"a\": [1]}"],
            ["call", "echo", "no json"],
            ["call", "broken", "{}"],
            ["call", "broken", "{\"how\": \"panics\"}"],
            ["call", "absent", "{}"],
            ["call", "other", "{}"],
        ]),
        json!([
            {"ok": "{\"job\":null,\"request\":{\"a\":[1]},\"worker\":\"puppet\"}"},
            {"err": "invalid", "message": "the request to capability `echo` is no JSON"},
            {"err": "capability", "message": "capability `broken` failed: no mail server"},
            {"err": "capability", "message": "capability `broken` panicked"},
            {"err": "capability", "message": "`absent` is granted but the app registered no function for it"},
            {"err": "denied", "message": "call denied: capability `other` (worker puppet is not granted it)"},
        ]),
    );
    check_with(
        &Grant::new(),
        json!([["call", "echo", "{}"]]),
        json!([{"err": "denied", "message": "capability `echo`"}]),
    );
}

#[test]
fn what_is_not_granted_is_denied_by_name() {
    let cases = [
        (
            "SELECT * FROM withheld",
            "read denied: table withheld (worker puppet is granted nothing on it; it asks for more than the app's grant gives)",
        ),
        ("SELECT count(*) FROM withheld", "read denied: table withheld"),
        (
            "SELECT secret FROM other",
            "read denied: column other.secret (worker puppet is granted read on its columns id)",
        ),
        ("DELETE FROM other", "delete denied: table other"),
        ("UPDATE other SET id = 2", "update denied: table other"),
        (
            "INSERT INTO other VALUES (2, 'x')",
            "insert denied: table other (worker puppet is granted read on it; its manifest does not ask for more)",
        ),
        ("INSERT INTO things (value) SELECT secret FROM other", "read denied: column other.secret"),
        ("SELECT * FROM verger_jobs", "read denied: verger_jobs belongs to the engine"),
        (
            "UPDATE verger_audit SET action = 'x'",
            "update denied: verger_audit belongs to the engine",
        ),
        ("SELECT * FROM sqlite_schema", "belongs to the engine"),
        ("CREATE TABLE mine (id)", "workers do not change the schema"),
        ("CREATE TEMP TABLE mine (id)", "denied"),
        ("CREATE TEMP VIEW things AS SELECT 1", "denied"),
        ("DROP TABLE things", "denied"),
        ("ALTER TABLE things ADD COLUMN x", "denied"),
        ("PRAGMA table_info(things)", "PRAGMA table_info denied"),
        ("SELECT * FROM pragma_table_info('things')", "denied"),
        ("ATTACH 'x.db' AS x", "ATTACH or VACUUM denied"),
        ("BEGIN", "denied"),
        ("COMMIT", "denied"),
        ("ROLLBACK", "denied"),
        ("SAVEPOINT mine", "SAVEPOINT denied"),
        (
            "SELECT load_extension('x')",
            "call denied: SQL function load_extension (worker puppet; it does more than compute)",
        ),
    ];
    for (sql, says) in cases {
        for step in ["execute", "query"] {
            check(json!([[step, sql, []]]), json!([{"err": "denied", "message": says}]));
        }
    }
    check(
        json!([
            ["execute", "DELETE FROM things; DELETE FROM things", []],
            ["execute", "", []],
            ["query", "SELEC 1", []]
        ]),
        json!([{"err": "sql", "message": "more than one statement"}, {"err": "sql", "message": "the statement is empty"}, {"err": "sql", "message": "syntax error"}]),
    );
}

#[test]
fn a_statement_that_was_refused_does_not_end_the_attempt() {
    check(
        json!([
            ["execute", "INSERT INTO things (id) VALUES (1)", []],
            ["execute", "DROP TABLE things", []],
            ["execute", "INSERT INTO things (id) VALUES (1)", []],
            ["query", "SELECT ?1 + ?2", [1]],
            ["execute", "INSERT INTO things (id) VALUES (2)", []],
            ["query", "SELECT id FROM things", []],
        ]),
        json!([{"ok": 1}, {"err": "denied"}, {"err": "constraint"}, {"err": "sql"}, {"ok": 1}, {"ok": [[1], [2]]}]),
    );
}

/// Asks for a table of Litestream's, and is granted it.
struct Meddler;

impl Worker for Meddler {
    fn manifest(&self) -> Manifest {
        Manifest::new("meddler", "1.0.0")
            .arg("sql", ArgSpec::required())
            .table(TableAsk::named("_litestream_seq").read().insert().update().delete())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        job.execute(&args.get::<String>("sql")?, params![])?;
        Ok(Outcome::Done)
    }
}

#[test]
fn the_tables_of_litestream_are_out_of_reach_even_when_granted() {
    let test = TestVerger::with(|builder| builder.without_built_ins().worker(Meddler));
    test.sql("CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)");
    for (sql, verb) in [
        ("INSERT INTO _litestream_seq VALUES (1, 7)", "insert"),
        ("UPDATE _Litestream_Seq SET seq = 7", "update"),
        ("DELETE FROM _litestream_seq", "delete"),
    ] {
        match test.perform_job("meddler", json!({ "sql": sql })) {
            Err(PerformError::Failed { source, .. }) => {
                assert_eq!(source.code, "denied");
                let says = format!("{verb} denied: _litestream_seq belongs to Litestream");
                assert!(source.message.contains(&says), "{}", source.message);
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
}
