//! The app's own tables, moved exactly or not at all.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use verger::postgres::{Move, MoveError, Moved, Verger};
use verger::rusqlite::Connection;
use verger::rusqlite::types::Value;
use verger::{JobState, NewJob};

use crate::clock;
use crate::cluster::{Database, database};

/// A file that Verger was opened on, with these tables.
struct File(tempfile::TempDir);

impl File {
    fn with(sql: &str) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        drop(verger::Verger::builder(file.path()).without_built_ins().open().unwrap());
        file.connection().execute_batch(sql).unwrap();
        file
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("app.db")
    }

    fn connection(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn moved(&self, database: &Database) -> Result<Moved, MoveError> {
        Move::new(self.path(), database.address()).all_tables().run()
    }
}

/// How many tables the database has beside Verger's.
fn tables(database: &Database) -> i64 {
    database.one("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
}

#[test]
fn rows_keys_indexes_and_defaults_come_over() {
    let Some(database) = database() else { return };
    let file = File::with(
        "CREATE TABLE \"Order\" (id INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT NOT NULL DEFAULT 'it''s open', \
            Total REAL DEFAULT 1.5, n BIGINT DEFAULT -3, at DEFAULT CURRENT_TIMESTAMP, paid BOOLEAN DEFAULT NULL, picture BLOB, UNIQUE (state, n)); \
         CREATE INDEX by_total ON \"Order\" (total DESC, n); CREATE UNIQUE INDEX open_ones ON \"Order\" (n) WHERE state = 'open'; \
         CREATE INDEX shouted ON \"Order\" (upper(state)); \
         INSERT INTO \"Order\" VALUES (9007199254740993, 'a\tb\\n' || char(10, 13, 233), 0.1, -9223372036854775808, NULL, 1, x'00ff5c'); \
         INSERT INTO \"Order\" (id, state, total, n, picture) VALUES (-5, '\\N', 9e999, 9223372036854775807, x''); \
         INSERT INTO \"Order\" (id) VALUES (9007199254740999); DELETE FROM \"Order\" WHERE id = 9007199254740999; \
         CREATE TABLE pairs (a TEXT, b TEXT, PRIMARY KEY (b, a)) WITHOUT ROWID; INSERT INTO pairs VALUES ('', 'x'), ('y', ''); \
         CREATE TABLE lines (id INTEGER PRIMARY KEY, of INTEGER REFERENCES pairs (b), n INTEGER CHECK (n > 0) UNIQUE ON CONFLICT IGNORE); \
         CREATE TABLE bare (a, b BLOB); CREATE VIEW seen AS SELECT 1; CREATE VIRTUAL TABLE words USING fts5(text); \
         CREATE TRIGGER shout AFTER INSERT ON LINES BEGIN DELETE FROM pairs; END; \
         CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)",
    );
    let dry = Move::new(file.path(), database.url()).all_tables().dry_run().run().unwrap();
    assert_eq!(tables(&database), 0);
    let moved = file.moved(&database).unwrap();
    assert_eq!(dry, moved);
    let counts: Vec<(&str, u64)> =
        moved.tables.iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
    assert_eq!(counts, [("Order", 2), ("bare", 0), ("lines", 0), ("pairs", 2)]);
    let not_made = moved.not_made.join("; ");
    for named in [
        "the default of Order.at",
        "the unique index open_ones of Order",
        "the index shouted of Order",
        "the CHECKs of lines",
        "ON CONFLICT in lines",
        "the foreign key of lines to pairs",
        "the trigger shout of lines",
        "the type \"BOOLEAN\" of Order.paid, which is bigint there",
        "the type \"\" of Order.at, which is text",
        "the type \"\" of bare.a",
        "the view seen",
        "the virtual table words",
    ] {
        assert!(not_made.contains(named), "{named}: {not_made}");
    }
    assert_eq!(moved.not_made.len(), 12, "{not_made}");

    let mut client = database.client();
    let row = client.query_one("SELECT * FROM \"order\" WHERE id > 0", &[]).unwrap();
    assert_eq!(row.get::<_, &str>("state"), "a\tb\\n\n\ré");
    assert_eq!((row.get::<_, f64>("total"), row.get::<_, i64>("n")), (0.1, i64::MIN));
    assert_eq!(
        (row.get::<_, i64>("paid"), row.get::<_, &[u8]>("picture")),
        (1, &b"\x00\xff\\"[..])
    );
    let row = client.query_one("SELECT * FROM \"order\" WHERE id < 0", &[]).unwrap();
    assert_eq!((row.get::<_, &str>("state"), row.get::<_, f64>("total")), ("\\N", f64::INFINITY));
    assert_eq!(
        (row.get::<_, Option<i64>>("paid"), row.get::<_, &[u8]>("picture")),
        (None, &[][..])
    );
    // It goes on counting behind the last number that was ever given, with the same defaults.
    let sql = "INSERT INTO \"order\" DEFAULT VALUES RETURNING id, state, total, n";
    let row = client.query_one(sql, &[]).unwrap();
    assert_eq!(row.get::<_, i64>(0), 9_007_199_254_741_000);
    assert_eq!(row.get::<_, &str>(1), "it's open");
    assert_eq!((row.get::<_, f64>(2), row.get::<_, i64>(3)), (1.5, -3));
    for twice in [sql, "INSERT INTO pairs VALUES ('y', '')"] {
        assert!(client.execute(twice, &[]).unwrap_err().to_string().contains("db error"));
    }
    let index: String =
        database.one("SELECT indexdef FROM pg_indexes WHERE indexname = 'by_total'");
    assert!(index.ends_with("(total DESC NULLS LAST, n NULLS FIRST)"), "{index}");
}

#[test]
fn what_cannot_be_exact_is_named_and_nothing_is_written() {
    let Some(database) = database() else { return };
    let long = "x".repeat(64);
    for (sql, named) in [
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO t VALUES (7, 'seven')",
            "row 7 of t cannot be moved: its column n keeps INTEGER, and holds TEXT there",
        ),
        (
            "CREATE TABLE t (k TEXT, v TEXT); INSERT INTO t VALUES ('the key', 'a' || char(0))",
            "row the key of t cannot be moved: its column v has a character of the number 0",
        ),
        (
            "CREATE TABLE t (k TEXT, v TEXT); INSERT INTO t VALUES ('k', CAST(x'ff' AS TEXT))",
            "its column v is no UTF-8",
        ),
        (
            "CREATE TABLE t (v DECIMAL); INSERT INTO t VALUES (1), (1.5)",
            "its column v holds INTEGER and REAL",
        ),
        (
            "CREATE TABLE t (v REAL); INSERT INTO t VALUES (x'00')",
            "its column v keeps REAL, and holds BLOB there",
        ),
        ("CREATE TABLE t (v TEXT COLLATE NOCASE)", "it has a collation of its own"),
        (
            "CREATE TABLE t (v TEXT COLLATE/**/nocase, checksum TEXT COLLATE binary)",
            "it has a collation of its own",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY DESC, v TEXT); INSERT INTO t VALUES ('x', 'y')",
            "its column id keeps INTEGER, and holds TEXT there",
        ),
        ("CREATE TABLE t (a INTEGER, b INTEGER AS (a + 1))", "its column b is generated"),
        (&format!("CREATE TABLE {long} (a INTEGER)"), "has more than 63 bytes"),
        (
            "CREATE TABLE t (k TEXT PRIMARY KEY); INSERT INTO t VALUES (NULL)",
            "null value in column \"k\"",
        ),
    ] {
        let file =
            File::with(&format!("CREATE TABLE aa (id INTEGER); INSERT INTO aa VALUES (1); {sql}"));
        let error = file.moved(&database).unwrap_err();
        assert!(error.to_string().contains(named), "{sql}: {error}");
        assert_eq!(tables(&database), 0, "{sql}");
        assert_eq!(database.one::<i64>("SELECT count(*) FROM verger.moved"), 0);
        // The file is open to everybody as before.
        drop(verger::Verger::builder(file.path()).without_built_ins().open().unwrap());
    }
    let file = File::with("CREATE TABLE t (id INTEGER)");
    let named = Move::new(file.path(), database.url()).tables(["t", "u"]).run().unwrap_err();
    assert!(matches!(&named, MoveError::Table { table, .. } if table == "u"), "{named}");
    let ours = Move::new(file.path(), database.url()).tables(["verger_jobs"]).run().unwrap_err();
    assert!(matches!(ours, MoveError::Table { .. }), "{ours}");
    database.client().batch_execute("CREATE TABLE t ()").unwrap();
    let there = file.moved(&database).unwrap_err();
    assert!(there.to_string().contains("has a table of that name"), "{there}");
    database.client().batch_execute("DROP TABLE t").unwrap();
    let moved = Move::new(file.path(), database.url()).tables(["T", "t"]).run().unwrap();
    assert_eq!(moved.tables, [("t".to_string(), 0)]);
}

