//! A worker's statements: the same worker as on SQLite, with its words translated.

use std::sync::{Arc, Mutex};

use serde_json::json;
use verger::NewJob;
use verger::postgres::Verger;
use verger::verger_worker::prelude::*;
use verger::verger_worker::{HostError, code};

use crate::cluster::{Database, database};
use crate::scripted::worker;
use crate::{clock, start, until};

/// Performs one job that does this, and returns what it returned.
fn perform<T: Send + 'static>(
    database: &Database,
    work: impl Fn(&Context<'_>) -> Result<T, HostError> + Send + Sync + 'static,
) -> Result<T, HostError> {
    let answer = Arc::new(Mutex::new(None));
    let told = Arc::clone(&answer);
    let verger = Verger::builder(database.url())
        .worker(worker("once", move |job, _| {
            let done = work(job);
            *told.lock().unwrap() = Some(done);
            Ok(Outcome::Done)
        }))
        .clock(clock())
        .open()
        .unwrap();
    verger.enqueue(NewJob::new("once", json!({})).max_attempts(1)).unwrap();
    verger.tick(start()).unwrap();
    let answer = answer.lock().unwrap().take();
    answer.unwrap()
}

#[test]
fn values_go_to_the_server_and_back() {
    let Some(database) = database() else { return };
    database
        .client()
        .batch_execute(
            "CREATE TABLE all_types (i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision, t text, b bytea, y boolean, j json, jb jsonb, \
             u uuid, at timestamptz, n numeric)",
        )
        .unwrap();
    let row = perform(&database, |job| {
        job.execute(
            "INSERT INTO all_types VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            vec![
                Value::from(-3),
                Value::from(70_000),
                Value::from(i64::MAX),
                Value::from(1.5),
                Value::from(0.1),
                Value::from("é'\"\\?1"),
                Value::Blob(vec![0, 255]),
                Value::from(1),
                Value::from("{\"a\":1.10}"),
                Value::from("{\"a\": 1}"),
                Value::from("00112233-4455-6677-8899-aabbccddeeff"),
                Value::from(1_000_000),
                Value::from("12.50"),
            ],
        )?;
        let rows =
            job.query_all("SELECT *, (SELECT sum(i8) FROM all_types) FROM all_types", vec![])?;
        Ok(rows[0].values().to_vec())
    })
    .unwrap();
    assert_eq!(
        row,
        [
            Value::Integer(-3),
            Value::Integer(70_000),
            Value::Integer(i64::MAX),
            Value::Real(1.5),
            Value::Real(0.1),
            Value::from("é'\"\\?1"),
            Value::Blob(vec![0, 255]),
            Value::Integer(1),
            Value::from("{\"a\":1.10}"),
            Value::from("{\"a\": 1}"),
            Value::from("00112233-4455-6677-8899-aabbccddeeff"),
            Value::Integer(1_000_000),
            Value::Real(12.5),
            Value::Integer(i64::MAX),
        ]
    );
    let read = perform(&database, |job| {
        job.execute(
            "UPDATE all_types SET at = ?1, n = ?2, f4 = ?3",
            vec![Value::from("1970-01-01 00:16:40Z"), Value::from(7), Value::from(7)],
        )?;
        let rows = job.query_all("SELECT at, n, f4 FROM all_types", vec![])?;
        Ok(rows[0].values().to_vec())
    });
    let expected = [Value::Integer(1_000_000), Value::Integer(7), Value::Real(7.0)];
    assert_eq!(read.unwrap(), expected, "texts and integers are read by the server");
    let error = perform(&database, |job| {
        job.execute("INSERT INTO all_types (i2) VALUES (?1)", vec![Value::from(40_000)])
    })
    .unwrap_err();
    assert!(error.message.contains("smallint out of range"), "{error}");
}

#[test]
fn null_compares_as_on_sqlite_where_is_is_written() {
    let Some(database) = database() else { return };
    let found =
        perform(&database, |job| job.execute("INSERT INTO effects VALUES (?1)", vec![Value::Null]));
    assert_eq!(found.unwrap_err().code, code::SQL, "there is no such table");
    database.client().batch_execute("CREATE TABLE effects (n bigint)").unwrap();
    let count = |value: Value| {
        perform(&database, move |job| {
            job.execute("DELETE FROM effects", vec![])?;
            job.execute_many(
                "INSERT INTO effects VALUES (?1)",
                &[vec![Value::Null], vec![Value::from(1)]],
            )?;
            let found =
                job.query_all("SELECT count(*) FROM effects WHERE n IS ?1", vec![value.clone()])?;
            let other = job
                .query_all("SELECT count(*) FROM effects WHERE n IS NOT ?1", vec![value.clone()])?;
            Ok((found[0].values()[0].clone(), other[0].values()[0].clone()))
        })
    };
    assert_eq!(count(Value::Null).unwrap(), (Value::Integer(1), Value::Integer(1)));
    assert_eq!(count(Value::from(1)).unwrap(), (Value::Integer(1), Value::Integer(1)));
}

