//! `verger demo --store postgres`: the same rows and the same audit trail as in a file.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use postgres::{Client, NoTls, SimpleQueryMessage};
use serde_json::Value as Json;
use verger::rusqlite::Connection;
use verger::rusqlite::types::Value;

use super::harness::command;

/// What both stores hold of the same days: what the app and its workers wrote, the audit trail, the
/// ledger and the jobs. Left out are the ids of events that a worker appends, which are made by
/// chance, and which audit row and which job a store gave which number.
const QUERIES: [&str; 8] = [
    "SELECT * FROM organizations ORDER BY id",
    "SELECT * FROM organization_invitations ORDER BY id",
    "SELECT * FROM memberships ORDER BY id",
    "SELECT * FROM deliveries ORDER BY id",
    "SELECT CASE type WHEN 'reconciled' THEN '' ELSE id END AS its, organization_id, delivery_id, type, provider, payload, metadata, \
     needs_reconciliation, idempotency_key, status, occurred_at, inserted_at FROM webhook_events ORDER BY its, idempotency_key",
    "SELECT occurred_at, action, outcome, organization_id, actor_id, worker, worker_version, attempt, subject_type, subject_id, before, \
     after, metadata FROM verger_audit ORDER BY occurred_at, worker, organization_id, subject_id, metadata",
    "SELECT schedule, slot, fired_at, outcome, reason, missed FROM verger_fires ORDER BY schedule, slot",
    "SELECT worker, queue, priority, state, args, due_at, attempt, max_attempts, created_at, result, schedule, slot FROM verger_jobs \
     ORDER BY worker, due_at",
];

#[test]
fn it_leaves_the_same_rows_and_audit_trail_as_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    // As root, the server runs as another user.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let small = ["--scale", "100", "--json", "--days"];
    let (there, here) = (folder.path().join("server"), folder.path().join("demo.db"));
    let there_words = ["--store", "postgres", "--db", there.to_str().unwrap()];

    let output = demo(&there_words, &[&small[..], &["1"]].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    if told.contains("there is no PostgreSQL here") {
        assert_ne!(std::env::var("VERGER_POSTGRES").as_deref(), Ok("require"), "{told}");
        println!("skipped: there is no PostgreSQL here");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{told}");
    let mut said_there = summary(&output);
    let mut said_here =
        summary(&demo(&["--db", here.to_str().unwrap()], &[&small[..], &["1"]].concat()));
    for said in [&mut said_there, &mut said_here] {
        said["db"] = Json::Null;
        for worker in said["workers"].as_array_mut().unwrap() {
            assert_ne!(worker["runs"], 0, "{worker}");
            (worker["median_ms"], worker["p99_ms"]) = (Json::Null, Json::Null);
        }
    }
    assert_eq!(said_there, said_here);

    // As it says itself, its server can be started again.
    let said = String::from_utf8(demo(&there_words, &["--days", "1"]).stdout).unwrap();
    assert!(said.contains("has lived through its 1 days already"), "{said}");
    let start = said.lines().skip_while(|line| !line.ends_with("To start it again:")).nth(1);
    let start = start.unwrap().trim();
    let _stopped = Stopped(start.strip_suffix("start").unwrap().to_string() + "-m fast -w stop");
    shell(start);
    let url = format!("host={} user=postgres dbname=postgres", there.display());
    let mut client = Client::connect(&url, NoTls).unwrap();
    let file = Connection::open(&here).unwrap();
    for sql in QUERIES {
        let (there, here) = (rows_there(&mut client, sql), rows_here(&file, sql));
        assert!(here.len() > 1, "{sql}: {here:?}");
        for (there, here) in there.iter().zip(&here) {
            assert_eq!(there, here, "{sql}");
        }
        assert_eq!(there.len(), here.len(), "{sql}");
    }
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("letter.txt"), "dear Ann").unwrap();
    let output = demo(&["--store", "postgres", "--db", folder.path().to_str().unwrap()], &[]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("is no folder of a PostgreSQL server"), "{told}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_address_that_nobody_answers_at_is_told_without_its_password() {
    let output = demo(&["--db", "postgres://ann:hunter2@127.0.0.1:1/app"], &[]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("cannot open the database of --db"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

/// Stops the server that the test started, by this command.
struct Stopped(String);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Command::new("sh").args(["-c", &self.0]).output();
    }
}

fn demo(place: &[&str], more: &[&str]) -> Output {
    command(&[&["demo"], place, more].concat()).output().unwrap()
}

fn summary(output: &Output) -> Json {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The command that starts a server says so on a file, because the server keeps what it was given.
fn shell(line: &str) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let words = format!("{line} > {} 2>&1", Path::display(log.path()));
    let status = Command::new("sh").args(["-c", &words]).status().unwrap();
    assert!(status.success(), "{line}: {}", std::fs::read_to_string(log.path()).unwrap());
}

fn rows_there(client: &mut Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(&sql.replace(" verger_", " verger.")).unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or("-").to_string() + "|").collect())
        }
        _ => None,
    });
    rows.collect()
}

fn rows_here(file: &Connection, sql: &str) -> Vec<String> {
    let mut statement = file.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let text = |at| {
            Ok(match row.get::<_, Value>(at)? {
                Value::Null => "-|".to_string(),
                Value::Integer(number) => format!("{number}|"),
                Value::Text(text) => text + "|",
                other => panic!("{other:?}"),
            })
        };
        (0..columns).map(text).collect()
    });
    rows.unwrap().map(Result::unwrap).collect()
}