/// Killed before its commit, and refused when it is run again: nothing was moved, and the file opens.
#[test]
fn a_move_that_is_refused_after_a_kill_gives_the_file_back() {
    let Some(database) = database() else { return };
    let file = File::with("CREATE TABLE t (id INTEGER)");
    file.moved(&database).unwrap();
    database.client().batch_execute("DROP SCHEMA verger CASCADE; DROP TABLE t").unwrap();
    let as_killed = "UPDATE verger_moved SET is_done = 0; CREATE TABLE u (v TEXT COLLATE RTRIM)";
    file.connection().execute_batch(as_killed).unwrap();
    let open = || verger::Verger::builder(file.path()).without_built_ins().open();
    assert!(matches!(open(), Err(verger::OpenError::Moved { is_done: false, .. })));
    let refused = file.moved(&database).unwrap_err();
    assert!(matches!(&refused, MoveError::Table { table, .. } if table == "u"), "{refused}");
    drop(open().unwrap());
    let moved = Move::new(file.path(), database.url()).tables(["t"]).run().unwrap();
    assert!(!moved.was_there);
}

/// The tables of the built-in workers, with rows: a sweep goes on there.
#[test]
fn a_sweep_goes_on_with_the_tables_that_were_moved() {
    let Some(database) = database() else { return };
    let file = File::with("");
    let verger = verger::Verger::builder(file.path()).open().unwrap();
    verger.migrate_reference().unwrap();
    drop(verger);
    let sql = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000) \
        INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at) \
        SELECT printf('m%05d', n), 'o' || n % 7, 'u', 'active', CASE n % 2 WHEN 0 THEN 1 END, 1, 1 FROM n";
    file.connection().execute_batch(sql).unwrap();
    let moved = file.moved(&database).unwrap();
    assert!(moved.tables.contains(&("memberships".to_string(), 20_000)), "{:?}", moved.tables);
    let builder = Verger::builder(database.url()).built_in("reconcile-memberships").clock(clock());
    database.client().batch_execute(&builder.role_grants().unwrap()).unwrap();
    let verger = builder.open().unwrap();
    let args = json!({"organization_id": null, "actor_id": null});
    let id = verger.enqueue(NewJob::new("reconcile-memberships", args)).unwrap().id;
    verger.tick(verger.now()).unwrap();
    let job = verger.job(id).unwrap().unwrap();
    assert_eq!(job.state, JobState::Completed, "{:?}", job.errors);
    assert_eq!(job.result.unwrap()["updated"], 10_000);
}