#[test]
fn a_failed_statement_undoes_itself_only() {
    let Some(database) = database() else { return };
    database
        .client()
        .batch_execute("CREATE TABLE rows (n bigint PRIMARY KEY CHECK (n < 10))")
        .unwrap();
    perform(&database, |job| {
        let insert = "INSERT INTO rows VALUES (?1)";
        job.execute(insert, vec![1.into()])?;
        let twice = job.execute(insert, vec![1.into()]).unwrap_err();
        assert_eq!(twice.code, code::CONSTRAINT);
        assert_eq!(job.execute("INSERT INTO rowz VALUES (1)", vec![]).unwrap_err().code, code::SQL);
        let wrong = job.query_all("SELECT 1 / (n - 1) FROM rows", vec![]).unwrap_err();
        assert_eq!(wrong.code, code::ROW);
        let results = job.execute_many(
            insert,
            &[vec![2.into()], vec![11.into()], vec![3.into()], vec![2.into()], vec![4.into()]],
        )?;
        let went: Vec<bool> = results.iter().map(Result::is_ok).collect();
        assert_eq!(went, [true, false, true, false, true]);
        // A savepoint of the worker's, with failures inside.
        let savepoint = job.savepoint()?;
        job.execute(insert, vec![5.into()])?;
        assert!(job.execute(insert, vec![12.into()]).is_err());
        savepoint.rollback()?;
        let savepoint = job.savepoint()?;
        job.execute(insert, vec![6.into()])?;
        savepoint.release()?;
        Ok(())
    })
    .unwrap();
    let rows = "SELECT string_agg(n::text, ',' ORDER BY n) FROM rows";
    assert_eq!(database.one::<String>(rows), "1,2,3,4,6");
}

#[test]
fn cursors_read_in_chunks_while_others_write() {
    let Some(database) = database() else { return };
    database
        .client()
        .batch_execute("CREATE TABLE many AS SELECT n FROM generate_series(1, 3000) AS n; ALTER TABLE many ADD seen bigint")
        .unwrap();
    let sum = perform(&database, |job| {
        let mut sum = 0;
        let mut rows = job.query("SELECT n FROM many ORDER BY n", vec![])?;
        let mut inner = job.query("SELECT count(*) FROM many WHERE n > ?1", vec![2_990.into()])?;
        loop {
            let chunk = rows.next_chunk(700)?;
            if chunk.is_empty() {
                break;
            }
            for row in &chunk {
                let Value::Integer(n) = row.values()[0] else { panic!() };
                sum += n;
            }
            job.execute("UPDATE many SET seen = 1 WHERE n = ?1", vec![sum.into()])?;
            // A failure closes nothing that is open.
            assert!(job.execute("UPDATE many SET seen = 1 / 0", vec![]).is_err());
        }
        assert_eq!(inner.next_chunk(10)?[0].values(), [Value::Integer(10)]);
        let written = job.query_all("INSERT INTO many VALUES (0), (-1) RETURNING n", vec![])?;
        assert_eq!(written.len(), 2);
        job.checkpoint()?;
        assert_eq!(rows.next_chunk(1).unwrap_err().code, code::CLOSED);
        Ok(sum)
    })
    .unwrap();
    assert_eq!(sum, 3000 * 3001 / 2);
}

#[test]
fn only_one_statement_on_rows_is_taken() {
    let Some(database) = database() else { return };
    database.client().batch_execute("CREATE TABLE rows (n bigint)").unwrap();
    for sql in [
        "COMMIT",
        "/* x */ ROLLBACK",
        "BEGIN",
        "SAVEPOINT x",
        "SET ROLE postgres",
        "RESET ROLE",
        "SET SESSION AUTHORIZATION DEFAULT",
        "SET statement_timeout = 0",
        "DO $$ BEGIN END $$",
        "CREATE TEMP TABLE x (n int)",
        "CREATE TABLE x AS SELECT 1",
        "COPY rows TO PROGRAM 'true'",
        "LISTEN x",
        "NOTIFY x",
        "LOCK rows",
        "DECLARE x CURSOR WITH HOLD FOR SELECT 1",
        "CALL x()",
        "EXPLAIN SELECT 1",
        "PREPARE x AS SELECT 1",
        "DISCARD ALL",
        "TRUNCATE rows",
        "ALTER ROLE CURRENT_USER PASSWORD 'x'",
        "SELECT 1; COMMIT",
        "DELETE FROM rows; DROP TABLE rows",
        "SELECT 1 INTO TEMP x",
        "SELECT 1 INTO x",
        "",
        " -- nothing",
        "\0",
    ] {
        let error = perform(&database, move |job| {
            job.execute("INSERT INTO rows VALUES (1)", vec![])?;
            let refused = job.execute(sql, vec![]).err().or_else(|| job.query(sql, vec![]).err());
            // The transaction is still open, and still one.
            job.execute("INSERT INTO rows VALUES (2)", vec![])?;
            Ok(refused)
        })
        .unwrap();
        let error = error.unwrap_or_else(|| panic!("{sql} was taken"));
        assert!(
            [code::SQL, code::DENIED, code::TYPE, code::ROW].contains(&error.code.as_str()),
            "{sql}: {error}"
        );
        assert_eq!(database.one::<i64>("SELECT count(*) FROM rows"), 2, "{sql}");
        database.client().batch_execute("TRUNCATE rows").unwrap();
    }
}

