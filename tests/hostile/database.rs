//! What is the engine's and the app's alone: the engine's tables, the schema, pragmas, files and
//! transactions.

use super::case::{AUTHORIZER, Case, execute, query};

pub(super) fn cases() -> Vec<Case> {
    vec![
        query(
            "the engine's jobs",
            AUTHORIZER,
            "SELECT * FROM verger_jobs",
            "denied",
            "belongs to the engine",
        ),
        execute(
            "a job for another worker",
            AUTHORIZER,
            "INSERT INTO verger_jobs (worker) VALUES ('x')",
            "denied",
            "belongs to the engine",
        ),
        execute(
            "the audit log",
            AUTHORIZER,
            "DELETE FROM verger_audit",
            "denied",
            "belongs to the engine",
        ),
        query(
            "sqlite_schema",
            AUTHORIZER,
            "SELECT sql FROM sqlite_schema",
            "denied",
            "belongs to the engine",
        ),
        query(
            "sqlite_master of temp",
            AUTHORIZER,
            "SELECT * FROM temp.sqlite_master",
            "denied",
            "belongs to the engine",
        ),
        execute(
            "writes sqlite_schema",
            AUTHORIZER,
            "UPDATE sqlite_schema SET sql = ''",
            "sql",
            "may not be modified",
        ),
        execute(
            "writable_schema",
            AUTHORIZER,
            "PRAGMA writable_schema = ON",
            "denied",
            "PRAGMA writable_schema",
        ),
        execute(
            "turns the journal off",
            AUTHORIZER,
            "PRAGMA journal_mode = OFF",
            "denied",
            "PRAGMA journal_mode",
        ),
        query(
            "a PRAGMA as a table",
            AUTHORIZER,
            "SELECT * FROM pragma_table_info('secrets')",
            "denied",
            "pragma_table_info",
        ),
        query("dbstat", AUTHORIZER, "SELECT * FROM dbstat", "denied", "dbstat"),
        execute("ATTACH", AUTHORIZER, "ATTACH 'x.db' AS x", "denied", "ATTACH"),
        execute("VACUUM INTO", "transaction", "VACUUM INTO 'copy.db'", "sql", "VACUUM"),
        execute("CREATE TABLE", AUTHORIZER, "CREATE TABLE mine (x)", "denied", "CREATE"),
        execute("CREATE TEMP TABLE", AUTHORIZER, "CREATE TEMP TABLE mine (x)", "denied", "CREATE"),
        execute(
            "CREATE TEMP VIEW",
            AUTHORIZER,
            "CREATE TEMP VIEW mine AS SELECT * FROM secrets",
            "denied",
            "CREATE",
        ),
        execute(
            "CREATE TRIGGER",
            AUTHORIZER,
            "CREATE TRIGGER t AFTER INSERT ON things BEGIN DELETE FROM secrets; END",
            "denied",
            "CreateTrigger",
        ),
        execute(
            "CREATE VIRTUAL TABLE",
            AUTHORIZER,
            "CREATE VIRTUAL TABLE mine USING fts5(x)",
            "denied",
            "denied",
        ),
        execute("DROP TABLE", AUTHORIZER, "DROP TABLE things", "denied", "DROP"),
        execute("ALTER TABLE", AUTHORIZER, "ALTER TABLE things ADD COLUMN x", "denied", "ALTER"),
        execute("ANALYZE", AUTHORIZER, "ANALYZE", "denied", "denied"),
        execute("REINDEX", AUTHORIZER, "REINDEX things", "denied", "denied"),
        execute("COMMIT", AUTHORIZER, "COMMIT", "denied", "checkpoint"),
        execute("BEGIN", AUTHORIZER, "BEGIN EXCLUSIVE", "denied", "checkpoint"),
        execute("SAVEPOINT", AUTHORIZER, "SAVEPOINT x", "denied", "begin-savepoint"),
        query("EXPLAIN", AUTHORIZER, "EXPLAIN SELECT * FROM things", "denied", "EXPLAIN"),
    ]
}