/// Whatever a table holds, it arrives as it was, or nothing is written.
#[test]
fn any_values_arrive_equal_or_not_at_all() {
    let Some(database) = database() else { return };
    let value = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_filter("NaN is NULL", |number| !number.is_nan()).prop_map(Value::Real),
        any::<String>().prop_map(Value::Text),
        "[\\\\\t\r\nN.x]{0,4}".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..5).prop_map(Value::Blob),
    ];
    let declared = prop::sample::select(vec!["INTEGER", "REAL", "TEXT", "BLOB", "", "NUMERIC"]);
    let column = (declared, prop::collection::vec(value, 1..4));
    let mut runner =
        TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let (arrived, refused) = (Cell::new(0), Cell::new(0));
    runner
        .run(&prop::collection::vec(column, 1..3), |columns| {
            let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
            let parts = names.iter().zip(&columns);
            let parts: Vec<String> =
                parts.map(|(name, (declared, _))| format!("{name} {declared}")).collect();
            let file = File::with(&format!("CREATE TABLE t ({})", parts.join(", ")));
            let connection = file.connection();
            for place in 0..3 {
                let row = columns.iter().map(|(_, values)| values[place % values.len()].clone());
                let marks = vec!["?"; columns.len()].join(", ");
                let sql = format!("INSERT INTO t VALUES ({marks})");
                connection.execute(&sql, verger::rusqlite::params_from_iter(row)).unwrap();
            }
            let here = all(&connection, &names);
            drop(connection);
            let fresh = database.cluster.database("");
            match file.moved(&fresh) {
                Ok(_) => {
                    arrived.set(arrived.get() + 1);
                    prop_assert_eq!(there(&fresh, &names), here);
                }
                Err(MoveError::Row { .. } | MoveError::Table { .. }) => {
                    refused.set(refused.get() + 1);
                    prop_assert_eq!(tables(&fresh), 0);
                }
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
            Ok(())
        })
        .unwrap();
    let (arrived, refused) = (arrived.get(), refused.get());
    assert!(arrived > 2 && refused > 2, "{arrived} arrived, {refused} refused");
}

/// Every value as text, sorted: its kind and its exact digits.
fn all(connection: &Connection, names: &[String]) -> Vec<String> {
    let sql = format!("SELECT {} FROM t", names.join(", "));
    let mut statement = connection.prepare(&sql).unwrap();
    let rows = statement.query_map([], |row| {
        (0..names.len()).map(|place| Ok(format!("{:?}|", row.get::<_, Value>(place)?))).collect()
    });
    let mut rows: Vec<String> = rows.unwrap().map(Result::unwrap).collect();
    rows.sort();
    rows
}

fn there(database: &Database, names: &[String]) -> Vec<String> {
    use postgres::types::Type;
    let sql = format!("SELECT {} FROM t", names.join(", "));
    let rows = database.client().query(&sql, &[]).unwrap();
    let value = |row: &postgres::Row, place: usize| match *row.columns()[place].type_() {
        Type::INT8 => row.get::<_, Option<i64>>(place).map_or(Value::Null, Value::Integer),
        Type::FLOAT8 => row.get::<_, Option<f64>>(place).map_or(Value::Null, Value::Real),
        Type::TEXT => row.get::<_, Option<String>>(place).map_or(Value::Null, Value::Text),
        _ => row.get::<_, Option<Vec<u8>>>(place).map_or(Value::Null, Value::Blob),
    };
    let mut rows: Vec<String> = rows
        .iter()
        .map(|row| (0..names.len()).map(|place| format!("{:?}|", value(row, place))).collect())
        .collect();
    rows.sort();
    rows
}