#[test]
fn a_read_modify_write_loses_no_update() {
    let Some(database) = database() else { return };
    database
        .client()
        .batch_execute("CREATE TABLE counter (n bigint); INSERT INTO counter VALUES (0)")
        .unwrap();
    let verger = Verger::builder(database.url())
        .worker(worker("adds", |job, _| {
            let rows = job.query_all("SELECT n FROM counter", vec![])?;
            let Value::Integer(n) = rows[0].values()[0] else { panic!() };
            std::thread::sleep(std::time::Duration::from_millis(2));
            job.execute("UPDATE counter SET n = ?1", vec![(n + 1).into()])?;
            Ok(Outcome::Done)
        }))
        .queue(verger::Queue::new("default").concurrency(4))
        .backoff(verger::Backoff {
            base: std::time::Duration::from_millis(20),
            max: std::time::Duration::from_millis(100),
        })
        .open()
        .unwrap();
    let jobs = (0..60).map(|_| NewJob::new("adds", json!({})));
    verger.enqueue_all(jobs).unwrap();
    let working = verger.start().unwrap();
    until("all are done", || {
        database.one::<i64>("SELECT count(*) FROM verger.jobs WHERE state <> 'completed'") == 0
    });
    working.stop(std::time::Duration::from_secs(5)).unwrap();
    assert_eq!(database.one::<i64>("SELECT n FROM counter"), 60);
}

#[test]
fn a_statement_that_takes_too_long_ends_with_the_time_granted() {
    let Some(database) = database() else { return };
    database.client().batch_execute("CREATE TABLE rows (n bigint)").unwrap();
    let verger = Verger::builder(database.url())
        .worker(worker("sleeps", |job, _| {
            job.execute("INSERT INTO rows VALUES (1)", vec![])?;
            job.query_all("SELECT count(*) FROM (SELECT pg_sleep(60)) AS x", vec![])?;
            Ok(Outcome::Done)
        }))
        .limits("sleeps", verger::Limits::new().time(std::time::Duration::from_millis(300)))
        .open()
        .unwrap();
    let id = verger.enqueue(NewJob::new("sleeps", json!({})).max_attempts(1)).unwrap().id;
    let begun = std::time::Instant::now();
    verger.tick(verger.now()).unwrap();
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    let job = verger.job(id).unwrap().unwrap();
    assert_eq!(job.errors[0].code, code::DEADLINE, "{:?}", job.errors);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM rows"), 0);
}

#[test]
fn savepoints_that_were_rolled_back_do_not_pile_up() {
    let Some(database) = database() else { return };
    database.client().batch_execute("CREATE TABLE rows (n bigint)").unwrap();
    let error = perform(&database, |job| {
        for _ in 0..200 {
            let savepoint = job.savepoint()?;
            job.execute("INSERT INTO rows VALUES (1)", vec![])?;
            savepoint.rollback()?;
        }
        job.execute("ROLLBACK TO SAVEPOINT verger_0", vec![])
    });
    assert_eq!(error.unwrap_err().code, code::SQL);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM rows"), 0);
}

#[test]
fn a_table_that_was_altered_is_read_anew() {
    let Some(database) = database() else { return };
    database
        .client()
        .batch_execute("CREATE TABLE rows (n bigint); INSERT INTO rows VALUES (1)")
        .unwrap();
    let verger = Verger::builder(database.url())
        .worker(worker("reads", |job, _| {
            let rows = job.query_all("SELECT * FROM rows", vec![])?;
            Ok(Outcome::DoneWith(json!(rows[0].values().len())))
        }))
        .clock(clock())
        .open()
        .unwrap();
    let mut columns = Vec::new();
    for _ in 0..2 {
        let id = verger.enqueue(NewJob::new("reads", json!({})).max_attempts(1)).unwrap().id;
        verger.tick(start()).unwrap();
        columns.push(verger.job(id).unwrap().unwrap().result);
        database.client().batch_execute("ALTER TABLE rows ADD x bigint").ok();
    }
    assert_eq!(columns, [Some(json!(1)), Some(json!(2))]);
}

/// What was audited before a savepoint is sealed, whatever becomes of that.
#[test]
fn an_audit_row_before_a_savepoint_that_is_rolled_back_is_a_part_of_the_chain() {
    let Some(database) = database() else { return };
    let audits = worker("audits", |job, _| {
        job.audit(AuditEvent::success("page.written"))?;
        let savepoint = job.savepoint()?;
        job.audit(AuditEvent::success("page.undone"))?;
        savepoint.rollback()?;
        Ok(Outcome::Done)
    });
    let verger = crate::effects(&database).worker(audits).open().unwrap();
    for rows in 1..3 {
        verger.enqueue(NewJob::new("audits", json!({}))).unwrap();
        verger.tick(verger.now()).unwrap();
        assert_eq!(verger.verify_audit().unwrap().rows, rows);
    }
}
